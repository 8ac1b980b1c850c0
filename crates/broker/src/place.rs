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

use crate::names;
use crate::partition::Partition;
use crate::root::Root;

/// What the checkpoints say of a log, kept for the next start while the log itself is out of reach.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
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
            return Seen::Away(asleep.marks);
        }
        match self.wake() {
            Ok(partition) => Seen::Open(partition.clone()),
            Err(marks) => Seen::Away(*marks),
        }
    }

    /// Changes how the log is laid out and flushed.
    pub(crate) fn configure(&self, layout: PartitionOptions, flush_ms: i64) {
        if let Some(asleep) = &mut *self.0.asleep.lock() {
            (asleep.recipe.layout, asleep.recipe.flush_ms) = (layout, flush_ms);
            return;
        }
        if let Ok(partition) = self.wake() {
            partition.log().set_options(layout);
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
    /// How the directory was left and its first readable offset, should there be one.
    pub left: (OpenFrom, Offset),
}

impl Recipe {
    /// Opens the partition's directory, or makes it. A directory of another topic of the same name is put aside.
    pub(crate) fn open(&self) -> Result<Arc<Partition>, Error> {
        let (root, disk) = (&self.root, &self.root.disk);
        let dir = root.partition_dir(&self.topic, self.index);
        let io = |source| Error::Io { path: dir.clone(), source };
        let id = names::base64url(&self.id);
        let mut known = disk.exists(&dir);
        if known && directory::topic_id(&**disk, &dir).is_some_and(|found| found != id) {
            root.put_aside(&dir, "stray").map_err(io)?;
            known = false;
        }
        let (from, start) = if known { self.left } else { (OpenFrom::Clean, Offset(0)) };
        let (log, recovery) = PartitionLog::open(disk.clone(), &dir, self.layout, from, start)?;
        if recovery.cut_bytes > 0 {
            let (bytes, end) = (recovery.cut_bytes, log.log().end());
            tracing::warn!(topic = %self.topic, partition = self.index, bytes, %end, "cut a torn tail");
        }
        if known {
            if names::is_internal(&self.topic) {
                // Coordinators read their topics up to the high watermark as soon as they start.
                log.log().flush()?;
            }
        } else {
            directory::write_topic_id(&**disk, &dir, &id).map_err(io)?;
            root.note_new_directory();
        }
        let partition = Partition::new(self.topic.clone(), self.index, log, root);
        partition.set_flush_ms(self.flush_ms);
        partition.note_recovered(recovery.verified_bytes);
        Ok(partition)
    }

    /// Says that the directory cannot be opened.
    pub(crate) fn tell_offline(&self, error: &Error) {
        let dir = self.root.partition_dir(&self.topic, self.index);
        tracing::error!(topic = %self.topic, partition = self.index, dir = %dir.display(), %error,
            "partition is offline: its directory cannot be opened; the next start tries again");
    }
}
