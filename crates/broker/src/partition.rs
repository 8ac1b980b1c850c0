//! A partition as the broker serves it: its log, how far clients may read, and who waits for more.
//!
//! ```text
//! produce ──▶ append ──▶ log                 fsync:       flusher ──▶ high watermark = flushed ──▶ wake waiters
//!                         └ page cache: high watermark = end at once ──▶ wake waiters
//! ```

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use commitlog::kafka::{AppendError, AppendInfo, Origin, PartitionLog, PartitionOptions};
use commitlog::{Error, Flush, FlushError, Flusher, Offset};
use kafka_wire::ErrorCode;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};

use crate::log_dir::LogDir;
use crate::root::Root;
use crate::{Durability, upkeep};

/// Stale waiters are swept out when the list has grown this much.
const SWEEP_AT_LEAST: usize = 32;

/// A log and the directory it is in.
#[derive(Debug)]
pub(crate) struct Home {
    pub log: PartitionLog,
    pub dir: Arc<LogDir>,
}

/// A copy of a partition's log that is on its way to another directory, and will take the log's place.
#[derive(Debug)]
pub(crate) struct FutureLog {
    pub log: PartitionLog,
    pub dir: Arc<LogDir>,
    /// Where it is until then.
    pub path: PathBuf,
    /// Whether its directory's checkpoints tell of it, rather than of the log that may have been there before.
    pub announced: AtomicBool,
}

/// A partition's log as of now; who holds it for long may hold one that the partition has moved away from.
pub(crate) struct HomeRef(arc_swap::Guard<Arc<Home>>);

impl Deref for HomeRef {
    type Target = PartitionLog;

    fn deref(&self) -> &PartitionLog {
        &self.0.log
    }
}

/// Why a partition is out of service.
const SERVED: u8 = 0;
const DELETED: u8 = 1;
const OFFLINE: u8 = 2;

/// A partition. Shared by the catalog and by requests under way.
#[derive(Debug)]
pub(crate) struct Partition {
    pub topic: Arc<str>,
    pub index: i32,
    me: Weak<Self>,
    home: ArcSwap<Home>,
    /// Held shared by what changes the log, alone by what puts another in its place.
    placing: RwLock<()>,
    future: Mutex<Option<Arc<FutureLog>>>,
    /// Held while the log is compacted: it does not move then.
    pub cleaning: Mutex<()>,
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
    state: AtomicU8,
    waiters: Mutex<Vec<Weak<Notify>>>,
}

/// How a batch is appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Append {
    /// Records it has.
    pub records: i64,
    /// `flush.messages`.
    pub flush_records: i64,
    /// Whether somebody waits until it is durable.
    pub wait: bool,
    /// Whose it is.
    pub origin: Origin,
}

/// How a flush that was waited for ended.
pub(crate) type Flushed = oneshot::Receiver<Result<(), FlushError>>;

impl Partition {
    pub(crate) fn new(topic: Arc<str>, index: i32, home: Home, root: &Arc<Root>) -> Arc<Self> {
        let log = &home.log;
        // Consumers may see what recovery found once it is durable, where that is promised.
        let visible = match root.durability {
            Durability::Fsync => log.log().flushed(),
            Durability::PageCache => log.log().end(),
        };
        let high_watermark = AtomicI64::new(visible.get());
        Arc::new_cyclic(|me| Self {
            topic,
            index,
            me: me.clone(),
            home: ArcSwap::from_pointee(home),
            placing: RwLock::default(),
            future: Mutex::default(),
            cleaning: Mutex::default(),
            root: root.clone(),
            flusher: root.flusher.clone(),
            durability: root.durability,
            high_watermark,
            unflushed_records: AtomicI64::new(0),
            flush_ms: AtomicI64::new(i64::MAX),
            timed: AtomicBool::new(false),
            beyond_recovery: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            state: AtomicU8::new(SERVED),
            waiters: Mutex::default(),
        })
    }

    /// The log, for reads and lookups.
    pub(crate) fn log(&self) -> HomeRef {
        HomeRef(self.home.load())
    }

