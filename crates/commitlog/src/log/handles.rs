//! Open files, as many as a process may hold: the segments that are written keep theirs open while there is room.
//!
//! ```text
//! Handle::get ── open? ──▶ the file, marked as used                       (an uncontended lock)
//!             └─ closed ─▶ open it ─▶ table full? ─▶ close the oldest that was not used since it was last passed over
//! ```
//! Closing a file with dirty pages loses nothing: they belong to the file, and a sync through another descriptor writes
//! them and reports what failed.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::disk::{Disk, DiskFile};
use parking_lot::Mutex;

use super::Written;
use crate::{Framing, Parsed};

/// Files that logs keep open in a process: leaves room for as many connections below the usual limits of 8,000 and more,
/// and a file that was closed costs one `open` when it is written again.
const OPEN_FILES_MAX: usize = 4000;

/// A flush reads the last durable frame back when it is not larger: a few microseconds beside a sync.
const VERIFIED_BYTES_MAX: usize = 32 * 1024;

/// The files that are open, oldest first.
static OPEN: Mutex<VecDeque<Weak<Slot>>> = Mutex::new(VecDeque::new());

#[derive(Debug)]
struct Slot {
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    used: AtomicBool,
}

/// A file that is open while there is room.
#[derive(Debug)]
pub(super) struct Handle {
    path: PathBuf,
    slot: Arc<Slot>,
}

impl Handle {
    /// Of a file that was just opened.
    pub(super) fn new(path: PathBuf, file: Arc<dyn DiskFile>) -> Self {
        let slot = Arc::new(Slot { file: Mutex::new(Some(file)), used: AtomicBool::new(true) });
        note(&slot, OPEN_FILES_MAX);
        Self { path, slot }
    }

    /// Refuses a file that lost its name or some of its bytes to somebody else: a sync of it would vouch for what a
    /// restart does not find. A file that was cut and written again has a hole, which shows in the last durable frame.
    pub(super) fn check<F: Framing>(&self, disk: &dyn Disk, written: &Written) -> io::Result<()> {
        if !disk.exists(&self.path) {
            let text = format!("{} was removed", self.path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let file = self.get(disk)?;
        let whole = match written.durable_frame {
            Some(at) => is_whole::<F>(&*file, at)?,
            None => true,
        };
        let len = file.len()?;
        if !whole || len < written.bytes {
            let text = format!("{} was cut: {len} bytes of {}", self.path.display(), written.bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(())
    }

    /// The file, opened when it is not.
    pub(super) fn get(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        self.slot.used.store(true, Ordering::Relaxed);
        let mut held = self.slot.file.lock();
        if let Some(file) = &*held {
            return Ok(file.clone());
        }
        let file = disk.open(&self.path, false)?;
        *held = Some(file.clone());
        // Not under the file's lock: the table locks files while it looks for one to close.
        drop(held);
        note(&self.slot, OPEN_FILES_MAX);
        Ok(file)
    }
}

/// Whether the frame at `at` is what was written, as far as can be told without reading much.
fn is_whole<F: Framing>(file: &dyn DiskFile, at: u64) -> io::Result<bool> {
    let mut bytes = vec![0; F::HEADER_BYTES];
    file.read_exact_at(&mut bytes, at)?;
    let Parsed::Frame(frame) = F::parse(&bytes) else { return Ok(false) };
    if frame.len > VERIFIED_BYTES_MAX {
        return Ok(true);
    }
    bytes.resize(frame.len, 0);
    file.read_exact_at(&mut bytes, at)?;
    Ok(F::verify(&bytes))
}

/// Adds an open file to the table and closes others until there is room.
fn note(slot: &Arc<Slot>, most: usize) {
    let mut open = OPEN.lock();
    // Each is looked at twice at most: once to lose its mark, once to be closed.
    for _ in 0..2 * open.len() {
        if open.len() < most {
            break;
        }
        let Some(oldest) = open.pop_front() else { break };
        let Some(slot) = oldest.upgrade() else { continue };
        if slot.used.swap(false, Ordering::Relaxed) {
            open.push_back(oldest);
        } else {
            // A read or write under way holds the file until it is done.
            slot.file.lock().take();
        }
    }
    open.push_back(Arc::downgrade(slot));
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;

    #[test]
    fn closed_files_are_opened_again_and_dead_ones_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: usize| dir.path().join(n.to_string());
        let handles: Vec<_> =
            (0..20).map(|n| Handle::new(path(n), RealDisk.open(&path(n), true).unwrap())).collect();
        for (n, handle) in handles.iter().enumerate() {
            handle.get(&RealDisk).unwrap().write_all_at(&[n as u8], 0).unwrap();
        }
        // Room for four: the others are closed, whoever they belong to.
        let last = Arc::new(Slot { file: Mutex::new(None), used: AtomicBool::new(true) });
        note(&last, 4);
        let open = handles.iter().filter(|h| h.slot.file.lock().is_some()).count();
        assert!(open <= 4, "{open}");
        for (n, handle) in handles.iter().enumerate() {
            let mut byte = [0];
            handle.get(&RealDisk).unwrap().read_exact_at(&mut byte, 0).unwrap();
            assert_eq!(byte, [n as u8]);
        }
        std::fs::remove_file(path(0)).unwrap();
        handles[0].slot.file.lock().take();
        assert_eq!(handles[0].get(&RealDisk).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
