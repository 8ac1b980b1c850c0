//! Controllers without hands: each looks at a snapshot of the cluster and says what to do, as values one can print.
//!
//! ```text
//!            snapshot (typed objects, now)                 Vec<Action>
//! caches ─────────────────────────────────▶ reconcile() ─────────────────▶ `control` carries them out
//!    ▲                                                                            │
//!    └───────────────────────── the API server ◀──────────────────────────────────┘
//! ```
//!
//! Nothing here reads a clock, remembers what it did, or talks to anyone. `now_ms` is milliseconds since 1970.

mod action;
pub mod deployment;
pub mod endpoints;
pub mod garbage;
pub mod meta;
pub mod namespace;
pub mod node_lifecycle;
pub mod per_namespace;
pub mod pod_garbage;
pub mod pods;
pub mod replica_set;
pub mod selector;

pub use action::{Action, EventType, Kind, Notice, Propagation, Target, describe};
