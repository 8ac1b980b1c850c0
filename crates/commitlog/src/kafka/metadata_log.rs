//! The log of cluster metadata that Apache Kafka (KRaft) keeps beside its partitions.
//!
//! ```text
//! <log.dir>/__cluster_metadata-0/<20 digits>.log ...                  a partition's files; record values are framed records
//!                               /<20 digits>-<10 digits>.checkpoint   a snapshot: the same batches, between a header and
//!                                                                     a footer; the log goes on from the offset in its name
//! <log.dir>/bootstrap.checkpoint                                      a snapshot of the features of a fresh cluster
//! ```
//! What the values say is the broker's business (`kafka_wire::metadata`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, DiskFile};
use bytes::Bytes;
use kafka_wire::Message;
use kafka_wire::record::{Batch, Builder};
use kafka_wire::records::leader_change_message::Voter;
use kafka_wire::records::{LeaderChangeMessage, SnapshotFooterRecord, SnapshotHeaderRecord};

use super::partition::{PartitionLog, PartitionOptions};
use super::{BATCH_HEADER_BYTES, BatchHeader, KafkaBatch, directory};
use crate::{Error, Framing, Offset, OpenFrom, Result};

/// Name of the log's directory.
pub const DIRECTORY: &str = "__cluster_metadata-0";
/// Name of the snapshot that a fresh cluster begins with.
pub const BOOTSTRAP: &str = "bootstrap.checkpoint";
/// The topic's id (Uuid.METADATA_TOPIC_ID), as Kafka writes ids.
const TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// Records in a batch that is written here; Kafka's controller takes up to 10,000.
const BATCH_RECORDS: usize = 1000;
/// The largest batch that is read: four times what Kafka's controllers write (KafkaRaftClient.MAX_BATCH_SIZE_BYTES).
const BATCH_BYTES_MAX: usize = 32 << 20;
/// The epoch of the first leader.
const EPOCH: i32 = 1;
/// `metadata.log.segment.bytes`: Kafka's default.
const SEGMENT_BYTES: u64 = 1 << 30;
/// Types of control records (ControlRecordType.java).
const LEADER_CHANGE: i16 = 2;
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;

/// Makes the log in `dir`, which does not exist, as the first leader `node_id` of a cluster of one controller would have
/// left it. Durable when this returns.
///
/// # Errors
/// The disk's.
pub fn write(disk: &Arc<dyn Disk>, dir: &Path, node_id: i32, records: &[Bytes], now_ms: i64) -> Result<()> {
    let options = PartitionOptions {
        segment_bytes: SEGMENT_BYTES,
        segment_ms: i64::MAX,
        segment_jitter_ms: 0,
        index_bytes_max: 10 << 20,
        index_interval_bytes: crate::index::INDEX_INTERVAL_BYTES,
        preallocate: false,
        producer_expiration_ms: i64::MAX,
    };
    let (log, _) = PartitionLog::open(disk.clone(), dir, options, OpenFrom::Clean, Offset(0))?;
    let voter = || vec![Voter { voter_id: node_id, ..Default::default() }];
    let elected = LeaderChangeMessage {
        leader_id: node_id,
        voters: voter(),
        granting_voters: voter(),
        ..Default::default()
    };
    let mut batches = vec![control(LEADER_CHANGE, &elected, 0, now_ms)?];
    for chunk in records.chunks(BATCH_RECORDS) {
        batches.push(data(chunk, 0, now_ms)?);
    }
    for batch in batches {
        let refused = |error| Error::Refused(format!("batch of metadata: {error}"));
        log.append(&mut batch.to_vec(), EPOCH, now_ms).map_err(refused)?;
    }
    log.close()?;
    let io = |e| Error::io(dir, e);
    directory::write_topic_id(&**disk, dir, TOPIC_ID).map_err(io)?;
    disk.open(&dir.join(directory::PARTITION_METADATA), false)
        .and_then(|file| file.sync_all())
        .map_err(io)?;
    disk.sync_dir(dir).map_err(io)
}

