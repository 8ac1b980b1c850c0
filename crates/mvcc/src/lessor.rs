//! When leases end. Deadlines live in memory only, as etcd's do. What is left of long leases is noted in the state now and
//! then, so that a restart or a new leader does not give them their whole time again; short ones get it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use store_api::LeaseId;

use crate::LeaseChange;

/// The least time a lease gets, seconds: etcd's with its default election timeout (1.5 s, rounded up).
pub const MIN_LEASE_TTL_S: i64 = 2;

#[derive(Debug, Clone, Copy)]
struct Term {
    ttl: Duration,
    deadline: Duration,
    /// What was left when that was last noted in the state.
    noted: Option<Duration>,
}

/// What is left of a lease is noted this often: etcd's interval. Shorter leases are not noted.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// Leases noted in one entry: etcd's bound.
const CHECKPOINT_LEASES: usize = 1000;

impl Term {
    /// When so much time has passed since the whole, or what was noted last, that what is left is to be noted.
    fn checkpoint_at(&self) -> Option<Duration> {
        let counted = self.noted.unwrap_or(self.ttl);
        let after = counted.checked_sub(CHECKPOINT_EVERY).filter(|after| after.as_secs() > 1)?;
        Some(self.deadline.saturating_sub(after))
    }
}

/// A moment and the lease it is about.
type Due = BTreeSet<(Duration, LeaseId)>;

/// The deadlines of leases, on a monotonic clock the caller reads.
#[derive(Debug, Default)]
pub struct Lessor {
    terms: BTreeMap<LeaseId, Term>,
    /// All leases by their deadline.
    ends: Due,
    /// Long leases by when what is left of them is to be noted.
    checkpoints: Due,
}

impl Lessor {
    /// Takes over what applying entries did to a lease.
    pub fn apply(&mut self, change: LeaseChange, now: Duration) {
        match change {
            LeaseChange::Granted { id, ttl_s } => self.grant(id, ttl_s, now),
            LeaseChange::Revoked { id } => self.revoke(id),
            LeaseChange::Noted { id, left_s } => self.note(id, left_s, now),
        }
    }

    /// A lease was granted (or found at start).
    pub fn grant(&mut self, id: LeaseId, ttl_s: i64, now: Duration) {
        let ttl = Duration::from_secs(ttl_s.max(0).unsigned_abs());
        self.set(id, Some(Term { ttl, deadline: now + ttl, noted: None }));
    }

    /// The only place where a lease changes, so that the indexes always say the same as the lease.
    fn set(&mut self, id: LeaseId, term: Option<Term>) {
        let before = match term {
            Some(term) => self.terms.insert(id, term),
            None => self.terms.remove(&id),
        };
        if let Some(before) = before {
            self.ends.remove(&(before.deadline, id));
            if let Some(at) = before.checkpoint_at() {
                self.checkpoints.remove(&(at, id));
            }
        }
        if let Some(term) = term {
            self.ends.insert((term.deadline, id));
            if let Some(at) = term.checkpoint_at() {
                self.checkpoints.insert((at, id));
            }
        }
    }

    fn note(&mut self, id: LeaseId, left_s: i64, now: Duration) {
        let left = Duration::from_secs(left_s.max(0).unsigned_abs());
        if let Some(mut term) = self.terms.get(&id).copied() {
            term.noted = (!left.is_zero()).then_some(left);
            // Never longer by a note than it would be without, unless it was renewed.
            let whole = now + term.noted.unwrap_or(term.ttl);
            term.deadline = if left.is_zero() { whole } else { term.deadline.min(whole) };
            self.set(id, Some(term));
        }
    }

    /// Whether something is noted of a lease that its renewal makes wrong.
    #[must_use]
    pub fn is_noted(&self, id: LeaseId) -> bool {
        self.terms.get(&id).is_some_and(|term| term.noted.is_some())
    }

    /// When something is to be noted next; None while there are no long leases.
    #[must_use]
    pub fn next_checkpoint(&self) -> Option<Duration> {
        self.checkpoints.first().map(|(at, _)| *at)
    }

    /// What is to be noted now, those that wait longest first: leases and the seconds left of them.
    #[must_use]
    pub fn checkpoint(&self, now: Duration) -> Vec<(LeaseId, i64)> {
        let due = self.checkpoints.iter().take_while(|(at, _)| *at <= now);
        let left = due.map(|(_, id)| (*id, self.left(*id, now).unwrap_or_default().as_secs().cast_signed()));
        left.filter(|(_, left_s)| *left_s > 0).take(CHECKPOINT_LEASES).collect()
    }

    /// Starts a lease's time anew; false when there is no such lease.
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> bool {
        let term = self.terms.get(&id).map(|t| Term { deadline: now + t.ttl, ..*t });
        let known = term.is_some();
        if known {
            self.set(id, term);
        }
        known
    }

