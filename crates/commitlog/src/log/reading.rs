//! Reading: where an offset is, whole frames from there on, and lookups by time.

use super::*;

/// Bytes read beyond what was asked, so that the walk from an index entry to the wanted frame needs no second read.
const READ_SLACK_BYTES: u64 = 2 * crate::index::INDEX_INTERVAL_BYTES;

/// What the kernel is asked to send at a time: a file that is not in memory holds its caller no longer than that.
const SEND_BYTES_MAX: usize = 1024 * 1024;

/// Where a walk to an offset starts.
struct Place {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    position: u64,
    /// Where a frame begins that is wholly wanted, the last that the index knows of; else `position`.
    last: u64,
    end: u64,
    /// Offset after the segment's last frame, or above that.
    end_offset: Offset,
    /// Base of the following segment, if there is one.
    next_base: Option<Offset>,
    /// While it is held, no file of the log is written over.
    reading: Arc<()>,
}

/// Frames where they lie in a segment's file, the last of them maybe cut. Holds the file open, whatever becomes of its name.
#[derive(Debug, Clone)]
pub struct Slice {
    file: Arc<dyn DiskFile>,
    position: u64,
    len: usize,
    next: Offset,
    _reading: Arc<()>,
}

impl Slice {
    /// Bytes of all frames, and of what there is of one that is cut.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a slice holds a frame at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The offset after the last whole frame, or that of the frame that follows.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Whether [`Slice::send`] can.
    #[must_use]
    pub fn has_descriptor(&self) -> bool {
        self.file.fd().is_some()
    }

    /// Has the kernel send bytes from `at` on to a socket, uncopied; how many it took.
    ///
    /// # Errors
    /// The disk's and the socket's; `WouldBlock` where it takes none now, `UnexpectedEof` where the file was cut meanwhile.
    pub fn send(&self, to: std::os::fd::BorrowedFd<'_>, at: usize) -> io::Result<usize> {
        use std::os::fd::AsRawFd as _;
        let file = self.file.fd().ok_or(io::ErrorKind::Unsupported)?;
        let mut from = (self.position + at as u64).cast_signed();
        let count = (self.len - at).min(SEND_BYTES_MAX);
        // SAFETY: both descriptors are open for the call, and `from` is a valid offset that outlives it.
        let sent = unsafe { libc::sendfile(to.as_raw_fd(), file.as_raw_fd(), &raw mut from, count) };
        match usize::try_from(sent) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => Ok(sent),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Reads the bytes from `at` on that fill `out`.
    ///
    /// # Errors
    /// The disk's; `UnexpectedEof` where the file was cut meanwhile.
    pub fn read_exact(&self, out: &mut [u8], at: usize) -> io::Result<()> {
        self.file.read_exact_at(out, self.position + at as u64)
    }
}

/// What a look for frames gives.
#[derive(Debug, Clone)]
pub enum Found {
    /// The frames themselves.
    Frames(Chunk),
    /// Many bytes of frames, not read yet.
    Slice(Slice),
}

/// What is wanted of a log.
#[derive(Clone, Copy)]
struct Wanted {
    from: Offset,
    upto: Offset,
    max_bytes: usize,
    at_least_one: bool,
    /// Where a frame does not fit any more, its head fills the rest.
    cut: bool,
}

impl<F: Framing> Log<F> {
    /// Whole frames from the one that holds `from` on, up to but excluding frames that begin at `upto` or later, as many
    /// as fit `max_bytes`; with `at_least_one` the first is returned however large. Stays within one segment.
    ///
    /// # Errors
    /// `OutOfRange` below the start or above the end.
    pub fn read(&self, from: Offset, upto: Offset, max_bytes: usize, at_least_one: bool) -> Result<Chunk> {
        match self.look(Wanted { from, upto, max_bytes, at_least_one, cut: false }, usize::MAX)? {
            Found::Frames(chunk) => Ok(chunk),
            Found::Slice(_) => unreachable!("everything is to be read"),
        }
    }

    /// The same frames and, where the next one does not fit any more, as much of it as does (so Kafka answers a fetch, to
    /// the byte); where they may be more than `in_memory_max` bytes, only where they lie.
    ///
    /// # Errors
    /// As those of [`Log::read`].
    pub fn find(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
        at_least_one: bool,
        in_memory_max: usize,
    ) -> Result<Found> {
        self.look(Wanted { from, upto, max_bytes, at_least_one, cut: true }, in_memory_max)
    }

