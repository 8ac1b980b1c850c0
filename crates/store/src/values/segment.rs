//! One file of values: entries one after the other, the last of them in memory until there are enough for a write.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::checksum::crc32c_of_parts;
use base::disk::DiskFile;
use parking_lot::Mutex;

use crate::backend::is_full;

/// Entries are written in pieces of about this length.
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes of an entry before its key.
pub(super) const ENTRY_HEAD_BYTES: usize = 12;

/// The numbers an entry begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryHead {
    pub crc: u32,
    pub key_len: u32,
    pub record_len: u32,
}

impl EntryHead {
    pub(super) fn of(key: &[u8], record_len: u32) -> Self {
        // A key is part of a request, which is far below 4 GiB.
        let key_len = key.len() as u32;
        Self { crc: Self::crc(key, record_len), key_len, record_len }
    }

    fn crc(key: &[u8], record_len: u32) -> u32 {
        crc32c_of_parts(&[&(key.len() as u32).to_be_bytes(), &record_len.to_be_bytes(), key])
    }

    pub(super) fn encode(self) -> [u8; ENTRY_HEAD_BYTES] {
        let mut out = [0; ENTRY_HEAD_BYTES];
        for (place, number) in out.chunks_exact_mut(4).zip([self.crc, self.key_len, self.record_len]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        out
    }

    pub(super) fn parse(raw: &[u8]) -> Option<Self> {
        let number = |n: usize| raw.get(4 * n..4 * n + 4)?.try_into().ok().map(u32::from_be_bytes);
        Some(Self { crc: number(0)?, key_len: number(1)?, record_len: number(2)? })
    }

    /// Bytes of the entry.
    pub(super) fn bytes(self) -> u64 {
        ENTRY_HEAD_BYTES as u64 + u64::from(self.key_len) + u64::from(self.record_len)
    }

    pub(super) fn is_of(self, key: &[u8]) -> bool {
        self.crc == Self::crc(key, self.record_len)
    }
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub id: u32,
    pub path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Bytes that are in the file, perhaps not durably.
    written: AtomicU64,
    /// What follows them.
    tail: Mutex<Vec<u8>>,
}

impl Segment {
    /// A file that is used up to `end`.
    pub(super) fn new(id: u32, path: PathBuf, file: Arc<dyn DiskFile>, end: u64) -> Self {
        Self { id, path, file, written: AtomicU64::new(end), tail: Mutex::default() }
    }

    /// Bytes of entries there are.
    pub(super) fn end(&self) -> u64 {
        let tail = self.tail.lock();
        self.written.load(Ordering::Relaxed) + tail.len() as u64
    }

    /// Bytes that can be read from the file.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Appends an entry; where it begins. On a full disk it stays in memory, and what follows.
    pub(super) fn append(&self, parts: &[&[u8]]) -> io::Result<u64> {
        let mut tail = self.tail.lock();
        let at = self.written.load(Ordering::Relaxed) + tail.len() as u64;
        if tail.capacity() == 0 {
            tail.reserve(WRITE_BYTES + WRITE_BYTES / 8);
        }
        parts.iter().for_each(|part| tail.extend_from_slice(part));
        if tail.len() >= WRITE_BYTES {
            match self.write(&mut tail) {
                Err(error) if is_full(&error) => {}
                other => other?,
            }
        }
        Ok(at)
    }

    fn write(&self, tail: &mut Vec<u8>) -> io::Result<()> {
        if tail.is_empty() {
            return Ok(());
        }
        let at = self.written.load(Ordering::Relaxed);
        self.file.write_all_at(tail, at)?;
        self.written.store(at + tail.len() as u64, Ordering::Release);
        if tail.capacity() > 4 * WRITE_BYTES {
            // For a large value, or what had gathered while the disk was full.
            *tail = Vec::new();
        }
        tail.clear();
        Ok(())
    }

    /// Writes what is in memory.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.write(&mut self.tail.lock())
    }

    /// Whether writes are kept in memory, because the disk is full.
    pub(super) fn is_stuck(&self) -> bool {
        self.tail.lock().len() >= WRITE_BYTES
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads a part of one entry.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        if end > self.written() {
            let tail = self.tail.lock();
            let written = self.written.load(Ordering::Relaxed);
            if end > written {
                // An entry is appended as a whole and written as a whole.
                let from = offset.checked_sub(written).ok_or(io::ErrorKind::UnexpectedEof)? as usize;
                let found = tail.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
                out.copy_from_slice(found);
                return Ok(());
            }
        }
        self.file.read_exact_at(out, offset)
    }
}
