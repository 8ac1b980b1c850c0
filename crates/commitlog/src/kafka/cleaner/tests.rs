use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::kafka::PartitionOptions;
use crate::{Chunk, OpenFrom};
use base::disk::{Disk, RealDisk};
use base::random::Random;
use kafka_wire::record::{Batch, Builder, Compression, Producer};

const OPTIONS: PartitionOptions = PartitionOptions {
    segment_bytes: 4000,
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
    delete_retention_ms: 1000,
    segment_bytes: 4000,
    index_bytes_max: 10 << 20,
};

fn open(dir: &Path, from: OpenFrom) -> PartitionLog {
    PartitionLog::open(RealDisk::shared(), dir, OPTIONS, from, Offset(0)).unwrap().0
}

/// Records of a test: key and value; None deletes.
type Records<'a> = &'a [(&'a str, Option<&'a str>)];

fn batch(records: Records<'_>, codec: Compression, time: i64) -> Builder {
    let mut builder = Builder::new().compression(codec);
    for (key, value) in records {
        let headers = [("h", Some(&b"x"[..]))];
        builder.append_with_headers(time, Some(key.as_bytes()), value.map(str::as_bytes), &headers);
    }
    builder
}

fn put(partition: &PartitionLog, builder: &Builder, time: i64) -> Offset {
    let mut bytes = builder.build().unwrap().to_vec();
    partition.append(&mut bytes, 0, time).unwrap().base_offset
}

fn marker(producer: Producer, commit: bool, time: i64) -> Builder {
    let (key, value) = EndTxnMarker { commit, coordinator_epoch: 0 }.record();
    let mut builder = Builder::new().producer(Producer { base_sequence: -1, ..producer });
    builder = builder.transactional().control();
    builder.append(time, Some(&key), Some(&value));
    builder
}

fn clean(partition: &PartitionLog, from: Option<Offset>, now_ms: i64) -> Cleaned {
    partition.note_saved(partition.checkpoint().unwrap());
    let plan = partition.cleanable(from, &POLICY, partition.log().end(), now_ms);
    let cleaned = partition.clean(&plan, &POLICY, 1 << 20, now_ms, &|| false).unwrap();
    for path in &cleaned.retired {
        RealDisk.remove_file(path).unwrap();
    }
    cleaned
}

/// Everything from `from` on, as a reader of committed records sees it: offset, key, value.
fn read(partition: &PartitionLog, from: Offset) -> Vec<(i64, String, Option<String>)> {
    let end = partition.log().end();
    let aborted = partition.aborted_transactions(from, end).unwrap();
    let (mut found, mut at, mut last) = (Vec::new(), from, -1);
    while at < end {
        let chunk: Chunk = partition.log().read(at, end, 700, true).unwrap();
        let Some(next) = chunk.next else { break };
        for (header, bytes) in whole_batches(&chunk.bytes) {
            assert!(KafkaBatch::verify(bytes) && header.base_offset.get() > last);
            last = header.last_offset().get();
            let gone = aborted.iter().any(|a| {
                a.producer_id == header.producer_id
                    && (a.first..=a.last).contains(&header.base_offset)
                    && header.is_transactional()
            });
            if header.is_control() || gone {
                continue;
            }
            let batch = Batch::single(bytes).unwrap();
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            let each = |r: kafka_wire::record::Record<'_>| {
                assert_eq!(r.headers.clone().count(), 1);
                assert!(r.timestamp > 0 && r.offset <= header.last_offset().get());
                if r.offset >= from.get() {
                    found.push((r.offset, text(r.key.unwrap()), r.value.map(text)));
                }
            };
            batch.records(1 << 20).unwrap().for_each(each).unwrap();
        }
        at = next;
    }
    found
}

fn latest(records: &[(i64, String, Option<String>)]) -> BTreeMap<String, String> {
    let mut latest = BTreeMap::new();
    for (_, key, value) in records {
        match value {
            Some(value) => drop(latest.insert(key.clone(), value.clone())),
            None => drop(latest.remove(key)),
        }
    }
    latest
}

