//! The node agent: runs what `pod-core` decides. Containers, images, volumes, logs, exec, node status.

pub mod cgroup;
pub mod images;
pub mod shim;
