//! A log: sealed segments, one active segment, and what of it is durable.
//!
//! Locks, always taken in this order: `reshaping` (one truncation, removal or replacement of segments at a time),
//! `writer` (one append at a time), `flushing` (one flush at a
//! time, and none beside a truncation), `inner` (short; never held over a write or a sync). Readers take `inner` shared,
//! copy what they need and read without a lock.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use base::disk::{Disk, DiskFile};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::index::{Index, IndexFiles, MaxTimestamp, file_name};
use crate::scan::{Start, scan};
use crate::{Error, Flush, Frame, Framing, Offset, Parsed, Result};

mod durable;
mod handles;
mod opening;
pub(crate) mod replace;

use durable::Mark;
use handles::Handle;
use opening::{Opening, first_timestamp};
use replace::Held;

/// Bytes read beyond what was asked, so that the walk from an index entry to the wanted frame needs no second read.
const READ_SLACK_BYTES: u64 = 2 * crate::index::INDEX_INTERVAL_BYTES;
/// Zeros are written in blocks of this size.
static ZERO_BLOCK: [u8; 64 * 1024] = [0; 64 * 1024];

/// How a log is laid out. May be changed while the log is open.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A segment is sealed before it would grow past this. A single larger frame still gets a segment of its own.
    pub segment_bytes: u64,
    /// When not 0, space is filled with zeros in steps of this many bytes ahead of the writes, so that a flush writes
    /// no metadata; sealed segments are cut to their content. For the write-ahead log; 0 for Kafka's files.
    pub zero_fill_bytes: u64,
}

/// What is known of the state the log was left in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFrom {
    /// Closed properly: files are whole.
    Clean,
    /// Everything below this offset was durable; what lies beyond is verified frame by frame, and ends where offsets
    /// leave a gap between two segments: the tail of the first was lost.
    RecoveryPoint(Offset),
    /// The same for a log that is compacted: gaps may be compaction's, and end the log only where nothing follows them.
    /// Compaction keeps below the recovery point that was saved, so that beyond it such a gap is a loss.
    Compacted(Offset),
}

impl OpenFrom {
    /// The recovery point; None after a clean stop.
    #[must_use]
    pub fn point(self) -> Option<Offset> {
        match self {
            Self::Clean => None,
            Self::RecoveryPoint(point) | Self::Compacted(point) => Some(point),
        }
    }
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes whose checksums were verified.
    pub verified_bytes: u64,
    /// Bytes cut off because no whole frame held them, segments after a bad one included.
    pub cut_bytes: u64,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Whether a segment was sealed first: ask the flusher for a flush so that its indexes are written.
    pub rolled: bool,
    /// First offset of the active segment.
    pub segment: Offset,
}

/// The segment that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveSegment {
    pub base: Offset,
    pub bytes: u64,
    /// Timestamp of its first frame; None without frames.
    pub first_timestamp_ms: Option<i64>,
    /// Bytes of its offset index.
    pub index_bytes: u64,
}

/// Whole frames that a read returns; empty when there is nothing between the offset asked for and the bound.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    pub bytes: Bytes,
    /// The offset after the last frame in `bytes`; None when empty.
    pub next: Option<Offset>,
}

#[derive(Debug)]
struct Sealed {
    base: Offset,
    bytes: u64,
    /// Kept until a flush has written the index files.
    index: Option<Arc<Mutex<Index>>>,
    /// While a rewritten segment's files change their names, see `replace`.
    held: Option<Arc<Held>>,
}

#[derive(Debug)]
struct Active {
    base: Offset,
    file: Arc<Handle>,
    position: u64,
    index: Index,
    /// Timestamp of the first frame: what time-based rolling counts from.
    first_timestamp_ms: Option<i64>,
}

impl Active {
    fn empty<F: Framing>(dir: &Path, base: Offset, file: Arc<dyn DiskFile>) -> Self {
        let file = Arc::new(Handle::new(file_name(dir, base, F::EXTENSION), file));
        Self { base, file, position: 0, index: Index::default(), first_timestamp_ms: None }
    }
}

#[derive(Debug)]
struct Inner {
    sealed: Vec<Sealed>,
    active: Active,
}

#[derive(Debug)]
struct Writer {
    options: LogOptions,
    /// Bytes of the active file that exist, zero fill included.
    allocated: u64,
}

