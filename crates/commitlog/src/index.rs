//! Sparse indexes of a segment, in memory while it is written and in Kafka's files once it is sealed.
//!
//! ```text
//! .index      entries of 8 bytes:  relative offset u32 | position u32              (of a batch, at its start)
//! .timeindex  entries of 12 bytes: timestamp i64 | relative offset u32             (both never fall)
//! ```
//! An offset entry holds the *last* offset of the batch at the position, as Kafka's does (OffsetIndex.java), so a search
//! for `o` starts at the largest entry not above `o` and walks forward.

use std::io;
use std::path::{Path, PathBuf};

use base::disk::{Disk, DiskFile};

use crate::{Frame, Offset};

/// Kafka's default `index.interval.bytes`.
pub const INDEX_INTERVAL_BYTES: u64 = 4096;
/// Bytes of an entry of the offset index.
pub const OFFSET_ENTRY_BYTES: u64 = 8;
/// Bytes of an entry of the time index.
pub const TIME_ENTRY_BYTES: u64 = 12;

/// The largest timestamp seen in a segment and the last offset of the batch that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxTimestamp {
    pub timestamp_ms: i64,
    pub offset: Offset,
}

/// The indexes of one segment, in memory.
#[derive(Debug, Clone, Default)]
pub struct Index {
    offsets: Vec<(u32, u32)>,
    times: Vec<(i64, u32)>,
    bytes_since_entry: u64,
    max: Option<MaxTimestamp>,
    /// How many entries of both the files hold already.
    saved: (usize, usize),
    interval: Interval,
}

/// `index.interval.bytes`: more bytes than these lie between two entries.
#[derive(Debug, Clone, Copy)]
struct Interval(u64);

impl Default for Interval {
    fn default() -> Self {
        Self(INDEX_INTERVAL_BYTES)
    }
}

/// Entries that the files do not hold yet.
#[derive(Debug)]
pub(crate) struct Unsaved {
    at: (usize, usize),
    offsets: Vec<(u32, u32)>,
    times: Vec<(i64, u32)>,
}