/// The bytes of a snapshot with these records.
///
/// # Errors
/// Records too large for a batch.
pub fn snapshot(records: &[Bytes], now_ms: i64) -> Result<Vec<u8>> {
    let header = SnapshotHeaderRecord { last_contained_log_timestamp: now_ms, ..Default::default() };
    let mut out = control(SNAPSHOT_HEADER, &header, 0, now_ms)?.to_vec();
    let mut offset = 1;
    for chunk in records.chunks(BATCH_RECORDS) {
        out.extend_from_slice(&data(chunk, offset, now_ms)?);
        offset += chunk.len() as i64;
    }
    out.extend_from_slice(&control(SNAPSHOT_FOOTER, &SnapshotFooterRecord::default(), offset, now_ms)?);
    Ok(out)
}

fn data(records: &[Bytes], offset: i64, now_ms: i64) -> Result<Bytes> {
    let mut batch = Builder::new().base_offset(offset).leader_epoch(0);
    for record in records {
        batch.append(now_ms, None, Some(record));
    }
    batch.build().map_err(|error| Error::Refused(error.to_string()))
}

/// A batch of one control record, whose value carries its own version.
fn control<M: Message>(kind: i16, record: &M, offset: i64, now_ms: i64) -> Result<Bytes> {
    let refused = |error: String| Error::Refused(format!("{}: {error}", M::NAME));
    let value = record.to_bytes(0).map_err(|error| refused(error.to_string()))?;
    let key = [0i16.to_be_bytes(), kind.to_be_bytes()].concat();
    let mut batch = Builder::new().base_offset(offset).leader_epoch(0).control();
    batch.append(now_ms, Some(&key), Some(&value));
    batch.build().map_err(|error| refused(error.to_string()))
}

/// Reads the newest snapshot and the log from there: the value of every record that is no control record, in order. A
/// batch that is cut short at the log's end was never committed and is left out.
///
/// # Errors
/// The disk's, `InvalidData` for batches that are damaged, those of `each`.
pub fn read(disk: &dyn Disk, dir: &Path, each: &mut dyn FnMut(&Bytes) -> io::Result<()>) -> io::Result<()> {
    let names = disk.list(dir)?;
    let newest = names.iter().filter_map(|name| Some((checkpoint_end(name)?, name))).max();
    let mut next = 0;
    if let Some((end, name)) = newest {
        Walk::open(disk, dir, name)?.run(0, false, each)?;
        next = end;
    }
    let mut logs: Vec<_> = names.iter().filter(|name| is_log(name)).collect();
    logs.sort_unstable();
    for (n, name) in logs.iter().enumerate() {
        let first: i64 = name.get(..20).and_then(|digits| digits.parse().ok()).unwrap_or_default();
        let after = logs.get(n + 1).and_then(|name| name.get(..20)?.parse::<i64>().ok());
        if after.is_some_and(|after| after <= next) {
            continue;
        }
        if first > next {
            return Err(damaged(dir, &format!("the offsets {next}..{first} are missing")));
        }
        next = Walk::open(disk, dir, name)?.run(next, after.is_none(), each)?;
    }
    Ok(())
}

/// The offset where the log goes on after a snapshot, from its name.
fn checkpoint_end(name: &str) -> Option<i64> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    (offset.len() == 20 && epoch.len() == 10 && epoch.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
    offset.parse().ok()
}

fn is_log(name: &str) -> bool {
    let digits = name.strip_suffix(".log").unwrap_or_default();
    digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())
}

fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

