//! A work queue: each key at most once in it and at most once in work, with a pause that grows with its failures.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a key waits after failures: `base * 2^failures`, at most `max`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    /// Upstream's `DefaultControllerRateLimiter`: 5 ms doubling to 1,000 s.
    fn default() -> Self {
        Self { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

impl Backoff {
    fn after(&self, failures: u32) -> Duration {
        self.base.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.max)
    }
}

/// A queue of keys. A key that is added while it is in work is handed out again when that work is done.
#[derive(Debug)]
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    backoff: Backoff,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    working: HashSet<K>,
    dirty: HashSet<K>,
    later: BTreeMap<Instant, BTreeSet<K>>,
    failures: HashMap<K, u32>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new(Backoff::default())
    }
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    /// An empty queue.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            working: HashSet::new(),
            dirty: HashSet::new(),
            later: BTreeMap::new(),
            failures: HashMap::new(),
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), wake: Notify::new(), backoff }) }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key unless it waits already.
    pub fn add(&self, key: K) {
        if self.state().add(key) {
            self.inner.wake.notify_one();
        }
    }

    /// Adds a key after a while.
    pub fn add_after(&self, key: K, wait: Duration) {
        self.state().later.entry(Instant::now() + wait).or_default().insert(key);
        self.inner.wake.notify_one();
    }

    /// The next key; it counts as in work until [`WorkQueue::done`] or [`WorkQueue::failed`].
    pub async fn next(&self) -> K {
        loop {
            let deadline = {
                let mut state = self.state();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.inner.wake.notify_one();
                    }
                    return key;
                }
                state.later.keys().next().copied()
            };
            let woken = self.inner.wake.notified();
            match deadline {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, woken).await;
                }
                None => woken.await,
            }
        }
    }

    /// The work on a key succeeded: its failures are forgotten.
    pub fn done(&self, key: &K) {
        self.state().failures.remove(key);
        self.finish(key);
    }

    /// The work on a key failed: it comes back after a pause that doubles with each failure in a row.
    pub fn failed(&self, key: &K) {
        let wait = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_default();
            let wait = self.inner.backoff.after(*failures);
            *failures = failures.saturating_add(1);
            wait
        };
        self.add_after(key.clone(), wait);
        self.finish(key);
    }

    fn finish(&self, key: &K) {
        let mut state = self.state();
        state.working.remove(key);
        if state.dirty.remove(key) && state.add(key.clone()) {
            self.inner.wake.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    /// True when the key became ready.
    fn add(&mut self, key: K) -> bool {
        if self.working.contains(&key) {
            self.dirty.insert(key);
            return false;
        }
        let fresh = self.queued.insert(key.clone());
        if fresh {
            self.ready.push_back(key);
        }
        fresh
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if *entry.key() > now {
                return;
            }
            for key in entry.remove() {
                self.add(key);
            }
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_comes_back_when_it_changed_in_work() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.next().await, "b");
        queue.done(&"b");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        let nothing = tokio::time::timeout(Duration::from_millis(20), queue.next()).await;
        assert!(nothing.is_err());
    }

    #[tokio::test]
    async fn failures_pause_longer_each_time_and_success_forgets_them() {
        let queue = WorkQueue::default();
        queue.add(1);
        for least_ms in [5, 10, 20] {
            let key = queue.next().await;
            let start = Instant::now();
            queue.failed(&key);
            let key = queue.next().await;
            assert!(start.elapsed() >= Duration::from_millis(least_ms));
            queue.finish(&key);
            queue.add(key);
        }
        queue.done(&queue.next().await);
        assert!(queue.state().failures.is_empty());
        assert_eq!(Backoff::default().after(40), Duration::from_secs(1000));
    }
}
