//! What all partitions share: the log directories, the flusher, what is due.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use base::clock::SharedClock;
use commitlog::kafka::directory;
use commitlog::{Error, Flusher};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Durability;
use crate::log_dir::{LogDir, Troubles};
use crate::upkeep::{Removals, TimedFlushes};

/// How many partitions that are not made yet may have a directory chosen for them.
const PREFERRED_MAX: usize = 10_000;

/// The broker's directories and their flusher.
pub(crate) struct Root {
    /// In the order of `log.dirs`.
    pub dirs: Vec<Arc<LogDir>>,
    pub clock: SharedClock,
    pub flusher: Flusher,
    pub durability: Durability,
    /// Directories and partitions that have failed.
    pub troubles: Arc<Troubles>,
    /// Something that the offset checkpoints hold has changed.
    pub checkpoints: Notify,
    /// Too much lies beyond the recovery points.
    pub recovery: Notify,
    /// Bytes beyond the recovery points of all partitions.
    pub beyond_recovery: AtomicU64,
    /// There may be something to compact.
    pub cleaning: Notify,
    pub timed: TimedFlushes,
    /// A partition is to move to another directory.
    pub moves: Notify,
    pub removals: Removals,
    /// Where partitions go that are not made yet (AlterReplicaLogDirs came first).
    preferred: Mutex<HashMap<(String, i32), PathBuf>>,
}

/// Where a partition's log is or is to be.
pub(crate) struct Located {
    pub dir: Arc<LogDir>,
    /// Whether it is there already.
    pub known: bool,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("dirs", &self.dirs).finish_non_exhaustive()
    }
}

impl Root {
    pub(crate) fn new(
        dirs: Vec<Arc<LogDir>>,
        troubles: Arc<Troubles>,
        clock: SharedClock,
        flusher: Flusher,
        durability: Durability,
    ) -> Arc<Self> {
        Arc::new(Self {
            dirs,
            clock,
            flusher,
            durability,
            troubles,
            checkpoints: Notify::new(),
            recovery: Notify::new(),
            beyond_recovery: AtomicU64::new(0),
            cleaning: Notify::new(),
            timed: TimedFlushes::default(),
            moves: Notify::new(),
            removals: Removals::default(),
            preferred: Mutex::default(),
        })
    }

    /// The directories that work.
    pub(crate) fn online(&self) -> impl Iterator<Item = &Arc<LogDir>> {
        self.dirs.iter().filter(|dir| dir.is_online())
    }

    /// Directories that do not.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Arc<LogDir>> {
        self.dirs.iter().filter(|dir| !dir.is_online())
    }

    /// Whether there is a directory for new partitions.
    pub(crate) fn takes_partitions(&self) -> bool {
        self.online().any(|dir| !dir.is_cordoned())
    }

    /// The directory with this path.
    pub(crate) fn dir(&self, path: &Path) -> Option<&Arc<LogDir>> {
        self.dirs.iter().find(|dir| dir.path == path)
    }

    /// The directory that holds a partition, or the one that a new partition goes to: what was asked for, else the one
    /// with the fewest logs that is not cordoned (`LogManager.nextLogDirs`). `lost` are directories that are not there and may hold it.
    pub(crate) fn locate(&self, name: &str, index: i32, id: &str, lost: &str) -> Result<Located, Error> {
        for dir in self.online() {
            let path = dir.partition_dir(name, index);
            if !dir.disk.exists(&path) {
                continue;
            }
            if directory::topic_id(&*dir.disk, &path).is_none_or(|found| found == id) {
                return Ok(Located { dir: dir.clone(), known: true });
            }
            dir.put_aside(&path, "stray").map_err(|source| Error::Io { path, source })?;
        }
        let refuse = |text: String| {
            let path = PathBuf::from(format!("{name}-{index}"));
            Err(Error::Io { path, source: io::Error::other(text) })
        };
        if !lost.is_empty() {
            return refuse(format!("not made anew because log directories {lost} are offline"));
        }
        let wanted = self.preferred.lock().remove(&(name.to_owned(), index));
        let wanted = wanted.and_then(|path| self.dir(&path)).filter(|dir| dir.is_online());
        // Where all are cordoned, who asked was told so; what is made all the same (by an assignment) has to be somewhere.
        match wanted.or_else(|| self.online().min_by_key(|dir| (dir.is_cordoned(), dir.logs()))) {
            Some(dir) => Ok(Located { dir: dir.clone(), known: false }),
            None => refuse("all log directories are offline".to_owned()),
        }
    }

    /// Remembers where a partition goes once it is made.
    pub(crate) fn prefer(&self, topic: &str, index: i32, dir: &Path) {
        let mut preferred = self.preferred.lock();
        if preferred.len() < PREFERRED_MAX {
            preferred.insert((topic.to_owned(), index), dir.to_owned());
        }
    }

    /// Has the checkpoints written soon.
    pub(crate) fn checkpoints_due(&self) {
        self.checkpoints.notify_one();
    }
}