    /// Counts from here anew: each lease has what is left of it, and `grace`.
    pub fn promote(&mut self, now: Duration, grace: Duration) {
        for term in self.terms.values_mut() {
            term.deadline = now + term.noted.unwrap_or(term.ttl) + grace;
        }
        self.ends = self.terms.iter().map(|(id, term)| (term.deadline, *id)).collect();
        let long = self.terms.iter().filter_map(|(id, term)| Some((term.checkpoint_at()?, *id)));
        self.checkpoints = long.collect();
    }

    /// A lease ended.
    pub fn revoke(&mut self, id: LeaseId) {
        self.set(id, None);
    }

    /// Time left of a lease, zero when it is over; None when there is no such lease.
    #[must_use]
    pub fn left(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        self.terms.get(&id).map(|t| t.deadline.saturating_sub(now))
    }

    /// When the next lease ends; None without leases.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Leases that are over, those that ended first first. They stay until [`Lessor::revoke`].
    #[must_use]
    pub fn expired(&self, now: Duration) -> Vec<LeaseId> {
        self.ends.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_long_leases_is_noted() {
        let s = Duration::from_secs;
        let mut lessor = Lessor::default();
        lessor.grant(LeaseId(1), 1000, s(0));
        lessor.grant(LeaseId(2), 200, s(0));
        assert_eq!(lessor.next_checkpoint(), Some(s(300)));
        assert_eq!((lessor.checkpoint(s(299)), lessor.checkpoint(s(301))), (vec![], vec![(LeaseId(1), 699)]));
        lessor.apply(LeaseChange::Noted { id: LeaseId(1), left_s: 699 }, s(301));
        assert_eq!((lessor.next_checkpoint(), lessor.is_noted(LeaseId(1))), (Some(s(601)), true));
        // A new leader: the long one has what was noted, the short one its whole time.
        lessor.promote(s(400), s(1));
        assert_eq!(lessor.left(LeaseId(1), s(400)), Some(s(700)));
        assert_eq!(lessor.left(LeaseId(2), s(400)), Some(s(201)));
        assert!(lessor.renew(LeaseId(1), s(500)));
        lessor.apply(LeaseChange::Noted { id: LeaseId(1), left_s: 0 }, s(500));
        assert_eq!(lessor.left(LeaseId(1), s(500)), Some(s(1000)));
        assert!(!lessor.is_noted(LeaseId(1)));
    }

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
        lessor.renew(LeaseId(1), s(11));
        assert_eq!(lessor.expired(s(16)), [LeaseId(2), LeaseId(1)]);
        lessor.revoke(LeaseId(1));
        assert_eq!(lessor.expired(s(20)), [LeaseId(2)]);
    }

    /// What the indexes must say, by looking at every lease.
    fn check(lessor: &Lessor, now: Duration) {
        let all = || lessor.terms.iter();
        assert_eq!(lessor.next_deadline(), all().map(|(_, t)| t.deadline).min());
        assert_eq!(lessor.next_checkpoint(), all().filter_map(|(_, t)| t.checkpoint_at()).min());
        let mut expired = lessor.expired(now);
        expired.sort_unstable();
        let over: Vec<_> = all().filter(|(_, t)| t.deadline <= now).map(|(id, _)| *id).collect();
        assert_eq!(expired, over);
        let mut noted: Vec<_> = lessor.checkpoint(now).into_iter().map(|(id, _)| id).collect();
        noted.sort_unstable();
        let is_due =
            |t: &Term| t.checkpoint_at().is_some_and(|at| at <= now) && t.deadline.as_secs() > now.as_secs();
        let due: Vec<_> = all().filter(|(_, t)| is_due(t)).map(|(id, _)| *id).collect();
        assert_eq!(noted, due);
    }

    #[test]
    fn the_indexes_say_what_the_leases_say() {
        for seed in 0..20 {
            let mut random = base::random::Random::from_seed(seed);
            let (mut lessor, mut now) = (Lessor::default(), Duration::ZERO);
            for _ in 0..400 {
                now += Duration::from_secs(random.below(90));
                let id = LeaseId(1 + random.below(30).cast_signed());
                match random.below(9) {
                    0..=2 => lessor.grant(id, random.below(4000).cast_signed(), now),
                    3 | 4 => drop(lessor.renew(id, now)),
                    5 => lessor.revoke(id),
                    6 => lessor.promote(now, Duration::from_secs(random.below(3))),
                    _ => {
                        let left_s = random.below(2).cast_signed() * random.below(2000).cast_signed();
                        lessor.apply(LeaseChange::Noted { id, left_s }, now);
                    }
                }
                check(&lessor, now);
                for id in lessor.expired(now) {
                    if random.below(2) == 0 {
                        lessor.revoke(id);
                    }
                }
            }
        }
    }
}