/// A file of batches that is read from its start.
struct Walk {
    path: std::path::PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl Walk {
    fn open(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        let file = disk.open(&path, false)?;
        let len = file.len()?;
        Ok(Self { path, file, len })
    }

    /// Hands out the records of the batches that end at `from` or later; the offset after the last. With `may_be_cut` the
    /// file may end in the middle of a batch, or in zeros.
    fn run(
        &self,
        from: i64,
        may_be_cut: bool,
        each: &mut dyn FnMut(&Bytes) -> io::Result<()>,
    ) -> io::Result<i64> {
        let (mut position, mut next) = (0, from);
        let mut header = [0; BATCH_HEADER_BYTES];
        while position < self.len {
            let wrong = |what: &str| damaged(&self.path, &format!("at byte {position}: {what}"));
            let left = self.len - position;
            if left < BATCH_HEADER_BYTES as u64 {
                return if may_be_cut { Ok(next) } else { Err(wrong("the header of a batch is cut short")) };
            }
            self.file.read_exact_at(&mut header, position)?;
            if may_be_cut && header.iter().all(|byte| *byte == 0) {
                return Ok(next);
            }
            let parsed = BatchHeader::parse(&header).filter(|header| header.len <= BATCH_BYTES_MAX);
            let parsed = parsed.ok_or_else(|| wrong("no batch"))?;
            if left < parsed.len as u64 {
                return if may_be_cut { Ok(next) } else { Err(wrong("the batch is cut short")) };
            }
            if parsed.last_offset() >= Offset(from) {
                let mut bytes = vec![0; parsed.len];
                self.file.read_exact_at(&mut bytes, position)?;
                if !KafkaBatch::verify(&bytes) {
                    return Err(wrong("the batch's checksum is wrong"));
                }
                if !parsed.is_control() {
                    values(&bytes, each).map_err(|error| wrong(&error.to_string()))?;
                }
                next = parsed.last_offset().get() + 1;
            }
            position += parsed.len as u64;
        }
        Ok(next)
    }
}

fn values(bytes: &[u8], each: &mut dyn FnMut(&Bytes) -> io::Result<()>) -> io::Result<()> {
    let (batch, _) = Batch::split(bytes).map_err(io::Error::other)?;
    let mut records = batch.records(BATCH_BYTES_MAX).map_err(io::Error::other)?;
    while let Some(record) = records.next() {
        let record = record.map_err(io::Error::other)?;
        each(&Bytes::copy_from_slice(record.value.unwrap_or_default()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;

    fn all(dir: &Path) -> io::Result<Vec<Bytes>> {
        let mut out = Vec::new();
        read(&RealDisk, dir, &mut |value| {
            out.push(value.clone());
            Ok(())
        })?;
        Ok(out)
    }

    fn numbered(range: std::ops::Range<usize>) -> Vec<Bytes> {
        range.map(|n| Bytes::from(format!("record {n}"))).collect()
    }

    #[test]
    fn what_was_written_is_read_and_a_snapshot_stands_for_what_it_covers() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(DIRECTORY);
        let records = numbered(0..2500);
        write(&RealDisk::shared(), &dir, 1, &records, 1000).unwrap();
        assert_eq!(all(&dir).unwrap(), records);

        // The log's first batches are 0 (control), 1..=1000, 1001..=2000, 2001..=2500.
        let covered = snapshot(&[Bytes::from_static(b"image")], 1000).unwrap();
        std::fs::write(dir.join("00000000000000002001-0000000001.checkpoint"), &covered).unwrap();
        let mut expect = vec![Bytes::from_static(b"image")];
        expect.extend(numbered(2000..2500));
        assert_eq!(all(&dir).unwrap(), expect);

        // A snapshot that is cut short is damage.
        std::fs::write(dir.join("00000000000000002001-0000000001.checkpoint"), &covered[..90]).unwrap();
        assert_eq!(all(&dir).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_torn_end_is_left_out_and_damage_is_told() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(DIRECTORY);
        write(&RealDisk::shared(), &dir, 1, &numbered(0..1500), 1000).unwrap();
        let log = dir.join("00000000000000000000.log");
        let whole = std::fs::read(&log).unwrap();
        for cut in [1, 3000, 10] {
            std::fs::write(&log, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(all(&dir).unwrap(), numbered(0..1000), "{cut} bytes less");
        }
        let mut zeros = whole.clone();
        zeros.extend([0; 100]);
        std::fs::write(&log, &zeros).unwrap();
        assert_eq!(all(&dir).unwrap(), numbered(0..1500));
        let mut flipped = whole.clone();
        flipped[5000] ^= 1;
        std::fs::write(&log, &flipped).unwrap();
        assert!(all(&dir).unwrap_err().to_string().contains("checksum"));
        std::fs::rename(&log, dir.join("00000000000000000007.log")).unwrap();
        assert!(all(&dir).unwrap_err().to_string().contains("offsets 0..7 are missing"));
    }
}
