//! What all partitions share: the directory, the flusher, the checkpoints.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base::clock::SharedClock;
use base::disk::Disk;
use commitlog::Flusher;
use commitlog::kafka::directory;
use kafka_wire::Uuid;
use tokio::sync::Notify;

use crate::Durability;
use crate::upkeep::TimedFlushes;

/// The broker's directory and its flusher.
pub(crate) struct Root {
    pub disk: Arc<dyn Disk>,
    pub clock: SharedClock,
    pub dir: PathBuf,
    pub flusher: Flusher,
    pub durability: Durability,
    /// Partitions' directories were made that no sync of the root has made durable.
    new_directories: AtomicBool,
    /// Something that the offset checkpoints hold has changed.
    pub checkpoints: Notify,
    /// Too much lies beyond the recovery points.
    pub recovery: Notify,
    /// Bytes beyond the recovery points of all partitions.
    pub beyond_recovery: AtomicU64,
    /// There may be something to compact.
    pub cleaning: Notify,
    pub timed: TimedFlushes,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Root {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        clock: SharedClock,
        dir: PathBuf,
        flusher: Flusher,
        durability: Durability,
    ) -> Arc<Self> {
        let new_directories = AtomicBool::new(false);
        Arc::new(Self {
            disk,
            clock,
            dir,
            flusher,
            durability,
            new_directories,
            checkpoints: Notify::new(),
            recovery: Notify::new(),
            beyond_recovery: AtomicU64::new(0),
            cleaning: Notify::new(),
            timed: TimedFlushes::default(),
        })
    }

    /// Where a partition's files are.
    pub(crate) fn partition_dir(&self, topic: &str, index: i32) -> PathBuf {
        self.dir.join(format!("{topic}-{index}"))
    }

    /// Renames a partition's directory to `<name>.<32 digits>-<suffix>`.
    pub(crate) fn put_aside(&self, path: &Path, suffix: &str) -> io::Result<PathBuf> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let id = Uuid::new_v4().simple().to_string();
        let to = path.with_file_name(directory::aside_name(&name, &id, suffix));
        self.disk.rename(path, &to)?;
        Ok(to)
    }

    /// A partition's directory was made: the next flush of any partition makes its name durable.
    pub(crate) fn note_new_directory(&self) {
        self.new_directories.store(true, Ordering::Release);
    }

    /// Makes the names of new directories durable; one sync serves all that were made since the last.
    pub(crate) fn sync_new_directories(&self) -> io::Result<()> {
        if self.new_directories.swap(false, Ordering::AcqRel) {
            self.disk.sync_dir(&self.dir).inspect_err(|_| self.note_new_directory())?;
        }
        Ok(())
    }

    /// Has the checkpoints written soon.
    pub(crate) fn checkpoints_due(&self) {
        self.checkpoints.notify_one();
    }
}
