//! What keeps the logs in shape, off the path of requests. Every task sleeps until something calls it.
//!
//! ```text
//! append ─┬─ many bytes since the last checkpoint ─▶ recovery ─▶ flush, indexes, snapshot ─▶ offset checkpoints
//!         ├─ some bytes in the page cache ─────────▶ flusher: writeback begins
//!         ├─ flush.ms ─────────────────────────────▶ timed flush
//!         └─ a segment was sealed ─────────────────▶ cleaner (compacted topics)
//! disk   ── a directory or a partition's files fail ──▶ failures: partitions go offline
//! admin  ── a partition is to be elsewhere ──▶ moves; a topic's directories go a while after it ──▶ removals
//! clock  ──────────────────────────────────────────▶ retention
//! start  ──────────────────────────────────────────▶ partitions that a clean stop left asleep are opened
//! ```

mod cleaner;
mod due;
mod failures;
mod moves;
mod recovery;
mod removals;
mod retention;
mod timed_flush;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::task::{TaskKind, Tasks};

use crate::Error;
use crate::api::Broker;
use crate::log_dir::LogDir;

pub(crate) use recovery::{PARTITION_BYTES_MAX, TOTAL_BYTES_MAX, WRITEBACK_BYTES, Writeback};
pub(crate) use removals::Removals;
pub(crate) use timed_flush::TimedFlushes;

/// Starts all of it.
pub(crate) fn start(broker: &Arc<Broker>, tasks: &Tasks) {
    let (catalog, stop) = (broker.catalog.clone(), tasks.token());
    tasks.spawn(TaskKind::Service, "kafka-wake", async move {
        let waking = tokio::task::spawn_blocking(move || catalog.wake_all(&|| stop.is_cancelled()));
        // What is left asleep is opened when it is needed.
        waking.await.unwrap_or_else(|error| tracing::error!(%error, "opening partitions panicked"));
        Ok::<_, Error>(())
    });
    let keep = broker.clone();
    tasks.spawn(TaskKind::Critical, "kafka-log-dirs", failures::keep(keep, tasks.token()));
    let keep = broker.clone();
    tasks.spawn(TaskKind::Service, "kafka-moves", moves::keep(keep, tasks.token()));
    let keep = broker.clone();
    tasks.spawn(TaskKind::Service, "kafka-remove-dirs", removals::keep(keep, tasks.token()));
    let keep = broker.clone();
    tasks.spawn(TaskKind::Service, "kafka-recovery", recovery::keep(keep, tasks.token()));
    let keep = broker.clone();
    tasks.spawn(TaskKind::Service, "kafka-checkpoints", recovery::keep_checkpoints(keep, tasks.token()));
    let keep = broker.clone();
    tasks.spawn(TaskKind::Service, "kafka-retention", retention::keep(keep, tasks.clone()));
    let keep = broker.clone();
    tasks.spawn(TaskKind::Service, "kafka-cleaner", cleaner::keep(keep, tasks.clone()));
    let keep = broker.clone();
    tasks.spawn(TaskKind::Service, "kafka-timed-flush", timed_flush::keep(keep, tasks.token()));
}

/// Removes retired files once nobody can still be reading them.
pub(crate) fn remove_later(dir: &Arc<LogDir>, tasks: &Tasks, files: Vec<PathBuf>, delay: Duration) {
    let (disk, stop) = (dir.disk.clone(), tasks.token());
    tasks.spawn(TaskKind::Service, "kafka-remove", async move {
        tokio::select! {
            // What stays behind goes when the partition is opened again.
            () = stop.cancelled() => return Ok::<_, Error>(()),
            () = tokio::time::sleep(delay) => {}
        }
        for file in files {
            // Gone already when the topic was deleted meanwhile.
            if let Err(error) = disk.remove_file(&file) {
                tracing::debug!(file = %file.display(), %error, "retired file not removed");
            }
        }
        Ok(())
    });
}