    fn look(&self, wanted: Wanted, in_memory_max: usize) -> Result<Found> {
        let (start, end) = (self.start(), self.end());
        let Wanted { from, upto, max_bytes, .. } = wanted;
        if from < start || from > end {
            return Err(Error::OutOfRange { offset: from, start, end });
        }
        let wanted = Wanted { upto: upto.min(end), ..wanted };
        // What may lie in memory is read at once.
        let reach = if max_bytes > in_memory_max { max_bytes as u64 } else { 0 };
        let mut place = if from < wanted.upto { Some(self.locate(from, reach, wanted.upto)?) } else { None };
        while let Some(at) = place {
            if reach > 0
                && at.end - at.position > in_memory_max as u64
                && let Some(slice) = slice_at::<F>(&at, wanted)?
            {
                if slice.len > in_memory_max {
                    return Ok(Found::Slice(slice));
                }
                // Little is below `upto`, however much follows.
                let bytes = read_bytes(&at, slice.position, slice.len)?;
                return Ok(Found::Frames(Chunk { bytes, next: Some(slice.next) }));
            }
            if let Some(chunk) = read_at::<F>(&at, wanted)? {
                return Ok(Found::Frames(chunk));
            }
            // Compaction and removed tails leave gaps at the end of a segment: the wanted frame is in the next.
            place = at.next_base.map(|base| self.locate(base, reach, wanted.upto)).transpose()?;
        }
        Ok(Found::Frames(Chunk::default()))
    }

