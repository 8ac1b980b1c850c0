use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base::disk::RealDisk;
use kafka_wire::record::{Builder, Compression, Producer};

use super::*;
use crate::kafka::{BATCH_HEADER_BYTES, KafkaBatch, PartitionLog, PartitionOptions, directory};
use crate::{OpenFrom, Recovery};

const OPTIONS: PartitionOptions = PartitionOptions {
    segment_bytes: 20_000,
    segment_ms: i64::MAX,
    segment_jitter_ms: 0,
    index_bytes_max: 10 << 20,
    index_interval_bytes: 4096,
    preallocate: false,
    producer_expiration_ms: 86_400_000,
};
const PRODUCER: i64 = 7;
/// Batches before the aborted transaction.
const BATCHES: i32 = 80;

/// Two records of which the value is not worth compressing.
fn batch(n: i32, codec: Compression) -> Vec<u8> {
    let mut builder =
        Builder::new().compression(codec).producer(Producer { id: PRODUCER, epoch: 0, base_sequence: n * 2 });
    let value: Vec<u8> = (0..600_u32).map(|b| (b.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let time = 1_700_000_000_000 + i64::from(n) * 10;
    builder.append(time, Some(b"key"), Some(&value)).append(time + 1, None, Some(&value));
    builder.build().expect("builds").to_vec()
}

/// Marks a batch and renews its checksum.
fn marked(mut bytes: Vec<u8>, attributes: u8) -> Vec<u8> {
    bytes[22] |= attributes;
    let time = BatchHeader::parse(&bytes).unwrap().max_timestamp_ms;
    KafkaBatch::set_max_timestamp(&mut bytes, time);
    bytes
}

fn abort() -> Vec<u8> {
    let (key, value) = EndTxnMarker { commit: false, coordinator_epoch: 3 }.record();
    let mut builder = Builder::new().producer(Producer { id: PRODUCER, epoch: 0, base_sequence: -1 });
    builder.append(1_700_000_001_000, Some(&key), Some(&value));
    marked(builder.build().expect("builds").to_vec(), 16 | 32)
}

/// A data directory with the partition `t-0`: three segments and what belongs to them.
fn written() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("t-0");
    let (partition, _): (_, Recovery) =
        PartitionLog::open(RealDisk::shared(), &dir, OPTIONS, OpenFrom::Clean, Offset(0)).unwrap();
    for n in 0..BATCHES {
        let codec = Compression::ALL[n as usize % Compression::ALL.len()];
        partition.append(&mut batch(n, codec), n / 40, 0).unwrap();
    }
    partition.append(&mut marked(batch(BATCHES, Compression::None), 16), 1, 0).unwrap();
    partition.append(&mut abort(), 1, 0).unwrap();
    partition.close().unwrap();
    directory::write_topic_id(&RealDisk, &dir, "AAAAAAAAAAAAAAAAAAAAAA").unwrap();
    fs::write(root.path().join(checkpoints::RECOVERY_POINT), "0\n1\nt 0 163\n").unwrap();
    (root, dir)
}

/// What an inspection told: items by kind, damage as text.
#[derive(Debug, Default)]
struct Told {
    kinds: BTreeMap<&'static str, u64>,
    damage: Vec<String>,
}

fn told(path: &Path, options: Options) -> Told {
    let mut told = Told::default();
    let damaged = inspect(path, options, &mut |item| {
        let kind = match &item {
            Item::Partition { .. } => "partition",
            Item::File { .. } => "file",
            Item::Batch { crc_ok, marker, .. } => {
                *told.kinds.entry("crc ok").or_default() += u64::from(*crc_ok);
                *told.kinds.entry("marker").or_default() += u64::from(marker.is_some());
                "batch"
            }
            Item::Record(_) => "record",
            Item::Gap { .. } => "gap",
            Item::LogEnd { .. } => "end",
            Item::Entries(_) => "entries",
            Item::IndexEntry { .. } => "index entry",
            Item::TimeEntry(_) => "time entry",
            Item::Aborted(_) => "aborted",
            Item::Producer(_) => "producer",
            Item::Epoch(_) => "epoch",
            Item::Checkpoint { .. } => "checkpoint",
            Item::Property { .. } => "property",
            Item::Damage { path, position, what } => {
                told.damage.push(format!("{} {position}: {what}", dir_name(path)));
                "damage"
            }
        };
        *told.kinds.entry(kind).or_default() += 1;
        Ok(())
    });
    assert_eq!(damaged.unwrap(), told.damage.len() as u64);
    told
}

const ALL: Options = Options { records: true, entries: true, compacted: false };

/// The names of the partition's files that end so.
fn ending(dir: &Path, suffix: &str) -> Vec<String> {
    names(dir).unwrap().into_iter().filter(|name| name.ends_with(suffix)).collect()
}

#[test]
fn what_was_written_is_told_and_whole() {
    let (root, dir) = written();
    let all = told(root.path(), ALL);
    assert_eq!(all.damage, [""; 0]);
    let segments = ending(&dir, ".log").len() as u64;
    assert!(segments >= 3, "{segments}");
    let of = |kind| all.kinds.get(kind).copied().unwrap_or_default();
    let batches = BATCHES as u64 + 2;
    assert_eq!(
        (of("batch"), of("crc ok"), of("record"), of("marker")),
        (batches, batches, batches * 2 - 1, 1)
    );
    assert_eq!((of("partition"), of("end"), of("epoch"), of("aborted")), (1, segments, 2, 1));
    assert_eq!((of("producer"), of("checkpoint"), of("property"), of("gap")), (segments, 1, 1, 0));
    assert!(of("index entry") > segments && of("time entry") > segments, "{all:?}");
    // The partition alone, and each file alone.
    assert_eq!(told(&dir, ALL).damage, [""; 0]);
    for name in names(&dir).unwrap() {
        let alone = told(&dir.join(&name), Options::default());
        assert_eq!((alone.damage.len(), alone.kinds["file"]), (0, 1), "{name}");
    }
    let none = inspect(&dir.join("nothing"), ALL, &mut |_| Ok(())).unwrap_err();
    assert!(none.to_string().contains("nothing"), "{none}");
    fs::write(root.path().join("other"), "x").unwrap();
    let other = inspect(&root.path().join("other"), ALL, &mut |_| Ok(())).unwrap_err();
    assert_eq!(other.kind(), io::ErrorKind::InvalidInput);
}

/// Changes the first file that ends with `suffix` and says what is found wrong in the partition first.
#[track_caller]
fn check(suffix: &str, change: impl FnOnce(&mut Vec<u8>), first: &str) {
    let (_root, dir) = written();
    let path = dir.join(&ending(&dir, suffix)[0]);
    let mut content = fs::read(&path).unwrap();
    change(&mut content);
    fs::write(&path, content).unwrap();
    let damage = told(&dir, ALL).damage;
    assert!(damage.first().is_some_and(|damage| damage.contains(first)), "{first:?}: {damage:#?}");
    // Alone it tells the same, but for what only the segments together show.
    let alone = told(&path, Options::default()).damage;
    assert!(alone.first().is_some_and(|damage| damage.contains(first)), "alone {first:?}: {alone:#?}");
}

#[test]
fn damage_in_logs_has_its_place() {
    let len = batch(0, Compression::None).len();
    check(".log", |c| c[100] ^= 1, "00000000000000000000.log 0: the batch's checksum is");
    check(".log", |c| c[len + 16] = 9, &format!("0.log {len}: no batch: magic 9"));
    check(".log", |c| c[len + 16] = 1, &format!("0.log {len}: no batch: magic 1, the message format"));
    check(".log", |c| c[7] = 1, "0.log 0: offsets 0..1 are missing");
    check(".log", |c| c[len + 7] = 1, &format!("0.log {len}: offset 1 is not above"));
    check(".log", |c| c[len] = 0x80, &format!("0.log {len}: the lengths or offsets"));
    check(".log", |c| c[len..len + 8].fill(0x7f), &format!("0.log {len}: offsets 2..9187201950435737471"));
    check(".log", |c| c[15] = 5, &format!("0.log {len}: the leader epoch falls from 5 to 0"));
    let cut = |c: &mut Vec<u8>| c.truncate(c.len() - 1);
    check(".log", cut, "is cut short");
    check(".log", |c| c.extend([1; 9]), "the header of a batch is cut short: 9 bytes");
    check(".log", |c| c.extend([[0; 99], [1; 99]].concat()), "bytes follow the zeros from byte");
}

#[test]
fn records_that_do_not_parse_are_damage_where_they_are_asked_for() {
    let (_root, dir) = written();
    let path = dir.join(&ending(&dir, ".log")[0]);
    let mut content = fs::read(&path).unwrap();
    let len = BatchHeader::parse(&content).unwrap().len;
    content[BATCH_HEADER_BYTES] = 1;
    let time = BatchHeader::parse(&content).unwrap().max_timestamp_ms;
    KafkaBatch::set_max_timestamp(&mut content[..len], time);
    fs::write(&path, content).unwrap();
    assert_eq!(told(&dir, Options { records: false, ..ALL }).damage, [""; 0]);
    assert_eq!(told(&dir, ALL).damage, ["00000000000000000000.log 0: record 0 is malformed"]);
}

#[test]
fn damage_in_indexes_is_found_by_the_log() {
    check(".index", |c| c[7] ^= 1, "0.index 0: the entry of offset");
    check(".index", |c| c[3] = 0, "0.index 0: the entry of offset 0 points to byte");
    check(".index", |c| c[8..16].fill(0), "0.index 8: offset 0 at byte 0 comes after");
    check(".index", |c| c.extend([0x7f; 8]), "beyond the log's last batch");
    check(".index", |c| c.push(1), "1 bytes are left over");
    check(".timeindex", |c| c[7] ^= 1, "0.timeindex 0: the entry of offset");
    check(".timeindex", |c| c[12..20].fill(0), "0.timeindex 12: time 0 of offset");
    check(".timeindex", |c| c.extend([0x7f; 12]), "is not in the log, which ends at");
    check(".txnindex", |c| c[1] = 1, ".txnindex 0: no entry of an aborted transaction");
    check(".txnindex", |c| c[24] = 1, ".txnindex 0: the transaction of producer 7 ends at");
    check(".txnindex", |c| c[10] = 1, ".txnindex 0: offsets");
}

#[test]
fn room_made_ahead_is_no_damage() {
    let (_root, dir) = written();
    for suffix in [".log", ".index", ".timeindex"] {
        let path = dir.join(ending(&dir, suffix).last().unwrap());
        let mut content = fs::read(&path).unwrap();
        content.extend([0; 5000]);
        fs::write(&path, content).unwrap();
    }
    assert_eq!(told(&dir, ALL).damage, [""; 0]);
}

#[test]
fn damage_in_small_files_is_found() {
    check(".snapshot", |c| c[20] ^= 1, ".snapshot 2: the checksum is");
    check(".snapshot", |c| c[1] = 2, ".snapshot 0: version 2, not 1");
    check(".snapshot", |c| c.truncate(3), ".snapshot 3: a snapshot of producers is cut short");
    check("checkpoint", |c| c[0] = b'1', "leader-epoch-checkpoint 0: version \"1\", not 0");
    check("checkpoint", |c| c[2] = b'3', "leader-epoch-checkpoint 2: 3 entries, but 2 follow");
    check("checkpoint", |c| c[4] = b'x', "leader-epoch-checkpoint 4: \"x 0\" is no epoch and offset");
    check("checkpoint", |c| c[4] = b'7', "leader-epoch-checkpoint 8: epoch 1 from 80 comes after 7 from 0");
    check("checkpoint", |c| c[4] = 0xff, "leader-epoch-checkpoint 4: no text");
    check("metadata", |c| c[9] = b'7', "partition.metadata 0: ");
    check("metadata", |c| c.truncate(30), "partition.metadata 11: ");
}

#[test]
fn a_missing_segment_is_a_gap_unless_the_partition_was_compacted() {
    let (root, dir) = written();
    let middle = ending(&dir, ".log")[1].clone();
    let base = middle.trim_end_matches(".log").to_owned();
    for suffix in [".log", ".index", ".timeindex", ".snapshot"] {
        fs::remove_file(dir.join(format!("{base}{suffix}"))).unwrap();
    }
    let third = ending(&dir, ".log")[1].clone();
    let damage = told(&dir, ALL).damage;
    assert_eq!(damage.len(), 1, "{damage:#?}");
    assert!(damage[0].starts_with(&format!("{third} 0: offsets {}..", base.trim_start_matches('0'))));
    let allowed = told(&dir, Options { compacted: true, ..ALL });
    assert_eq!((allowed.damage.len(), allowed.kinds["gap"]), (0, 1));
    // As Kafka makes it, before it has cleaned anything.
    fs::write(root.path().join(checkpoints::CLEANER), "").unwrap();
    assert_eq!(
        inspect(&root.path().join(checkpoints::CLEANER), Options::default(), &mut |_| Ok(())).unwrap(),
        0
    );
    fs::write(root.path().join(checkpoints::CLEANER), "0\n1\nt 0 10\n").unwrap();
    assert_eq!(told(root.path(), ALL).damage, [""; 0]);
}

/// The same bad bytes every time.
struct Stranger(u64);

impl Stranger {
    fn number(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    /// Flipped, cut, extreme or random bytes instead of good ones.
    fn spoil(&mut self, good: &[u8], round: usize) -> Vec<u8> {
        let mut bad = good.to_vec();
        if round.is_multiple_of(3) {
            bad.truncate(self.number() % (bad.len() + 1));
        }
        // Headers are where numbers are believed: half of the changes go there.
        let reach = if round.is_multiple_of(2) { bad.len().min(100) } else { bad.len() };
        for _ in 0..round % 7 {
            let (at, value) = (self.number() % reach.max(1), [0, 0x7f, 0x80, 0xff, self.number() as u8]);
            let (value, span) = (value[self.number() % value.len()], 1 + self.number() % 8);
            bad.iter_mut().skip(at).take(span).for_each(|byte| *byte = value);
        }
        if round % 20 == 19 {
            bad = (0..500).map(|_| self.number() as u8).collect();
        }
        bad
    }
}

#[test]
fn strangers_bytes_never_panic() {
    let (_root, dir) = written();
    let mut stranger = Stranger(1);
    for name in names(&dir).unwrap() {
        let path = dir.join(&name);
        let good = fs::read(&path).unwrap();
        for round in 0..21 {
            fs::write(&path, stranger.spoil(&good, round)).unwrap();
            told(&path, ALL);
            told(&dir, ALL);
        }
        fs::write(&path, good).unwrap();
    }
}

/// Recovery believes no file either: what it opens is whole, whatever it was given.
#[test]
fn a_partition_of_strangers_bytes_opens_whole_or_not_at_all() {
    let (_root, dir) = written();
    let mut stranger = Stranger(2);
    let good: Vec<_> =
        names(&dir).unwrap().into_iter().map(|n| (fs::read(dir.join(&n)).unwrap(), n)).collect();
    for round in 0..80 {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("t-0");
        fs::create_dir(&dir).unwrap();
        for (content, name) in &good {
            let spoiled = stranger.number().is_multiple_of(4);
            let content = if spoiled { stranger.spoil(content, round) } else { content.clone() };
            fs::write(dir.join(name), content).unwrap();
        }
        let from = OpenFrom::RecoveryPoint(Offset(0));
        let opened = PartitionLog::open(RealDisk::shared(), &dir, OPTIONS, from, Offset(0));
        let Ok((partition, _)) = opened else { continue };
        partition.close().unwrap();
        // Gaps are left where a log lost its tail, leader epochs lie outside of the checksum, and indexes that point
        // beyond their log are ignored and written over by recovery; batches are whole.
        let told = told(&dir, Options { compacted: true, ..ALL });
        let logs = told.damage.iter().filter(|d| d.contains(".log ") && !d.contains("leader epoch"));
        assert_eq!(logs.cloned().collect::<Vec<_>>(), [""; 0], "round {round}");
    }
}