    /// Log and directory as of now.
    pub(crate) fn home(&self) -> Arc<Home> {
        self.home.load_full()
    }

    /// The directory the log is in.
    pub(crate) fn dir(&self) -> Arc<LogDir> {
        self.home.load().dir.clone()
    }

    /// Has `read` look at the log; once more where the log has moved away meanwhile.
    pub(crate) fn with_log<T>(
        &self,
        read: impl Fn(&PartitionLog) -> commitlog::Result<T>,
    ) -> commitlog::Result<T> {
        loop {
            let home = self.home.load();
            let error = match read(&home.log) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            // A move under way is over when this is had.
            let _placed = self.placing.read();
            if Arc::ptr_eq(&home, &self.home.load()) {
                self.note_unreadable(&error);
                return Err(error);
            }
        }
    }

    /// Has `change` work on the log, which does not move meanwhile: short work only. Gives the log's directory too.
    pub(crate) fn change_log<T>(
        &self,
        change: impl FnOnce(&PartitionLog) -> commitlog::Result<T>,
    ) -> commitlog::Result<(T, Arc<LogDir>)> {
        let _placed = self.placing.read();
        let home = self.home.load();
        let changed = change(&home.log).inspect_err(|error| self.note_error(error))?;
        Ok((changed, home.dir.clone()))
    }

    /// Puts the log that `place` makes of the present one in its place; nothing is appended or flushed meanwhile.
    pub(crate) fn replace_home(
        &self,
        place: impl FnOnce(&Home) -> commitlog::Result<Home>,
    ) -> commitlog::Result<()> {
        let _placing = self.placing.write();
        let home = place(&self.home.load())?;
        let end = home.log.log().end();
        self.home.store(Arc::new(home));
        // All of it was made durable on the way.
        self.advance(end);
        Ok(())
    }

    /// The copy on its way to another directory.
    pub(crate) fn future(&self) -> Option<Arc<FutureLog>> {
        self.future.lock().clone()
    }

    /// Changes it; the one before.
    pub(crate) fn set_future(&self, future: Option<FutureLog>) -> Option<Arc<FutureLog>> {
        std::mem::replace(&mut *self.future.lock(), future.map(Arc::new))
    }

    /// Changes the layout of the log and of its copy.
    pub(crate) fn set_layout(&self, options: PartitionOptions) {
        self.log().set_options(options);
        if let Some(future) = self.future() {
            future.log.set_options(options);
        }
    }

