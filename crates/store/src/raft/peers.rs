//! What goes between this member and the others, counted for `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
// Simulated time in simulations.
use tokio::time::Instant;

use crate::stats::Histogram;

/// By the other member's id.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<BTreeMap<u64, Arc<Peer>>>);

impl Peers {
    /// What is counted of a member.
    pub(crate) fn of(&self, member: u64) -> Arc<Peer> {
        self.0.lock().entry(member).or_default().clone()
    }

    /// Every member that was spoken to.
    pub(crate) fn all(&self) -> Vec<(u64, Arc<Peer>)> {
        self.0.lock().iter().map(|(member, peer)| (*member, peer.clone())).collect()
    }
}

/// What is counted of one member.
#[derive(Debug)]
pub(crate) struct Peer {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    /// Requests that got no answer because a connection failed or was full, and connections on which what came failed.
    sent_failures: AtomicU64,
    received_failures: AtomicU64,
    /// Connections that are open, and how often the last one ended.
    connections: AtomicU64,
    disconnections: AtomicU64,
    /// From a question that costs the other side nothing to its answer.
    pub round_trips: Histogram,
    /// In which term it was last told that the leader is there, and when.
    told: Mutex<Option<(u64, Instant)>>,
    /// Whole states.
    pub sends: Arc<Moves>,
    pub receives: Arc<Moves>,
}

impl Default for Peer {
    /// With etcd's buckets.
    fn default() -> Self {
        Self {
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_failures: AtomicU64::new(0),
            received_failures: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            disconnections: AtomicU64::new(0),
            round_trips: Histogram::new(0.0001, 16),
            told: Mutex::default(),
            sends: Arc::default(),
            receives: Arc::default(),
        }
    }
}

impl Peer {
    /// It is told in this term that the leader is there: false when that should have been done before `within` had passed
    /// since the last time (facts: etcd pkg/contention).
    pub(super) fn tell(&self, term: u64, now: Instant, within: Duration) -> bool {
        let last = self.told.lock().replace((term, now));
        last.is_none_or(|(before, at)| before != term || now.saturating_duration_since(at) <= within)
    }
}

/// Whole states on their way from one member to another.
#[derive(Debug)]
pub(crate) struct Moves {
    arrived: AtomicU64,
    failed: AtomicU64,
    under_way: AtomicU64,
    /// Those that arrived.
    pub took: Histogram,
}

impl Default for Moves {
    /// With etcd's buckets.
    fn default() -> Self {
        let [arrived, failed, under_way] = [0; 3].map(AtomicU64::new);
        Self { arrived, failed, under_way, took: Histogram::new(0.1, 10) }
    }
}

impl Moves {
    /// One sets out. It has failed if what is returned is dropped before it arrived.
    pub(super) fn begin(self: &Arc<Self>) -> Moving {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Moving { moves: self.clone(), began: Instant::now(), arrived: false }
    }

    /// How many arrived, failed, and are under way.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.arrived, &self.failed, &self.under_way].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// A whole state on its way.
pub(crate) struct Moving {
    moves: Arc<Moves>,
    began: Instant,
    arrived: bool,
}

impl Moving {
    pub(super) fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.moves.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.arrived {
            self.moves.arrived.fetch_add(1, Ordering::Relaxed);
            self.moves.took.observe(self.began.elapsed());
        } else {
            self.moves.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Peer {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn send_failed(&self) {
        self.sent_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn receive_failed(&self) {
        self.received_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, took: Duration) {
        self.round_trips.observe(took);
    }

    /// A connection is open, until what is returned is dropped.
    pub(super) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// Whether there is a connection.
    pub(crate) fn is_active(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
    }

    /// Bytes sent and received, failures of sending and of receiving, disconnections.
    pub(crate) fn counts(&self) -> [u64; 5] {
        let counters = [
            &self.sent_bytes,
            &self.received_bytes,
            &self.sent_failures,
            &self.received_failures,
            &self.disconnections,
        ];
        counters.map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// A connection that is open.
pub(super) struct Connected(Arc<Peer>);

impl Drop for Connected {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.disconnections.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_late_when_its_word_comes_long_after_the_last_of_its_term() {
        let (peer, began) = (Peer::default(), Instant::now());
        let tell = |term, ms| peer.tell(term, began + Duration::from_millis(ms), Duration::from_millis(120));
        assert!(tell(1, 0) && tell(1, 60) && tell(1, 180));
        assert!(!tell(1, 301));
        assert!(tell(1, 310));
        assert!(tell(3, 5000), "another led meanwhile");
    }
}
