//! Things to do at a time, the earliest first.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Things by when they are due. One thing may wait several times, for different times.
#[derive(Debug)]
pub(crate) struct Due<K, V> {
    due: Mutex<BTreeMap<(Instant, K), V>>,
    earlier: Notify,
}

impl<K: Ord, V> Default for Due<K, V> {
    fn default() -> Self {
        Self { due: Mutex::default(), earlier: Notify::new() }
    }
}

impl<K: Ord, V> Due<K, V> {
    /// Has `value` told at `at`.
    pub(super) fn insert(&self, at: Instant, key: K, value: V) {
        let mut due = self.due.lock();
        let first = due.first_key_value().is_none_or(|((next, _), _)| at < *next);
        due.insert((at, key), value);
        drop(due);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Waits until something is due; all that is by then, at least one.
    pub(super) async fn next(&self) -> Vec<(K, V)> {
        loop {
            let next = self.due.lock().first_key_value().map(|((at, _), _)| *at);
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.earlier.notified() => {}
                () = sleep => {
                    let taken = self.take(Instant::now());
                    if !taken.is_empty() {
                        return taken;
                    }
                }
            }
        }
    }

    fn take(&self, now: Instant) -> Vec<(K, V)> {
        let mut due = self.due.lock();
        let mut taken = Vec::new();
        while let Some(entry) = due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, key), value) = entry.remove_entry();
            taken.push((key, value));
        }
        taken
    }
}
