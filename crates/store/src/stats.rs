//! What a member counts of its work, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use mvcc::auth::AuthOp;
use mvcc::{Entry, EventBatch, Reply, Swept};
use parking_lot::Mutex;
use store_api::{Error, EventKind};
// Simulated time in simulations.
use tokio::time::Instant;

use crate::raft::peers::Peers;

/// How long something took, or how much it was, in buckets each of which reaches twice as far as the one before.
#[derive(Debug)]
pub(crate) struct Histogram {
    first: f64,
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    sum_billionths: AtomicU64,
}

impl Default for Histogram {
    /// etcd's buckets for its disk.
    fn default() -> Self {
        Self::new(0.001, 14)
    }
}

impl Histogram {
    /// With so many buckets, the first of which reaches to `first`.
    pub(crate) fn new(first: f64, buckets: usize) -> Self {
        let buckets = (0..buckets).map(|_| AtomicU64::new(0)).collect();
        Self { first, buckets, count: AtomicU64::new(0), sum_billionths: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, took: Duration) {
        self.note(took.as_secs_f64(), took.as_nanos() as u64);
    }

    /// Whole milliseconds, as numbers.
    fn observe_ms(&self, took: Duration) {
        self.observe_number(u32::try_from(took.as_millis()).unwrap_or(u32::MAX));
    }

    /// Takes in a number that is no time.
    pub(crate) fn observe_number(&self, number: u32) {
        self.note(f64::from(number), u64::from(number) * 1_000_000_000);
    }

    fn note(&self, value: f64, billionths: u64) {
        let bucket = self.bounds().position(|bound| value <= bound);
        if let Some(bucket) = bucket.and_then(|at| self.buckets.get(at)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_billionths.fetch_add(billionths, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn bounds(&self) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(self.first), |bound| Some(bound * 2.0)).take(self.buckets.len())
    }

    /// Each bound and how many were at most that.
    pub(crate) fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut total = 0;
        let counts = self.bounds().zip(&self.buckets);
        let counts = counts.map(|(bound, count)| {
            total += count.load(Ordering::Relaxed);
            (bound, total)
        });
        counts.collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sum_billionths.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Durable commits of the state.
    pub commits: Histogram,
    /// Syncs of the log.
    pub syncs: Histogram,
    /// Writes to the log, and their bytes.
    pub log_writes: Histogram,
    pub log_bytes: AtomicU64,
    /// Bytes of the keys and values put.
    pub put_bytes: AtomicU64,
    /// Whole states from the leader that are being taken over.
    pub installing: AtomicU64,
    /// Times a leader did not say how far reads must be.
    pub read_indexes_failed: AtomicU64,
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
    /// Times a member took long to say how far reads must be, or to get there itself.
    pub slow_read_indexes: AtomicU64,
    /// Heartbeats that went out late: a disk or a processor holds the leader up.
    pub late_heartbeats: AtomicU64,
    /// Learners that were made voters by this member as the leader, and those that were not, by the reason.
    pub promotions: AtomicU64,
    pub promotions_failed: Mutex<BTreeMap<String, u64>>,
    /// Changes that took longer than [`SLOW`].
    pub slow: AtomicU64,
    /// What goes between the members.
    pub peers: Peers,
    pub applies: Applies,
    pub compactions: Compactions,
}

/// What takes longer is slow: etcd's `--warning-apply-duration`.
pub(crate) const SLOW: Duration = Duration::from_millis(100);

/// What is applied, under etcd's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Op {
    Alarm,
    AuthDisable,
    AuthEnable,
    AuthRoleAdd,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
    AuthUserAdd,
    AuthUserChangePassword,
    AuthUserDelete,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    Authenticate,
    Compaction,
    DeleteRange,
    LeaseCheckpoint,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Txn,
}

impl Op {
    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::As { entry, .. } => Self::of(entry),
            Entry::Txn(txn) => match (txn.compare.is_empty(), &txn.success[..], txn.failure.is_empty()) {
                (true, [store_api::Op::Put { .. } | store_api::Op::Update { .. }], true) => Self::Put,
                (true, [store_api::Op::DeleteRange { .. }], true) => Self::DeleteRange,
                _ => Self::Txn,
            },
            Entry::LeaseGrant { .. } => Self::LeaseGrant,
            Entry::LeaseRevoke { .. } => Self::LeaseRevoke,
            Entry::LeaseCheckpoint { .. } => Self::LeaseCheckpoint,
            Entry::Compact { .. } => Self::Compaction,
            Entry::Alarm { .. } => Self::Alarm,
            Entry::Auth(op) => match op {
                AuthOp::Enable => Self::AuthEnable,
                AuthOp::Disable => Self::AuthDisable,
                AuthOp::UserAdd { .. } => Self::AuthUserAdd,
                AuthOp::UserDelete { .. } => Self::AuthUserDelete,
                AuthOp::UserChangePassword { .. } => Self::AuthUserChangePassword,
                AuthOp::UserGrantRole { .. } => Self::AuthUserGrantRole,
                AuthOp::UserRevokeRole { .. } => Self::AuthUserRevokeRole,
                AuthOp::RoleAdd { .. } => Self::AuthRoleAdd,
                AuthOp::RoleDelete { .. } => Self::AuthRoleDelete,
                AuthOp::RoleGrantPermission { .. } => Self::AuthRoleGrantPermission,
                AuthOp::RoleRevokePermission { .. } => Self::AuthRoleRevokePermission,
                AuthOp::Authenticate { .. } => Self::Authenticate,
            },
        }
    }
}

