//! A pod's life on a node, as pure functions: (spec, observed state, now) to actions and status.
//!
//! - [`network`]: the contract with the pod network (values only).

pub mod network;

pub use network::{Attachment, BoxFuture, DnsConfig, NetworkError, PodNetwork, PodRef};
