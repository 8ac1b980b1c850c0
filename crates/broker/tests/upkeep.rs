//! Logs in the background: compaction, retention, recovery points, flushes by time. What is on disk is read by Kafka's own
//! DumpLogSegments where `KETCH_TEST_KAFKA_CLASSPATH` is set.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use common::{Raw, Served, append, create, fetch, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::FetchResponse;
use kafka_wire::record::{Builder, Compression, batches};

/// Two busy cores take their time.
const PATIENCE: Duration = Duration::from_secs(60);

fn now_ms() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

/// A batch of ten records of 1 KB; the keys go round in 50.
fn keyed(round: i64, codec: Compression) -> Bytes {
    let mut builder = Builder::new().compression(codec);
    for n in 0..10 {
        let key = format!("key-{}", (round * 10 + n) % 50);
        let value = format!("{round}.{n} {}", "x".repeat(1000));
        builder.append(now_ms(), Some(key.as_bytes()), Some(value.as_bytes()));
    }
    builder.build().unwrap()
}

/// Every record of partition 0: offset, key, the first word of the value.
async fn read(raw: &mut Raw, topic: &str) -> Vec<(i64, String, String)> {
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let response: FetchResponse = raw.call(12, &fetch(topic, at, 0, 0)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let records = partition.records.clone().unwrap_or_default();
        let before = at;
        for batch in batches(&records) {
            // The last may be cut at the limit of the answer.
            let Ok(batch) = batch else { break };
            batch.verify().unwrap();
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            let each = |r: kafka_wire::record::Record<'_>| {
                let value = text(r.value.unwrap());
                let word = value.split(' ').next().unwrap().to_owned();
                found.push((r.offset, text(r.key.unwrap()), word));
            };
            batch.records(1 << 24).unwrap().for_each(each).unwrap();
            at = batch.next_offset();
        }
        if at == before {
            return found;
        }
    }
}

fn latest(records: &[(i64, String, String)]) -> BTreeMap<&str, &str> {
    records.iter().map(|(_, key, word)| (&**key, &**word)).collect()
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = entries.filter(|p| p.to_string_lossy().ends_with(suffix)).collect();
    found.sort();
    found
}

