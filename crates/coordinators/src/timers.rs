//! Deadlines by key: scheduling a key again moves it.

use std::collections::{BTreeMap, BTreeSet};

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The join phase of a group ends.
    Join(String),
    /// Members of a group must have sent SyncGroup.
    Sync(String),
    /// A member of a group (group, member) must have been heard of.
    Session(String, String),
    /// Offsets are looked through for those that expired.
    Cleanup,
}

/// All deadlines of a shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_key: BTreeMap<Timer, i64>,
    by_time: BTreeSet<(i64, Timer)>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn schedule(&mut self, timer: Timer, at_ms: i64) {
        self.cancel(&timer);
        self.by_time.insert((at_ms, timer.clone()));
        self.by_key.insert(timer, at_ms);
    }

    /// Forgets a deadline.
    pub fn cancel(&mut self, timer: &Timer) {
        if let Some(at_ms) = self.by_key.remove(timer) {
            self.by_time.remove(&(at_ms, timer.clone()));
        }
    }

    /// Whether a deadline is set.
    pub fn is_set(&self, timer: &Timer) -> bool {
        self.by_key.contains_key(timer)
    }

    /// The first deadline.
    pub fn next_deadline(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Moves all deadlines: the clock they are told in was set.
    pub fn shift(&mut self, by_ms: i64) {
        let moved = std::mem::take(&mut self.by_key).into_iter();
        self.by_key = moved.map(|(timer, at_ms)| (timer, at_ms.saturating_add(by_ms))).collect();
        self.by_time = self.by_key.iter().map(|(timer, at_ms)| (*at_ms, timer.clone())).collect();
    }

    /// Takes the first deadline that has passed.
    pub fn take_due(&mut self, now_ms: i64) -> Option<Timer> {
        let (_, timer) = self.by_time.first().filter(|(at_ms, _)| *at_ms <= now_ms)?.clone();
        self.cancel(&timer);
        Some(timer)
    }
}
