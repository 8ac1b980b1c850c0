//! Workers over a queue: a key at a time, back later when it failed.

use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use api_client::{Failure, WorkQueue};
use base::task::{TaskKind, Tasks};

use crate::execute::Error;

/// Keys of one controller in work at once (upstream's `--concurrent-...-syncs`).
pub(crate) const WORKERS: usize = 5;

/// What a round says: look again after so many milliseconds, or not before something changes.
pub(crate) type Round = Result<Option<i64>, Error>;

/// Starts `count` workers that hand keys to `work`.
pub(crate) fn start<K, F, W>(tasks: &Tasks, name: &'static str, count: usize, queue: &WorkQueue<K>, work: W)
where
    K: Clone + Eq + Hash + Ord + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Round> + Send,
    W: Fn(K) -> F + Clone + Send + Sync + 'static,
{
    for _ in 0..count {
        let (queue, work, token) = (queue.clone(), work.clone(), tasks.token());
        tasks.spawn(TaskKind::Service, name, async move {
            loop {
                let key = tokio::select! {
                    () = token.cancelled() => return Ok::<(), std::convert::Infallible>(()),
                    key = queue.next() => key,
                };
                settle(name, &queue, &key, work(key.clone()).await);
            }
        });
    }
}

fn settle<K: Clone + Eq + Hash + Ord + std::fmt::Debug>(
    name: &str,
    queue: &WorkQueue<K>,
    key: &K,
    result: Round,
) {
    match result {
        Ok(again) => {
            if let Some(after_ms) = again {
                let wait = Duration::from_millis(u64::try_from(after_ms).unwrap_or_default());
                queue.add_after(key.clone(), wait);
            }
            queue.done(key);
        }
        Err(error) => {
            if error.failure() == Failure::Conflict {
                tracing::debug!(controller = name, ?key, %error, "somebody wrote first; looking again");
            } else {
                tracing::info!(controller = name, ?key, %error, "plan not carried out; trying again");
            }
            queue.failed(key);
        }
    }
}