/// Has Kafka's tool read the files of a partition, indexes against the log, and gives what it prints.
fn dump(dir: &Path, extensions: &[&str]) -> Option<String> {
    let Ok(class_path) = std::env::var("KETCH_TEST_KAFKA_CLASSPATH") else {
        eprintln!("skipped: KETCH_TEST_KAFKA_CLASSPATH is not set; `cargo xtask test` sets it");
        return None;
    };
    let all: Vec<_> = extensions.iter().flat_map(|e| files(dir, e)).collect();
    let list: Vec<_> = all.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let output = std::process::Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", &class_path])
        .args(["org.apache.kafka.tools.DumpLogSegments", "--files", &list.join(",")])
        .output()
        .expect("java runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = ["mismatch", "Mismatches", "Found timestamp", "isvalid: false", "corrupt", "Exception"];
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !complaints.iter().any(|c| text.contains(c)), "{text}\n{errors}");
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_keeps_the_latest_of_each_key() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("file.delete.delay.ms", "0"),
    ];
    assert_eq!(create(&mut raw, "t", &configs).await, ErrorCode::None);
    let mut refused = Builder::new();
    refused.append(now_ms(), None, Some(b"no key"));
    assert_eq!(append(&mut raw, "t", refused.build().unwrap()).await.0, ErrorCode::InvalidRecord);
    let mut written = BTreeMap::new();
    for round in 0..400 {
        let codec = Compression::ALL[(round % 5) as usize];
        let codec = if round % 2 == 0 { Compression::None } else { codec };
        assert_eq!(append(&mut raw, "t", keyed(round, codec)).await.0, ErrorCode::None);
        (0..10).for_each(|n| {
            drop(written.insert(format!("key-{}", (round * 10 + n) % 50), format!("{round}.{n}")))
        });
    }
    let partition = dir.path().join("t-0");
    let compacted = async {
        loop {
            let found = read(&mut raw, "t").await;
            assert_eq!(latest(&found), written.iter().map(|(k, v)| (&**k, &**v)).collect());
            // The sealed part holds each key once; the active segment what came since.
            let active: i64 = files(&partition, ".log")
                .last()
                .unwrap()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            let sealed: Vec<_> = found.iter().filter(|(offset, ..)| *offset < active).collect();
            let keys: std::collections::BTreeSet<_> = sealed.iter().map(|(_, key, _)| key).collect();
            if active > 0 && keys.len() == sealed.len() {
                return sealed.len();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, compacted).await.expect("compacted in time") <= 50);
    served.stop().await;
    let checkpoint = std::fs::read_to_string(dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert!(checkpoint.starts_with("0\n1\nt 0 "), "{checkpoint}");
    assert!(files(&partition, ".deleted").is_empty() && files(&partition, ".swap").is_empty());
    if let Some(text) = dump(&partition, &[".log", ".index", ".timeindex", ".snapshot"]) {
        assert!(text.contains("lastOffset: 3999"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_groups_are_compacted_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.properties.insert("offsets.topic.segment.bytes".into(), "1048576".into());
    options.properties.insert("offsets.topic.num.partitions".into(), "1".into());
    options.properties.insert("log.segment.delete.delay.ms".into(), "0".into());
    let store = testkit::MemStore::shared();
    let served = Served::with(options.clone(), store.clone()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let metadata = "m".repeat(4000);
    for offset in 0..700 {
        commit(&mut raw, offset, &metadata).await;
    }
    let partition = dir.path().join("__consumer_offsets-0");
    let shrunk = async {
        while files(&partition, ".log").iter().map(|p| p.metadata().unwrap().len()).sum::<u64>() > 1_500_000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shrunk).await.expect("compacted in time");
    served.stop().await;
    let served = Served::with(options, store).await;
    let mut raw = served.raw().await;
    assert_eq!(committed(&mut raw).await, 699);
    served.stop().await;
}

async fn commit(raw: &mut Raw, offset: i64, metadata: &str) {
    use kafka_wire::messages::offset_commit_request::{
        OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    use kafka_wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some(metadata.into()),
        ..Default::default()
    };
    let topics = vec![OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..Default::default()
    }];
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics,
        ..Default::default()
    };
    let response: OffsetCommitResponse = raw.call(8, &request).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

async fn committed(raw: &mut Raw) -> i64 {
    use kafka_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
    use kafka_wire::messages::{OffsetFetchRequest, OffsetFetchResponse};
    let topics = vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] }];
    let request = OffsetFetchRequest { group_id: "g".into(), topics: Some(topics), ..Default::default() };
    let response: OffsetFetchResponse = raw.call(5, &request).await;
    response.topics[0].partitions[0].committed_offset
}

/// Under page-cache durability nothing waits for the disk, yet the recovery point moves up, and `flush.ms` is kept.
#[tokio::test(flavor = "multi_thread")]
async fn recovery_points_move_up_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.durability = broker::Durability::PageCache;
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::None);
    let value = vec![7u8; 900_000];
    let mut builder = Builder::new();
    builder.append(now_ms(), Some(b"k"), Some(&value));
    let records = builder.build().unwrap();
    for _ in 0..40 {
        assert_eq!(append(&mut raw, "t", records.clone()).await.0, ErrorCode::None);
    }
    let path = dir.path().join("recovery-point-offset-checkpoint");
    let moved = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let point = text.lines().find_map(|l| l.strip_prefix("t 0 ")?.parse::<i64>().ok());
            if point.is_some_and(|point| point >= 30) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("moved in time");
    // With it go an index and a snapshot that a restart begins from.
    let partition = dir.path().join("t-0");
    assert!(!files(&partition, ".snapshot").is_empty());
    assert!(files(&partition, "0.index")[0].metadata().unwrap().len() > 0);
    served.stop().await;
    if let Some(text) = dump(&partition, &[".log", ".index", ".timeindex", ".snapshot"]) {
        assert!(text.contains("lastOffset: 39"), "{text}");
    }
}

/// Files that somebody deleted, cut or overwrote under a running broker: Kafka's codes, and other partitions unharmed.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_and_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let damages = [
        ("deleted", ErrorCode::KafkaStorageError),
        ("cut", ErrorCode::KafkaStorageError),
        ("overwritten", ErrorCode::CorruptMessage),
        ("whole", ErrorCode::None),
    ];
    for (topic, _) in damages {
        assert_eq!(create(&mut raw, topic, &[("segment.bytes", "1048576")]).await, ErrorCode::None);
        for round in 0..150 {
            assert_eq!(append(&mut raw, topic, keyed(round, Compression::None)).await.0, ErrorCode::None);
        }
    }
    let first = |topic: &str| dir.path().join(format!("{topic}-0/00000000000000000000.log"));
    std::fs::remove_file(first("deleted")).unwrap();
    let open = |topic| std::fs::OpenOptions::new().write(true).open(first(topic)).unwrap();
    open("cut").set_len(100).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&open("overwritten"), &[0xff; 61], 0).unwrap();
    for (topic, expect) in damages {
        let response: FetchResponse = raw.call(12, &fetch(topic, 0, 0, 0)).await;
        let got = common::code(response.responses[0].partitions[0].error_code);
        assert_eq!(got, expect, "{topic}");
        // What is whole of it is served, and it can be written.
        let response: FetchResponse = raw.call(12, &fetch(topic, 1400, 0, 0)).await;
        assert_eq!(response.responses[0].partitions[0].error_code, 0, "{topic}");
        assert_eq!(append(&mut raw, topic, keyed(0, Compression::None)).await, (ErrorCode::None, 1500));
    }
    served.stop().await;
}
