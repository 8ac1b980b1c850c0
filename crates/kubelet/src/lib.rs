//! The node agent: runs what `pod-core` decides. Containers, images, volumes, logs, exec, node status.

pub mod cgroup;
mod down;
pub mod images;
pub mod oci;
mod rooted;
pub mod runtime;
pub mod shim;
pub use down::down;
