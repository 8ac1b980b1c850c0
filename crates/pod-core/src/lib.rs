//! A pod's life on a node, as pure functions: (spec, observed state, now) to actions and status.
//!
//! - [`state`]: what is known of a pod and how events change it;
//! - [`plan::step`]: what to do now; [`probe`]: when probes are due and what they mean;
//! - [`status::status`]: what the API shows;
//! - [`env`], [`fields`], [`resources`]: what a container is made from;
//! - [`network`]: the contract with the pod network (values only).

pub mod env;
pub mod fields;
pub mod network;
pub mod plan;
pub mod probe;
pub mod resources;
pub mod state;
pub mod status;

pub use network::{Attachment, BoxFuture, DnsConfig, NetworkError, PodNetwork, PodRef};