/// A log of frames. Shared behind an `Arc`; one writer at a time goes through, readers run beside it.
#[derive(Debug)]
pub struct Log<F> {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    reshaping: Mutex<()>,
    writer: Mutex<Writer>,
    flushing: Mutex<()>,
    inner: RwLock<Inner>,
    start: AtomicI64,
    end: AtomicI64,
    flushed: AtomicI64,
    bytes: AtomicU64,
    /// Something changed since the active segment's indexes were written.
    stale_index: AtomicBool,
    /// New names in the directory that no flush has made durable yet.
    dir_dirty: AtomicBool,
    fenced: AtomicBool,
    /// Where the framing has one.
    mark: Option<Mark>,
    framing: PhantomData<fn() -> F>,
}

/// Where a walk to an offset starts.
struct Place {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    position: u64,
    end: u64,
    /// Base of the following segment, if there is one.
    next_base: Option<Offset>,
}

impl<F: Framing> Log<F> {
    /// Opens the log in `dir`; `start` is its first readable offset (as last checkpointed; 0 when new). `visit` sees, in order, every
    /// whole frame of the segments that had to be verified.
    ///
    /// # Errors
    /// The disk's. Damage is cut, not an error, except for frames that were certainly durable where the framing is
    /// [`Framing::MARKED`]: `Damaged`.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        from: OpenFrom,
        start: Offset,
        visit: &mut dyn FnMut(&Frame, &[u8]),
    ) -> Result<(Self, Recovery)> {
        Self::open_listed(disk, dir, options, from, start, visit).map(|(log, recovery, _)| (log, recovery))
    }

    /// The same, with the names found in the directory.
    pub(crate) fn open_listed(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        from: OpenFrom,
        start: Offset,
        visit: &mut dyn FnMut(&Frame, &[u8]),
    ) -> Result<(Self, Recovery, Vec<String>)> {
        if !disk.exists(dir) {
            disk.create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        }
        let mark = F::MARKED.then(|| Mark::open(&*disk, dir)).transpose()?;
        let mut opening = Opening::<F>::new(&*disk, dir);
        // What lies below the start is not needed, and may never have been here.
        opening.durable = mark.as_ref().map(Mark::get).filter(|durable| *durable > start);
        let (active, end, created) = opening.run(from, start, &mut |frame, _, bytes| visit(frame, bytes))?;
        let (sealed, recovery, names) = (opening.sealed, opening.recovery, opening.names);
        let end = end.max(start);
        let first = sealed.first().map_or(active.base, |s| s.base);
        let bytes = sealed.iter().map(|s| s.bytes).sum::<u64>() + active.position;
        // Recovered frames may sit in the page cache only: not durable until the first flush, unless closed properly.
        let flushed = match from {
            OpenFrom::Clean => end,
            OpenFrom::RecoveryPoint(point) | OpenFrom::Compacted(point) => point.clamp(first, end),
        };
        let unindexed = sealed.iter().any(|s| s.index.is_some());
        // Whatever followed the last frame was cut.
        let allocated = active.position;
        let log = Self {
            dir: dir.to_path_buf(),
            reshaping: Mutex::new(()),
            writer: Mutex::new(Writer { options, allocated }),
            flushing: Mutex::new(()),
            inner: RwLock::new(Inner { sealed, active }),
            start: AtomicI64::new(first.get().max(start.get())),
            end: AtomicI64::new(end.get()),
            flushed: AtomicI64::new(flushed.get()),
            bytes: AtomicU64::new(bytes),
            stale_index: AtomicBool::new(from != OpenFrom::Clean),
            dir_dirty: AtomicBool::new(created || unindexed),
            fenced: AtomicBool::new(false),
            mark,
            framing: PhantomData,
            disk,
        };
        Ok((log, recovery, names))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// The first offset that may be read.
    #[must_use]
    pub fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Acquire))
    }
    /// The offset the next frame gets.
    #[must_use]
    pub fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }
    /// Everything below is durable.
    #[must_use]
    pub fn flushed(&self) -> Offset {
        Offset(self.flushed.load(Ordering::Acquire))
    }
    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    /// The active segment.
    #[must_use]
    pub fn active(&self) -> ActiveSegment {
        let inner = self.inner.read();
        let active = &inner.active;
        ActiveSegment {
            base: active.base,
            bytes: active.position,
            first_timestamp_ms: active.first_timestamp_ms,
            index_bytes: active.index.offset_bytes(),
        }
    }
    /// Base of the segment that holds `offset`, or would.
    #[must_use]
    pub fn segment_of(&self, offset: Offset) -> Offset {
        let inner = self.inner.read();
        if offset >= inner.active.base || inner.sealed.is_empty() {
            return inner.active.base;
        }
        inner.sealed[inner.sealed.partition_point(|s| s.base <= offset).saturating_sub(1)].base
    }
    /// Base of the first segment.
    #[must_use]
    pub fn first_segment(&self) -> Offset {
        let inner = self.inner.read();
        inner.sealed.first().map_or(inner.active.base, |s| s.base)
    }
    /// Base offsets and sizes of all segments, the active one last.
    #[must_use]
    pub fn segments(&self) -> Vec<(Offset, u64)> {
        let inner = self.inner.read();
        let sealed = inner.sealed.iter().map(|s| (s.base, s.bytes));
        sealed.chain([(inner.active.base, inner.active.position)]).collect()
    }
    /// Changes the layout from the next append on.
    pub fn set_options(&self, options: LogOptions) {
        self.writer.lock().options = options;
    }

    /// Appends frames as they are: `frame` spans them all (length, first and last offset, largest timestamp). Not durable
    /// before a flush. `roll` seals the active segment first, if it holds anything.
    ///
    /// # Errors
    /// Nothing is appended then. `Refused` when offsets do not grow; `Io` leaves the log as it was.
    pub fn append(&self, bytes: &[u8], frame: &Frame, roll: bool) -> Result<Appended> {
        let mut writer = self.writer.lock();
        self.check_append(bytes, frame)?;
        let rolled = self.must_roll(&writer, frame, roll) && self.roll_locked(&mut writer)?;
        let (file, position, base) = {
            let inner = self.inner.read();
            (inner.active.file.clone(), inner.active.position, inner.active.base)
        };
        let written = file.get(&*self.disk).and_then(|file| self.write(&mut writer, &*file, bytes, position));
        written.map_err(|e| Error::io(&self.dir, e))?;
        self.stale_index.store(true, Ordering::Relaxed);
        let mut inner = self.inner.write();
        let active = &mut inner.active;
        active.index.note(base, frame, position);
        active.position += bytes.len() as u64;
        active.first_timestamp_ms.get_or_insert(frame.max_timestamp_ms);
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.end.store(frame.last.get() + 1, Ordering::Release);
        Ok(Appended { rolled, segment: base })
    }

    fn check_append(&self, bytes: &[u8], frame: &Frame) -> Result<()> {
        if self.fenced.load(Ordering::Acquire) {
            return Err(Error::Fenced);
        }
        if frame.first < self.end() || frame.last < frame.first || bytes.len() != frame.len {
            let text = format!("{frame:?} of {} bytes after {}", bytes.len(), self.end());
            return Err(Error::Refused(text));
        }
        Ok(())
    }

    fn must_roll(&self, writer: &Writer, frame: &Frame, roll: bool) -> bool {
        let inner = self.inner.read();
        let active = &inner.active;
        let full = active.position + frame.len as u64 > writer.options.segment_bytes;
        // Relative offsets and positions are signed 32-bit numbers in Kafka's indexes.
        let far = frame.last.get() - active.base.get() > i64::from(i32::MAX);
        let large = active.position + frame.len as u64 > i32::MAX as u64;
        active.position > 0 && (roll || full || far || large)
    }

    /// Writes at the end, filling with zeros ahead when asked to; cuts a half-written frame off again.
    fn write(&self, writer: &mut Writer, file: &dyn DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
        let end = position + bytes.len() as u64;
        let written = self.zero_fill(writer, file, end).and_then(|()| file.write_all_at(bytes, position));
        if written.is_err() {
            // Best effort: what stays behind is cut by recovery, or overwritten by the next append.
            let _ = file.set_len(position);
            writer.allocated = position;
        } else {
            writer.allocated = writer.allocated.max(end);
        }
        written
    }

    fn zero_fill(&self, writer: &mut Writer, file: &dyn DiskFile, end: u64) -> io::Result<()> {
        let step = writer.options.zero_fill_bytes;
        if step == 0 || end <= writer.allocated {
            return Ok(());
        }
        let target = end.div_ceil(step) * step;
        while writer.allocated < target {
            let len = (target - writer.allocated).min(ZERO_BLOCK.len() as u64);
            file.write_all_at(&ZERO_BLOCK[..len as usize], writer.allocated)?;
            writer.allocated += len;
        }
        Ok(())
    }

    /// Seals the active segment if it holds anything; true when it did. Request a flush afterwards.
    ///
    /// # Errors
    /// The disk's; the active segment stays then.
    pub fn roll(&self) -> Result<bool> {
        let mut writer = self.writer.lock();
        let empty = self.inner.read().active.position == 0;
        if empty { Ok(false) } else { self.roll_locked(&mut writer) }
    }

    fn roll_locked(&self, writer: &mut Writer) -> Result<bool> {
        let base = self.end();
        let file = open_segment::<F>(&*self.disk, &self.dir, base, true)?;
        file.set_len(0).map_err(|e| Error::io(&self.dir, e))?;
        let fresh = Active::empty::<F>(&self.dir, base, file);
        let mut inner = self.inner.write();
        let old = std::mem::replace(&mut inner.active, fresh);
        if writer.allocated > old.position {
            // Only zero fill goes; when it stays, a scan stops at it just as well.
            let _ = old.file.get(&*self.disk).and_then(|file| file.set_len(old.position));
        }
        let index = Some(Arc::new(Mutex::new(old.index)));
        inner.sealed.push(Sealed { held: None, base: old.base, bytes: old.position, index });
        writer.allocated = 0;
        self.dir_dirty.store(true, Ordering::Release);
        Ok(true)
    }

    /// Whole frames from the one that holds `from` on, up to but excluding frames that begin at `upto` or later, as many
    /// as fit `max_bytes`; with `at_least_one` the first is returned however large. Stays within one segment.
    ///
    /// # Errors
    /// `OutOfRange` below the start or above the end.
    pub fn read(&self, from: Offset, upto: Offset, max_bytes: usize, at_least_one: bool) -> Result<Chunk> {
        let (start, end) = (self.start(), self.end());
        if from < start || from > end {
            return Err(Error::OutOfRange { offset: from, start, end });
        }
        let upto = upto.min(end);
        let mut place = if from < upto { Some(self.locate(from)?) } else { None };
        while let Some(at) = place {
            if let Some(chunk) = read_at::<F>(&at, from, upto, max_bytes, at_least_one)? {
                return Ok(chunk);
            }
            // Compaction and removed tails leave gaps at the end of a segment: the wanted frame is in the next.
            place = at.next_base.map(|base| self.locate(base)).transpose()?;
        }
        Ok(Chunk::default())
    }

    fn locate(&self, offset: Offset) -> Result<Place> {
        // A segment may be renamed or removed between the look at the list and the opening: then the list has changed.
        const TRIES: usize = 3;
        for _ in 1..TRIES {
            match self.locate_once(offset) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        self.locate_once(offset)
    }

    fn locate_once(&self, offset: Offset) -> Result<Place> {
        let inner = self.inner.read();
        let active = &inner.active;
        if offset >= active.base || inner.sealed.is_empty() {
            let (base, end) = (active.base, active.position);
            let (file, position) = (active.file.clone(), active.index.position(base, offset));
            drop(inner);
            let path = file_name(&self.dir, base, F::EXTENSION);
            let file = file.get(&*self.disk).map_err(|e| Error::io(&path, e))?;
            return Ok(Place { path, file, position, end, next_base: None });
        }
        let at = inner.sealed.partition_point(|s| s.base <= offset).saturating_sub(1);
        let sealed = &inner.sealed[at];
        let (base, end, index, held) = (sealed.base, sealed.bytes, sealed.index.clone(), sealed.held.clone());
        let next_base = Some(inner.sealed.get(at + 1).map_or(active.base, |s| s.base));
        drop(inner);
        let path = file_name(&self.dir, base, F::EXTENSION);
        if let Some(held) = held {
            let position = held.index.position(base, offset);
            return Ok(Place { path, file: held.file.clone(), position, end, next_base });
        }
        let position = match index {
            Some(index) => index.lock().position(base, offset),
            None if F::INDEXED => self.files(base).position(offset, end),
            None => 0,
        };
        let file = open_segment::<F>(&*self.disk, &self.dir, base, false)?;
        Ok(Place { path, file, position, end, next_base })
    }

    fn files(&self, base: Offset) -> IndexFiles<'_> {
        IndexFiles { disk: &*self.disk, dir: &self.dir, base }
    }

    /// From which offset on to walk to find the first record not older than `timestamp_ms`; None when every frame is
    /// older.
    #[must_use]
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Option<Offset> {
        let maxima = self.max_timestamps();
        let &(base, _) =
            maxima.iter().find(|(_, max)| max.is_some_and(|m| m.timestamp_ms >= timestamp_ms))?;
        let inner = self.inner.read();
        if base == inner.active.base {
            return Some(inner.active.index.offset_for_time(base, timestamp_ms).max(self.start()));
        }
        let sealed = inner.sealed.iter().find(|s| s.base == base);
        let (index, held) = sealed.map(|s| (s.index.clone(), s.held.clone())).unwrap_or_default();
        drop(inner);
        let offset = match index {
            None if held.is_some() => {
                held.map_or(base, |held| held.index.offset_for_time(base, timestamp_ms))
            }
            Some(index) => index.lock().offset_for_time(base, timestamp_ms),
            None => self.files(base).offset_for_time(timestamp_ms),
        };
        Some(offset.max(self.start()))
    }

    /// Each segment's base and largest timestamp, the active one last.
    #[must_use]
    pub fn max_timestamps(&self) -> Vec<(Offset, Option<MaxTimestamp>)> {
        let bases: Vec<Offset> = self.segments().into_iter().map(|(base, _)| base).collect();
        bases.into_iter().map(|base| (base, self.max_timestamp_of(base))).collect()
    }

    /// The largest timestamp in a segment.
    #[must_use]
    pub fn max_timestamp_of(&self, base: Offset) -> Option<MaxTimestamp> {
        let inner = self.inner.read();
        if base == inner.active.base {
            return inner.active.index.max_timestamp();
        }
        let sealed = inner.sealed.iter().find(|s| s.base == base)?;
        let (index, held) = (sealed.index.clone(), sealed.held.clone());
        drop(inner);
        match (index, held) {
            (Some(index), _) => index.lock().max_timestamp(),
            (None, Some(held)) => held.index.max_timestamp(),
            (None, None) => self.files(base).max_timestamp(),
        }
    }

    /// The timestamp of a segment's first frame.
    #[must_use]
    pub fn first_timestamp_of(&self, base: Offset) -> Option<i64> {
        let active = self.active();
        if base == active.base {
            return active.first_timestamp_ms;
        }
        let place = self.locate(base).ok()?;
        first_timestamp::<F>(&*place.file, place.end)
    }

    /// Makes everything appended so far durable and writes the indexes of sealed segments. Blocks.
    ///
    /// # Errors
    /// The disk's. The log is fenced then, because the kernel forgets unwritten pages after a failed sync:
    /// [`Log::cut_unflushed`] or reopening lifts it.
    pub fn flush(&self) -> Result<Offset> {
        let _flushing = self.flushing.lock();
        if self.fenced.load(Ordering::Acquire) {
            return Err(Error::Fenced);
        }
        let (end, from) = (self.end(), self.flushed());
        if self.dir_dirty.load(Ordering::Acquire) || from < end {
            self.flush_files(from).inspect_err(|_| self.fenced.store(true, Ordering::Release))?;
            self.flushed.fetch_max(end.get(), Ordering::AcqRel);
            self.mark.iter().for_each(|mark| mark.raise(end));
        }
        Ok(end)
    }

    fn flush_files(&self, from: Offset) -> Result<()> {
        let (sealed, active) = self.unflushed(from);
        for (base, index) in sealed {
            let file = open_segment::<F>(&*self.disk, &self.dir, base, false)?;
            file.sync_data().map_err(|e| Error::io(&self.dir, e))?;
            self.write_sealed_index(base, index)?;
        }
        let synced = active.get(&*self.disk).and_then(|file| file.sync_data());
        synced.map_err(|e| Error::io(&self.dir, e))?;
        if self.dir_dirty.swap(false, Ordering::AcqRel) {
            let synced = self.disk.sync_dir(&self.dir);
            synced
                .inspect_err(|_| self.dir_dirty.store(true, Ordering::Release))
                .map_err(|e| Error::io(&self.dir, e))?;
        }
        Ok(())
    }

    /// Sealed segments that hold unflushed frames or an unwritten index, and the active file.
    #[allow(clippy::type_complexity, reason = "a pair of lists used once")]
    fn unflushed(&self, from: Offset) -> (Vec<(Offset, Option<Arc<Mutex<Index>>>)>, Arc<Handle>) {
        let inner = self.inner.read();
        let ends = inner.sealed.iter().skip(1).map(|s| s.base).chain([inner.active.base]);
        let dirty = inner.sealed.iter().zip(ends).filter(|(s, end)| s.index.is_some() || *end > from);
        (dirty.map(|(s, _)| (s.base, s.index.clone())).collect(), inner.active.file.clone())
    }

    /// Writes and syncs the entries of the active segment's indexes that cover what is durable, so that a restart need not
    /// walk the segment from its beginning. Only what is new since the last time is written. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn save_active_index(&self) -> Result<()> {
        if !F::INDEXED {
            return Ok(());
        }
        let _flushing = self.flushing.lock();
        let (base, fresh) = {
            let inner = self.inner.read();
            (inner.active.base, inner.active.index.unsaved(inner.active.base, self.flushed()))
        };
        if fresh.is_empty() {
            return Ok(());
        }
        fresh.write(&*self.disk, &self.dir, base).map_err(|e| Error::io(&self.dir, e))?;
        let mut inner = self.inner.write();
        if inner.active.base == base {
            inner.active.index.note_saved(&fresh);
        }
        Ok(())
    }

    fn write_sealed_index(&self, base: Offset, index: Option<Arc<Mutex<Index>>>) -> Result<()> {
        let Some(index) = index else { return Ok(()) };
        if F::INDEXED {
            index.lock().write(&*self.disk, &self.dir, base).map_err(|e| Error::io(&self.dir, e))?;
        }
        let mut inner = self.inner.write();
        if let Some(sealed) = inner.sealed.iter_mut().find(|s| s.base == base) {
            sealed.index = None;
        }
        Ok(())
    }

    /// Begins to write the active segment's dirty pages without waiting for them. May block while the disk's queue is
    /// full: not for the path of an append.
    pub fn start_writeback(&self) {
        let (file, end) = {
            let inner = self.inner.read();
            (inner.active.file.clone(), inner.active.position)
        };
        let Ok(file) = file.get(&*self.disk) else { return };
        if let Some(fd) = file.fd() {
            use std::os::fd::AsRawFd as _;
            // SAFETY: the descriptor is open for the call, which touches no memory of ours. A failure is left to the
            // flush that follows, which reports it.
            unsafe {
                libc::sync_file_range(fd.as_raw_fd(), 0, end.cast_signed(), libc::SYNC_FILE_RANGE_WRITE);
            }
        }
    }

    /// Removes every frame that ends at `to` or later, durably; `to` becomes the end (or the end of the last frame that
    /// stays). Lifts no fence.
    ///
    /// # Errors
    /// `OutOfRange` below the start; the disk's.
    pub fn truncate_suffix(&self, to: Offset) -> Result<()> {
        let _reshaping = self.reshaping.lock();
        let mut writer = self.writer.lock();
        let _flushing = self.flushing.lock();
        let (start, end) = (self.start(), self.end());
        if to < start {
            return Err(Error::OutOfRange { offset: to, start, end });
        }
        if to >= end {
            return Ok(());
        }
        self.truncate_locked(&mut writer, to)
    }

    fn truncate_locked(&self, writer: &mut Writer, to: Offset) -> Result<()> {
        self.mark.iter().try_for_each(|mark| mark.lower(to))?;
        let mut segments = self.segments();
        let keep = segments.partition_point(|(base, _)| *base <= to).max(1);
        for (base, _) in segments.split_off(keep) {
            self.remove_segment(base)?;
        }
        let (base, bytes) = *segments.last().expect("one segment stays");
        let file = open_segment::<F>(&*self.disk, &self.dir, base, false)?;
        let cut = Cut::<F>::find(&self.path(base), &*file, base, bytes, to)?;
        self.drop_index_files(base)?;
        file.set_len(cut.position).map_err(|e| Error::io(&self.dir, e))?;
        writer.allocated = cut.position;
        self.become_cut(base, file.clone(), cut, to);
        // From here on memory and file agree; whether the cut is durable is another question.
        let durable = file.sync_all().and_then(|()| self.disk.sync_dir(&self.dir));
        durable
            .inspect_err(|_| self.fenced.store(true, Ordering::Release))
            .map_err(|e| Error::io(&self.dir, e))
    }

    /// Index files must not outlive the frames they tell of: a restart would believe them.
    fn drop_index_files(&self, base: Offset) -> Result<()> {
        let mut dropped = false;
        for path in ["index", "timeindex"].map(|e| file_name(&self.dir, base, e)) {
            if F::INDEXED && self.disk.exists(&path) {
                self.disk.remove_file(&path).map_err(|e| Error::io(&path, e))?;
                dropped = true;
            }
        }
        if dropped { self.disk.sync_dir(&self.dir).map_err(|e| Error::io(&self.dir, e)) } else { Ok(()) }
    }

    fn become_cut(&self, base: Offset, file: Arc<dyn DiskFile>, cut: Cut<F>, to: Offset) {
        self.stale_index.store(true, Ordering::Relaxed);
        let mut inner = self.inner.write();
        inner.sealed.retain(|s| s.base < base);
        inner.active = Active {
            base,
            file: Arc::new(Handle::new(self.path(base), file)),
            position: cut.position,
            index: cut.index,
            first_timestamp_ms: cut.first_timestamp_ms,
        };
        let total = inner.sealed.iter().map(|s| s.bytes).sum::<u64>() + cut.position;
        self.bytes.store(total, Ordering::Relaxed);
        // An emptied segment still fixes the end: its base.
        let end = cut.next.unwrap_or(base).min(to).max(self.start());
        self.end.store(end.get(), Ordering::Release);
        self.flushed.fetch_min(end.get(), Ordering::AcqRel);
    }

    /// After a failed flush: drops what was never durable and lifts the fence.
    ///
    /// # Errors
    /// The disk's; the fence stays then.
    pub fn cut_unflushed(&self) -> Result<()> {
        let _reshaping = self.reshaping.lock();
        let mut writer = self.writer.lock();
        let _flushing = self.flushing.lock();
        self.truncate_locked(&mut writer, self.flushed())?;
        self.fenced.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether a failed flush has fenced the log.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Moves the start to `to` (never back) and removes sealed segments that lie wholly below it. Their files get
    /// `rename_suffix` appended, or are removed when it is empty. Returns the paths of renamed files.
    ///
    /// # Errors
    /// `OutOfRange` above the end; the disk's.
    pub fn remove_prefix(&self, to: Offset, rename_suffix: &str) -> Result<Vec<PathBuf>> {
        let _reshaping = self.reshaping.lock();
        let _writer = self.writer.lock();
        let _flushing = self.flushing.lock();
        let (start, end) = (self.start(), self.end());
        if to > end {
            return Err(Error::OutOfRange { offset: to, start, end });
        }
        self.start.fetch_max(to.get(), Ordering::AcqRel);
        let gone: Vec<Sealed> = {
            let mut inner = self.inner.write();
            let ends: Vec<_> =
                inner.sealed.iter().skip(1).map(|s| s.base).chain([inner.active.base]).collect();
            let count = ends.iter().take(inner.sealed.len()).take_while(|end| **end <= to).count();
            inner.sealed.drain(..count).collect()
        };
        let mut renamed = Vec::new();
        for segment in gone {
            self.bytes.fetch_sub(segment.bytes, Ordering::Relaxed);
            self.retire_segment(segment.base, rename_suffix, &mut renamed)?;
        }
        Ok(renamed)
    }

    fn retire_segment(&self, base: Offset, suffix: &str, renamed: &mut Vec<PathBuf>) -> Result<()> {
        if suffix.is_empty() {
            return self.remove_segment(base);
        }
        for path in self.segment_files(base) {
            let to = PathBuf::from(format!("{}{suffix}", path.display()));
            self.disk.rename(&path, &to).map_err(|e| Error::io(&path, e))?;
            renamed.push(to);
        }
        Ok(())
    }

    fn remove_segment(&self, base: Offset) -> Result<()> {
        for path in self.segment_files(base) {
            self.disk.remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }

    /// The files of a segment that exist, the frames last: what they tell of goes first.
    fn segment_files(&self, base: Offset) -> Vec<PathBuf> {
        let extensions: &[&str] =
            if F::INDEXED { &["index", "timeindex", "txnindex", F::EXTENSION] } else { &[F::EXTENSION] };
        let paths = extensions.iter().map(|e| file_name(&self.dir, base, e));
        paths.filter(|path| self.disk.exists(path)).collect()
    }

    fn path(&self, base: Offset) -> PathBuf {
        file_name(&self.dir, base, F::EXTENSION)
    }

    /// Throws everything away and goes on at `start`, durably.
    ///
    /// # Errors
    /// The disk's.
    pub fn reset(&self, start: Offset) -> Result<()> {
        let _reshaping = self.reshaping.lock();
        let mut writer = self.writer.lock();
        let _flushing = self.flushing.lock();
        self.mark.iter().try_for_each(|mark| mark.lower(start))?;
        for (base, _) in self.segments() {
            self.remove_segment(base)?;
        }
        let file = open_segment::<F>(&*self.disk, &self.dir, start, true)?;
        file.set_len(0).and_then(|()| file.sync_all()).map_err(|e| Error::io(&self.dir, e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
        writer.allocated = 0;
        let mut inner = self.inner.write();
        inner.sealed.clear();
        inner.active = Active::empty::<F>(&self.dir, start, file);
        self.bytes.store(0, Ordering::Relaxed);
        for position in [&self.start, &self.end, &self.flushed] {
            position.store(start.get(), Ordering::Release);
        }
        Ok(())
    }

    /// Flushes, cuts zero fill and writes the active segment's indexes: after this [`OpenFrom::Clean`] holds.
    ///
    /// # Errors
    /// The disk's.
    pub fn close(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        self.flush()?;
        let mut inner = self.inner.write();
        let active = &mut inner.active;
        if writer.allocated > active.position {
            let cut = active.file.get(&*self.disk).and_then(|file| {
                file.set_len(active.position)?;
                file.sync_data()
            });
            cut.map_err(|e| Error::io(&self.dir, e))?;
            writer.allocated = active.position;
        }
        if F::INDEXED && active.position > 0 && self.stale_index.swap(false, Ordering::Relaxed) {
            let base = active.base;
            active.index.write(&*self.disk, &self.dir, base).map_err(|e| Error::io(&self.dir, e))?;
        }
        Ok(())
    }
}

impl<F: Framing> Flush for Log<F> {
    fn flush(&self) -> io::Result<()> {
        Log::flush(self).map(drop).map_err(|error| match error {
            Error::Io { source, .. } => source,
            other => io::Error::other(other),
        })
    }
}

fn open_segment<F: Framing>(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    create: bool,
) -> Result<Arc<dyn DiskFile>> {
    let path = file_name(dir, base, F::EXTENSION);
    disk.open(&path, create).map_err(|e| Error::io(&path, e))
}

/// Frames at a place; None when the segment ends before `from`.
fn read_at<F: Framing>(
    place: &Place,
    from: Offset,
    upto: Offset,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Option<Chunk>> {
    let mut position = place.position;
    while position < place.end {
        let wanted = (max_bytes as u64).saturating_add(READ_SLACK_BYTES).max(F::HEADER_BYTES as u64);
        let bytes = read_bytes(place, position, wanted.min(place.end - position) as usize)?;
        let mut walk = Walk::<F>::new(place, position, &bytes);
        let skipped = walk.skip_below(from)?;
        let Some(first) = skipped else {
            position = walk.position();
            continue;
        };
        if first.first >= upto || (first.len > max_bytes && !at_least_one) {
            return Ok(Some(Chunk::default()));
        }
        let begin = walk.at;
        if begin + first.len > bytes.len() {
            // The buffer ends inside the only frame there is room for: read just that one.
            let bytes = read_bytes(place, walk.position(), first.len)?;
            return Ok(Some(Chunk { bytes, next: Some(first.last.next()) }));
        }
        let next = walk.take(upto, max_bytes)?;
        return Ok(Some(Chunk { bytes: bytes.slice(begin..walk.at), next }));
    }
    Ok(None)
}

fn read_bytes(place: &Place, position: u64, len: usize) -> Result<Bytes> {
    let mut bytes = vec![0; len];
    place.file.read_exact_at(&mut bytes, position).map_err(|e| Error::io(&place.path, e))?;
    Ok(bytes.into())
}

/// A walk over the frames in a buffer.
struct Walk<'a, F> {
    place: &'a Place,
    start: u64,
    bytes: &'a [u8],
    at: usize,
    framing: PhantomData<F>,
}

impl<'a, F: Framing> Walk<'a, F> {
    fn new(place: &'a Place, start: u64, bytes: &'a [u8]) -> Self {
        Self { place, start, bytes, at: 0, framing: PhantomData }
    }

    fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    /// The frame at the cursor; None when the buffer ends before its header does.
    fn frame(&self) -> Result<Option<Frame>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.len() < F::HEADER_BYTES {
            return Ok(None);
        }
        match F::parse(rest) {
            Parsed::Frame(frame) if self.position() + frame.len as u64 <= self.place.end => Ok(Some(frame)),
            _ => Err(Error::Corrupt { path: self.place.path.clone(), position: self.position() }),
        }
    }

    /// Moves to the frame that holds `from` or follows it; None when the buffer ends before.
    fn skip_below(&mut self, from: Offset) -> Result<Option<Frame>> {
        while let Some(frame) = self.frame()? {
            if frame.last >= from {
                return Ok(Some(frame));
            }
            self.at += frame.len;
        }
        Ok(None)
    }

    /// Moves over whole frames below `upto` while they fit; at least over one. The offset after them.
    fn take(&mut self, upto: Offset, max_bytes: usize) -> Result<Option<Offset>> {
        let begin = self.at;
        let mut next = None;
        while let Some(frame) = self.frame()? {
            let end = self.at + frame.len;
            let full = next.is_some() && end - begin > max_bytes;
            if frame.first >= upto || end > self.bytes.len() || full {
                break;
            }
            self.at = end;
            next = Some(frame.last.next());
        }
        Ok(next)
    }
}

/// Where a segment is cut.
struct Cut<F> {
    position: u64,
    next: Option<Offset>,
    index: Index,
    first_timestamp_ms: Option<i64>,
    framing: PhantomData<F>,
}

impl<F: Framing> Cut<F> {
    /// The end of the last frame that ends below `to`.
    fn find(path: &Path, file: &dyn DiskFile, base: Offset, len: u64, to: Offset) -> Result<Self> {
        let mut cut = Self {
            position: 0,
            next: None,
            index: Index::default(),
            first_timestamp_ms: None,
            framing: PhantomData,
        };
        scan::<F>(path, file, Start::trusted(base, len, Index::default()), &mut |frame, position, _| {
            if frame.last < to {
                cut.index.note(base, frame, position);
                cut.position = position + frame.len as u64;
                cut.next = Some(frame.last.next());
                cut.first_timestamp_ms.get_or_insert(frame.max_timestamp_ms);
            }
        })?;
        Ok(cut)
    }
}

#[cfg(test)]
mod tests;
