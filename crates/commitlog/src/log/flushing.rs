//! Making durable what was appended, and closing.

use super::*;

impl<F: Framing> Log<F> {
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
        let (sealed, active, frames) = self.unflushed(from);
        // The write-ahead log, which has no index, is read whole at the next start, and its syncs are in every write's way.
        if F::INDEXED {
            active.check::<F>(&*self.disk, &frames).map_err(|e| Error::io(&self.dir, e))?;
        }
        for (base, index) in sealed {
            let file = open_segment::<F>(&*self.disk, &self.dir, base, false)?;
            file.sync_data().map_err(|e| Error::io(&self.dir, e))?;
            self.write_sealed_index(base, index)?;
        }
        let synced = active.get(&*self.disk).and_then(|file| file.sync_data());
        synced.map_err(|e| Error::io(&self.dir, e))?;
        self.note_durable(&frames);
        if self.dir_dirty.swap(false, Ordering::AcqRel) {
            let synced = self.disk.sync_dir(&self.dir);
            synced
                .inspect_err(|_| self.dir_dirty.store(true, Ordering::Release))
                .map_err(|e| Error::io(&self.dir, e))?;
        }
        Ok(())
    }

    /// Sealed segments that hold unflushed frames or an unwritten index, and the active file with what is in it.
    #[allow(clippy::type_complexity, reason = "lists used once")]
    fn unflushed(&self, from: Offset) -> (Vec<(Offset, Option<Arc<Mutex<Index>>>)>, Arc<Handle>, Written) {
        let inner = self.inner.read();
        let ends = inner.sealed.iter().skip(1).map(|s| s.base).chain([inner.active.base]);
        let dirty = inner.sealed.iter().zip(ends).filter(|(s, end)| s.index.is_some() || *end > from);
        let dirty = dirty.map(|(s, _)| (s.base, s.index.clone())).collect();
        (dirty, inner.active.file.clone(), inner.active.written())
    }

    /// The active segment's frames are durable as far as `written` says.
    fn note_durable(&self, written: &Written) {
        let mut inner = self.inner.write();
        if inner.active.base == written.base && written.last_frame.is_some() {
            inner.active.durable_frame = written.last_frame;
        }
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