impl Unsaved {
    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.times.is_empty()
    }

    /// Adds them to the files, durably.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path, base: Offset) -> io::Result<()> {
        for (extension, at, bytes) in [
            ("index", self.at.0 as u64 * OFFSET_ENTRY_BYTES, offset_bytes(&self.offsets)),
            ("timeindex", self.at.1 as u64 * TIME_ENTRY_BYTES, time_bytes(&self.times)),
        ] {
            let file = disk.open(&file_name(dir, base, extension), true)?;
            file.set_len(at)?;
            file.write_all_at(&bytes, at)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

impl Index {
    /// Leaves more than so many bytes between two entries from now on.
    pub(crate) fn set_interval(&mut self, bytes: u64) {
        self.interval = Interval(bytes);
    }

    /// Notes a frame that was written at `position` of the segment with offset `base`.
    pub fn note(&mut self, base: Offset, frame: &Frame, position: u64) {
        if self.max.is_none_or(|max| frame.max_timestamp_ms > max.timestamp_ms) {
            self.max = Some(MaxTimestamp { timestamp_ms: frame.max_timestamp_ms, offset: frame.last });
        }
        if self.bytes_since_entry > self.interval.0 {
            self.offsets.push((relative(base, frame.last), position as u32));
            self.note_time(base);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += frame.len as u64;
    }

    /// Adds the largest timestamp so far, unless the last entry has it already.
    fn note_time(&mut self, base: Offset) {
        let Some(max) = self.max.filter(|max| max.timestamp_ms >= 0) else { return };
        if self.times.last().is_none_or(|&(time, _)| max.timestamp_ms > time) {
            self.times.push((max.timestamp_ms, relative(base, max.offset)));
        }
    }

    /// Where to start walking to find `target`.
    #[must_use]
    pub fn position(&self, base: Offset, target: Offset) -> u64 {
        let relative = target.get() - base.get();
        let after = self.offsets.partition_point(|&(offset, _)| i64::from(offset) <= relative);
        after.checked_sub(1).map_or(0, |at| u64::from(self.offsets[at].1))
    }

    /// Where to start walking to find `target`, and where the last frame begins that ends below `upto` and is known to lie
    /// within `reach` bytes of that.
    pub(crate) fn span(&self, base: Offset, target: Offset, reach: u64, upto: Offset) -> (u64, u64) {
        let position = self.position(base, target);
        if reach == 0 {
            return (position, position);
        }
        let inside =
            |&(offset, at): &(u32, u32)| within(base, upto, position.saturating_add(reach), offset, at);
        let after = self.offsets.partition_point(inside);
        let last = after.checked_sub(1).map_or(0, |at| u64::from(self.offsets[at].1));
        (position, last.max(position))
    }

    /// Where the last entry points; 0 without entries.
    #[must_use]
    pub fn last_position(&self) -> u64 {
        self.offsets.last().map_or(0, |&(_, position)| u64::from(position))
    }

    /// Bytes of the offset index.
    #[must_use]
    pub fn offset_bytes(&self) -> u64 {
        self.offsets.len() as u64 * OFFSET_ENTRY_BYTES
    }

    /// Forgets entries for what lies at `from` or later; the largest timestamp is that of the last entry then.
    pub(crate) fn truncate(&mut self, base: Offset, from: Offset) {
        let relative = from.get() - base.get();
        let before = (self.offsets.len(), self.times.len());
        self.offsets.retain(|&(offset, _)| i64::from(offset) < relative);
        self.times.retain(|&(_, offset)| i64::from(offset) < relative);
        if before != (self.offsets.len(), self.times.len()) {
            self.max = self.last_time(base);
            self.saved = (self.saved.0.min(self.offsets.len()), self.saved.1.min(self.times.len()));
        }
    }

    fn last_time(&self, base: Offset) -> Option<MaxTimestamp> {
        let &(timestamp_ms, offset) = self.times.last()?;
        Some(MaxTimestamp { timestamp_ms, offset: base.plus(i64::from(offset)) })
    }

    /// Entries below `upto` that the files do not hold.
    pub(crate) fn unsaved(&self, base: Offset, upto: Offset) -> Unsaved {
        let relative = upto.get() - base.get();
        let below = |offset: u32| i64::from(offset) < relative;
        Unsaved {
            at: self.saved,
            offsets: self.offsets[self.saved.0..].iter().copied().take_while(|e| below(e.0)).collect(),
            times: self.times[self.saved.1..].iter().copied().take_while(|e| below(e.1)).collect(),
        }
    }

    /// Notes that these are in the files.
    pub(crate) fn note_saved(&mut self, written: &Unsaved) {
        self.saved = (written.at.0 + written.offsets.len(), written.at.1 + written.times.len());
    }

    /// From which offset on to walk to find the first record not older than `timestamp_ms`.
    #[must_use]
    pub fn offset_for_time(&self, base: Offset, timestamp_ms: i64) -> Offset {
        let after = self.times.partition_point(|&(time, _)| time <= timestamp_ms);
        after.checked_sub(1).map_or(base, |at| base.plus(i64::from(self.times[at].1)))
    }

    /// The largest timestamp in the segment.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<MaxTimestamp> {
        self.max.filter(|max| max.timestamp_ms >= 0)
    }

    /// Writes both files of a segment that will not grow; a last time entry covers its end, as Kafka's does.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, disk: &dyn Disk, dir: &Path, base: Offset) -> io::Result<()> {
        let (offsets, times) = self.files(base);
        replace(disk, &file_name(dir, base, "index"), &offsets)?;
        replace(disk, &file_name(dir, base, "timeindex"), &times)
    }

    /// What both files of a segment that will not grow hold; a last time entry covers its end.
    pub(crate) fn files(&mut self, base: Offset) -> (Vec<u8>, Vec<u8>) {
        self.note_time(base);
        (offset_bytes(&self.offsets), time_bytes(&self.times))
    }
}

/// Whether an entry's frame ends below `upto` and begins at `limit` at most.
fn within(base: Offset, upto: Offset, limit: u64, offset: u32, position: u32) -> bool {
    i64::from(offset) < upto.get() - base.get() && u64::from(position) <= limit
}

fn offset_bytes(entries: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * OFFSET_ENTRY_BYTES as usize);
    for (offset, position) in entries {
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&position.to_be_bytes());
    }
    bytes
}

