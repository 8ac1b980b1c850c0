//! redb on a [`Disk`](base::disk::Disk), made to live through a full one.
//!
//! redb gives up for good after one failed write. A write that finds the disk full is therefore kept in memory, and all
//! that follow it, where reads find them; they are written in order before the next sync, which waits until there is
//! space. New writes are refused by then (see `replicator`), so what is kept is bounded by what was under way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::disk::DiskFile;
use parking_lot::Mutex;
use redb::StorageBackend;

/// How often a sync that waits for space tries again.
const SPACE_RETRY: Duration = Duration::from_millis(100);

/// Shared with the room: tells whether writes are kept back, and lets a close give up waiting.
#[derive(Debug, Default)]
pub(crate) struct Spill {
    /// Writes that are still to be made, in order: position and bytes.
    kept: Mutex<Vec<(u64, Vec<u8>)>>,
    any: AtomicBool,
    closing: AtomicBool,
}

impl Spill {
    /// Ends the wait for space: the sync under way fails.
    pub(crate) fn give_up(&self) {
        self.closing.store(true, Ordering::Release);
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

    fn keep(&self, offset: u64, data: &[u8]) {
        self.spill.kept.lock().push((offset, data.to_vec()));
        self.spill.any.store(true, Ordering::Release);
    }

    /// Writes what was kept back; the disk's error when there is still no space (written twice does no harm).
    fn write_kept(&self) -> io::Result<()> {
        let mut kept = self.spill.kept.lock();
        for (offset, data) in kept.iter() {
            self.file.write_all_at(data, *offset)?;
        }
        kept.clear();
        self.spill.any.store(false, Ordering::Release);
        Ok(())
    }

    fn read_kept(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        for (at, data) in self.spill.kept.lock().iter() {
            let (from, to) = ((*at).max(offset), (at + data.len() as u64).min(end));
            if from < to {
                let piece = &data[(from - at) as usize..(to - at) as usize];
                out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
            }
        }
    }

    fn spilled(&self) -> bool {
        self.spill.any.load(Ordering::Acquire)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)?;
        if self.spilled() {
            self.read_kept(offset, out);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        while self.spilled() {
            match self.write_kept() {
                Err(error) if is_full(&error) && !self.spill.closing.load(Ordering::Acquire) => {
                    std::thread::sleep(SPACE_RETRY);
                }
                other => other?,
            }
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.spilled() {
            // Behind what was kept back, which may lie at the same place.
            self.keep(offset, data);
            return Ok(());
        }
        match self.file.write_all_at(data, offset) {
            Err(error) if is_full(&error) => self.keep(offset, data),
            other => other?,
        }
        Ok(())
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
}
