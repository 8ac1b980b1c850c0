//! What a member counts of its work, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mvcc::{Entry, EventBatch, Reply};
use store_api::{Error, EventKind};

/// etcd's buckets for its disk: from 1 ms on, each twice the one before.
const FIRST_BUCKET_S: f64 = 0.001;
const BUCKETS: usize = 14;

/// How long something took, in etcd's buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let bucket = bounds().position(|bound| took.as_secs_f64() <= bound);
        if let Some(bucket) = bucket.and_then(|at| self.buckets.get(at)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Each bound in seconds and how many took at most that.
    pub(crate) fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut total = 0;
        let counts = bounds().zip(&self.buckets);
        let counts = counts.map(|(bound, count)| {
            total += count.load(Ordering::Relaxed);
            (bound, total)
        });
        counts.collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn sum_s(&self) -> f64 {
        Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64()
    }
}

fn bounds() -> impl Iterator<Item = f64> {
    (0..BUCKETS as i32).map(|power| FIRST_BUCKET_S * 2f64.powi(power))
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Durable commits of the state.
    pub commits: Histogram,
    /// Syncs of the log.
    pub syncs: Histogram,
    pub puts: AtomicU64,
    pub deletes: AtomicU64,
    /// Transactions of more than one operation.
    pub txns: AtomicU64,
    /// Changes that wait for the log and the state.
    pub proposals_pending: AtomicU64,
    /// Changes that did not get there, or of which that is unknown.
    pub proposals_failed: AtomicU64,
    /// How often another member came to lead.
    pub leader_changes: AtomicU64,
}

/// A change on its way; dropped when its caller stops waiting.
pub(crate) struct Pending<'s>(&'s Stats);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.proposals_pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stats {
    /// A change sets out.
    pub(crate) fn proposing(&self) -> Pending<'_> {
        self.proposals_pending.fetch_add(1, Ordering::Relaxed);
        Pending(self)
    }

    /// A change has come back: one that was refused for what it is has been in the log.
    pub(crate) fn proposed(&self, result: &Result<Reply, Error>) {
        if matches!(
            result,
            Err(Error::Unavailable(_) | Error::TooManyRequests | Error::ShuttingDown | Error::NoSpace)
        ) {
            self.proposals_failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Entries were applied.
    pub(crate) fn applied(&self, entries: &[Entry], batches: &[EventBatch]) {
        let events = batches.iter().flat_map(|batch| &batch.events);
        let (mut puts, mut deletes) = (0, 0);
        for event in events {
            *if event.kind == EventKind::Put { &mut puts } else { &mut deletes } += 1;
        }
        self.puts.fetch_add(puts, Ordering::Relaxed);
        self.deletes.fetch_add(deletes, Ordering::Relaxed);
        let txns = entries.iter().filter(|entry| is_txn(entry)).count();
        self.txns.fetch_add(txns as u64, Ordering::Relaxed);
    }
}

fn is_txn(entry: &Entry) -> bool {
    match entry {
        Entry::As { entry, .. } => is_txn(entry),
        Entry::Txn(txn) => !txn.compare.is_empty() || txn.success.len() + txn.failure.len() > 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_took_at_most_so_long() {
        let histogram = Histogram::default();
        for ms in [1, 3, 3, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative[..3], [(0.001, 1), (0.002, 1), (0.004, 3)]);
        assert_eq!((cumulative[BUCKETS - 1], histogram.count()), ((8.192, 3), 4));
        assert!((histogram.sum_s() - 60.007).abs() < 1e-9);
    }
}
