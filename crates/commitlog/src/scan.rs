//! Walking the frames of a segment's file: recovery, lookups of ends, rebuilding of indexes.

use std::path::Path;

use base::disk::DiskFile;

use crate::index::Index;
use crate::{Error, Frame, Framing, Offset, Parsed, Result};

/// Bytes read at a time; a larger frame makes the buffer as large as the frame.
const SCAN_BYTES: usize = 256 * 1024;

/// Where a scan starts and what it trusts.
#[derive(Debug)]
pub(crate) struct Start {
    /// Offset in the segment's name.
    pub base: Offset,
    /// Byte to start at: the beginning of a frame.
    pub position: u64,
    /// Bytes of the file to look at.
    pub len: u64,
    /// Frames that end here or later have their checksums verified; headers suffice for the rest, or for all.
    pub verify_from: Option<Offset>,
    /// What is known of the frames before `position`.
    pub index: Index,
}

impl Start {
    /// Every frame from the beginning, with its checksum.
    pub(crate) fn verified(base: Offset, len: u64) -> Self {
        Self { base, position: 0, len, verify_from: Some(Offset(0)), index: Index::default() }
    }

    /// Headers only, from the last entry of the index on.
    pub(crate) fn trusted(base: Offset, len: u64, index: Index) -> Self {
        Self { base, position: index.last_position(), len, verify_from: None, index }
    }
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// First byte after the last good frame.
    pub end: u64,
    /// The offset after the last good frame's last; None without frames.
    pub next: Option<Offset>,
    /// Whether bytes that are no frame follow (zero fill does not count, nor what a file held before).
    pub torn: bool,
    /// Bytes whose checksums were verified.
    pub verified: u64,
    pub index: Index,
}

/// Called for each good frame with its position and bytes (only the header where the scan does not verify).
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&Frame, u64, &[u8]);

/// Walks frames until the file ends, zero fill begins or a frame is bad.
pub(crate) fn scan<F: Framing>(
    path: &Path,
    file: &dyn DiskFile,
    start: Start,
    visit: Visit<'_>,
) -> Result<Scanned> {
    let mut window = Window { path, file, len: start.len, at: 0, bytes: Vec::new() };
    let mut found = Scanned { end: start.position, next: None, torn: false, verified: 0, index: start.index };
    loop {
        let Some(header) = window.get(found.end, F::HEADER_BYTES)? else {
            found.torn = found.end < start.len;
            break;
        };
        let expected = found.next.unwrap_or(start.base);
        let frame = match F::parse(header) {
            Parsed::Frame(frame) if F::REUSED && frame.first < expected => break,
            Parsed::Frame(frame) => frame,
            Parsed::End => break,
            // The middle of an old frame looks like this.
            Parsed::Torn if F::REUSED => break,
            Parsed::Torn => {
                found.torn = true;
                break;
            }
        };
        let verify = start.verify_from.is_some_and(|from| frame.last >= from);
        let wanted = if verify { frame.len } else { F::HEADER_BYTES };
        let whole = found.end + frame.len as u64 <= start.len;
        let grows = frame.first >= expected && frame.last >= frame.first;
        let good = match window.get(found.end, wanted)? {
            Some(bytes) if whole && grows && (!verify || F::verify(bytes)) => {
                visit(&frame, found.end, bytes);
                true
            }
            _ => false,
        };
        if !good {
            found.torn = true;
            break;
        }
        found.index.note(start.base, &frame, found.end);
        found.next = Some(frame.last.next());
        found.verified += if verify { frame.len as u64 } else { 0 };
        found.end += frame.len as u64;
    }
    Ok(found)
}

/// A sliding buffer over the file.
struct Window<'a> {
    path: &'a Path,
    file: &'a dyn DiskFile,
    len: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `wanted` bytes at `position`, or None when the file ends before.
    fn get(&mut self, position: u64, wanted: usize) -> Result<Option<&[u8]>> {
        if position + wanted as u64 > self.len {
            return Ok(None);
        }
        let inside = position >= self.at && position + wanted as u64 <= self.at + self.bytes.len() as u64;
        if !inside {
            let size = (wanted.max(SCAN_BYTES) as u64).min(self.len - position);
            self.bytes.resize(size as usize, 0);
            self.at = position;
            self.file.read_exact_at(&mut self.bytes, position).map_err(|e| Error::io(self.path, e))?;
        }
        let from = (position - self.at) as usize;
        Ok(Some(&self.bytes[from..from + wanted]))
    }
}
