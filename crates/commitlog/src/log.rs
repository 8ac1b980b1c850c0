//! A log: sealed segments, one active segment, and what of it is durable.
//!
//! Locks, always taken in this order: `reshaping` (one truncation, removal or replacement of segments at a time),
//! `writer` (one append at a time), `flushing` (one flush at a
//! time, and none beside a truncation), `inner` (short; never held over a write or a sync), `spares` (short). Readers take `inner` shared,
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

mod cutting;
mod durable;
mod flushing;
mod handles;
mod opening;
mod reading;
pub(crate) mod replace;
mod reuse;

use durable::Mark;
use handles::Handle;
use opening::{Opening, first_timestamp};
use replace::Held;
use reuse::Spares;

pub use reading::{Found, Slice};

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
    /// `index.interval.bytes`: more bytes than these lie between two entries of a segment's indexes.
    pub index_interval_bytes: u64,
    /// `preallocate`: the file system sets a segment's whole space aside when the segment gets its first frame. The
    /// file is no longer for it; what is left over goes back when the segment is sealed or the log closed.
    pub preallocate: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            zero_fill_bytes: 0,
            index_interval_bytes: crate::index::INDEX_INTERVAL_BYTES,
            preallocate: false,
        }
    }
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
    /// Where what was appended last begins, and what of that a flush covered; None where nothing was since the opening.
    last_frame: Option<u64>,
    durable_frame: Option<u64>,
}

/// What is in the active segment at a moment.
#[derive(Debug, Clone, Copy)]
struct Written {
    base: Offset,
    bytes: u64,
    last_frame: Option<u64>,
    durable_frame: Option<u64>,
}

impl Active {
    fn written(&self) -> Written {
        let Self { base, position: bytes, last_frame, durable_frame, .. } = *self;
        Written { base, bytes, last_frame, durable_frame }
    }

    fn empty<F: Framing>(dir: &Path, base: Offset, file: Arc<dyn DiskFile>) -> Self {
        let file = Arc::new(Handle::new(file_name(dir, base, F::EXTENSION), file));
        Self {
            base,
            file,
            position: 0,
            index: Index::default(),
            first_timestamp_ms: None,
            last_frame: None,
            durable_frame: None,
        }
    }
}

#[derive(Debug)]
struct Inner {
    sealed: Vec<Sealed>,
    active: Active,
    /// Shared by all who read a file of the log: where there are others, none is written over.
    readers: Arc<()>,
}

#[derive(Debug)]
struct Writer {
    options: LogOptions,
    /// Bytes of the active file that exist, zero fill and what it held before included.
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
    /// Files that new segments are written into; only where the framing is [`Framing::REUSED`].
    spares: Spares,
    /// Where the framing has one.
    mark: Option<Mark>,
    framing: PhantomData<fn() -> F>,
}

impl<F: Framing> Log<F> {
    /// Opens the log in `dir`. Where the framing is [`Framing::MARKED`], what no flush is known to have covered is written
    /// again, and durable with the next flush: it may only be in the page cache. `start` is its first readable offset (as last checkpointed; 0 when new). `visit` sees, in order, every
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
        let fresh = !disk.exists(dir);
        if fresh {
            disk.create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        }
        let mark = F::MARKED.then(|| Mark::open(&*disk, dir)).transpose()?;
        let mut opening = Opening::<F>::new(&*disk, dir);
        opening.index_interval_bytes = options.index_interval_bytes;
        opening.fresh = fresh;
        // What lies below the start is not needed, and may never have been here.
        opening.durable = mark.as_ref().map(Mark::get).filter(|durable| *durable > start);
        opening.unsure_from = mark.as_ref().map(Mark::get);
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
            inner: RwLock::new(Inner { sealed, active, readers: Arc::default() }),
            spares: Spares::default(),
            start: AtomicI64::new(first.get().max(start.get())),
            end: AtomicI64::new(end.get()),
            flushed: AtomicI64::new(flushed.get()),
            bytes: AtomicU64::new(bytes),
            stale_index: AtomicBool::new(from != OpenFrom::Clean),
            // Where a sync of the directory may have failed, names are no surer than what they name.
            dir_dirty: AtomicBool::new(created || unindexed || F::MARKED),
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
        active.index.set_interval(writer.options.index_interval_bytes);
        active.index.note(base, frame, position);
        active.last_frame = Some(position);
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
        let written = self
            .zero_fill(writer, file, end)
            .and_then(|()| preallocate(writer, file))
            .and_then(|()| file.write_all_at(bytes, position));
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
        let (file, allocated) = match self.reuse(base)? {
            Some(used) => used,
            None => {
                let file = open_segment::<F>(&*self.disk, &self.dir, base, true)?;
                file.set_len(0).map_err(|e| Error::io(&self.dir, e))?;
                (file, 0)
            }
        };
        let fresh = Active::empty::<F>(&self.dir, base, file);
        let mut inner = self.inner.write();
        let old = std::mem::replace(&mut inner.active, fresh);
        if writer.allocated > old.position {
            // Only zero fill, old frames and space set aside go; when they stay, a scan stops at it just as well.
            let _ = old.file.get(&*self.disk).and_then(|file| file.set_len(old.position));
        }
        let index = Some(Arc::new(Mutex::new(old.index)));
        inner.sealed.push(Sealed { held: None, base: old.base, bytes: old.position, index });
        writer.allocated = allocated;
        self.dir_dirty.store(true, Ordering::Release);
        Ok(true)
    }

    fn path(&self, base: Offset) -> PathBuf {
        file_name(&self.dir, base, F::EXTENSION)
    }

    fn files(&self, base: Offset) -> IndexFiles<'_> {
        IndexFiles { disk: &*self.disk, dir: &self.dir, base }
    }
}

/// Sets the segment's space aside, once.
fn preallocate(writer: &mut Writer, file: &dyn DiskFile) -> io::Result<()> {
    let wanted = writer.options.segment_bytes;
    if !writer.options.preallocate || writer.allocated >= wanted {
        return Ok(());
    }
    if let Some(fd) = file.fd() {
        use std::os::fd::AsRawFd as _;
        // SAFETY: the descriptor is open for the call, which touches no memory of ours.
        let done =
            unsafe { libc::fallocate(fd.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, wanted.cast_signed()) };
        let error = io::Error::last_os_error();
        // A file system that cannot is no reason to refuse records.
        if done != 0 && error.kind() != io::ErrorKind::Unsupported {
            return Err(error);
        }
    }
    // What is beyond the end goes with the next cut.
    writer.allocated = wanted;
    Ok(())
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

#[cfg(test)]
mod tests;
