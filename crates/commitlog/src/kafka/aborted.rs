//! Aborted transactions, a segment at a time: `.txnindex` (AbortedTxn.java, TransactionIndex.java).
//!
//! ```text
//! entries of 34 bytes: version i16 = 0 | producer id i64 | first offset i64 | last offset i64 | last stable offset i64
//! ```
//! An entry stands in the segment that holds the transaction's marker; last offsets ascend. A segment without aborted
//! transactions has no file. Entries wait in memory until a flush writes the file; sealed segments' are read from it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base::disk::Disk;

use crate::Offset;
use crate::index::file_name;

pub(crate) const ENTRY_BYTES: usize = 34;
/// Extension of the files.
pub(crate) const TXN_INDEX: &str = "txnindex";

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    pub producer_id: i64,
    /// First offset of the transaction in this partition.
    pub first: Offset,
    /// Offset of its marker.
    pub last: Offset,
    /// The last stable offset once it had ended: later transactions do not matter to readers below.
    pub last_stable: Offset,
}

impl AbortedTxn {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let fields = [self.producer_id, self.first.get(), self.last.get(), self.last_stable.get()];
        for (n, field) in fields.into_iter().enumerate() {
            bytes[2 + n * 8..10 + n * 8].copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let field = |n: usize| Some(i64::from_be_bytes(bytes.get(2 + n * 8..10 + n * 8)?.try_into().ok()?));
        (bytes.get(..2)? == [0, 0]).then_some(())?;
        Some(Self {
            producer_id: field(0)?,
            first: Offset(field(1)?),
            last: Offset(field(2)?),
            last_stable: Offset(field(3)?),
        })
    }
}

