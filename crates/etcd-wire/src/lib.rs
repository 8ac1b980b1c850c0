//! etcd's v3 API as generated messages, clients and service traits; bytes in, structs out.
//!
//! Written by `cargo xtask codegen etcd` from the interface definitions of the pinned Go modules of etcd 3.6, without
//! their comments. `bytes` fields are [`bytes::Bytes`](prost::bytes::Bytes), so that a value is not copied on its way.

#![allow(missing_docs, reason = "the messages are etcd's; their documentation is etcd's API reference")]

/// Keys, values, events.
#[rustfmt::skip]
#[path = "generated/mvccpb.rs"]
#[allow(clippy::all)]
pub mod mvccpb;

/// Users, roles, permissions.
#[rustfmt::skip]
#[path = "generated/authpb.rs"]
#[allow(clippy::all)]
pub mod authpb;

/// The services KV, Watch, Lease, Cluster, Maintenance, Auth.
#[rustfmt::skip]
#[path = "generated/etcdserverpb.rs"]
#[allow(clippy::all)]
pub mod etcdserverpb;

/// The service Lock.
#[rustfmt::skip]
#[path = "generated/v3lockpb.rs"]
#[allow(clippy::all)]
pub mod v3lockpb;

/// The service Election.
#[rustfmt::skip]
#[path = "generated/v3electionpb.rs"]
#[allow(clippy::all)]
pub mod v3electionpb;

mod routes {
    include!("generated/routes.rs");
}

/// Paths of the JSON gateway and the methods behind them: (path, "package.Service", "Method").
pub use routes::ROUTES;

/// The descriptors of all of the above, an encoded `FileDescriptorSet`: for reflection and for JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
