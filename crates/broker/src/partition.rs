//! A partition as the broker serves it: its log, how far clients may read, and who waits for more.
//!
//! ```text
//! produce ──▶ append ──▶ log                 fsync:       flusher ──▶ high watermark = flushed ──▶ wake waiters
//!                         └ page cache: high watermark = end at once ──▶ wake waiters
//! ```

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use commitlog::kafka::{AppendError, AppendInfo, PartitionLog};
use commitlog::{Error, Flush, FlushError, Flusher, Offset};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::root::Root;
use crate::{Durability, upkeep};

/// Stale waiters are swept out when the list has grown this much.
const SWEEP_AT_LEAST: usize = 32;

/// A partition. Shared by the catalog and by requests under way.
#[derive(Debug)]
pub(crate) struct Partition {
    pub topic: Arc<str>,
    pub index: i32,
    log: Arc<PartitionLog>,
    root: Arc<Root>,
    flusher: Flusher,
    durability: Durability,
    high_watermark: AtomicI64,
    /// Records since the last flush was asked for (`flush.messages`).
    unflushed_records: AtomicI64,
    /// `flush.ms`.
    flush_ms: AtomicI64,
    /// Whether the flush of `flush_ms` is on its way.
    timed: AtomicBool,
    /// Bytes since the last checkpoint.
    beyond_recovery: AtomicU64,
    /// Bytes since writeback was last begun.
    dirty: AtomicU64,
    deleted: AtomicBool,
    waiters: Mutex<Vec<Weak<Notify>>>,
}

/// How a flush that was waited for ended.
pub(crate) type Flushed = oneshot::Receiver<Result<(), FlushError>>;

impl Partition {
    pub(crate) fn new(topic: Arc<str>, index: i32, log: PartitionLog, root: &Arc<Root>) -> Arc<Self> {
        // Consumers may see what recovery found once it is durable, where that is promised.
        let visible = match root.durability {
            Durability::Fsync => log.log().flushed(),
            Durability::PageCache => log.log().end(),
        };
        let high_watermark = AtomicI64::new(visible.get());
        Arc::new(Self {
            topic,
            index,
            log: Arc::new(log),
            root: root.clone(),
            flusher: root.flusher.clone(),
            durability: root.durability,
            high_watermark,
            unflushed_records: AtomicI64::new(0),
            flush_ms: AtomicI64::new(i64::MAX),
            timed: AtomicBool::new(false),
            beyond_recovery: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            waiters: Mutex::default(),
        })
    }

    /// The log, for reads and lookups.
    pub(crate) fn log(&self) -> &PartitionLog {
        &self.log
    }

