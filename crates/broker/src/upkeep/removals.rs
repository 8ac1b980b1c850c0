//! Directories that were put aside (`-delete`) go a while later, so that who still reads from them is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::api::Broker;
use crate::log_dir::LogDir;

/// Directories to remove, by when they are due. What a stop leaves behind is found by the next start.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    due: Mutex<BTreeMap<(Instant, PathBuf), Arc<LogDir>>>,
    earlier: Notify,
}

impl Removals {
    /// Has `path`, which is in `dir`, removed after `delay`.
    pub(crate) fn add(&self, dir: &Arc<LogDir>, path: PathBuf, delay: Duration) {
        let now = Instant::now();
        // For ever is long enough.
        let at = now.checked_add(delay).unwrap_or(now + Duration::from_secs(u64::from(u32::MAX)));
        let mut due = self.due.lock();
        let first = due.first_key_value().is_none_or(|((next, _), _)| at < *next);
        due.insert((at, path), dir.clone());
        drop(due);
        if first {
            self.earlier.notify_one();
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.lock().first_key_value().map(|((at, _), _)| *at)
    }

    fn take(&self, now: Instant) -> Vec<(PathBuf, Arc<LogDir>)> {
        let mut due = self.due.lock();
        let mut taken = Vec::new();
        while let Some(entry) = due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, path), dir) = entry.remove_entry();
            taken.push((path, dir));
        }
        taken
    }
}

/// Removes directories when they are due.
pub(super) async fn keep(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    let removals = &broker.catalog.root.removals;
    loop {
        let next = removals.next();
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = removals.earlier.notified() => continue,
            () = sleep => {}
        }
        let taken = removals.take(Instant::now());
        let removed =
            tokio::task::spawn_blocking(move || taken.iter().for_each(|(path, dir)| remove(path, dir)));
        if let Err(error) = removed.await {
            tracing::error!(%error, "removing directories panicked");
        }
    }
}

fn remove(path: &Path, dir: &LogDir) {
    if let Err(error) = dir.disk.remove_dir_all(path) {
        tracing::warn!(dir = %path.display(), %error, "directory not removed; the next start tries again");
    }
}
