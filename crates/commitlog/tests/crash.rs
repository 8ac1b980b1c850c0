//! Partitions on a disk that loses power at any write: what a flush acknowledged is there, in order, without gap or
//! repeat; indexes and transactions agree with the log; a compaction that was interrupted is undone or finished.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeMap;
use std::path::Path;

use base::random::Random;
use commitlog::kafka::{CleanPolicy, EndTxnMarker, PartitionLog, PartitionOptions, Retention, headers};
use commitlog::{Offset, OpenFrom};
use kafka_wire::record::{Builder, Producer, batches};
use testkit::sim::{SimDisk, SimFault};

const DIR: &str = "/kafka/t-0";
const OPTIONS: PartitionOptions = PartitionOptions {
    segment_bytes: 1500,
    segment_ms: i64::MAX,
    segment_jitter_ms: 0,
    index_bytes_max: 10 << 20,
    index_interval_bytes: 4096,
    preallocate: false,
    producer_expiration_ms: i64::MAX,
};
const POLICY: CleanPolicy = CleanPolicy {
    lag_ms_min: 0,
    lag_ms_max: i64::MAX,
    dirty_ratio_min: 0.0,
    delete_retention_ms: 50,
    segment_bytes: 3000,
    index_bytes_max: 10 << 20,
};

/// What the test knows of the partition.
#[derive(Default)]
struct Known {
    /// Every record ever written: offset, key, value; and up to where it was acknowledged.
    written: Vec<(i64, String, Option<String>)>,
    acknowledged: i64,
    recovery_point: Offset,
    start: Offset,
    cleaned: Option<Offset>,
    now: i64,
    sequence: i32,
    open: bool,
    compacted: bool,
}

fn open(disk: &SimDisk, known: &Known) -> PartitionLog {
    let point = known.recovery_point;
    let from = if known.compacted { OpenFrom::Compacted(point) } else { OpenFrom::RecoveryPoint(point) };
    PartitionLog::open(disk.shared(), Path::new(DIR), OPTIONS, from, known.start).unwrap().0
}

/// Does something random; what fails, fails because the power went.
fn act(partition: &PartitionLog, known: &mut Known, random: &mut Random, compact: bool) -> Option<()> {
    known.now += 10;
    match random.below(16) {
        0..=7 => write(partition, known, random)?,
        8 if known.open => end_transaction(partition, known, random.below(2) == 0)?,
        9..=11 => {
            let end = partition.log().flush().ok()?;
            known.acknowledged = known.acknowledged.max(end.get());
        }
        12 | 13 => {
            let point = partition.checkpoint().ok()?;
            partition.note_saved(point);
            (known.recovery_point, known.acknowledged) = (point, known.acknowledged.max(point.get()));
        }
        _ if compact => {
            let plan = partition.cleanable(known.cleaned, &POLICY, partition.log().end(), known.now);
            if plan.dirty_bytes > 0 {
                let cleaned = partition.clean(&plan, &POLICY, 1 << 16, known.now, &|| false).ok()?;
                known.acknowledged = known.acknowledged.max(partition.log().flushed().get());
                known.cleaned = Some(cleaned.upto);
            }
        }
        _ => {
            let retention = Retention { ms: -1, bytes: 6000 };
            partition.retain(retention, partition.log().flushed(), known.now).ok()?;
            known.start = known.start.max(partition.log().start());
        }
    }
    Some(())
}

fn write(partition: &PartitionLog, known: &mut Known, random: &mut Random) -> Option<()> {
    let transactional = random.below(3) == 0;
    let mut builder = Builder::new();
    if transactional {
        builder =
            builder.producer(Producer { id: 1, epoch: 0, base_sequence: known.sequence }).transactional();
    }
    let count = 1 + random.below(3) as i32;
    let mut records = Vec::new();
    for n in 0..count {
        let key = format!("k{}", random.below(6));
        let value = (random.below(5) > 0)
            .then(|| format!("{}.{n}{}", known.now, "x".repeat(random.below(120) as usize)));
        builder.append(known.now, Some(key.as_bytes()), value.as_deref().map(str::as_bytes));
        records.push((key, value));
    }
    let mut bytes = builder.build().unwrap().to_vec();
    let info = partition.append(&mut bytes, partition.leader_epoch(), known.now).ok()?;
    if transactional {
        known.sequence += count;
        known.open = true;
    }
    for (n, (key, value)) in records.into_iter().enumerate() {
        known.written.push((info.base_offset.get() + n as i64, key, value));
    }
    Some(())
}

fn end_transaction(partition: &PartitionLog, known: &mut Known, commit: bool) -> Option<()> {
    let (key, value) = EndTxnMarker { commit, coordinator_epoch: 0 }.record();
    let producer = Producer { id: 1, epoch: 0, base_sequence: -1 };
    let mut builder = Builder::new().producer(producer).transactional().control();
    builder.append(known.now, Some(&key), Some(&value));
    partition.append(&mut builder.build().unwrap().to_vec(), partition.leader_epoch(), known.now).ok()?;
    known.open = false;
    Some(())
}

