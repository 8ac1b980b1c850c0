//! redb on a [`Disk`](base::disk::Disk), made to live through a full one, and not to wait for syncs.
//!
//! redb gives up for good after one failed write. A write that finds the disk full is therefore kept in memory, and all
//! that follow it, where reads find them; they are written before the next sync, which waits until there is space. New
//! writes are refused by then (see `replicator`), so what is kept is bounded by what was under way.
//!
//! ```text
//! lazy:  commit ── writes ──▶ open ── sync ──▶ epochs ──▶ thread: write, fdatasync, one epoch after the other
//!                                     └─ returns at once           └─▶ then what is open, unless a commit goes on
//! ```
//! Of two writes with a sync between them the second never reaches the disk before the first is durable, which is all that
//! redb needs of a sync. Whoever needs to know that something *is* durable asks [`Spill::wait`] or [`Spill::is_synced`].

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base::disk::DiskFile;
use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex, MutexGuard};
use redb::StorageBackend;

use crate::stats::Stats;

/// How often a write that waits for space tries again.
const SPACE_RETRY: Duration = Duration::from_millis(100);
/// What may be kept while the thread works; then writes wait for it after all.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Syncs that may be on their way: a commit makes two.
const EPOCHS_MAX: usize = 4;
/// Pieces are copied into blocks of this size, which go back to the system whole.
const SLAB_BYTES: usize = 256 * 1024;
/// Pieces written in one call, where they lie side by side.
const VECTOR_MAX: usize = 256;

/// Shared with the room: what is kept back, how syncs went, and a way to end a wait for space.
#[derive(Debug, Default)]
pub(crate) struct Spill {
    kept: Mutex<Kept>,
    /// The thread has got on.
    moved: Condvar,
    /// Something is or will be kept: looked at before every access.
    any: AtomicBool,
    closing: AtomicBool,
    /// Set where syncs are a thread's: what counts how long a durable commit took until it was one.
    lazy: OnceLock<Arc<Stats>>,
}

/// Pieces of the file that do not overlap, by position.
#[derive(Debug, Default)]
struct Pieces {
    at: BTreeMap<u64, Bytes>,
    bytes: usize,
}

impl Pieces {
    fn put(&mut self, offset: u64, data: Bytes) {
        let end = offset + data.len() as u64;
        while let Some((&at, old)) = self.at.range(..end).next_back() {
            let (old, old_end) = (old.clone(), at + old.len() as u64);
            if old_end <= offset {
                break;
            }
            self.at.remove(&at);
            self.bytes -= old.len();
            if at < offset {
                self.insert(at, old.slice(..(offset - at) as usize));
            }
            if old_end > end {
                self.insert(end, old.slice((end - at) as usize..));
            }
        }
        self.insert(offset, data);
    }

    fn insert(&mut self, at: u64, piece: Bytes) {
        self.bytes += piece.len();
        self.at.insert(at, piece);
    }

    /// Lays the pieces over what was read.
    fn lay_over(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        for (&at, piece) in self.at.range(..end).rev() {
            let piece_end = at + piece.len() as u64;
            if piece_end <= offset {
                break;
            }
            let (from, to) = (at.max(offset), piece_end.min(end));
            let piece = &piece[(from - at) as usize..(to - at) as usize];
            out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
        }
    }

    /// A piece is on the disk, unless something else was put in its place meanwhile.
    fn written(&mut self, at: u64, piece: &Bytes) {
        let same = |now: &Bytes| now.as_ptr() == piece.as_ptr() && now.len() == piece.len();
        if self.at.get(&at).is_some_and(same) {
            self.at.remove(&at);
            self.bytes -= piece.len();
        }
    }

    fn all(&self) -> Vec<(u64, Bytes)> {
        self.at.iter().map(|(at, piece)| (*at, piece.clone())).collect()
    }
}

/// Writes that are still to be made.
#[derive(Debug, Default)]
struct Kept {
    /// What a sync is behind, the oldest first.
    epochs: VecDeque<Pieces>,
    /// What no sync is behind.
    open: Pieces,
    /// Where the next piece is copied to.
    slab: BytesMut,
    /// The thread is at work.
    running: bool,
    /// A commit is under way: its writes wait for its sync.
    committing: bool,
    /// How long the thread worked for the last commit.
    took: Duration,
    failed: Option<io::Error>,
}