fn time_bytes(entries: &[(i64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * TIME_ENTRY_BYTES as usize);
    for (time, offset) in entries {
        bytes.extend_from_slice(&time.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
    }
    bytes
}

fn relative(base: Offset, offset: Offset) -> u32 {
    // Segments roll before a relative offset passes i32::MAX, see Log::must_roll.
    (offset.get() - base.get()) as u32
}

fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(path, true)?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// `<dir>/<20 digits of base>.<extension>` (LogFileUtils.filenamePrefixFromOffset).
#[must_use]
pub fn file_name(dir: &Path, base: Offset, extension: &str) -> PathBuf {
    dir.join(format!("{:020}.{extension}", base.get()))
}

/// The indexes of a sealed segment, searched on disk by positioned reads so that they cost no memory.
#[derive(Debug)]
pub struct IndexFiles<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
    pub base: Offset,
}

impl IndexFiles<'_> {
    /// Where to start walking to find `target`; 0 (walk all) when the index is missing or is not one.
    #[must_use]
    pub fn position(&self, target: Offset, segment_bytes: u64) -> u64 {
        let relative = target.get() - self.base.get();
        self.search::<8>("index", |entry| i64::from(u32_at(entry, 0)) <= relative)
            .map(|entry| u64::from(u32_at(&entry, 4)))
            .filter(|&position| position < segment_bytes)
            .unwrap_or(0)
    }

    /// As [`Index::span`], of a segment of `segment_bytes`.
    pub(crate) fn span(&self, target: Offset, reach: u64, upto: Offset, segment_bytes: u64) -> (u64, u64) {
        let position = self.position(target, segment_bytes);
        if reach == 0 {
            return (position, position);
        }
        let limit = position.saturating_add(reach).min(segment_bytes.saturating_sub(1));
        let last = self
            .search::<8>("index", |entry| within(self.base, upto, limit, u32_at(entry, 0), u32_at(entry, 4)));
        (position, last.map_or(position, |entry| u64::from(u32_at(&entry, 4)).max(position)))
    }

    /// From which offset on to walk to find the first record not older than `timestamp_ms`.
    #[must_use]
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Offset {
        self.search::<12>("timeindex", |entry| i64_at(entry, 0) <= timestamp_ms)
            .map_or(self.base, |entry| self.base.plus(i64::from(u32_at(&entry, 8))))
    }

    /// The segment's largest timestamp: the last time entry.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<MaxTimestamp> {
        let entry = self.search::<12>("timeindex", |_| true)?;
        let offset = self.base.plus(i64::from(u32_at(&entry, 8)));
        Some(MaxTimestamp { timestamp_ms: i64_at(&entry, 0), offset })
    }

    /// Whether the time index is not there, or not a row of entries.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let file = self.disk.open(&file_name(self.dir, self.base, "timeindex"), false);
        file.and_then(|file| file.len()).map_or(true, |len| len % 12 != 0)
    }

    /// Both files as they were written for a segment of `segment_bytes`; empty when either is missing or not sorted.
    #[must_use]
    pub fn load(&self, segment_bytes: u64) -> Index {
        let read = |extension| self.disk.read(&file_name(self.dir, self.base, extension)).unwrap_or_default();
        let (offsets, times) = (read("index"), read("timeindex"));
        let offsets: Vec<_> = offsets.chunks_exact(8).map(|e| (u32_at(e, 0), u32_at(e, 4))).collect();
        let times: Vec<_> = times.chunks_exact(12).map(|e| (i64_at(e, 0), u32_at(e, 8))).collect();
        let sorted =
            offsets.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1) && times.is_sorted_by(|a, b| a.0 < b.0);
        let inside = offsets.last().is_none_or(|&(_, position)| u64::from(position) < segment_bytes);
        if !sorted || !inside || times.is_empty() {
            return Index::default();
        }
        let mut index = Index { offsets, times, ..Index::default() };
        index.max = index.last_time(self.base);
        index.saved = (index.offsets.len(), index.times.len());
        index
    }

    /// The last entry of a sorted file for which `before` holds.
    fn search<const N: usize>(&self, extension: &str, before: impl Fn(&[u8; N]) -> bool) -> Option<[u8; N]> {
        let file = self.disk.open(&file_name(self.dir, self.base, extension), false).ok()?;
        let (mut low, mut high) = (0, file.len().ok()? / N as u64);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = entry_at::<N>(&*file, middle)?;
            if before(&entry) {
                found = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        found
    }
}

fn entry_at<const N: usize>(file: &dyn DiskFile, n: u64) -> Option<[u8; N]> {
    let mut entry = [0; N];
    file.read_exact_at(&mut entry, n * N as u64).ok()?;
    Some(entry)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;

    /// Batches of 3,000 bytes with ten offsets each and timestamps 1000, 1010, ...
    fn sample() -> Index {
        let mut index = Index::default();
        for n in 0..10 {
            let first = Offset(100 + n * 10);
            let frame = Frame { len: 3000, first, last: first.plus(9), max_timestamp_ms: 1000 + n * 10 };
            index.note(Offset(100), &frame, n as u64 * 3000);
        }
        index
    }

    #[test]
    fn memory_and_files_find_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = sample();
        index.write(&RealDisk, dir.path(), Offset(100)).unwrap();
        let files = IndexFiles { disk: &RealDisk, dir: dir.path(), base: Offset(100) };
        for target in 95..215 {
            let target = Offset(target);
            assert_eq!(index.position(Offset(100), target), files.position(target, 30_000), "{target}");
        }
        for time in 990..1110 {
            assert_eq!(index.offset_for_time(Offset(100), time), files.offset_for_time(time), "{time}");
        }
        assert_eq!(index.max_timestamp(), files.max_timestamp());
        assert_eq!(files.max_timestamp(), Some(MaxTimestamp { timestamp_ms: 1090, offset: Offset(199) }));
    }

    #[test]
    fn entries_are_sparse_and_hold_the_last_offset() {
        let index = sample();
        // More than 4096 bytes lie before batches 2, 4, 6, 8.
        assert_eq!(index.offsets, [(29, 6000), (49, 12000), (69, 18000), (89, 24000)]);
        assert_eq!(index.times, [(1020, 29), (1040, 49), (1060, 69), (1080, 89)]);
        assert_eq!(index.position(Offset(100), Offset(128)), 0);
        assert_eq!(index.position(Offset(100), Offset(129)), 6000);
    }
}
