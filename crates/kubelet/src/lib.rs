//! The node agent: runs what `pod-core` decides. Containers, images, volumes, logs, exec, node status.
//!
//! ```text
//! informers.pods ─▶ dispatcher ─▶ worker (one per pod) ── step() ─▶ operations ─▶ runtime ─▶ shims ─▶ containers
//!                                    │                               volumes, network, probes
//!                                    └─▶ pods/status
//! node      registers the Node, renews its Lease
//! server    HTTPS :10250, logs and exec for the API server
//! ```
//!
//! An agent that stops leaves its containers running; the next one finds them by their directories (`adopt`).

mod adopt;
pub mod cgroup;
mod context;
mod down;
mod events;
pub mod images;
mod inotify;
mod logs;
mod node;
pub mod oci;
mod ops;
mod podfiles;
mod probes;
mod refresh;
mod rooted;
pub mod runtime;
mod server;
mod service;
pub mod shim;
pub mod volumes;
mod worker;

pub use down::down;
pub use service::{Error, Handle, Options, Service};