    /// Consumers see what lies below.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Readers of committed records see what lies below.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        self.log.last_stable_offset(self.high_watermark())
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.log.log().start()
    }

    pub(crate) fn leader_epoch(&self) -> i32 {
        self.log.leader_epoch()
    }

    /// The wall clock, milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.root.clock.unix_ms()
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The partition is no more: whoever waits for it is told to look.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        let bytes = self.beyond_recovery.swap(0, Ordering::Relaxed);
        self.root.beyond_recovery.fetch_sub(bytes, Ordering::Relaxed);
        self.wake();
    }

    /// Appends one validated batch; `wait` asks for a receiver that resolves when it is durable (in page-cache mode it is
    /// as durable as it gets at once, and there is none).
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: &mut [u8],
        records: i64,
        flush_records: i64,
        wait: bool,
    ) -> Result<(AppendInfo, Option<Flushed>), AppendError> {
        let info = match self.append_once(batch) {
            // A flush failed earlier and its repair did too: the disk may work again by now.
            Err(AppendError::Log(Error::Fenced)) if self.durability == Durability::Fsync => {
                self.log.cut_unflushed()?;
                self.append_once(batch)?
            }
            appended => appended?,
        };
        if info.rolled {
            self.root.checkpoints_due();
            self.root.cleaning.notify_one();
        }
        if !info.duplicate {
            self.count_bytes(batch.len() as u64);
        }
        let durable = self.log.log().flushed() > info.last_offset;
        let unflushed = self.unflushed_records.fetch_add(records, Ordering::Relaxed) + records;
        let flush = match self.durability {
            Durability::Fsync => !durable,
            Durability::PageCache => {
                self.advance(self.log.log().end());
                info.rolled || unflushed >= flush_records
            }
        };
        let wait = wait && flush && (self.durability == Durability::Fsync || unflushed >= flush_records);
        if !flush {
            return Ok((info, None));
        }
        self.unflushed_records.store(0, Ordering::Relaxed);
        Ok((info, self.request_flush(wait)))
    }

    /// Counts what a restart would have to verify and what writeback has not begun on; two relaxed additions a batch.
    fn count_bytes(self: &Arc<Self>, bytes: u64) {
        let passes = |before: u64, limit: u64| before < limit && before + bytes >= limit;
        let mine = self.beyond_recovery.fetch_add(bytes, Ordering::Relaxed);
        let all = self.root.beyond_recovery.fetch_add(bytes, Ordering::Relaxed);
        if passes(mine, upkeep::PARTITION_BYTES_MAX) || passes(all, upkeep::TOTAL_BYTES_MAX) {
            self.root.recovery.notify_one();
        }
        if self.durability == Durability::Fsync {
            return;
        }
        if self.dirty.fetch_add(bytes, Ordering::Relaxed) + bytes >= upkeep::WRITEBACK_BYTES {
            self.dirty.store(0, Ordering::Relaxed);
            self.flusher.request(Arc::new(upkeep::Writeback(self.clone())), Box::new(drop));
        }
        let flush_ms = self.flush_ms.load(Ordering::Relaxed);
        if flush_ms < i64::MAX && !self.timed.swap(true, Ordering::AcqRel) {
            self.root.timed.add(self, Duration::from_millis(flush_ms.max(0) as u64));
        }
    }

    /// `flush.ms` has passed.
    pub(crate) fn flush_now(self: &Arc<Self>) {
        // First: what is appended from here on may miss this flush and gets the next.
        self.timed.store(false, Ordering::Release);
        self.unflushed_records.store(0, Ordering::Relaxed);
        self.request_flush(false);
    }

    /// Changes `flush.ms`.
    pub(crate) fn set_flush_ms(&self, flush_ms: i64) {
        self.flush_ms.store(flush_ms, Ordering::Relaxed);
    }

    /// Bytes that a restart after a crash would verify.
    pub(crate) fn beyond_recovery_point(&self) -> u64 {
        self.beyond_recovery.load(Ordering::Relaxed)
    }

    /// What recovery had to verify counts until the next checkpoint.
    pub(crate) fn note_recovered(&self, bytes: u64) {
        self.beyond_recovery.fetch_add(bytes, Ordering::Relaxed);
        self.root.beyond_recovery.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Moves the recovery point up; false when that failed. Blocks.
    pub(crate) fn checkpoint(&self) -> bool {
        let bytes = self.beyond_recovery.swap(0, Ordering::Relaxed);
        self.root.beyond_recovery.fetch_sub(bytes, Ordering::Relaxed);
        let named = self
            .root
            .sync_new_directories()
            .map_err(|source| Error::Io { path: self.root.dir.clone(), source });
        match named.and_then(|()| self.log.checkpoint()) {
            Ok(end) => {
                self.advance(end);
                true
            }
            Err(error) => {
                if !self.is_deleted() {
                    self.note_recovered(bytes);
                    tracing::warn!(topic = %self.topic, partition = self.index, %error, "no checkpoint");
                }
                false
            }
        }
    }

    fn append_once(&self, batch: &mut [u8]) -> Result<AppendInfo, AppendError> {
        self.log.append(batch, self.log.leader_epoch(), self.now_ms())
    }

    /// Asks the flusher; with `wait`, for a receiver too.
    pub(crate) fn request_flush(self: &Arc<Self>, wait: bool) -> Option<Flushed> {
        if !wait {
            self.flusher.request(self.clone(), Box::new(drop));
            return None;
        }
        let (tell, told) = oneshot::channel();
        // A client that went away no longer listens.
        self.flusher.request(self.clone(), Box::new(move |result| drop(tell.send(result))));
        Some(told)
    }

    fn advance(&self, to: Offset) {
        if self.high_watermark.fetch_max(to.get(), Ordering::AcqRel) < to.get() {
            self.wake();
        }
    }

    fn wake(&self) {
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters.iter().filter_map(Weak::upgrade) {
            waiter.notify_one();
        }
    }

    /// Has `waiter` notified (once) when there is more to read. Look again after registering.
    pub(crate) fn wait(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.waiters.lock();
        if waiters.len() >= SWEEP_AT_LEAST && waiters.len() == waiters.capacity() {
            waiters.retain(|w| w.strong_count() > 0);
        }
        waiters.push(Arc::downgrade(waiter));
    }
}

impl Flush for Partition {
    fn begin(&self) {
        if !self.is_deleted() {
            self.log.log().start_writeback();
        }
    }

    /// Runs on the flusher's thread.
    fn flush(&self) -> io::Result<()> {
        if self.is_deleted() {
            // Its files may be gone already; nobody is promised anything any more.
            return Err(io::Error::new(io::ErrorKind::NotFound, "the partition was deleted"));
        }
        self.root.sync_new_directories()?;
        match self.log.log().flush() {
            Ok(end) => {
                self.advance(end);
                Ok(())
            }
            Err(error) => {
                tracing::error!(topic = %self.topic, partition = self.index, %error, "flush failed");
                // The kernel forgets pages it could not write: what was not durable is cut, so that the log and the
                // disk agree again and the producers' retries land where they belong.
                if self.durability == Durability::Fsync
                    && let Err(error) = self.log.cut_unflushed()
                {
                    tracing::error!(topic = %self.topic, partition = self.index, %error, "log stays fenced");
                }
                Err(io::Error::other(error))
            }
        }
    }
}
