//! Opening a log: which segments are trusted, which are walked, and where the torn tail is cut.

use super::*;
use crate::scan::Visit;

/// The timestamp of a segment's first frame.
pub(super) fn first_timestamp<F: Framing>(file: &dyn DiskFile, end: u64) -> Option<i64> {
    let mut header = vec![0; F::HEADER_BYTES];
    if end == 0 || file.read_exact_at(&mut header, 0).is_err() {
        return None;
    }
    match F::parse(&header) {
        Parsed::Frame(frame) => Some(frame.max_timestamp_ms),
        _ => None,
    }
}

/// The state of opening a log.
pub(super) struct Opening<'a, F> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
    pub recovery: Recovery,
    pub sealed: Vec<Sealed>,
    /// The directory's entries, sorted.
    pub names: Vec<String>,
    /// Frames below were certainly durable; None when that says nothing about what is needed.
    pub durable: Option<Offset>,
    /// Frames from here on may never have reached the disk, whatever is read now: they are written again. None where no
    /// mark tells.
    pub unsure_from: Option<Offset>,
    /// As in the log's options, for indexes that are made anew.
    pub index_interval_bytes: u64,
    /// The directory was made just now: there is nothing in it to look for.
    pub fresh: bool,
    framing: PhantomData<F>,
}

impl<'a, F: Framing> Opening<'a, F> {
    pub(super) fn new(disk: &'a dyn Disk, dir: &'a Path) -> Self {
        Self {
            disk,
            dir,
            recovery: Recovery::default(),
            sealed: Vec::new(),
            names: Vec::new(),
            durable: None,
            unsure_from: None,
            index_interval_bytes: crate::index::INDEX_INTERVAL_BYTES,
            fresh: false,
            framing: PhantomData,
        }
    }

    /// Returns the active segment, the end, and whether a file was made.
    pub(super) fn run(
        &mut self,
        from: OpenFrom,
        start: Offset,
        visit: Visit<'_>,
    ) -> Result<(Active, Offset, bool)> {
        let bases = self.bases()?;
        let Some((&last, _)) = bases.split_last() else {
            if let Some(durable) = self.durable {
                return Err(Error::Damaged { path: self.dir.into(), position: 0, first: start, durable });
            }
            let file = open_segment::<F>(self.disk, self.dir, start, true)?;
            return Ok((Active::empty::<F>(self.dir, start, file), start, true));
        };
        for (n, &base) in bases.iter().enumerate() {
            let end = bases.get(n + 1).copied();
            let verify = match from.point() {
                None => None,
                Some(point) if end.is_some_and(|end| end <= point) => None,
                // Where indexes were saved with the recovery point, the walk begins there.
                Some(point) => Some(if F::INDEXED { point } else { Offset(0) }),
            };
            if verify.is_none() && base != last && self.has_indexes(base) {
                self.trust(base)?;
                continue;
            }
            let (active, end, torn) = self.scan_segment(base, end, verify, visit)?;
            let after = &bases[n + 1..];
            let lost = verify.is_some() && self.is_lost(from, end, after)?;
            if base == last || torn || lost {
                self.drop_after(after)?;
                return Ok((active, end, false));
            }
            self.seal(active);
        }
        unreachable!("the last segment always returns")
    }

