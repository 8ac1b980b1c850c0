//! Reading records one after the other: those that lie near each other with one call of the system.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use base::checksum::crc32c;
use mvcc::StateError;

use super::record::Pointer;
use super::segment::{ENTRY_HEAD_BYTES, Segment};

/// Segments by their number.
pub(crate) type Segments = BTreeMap<u32, Arc<Segment>>;

/// What is read ahead at first when a record follows the one before, and what at most, each time four times as much.
const AHEAD_BYTES_MIN: usize = 16 * 1024;
const AHEAD_BYTES_MAX: usize = 256 * 1024;
/// Records that are no further from each other follow each other: others' lie between.
const NEAR_BYTES: u64 = 4096;

/// The bytes of a record, checked. Allocates them.
pub(crate) fn read(segments: &Segments, pointer: &Pointer) -> Result<Vec<u8>, StateError> {
    let segment = find(segments, pointer.segment)?;
    let mut record = vec![0; pointer.record_len as usize];
    read_exact(segment, at(pointer), &mut record)?;
    check(segment, pointer, &record)?;
    Ok(record)
}

fn find(segments: &Segments, id: u32) -> Result<&Arc<Segment>, StateError> {
    segments.get(&id).ok_or_else(|| StateError::Corrupt(format!("there is no segment {id:08x} of values")))
}

/// Where a record is in its segment.
fn at(pointer: &Pointer) -> u64 {
    u64::from(pointer.offset) + ENTRY_HEAD_BYTES as u64 + u64::from(pointer.key_len)
}

fn read_exact(segment: &Segment, offset: u64, out: &mut [u8]) -> Result<(), StateError> {
    segment.read(offset, out).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(segment, offset),
        _ => StateError::Io(format!("{}: {error}", segment.path.display())),
    })
}

pub(super) fn damaged(segment: &Segment, offset: u64) -> StateError {
    let path = segment.path.display();
    StateError::Corrupt(format!("{path}: what is at byte {offset} is not what was written"))
}

fn check(segment: &Segment, pointer: &Pointer, record: &[u8]) -> Result<(), StateError> {
    if crc32c(record) == pointer.crc { Ok(()) } else { Err(damaged(segment, at(pointer))) }
}

/// A place in the values that moves on with a scan.
pub(crate) struct Cursor<S> {
    segments: S,
    window: Window,
    /// Where the last record was, and ended.
    last: Option<(u32, u64)>,
    ahead: usize,
}

impl<S: Deref<Target = Segments>> Cursor<S> {
    pub(crate) fn new(segments: S) -> Self {
        Self { segments, window: Window::default(), last: None, ahead: 0 }
    }

    /// The bytes of a record, checked.
    pub(crate) fn record(&mut self, pointer: &Pointer) -> Result<&[u8], StateError> {
        let segment = find(&self.segments, pointer.segment)?;
        let (from, len) = (at(pointer), pointer.record_len as usize);
        let follows = self.last.is_some_and(|(id, end)| {
            id == segment.id && from >= end && from - end <= NEAR_BYTES.max(len as u64)
        });
        if !self.window.covers(segment, from, len) {
            self.ahead = if follows { (self.ahead * 4).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX) } else { 0 };
        }
        self.last = Some((segment.id, from + len as u64));
        let record = self.window.bytes(segment, from, len, self.ahead)?;
        check(segment, pointer, record)?;
        Ok(record)
    }
}

#[cfg(test)]
impl<S> Cursor<S> {
    /// Where the bytes in memory begin, and how many there are.
    pub(super) fn window_place(&self) -> (u64, usize) {
        (self.window.from, self.window.len)
    }
}

/// A part of a segment in memory.
#[derive(Default)]
pub(super) struct Window {
    segment: u32,
    from: u64,
    /// As long as the longest read so far: memory is cleared once.
    bytes: Vec<u8>,
    /// How much of it counts.
    len: usize,
}

impl Window {
    fn covers(&self, segment: &Segment, from: u64, len: usize) -> bool {
        let end = self.from + self.len as u64;
        self.segment == segment.id && from >= self.from && from + len as u64 <= end
    }

    /// A part of one entry; reads `ahead` bytes from there on, where there are so many in the file.
    pub(super) fn bytes(
        &mut self,
        segment: &Segment,
        from: u64,
        len: usize,
        ahead: usize,
    ) -> Result<&[u8], StateError> {
        if !self.covers(segment, from, len) {
            let there = segment.written().saturating_sub(from);
            let ahead = usize::try_from(there).map_or(ahead, |there| there.min(ahead));
            let wanted = len.max(ahead);
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
            // Nothing of the old content counts if the read fails.
            (self.segment, self.from, self.len) = (segment.id, from, 0);
            read_exact(segment, from, &mut self.bytes[..wanted])?;
            self.len = wanted;
        }
        let at = (from - self.from) as usize;
        Ok(&self.bytes[at..at + len])
    }
}
