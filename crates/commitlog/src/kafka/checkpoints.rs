//! Kafka's checkpoint files: text, `<version>\n<count>\n` and an entry a line (CheckpointFile.java).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base::disk::Disk;

use crate::Offset;

/// Offsets below which everything is durable.
pub const RECOVERY_POINT: &str = "recovery-point-offset-checkpoint";
/// First offsets that may be read.
pub const LOG_START: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub const REPLICATION: &str = "replication-offset-checkpoint";
/// Where the last compaction of each log ended.
pub const CLEANER: &str = "cleaner-offset-checkpoint";

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), Offset>;

/// The lines of a checkpoint of version 0, or None when it is not one.
pub(crate) fn lines(text: &str) -> Option<Vec<&str>> {
    let mut lines = text.lines();
    let (version, count) = (lines.next()?, lines.next()?.parse::<usize>().ok()?);
    let entries: Vec<_> = lines.collect();
    (version == "0" && entries.len() == count).then_some(entries)
}

/// A line of an offset checkpoint: topic, partition, offset.
pub(crate) fn entry(line: &str) -> Option<(&str, i32, Offset)> {
    let mut words = line.split(' ');
    let (topic, partition, offset) =
        (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((topic, partition, Offset(offset)))
}

/// Lays out entries as a checkpoint.
pub(crate) fn text<T: std::fmt::Display>(entries: impl ExactSizeIterator<Item = T>) -> String {
    let mut text = format!("0\n{}\n", entries.len());
    for entry in entries {
        text.push_str(&format!("{entry}\n"));
    }
    text
}

/// Reads an offset checkpoint; empty when it is missing or damaged (callers then know nothing and verify everything).
#[must_use]
pub fn read(disk: &dyn Disk, path: &Path) -> Offsets {
    let content = disk.read(path).unwrap_or_default();
    let content = String::from_utf8(content).unwrap_or_default();
    let owned = |line| entry(line).map(|(topic, partition, offset)| ((topic.to_owned(), partition), offset));
    let parsed: Option<Offsets> = lines(&content).and_then(|lines| lines.into_iter().map(owned).collect());
    if parsed.is_none() && !content.is_empty() {
        tracing::warn!(path = %path.display(), "damaged checkpoint ignored");
    }
    parsed.unwrap_or_default()
}

/// Replaces an offset checkpoint atomically and durably.
///
/// # Errors
/// The disk's.
pub fn write(disk: &dyn Disk, path: &Path, offsets: &Offsets) -> io::Result<()> {
    let lines = offsets.iter().map(|((topic, partition), offset)| format!("{topic} {partition} {offset}"));
    disk.write_atomically(path, text(lines).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;

    #[test]
    fn written_as_kafka_does_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECOVERY_POINT);
        let offsets = Offsets::from([(("orders".into(), 1), Offset(7)), (("a".into(), 10), Offset(0))]);
        write(&RealDisk, &path, &offsets).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n2\na 10 0\norders 1 7\n");
        assert_eq!(read(&RealDisk, &path), offsets);
        for bad in ["", "1\n0\n", "0\n2\na 1 2\n", "0\n1\na 1\n", "0\n1\na x 2\n", "0\n1\na 1 2 3\n"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(read(&RealDisk, &path), Offsets::new(), "{bad:?}");
        }
    }
}