/// Records in the log with whether they are of an aborted transaction.
fn read(partition: &PartitionLog, from: Offset) -> Vec<(i64, String, Option<String>, bool)> {
    let end = partition.log().end();
    let aborted = partition.aborted_transactions(from, end).unwrap();
    let (mut at, mut found) = (from, Vec::new());
    while at < end {
        let chunk = partition.log().read(at, end, 400, true).unwrap();
        let Some(next) = chunk.next else { break };
        for batch in batches(&chunk.bytes) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            let first = Offset(batch.base_offset());
            let gone = batch.is_transactional()
                && aborted
                    .iter()
                    .any(|a| a.producer_id == batch.producer_id() && (a.first..=a.last).contains(&first));
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            let each = |r: kafka_wire::record::Record<'_>| {
                found.push((r.offset, text(r.key.unwrap()), r.value.map(text), gone));
            };
            if !batch.is_control() {
                batch.records(1 << 20).unwrap().for_each(each).unwrap();
            }
        }
        at = next;
    }
    found
}

/// What the log holds after a crash, against what is known.
fn check(partition: &PartitionLog, known: &mut Known, compacted: bool, seed: u64) {
    let log = partition.log();
    assert!(log.end().get() >= known.acknowledged, "seed {seed}: {} {}", log.end(), known.acknowledged);
    let found = read(partition, log.start());
    assert!(found.is_sorted_by_key(|r| r.0), "seed {seed}");
    known.written.retain(|r| r.0 < log.end().get());
    let written: BTreeMap<i64, _> = known.written.iter().map(|r| (r.0, r)).collect();
    for (offset, key, value, _) in &found {
        assert_eq!(written[offset], &(*offset, key.clone(), value.clone()), "seed {seed}");
    }
    if compacted {
        // The latest committed record of each key that was acknowledged is there, unless it was a tombstone.
        let mut last: BTreeMap<&str, &(i64, String, Option<String>)> = BTreeMap::new();
        last.extend(known.written.iter().map(|r| (&*r.1, r)));
        for (key, record) in last {
            let there = found.iter().any(|r| r.0 == record.0);
            assert!(
                there || record.2.is_none() || was_aborted(partition, record.0),
                "seed {seed} {key} {record:?}"
            );
        }
    } else {
        let expect = known.written.iter().filter(|r| r.0 >= log.start().get()).count();
        let data = found.iter().filter(|r| r.0 >= log.start().get()).count();
        let missing: Vec<_> = known.written.iter().filter(|r| !found.iter().any(|f| f.0 == r.0)).collect();
        assert_eq!(data, expect, "seed {seed}: {} {missing:?} {:?}", log.start(), log.segments());
    }
    for offset in log.start().get()..log.end().get() {
        let chunk = log.read(Offset(offset), log.end(), 1, true).unwrap();
        // Compaction may leave nothing between the last batch and the end.
        let first = headers(&chunk).next();
        let beyond = compacted && found.last().is_none_or(|last| last.0 < offset);
        assert!(first.map_or(beyond, |f| f.last_offset().get() >= offset), "seed {seed} offset {offset}");
    }
    let open = partition.open_transaction(1);
    let stable = partition.last_stable_offset(log.end());
    assert_eq!(stable, open.unwrap_or(log.end()).max(log.start()), "seed {seed}");
}

/// An aborted record that compaction took away leaves a gap that nothing in the log covers any more: the test cannot tell
/// it from a loss by the log alone, so it asks whether the producer's transactions reach there.
fn was_aborted(partition: &PartitionLog, offset: i64) -> bool {
    let chunk = partition.log().read(Offset(offset), partition.log().end(), 1, true).unwrap();
    headers(&chunk).next().is_none_or(|next| next.base_offset.get() > offset || next.count == 0)
}

fn run(seed: u64, compact: bool) -> (u64, u64) {
    let mut random = Random::from_seed(seed);
    let (mut disk, mut known) = (SimDisk::new(), Known { now: 1000, compacted: compact, ..Known::default() });
    let (mut rounds, mut verified) = (0, 0);
    for _ in 0..4 {
        let partition = open(&disk, &known);
        partition.log().flush().unwrap();
        known.acknowledged = partition.log().end().get();
        disk.sync(DIR);
        disk.set_fault(SimFault::PowerOffAfter(random.below(120)));
        for _ in 0..80 {
            if act(&partition, &mut known, &mut random, compact).is_none() {
                break;
            }
        }
        disk = disk.crash(&mut random);
        let partition = open(&disk, &known);
        check(&partition, &mut known, compact, seed);
        // Producers are where the log is.
        let last = partition.producers().first().map(|p| p.last_sequence);
        known.sequence = last.map_or(known.sequence.min(0), |last| last + 1);
        known.open = partition.open_transaction(1).is_some();
        (rounds, verified) = (rounds + 1, verified + partition.log().end().get() as u64);
        partition.checkpoint().unwrap();
        known.recovery_point = partition.recovery_point();
        known.cleaned = None;
    }
    (rounds, verified)
}

trait Sync {
    fn sync(&self, dir: &str);
}

impl Sync for SimDisk {
    fn sync(&self, dir: &str) {
        self.shared().sync_dir(Path::new(dir)).unwrap();
    }
}

#[test]
fn a_power_cut_at_any_write_loses_nothing_that_was_flushed() {
    let (mut rounds, mut offsets) = (0, 0);
    for seed in 0..150 {
        let (r, o) = run(seed, false);
        (rounds, offsets) = (rounds + r, offsets + o);
    }
    assert!(rounds == 600 && offsets > 1000);
}

#[test]
fn a_power_cut_in_the_midst_of_compaction_leaves_the_latest_of_each_key() {
    let mut offsets = 0;
    for seed in 1000..1150 {
        offsets += run(seed, true).1;
    }
    assert!(offsets > 1000);
}
