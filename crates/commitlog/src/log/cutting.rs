//! Taking frames away: at the end after a failure, at the beginning by retention, or all of them.

use super::*;

impl<F: Framing> Log<F> {
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
            last_frame: None,
            durable_frame: None,
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
        // Not the writer: appends would wait here for a flush under way. What goes is sealed.
        let flushing = self.flushing.lock();
        let (start, end) = (self.start(), self.end());
        if to > end {
            return Err(Error::OutOfRange { offset: to, start, end });
        }
        self.start.fetch_max(to.get(), Ordering::AcqRel);
        let (gone, unread): (Vec<Sealed>, bool) = {
            let mut inner = self.inner.write();
            let ends: Vec<_> =
                inner.sealed.iter().skip(1).map(|s| s.base).chain([inner.active.base]).collect();
            let count = ends.iter().take(inner.sealed.len()).take_while(|end| **end <= to).count();
            // Who reads from now on finds none of these.
            (inner.sealed.drain(..count).collect(), Arc::strong_count(&inner.readers) == 1)
        };
        let mut renamed = Vec::new();
        let mut spared = false;
        for segment in gone {
            self.bytes.fetch_sub(segment.bytes, Ordering::Relaxed);
            if unread && rename_suffix.is_empty() && self.spare(segment.base)? {
                spared = true;
            } else {
                self.retire_segment(segment.base, rename_suffix, &mut renamed)?;
            }
        }
        // Flushes go on.
        drop(flushing);
        if spared {
            self.offer_spares()?;
        }
        Ok(renamed)
    }

    pub(super) fn retire_segment(
        &self,
        base: Offset,
        suffix: &str,
        renamed: &mut Vec<PathBuf>,
    ) -> Result<()> {
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
        // The log may go on below what they hold.
        self.drop_spares()?;
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