#[test]
fn the_latest_of_each_key_stays_and_tombstones_go_after_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    let partition = open(&path, OpenFrom::Clean);
    for round in 0..3 {
        let value = format!("v{round}");
        let all = [("a", Some(&*value)), ("b", Some(&*value)), ("c", Some(&*value))];
        put(&partition, &batch(&all, Compression::Gzip, 100), 100);
    }
    put(&partition, &batch(&[("b", None)], Compression::None, 100), 100);
    partition.log().roll().unwrap();
    let cleaned = clean(&partition, None, 1000);
    assert_eq!((cleaned.upto, cleaned.keys), (Offset(10), 3));
    assert!(cleaned.bytes_after < cleaned.bytes_before);
    let seen = |partition: &PartitionLog| {
        read(partition, Offset(0))
            .into_iter()
            .map(|(o, k, v)| format!("{o}{k}={v:?}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(seen(&partition), r#"6a=Some("v2") 8c=Some("v2") 9b=None"#);
    // Before the horizon the tombstone stays, afterwards it goes, and its timestamp was kept until then.
    put(&partition, &batch(&[("d", Some("1"))], Compression::None, 100), 100);
    partition.log().roll().unwrap();
    clean(&partition, Some(cleaned.upto), 1999);
    assert_eq!(seen(&partition), r#"6a=Some("v2") 8c=Some("v2") 9b=None 10d=Some("1")"#);
    put(&partition, &batch(&[("d", Some("2"))], Compression::None, 100), 100);
    partition.log().roll().unwrap();
    clean(&partition, Some(Offset(11)), 2000);
    assert_eq!(seen(&partition), r#"6a=Some("v2") 8c=Some("v2") 11d=Some("2")"#);
    assert_eq!(partition.log().end(), Offset(12));
    // All that was rewritten fits one segment; the active one was never touched.
    assert_eq!(partition.log().segments().len(), 2);
    partition.close().unwrap();
    let names = RealDisk.list(&path).unwrap();
    assert!(!names.iter().any(|n| n.ends_with(".swap") || n.ends_with(".cleaned")), "{names:?}");
    let again = open(&path, OpenFrom::Clean);
    assert_eq!(seen(&again), r#"6a=Some("v2") 8c=Some("v2") 11d=Some("2")"#);
}

#[test]
fn aborted_records_go_then_their_marker_and_a_producer_keeps_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    let partition = open(&path, OpenFrom::Clean);
    let producer = |base_sequence| Producer { id: 7, epoch: 0, base_sequence };
    let write = |sequence, value| {
        let records = [("k", Some(value))];
        put(
            &partition,
            &batch(&records, Compression::None, 5).producer(producer(sequence)).transactional(),
            5,
        )
    };
    write(0, "committed");
    put(&partition, &marker(producer(0), true, 5), 5);
    write(1, "aborted");
    write(2, "aborted");
    put(&partition, &marker(producer(0), false, 5), 5);
    partition.log().roll().unwrap();
    assert_eq!(latest(&read(&partition, Offset(0)))["k"], "committed");
    let headers = |partition: &PartitionLog| {
        let chunk = partition.log().read(Offset(0), Offset(100), 1 << 20, true).unwrap();
        let all = whole_batches(&chunk.bytes);
        all.map(|(h, _)| (h.base_offset.get(), h.count, h.is_control())).collect::<Vec<_>>()
    };
    let first = clean(&partition, None, 10);
    // The last sequence of the producer is in an empty batch; markers stay because their transactions were seen.
    assert_eq!(headers(&partition), [(0, 1, false), (1, 1, true), (3, 0, false), (4, 1, true)]);
    assert_eq!(partition.aborted_transactions(Offset(0), Offset(9)).unwrap().len(), 1);
    let retry = batch(&[("k", Some("aborted"))], Compression::None, 5).producer(producer(2)).transactional();
    assert!(partition.append(&mut retry.build().unwrap().to_vec(), 0, 5).unwrap().duplicate);
    // With new data of the same key, the committed record goes, later its marker: horizon first.
    put(&partition, &batch(&[("k", Some("plain"))], Compression::None, 6), 6);
    let plain = batch(&[("other", Some("x"))], Compression::None, 6).producer(producer(3)).transactional();
    put(&partition, &plain, 6);
    put(&partition, &marker(producer(0), true, 6), 6);
    partition.log().roll().unwrap();
    clean(&partition, Some(first.upto), 20);
    assert_eq!(headers(&partition), [(1, 1, true), (4, 1, true), (5, 1, false), (6, 1, false), (7, 1, true)]);
    for (round, now) in [(1, 30), (2, 5000), (3, 6000)] {
        put(&partition, &batch(&[("z", Some("x"))], Compression::None, 6), 6);
        partition.log().roll().unwrap();
        clean(&partition, None, now);
        let controls: Vec<_> = headers(&partition).into_iter().filter(|h| h.2).map(|h| h.0).collect();
        let expect = if round == 1 { vec![1, 4, 7] } else { vec![7] };
        assert_eq!(controls, expect, "round {round}");
        assert_eq!(latest(&read(&partition, Offset(0)))["k"], "plain");
    }
    assert!(partition.aborted_transactions(Offset(0), Offset(9)).unwrap().is_empty());
    assert_eq!(partition.last_stable_offset(partition.log().end()), partition.log().end());
    partition.close().unwrap();
    let again = open(&path, OpenFrom::Clean);
    assert_eq!(again.last_stable_offset(again.log().end()), again.log().end());
}

#[test]
fn what_the_map_does_not_hold_is_left_for_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(&dir.path().join("t-0"), OpenFrom::Clean);
    for n in 0..200 {
        put(&partition, &batch(&[(&format!("key{}", n % 90), Some("v"))], Compression::None, 5), 5);
    }
    partition.log().roll().unwrap();
    let before = latest(&read(&partition, Offset(0)));
    partition.note_saved(partition.checkpoint().unwrap());
    let plan = |from| partition.cleanable(from, &POLICY, partition.log().end(), 10);
    let (mut from, mut passes) = (None, 0);
    while plan(from).dirty_bytes > 0 && from.is_none_or(|from| from < Offset(200)) {
        // Room for 36 keys.
        from = Some(partition.clean(&plan(from), &POLICY, 40 * 24, 10, &|| false).unwrap().upto);
        passes += 1;
        assert_eq!(latest(&read(&partition, Offset(0))), before);
    }
    assert!(passes > 2, "{passes}");
    assert_eq!(read(&partition, Offset(0)).len(), 90);
    let stopped = partition.clean(&plan(None), &POLICY, 1 << 20, 10, &|| true);
    assert!(matches!(stopped, Err(Error::Refused(_))));
}

#[test]
fn lags_and_the_dirty_ratio_decide_when() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(&dir.path().join("t-0"), OpenFrom::Clean);
    for time in [1000, 2000, 3000] {
        put(&partition, &batch(&[("k", Some("v"))], Compression::None, time), time);
        partition.log().roll().unwrap();
    }
    let end = partition.log().end();
    assert_eq!(partition.cleanable(None, &POLICY, end, 9000).upto, Offset(0));
    partition.note_saved(partition.checkpoint().unwrap());
    let plan = |policy: &CleanPolicy, from, now| partition.cleanable(from, policy, end, now);
    let lag = CleanPolicy { lag_ms_min: 500, dirty_ratio_min: 0.5, ..POLICY };
    let found = plan(&lag, None, 2400);
    assert_eq!((found.upto, found.due, found.look_again_ms), (Offset(1), true, Some(2501)));
    assert_eq!(plan(&lag, None, 9000).upto, Offset(3));
    // Two of three segments are clean: a third is dirty.
    let found = plan(&lag, Some(Offset(2)), 9000);
    assert!(!found.due && (found.ratio() - 1.0 / 3.0).abs() < 0.01, "{found:?}");
    let late = CleanPolicy { lag_ms_max: 5000, ..lag };
    assert_eq!(plan(&late, Some(Offset(2)), 8000).look_again_ms, Some(8001));
    assert!(!plan(&late, Some(Offset(2)), 8000).due && plan(&late, Some(Offset(2)), 8001).due);
    // A checkpoint that cannot be of this log is not believed.
    assert_eq!(plan(&lag, Some(Offset(99)), 9000).from, Offset(0));
}

/// Whatever is written in whatever order, a compacted log reads as the latest of each key, from every offset.
#[test]
fn a_compacted_log_reads_as_its_model() {
    for seed in 0..6 {
        model(seed);
    }
}

fn model(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    let mut random = Random::from_seed(seed);
    let mut partition = open(&path, OpenFrom::Clean);
    let (mut now, mut from) = (1000, None);
    let mut sequences = [0; 3];
    let mut in_transaction = [false; 3];
    for step in 0..300 {
        now += random.below(40) as i64;
        match random.below(20) {
            0..=13 => {
                let records: Vec<_> = (0..1 + random.below(4))
                    .map(|n| {
                        let key = format!("k{}", random.below(12));
                        (key, (random.below(4) > 0).then(|| format!("{step}.{n}")))
                    })
                    .collect();
                let borrowed: Vec<_> = records.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
                let codec = Compression::ALL[random.below(5) as usize];
                let mut builder = batch(&borrowed, codec, now);
                let who = random.below(6) as usize;
                if who < 3 {
                    let base_sequence = sequences[who];
                    sequences[who] += records.len() as i32;
                    let producer = Producer { id: who as i64, epoch: 0, base_sequence };
                    builder = builder.producer(producer).transactional();
                    in_transaction[who] = true;
                }
                put(&partition, &builder, now);
            }
            14..=15 => {
                let who = random.below(3) as usize;
                if std::mem::take(&mut in_transaction[who]) {
                    let producer = Producer { id: who as i64, epoch: 0, base_sequence: 0 };
                    put(&partition, &marker(producer, random.below(2) == 0, now), now);
                }
            }
            16 => drop(partition.log().roll().unwrap()),
            17 => {
                let before = stable(&partition);
                let point = partition.checkpoint().unwrap();
                partition = open(&path, OpenFrom::Compacted(point));
                assert_eq!(stable(&partition), before, "seed {seed} step {step}");
            }
            _ => {
                let before = stable(&partition);
                if partition.log().segments().len() > 1 {
                    from = Some(clean(&partition, from, now).upto);
                }
                assert_eq!(stable(&partition), before, "seed {seed} step {step}");
                every_offset(&partition);
            }
        }
    }
}

/// The latest of each key below the last stable offset.
fn stable(partition: &PartitionLog) -> BTreeMap<String, String> {
    let upto = partition.last_stable_offset(partition.log().end()).get();
    let all: Vec<_> = read(partition, Offset(0)).into_iter().filter(|(offset, ..)| *offset < upto).collect();
    latest(&all)
}

fn every_offset(partition: &PartitionLog) {
    let all = read(partition, Offset(0));
    let end = partition.log().end().get();
    for from in 0..end {
        if from % 41 == 0 {
            let expect: Vec<_> = all.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
            assert_eq!(read(partition, Offset(from)), expect, "from {from}");
        }
    }
}