    /// Where `offset` is, and, with a `reach` of bytes, the last frame below `upto` within it that the index knows.
    fn locate(&self, offset: Offset, reach: u64, upto: Offset) -> Result<Place> {
        // A segment may be renamed or removed between the look at the list and the opening: then the list has changed.
        const TRIES: usize = 3;
        for _ in 1..TRIES {
            match self.locate_once(offset, reach, upto) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        self.locate_once(offset, reach, upto)
    }

    fn locate_once(&self, offset: Offset, reach: u64, upto: Offset) -> Result<Place> {
        let inner = self.inner.read();
        let reading = inner.readers.clone();
        let active = &inner.active;
        if offset >= active.base || inner.sealed.is_empty() {
            let (base, end, end_offset) = (active.base, active.position, self.end());
            let (position, last) = active.index.span(base, offset, reach, upto);
            let file = active.file.clone();
            drop(inner);
            let path = file_name(&self.dir, base, F::EXTENSION);
            let file = file.get(&*self.disk).map_err(|e| Error::io(&path, e))?;
            return Ok(Place { path, file, position, last, end, end_offset, next_base: None, reading });
        }
        let at = inner.sealed.partition_point(|s| s.base <= offset).saturating_sub(1);
        let sealed = &inner.sealed[at];
        let (base, end, index, held) = (sealed.base, sealed.bytes, sealed.index.clone(), sealed.held.clone());
        let end_offset = inner.sealed.get(at + 1).map_or(active.base, |s| s.base);
        drop(inner);
        let path = file_name(&self.dir, base, F::EXTENSION);
        let next_base = Some(end_offset);
        if let Some(held) = held {
            let (position, last) = held.index.span(base, offset, reach, upto);
            let file = held.file.clone();
            return Ok(Place { path, file, position, last, end, end_offset, next_base, reading });
        }
        let (position, last) = match index {
            Some(index) => index.lock().span(base, offset, reach, upto),
            None if F::INDEXED => self.files(base).span(offset, reach, upto, end),
            None => (0, 0),
        };
        let file = open_segment::<F>(&*self.disk, &self.dir, base, false)?;
        Ok(Place { path, file, position, last, end, end_offset, next_base, reading })
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
        let (index, held, bytes) = (sealed.index.clone(), sealed.held.clone(), sealed.bytes);
        drop(inner);
        match (index, held) {
            (Some(index), _) => index.lock().max_timestamp(),
            (None, Some(held)) => held.index.max_timestamp(),
            (None, None) if self.files(base).is_damaged() => self.rebuild_index(base, bytes),
            (None, None) => self.files(base).max_timestamp(),
        }
    }

    /// Makes the indexes of a sealed segment anew that somebody removed or cut; the next flush writes them.
    fn rebuild_index(&self, base: Offset, bytes: u64) -> Option<MaxTimestamp> {
        let path = file_name(&self.dir, base, F::EXTENSION);
        let file = open_segment::<F>(&*self.disk, &self.dir, base, false).ok()?;
        let start = Start::trusted(base, bytes, Index::default());
        let scanned = scan::<F>(&path, &*file, start, &mut |_, _, _| {}).ok()?;
        let max = scanned.index.max_timestamp();
        if scanned.end == bytes {
            tracing::warn!(segment = %path.display(), "indexes were removed or cut: made anew");
            let mut inner = self.inner.write();
            let sealed = inner.sealed.iter_mut().find(|s| s.base == base && s.bytes == bytes);
            if let Some(sealed) = sealed.filter(|s| s.index.is_none() && s.held.is_none()) {
                sealed.index = Some(Arc::new(Mutex::new(scanned.index)));
                self.dir_dirty.store(true, Ordering::Release);
            }
        }
        max
    }

    /// The timestamp of a segment's first frame.
    #[must_use]
    pub fn first_timestamp_of(&self, base: Offset) -> Option<i64> {
        let active = self.active();
        if base == active.base {
            return active.first_timestamp_ms;
        }
        let place = self.locate(base, 0, base).ok()?;
        first_timestamp::<F>(&*place.file, place.end)
    }
}

/// Frames at a place; None when the segment ends before `from`.
fn read_at<F: Framing>(place: &Place, wanted: Wanted) -> Result<Option<Chunk>> {
    let Wanted { from, upto, max_bytes, at_least_one, cut } = wanted;
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
        let short = begin.saturating_add(max_bytes).saturating_add(F::HEADER_BYTES) > bytes.len();
        if cut && short && begin > 0 && position + (bytes.len() as u64) < place.end {
            // What is cut must be cut at `max_bytes`, not where the buffer ends.
            position = walk.position();
            continue;
        }
        if begin + first.len > bytes.len() {
            // The buffer ends inside the only frame there is room for: read just that one.
            let bytes = read_bytes(place, walk.position(), first.len)?;
            return Ok(Some(Chunk { bytes, next: Some(first.last.next()) }));
        }
        let next = walk.take(upto, max_bytes)?;
        let mut end = walk.at;
        if cut && walk.frame()?.is_some_and(|frame| frame.first < upto) {
            end = end.max(begin.saturating_add(max_bytes).min(bytes.len()));
        }
        return Ok(Some(Chunk { bytes: bytes.slice(begin..end), next }));
    }
    Ok(None)
}

/// The frames at a place as far as they fit, unread; None where the first does not, or none is wanted.
fn slice_at<F: Framing>(place: &Place, wanted: Wanted) -> Result<Option<Slice>> {
    let Wanted { from, upto, max_bytes, cut, .. } = wanted;
    let mut headers = Headers::<F>::new(place, place.position);
    let first = loop {
        match headers.frame()? {
            Some(frame) if frame.last >= from => break frame,
            Some(frame) => headers.at += frame.len as u64,
            None => return Ok(None),
        }
    };
    let start = headers.at;
    if first.first >= upto || first.len > max_bytes {
        return Ok(None);
    }
    let slice = |end: u64, next| {
        let (file, len) = (place.file.clone(), (end - start) as usize);
        Ok(Some(Slice { file, position: start, len, next, _reading: place.reading.clone() }))
    };
    let limit = place.end.min(start + max_bytes as u64);
    if limit == place.end && upto >= place.end_offset {
        return slice(limit, place.end_offset);
    }
    headers.at = start.max(place.last.min(limit));
    let mut next = first.first;
    while let Some(frame) = headers.frame()? {
        if frame.first >= upto {
            next = next.max(frame.first);
            break;
        }
        if headers.at + frame.len as u64 > limit {
            return slice(if cut { limit } else { headers.at }, next.max(frame.first));
        }
        headers.at += frame.len as u64;
        next = frame.last.next();
    }
    slice(headers.at, next)
}

/// Frames' headers, read a few at a time.
struct Headers<'a, F> {
    place: &'a Place,
    at: u64,
    from: u64,
    bytes: Vec<u8>,
    framing: PhantomData<F>,
}

impl<'a, F: Framing> Headers<'a, F> {
    fn new(place: &'a Place, at: u64) -> Self {
        Self { place, at, from: 0, bytes: Vec::new(), framing: PhantomData }
    }

    /// The frame at the cursor; None at the end.
    fn frame(&mut self) -> Result<Option<Frame>> {
        let wanted = F::HEADER_BYTES as u64;
        if self.at + wanted > self.place.end {
            return Ok(None);
        }
        if self.at < self.from || self.at + wanted > self.from + self.bytes.len() as u64 {
            let size = READ_SLACK_BYTES.max(wanted).min(self.place.end - self.at);
            self.bytes.resize(size as usize, 0);
            self.from = self.at;
            let read = self.place.file.read_exact_at(&mut self.bytes, self.at);
            read.map_err(|e| Error::io(&self.place.path, e))?;
        }
        match F::parse(&self.bytes[(self.at - self.from) as usize..]) {
            Parsed::Frame(frame) if self.at + frame.len as u64 <= self.place.end => Ok(Some(frame)),
            _ => Err(Error::Corrupt { path: self.place.path.clone(), position: self.at }),
        }
    }
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