impl Kept {
    fn is_behind(&self) -> bool {
        self.running || self.committing || !self.epochs.is_empty() || !self.open.at.is_empty()
    }

    fn bytes(&self) -> usize {
        self.open.bytes + self.epochs.iter().map(|epoch| epoch.bytes).sum::<usize>()
    }

    /// Keeps a copy of a write.
    fn keep(&mut self, offset: u64, data: &[u8]) {
        if self.slab.capacity() < data.len() {
            self.slab = BytesMut::with_capacity(SLAB_BYTES.max(data.len()));
        }
        self.slab.extend_from_slice(data);
        let copy = self.slab.split().freeze();
        self.open.put(offset, copy);
    }

    fn check(&self) -> io::Result<()> {
        let again = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        self.failed.as_ref().map_or(Ok(()), |error| Err(again(error)))
    }
}

impl Spill {
    /// Ends the wait for space: the sync under way fails.
    pub(crate) fn give_up(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// From now on a sync is carried out by a thread of its own, and does not wait for it.
    pub(crate) fn make_lazy(&self, stats: &Arc<Stats>) {
        self.lazy.get_or_init(|| stats.clone());
    }

    /// Whether a sync is carried out behind the caller's back.
    pub(crate) fn is_lazy(&self) -> bool {
        self.lazy.get().is_some()
    }

    /// A durable commit begins, or is over: what it writes goes to the disk behind its back.
    pub(crate) fn committing(&self, begins: bool) {
        let mut kept = self.kept.lock();
        kept.committing = begins && self.is_lazy();
        self.look(&kept);
    }

    fn look(&self, kept: &Kept) {
        self.any.store(kept.is_behind(), Ordering::Release);
    }

    /// Whether everything that was to be durable is.
    ///
    /// # Errors
    /// When a sync failed: what the disk holds is unknown.
    pub(crate) fn is_synced(&self) -> io::Result<bool> {
        let kept = self.kept.lock();
        kept.check()?;
        Ok(kept.epochs.is_empty())
    }

    /// Waits until everything that was to be durable is.
    ///
    /// # Errors
    /// As [`Spill::is_synced`].
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut kept = self.kept.lock();
        self.moved.wait_while(&mut kept, |kept| kept.running);
        kept.check()
    }

    /// How long the thread worked for the last commit, without holding anybody up.
    pub(crate) fn sync_took(&self) -> Duration {
        self.kept.lock().took
    }

    /// Writes what no sync is behind, piece by piece, so that nobody waits long for the lock; the disk's error when there
    /// is no space (written twice does no harm).
    fn write_open(&self, file: &dyn DiskFile) -> io::Result<()> {
        loop {
            let first = {
                let kept = self.kept.lock();
                let first = kept.open.at.first_key_value().map(|(at, piece)| (*at, piece.clone()));
                first.filter(|_| !kept.committing && kept.epochs.is_empty())
            };
            let Some((at, piece)) = first else { return Ok(()) };
            file.write_all_at(&piece, at)?;
            self.kept.lock().open.written(at, &piece);
            self.moved.notify_all();
        }
    }

    /// Writes pieces, those that lie side by side together, and waits for space where there is none.
    fn write_all(&self, file: &dyn DiskFile, pieces: &[(u64, Bytes)]) -> io::Result<()> {
        let side_by_side = |a: &(u64, Bytes), b: &(u64, Bytes)| a.0 + a.1.len() as u64 == b.0;
        for run in pieces.chunk_by(side_by_side).flat_map(|run| run.chunks(VECTOR_MAX)) {
            let parts: Vec<IoSlice<'_>> = run.iter().map(|(_, piece)| IoSlice::new(piece)).collect();
            loop {
                match file.write_vectored_at(&parts, run[0].0) {
                    Err(error) if is_full(&error) && !self.closing.load(Ordering::Acquire) => {
                        std::thread::sleep(SPACE_RETRY);
                    }
                    other => break other?,
                }
            }
        }
        Ok(())
    }

