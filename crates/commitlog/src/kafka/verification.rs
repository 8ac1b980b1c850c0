//! Who appends, and what ties a transactional batch to a transaction that its coordinator knows (KIP-890).
//!
//! ```text
//! begin(producer) ─▶ Guard ─▶ the coordinator is asked ─▶ append(batch, Guard) ─▶ the transaction is open, guards are gone
//!                      └ a marker of the producer comes first: the guard is gone, the append is refused
//! ```
//! Without it a batch that comes after its transaction was aborted would open one that nobody ends, and nothing behind it
//! would ever become stable.

use std::collections::BTreeMap;

use crate::kafka::{BatchHeader, ProducerError};

/// A word for one verification of a producer in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard(u64);

impl Guard {
    /// The bare number, for who carries it through a layer that knows no logs.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The guard with this number.
    #[must_use]
    pub fn from_raw(number: u64) -> Self {
        Self(number)
    }
}

/// What a transactional batch that opens a transaction shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Nothing: it may not open one.
    No,
    /// What [`begin_verification`](crate::kafka::PartitionLog::begin_verification) gave, after the coordinator agreed.
    By(Guard),
    /// It need not show anything (`transaction.partition.verification.enable=false`).
    Waived,
}

/// Who appends a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A producer: its sequences are checked.
    Client(Verified),
    /// A coordinator's own records: epochs are checked, sequences are not.
    Coordinator(Verified),
    /// The end of a transaction, written for one of this transaction version. From version 2 on a marker's epoch is above
    /// that of the records it ends.
    Marker { version: i16 },
}

impl Origin {
    fn verified(self) -> Verified {
        match self {
            Self::Client(verified) | Self::Coordinator(verified) => verified,
            Self::Marker { .. } => Verified::Waived,
        }
    }
}

#[derive(Debug, Clone)]
struct Verification {
    guard: Guard,
    epoch: i16,
    /// The least sequence seen since: another one opens no transaction.
    lowest_sequence: i32,
    /// The epoch rises with every transaction, so that a producer nobody remembers begins at sequence 0.
    rises: bool,
}

/// Verifications under way, by producer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verifications {
    entries: BTreeMap<i64, Verification>,
    last: u64,
}

/// The most producers that verify at a time; beyond, the one with the least id begins anew.
const ENTRIES_MAX: usize = 100_000;

impl Verifications {
    /// The guard of a producer; several requests of it share one.
    pub(crate) fn begin(&mut self, producer_id: i64, epoch: i16, sequence: i32, rises: bool) -> Guard {
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&producer_id) {
            self.entries.pop_first();
        }
        let last = &mut self.last;
        let entry = self.entries.entry(producer_id).or_insert_with(|| {
            *last += 1;
            Verification { guard: Guard(*last), epoch, lowest_sequence: sequence, rises }
        });
        if epoch > entry.epoch {
            (entry.epoch, entry.lowest_sequence) = (epoch, sequence);
        } else if epoch == entry.epoch {
            entry.lowest_sequence = entry.lowest_sequence.min(sequence);
        }
        entry.guard
    }

    /// Whether the batch may open a transaction.
    pub(crate) fn check_guard(&self, batch: &BatchHeader, origin: Origin) -> Result<(), ProducerError> {
        let producer_id = batch.producer_id;
        let same = |guard: Guard| self.entries.get(&producer_id).is_some_and(|entry| entry.guard == guard);
        match origin.verified() {
            Verified::Waived => Ok(()),
            Verified::By(guard) if same(guard) => Ok(()),
            Verified::By(_) | Verified::No => Err(ProducerError::InvalidTxnState { producer_id }),
        }
    }

    /// Whether a batch of a producer that is being verified can be its first here; `known` is whether any is remembered.
    pub(crate) fn check_sequence(&self, batch: &BatchHeader, known: bool) -> Result<(), ProducerError> {
        let (producer_id, got) = (batch.producer_id, batch.base_sequence);
        let skips = |entry: &Verification| entry.rises && got != 0 && !known || got > entry.lowest_sequence;
        match self.entries.get(&producer_id).is_some_and(skips) {
            true => Err(ProducerError::OutOfOrderSequence { producer_id, got, last: -1 }),
            false => Ok(()),
        }
    }

    /// A batch of the producer's transaction was appended: it is open, or over. But where the epoch rises, the marker of
    /// the transaction before has the epoch of this one, whose verification may be under way.
    pub(crate) fn settle(&mut self, batch: &BatchHeader) {
        let before =
            |entry: &Verification| batch.is_control() && entry.rises && entry.epoch == batch.producer_epoch;
        if !self.entries.get(&batch.producer_id).is_some_and(before) {
            self.entries.remove(&batch.producer_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Offset;

    fn batch(sequence: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(0),
            len: 61,
            leader_epoch: 0,
            crc: 0,
            attributes: 16,
            last_offset_delta: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: 7,
            producer_epoch: 0,
            base_sequence: sequence,
            count: 1,
        }
    }

    #[test]
    fn a_marker_takes_the_guard_away() {
        let mut all = Verifications::default();
        let refused = Err(ProducerError::InvalidTxnState { producer_id: 7 });
        assert_eq!(all.check_guard(&batch(0), Origin::Client(Verified::No)), refused);
        let guard = all.begin(7, 0, 0, false);
        assert_eq!(all.begin(7, 0, 1, false), guard);
        let shown = Origin::Client(Verified::By(guard));
        assert_eq!(all.check_guard(&batch(0), shown), Ok(()));
        assert!(all.check_sequence(&batch(1), true).is_err(), "a batch before it is missing");
        all.settle(&batch(0));
        assert_eq!(all.check_guard(&batch(0), shown), refused);
        assert_ne!(all.begin(7, 0, 0, false), guard);
        assert_eq!(all.check_guard(&batch(9), Origin::Marker { version: 2 }), Ok(()));
    }

    #[test]
    fn the_marker_of_the_transaction_before_leaves_the_next_ones_guard() {
        let marker = |epoch| BatchHeader { attributes: 48, producer_epoch: epoch, ..batch(-1) };
        for (rises, epoch, stays) in [(true, 5, true), (true, 6, false), (false, 5, false)] {
            let mut all = Verifications::default();
            let guard = all.begin(7, 5, 0, rises);
            all.settle(&marker(epoch));
            let checked = all.check_guard(&batch(0), Origin::Client(Verified::By(guard)));
            assert_eq!(checked.is_ok(), stays, "rises {rises}, marker of {epoch}");
        }
    }

    #[test]
    fn a_producer_whose_epoch_rises_begins_at_0() {
        let mut all = Verifications::default();
        all.begin(7, 0, 3, true);
        assert!(all.check_sequence(&batch(3), false).is_err());
        assert_eq!(all.check_sequence(&batch(3), true), Ok(()));
        all.begin(7, 1, 0, true);
        assert_eq!(all.check_sequence(&batch(0), false), Ok(()));
        assert_eq!(Verifications::default().check_sequence(&batch(3), false), Ok(()));
    }
}
