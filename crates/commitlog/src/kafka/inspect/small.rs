//! The files beside the logs: snapshots of producers, checkpoints, metadata.

use std::io;
use std::path::Path;

use base::checksum::crc32c;

use super::{Complaint, Each, Item, complaint, dir_name};
use crate::Offset;
use crate::kafka::leader_epochs::{self, EpochEntry};
use crate::kafka::producers::Producers;
use crate::kafka::{checkpoints, directory};

/// Characters of a UUID in base64url.
const UUID_CHARS: usize = 22;

/// Whether a file of this name belongs into a partition's directory.
pub(super) fn is_of_partition(name: &str) -> bool {
    matches!(name, leader_epochs::FILE | directory::PARTITION_METADATA)
}

/// Whether a file of this name belongs into the directory of all partitions.
pub(super) fn is_of_directory(name: &str) -> bool {
    use checkpoints::{CLEANER, LOG_START, RECOVERY_POINT, REPLICATION};
    matches!(name, directory::META | CLEANER | LOG_START | RECOVERY_POINT | REPLICATION)
}

/// Tells what such a file holds; returns what is wrong with it.
pub(super) fn read(path: &Path, content: &[u8], tell: Each<'_>) -> io::Result<Vec<Complaint>> {
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => return Ok(vec![complaint(error.valid_up_to() as u64, "no text")]),
    };
    match dir_name(path).as_str() {
        leader_epochs::FILE => epochs(text, tell),
        directory::PARTITION_METADATA => metadata(text, tell),
        directory::META => properties(text, tell),
        _ => offsets(text, tell),
    }
}

/// Lines with the bytes at which they begin.
fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let begins = at;
        at += line.len() as u64;
        (begins, line.trim_end_matches(['\n', '\r']))
    })
}

/// Walks the entries of a checkpoint; `entry` says what is wrong with one.
fn checkpoint(
    text: &str,
    entry: &mut dyn FnMut(&str) -> io::Result<Option<String>>,
) -> io::Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    let mut lines = lines(text);
    match lines.next() {
        Some((_, "0")) => {}
        Some((at, other)) => return Ok(vec![complaint(at, format!("version {other:?}, not 0"))]),
        // Kafka makes the file before it has anything to write, and reads it as no entries.
        None => return Ok(Vec::new()),
    }
    let (count_at, count) = lines.next().unwrap_or((text.len() as u64, ""));
    let Ok(count) = count.parse::<u64>() else {
        return Ok(vec![complaint(count_at, format!("{count:?} is no number of entries"))]);
    };
    let mut found = 0;
    for (at, line) in lines {
        found += 1;
        complaints.extend(entry(line)?.map(|what| complaint(at, what)));
    }
    if found != count {
        complaints.push(complaint(count_at, format!("{count} entries, but {found} follow")));
    }
    Ok(complaints)
}

fn epochs(text: &str, tell: Each<'_>) -> io::Result<Vec<Complaint>> {
    let mut last: Option<EpochEntry> = None;
    checkpoint(text, &mut |line| {
        let Some(entry) = EpochEntry::parse(line).filter(|e| e.epoch >= 0 && e.start >= Offset(0)) else {
            return Ok(Some(format!("{line:?} is no epoch and offset")));
        };
        tell(Item::Epoch(&entry))?;
        let before = last.replace(entry);
        let falls = before.filter(|before| before.epoch >= entry.epoch || before.start > entry.start);
        Ok(falls.map(|before| {
            format!(
                "epoch {} from {} comes after {} from {}",
                entry.epoch, entry.start, before.epoch, before.start
            )
        }))
    })
}

fn offsets(text: &str, tell: Each<'_>) -> io::Result<Vec<Complaint>> {
    checkpoint(text, &mut |line| {
        let Some((topic, partition, offset)) = checkpoints::entry(line) else {
            return Ok(Some(format!("{line:?} is no topic, partition and offset")));
        };
        tell(Item::Checkpoint { topic, partition, offset })?;
        Ok((offset < Offset(0)).then(|| format!("offset {offset} is negative")))
    })
}

fn metadata(text: &str, tell: Each<'_>) -> io::Result<Vec<Complaint>> {
    let mut lines = lines(text);
    match lines.next() {
        Some((_, "version: 0")) => {}
        other => {
            return Ok(vec![complaint(0, format!("{:?}, not \"version: 0\"", other.map_or("", |l| l.1)))]);
        }
    }
    let (at, line) = lines.next().unwrap_or((text.len() as u64, ""));
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let id = line.strip_prefix("topic_id: ").filter(|id| id.len() == UUID_CHARS && id.chars().all(letter));
    let Some(id) = id else { return Ok(vec![complaint(at, format!("{line:?} is no topic id"))]) };
    tell(Item::Property { name: "topic_id", value: id })?;
    Ok(Vec::new())
}

fn properties(text: &str, tell: Each<'_>) -> io::Result<Vec<Complaint>> {
    let (mut complaints, mut version) = (Vec::new(), None);
    for (at, line) in lines(text) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            complaints.push(complaint(at, format!("{line:?} is no name=value")));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if name == "version" {
            version = Some(value);
        }
        tell(Item::Property { name, value })?;
    }
    if !matches!(version, Some("0" | "1")) {
        complaints.push(complaint(0, format!("version {}, not 1", version.unwrap_or("missing"))));
    }
    Ok(complaints)
}

/// Tells the producers of a snapshot that was taken at `offset`; returns what is wrong with it.
pub(super) fn snapshot(content: &[u8], offset: Offset, tell: Each<'_>) -> io::Result<Vec<Complaint>> {
    let Some(producers) = Producers::from_snapshot(content) else {
        return Ok(vec![snapshot_refused(content)]);
    };
    let mut complaints = Vec::new();
    let last_batches = producers.last_batches();
    for producer in producers.list() {
        tell(Item::Producer(&producer))?;
        let id = producer.producer_id;
        let last = last_batches.get(&id).and_then(|last| last.last_offset);
        for named in last.into_iter().chain(producer.transaction_start).filter(|named| *named >= offset) {
            // The entries have no fixed place once they are read; the file is at fault as a whole.
            complaints
                .push(complaint(0, format!("producer {id} has offset {named}, the snapshot is of {offset}")));
        }
    }
    Ok(complaints)
}

fn snapshot_refused(content: &[u8]) -> Complaint {
    let Some((head, body)) = content.split_at_checked(6) else {
        return complaint(content.len() as u64, "a snapshot of producers is cut short");
    };
    if head[..2] != [0, 1] {
        return complaint(0, format!("version {}, not 1", i16::from_be_bytes([head[0], head[1]])));
    }
    let (stored, actual) = (u32::from_be_bytes([head[2], head[3], head[4], head[5]]), crc32c(body));
    if stored != actual {
        return complaint(2, format!("the checksum is {actual:#010x}, the snapshot says {stored:#010x}"));
    }
    complaint(6, format!("the number of producers does not fit {} bytes", body.len()))
}