    /// Base offsets of the segments, ascending.
    fn bases(&mut self) -> Result<Vec<Offset>> {
        if self.fresh {
            return Ok(Vec::new());
        }
        self.names = self.disk.list(self.dir).map_err(|e| Error::io(self.dir, e))?;
        self.tidy()?;
        if F::REUSED {
            reuse::remove_left(self.disk, self.dir, &self.names)?;
        }
        let stems = self.names.iter().filter_map(|name| name.strip_suffix(F::EXTENSION)?.strip_suffix('.'));
        let mut bases: Vec<_> =
            stems.filter(|s| s.len() == 20).filter_map(|s| s.parse().ok()).map(Offset).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn trust(&mut self, base: Offset) -> Result<()> {
        let file = open_segment::<F>(self.disk, self.dir, base, false)?;
        let bytes = file.len().map_err(|e| Error::io(self.dir, e))?;
        self.sealed.push(Sealed { base, bytes, index: None, held: None });
        Ok(())
    }

    fn seal(&mut self, active: Active) {
        let index = Some(Arc::new(Mutex::new(active.index)));
        self.sealed.push(Sealed { base: active.base, bytes: active.position, index, held: None });
    }

    /// Whether the log ends at `end`, because the offsets up to the segments `after` were lost.
    fn is_lost(&self, from: OpenFrom, end: Offset, after: &[Offset]) -> Result<bool> {
        let gap = after.first().is_some_and(|next| end < *next);
        if !gap || matches!(from, OpenFrom::RecoveryPoint(_)) {
            return Ok(gap);
        }
        for base in after {
            let path = file_name(self.dir, *base, F::EXTENSION);
            let len = self.disk.open(&path, false).and_then(|file| file.len());
            if len.map_err(|e| Error::io(&path, e))? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a sealed segment has its index files; where they were lost they are made anew.
    fn has_indexes(&self, base: Offset) -> bool {
        let has = |extension| {
            let name = format!("{:020}.{extension}", base.get());
            self.names.binary_search(&name).is_ok()
        };
        !F::INDEXED || (has("index") && has("timeindex"))
    }

    /// Finds a segment's end, cuts what is torn, and returns it as active with the end and whether it was torn. Frames
    /// that end at `verify` or later have their checksums verified. `next` is the base of the segment that follows.
    fn scan_segment(
        &mut self,
        base: Offset,
        next: Option<Offset>,
        verify: Option<Offset>,
        visit: Visit<'_>,
    ) -> Result<(Active, Offset, bool)> {
        let path = file_name(self.dir, base, F::EXTENSION);
        let file = open_segment::<F>(self.disk, self.dir, base, false)?;
        let len = file.len().map_err(|e| Error::io(&path, e))?;
        let (unsure_from, mut unsure) = (self.unsure_from, None);
        let visit: Visit<'_> = &mut |frame, position, bytes| {
            if unsure_from.is_some_and(|from| frame.last >= from) {
                unsure.get_or_insert(position);
            }
            visit(frame, position, bytes);
        };
        let whole = verify.is_some_and(|from| from <= base);
        let scanned = if whole {
            let mut index = Index::default();
            index.set_interval(self.index_interval_bytes);
            scan::<F>(&path, &*file, Start { index, ..Start::verified(base, len) }, visit)?
        } else {
            let mut index = if F::INDEXED { self.files(base).load(len) } else { Index::default() };
            index.set_interval(self.index_interval_bytes);
            if let Some(point) = verify {
                index.truncate(base, point);
            }
            let start = Start { verify_from: verify, ..Start::trusted(base, len, index) };
            let scanned = scan::<F>(&path, &*file, start, visit)?;
            if scanned.torn && verify.is_none_or(|point| scanned.next.is_none_or(|next| next < point)) {
                // It was not closed properly after all, or the index was wrong.
                return self.scan_segment(base, next, Some(Offset(0)), visit);
            }
            scanned
        };
        let end = scanned.next.unwrap_or(base);
        self.check_durable(&path, scanned.end, end, next)?;
        self.recovery.verified_bytes += scanned.verified;
        if scanned.torn {
            self.recovery.cut_bytes += len - scanned.end;
        }
        // Zero fill and old frames go too: a crash may have kept a later frame behind a lost one, which must not come back when the
        // gap is written again.
        if len > scanned.end {
            file.set_len(scanned.end).and_then(|()| file.sync_all()).map_err(|e| Error::io(&path, e))?;
        }
        if let Some(from) = unsure {
            file.write_again(from, scanned.end).map_err(|e| Error::io(&path, e))?;
        }
        let first_timestamp_ms = first_timestamp::<F>(&*file, scanned.end);
        // Without gaps nothing is missing between the last frame and the next segment, whatever else was there.
        let torn = scanned.torn && !(F::MARKED && next == Some(end));
        let file = Arc::new(Handle::new(path, file));
        let active = Active {
            base,
            file,
            position: scanned.end,
            index: scanned.index,
            first_timestamp_ms,
            last_frame: None,
            durable_frame: None,
        };
        Ok((active, end, torn))
    }

    /// Refuses to end a segment before frames that were durable; `next` is the base of the segment that follows.
    fn check_durable(&self, path: &Path, position: u64, end: Offset, next: Option<Offset>) -> Result<()> {
        match self.durable {
            Some(durable) if end < next.map_or(durable, |next| next.min(durable)) => {
                Err(Error::Damaged { path: path.into(), position, first: end, durable })
            }
            _ => Ok(()),
        }
    }

    fn files(&self, base: Offset) -> IndexFiles<'_> {
        IndexFiles { disk: self.disk, dir: self.dir, base }
    }

    /// Removes segments that follow a torn one: nothing after a hole may be served.
    fn drop_after(&mut self, bases: &[Offset]) -> Result<()> {
        for &base in bases {
            for extension in [F::EXTENSION, "index", "timeindex", "txnindex"] {
                let path = file_name(self.dir, base, extension);
                if self.disk.exists(&path) {
                    let len = self.disk.open(&path, false).and_then(|f| f.len());
                    self.recovery.cut_bytes += len.map_err(|e| Error::io(&path, e))?;
                    self.disk.remove_file(&path).map_err(|e| Error::io(&path, e))?;
                }
            }
        }
        Ok(())
    }
}
