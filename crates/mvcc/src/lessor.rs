//! When leases end. Deadlines live in memory only, as etcd's do: after a restart every lease gets its whole time again.

use std::collections::BTreeMap;
use std::time::Duration;

use store_api::LeaseId;

use crate::LeaseChange;

/// The least time a lease gets, seconds: etcd's with its default election timeout (1.5 s, rounded up).
pub const MIN_LEASE_TTL_S: i64 = 2;

#[derive(Debug, Clone, Copy)]
struct Term {
    ttl: Duration,
    deadline: Duration,
}

/// The deadlines of leases, on a monotonic clock the caller reads.
#[derive(Debug, Default)]
pub struct Lessor {
    terms: BTreeMap<LeaseId, Term>,
}

impl Lessor {
    /// Takes over what applying entries did to a lease.
    pub fn apply(&mut self, change: LeaseChange, now: Duration) {
        match change {
            LeaseChange::Granted { id, ttl_s } => self.grant(id, ttl_s, now),
            LeaseChange::Revoked { id } => self.revoke(id),
        }
    }

    /// A lease was granted (or found at start).
    pub fn grant(&mut self, id: LeaseId, ttl_s: i64, now: Duration) {
        let ttl = Duration::from_secs(ttl_s.max(0).unsigned_abs());
        self.terms.insert(id, Term { ttl, deadline: now + ttl });
    }

    /// Starts a lease's time anew; false when there is no such lease.
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> bool {
        let term = self.terms.get_mut(&id);
        term.map(|t| t.deadline = now + t.ttl).is_some()
    }

    /// Counts from here anew: each lease has what is left of it, and `grace`.
    pub fn promote(&mut self, now: Duration, grace: Duration) {
        for term in self.terms.values_mut() {
            term.deadline = now + term.ttl + grace;
        }
    }

    /// A lease ended.
    pub fn revoke(&mut self, id: LeaseId) {
        self.terms.remove(&id);
    }

    /// Time left of a lease, zero when it is over; None when there is no such lease.
    #[must_use]
    pub fn left(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        self.terms.get(&id).map(|t| t.deadline.saturating_sub(now))
    }

    /// When the next lease ends; None without leases.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.terms.values().map(|t| t.deadline).min()
    }

    /// Leases that are over, in order of their ids. They stay until [`Lessor::revoke`].
    #[must_use]
    pub fn expired(&self, now: Duration) -> Vec<LeaseId> {
        self.terms.iter().filter(|(_, t)| t.deadline <= now).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_end_unless_renewed() {
        let s = Duration::from_secs;
        let mut lessor = Lessor::default();
        lessor.grant(LeaseId(1), 5, s(10));
        lessor.grant(LeaseId(2), 3, s(10));
        assert_eq!(lessor.next_deadline(), Some(s(13)));
        assert!(lessor.renew(LeaseId(2), s(12)) && !lessor.renew(LeaseId(3), s(12)));
        assert_eq!(lessor.left(LeaseId(2), s(14)), Some(s(1)));
        assert_eq!(lessor.expired(s(15)), [LeaseId(1), LeaseId(2)]);
        lessor.revoke(LeaseId(1));
        assert_eq!(lessor.expired(s(20)), [LeaseId(2)]);
    }
}