/// How long applying took, by what was applied and whether it was not refused.
#[derive(Debug, Default)]
pub(crate) struct Applies(Mutex<BTreeMap<(Op, bool), Histogram>>);

impl Applies {
    /// Tells of each under etcd's name.
    pub(crate) fn each(&self, mut tell: impl FnMut(String, bool, &Histogram)) {
        let all = self.0.lock();
        all.iter().for_each(|((op, success), took)| tell(format!("{op:?}"), *success, took));
    }
}

/// What is cleaned up after compactions.
#[derive(Debug)]
pub(crate) struct Compactions {
    /// Milliseconds of a step, while which nothing else is applied, and from a compaction to the end of its last step.
    pub pauses_ms: Histogram,
    pub totals_ms: Histogram,
    /// When the last one ended, seconds since 1970; 0 for never since the start.
    pub last_unix_s: AtomicI64,
    /// Versions of keys that were removed.
    pub versions: AtomicU64,
    began: Mutex<Option<Instant>>,
}

impl Default for Compactions {
    /// With etcd's buckets.
    fn default() -> Self {
        Self {
            pauses_ms: Histogram::new(1.0, 13),
            totals_ms: Histogram::new(100.0, 14),
            last_unix_s: AtomicI64::new(0),
            versions: AtomicU64::new(0),
            began: Mutex::default(),
        }
    }
}

impl Compactions {
    /// A step since `began` came to this, and it is now so late.
    pub(crate) fn stepped(&self, began: Instant, swept: Swept, unix_ms: i64) {
        self.pauses_ms.observe_ms(began.elapsed());
        self.versions.fetch_add(swept.versions, Ordering::Relaxed);
        let mut first = self.began.lock();
        let since = *first.get_or_insert(began);
        if !swept.more {
            *first = None;
            self.totals_ms.observe_ms(since.elapsed());
            self.last_unix_s.store(unix_ms / 1000, Ordering::Relaxed);
        }
    }
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

    /// So many bytes were written to the log since `began`.
    pub(crate) fn wrote(&self, began: std::time::Instant, bytes: usize) {
        self.log_writes.observe(began.elapsed());
        self.log_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Entries were applied together in this time: each took its part of it, and waited for all of it.
    pub(crate) fn took(&self, entries: &[Entry], replies: &[Result<Reply, Error>], took: Duration) {
        let Some(part) = u32::try_from(entries.len()).ok().and_then(|count| took.checked_div(count)) else {
            return;
        };
        let mut applies = self.applies.0.lock();
        for (entry, reply) in entries.iter().zip(replies) {
            // As etcd has it.
            let success = matches!(reply, Ok(_) | Err(Error::Compacted { .. }));
            let histogram = applies.entry((Op::of(entry), success));
            histogram.or_insert_with(|| Histogram::new(0.0001, 20)).observe(part);
        }
        drop(applies);
        if took > SLOW {
            self.slow.fetch_add(entries.len() as u64, Ordering::Relaxed);
        }
    }

    /// Entries were applied.
    pub(crate) fn applied(&self, entries: &[Entry], batches: &[EventBatch]) {
        let events = batches.iter().flat_map(|batch| &batch.events);
        let (mut puts, mut deletes, mut bytes) = (0, 0, 0);
        for event in events {
            if event.kind == EventKind::Put {
                puts += 1;
                bytes += event.kv.key.len() + event.kv.value.len();
            } else {
                deletes += 1;
            }
        }
        self.put_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
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
        assert_eq!((cumulative[13], histogram.count()), ((8.192, 3), 4));
        assert!((histogram.sum() - 60.007).abs() < 1e-9);
        let numbers = Histogram::new(1.0, 3);
        [1, 2, 3, 60].into_iter().for_each(|number| numbers.observe_number(number));
        assert_eq!(numbers.cumulative(), [(1.0, 1), (2.0, 2), (4.0, 3)]);
        assert_eq!((numbers.count(), numbers.sum()), (4, 66.0));
    }

    #[test]
    fn what_is_applied_together_shares_the_time_and_is_slow_together() {
        let stats = Stats::default();
        let changes = |ops| Entry::Txn(store_api::Txn { success: ops, ..store_api::Txn::default() });
        let put = || store_api::Op::put("k", "v");
        let entries = [
            changes(vec![put()]),
            changes(vec![put(), put()]),
            changes(vec![store_api::Op::delete("k")]),
            Entry::Compact { revision: store_api::Revision(3) },
        ];
        let compacted = Error::Compacted { compact_revision: store_api::Revision(5) };
        let replies = [Err(Error::LeaseNotFound), Ok(Reply::Compacted), Ok(Reply::Compacted), Err(compacted)];
        stats.took(&entries, &replies, SLOW);
        assert_eq!(stats.slow.load(Ordering::Relaxed), 0);
        stats.took(&entries, &replies, SLOW * 2);
        assert_eq!(stats.slow.load(Ordering::Relaxed), 4);
        let mut told = Vec::new();
        stats.applies.each(|op, success, took| told.push((op, success, took.count(), took.sum())));
        let each = |op: &str, success| (op.to_owned(), success, 2, 0.075);
        let expect =
            [each("Compaction", true), each("DeleteRange", true), each("Put", false), each("Txn", true)];
        assert_eq!(told, expect);
    }
}
