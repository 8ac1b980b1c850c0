//! Directories that were put aside (`-delete`) go a while later, so that who still reads from them is done.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::due::Due;
use crate::Error;
use crate::api::Broker;
use crate::log_dir::LogDir;

/// Directories to remove, by when they are due. What a stop leaves behind is found by the next start.
pub(crate) type Removals = Due<PathBuf, Arc<LogDir>>;

impl Removals {
    /// Has `path`, which is in `dir`, removed after `delay`.
    pub(crate) fn add(&self, dir: &Arc<LogDir>, path: PathBuf, delay: Duration) {
        let now = Instant::now();
        // For ever is long enough.
        let at = now.checked_add(delay).unwrap_or(now + Duration::from_secs(u64::from(u32::MAX)));
        self.insert(at, path, dir.clone());
    }
}

/// Removes directories when they are due.
pub(super) async fn keep(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    loop {
        let taken = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            taken = broker.catalog.root.removals.next() => taken,
        };
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
