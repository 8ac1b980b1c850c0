//! What goes between this member and the others, counted for `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

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
