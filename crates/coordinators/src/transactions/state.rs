//! A transactional id: its producer, and the transaction it is in.

use std::collections::{BTreeMap, BTreeSet};

use super::VERSION;

/// No producer id.
pub(super) const NO_ID: i64 = -1;
/// No epoch.
pub(super) const NO_EPOCH: i16 = -1;
/// The time of what has not begun.
pub(super) const NO_TIME: i64 = -1;

/// Partitions by topic.
pub type Partitions = BTreeMap<String, BTreeSet<i32>>;

/// A state, with Kafka's number and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A producer, and no transaction yet.
    Empty,
    /// Partitions are being written to.
    Ongoing,
    /// It is committed; the markers are on their way.
    PrepareCommit,
    /// It is aborted; the markers are on their way.
    PrepareAbort,
    /// Committed, everywhere.
    CompleteCommit,
    /// Aborted, everywhere.
    CompleteAbort,
    /// The id is on its way out.
    Dead,
    /// A new producer, or time, has taken the transaction away from its producer. Never written.
    PrepareEpochFence,
}

impl State {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Empty, "Empty"),
        (Self::Ongoing, "Ongoing"),
        (Self::PrepareCommit, "PrepareCommit"),
        (Self::PrepareAbort, "PrepareAbort"),
        (Self::CompleteCommit, "CompleteCommit"),
        (Self::CompleteAbort, "CompleteAbort"),
        (Self::Dead, "Dead"),
        (Self::PrepareEpochFence, "PrepareEpochFence"),
    ];

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }

    /// Kafka's number.
    #[must_use]
    pub fn number(self) -> i8 {
        self as i8
    }

    /// The state with this number.
    #[must_use]
    pub fn from_number(number: i8) -> Option<Self> {
        Self::ALL.iter().map(|(state, _)| *state).find(|state| state.number() == number)
    }

    /// The end is decided, and not yet everywhere.
    #[must_use]
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// No transaction is under way: the producer may change, the id may expire.
    #[must_use]
    pub fn is_idle(self) -> bool {
        matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort)
    }
}

/// What is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub producer_id: i64,
    /// The one before the last transition.
    pub previous_producer_id: i64,
    /// The one from the end of this transaction on, where the epochs of this one are used up; else -1.
    pub next_producer_id: i64,
    pub epoch: i16,
    /// The epoch that the producer had before it asked for this one; not written.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: Partitions,
    pub started_ms: i64,
    pub updated_ms: i64,
    /// The transaction version of who brought it here.
    pub version: i16,
}

/// Epochs end one before the greatest: that one is for fencing.
pub(super) fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

impl Transaction {
    /// An id with a fresh producer, before its first epoch.
    pub fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: NO_ID,
            next_producer_id: NO_ID,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::new(),
            started_ms: NO_TIME,
            updated_ms: now_ms,
            version: super::VERSION_OLD,
        }
    }

    /// The same in another state.
    fn to(&self, state: State, now_ms: i64) -> Self {
        Self { state, previous_producer_id: self.producer_id, updated_ms: now_ms, ..self.clone() }
    }

    /// A new session of the producer: no transaction, these id and epochs.
    pub fn renewed(
        &self,
        (producer_id, epoch, last_epoch): (i64, i16, i16),
        timeout_ms: i32,
        now_ms: i64,
    ) -> Self {
        Self {
            producer_id,
            epoch,
            last_epoch,
            timeout_ms,
            partitions: Partitions::new(),
            started_ms: NO_TIME,
            ..self.to(State::Empty, now_ms)
        }
    }

    /// With more partitions; where none was open, a transaction begins.
    pub fn with_partitions(&self, more: &Partitions, version: i16, now_ms: i64) -> Self {
        let mut next = self.to(State::Ongoing, now_ms);
        if self.state.is_idle() {
            next.started_ms = now_ms;
        }
        for (topic, partitions) in more {
            next.partitions.entry(topic.clone()).or_default().extend(partitions);
        }
        next.version = version;
        next
    }

    /// Whether all of these are in the transaction.
    pub fn holds(&self, partitions: &Partitions) -> bool {
        partitions
            .iter()
            .all(|(topic, wanted)| self.partitions.get(topic).is_some_and(|known| known.is_superset(wanted)))
    }

    /// Committed or aborted, markers to follow. From version 2 on the epoch rises. `fresh_id` takes over at the end.
    pub fn prepared(&self, commit: bool, version: i16, fresh_id: Option<i64>, now_ms: i64) -> Self {
        let state = if commit { State::PrepareCommit } else { State::PrepareAbort };
        let mut next = self.to(state, now_ms);
        if version >= VERSION {
            // The greatest epoch has no next: a broken producer is aborted under it.
            next.epoch = self.epoch.saturating_add(1);
            next.last_epoch = self.epoch;
        }
        if self.state.is_idle() {
            // Nothing was added: when it began nobody knows, and something has to stand there.
            next.started_ms = now_ms;
        }
        next.next_producer_id = fresh_id.unwrap_or(NO_ID);
        next.version = version;
        next
    }

    /// The same of a prepared end that its producer did not ask for: the epoch rises in any version.
    pub fn fenced(self) -> Self {
        match self.version >= VERSION {
            true => self,
            false => Self { epoch: self.epoch.saturating_add(1), last_epoch: NO_EPOCH, ..self },
        }
    }

    /// All markers are written.
    pub fn completed(&self, now_ms: i64) -> Self {
        let commit = self.state == State::PrepareCommit;
        let mut next = self.to(if commit { State::CompleteCommit } else { State::CompleteAbort }, now_ms);
        if self.version >= VERSION && self.next_producer_id != NO_ID {
            (next.producer_id, next.epoch) = (self.next_producer_id, 0);
        }
        next.next_producer_id = NO_ID;
        next.partitions = Partitions::new();
        next
    }

    /// Producer id and epoch that a client goes on with after a prepared end.
    pub fn afterwards(&self) -> (i64, i16) {
        match self.version >= VERSION && self.next_producer_id != NO_ID {
            true => (self.next_producer_id, 0),
            false => (self.producer_id, self.epoch),
        }
    }
}
