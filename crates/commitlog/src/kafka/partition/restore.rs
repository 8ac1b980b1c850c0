//! Opening a partition, its snapshots and checkpoints, closing it.

use super::*;

impl PartitionLog {
    /// Opens or makes the partition in `dir`. `start` is the checkpointed log start offset. After an unclean stop a new
    /// leader epoch begins, so that consumers which saw lost records notice (KIP-320).
    ///
    /// # Errors
    /// The disk's.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: PartitionOptions,
        from: OpenFrom,
        start: Offset,
    ) -> Result<(Self, Recovery)> {
        let known = disk.exists(dir);
        let layout = options.layout();
        let (log, recovery, names) =
            Log::<KafkaBatch>::open_listed(disk.clone(), dir, layout, from, start, &mut |_, _| {})?;
        let epochs = if known { LeaderEpochs::open(&*disk, dir) } else { LeaderEpochs::default_in(dir) };
        let state = State {
            options,
            producers: Producers::default(),
            epochs,
            aborted: AbortedTxns::open(dir, []),
            last_snapshot: Offset(-1),
        };
        let point = match from {
            OpenFrom::Clean => log.end(),
            OpenFrom::RecoveryPoint(point) | OpenFrom::Compacted(point) => {
                point.clamp(log.first_segment(), log.end())
            }
        };
        let partition = Self {
            disk,
            log,
            state: Mutex::new(state),
            unstable: AtomicBool::new(false),
            recovery_point: AtomicI64::new(point.get()),
            saved_point: AtomicI64::new(point.get()),
            checkpointing: Mutex::new(Vec::new()),
        };
        if known {
            partition.restore(from != OpenFrom::Clean, &names)?;
        }
        Ok((partition, recovery))
    }

    /// Brings producers, transactions and epochs up to what the log holds.
    fn restore(&self, unclean: bool, names: &[String]) -> Result<()> {
        let io = |e| Error::io(self.log.dir(), e);
        // In the order in which a checkpoint takes them.
        let mut snapshots = self.checkpointing.lock();
        let mut state = self.state.lock();
        state.aborted = AbortedTxns::open(self.log.dir(), stems(names, aborted::TXN_INDEX));
        // Above the recovery point snapshots and transaction indexes may tell of batches that were lost.
        let trusted = if unclean { self.recovery_point() } else { self.log.end() };
        let (mut at, end) =
            (self.restore_snapshot(&mut state, trusted, stems(names, SNAPSHOT))?, self.log.end());
        *snapshots = vec![state.last_snapshot];
        drop(snapshots);
        state.aborted.truncate_suffix(&*self.disk, at).map_err(io)?;
        // An epoch that began at the end and wrote nothing yet is kept: metadata already told it to clients.
        let mut changed = state.epochs.truncate_suffix(end.next());
        while at < end {
            let chunk = self.log.read(at, end, REPLAY_BYTES, true)?;
            for (header, batch) in whole_batches(&chunk.bytes) {
                let marker = if header.is_control() { EndTxnMarker::parse(batch) } else { None };
                self.note(&mut state, &header, marker, self.log.segment_of(header.base_offset));
                changed |= state.epochs.assign(header.leader_epoch, header.base_offset);
            }
            at = chunk.next.unwrap_or(end);
        }
        self.unstable.store(state.producers.has_unstable(), Ordering::Release);
        if unclean {
            let next = state.epochs.latest().map_or(0, |latest| latest.saturating_add(1));
            changed |= state.epochs.assign(next, end);
        }
        changed |= state.epochs.truncate_prefix(self.log.start());
        if changed { state.epochs.save(&*self.disk).map_err(io) } else { Ok(()) }
    }

    /// Loads the newest whole snapshot not above `trusted` and removes those beyond; the offset to replay from.
    fn restore_snapshot(&self, state: &mut State, trusted: Offset, all: Vec<Offset>) -> Result<Offset> {
        let start = self.log.start();
        state.producers = Producers::default();
        state.last_snapshot = Offset(-1);
        for offset in all.into_iter().rev() {
            let path = self.snapshot_path(offset);
            let content = self.disk.read(&path).ok().filter(|_| offset <= trusted);
            if let Some(producers) = content.and_then(|bytes| Producers::from_snapshot(&bytes)) {
                state.producers = producers;
                state.last_snapshot = offset;
                return Ok(offset.max(start));
            }
            self.disk.remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
        Ok(start)
    }

    /// Offsets of the snapshots, ascending.
    pub(super) fn snapshots(&self) -> Result<Vec<Offset>> {
        Ok(stems(&self.names()?, SNAPSHOT))
    }

    fn names(&self) -> Result<Vec<String>> {
        self.disk.list(self.log.dir()).map_err(|e| Error::io(self.log.dir(), e))
    }

    pub(super) fn snapshot_path(&self, offset: Offset) -> PathBuf {
        file_name(self.log.dir(), offset, SNAPSHOT)
    }

    /// Writes the producers' state as of `offset`. Not synced: a torn one is seen and an older one used.
    pub(super) fn take_snapshot(&self, state: &mut State, offset: Offset) -> io::Result<()> {
        if offset <= state.last_snapshot {
            return Ok(());
        }
        self.write_snapshot(offset, &state.producers.snapshot())?;
        state.last_snapshot = offset;
        Ok(())
    }

    fn write_snapshot(&self, offset: Offset, content: &[u8]) -> io::Result<()> {
        let file = self.disk.open(&self.snapshot_path(offset), true)?;
        file.set_len(0)?;
        file.write_all_at(content, 0)
    }

    /// Where a restart after a crash begins to verify.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    /// The checkpoint file holds this recovery point now, durably.
    pub fn note_saved(&self, point: Offset) {
        self.saved_point.store(point.get(), Ordering::Release);
    }

    /// The recovery point that the checkpoint file holds.
    #[must_use]
    pub fn saved_point(&self) -> Offset {
        Offset(self.saved_point.load(Ordering::Acquire))
    }

    /// Makes what was appended before the call durable, with all that a restart needs to begin there: indexes and a
    /// snapshot of the producers. The recovery point moves up to it. Blocks on syncs, while appends go on.
    ///
    /// # Errors
    /// The disk's; the recovery point stays then.
    pub fn checkpoint(&self) -> Result<Offset> {
        let mut snapshots = self.checkpointing.lock();
        let (end, producers) = {
            let state = self.state.lock();
            let end = self.log.end();
            if end <= self.recovery_point() && state.aborted.unwritten().is_empty() {
                return Ok(self.recovery_point());
            }
            (end, state.producers.snapshot())
        };
        self.log.flush()?;
        self.log.save_active_index()?;
        self.write_aborted()?;
        self.write_snapshot(end, &producers).map_err(|e| Error::io(self.log.dir(), e))?;
        let mut state = self.state.lock();
        state.last_snapshot = state.last_snapshot.max(end);
        drop(state);
        self.recovery_point.fetch_max(end.get(), Ordering::AcqRel);
        snapshots.push(end);
        // A restart begins at the saved recovery point: of the snapshots below it only the last is of use, and those at
        // the bases of segments.
        let needed = snapshots.partition_point(|offset| *offset <= self.saved_point()).saturating_sub(1);
        for offset in snapshots.drain(..needed).filter(|at| *at >= Offset(0)) {
            let path = self.snapshot_path(offset);
            if self.log.segment_of(offset) != offset && self.disk.exists(&path) {
                self.disk.remove_file(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(end)
    }

    pub(crate) fn write_aborted(&self) -> Result<()> {
        let unwritten = self.state.lock().aborted.unwritten();
        for (base, bytes) in unwritten {
            aborted::write_file(&*self.disk, self.log.dir(), base, &bytes)
                .map_err(|e| Error::io(self.log.dir(), e))?;
            self.state.lock().aborted.written(base, bytes.len(), self.log.active().base);
        }
        Ok(())
    }

    /// Flushes and leaves everything as a clean start expects it.
    ///
    /// # Errors
    /// The disk's.
    pub fn close(&self) -> Result<()> {
        self.log.close()?;
        self.write_aborted()?;
        let mut state = self.state.lock();
        let end = self.log.end();
        if end > self.log.start() {
            self.take_snapshot(&mut state, end).map_err(|e| Error::io(self.log.dir(), e))?;
        }
        self.recovery_point.store(end.get(), Ordering::Release);
        Ok(())
    }

    /// Drops what a failed flush may have lost and lifts the fence; producers are read anew.
    ///
    /// # Errors
    /// The disk's; the fence stays then.
    pub fn cut_unflushed(&self) -> Result<()> {
        let state = self.state.lock();
        self.log.cut_unflushed()?;
        self.recovery_point.fetch_min(self.log.end().get(), Ordering::AcqRel);
        self.saved_point.fetch_min(self.log.end().get(), Ordering::AcqRel);
        drop(state);
        self.restore(false, &self.names()?)
    }
}

/// Offsets in the names of the files with this extension.
fn stems(names: &[String], extension: &str) -> Vec<Offset> {
    let stems = names.iter().filter_map(|n| n.strip_suffix(extension)?.strip_suffix('.'));
    stems.filter_map(|s| s.parse().ok()).map(Offset).collect()
}
