//! The brain of the store: revisions, transactions, leases, watch matching and compaction, in etcd 3.6's terms.
//!
//! ```text
//!  Entry ──apply(&mut State, &[Entry])──▶ Applied { replies, events, leases }
//!                     │                              │
//!                     ▼                              ▼
//!        State: an ordered byte map          watch::Hub ──▶ watchers that are up to date
//!                     ▲                              ▲ attach
//!   read::{range, history, ...}(&Reader)  ──▶ watch::follow (one a watch: catches up from history)
//! ```
//! Everything durable is in the [`State`], see [`layout`]; nothing is held in memory per key. No clock is read here: a
//! lease's expiry is an [`Entry`] that the room proposes when [`Lessor`] says so.
//! `watch` uses channels, but spawns nothing and waits for nothing but them.

pub mod alarm;
mod apply;
mod arrange;
pub mod auth;
mod check;
mod codec;
mod compact;
pub mod dump;
mod entry;
pub mod hash;
pub mod layout;
mod lessor;
pub mod read;
mod state;
pub mod watch;

pub use apply::{Applied, EventBatch, LeaseChange, Reply, apply};
pub use check::{check_writes, is_read_only, validate};
pub use codec::CodecError;
pub use compact::{Swept, sweep, sweep_counted};
pub use entry::{Entry, MAX_TXN_DEPTH};
pub use lessor::{Lessor, MIN_LEASE_TTL_S};
pub use state::{MemState, Reader, State, StateError, Stored, Visit};

/// Why something did not happen: the request cannot be served, or the state cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// An answer to the caller; the state is as it was.
    Refused(store_api::Error),
    /// The state itself failed; the room must stop applying.
    State(StateError),
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<store_api::Error> for Failure {
    fn from(error: store_api::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StateError> for store_api::Error {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(text) => Self::Unavailable(text),
            StateError::Corrupt(text) => Self::Corrupt(text),
        }
    }
}

impl From<Failure> for store_api::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::State(error) => error.into(),
        }
    }
}