    /// Consumers see what lies below.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Readers of committed records see what lies below.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        self.log().last_stable_offset(self.high_watermark())
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.log().log().start()
    }

    pub(crate) fn leader_epoch(&self) -> i32 {
        self.log().leader_epoch()
    }

    /// The wall clock, milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.root.clock.unix_ms()
    }

    /// Why the partition is not served any more; None while it is.
    pub(crate) fn gone(&self) -> Option<ErrorCode> {
        match self.state.load(Ordering::Acquire) {
            SERVED => None,
            DELETED => Some(ErrorCode::UnknownTopicOrPartition),
            _ => Some(ErrorCode::KafkaStorageError),
        }
    }

    /// The partition is no more: whoever waits for it is told to look.
    pub(crate) fn mark_deleted(&self) {
        self.leave(DELETED);
    }

    /// Its files or their directory have failed: whoever waits for it is told to look.
    pub(crate) fn mark_offline(&self) {
        self.leave(OFFLINE);
    }

    fn leave(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        let bytes = self.beyond_recovery.swap(0, Ordering::Relaxed);
        self.root.beyond_recovery.fetch_sub(bytes, Ordering::Relaxed);
        self.wake();
    }

    /// Looks at an error of what is written. Where the files are not what they were, the partition goes offline: what is
    /// acknowledged from here on could not be found again. A full disk does not take it out of service.
    pub(crate) fn note_error(&self, error: &Error) {
        if self.gone().is_none() && is_of_files(error) && self.probe() {
            tracing::error!(topic = %self.topic, partition = self.index, %error,
                "partition is offline: its files have changed under the broker");
            self.root.troubles.report(&self.me);
        }
    }

    /// Looks at an error of what is read. Where an old segment is damaged, what is whole is served; but it may be that the
    /// whole directory is gone.
    pub(crate) fn note_unreadable(&self, error: &Error) {
        if self.gone().is_none() && is_of_files(error) {
            self.probe();
        }
    }

    /// Whether the directory is still what it was.
    fn probe(&self) -> bool {
        let dir = self.dir();
        dir.is_online() && dir.probe()
    }

    /// Appends one validated batch; `wait` asks for a receiver that resolves when it is durable (in page-cache mode it is
    /// as durable as it gets at once, and there is none).
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: &mut [u8],
        Append { records, flush_records, wait, origin }: Append,
    ) -> Result<(AppendInfo, Option<Flushed>), AppendError> {
        let info = self.append_or_repair(batch, origin).inspect_err(|error| {
            if let AppendError::Log(error) = error {
                self.note_error(error);
            }
        })?;
        if info.rolled {
            self.root.checkpoints_due();
            self.root.cleaning.notify_one();
        }
        if !info.duplicate {
            self.count_bytes(batch.len() as u64);
        }
        let durable = self.log().log().flushed() > info.last_offset;
        let unflushed = self.unflushed_records.fetch_add(records, Ordering::Relaxed) + records;
        let flush = match self.durability {
            Durability::Fsync => !durable,
            Durability::PageCache => {
                self.advance(self.log().log().end());
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
        let _placed = self.placing.read();
        let home = self.home.load();
        let named = home.dir.sync_new_directories();
        let named = named.map_err(|source| Error::Io { path: home.dir.path.clone(), source });
        match named.and_then(|()| home.log.checkpoint()) {
            Ok(end) => {
                self.advance(end);
                true
            }
            Err(error) => {
                if self.gone().is_none() {
                    self.note_recovered(bytes);
                    tracing::warn!(topic = %self.topic, partition = self.index, %error, "no checkpoint");
                    self.note_error(&error);
                }
                false
            }
        }
    }

    fn append_or_repair(&self, batch: &mut [u8], origin: Origin) -> Result<AppendInfo, AppendError> {
        let _placed = self.placing.read();
        let log = self.log();
        match self.append_once(&log, batch, origin) {
            // A flush failed earlier and its repair did too: the disk may work again by now.
            Err(AppendError::Log(Error::Fenced)) if self.durability == Durability::Fsync => {
                log.cut_unflushed()?;
                self.append_once(&log, batch, origin)
            }
            appended => appended,
        }
    }

    fn append_once(
        &self,
        log: &PartitionLog,
        batch: &mut [u8],
        origin: Origin,
    ) -> Result<AppendInfo, AppendError> {
        log.append_as(batch, log.leader_epoch(), self.now_ms(), origin)
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
        if self.gone().is_none() {
            self.log().log().start_writeback();
        }
    }

    /// Runs on the flusher's thread.
    fn flush(&self) -> io::Result<()> {
        if self.gone().is_some() {
            // Its files may be gone already; nobody is promised anything any more.
            return Err(io::Error::new(io::ErrorKind::NotFound, "the partition is not served any more"));
        }
        let _placed = self.placing.read();
        let home = self.home.load();
        home.dir.sync_new_directories()?;
        match home.log.log().flush() {
            Ok(end) => {
                self.advance(end);
                Ok(())
            }
            Err(error) => {
                tracing::error!(topic = %self.topic, partition = self.index, %error, "flush failed");
                self.note_error(&error);
                // The kernel forgets pages it could not write: what was not durable is cut, so that the log and the
                // disk agree again and the producers' retries land where they belong.
                if self.durability == Durability::Fsync
                    && !is_of_files(&error)
                    && home.dir.is_online()
                    && let Err(error) = home.log.cut_unflushed()
                {
                    tracing::error!(topic = %self.topic, partition = self.index, %error, "log stays fenced");
                }
                Err(io::Error::other(error))
            }
        }
    }
}

/// Errors that say that a log's files were removed or cut by somebody else.
fn is_of_files(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => {
            matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::NotADirectory
            )
        }
        _ => false,
    }
}
