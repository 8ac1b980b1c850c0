//! Which leader wrote which offsets: `leader-epoch-checkpoint` (LeaderEpochFileCache.java, KIP-101).

use std::io;
use std::path::{Path, PathBuf};

use base::disk::Disk;

use crate::Offset;
use crate::kafka::checkpoints::{lines, text};

pub(crate) const FILE: &str = "leader-epoch-checkpoint";

/// A leader's first offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: i32,
    pub start: Offset,
}

impl EpochEntry {
    /// A line of the file.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (epoch, start) = line.split_once(' ')?;
        Some(Self { epoch: epoch.parse().ok()?, start: Offset(start.parse().ok()?) })
    }
}

/// Answer to OffsetForLeaderEpoch; -1 and -1 when unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: i32,
    pub end: Offset,
}

impl EpochEnd {
    /// Nothing is known of the epoch.
    pub const UNDEFINED: Self = Self { epoch: -1, end: Offset(-1) };
}

/// A partition's epochs, ascending in both numbers.
#[derive(Debug, Default)]
pub struct LeaderEpochs {
    path: PathBuf,
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// Reads the partition's file; none is an empty history.
    #[must_use]
    pub fn open(disk: &dyn Disk, dir: &Path) -> Self {
        let path = dir.join(FILE);
        let content = disk.read(&path).unwrap_or_default();
        let content = String::from_utf8(content).unwrap_or_default();
        let parsed: Option<Vec<_>> =
            lines(&content).and_then(|lines| lines.into_iter().map(EpochEntry::parse).collect());
        let entries = parsed.unwrap_or_default();
        let sorted = entries.is_sorted_by(|a, b| a.epoch < b.epoch && a.start <= b.start);
        Self { path, entries: if sorted { entries } else { Vec::new() } }
    }

    /// The empty history of a partition that is being made.
    #[must_use]
    pub fn default_in(dir: &Path) -> Self {
        Self { path: dir.join(FILE), entries: Vec::new() }
    }

    /// The newest epoch, if any.
    #[must_use]
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|e| e.epoch)
    }

    /// All entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Notes that `epoch` begins at `start`; an epoch already known is left alone. True when something changed: save.
    pub fn assign(&mut self, epoch: i32, start: Offset) -> bool {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        // A leader that wrote nothing leaves no trace.
        self.entries.retain(|e| e.start < start);
        self.entries.push(EpochEntry { epoch, start });
        true
    }

    /// Forgets what begins at `end` or later. True when something changed.
    pub fn truncate_suffix(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.start < end);
        before != self.entries.len()
    }

    /// Moves the first epoch that still has offsets to `start`. True when something changed.
    pub fn truncate_prefix(&mut self, start: Offset) -> bool {
        let covered = self.entries.iter().rposition(|e| e.start <= start).unwrap_or(0);
        let moved = self.entries.get(covered).is_some_and(|e| e.start < start);
        self.entries.drain(..covered);
        if let (true, Some(first)) = (moved, self.entries.first_mut()) {
            first.start = start;
        }
        covered > 0 || moved
    }

    /// The largest epoch not above `requested` and the offset after its last record.
    #[must_use]
    pub fn end_of(&self, requested: i32, log_end: Offset) -> EpochEnd {
        if requested < 0 {
            return EpochEnd::UNDEFINED;
        }
        if self.latest() == Some(requested) {
            return EpochEnd { epoch: requested, end: log_end };
        }
        let above = self.entries.partition_point(|e| e.epoch <= requested);
        let Some(next) = self.entries.get(above) else { return EpochEnd::UNDEFINED };
        let epoch = above.checked_sub(1).map_or(requested, |at| self.entries[at].epoch);
        EpochEnd { epoch, end: next.start }
    }

    /// The epoch that wrote `offset`; -1 when unknown.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> i32 {
        let above = self.entries.partition_point(|e| e.start <= offset);
        above.checked_sub(1).map_or(-1, |at| self.entries[at].epoch)
    }

    /// Writes the file. Not synced: batches carry their epochs, so a lost file is rebuilt.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, disk: &dyn Disk) -> io::Result<()> {
        let content = self.content();
        let temporary = PathBuf::from(format!("{}.tmp", self.path.display()));
        let file = disk.open(&temporary, true)?;
        file.set_len(0)?;
        file.write_all_at(content.as_bytes(), 0)?;
        disk.rename(&temporary, &self.path)
    }

    /// The same, durably: for an epoch that no batch carries.
    ///
    /// # Errors
    /// The disk's.
    pub fn save_durably(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.write_atomically(&self.path, self.content().as_bytes())
    }

    fn content(&self) -> String {
        text(self.entries.iter().map(|e| format!("{} {}", e.epoch, e.start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;

    #[test]
    fn answers_as_kafka_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut epochs = LeaderEpochs::open(&RealDisk, dir.path());
        assert_eq!(epochs.end_of(0, Offset(5)), EpochEnd::UNDEFINED);
        for (epoch, start) in [(1, 0), (3, 10), (3, 12), (2, 30), (5, 20)] {
            epochs.assign(epoch, Offset(start));
        }
        epochs.save(&RealDisk).unwrap();
        let content = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(content, "0\n3\n1 0\n3 10\n5 20\n");
        let mut epochs = LeaderEpochs::open(&RealDisk, dir.path());
        let check = |requested, epoch, end| {
            assert_eq!(
                epochs.end_of(requested, Offset(25)),
                EpochEnd { epoch, end: Offset(end) },
                "{requested}"
            );
        };
        check(-1, -1, -1);
        check(0, 0, 0);
        check(1, 1, 10);
        check(2, 1, 10);
        check(3, 3, 20);
        check(5, 5, 25);
        check(6, -1, -1);
        assert_eq!([9, 10, 19, 20].map(|o| epochs.epoch_of(Offset(o))), [1, 3, 3, 5]);
        assert!(epochs.truncate_prefix(Offset(12)));
        assert_eq!(epochs.entries()[0], EpochEntry { epoch: 3, start: Offset(12) });
        assert!(!epochs.truncate_prefix(Offset(12)));
        assert!(epochs.truncate_suffix(Offset(20)));
        assert_eq!(epochs.latest(), Some(3));
    }
}