/// A file's content.
#[must_use]
pub(crate) fn encode(entries: &[AbortedTxn]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

/// The entries of a file up to the first that makes no sense.
#[must_use]
pub(crate) fn decode(bytes: &[u8]) -> Vec<AbortedTxn> {
    let mut entries: Vec<AbortedTxn> = Vec::new();
    for entry in bytes.chunks_exact(ENTRY_BYTES).map_while(AbortedTxn::parse) {
        if entry.first > entry.last || entries.last().is_some_and(|last| last.last >= entry.last) {
            break;
        }
        entries.push(entry);
    }
    entries
}

/// Replaces a segment's file, durably.
pub(crate) fn write_file(disk: &dyn Disk, dir: &Path, base: Offset, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(&file_name(dir, base, TXN_INDEX), true)?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// The entries of one segment.
#[derive(Debug)]
struct Segment {
    /// None: as the file has them.
    entries: Option<Vec<AbortedTxn>>,
    dirty: bool,
}

/// The transaction indexes of a partition. Costs nothing where no transaction was ever aborted.
#[derive(Debug, Default)]
pub(crate) struct AbortedTxns {
    dir: PathBuf,
    segments: BTreeMap<Offset, Segment>,
}

impl AbortedTxns {
    /// Those of a partition whose segments with a file are `bases`.
    pub(crate) fn open(dir: &Path, bases: impl IntoIterator<Item = Offset>) -> Self {
        let segments = bases.into_iter().map(|base| (base, Segment { entries: None, dirty: false }));
        Self { dir: dir.to_path_buf(), segments: segments.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    fn load(&self, disk: &dyn Disk, base: Offset) -> io::Result<Vec<AbortedTxn>> {
        let Some(segment) = self.segments.get(&base) else { return Ok(Vec::new()) };
        match &segment.entries {
            Some(entries) => Ok(entries.clone()),
            None => Ok(decode(&disk.read(&file_name(&self.dir, base, TXN_INDEX))?)),
        }
    }

    /// Adds an entry to the segment at `base`.
    pub(crate) fn note(&mut self, disk: &dyn Disk, base: Offset, entry: AbortedTxn) -> io::Result<()> {
        let mut entries = self.load(disk, base)?;
        if entries.last().is_some_and(|last| last.last >= entry.last) {
            return Ok(());
        }
        entries.push(entry);
        self.segments.insert(base, Segment { entries: Some(entries), dirty: true });
        Ok(())
    }

    /// Aborted transactions that overlap `from..upto`, as a reader of committed records needs them.
    pub(crate) fn overlapping(
        &self,
        disk: &dyn Disk,
        segment: Offset,
        from: Offset,
        upto: Offset,
    ) -> io::Result<Vec<AbortedTxn>> {
        let mut found = Vec::new();
        for base in self.segments.range(segment..).map(|(base, _)| *base) {
            for entry in self.load(disk, base)? {
                if entry.last >= from && entry.first < upto {
                    found.push(entry);
                }
                if entry.last_stable >= upto {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// What no flush has written yet: segments with the content of their files.
    pub(crate) fn unwritten(&self) -> Vec<(Offset, Vec<u8>)> {
        let dirty = self.segments.iter().filter(|(_, s)| s.dirty);
        dirty.map(|(base, s)| (*base, encode(s.entries.as_deref().unwrap_or_default()))).collect()
    }

    /// Notes that the file of `base` was written with so much; below `active` it is read from disk from now on.
    pub(crate) fn written(&mut self, base: Offset, bytes: usize, active: Offset) {
        let Some(segment) = self.segments.get_mut(&base) else { return };
        let len = segment.entries.as_ref().map_or(0, Vec::len) * ENTRY_BYTES;
        // More may have been noted meanwhile.
        segment.dirty &= len != bytes;
        if !segment.dirty && base < active {
            segment.entries = None;
        }
    }

    /// Forgets transactions that end at `to` or later; files that become empty are removed.
    pub(crate) fn truncate_suffix(&mut self, disk: &dyn Disk, to: Offset) -> io::Result<()> {
        let bases: Vec<Offset> = self.segments.keys().copied().collect();
        for base in bases.into_iter().rev() {
            let entries = self.load(disk, base)?;
            let keep = entries.partition_point(|entry| entry.last < to);
            if keep == entries.len() && keep > 0 {
                break;
            }
            if keep == 0 {
                self.segments.remove(&base);
                let path = file_name(&self.dir, base, TXN_INDEX);
                if disk.exists(&path) {
                    disk.remove_file(&path)?;
                }
            } else {
                self.segments.insert(base, Segment { entries: Some(entries[..keep].to_vec()), dirty: true });
            }
        }
        Ok(())
    }

    /// Compaction puts one segment, with these entries, where those in `base..upto` were. They stay in memory until
    /// [`AbortedTxns::settle`], because the file has no final name yet.
    pub(crate) fn exchange(&mut self, base: Offset, upto: Offset, entries: Vec<AbortedTxn>) {
        self.segments.retain(|at, _| !(base..upto).contains(at));
        if !entries.is_empty() {
            self.segments.insert(base, Segment { entries: Some(entries), dirty: false });
        }
    }

    /// From now on the entries of `base` are read from its file.
    pub(crate) fn settle(&mut self, base: Offset) {
        if let Some(segment) = self.segments.get_mut(&base).filter(|s| !s.dirty) {
            segment.entries = None;
        }
    }

    /// Forgets segments below `first` (their files went with them).
    pub(crate) fn truncate_prefix(&mut self, first: Offset) {
        self.segments = self.segments.split_off(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;

    fn entry(producer_id: i64, first: i64, last: i64, last_stable: i64) -> AbortedTxn {
        AbortedTxn { producer_id, first: Offset(first), last: Offset(last), last_stable: Offset(last_stable) }
    }

    fn write(aborted: &mut AbortedTxns) {
        for (base, bytes) in aborted.unwritten() {
            write_file(&RealDisk, &aborted.dir, base, &bytes).unwrap();
            aborted.written(base, bytes.len(), Offset(100));
        }
        assert!(aborted.unwritten().is_empty());
    }

    #[test]
    fn files_are_kafkas_and_damage_ends_them() {
        let bytes = encode(&[entry(1, 2, 3, 4)]);
        let expect = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
            .into_iter()
            .chain([0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4])
            .collect::<Vec<u8>>();
        assert_eq!(bytes, expect);
        let mut two = encode(&[entry(1, 2, 3, 4), entry(2, 3, 9, 10)]);
        assert_eq!(decode(&two).len(), 2);
        two[35] = 7;
        assert_eq!(decode(&two), [entry(1, 2, 3, 4)]);
        assert_eq!(decode(&two[..40]), [entry(1, 2, 3, 4)]);
        assert_eq!(decode(&encode(&[entry(1, 5, 9, 9), entry(2, 3, 8, 9)])).len(), 1);
    }

    #[test]
    fn readers_get_what_overlaps_and_cuts_take_entries_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut aborted = AbortedTxns::open(dir.path(), []);
        for (base, e) in [(0, entry(1, 2, 5, 6)), (0, entry(2, 7, 20, 8)), (100, entry(3, 8, 120, 121))] {
            aborted.note(&RealDisk, Offset(base), e).unwrap();
        }
        write(&mut aborted);
        let find = |aborted: &AbortedTxns, from, upto| {
            let found = aborted.overlapping(&RealDisk, Offset(0), Offset(from), Offset(upto)).unwrap();
            found.iter().map(|e| e.producer_id).collect::<Vec<_>>()
        };
        assert_eq!(find(&aborted, 0, 6), [1]);
        assert_eq!(find(&aborted, 6, 9), [2, 3]);
        assert_eq!(find(&aborted, 21, 200), [3]);
        assert_eq!(find(&aborted, 121, 200), [0; 0]);
        let mut again = AbortedTxns::open(dir.path(), [Offset(0), Offset(100)]);
        assert_eq!(find(&again, 6, 9), [2, 3]);
        again.truncate_suffix(&RealDisk, Offset(20)).unwrap();
        assert_eq!(find(&again, 0, 200), [1]);
        write(&mut again);
        assert!(!dir.path().join("00000000000000000100.txnindex").exists());
        assert_eq!(RealDisk.read(&dir.path().join("00000000000000000000.txnindex")).unwrap().len(), 34);
        again.truncate_prefix(Offset(1));
        assert!(again.is_empty());
    }
}
