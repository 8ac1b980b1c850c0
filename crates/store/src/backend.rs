//! redb on a [`Disk`](base::disk::Disk), made to live through a full one, and not to wait for syncs.
//!
//! redb gives up for good after one failed write. A write that finds the disk full is therefore kept in memory, and all
//! that follow it, where reads find them; they are written before the next sync, which waits until there is space. New
//! writes are refused by then (see `replicator`), so what is kept is bounded by what was under way.
//!
//! ```text
//! lazy:  writes ──▶ open ── sync, or enough of them ──▶ epochs ──▶ thread: write, fdatasync, one after the other
//!                            └─ returns at once
//! ```
//! Of two writes with a sync between them the second never reaches the disk before the first is durable, which is all that
//! redb needs of a sync. A sync that was asked for is one of the values first that the tree may point to (see `values`):
//! all durable commits are of two phases, and the first sync comes before what makes one count. Whoever needs to know that something *is* durable asks [`Spill::wait`] or [`Spill::is_synced`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base::disk::DiskFile;
use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex, MutexGuard};
use redb::StorageBackend;

use crate::stats::Stats;
use crate::values::Values;

/// How often a write that waits for space tries again.
const SPACE_RETRY: Duration = Duration::from_millis(100);
/// So much goes to the disk without being asked for, so that a sync finds little left to do.
const EPOCH_BYTES: usize = 2 * 1024 * 1024;
/// What may be kept while the thread works; then writes wait for it after all.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Pieces are copied into blocks of this size, which are freed whole.
const SLAB_BYTES: usize = 256 * 1024;
/// Pieces that lie side by side are written in one call up to this length.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

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

    /// The pieces in a part of the file.
    fn within(&self, offset: u64, len: usize, found: &mut Vec<(u64, Bytes)>) {
        for (&at, piece) in self.at.range(..offset + len as u64).rev() {
            if at + piece.len() as u64 <= offset {
                break;
            }
            found.push((at, piece.clone()));
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

/// Lays pieces over what was read.
fn lay_over(pieces: &[(u64, Bytes)], offset: u64, out: &mut [u8]) {
    let end = offset + out.len() as u64;
    for (at, piece) in pieces {
        let (from, to) = ((*at).max(offset), (at + piece.len() as u64).min(end));
        let piece = &piece[(from - at) as usize..(to - at) as usize];
        out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
    }
}

/// Writes that are still to be made.
#[derive(Debug, Default)]
struct Kept {
    /// What the thread is to make durable, the oldest first, and since when somebody asks for that.
    epochs: VecDeque<(Pieces, Option<Instant>)>,
    /// What comes after.
    open: Pieces,
    /// Where the next piece is copied to.
    slab: BytesMut,
    /// The thread is at work.
    running: bool,
    /// How long the last sync that was asked for took.
    took: Duration,
    failed: Option<io::Error>,
}

impl Kept {
    fn is_behind(&self) -> bool {
        !self.epochs.is_empty() || !self.open.at.is_empty()
    }

    fn bytes(&self) -> usize {
        self.open.bytes + self.epochs.iter().map(|(epoch, _)| epoch.bytes).sum::<usize>()
    }

    /// Whether a sync that was asked for is under way.
    fn syncs(&self) -> bool {
        self.failed.is_none() && self.epochs.iter().any(|(_, asked)| asked.is_some())
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
        Ok(!kept.syncs())
    }

    /// Waits until everything that was to be durable is.
    ///
    /// # Errors
    /// As [`Spill::is_synced`].
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut kept = self.kept.lock();
        self.moved.wait_while(&mut kept, |kept| kept.syncs());
        kept.check()
    }

    /// Waits until the thread has nothing to do.
    fn rest(&self) -> io::Result<()> {
        let mut kept = self.kept.lock();
        self.moved.wait_while(&mut kept, |kept| kept.running);
        kept.check()
    }

    /// How long the last sync took that was asked for, without holding anybody up.
    pub(crate) fn sync_took(&self) -> Duration {
        self.kept.lock().took
    }

    /// Waits a while when the disk is full; whether to try again.
    fn again(&self, error: &io::Error) -> bool {
        let again = is_full(error) && !self.closing.load(Ordering::Acquire);
        if again {
            std::thread::sleep(SPACE_RETRY);
        }
        again
    }

    /// Removes values that left the tree, if all that was to be durable is: nothing on the disk points to them then.
    pub(crate) fn let_go(&self, values: &Values) {
        let leaving = {
            let kept = self.kept.lock();
            if kept.failed.is_some() || kept.syncs() { Vec::new() } else { values.take_leaving() }
        };
        values.remove(&leaving);
    }

    /// Writes pieces, those that lie side by side together, and waits for space where there is none.
    fn write_all(&self, file: &dyn DiskFile, pieces: &[(u64, Bytes)]) -> io::Result<()> {
        let (mut whole, mut rest) = (Vec::new(), pieces);
        while let Some((at, _)) = rest.first() {
            whole.clear();
            while let Some((next, piece)) = rest.first()
                && at + whole.len() as u64 == *next
                && whole.len() < WRITE_BYTES_MAX
            {
                whole.extend_from_slice(piece);
                rest = &rest[1..];
            }
            while let Err(error) = file.write_all_at(&whole, *at) {
                if !self.again(&error) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The thread: makes one epoch after the other durable, and ends.
    fn run(&self, file: &dyn DiskFile, values: &Values) {
        loop {
            let first =
                self.kept.lock().epochs.front().map(|(pieces, asked)| (pieces.all(), asked.is_some()));
            let (pieces, asked) = first.unwrap_or_default();
            let durable = if asked { values.make_durable(|error| self.again(error)) } else { Ok(()) };
            let done = durable.and_then(|()| self.write_all(file, &pieces)).and_then(|()| file.sync_data());
            drop(pieces);
            done.as_ref().err().into_iter().for_each(|error| note_doubt(error, values));
            let mut kept = self.kept.lock();
            match done {
                Err(error) => (kept.failed, kept.running) = (Some(error), false),
                Ok(()) => {
                    if let Some((_, Some(asked))) = kept.epochs.pop_front() {
                        kept.took = asked.elapsed();
                        self.lazy.get().into_iter().for_each(|stats| stats.commits.observe(kept.took));
                    }
                    kept.running = !kept.epochs.is_empty();
                }
            }
            if !kept.running {
                kept.slab = BytesMut::new();
            }
            self.look(&kept);
            self.moved.notify_all();
            let running = kept.running;
            drop(kept);
            self.let_go(values);
            if !running {
                return;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Backend {
    file: Arc<dyn DiskFile>,
    spill: Arc<Spill>,
    values: Arc<Values>,
}

impl Backend {
    pub(crate) fn new(file: Arc<dyn DiskFile>, spill: Arc<Spill>, values: Arc<Values>) -> Self {
        Self { file, spill, values }
    }

    /// Keeps a write where the thread makes all of them, or behind what is kept already; false when it may be made.
    fn keep(&self, offset: u64, data: &[u8]) -> bool {
        let lazy = self.spill.is_lazy();
        let mut kept = self.spill.kept.lock();
        self.spill.moved.wait_while(&mut kept, |kept| kept.running && kept.bytes() >= KEPT_BYTES_MAX);
        if !lazy && !kept.is_behind() {
            return false;
        }
        kept.keep(offset, data);
        if lazy && kept.open.bytes >= EPOCH_BYTES {
            self.seal(kept, None);
        } else {
            self.spill.look(&kept);
        }
        true
    }

    /// Gives what is open to the thread.
    fn seal(&self, mut kept: MutexGuard<'_, Kept>, asked: Option<Instant>) {
        let open = std::mem::take(&mut kept.open);
        kept.epochs.push_back((open, asked));
        self.start(kept);
    }

    /// Has the thread work until nothing is left.
    fn start(&self, mut kept: MutexGuard<'_, Kept>) {
        let running = std::mem::replace(&mut kept.running, true);
        self.spill.look(&kept);
        drop(kept);
        if running {
            return;
        }
        let (file, spill, values) = (self.file.clone(), self.spill.clone(), self.values.clone());
        let thread = std::thread::Builder::new().name("store-sync".to_owned());
        if thread.spawn(move || spill.run(&*file, &values)).is_err() {
            // No thread to be had: done here, then.
            self.spill.run(&*self.file, &self.values);
        }
    }

    fn spilled(&self) -> bool {
        self.spill.any.load(Ordering::Acquire)
    }

    /// Writes everything that is kept, waiting for the thread, and for space if it must.
    fn settle(&self) -> io::Result<()> {
        self.spill.rest()?;
        let all = self.spill.kept.lock().open.all();
        self.spill.write_all(&*self.file, &all)?;
        let mut kept = self.spill.kept.lock();
        // A reader may have written a page meanwhile, which then waits for the next sync.
        all.iter().for_each(|(at, piece)| kept.open.written(*at, piece));
        self.spill.look(&kept);
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut found = Vec::new();
        if self.spilled() {
            let kept = self.spill.kept.lock();
            let pieces = kept.epochs.iter().map(|(pieces, _)| pieces).chain([&kept.open]);
            pieces.for_each(|pieces| pieces.within(offset, out.len(), &mut found));
        }
        // What is written meanwhile is what was found; redb does not write again where somebody reads.
        let end = offset + out.len() as u64;
        let covers = |(at, piece): &(u64, Bytes)| *at <= offset && at + piece.len() as u64 >= end;
        if !found.last().is_some_and(covers) {
            self.file.read_exact_at(out, offset)?;
        }
        lay_over(&found, offset, out);
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
        if !self.spill.is_lazy() {
            let durable = self.values.make_durable(|error| self.spill.again(error));
            let done = durable.and_then(|()| self.settle()).and_then(|()| self.file.sync_data());
            return done.inspect_err(|error| note_doubt(error, &self.values));
        }
        let kept = self.spill.kept.lock();
        kept.check()?;
        self.seal(kept, Some(Instant::now()));
        self.spill.kept.lock().check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if (self.spill.is_lazy() || self.spilled()) && self.keep(offset, data) {
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
        self.settle()
    }
}

/// What the disk holds is unknown after a failure, unless it only had no room.
fn note_doubt(error: &io::Error, values: &Values) {
    if !is_full(error) {
        values.note_doubt();
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
        let backend = Arc::new(Backend::new(file.clone(), spill.clone(), no_values(&disk)));
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
            let mut found = Vec::new();
            kept.within(0, 20, &mut found);
            lay_over(&found, 0, &mut seen);
            assert_eq!(seen, expect);
            found.clear();
            kept.within(3, 6, &mut found);
            lay_over(&found, 3, &mut seen[3..9]);
            assert_eq!(seen, expect);
            assert_eq!(kept.bytes, kept.at.values().map(Bytes::len).sum::<usize>());
        }
    }

    fn no_values(disk: &SimDisk) -> Arc<Values> {
        Arc::new(Values::new(&disk.shared(), Path::new("/")))
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
    fn values_are_durable_before_a_page_of_a_lazy_sync_is_written() {
        let disk = SimDisk::new();
        let (file, values) = (disk.open(Path::new("/state"), true).unwrap(), no_values(&disk));
        let (let_go, go) = std::sync::mpsc::channel();
        let spill = Arc::new(Spill::default());
        spill.make_lazy(&Arc::default());
        let gate = Arc::new(Gate { file, go: Mutex::new(go) });
        let backend = Backend::new(gate, spill.clone(), values.clone());
        values.append(b"key", &[&[1; 500]]).unwrap();
        backend.set_len(4).unwrap();
        backend.write(0, b"aaaa").unwrap();
        backend.sync_data().unwrap();
        until(|| disk.read(Path::new("/state")).unwrap() == b"aaaa");
        for seed in 0..8 {
            let after = disk.crash(&mut base::random::Random::from_seed(seed));
            let found = after.read(Path::new("/values/00000001")).unwrap();
            assert!(found.len() > 500 && found.ends_with(&[1; 500]));
        }
        let_go.send(Ok(())).unwrap();
        spill.wait().unwrap();
    }

    #[test]
    fn nothing_written_behind_a_lazy_sync_reaches_the_file_before_it_is_done() {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/state"), true).unwrap();
        let (let_go, go) = std::sync::mpsc::channel();
        let spill = Arc::new(Spill::default());
        spill.make_lazy(&Arc::default());
        let gate = Arc::new(Gate { file, go: Mutex::new(go) });
        let backend = Backend::new(gate, spill.clone(), no_values(&disk));
        let on_disk = || disk.read(Path::new("/state")).unwrap();
        backend.set_len(8).unwrap();
        backend.write(0, b"aaaa").unwrap();
        backend.sync_data().unwrap();
        backend.write(0, b"bb").unwrap();
        backend.sync_data().unwrap();
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
        backend.settle().unwrap();
        assert_eq!(on_disk(), b"bbaacccc");
        // Much goes to the disk without a sync.
        backend.set_len(8 + EPOCH_BYTES as u64).unwrap();
        backend.write(8, &vec![b'e'; EPOCH_BYTES]).unwrap();
        until(|| on_disk().ends_with(b"eeee"));
        assert!(spill.is_synced().unwrap(), "nobody asked");
        let_go.send(Ok(())).unwrap();
        spill.rest().unwrap();
        // A sync that failed is told to all who ask, and to the next sync.
        backend.sync_data().unwrap();
        let_go.send(Err(io::Error::other("gone"))).unwrap();
        assert!(spill.wait().is_err() && spill.is_synced().is_err() && backend.sync_data().is_err());
    }
}
