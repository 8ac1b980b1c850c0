//! The coordinators' brains: classic consumer groups and committed offsets here, transactions in [`transactions`]. No I/O,
//! no clock, no threads.
//!
//! ```text
//!            handlers: join, sync, heartbeat, leave, commit_offsets, delete_offsets, delete_groups
//! request -------------------------------> Shard -----------------------------------------> Effects
//!                                            |   replies: (Token, Response), to be sent now
//!                                            |   writes:  Write { id, records }, to be appended to __consumer_offsets
//! append is durable (or failed)              |
//!   complete(now, id, Ok | Err) -----------> |  replays the records, releases the replies parked behind them
//! time passes                                |
//!   poll(now) at next_deadline() ----------> |  sessions, rebalances, offsets that expire
//! a partition is taken over                  |
//!   replay(key, value)..., loaded(now) ----> |  the same replay that `complete` uses
//! a partition is given up: unload() -------> |  every parked request gets NOT_COORDINATOR
//! ```
//!
//! One [`Shard`] per partition of `__consumer_offsets`; [`partition_for`] tells which one a group lives in. The caller
//! owns one shard on one task, appends writes in the order it gets them, and completes them in that order.
//! Committed offsets, and that a group is gone, change only when a write is complete, by replaying its records; a
//! rebalance in progress is soft state, as in Kafka: it is lost with the coordinator and members join again.
//!
//! Requests and responses are the structs of `kafka_wire::messages`; the caller resolves topic ids to names, refuses
//! topics that do not exist, authorizes, and splits requests that name groups of several shards. Reads
//! ([`Shard::fetch_offsets`], [`Shard::describe`], [`Shard::list`]) answer at once.
//!
//! Offsets that are committed in a transaction ([`Shard::commit_in_transaction`]) wait in the shard until the marker of their
//! producer ([`Shard::end_transaction`]) lets them count or takes them away; both are batches of the log.
//!
//! Source of the behaviour: `GroupMetadataManager`, `OffsetMetadataManager`, `ClassicGroup` of Apache Kafka 4.x;
//! KIP-62 (sessions), KIP-134 (initial delay), KIP-345 (static members), KIP-394 (member id required),
//! KIP-511, KIP-814 (skip assignment), KIP-211 (expiry of offsets).

mod admin;
mod desk;
mod group;
mod join;
mod leave;
mod log;
mod offsets;
mod options;
mod shard;
mod sync;
mod timers;
mod transactional;
pub mod transactions;

pub use desk::{Author, Batch, Effects, LogRecord, Markers, Response, Token, Write, WriteId};
pub use group::State;
pub use options::Options;
pub use shard::{Client, Shard};

/// How many partitions `__consumer_offsets` has unless configured (`offsets.topic.num.partitions`).
pub const PARTITIONS_DEFAULT: i32 = 50;

/// The partition of `__consumer_offsets` that holds a group: Java's hash of the string, without its sign.
///
/// The same function places a transactional id in `__transaction_state`.
#[must_use]
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `abs`: the least integer has no positive twin and becomes 0.
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
