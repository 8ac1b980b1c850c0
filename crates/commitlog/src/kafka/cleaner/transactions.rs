//! Which transaction a batch belongs to, while a log is walked from its start (CleanedTransactionMetadata of Kafka's
//! cleaner): batches of aborted ones go, and a marker may go once nothing of its transaction is left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::kafka::{AbortedTxn, BatchHeader, EndTxnMarker};

#[derive(Debug)]
pub(super) struct Transactions {
    /// Those that have not begun where the walk is, by first offset.
    ahead: VecDeque<AbortedTxn>,
    /// Under way: the transaction and whether a batch of it was seen.
    aborted: BTreeMap<i64, (AbortedTxn, bool)>,
    committed: BTreeSet<i64>,
    /// What the new segment's index is to hold.
    pub kept: Vec<AbortedTxn>,
}

impl Transactions {
    pub(super) fn new(mut aborted: Vec<AbortedTxn>) -> Self {
        aborted.sort_unstable_by_key(|txn| txn.first);
        Self { ahead: aborted.into(), aborted: BTreeMap::new(), committed: BTreeSet::new(), kept: Vec::new() }
    }

    fn reach(&mut self, batch: &BatchHeader) {
        while self.ahead.front().is_some_and(|txn| txn.first <= batch.last_offset()) {
            if let Some(txn) = self.ahead.pop_front() {
                let known = self.aborted.entry(txn.producer_id).or_insert((txn, false));
                if known.0.last < txn.first {
                    // Its marker is gone already.
                    *known = (txn, false);
                }
            }
        }
    }

    /// Whether a data batch was aborted.
    pub(super) fn data(&mut self, batch: &BatchHeader) -> bool {
        self.reach(batch);
        if !batch.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&batch.producer_id) {
            Some((txn, seen)) if txn.last > batch.base_offset => {
                *seen = true;
                true
            }
            _ => {
                self.committed.insert(batch.producer_id);
                false
            }
        }
    }

    /// Whether a control batch has nothing left that needs it; `marker` is what it says, None when it is empty or of
    /// another kind.
    pub(super) fn control(&mut self, batch: &BatchHeader, marker: Option<EndTxnMarker>) -> bool {
        self.reach(batch);
        match marker {
            Some(EndTxnMarker { commit: true, .. }) => !self.committed.remove(&batch.producer_id),
            Some(EndTxnMarker { commit: false, .. }) => match self.aborted.remove(&batch.producer_id) {
                Some((txn, true)) => {
                    self.kept.push(txn);
                    false
                }
                _ => true,
            },
            // An empty control batch was cleaned already; other control records are not for this log.
            None => batch.count == 0,
        }
    }
}
