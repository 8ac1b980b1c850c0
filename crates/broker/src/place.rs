//! What stands in a partition's place: the partition, or why it is not served.
//!
//! ```text
//! after a clean stop  ─▶ asleep ── first use, or the waker behind the start ──▶ served | offline
//! after a crash, new  ────────────────────────── opened at once ──────────────▶ served | offline
//! ```
//! A partition that sleeps costs no file and no look at its directory. It can, because a clean stop left everything where
//! the checkpoints say it is; it is opened exactly once, by whoever needs it first, and the others wait for that.

use std::sync::{Arc, OnceLock};

use commitlog::kafka::{PartitionLog, PartitionOptions, directory};
use commitlog::{Error, Offset, OpenFrom};
use kafka_wire::Uuid;
use parking_lot::Mutex;

use crate::log_dir::LogDir;
use crate::names;
use crate::partition::{Home, Partition};
use crate::root::{Located, Root};

/// What the checkpoints say of a log, kept for the next start while the log itself is out of reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// Where the log is, where that is known.
    pub dir: Option<Arc<LogDir>>,
    pub recovery_point: Option<Offset>,
    pub log_start: Option<Offset>,
    /// The high watermark, where it is known without the log.
    pub high_watermark: Option<Offset>,
}

/// A partition's place in its topic. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    /// The partition, or what is known of one that is offline.
    opened: OnceLock<Result<Arc<Partition>, Marks>>,
    /// While it sleeps. Locked while it is opened.
    asleep: Mutex<Option<Box<Asleep>>>,
}

/// What a partition that sleeps is opened with.
#[derive(Debug)]
struct Asleep {
    recipe: Recipe,
    marks: Marks,
}

/// What is known of a partition that is not open.
pub(crate) enum Seen {
    Open(Arc<Partition>),
    Away(Marks),
}

impl Place {
    /// Of a partition that was opened, or is offline: its directory could not be opened, the next start tries again.
    pub(crate) fn new(opened: Result<Arc<Partition>, Marks>) -> Self {
        Self(Arc::new(Slot { opened: opened.into(), asleep: Mutex::default() }))
    }

    /// Of one that is opened when it is needed.
    pub(crate) fn asleep(recipe: Recipe, marks: Marks) -> Self {
        let asleep = Mutex::new(Some(Box::new(Asleep { recipe, marks })));
        Self(Arc::new(Slot { opened: OnceLock::new(), asleep }))
    }

    /// The partition, where it is served. One that sleeps is opened: a few reads of small files.
    pub(crate) fn served(&self) -> Option<&Arc<Partition>> {
        self.wake().as_ref().ok()
    }

    /// The partition, where it is open already.
    pub(crate) fn open(&self) -> Option<&Arc<Partition>> {
        self.0.opened.get()?.as_ref().ok()
    }

    /// Whether it is known that it cannot be opened.
    pub(crate) fn is_offline(&self) -> bool {
        matches!(self.0.opened.get(), Some(Err(_)))
    }

    fn wake(&self) -> &Result<Arc<Partition>, Marks> {
        self.0.opened.get_or_init(|| {
            // Held over the opening: who looks for what it is opened with waits for the partition.
            let mut asleep = self.0.asleep.lock();
            let Some(Asleep { recipe, marks }) = asleep.take().map(|asleep| *asleep) else {
                // The topic was deleted while it slept.
                return Err(Marks::default());
            };
            recipe.open().map_err(|error| {
                recipe.tell_offline(&error);
                marks
            })
        })
    }

    /// The partition or the marks, without opening anything.
    pub(crate) fn look(&self) -> Seen {
        if self.0.opened.get().is_none()
            && let Some(asleep) = &*self.0.asleep.lock()
        {
            return Seen::Away(asleep.marks.clone());
        }
        match self.wake() {
            Ok(partition) => Seen::Open(partition.clone()),
            Err(marks) => Seen::Away(marks.clone()),
        }
    }

    /// Changes how the log is laid out and flushed.
    pub(crate) fn configure(&self, layout: PartitionOptions, flush_ms: i64) {
        if let Some(asleep) = &mut *self.0.asleep.lock() {
            (asleep.recipe.layout, asleep.recipe.flush_ms) = (layout, flush_ms);
            return;
        }
        if let Ok(partition) = self.wake() {
            partition.set_layout(layout);
            partition.set_flush_ms(flush_ms);
        }
    }

    /// The partition is no more; one that sleeps never wakes.
    pub(crate) fn retire(&self) {
        drop(self.0.asleep.lock().take());
        if let Ok(partition) = self.wake() {
            partition.mark_deleted();
        }
    }
}

/// What a partition is opened or made with.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub root: Arc<Root>,
    pub topic: Arc<str>,
    pub index: i32,
    pub id: Uuid,
    pub layout: PartitionOptions,
    pub flush_ms: i64,
    /// The directories that held it when the broker started: how it was left there, and its first readable offset.
    pub left: Vec<(Arc<LogDir>, OpenFrom, Offset)>,
    /// Directories that may hold it and are not there: it is not made anew then.
    pub lost: String,
}

impl Recipe {
    /// Opens the partition's directory, or makes it. A directory of another topic of the same name is put aside.
    pub(crate) fn open(&self) -> Result<Arc<Partition>, Error> {
        let (root, id) = (&self.root, names::base64url(&self.id));
        let failed = self.left.iter().find(|(dir, ..)| !dir.is_online());
        let lost = failed.map_or(self.lost.clone(), |(dir, ..)| dir.path.display().to_string());
        let Located { dir, known } = root.locate(&self.topic, self.index, &id, &lost)?;
        let (disk, path) = (dir.disk.clone(), dir.partition_dir(&self.topic, self.index));
        let left = self.left.iter().find(|(left, ..)| known && Arc::ptr_eq(left, &dir));
        let (from, start) = left.map_or((OpenFrom::Clean, Offset(0)), |(_, from, start)| (*from, *start));
        let (log, recovery) = PartitionLog::open(disk.clone(), &path, self.layout, from, start)?;
        if recovery.cut_bytes > 0 {
            let (bytes, end) = (recovery.cut_bytes, log.log().end());
            tracing::warn!(topic = %self.topic, partition = self.index, bytes, %end, "cut a torn tail");
        }
        if known && names::is_internal(&self.topic) {
            // Coordinators read their topics up to the high watermark as soon as they start.
            log.log().flush()?;
        }
        if !known || directory::topic_id(&*disk, &path).is_none() {
            // A power cut may have kept the directory of a new partition and nothing in it.
            directory::write_topic_id(&*disk, &path, &id).map_err(|source| Error::Io { path, source })?;
        }
        if !known {
            dir.note_new_directory();
            dir.note_log();
        }
        let partition = Partition::new(self.topic.clone(), self.index, Home { log, dir }, root);
        partition.set_flush_ms(self.flush_ms);
        partition.note_recovered(recovery.verified_bytes);
        Ok(partition)
    }

    /// Says that the directory cannot be opened.
    pub(crate) fn tell_offline(&self, error: &Error) {
        tracing::error!(topic = %self.topic, partition = self.index, %error,
            "partition is offline: its directory cannot be opened; the next start tries again");
    }
}
