//! The transaction coordinator's brain: transactional ids, their producers' epochs, and the ends of their transactions.
//!
//! ```text
//!            init_producer_id, add_partitions, end
//! request ----------------------------------------> Shard ----------------------------------> Effects
//!                                                     |   replies: (Token, Response), to be sent now
//!                                                     |   writes:  one record each, to be appended to __transaction_state
//!                                                     |   markers: to be written to the partitions of a transaction
//! append is durable (or failed)                       |
//!   complete(now, id, Ok | Err) ------------------->  |  the transition takes effect, or is taken back
//! all markers of a transaction are durable            |
//!   marked(now, Marked) --------------------------->  |  Prepare... becomes Complete...
//! time passes                                         |
//!   poll(now) at next_deadline() ------------------>  |  transactions that last too long, ids nobody uses
//! a partition is taken over                           |
//!   replay(key, value)..., loaded(now) ------------>  |  what was prepared is driven to its end
//! ```
//!
//! ```text
//! Empty ──▶ Ongoing ──▶ PrepareCommit ──▶ CompleteCommit ─┐   a transition is written, and then in force;
//!   ▲          └──────▶ PrepareAbort  ──▶ CompleteAbort  ─┤   meanwhile others get CONCURRENT_TRANSACTIONS
//!   └───────────────────── init_producer_id ──────────────┘
//! ```
//! Once a Prepare state is durable the transaction has ended that way: the client is answered, and markers follow until
//! they are everywhere, over crashes too.
//!
//! With transaction version 2 (KIP-890) the epoch rises with every end, markers carry the new one, and no late request of
//! an older transaction can do anything to a newer one. Version 0 is what older clients speak.
//!
//! Source of the behaviour: `TransactionCoordinator`, `TransactionStateManager`, `TransactionMetadata` of Apache Kafka 4.3;
//! KIP-98, KIP-360 (an epoch raised by its producer), KIP-588 (errors), KIP-664 (tools), KIP-890.

mod end;
mod log;
mod query;
mod shard;
mod state;
#[cfg(test)]
mod tests;

pub use query::{Filter, Listing};
pub use shard::{Marked, Options, Response, Shard};
pub use state::{Partitions, State};

/// The version of transactions that this coordinator has its own ends (timeouts, fences) follow: the epoch rises.
pub const VERSION: i16 = 2;
/// The version that clients speak who announce their partitions and keep their epoch.
pub const VERSION_OLD: i16 = 0;
