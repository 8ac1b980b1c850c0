//! Putting one rewritten segment where several sealed ones were, so that a crash leaves either.
//!
//! ```text
//! 1  <base>.{log,index,timeindex,...}.cleaned   written and synced
//! 2  .cleaned ──▶ .swap   indexes first, .log last: where .log.swap is, the rest is      sync the directory
//! 3  the old files ──▶ .deleted   (indexes first, .log last)
//! 4  .swap ──▶ final names   indexes first, .log last                                     sync the directory
//! ```
//! Opening removes `.cleaned` and `.deleted`, undoes 2 where `.log.swap` is missing, and goes on at 3 where it is there.
//! Readers go by the handle and the index that the segment holds while names change.

use super::*;

/// Suffix of files that are being written.
pub(super) const CLEANED: &str = ".cleaned";
/// Suffix of files that wait for their names.
pub(super) const SWAP: &str = ".swap";
/// Suffix of files that wait to be removed.
pub(crate) const DELETED: &str = ".deleted";
/// Output is written in pieces of this size...
const WRITE_BYTES: usize = 1024 * 1024;
/// ...and synced every so many bytes, so that a large rewrite leaves no burst of dirty pages behind.
const SYNC_BYTES: u64 = 16 * 1024 * 1024;

/// What a segment holds while its files have no final names.
#[derive(Debug)]
pub(super) struct Held {
    pub file: Arc<dyn DiskFile>,
    pub index: Index,
}

/// A segment written beside the log. Its files are removed when it is dropped without having taken its place.
pub(crate) struct NewSegment<'a, F: Framing> {
    log: &'a Log<F>,
    base: Offset,
    file: Arc<dyn DiskFile>,
    index: Index,
    position: u64,
    synced: u64,
    buffer: Vec<u8>,
    extensions: Vec<&'static str>,
    placed: bool,
}

impl<'a, F: Framing> NewSegment<'a, F> {
    pub(crate) fn create(log: &'a Log<F>, base: Offset) -> Result<Self> {
        let path = suffixed(&log.dir, base, F::EXTENSION, CLEANED);
        let io = |e| Error::io(&path, e);
        let file = log.disk.open(&path, true).map_err(io)?;
        file.set_len(0).map_err(io)?;
        let mut index = Index::default();
        index.set_interval(log.writer.lock().options.index_interval_bytes);
        Ok(Self {
            log,
            base,
            file,
            index,
            position: 0,
            synced: 0,
            buffer: Vec::new(),
            extensions: Vec::new(),
            placed: false,
        })
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.position
    }

    pub(crate) fn append(&mut self, bytes: &[u8], frame: &Frame) -> Result<()> {
        let frame = Frame { len: bytes.len(), ..*frame };
        if self.position + bytes.len() as u64 > i32::MAX as u64 {
            return Err(Error::Refused("the rewritten segment is too large".to_owned()));
        }
        self.index.note(self.base, &frame, self.position);
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        if self.buffer.len() >= WRITE_BYTES { self.drain() } else { Ok(()) }
    }

    fn drain(&mut self) -> Result<()> {
        let io = |e| Error::io(&self.log.dir, e);
        let at = self.position - self.buffer.len() as u64;
        self.file.write_all_at(&self.buffer, at).map_err(io)?;
        self.buffer.clear();
        if self.position - self.synced >= SYNC_BYTES {
            self.file.sync_data().map_err(io)?;
            self.synced = self.position;
        }
        Ok(())
    }

    /// Writes one more file of the segment.
    pub(crate) fn write_extra(&mut self, extension: &'static str, bytes: &[u8]) -> Result<()> {
        let path = suffixed(&self.log.dir, self.base, extension, CLEANED);
        self.extensions.push(extension);
        let written = self.log.disk.open(&path, true).and_then(|file| {
            file.set_len(0)?;
            file.write_all_at(bytes, 0)?;
            file.sync_data()
        });
        written.map_err(|e| Error::io(&path, e))
    }

    fn finish(&mut self) -> Result<()> {
        self.drain()?;
        self.file.sync_data().map_err(|e| Error::io(&self.log.dir, e))?;
        let (offsets, times) = self.index.files(self.base);
        self.write_extra("index", &offsets)?;
        self.write_extra("timeindex", &times)?;
        // Last: where it has its name, the others have theirs.
        self.extensions.push(F::EXTENSION);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        for extension in &self.extensions {
            let path = suffixed(&self.log.dir, self.base, extension, from);
            let renamed = self.log.disk.rename(&path, &suffixed(&self.log.dir, self.base, extension, to));
            renamed.map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }
}

impl<F: Framing> Drop for NewSegment<'_, F> {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        for extension in self.extensions.iter().copied().chain([F::EXTENSION]) {
            // Best effort: opening removes what is left.
            let _ = self.log.disk.remove_file(&suffixed(&self.log.dir, self.base, extension, CLEANED));
        }
    }
}

pub(super) fn suffixed(dir: &Path, base: Offset, extension: &str, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}.{extension}{suffix}", base.get()))
}