    /// The thread: makes one epoch after the other durable, then writes what is open, and ends.
    fn run(&self, file: &dyn DiskFile) {
        let began = Instant::now();
        let mut took = Duration::ZERO;
        loop {
            let first = self.kept.lock().epochs.front().map(Pieces::all);
            let done = match &first {
                Some(pieces) => self.write_all(file, pieces).and_then(|()| file.sync_data()),
                None => self.write_open(file),
            };
            let mut kept = self.kept.lock();
            match done {
                // A full disk: the pieces stay, and the next sync takes them along.
                Err(error) if first.is_none() && is_full(&error) => kept.running = false,
                Err(error) => (kept.failed, kept.running) = (Some(error), false),
                Ok(()) if first.is_some() => {
                    kept.epochs.pop_front();
                    took = began.elapsed();
                    if kept.epochs.is_empty() {
                        self.lazy.get().into_iter().for_each(|stats| stats.commits.observe(took));
                    }
                }
                Ok(()) => kept.running = !kept.epochs.is_empty(),
            }
            kept.took = took;
            self.look(&kept);
            self.moved.notify_all();
            if !kept.running {
                kept.slab = BytesMut::new();
                return;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Backend {
    file: Arc<dyn DiskFile>,
    spill: Arc<Spill>,
}

impl Backend {
    pub(crate) fn new(file: Arc<dyn DiskFile>, spill: Arc<Spill>) -> Self {
        Self { file, spill }
    }

    /// Keeps a write behind what is kept already; false when nothing is, and it may be made.
    fn keep(&self, offset: u64, data: &[u8]) -> bool {
        let mut kept = self.spill.kept.lock();
        self.spill.moved.wait_while(&mut kept, |kept| kept.running && kept.bytes() >= KEPT_BYTES_MAX);
        let behind = kept.is_behind();
        if behind {
            kept.keep(offset, data);
            // What a commit left behind its last sync would otherwise wait, and all that comes after, for the next one.
            if !kept.running && !kept.committing && self.spill.is_lazy() {
                self.start(kept);
            }
        }
        behind
    }

    /// Has the thread work until nothing is left.
    fn start(&self, mut kept: MutexGuard<'_, Kept>) {
        let running = std::mem::replace(&mut kept.running, true);
        self.spill.look(&kept);
        drop(kept);
        if running {
            return;
        }
        let (file, spill) = (self.file.clone(), self.spill.clone());
        let thread = std::thread::Builder::new().name("store-sync".to_owned());
        if thread.spawn(move || spill.run(&*file)).is_err() {
            // No thread to be had: done here, then.
            self.spill.run(&*self.file);
        }
    }

    fn spilled(&self) -> bool {
        self.spill.any.load(Ordering::Acquire)
    }

    /// Writes everything that is kept, waiting for the thread, and for space if it must.
    fn settle(&self) -> io::Result<()> {
        self.spill.wait()?;
        let all = self.spill.kept.lock().open.all();
        self.spill.write_all(&*self.file, &all)?;
        let mut kept = self.spill.kept.lock();
        all.iter().for_each(|(at, piece)| kept.open.written(*at, piece));
        self.spill.look(&kept);
        Ok(())
    }

    fn sync_lazily(&self) -> io::Result<()> {
        let mut kept = self.spill.kept.lock();
        self.spill.moved.wait_while(&mut kept, |kept| kept.running && kept.epochs.len() >= EPOCHS_MAX);
        kept.check()?;
        let open = std::mem::take(&mut kept.open);
        kept.epochs.push_back(open);
        self.start(kept);
        self.spill.kept.lock().check()
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !self.spilled() {
            return self.file.read_exact_at(out, offset);
        }
        // Under the lock, so that a piece is found here or in the file.
        let kept = self.spill.kept.lock();
        self.file.read_exact_at(out, offset)?;
        kept.epochs.iter().chain([&kept.open]).for_each(|pieces| pieces.lay_over(offset, out));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len < self.file.len()? {
            // What is kept must not make the file longer again.
            self.settle()?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.spill.is_lazy() {
            return self.sync_lazily();
        }
        self.settle()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.spilled() && self.keep(offset, data) {
            return Ok(());
        }
        match self.file.write_all_at(data, offset) {
            Err(error) if is_full(&error) => {
                let mut kept = self.spill.kept.lock();
                kept.keep(offset, data);
                self.spill.look(&kept);
            }
            other => other?,
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.spill.wait()?;
        self.settle()
    }
}

/// Whether the disk has no room (the quota counts as the disk).
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::Disk;
    use std::path::Path;
    use testkit::sim::{SimDisk, SimFault};

    #[test]
    fn a_full_disk_keeps_writes_back_until_there_is_space() {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/state"), true).unwrap();
        let spill = Arc::new(Spill::default());
        let backend = Arc::new(Backend::new(file.clone(), spill.clone()));
        backend.set_len(12).unwrap();
        backend.write(0, b"aaaa").unwrap();
        disk.set_fault(SimFault::Full);
        backend.write(4, b"bbbb").unwrap();
        backend.write(8, b"cccc").unwrap();
        backend.write(0, b"AAAA").unwrap();
        let mut seen = [0; 10];
        backend.read(2, &mut seen).unwrap();
        assert_eq!(&seen, b"AAbbbbcccc");
        let waiting = std::thread::spawn({
            let backend = backend.clone();
            move || backend.sync_data()
        });
        disk.set_fault(SimFault::None);
        waiting.join().unwrap().unwrap();
        assert_eq!(disk.read(Path::new("/state")).unwrap(), b"AAAAbbbbcccc");
        disk.set_fault(SimFault::Full);
        backend.set_len(16).unwrap();
        backend.write(12, b"dddd").unwrap();
        spill.give_up();
        assert!(backend.sync_data().is_err());
    }

    #[test]
    fn pieces_replace_what_they_cover() {
        let mut kept = Pieces::default();
        let mut expect = [b'.'; 20];
        for (offset, data) in
            [(0, "aaaaaaaa"), (8, "bbbb"), (6, "cccc"), (2, "d"), (1, "eee"), (0, "f"), (5, "gggggggggg")]
        {
            kept.put(offset, Bytes::copy_from_slice(data.as_bytes()));
            expect[offset as usize..][..data.len()].copy_from_slice(data.as_bytes());
            let mut seen = [b'.'; 20];
            kept.lay_over(0, &mut seen);
            assert_eq!(seen, expect);
            kept.lay_over(3, &mut seen[3..9]);
            assert_eq!(seen, expect);
            assert_eq!(kept.bytes, kept.at.values().map(Bytes::len).sum::<usize>());
        }
    }

    fn until(holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }

    /// A file whose sync waits until it is let go.
    #[derive(Debug)]
    struct Gate {
        file: Arc<dyn DiskFile>,
        go: Mutex<std::sync::mpsc::Receiver<io::Result<()>>>,
    }

    impl DiskFile for Gate {
        fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
            self.file.read_at(out, offset)
        }
        fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
            self.file.write_all_at(data, offset)
        }
        fn write_vectored_at(&self, parts: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
            self.file.write_vectored_at(parts, offset)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.go.lock().recv().unwrap()
        }
        fn sync_all(&self) -> io::Result<()> {
            self.sync_data()
        }
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }
    }

    #[test]
    fn nothing_written_behind_a_lazy_sync_reaches_the_file_before_it_is_done() {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/state"), true).unwrap();
        let (let_go, go) = std::sync::mpsc::channel();
        let spill = Arc::new(Spill::default());
        spill.make_lazy(&Arc::default());
        let backend = Backend::new(Arc::new(Gate { file, go: Mutex::new(go) }), spill.clone());
        let on_disk = || disk.read(Path::new("/state")).unwrap();
        backend.set_len(8).unwrap();
        backend.write(0, b"a").unwrap();
        assert_eq!(on_disk(), b"a\0\0\0\0\0\0\0", "nothing is kept without need");
        spill.committing(true);
        backend.write(0, b"aaaa").unwrap();
        backend.sync_data().unwrap();
        backend.write(0, b"bb").unwrap();
        backend.sync_data().unwrap();
        spill.committing(false);
        backend.write(4, b"cccc").unwrap();
        let mut seen = [0; 8];
        backend.read(0, &mut seen).unwrap();
        assert_eq!(&seen, b"bbaacccc");
        // The first epoch is written before its sync, the second not before the first is durable.
        until(|| on_disk() == b"aaaa\0\0\0\0");
        assert!(!spill.is_synced().unwrap());
        let_go.send(Ok(())).unwrap();
        until(|| on_disk() == b"bbaa\0\0\0\0");
        assert!(!spill.is_synced().unwrap());
        let_go.send(Ok(())).unwrap();
        spill.wait().unwrap();
        assert!(spill.is_synced().unwrap());
        assert_eq!(on_disk(), b"bbaacccc");
        backend.write(0, b"d").unwrap();
        assert_eq!(on_disk(), b"dbaacccc");
        // A sync that failed is told to all who ask, and to the next sync.
        backend.sync_data().unwrap();
        let_go.send(Err(io::Error::other("gone"))).unwrap();
        assert!(spill.wait().is_err() && spill.is_synced().is_err() && backend.sync_data().is_err());
    }
}
