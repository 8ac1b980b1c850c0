//! When leases end. The timer runs only while there are leases.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mvcc::{LeaseChange, Lessor};
use parking_lot::Mutex;
use store_api::LeaseId;
use tokio::sync::Notify;

use crate::stats::Histogram;

/// The deadlines, shared by the apply thread, the callers and the timer.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    lessor: Mutex<Lessor>,
    granted: Notify,
    pub counts: Counts,
}

/// How often what happened to leases since the start.
#[derive(Debug)]
pub(crate) struct Counts {
    pub granted: AtomicU64,
    /// For how many seconds.
    pub ttls: Histogram,
    pub revoked: AtomicU64,
    pub renewed: AtomicU64,
    pub expired: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        // etcd's buckets: up to three months.
        let ttls = Histogram::new(1.0, 24);
        Self { granted: zero(), ttls, revoked: zero(), renewed: zero(), expired: zero() }
    }
}

impl Counts {
    fn applied(&self, change: &LeaseChange) {
        match change {
            LeaseChange::Granted { ttl_s, .. } => {
                self.ttls.observe_number(u32::try_from(*ttl_s).unwrap_or(u32::MAX));
                self.granted.fetch_add(1, Ordering::Relaxed)
            }
            LeaseChange::Revoked { .. } => self.revoked.fetch_add(1, Ordering::Relaxed),
            LeaseChange::Noted { .. } => 0,
        };
    }
}

impl Leases {
    /// Takes over what was applied.
    pub(crate) fn apply(&self, changes: &[LeaseChange], now: Duration) {
        if changes.is_empty() {
            return;
        }
        let mut lessor = self.lessor.lock();
        changes.iter().for_each(|change| lessor.apply(*change, now));
        changes.iter().for_each(|change| self.counts.applied(change));
        drop(lessor);
        self.granted.notify_one();
    }

    /// Forgets all and takes these over (id and whole time, seconds).
    pub(crate) fn reset(&self, granted: &[(LeaseId, i64)], now: Duration) {
        let mut lessor = self.lessor.lock();
        *lessor = Lessor::default();
        granted.iter().for_each(|(id, ttl_s)| lessor.grant(*id, *ttl_s, now));
        drop(lessor);
        self.granted.notify_one();
    }

    /// This member leads from now on: what is left of each lease, and `grace` for those renewed with the leader before.
    pub(crate) fn promote(&self, now: Duration, grace: Duration) {
        self.lessor.lock().promote(now, grace);
        self.granted.notify_one();
    }

    /// Takes over what the state says was left of leases.
    pub(crate) fn note(&self, noted: &[(LeaseId, i64)], now: Duration) {
        let changes = noted.iter().map(|(id, left_s)| LeaseChange::Noted { id: *id, left_s: *left_s });
        self.apply(&changes.collect::<Vec<_>>(), now);
    }

    /// Whether something is noted of a lease, which its renewal makes wrong.
    pub(crate) fn is_noted(&self, id: LeaseId) -> bool {
        self.lessor.lock().is_noted(id)
    }

    /// What is to be noted now.
    pub(crate) fn checkpoint(&self, now: Duration) -> Vec<(LeaseId, i64)> {
        self.lessor.lock().checkpoint(now)
    }

    pub(crate) fn renew(&self, id: LeaseId, now: Duration) -> bool {
        let renewed = self.lessor.lock().renew(id, now);
        self.counts.renewed.fetch_add(u64::from(renewed), Ordering::Relaxed);
        renewed
    }

    pub(crate) fn left(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        self.lessor.lock().left(id, now)
    }

    pub(crate) fn expired(&self, now: Duration) -> Vec<LeaseId> {
        self.lessor.lock().expired(now)
    }

    /// Waits until a lease may have ended: for the next deadline, or for a lease to be granted.
    pub(crate) async fn wait(&self, now: Duration) {
        let next = {
            let lessor = self.lessor.lock();
            lessor.next_deadline().into_iter().chain(lessor.next_checkpoint()).min()
        };
        let Some(deadline) = next else { return self.granted.notified().await };
        tokio::select! {
            biased;
            () = tokio::time::sleep(deadline.saturating_sub(now)) => {}
            () = self.granted.notified() => {}
        }
    }
}