impl<F: Framing> Log<F> {
    /// Puts `new` where the sealed, flushed segments `bases` are. Returns the old files, renamed.
    ///
    /// # Errors
    /// `Refused` when these are not consecutive sealed segments any more; the disk's.
    pub(crate) fn replace(&self, mut new: NewSegment<'_, F>, bases: &[Offset]) -> Result<Vec<PathBuf>> {
        let _reshaping = self.reshaping.lock();
        if !self.are_sealed(bases) {
            return Err(Error::Refused("the segments changed while they were rewritten".to_owned()));
        }
        new.finish()?;
        new.rename(CLEANED, SWAP)?;
        // From here on opening finishes what is begun.
        new.placed = true;
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
        let held = Held { file: new.file.clone(), index: std::mem::take(&mut new.index) };
        let fresh = Sealed { base: new.base, bytes: new.position, index: None, held: Some(Arc::new(held)) };
        self.exchange(bases, fresh);
        let mut retired = Vec::new();
        for base in bases {
            self.retire_segment(*base, DELETED, &mut retired)?;
        }
        new.rename(SWAP, "")?;
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
        let mut inner = self.inner.write();
        if let Some(sealed) = inner.sealed.iter_mut().find(|s| s.base == new.base) {
            sealed.held = None;
        }
        Ok(retired)
    }

    /// Whether these are neighbours, sealed, and in files whole.
    fn are_sealed(&self, bases: &[Offset]) -> bool {
        let inner = self.inner.read();
        let Some(first) = bases.first().and_then(|b| inner.sealed.iter().position(|s| s.base == *b)) else {
            return false;
        };
        let same = inner.sealed.iter().skip(first).zip(bases).filter(|(s, b)| s.base == **b).count();
        let end = inner.sealed.get(first + bases.len()).map_or(inner.active.base, |s| s.base);
        let written = inner.sealed.iter().skip(first).take(bases.len()).all(|s| s.index.is_none());
        same == bases.len() && written && end <= self.flushed()
    }

    fn exchange(&self, bases: &[Offset], fresh: Sealed) {
        let mut inner = self.inner.write();
        let gone: u64 = inner.sealed.iter().filter(|s| bases.contains(&s.base)).map(|s| s.bytes).sum();
        inner.sealed.retain(|s| !bases.contains(&s.base));
        let at = inner.sealed.partition_point(|s| s.base < fresh.base);
        self.bytes.fetch_add(fresh.bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(gone, Ordering::Relaxed);
        inner.sealed.insert(at, fresh);
    }
}

impl<F: Framing> Opening<'_, F> {
    /// Finishes or undoes a replacement that a crash interrupted, and removes files that were retired.
    pub(super) fn tidy(&mut self) -> Result<()> {
        if !self.names.iter().any(|n| [CLEANED, SWAP, DELETED].iter().any(|s| n.ends_with(s))) {
            return Ok(());
        }
        let complete = format!(".{}{SWAP}", F::EXTENSION);
        let swaps: Vec<Offset> = self
            .names
            .iter()
            .filter_map(|name| name.strip_suffix(&complete)?.parse().ok().map(Offset))
            .collect();
        for name in self.names.clone() {
            let kept = name.strip_suffix(SWAP).is_some_and(|n| swaps.iter().any(|s| belongs(n, *s)));
            let ours = [CLEANED, SWAP, DELETED].iter().any(|s| name.ends_with(s));
            if ours && !kept {
                self.remove(&name)?;
            }
        }
        for swap in swaps {
            self.finish_swap(swap)?;
        }
        self.disk.sync_dir(self.dir).map_err(|e| Error::io(self.dir, e))?;
        self.names = self.disk.list(self.dir).map_err(|e| Error::io(self.dir, e))?;
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        self.disk.remove_file(&path).map_err(|e| Error::io(&path, e))
    }

    /// Removes the segments that `swap` stands for and gives it its names.
    fn finish_swap(&self, swap: Offset) -> Result<()> {
        let path = suffixed(self.dir, swap, F::EXTENSION, SWAP);
        let io = |e| Error::io(&path, e);
        let file = self.disk.open(&path, false).map_err(io)?;
        let len = file.len().map_err(io)?;
        let start = Start::trusted(swap, len, Index::default());
        let next = scan::<F>(&path, &*file, start, &mut |_, _, _| {})?.next.unwrap_or(swap.next());
        let segment = format!(".{}", F::EXTENSION);
        for name in &self.names {
            let base = name.strip_suffix(&segment).and_then(|stem| stem.parse().ok()).map(Offset);
            let Some(base) = base.filter(|base| (swap..next).contains(base)) else { continue };
            // Where the .log is still there, its indexes are too, unless they were renamed already.
            for other in self.names.iter().filter(|n| belongs(n, base) && is_segment_file::<F>(n)) {
                self.remove(other)?;
            }
        }
        for name in self.names.iter().filter_map(|n| n.strip_suffix(SWAP)).filter(|n| belongs(n, swap)) {
            if !name.ends_with(&segment) {
                self.name(name)?;
            }
        }
        self.name(&file_name(Path::new(""), swap, F::EXTENSION).to_string_lossy())
    }

    fn name(&self, name: &str) -> Result<()> {
        let from = self.dir.join(format!("{name}{SWAP}"));
        self.disk.rename(&from, &self.dir.join(name)).map_err(|e| Error::io(&from, e))
    }
}

fn belongs(name: &str, base: Offset) -> bool {
    name.starts_with(&format!("{:020}.", base.get()))
}

fn is_segment_file<F: Framing>(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    [F::EXTENSION, "index", "timeindex", "txnindex"].contains(&extension)
}
