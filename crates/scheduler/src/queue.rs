//! Pods that wait: ready ones by priority and age, failed ones with a back-off, hopeless ones until something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::cluster::uid;

/// kube-scheduler's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
const BACKOFF_FIRST_MS: i64 = 1_000;
const BACKOFF_MAX_MS: i64 = 10_000;

/// A pod taken from the queue.
#[derive(Debug, Clone)]
pub struct QueuedPod {
    pub pod: Arc<Pod>,
    pub attempts: u32,
}

/// Order in the queue: higher priority first, then who came first.
type Rank = (i64, u64, String);

/// The pods that want a node. Time enters as Unix milliseconds.
#[derive(Debug, Default)]
pub struct Queue {
    pods: BTreeMap<String, QueuedPod>,
    ranks: BTreeMap<String, Rank>,
    active: BTreeSet<Rank>,
    backoff: BTreeSet<(i64, String)>,
    unschedulable: BTreeSet<String>,
    arrivals: u64,
}

impl Queue {
    /// Adds a pod, or replaces what is known of it. A changed pod is tried again at once.
    pub fn add(&mut self, pod: Arc<Pod>) {
        let uid = uid(&pod);
        let attempts = self.pods.get(&uid).map_or(0, |q| q.attempts);
        let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
        self.detach(&uid);
        self.arrivals += 1;
        let rank = (-i64::from(priority), self.ranks.get(&uid).map_or(self.arrivals, |r| r.1), uid.clone());
        self.pods.insert(uid.clone(), QueuedPod { pod, attempts });
        self.ranks.insert(uid, rank.clone());
        self.active.insert(rank);
    }

    /// As [`Queue::add`], unless nothing that matters for placing has changed since the pod was last added: its own
    /// status (which a failed try writes) is no reason for another try.
    pub fn add_unless_same(&mut self, pod: Arc<Pod>) {
        let known = self.pods.get(&uid(&pod));
        if known.is_some_and(|q| q.pod.spec == pod.spec && q.pod.metadata.labels == pod.metadata.labels) {
            return;
        }
        self.add(pod);
    }

    /// Forgets a pod.
    pub fn remove(&mut self, uid: &str) {
        self.detach(uid);
        self.pods.remove(uid);
        self.ranks.remove(uid);
    }

    /// The next pod to try, its attempts counted up; it stays known until [`Queue::remove`].
    pub fn pop(&mut self, now_ms: i64) -> Option<QueuedPod> {
        self.promote(now_ms);
        let (_, _, uid) = self.active.pop_first()?;
        let queued = self.pods.get_mut(&uid)?;
        queued.attempts += 1;
        Some(queued.clone())
    }

    /// The pod fits nowhere: it waits for a change in the cluster.
    pub fn unschedulable(&mut self, uid: &str) {
        if self.pods.contains_key(uid) {
            self.detach(uid);
            self.unschedulable.insert(uid.to_owned());
        }
    }

    /// The attempt failed for another reason: it waits for its back-off.
    pub fn back_off(&mut self, uid: &str, now_ms: i64) {
        let Some(queued) = self.pods.get(uid) else { return };
        let wait = BACKOFF_FIRST_MS.checked_shl(queued.attempts.saturating_sub(1)).unwrap_or(BACKOFF_MAX_MS);
        self.detach(uid);
        self.backoff.insert((now_ms + wait.clamp(BACKOFF_FIRST_MS, BACKOFF_MAX_MS), uid.to_owned()));
    }

    /// Something changed that may make room: every waiting pod gets another try.
    pub fn wake_all(&mut self) {
        for uid in std::mem::take(&mut self.unschedulable) {
            self.activate(&uid);
        }
    }

    /// When the next back-off ends, Unix milliseconds.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.backoff.first().map(|(at, _)| *at)
    }

    fn promote(&mut self, now_ms: i64) {
        while self.backoff.first().is_some_and(|(at, _)| *at <= now_ms) {
            if let Some((_, uid)) = self.backoff.pop_first() {
                self.activate(&uid);
            }
        }
    }

    fn activate(&mut self, uid: &str) {
        if let Some(rank) = self.ranks.get(uid) {
            self.active.insert(rank.clone());
        }
    }

    fn detach(&mut self, uid: &str) {
        if let Some(rank) = self.ranks.get(uid) {
            self.active.remove(rank);
        }
        self.unschedulable.remove(uid);
        self.backoff.retain(|(_, other)| other != uid);
    }
}
