//! How far a log was certainly durable, written beside its segments: what tells damage from a torn end.
//!
//! ```text
//! DURABLE   offset 8 | CRC-32C 4, big-endian; written in place after a flush, not synced
//! ```
//! A power cut may lose or tear any of the writes since the last flush, in any order, so that whole frames behind a bad
//! one prove nothing. What the mark names was synced before the mark was written: however old the copy of it that
//! survives, every frame below it must be there. A frame that is not was damaged later, and to cut there would take back
//! what was acknowledged. The mark goes down, synced, before frames are removed from the log's end on purpose.

use super::*;
use base::checksum::crc32c;

/// The mark's file.
pub(super) const NAME: &str = "DURABLE";
const MARK_BYTES: usize = 12;

/// See the module.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// What the file says, at least.
    at: AtomicI64,
}

impl Mark {
    /// Reads the mark of the log in `dir`, making the file when there is none. One that is not whole says nothing.
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let file = disk.open(&path, true).map_err(|e| Error::io(&path, e))?;
        let mut bytes = [0; MARK_BYTES];
        let whole = file.len().map_err(|e| Error::io(&path, e))? >= MARK_BYTES as u64;
        if whole {
            file.read_exact_at(&mut bytes, 0).map_err(|e| Error::io(&path, e))?;
        }
        let at = AtomicI64::new(if whole { decode(&bytes) } else { 0 });
        Ok(Self { path, file, at })
    }

    /// Everything below was durable.
    pub(super) fn get(&self) -> Offset {
        Offset(self.at.load(Ordering::Acquire))
    }

    /// Notes that everything below `to` is durable. A write that fails leaves a mark that says less, or nothing: no reason
    /// to refuse what is durable.
    pub(super) fn raise(&self, to: Offset) {
        if to > self.get() {
            // Before the write: after one that failed half-way the file may say either.
            self.at.store(to.get(), Ordering::Release);
            let _ = self.file.write_all_at(&encode(to), 0);
        }
    }

    /// Takes the mark back to `to`, durably: what lies above is about to be removed.
    pub(super) fn lower(&self, to: Offset) -> Result<()> {
        if to < self.get() {
            let written = self.file.write_all_at(&encode(to), 0).and_then(|()| self.file.sync_data());
            written.map_err(|e| Error::io(&self.path, e))?;
            self.at.store(to.get(), Ordering::Release);
        }
        Ok(())
    }
}

fn encode(offset: Offset) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(&offset.get().to_be_bytes());
    let crc = crc32c(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; MARK_BYTES]) -> i64 {
    let (offset, crc) = bytes.split_at(8);
    let number = offset.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    if crc == crc32c(offset).to_be_bytes() { number } else { 0 }
}
