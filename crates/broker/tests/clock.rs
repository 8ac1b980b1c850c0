//! The wall clock is set, back and forth, while the broker works. What concerns time that passes (sessions, waits) goes on
//! as if nothing was; what concerns records' own times goes by the wall clock, as in Kafka, and loses nothing that Kafka
//! keeps.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use base::clock::{Clock, SystemClock};
use bytes::Bytes;
use common::{Raw, Served, append, code, create, fetch, join, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::messages::*;
use kafka_wire::record::{Builder, Producer, batches};
use store_api::Store;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Two busy cores take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The machine's clock, whose hands the test moves.
struct Hands {
    system: SystemClock,
    by_ms: AtomicI64,
}

impl Hands {
    fn new() -> Arc<Self> {
        Arc::new(Self { system: SystemClock::new(), by_ms: AtomicI64::new(0) })
    }

    /// Sets the wall clock forward, or back.
    fn set(&self, by_ms: i64) {
        self.by_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn unix_ms(&self) -> i64 {
        self.system.unix_ms() + self.by_ms.load(Ordering::SeqCst)
    }
    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
}

async fn start(dir: &Path, hands: &Arc<Hands>, store: Arc<dyn Store>, more: &[(&str, &str)]) -> Served {
    let mut options = options(dir);
    options.clock = hands.clone();
    options.properties.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Served::with(options, store).await
}

/// One record with this time.
fn record(timestamp_ms: i64, value: &str, producer: Option<Producer>) -> Bytes {
    let mut builder = Builder::new();
    if let Some(producer) = producer {
        builder = builder.producer(producer);
    }
    builder.append(timestamp_ms, Some(b"k"), Some(value.as_bytes()));
    builder.build().unwrap()
}

/// Offset, time and value of all records.
async fn read(raw: &mut Raw, topic: &str, from: i64) -> Vec<(i64, i64, String)> {
    let response: FetchResponse = raw.call(12, &fetch(topic, from, 0, 0)).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(code(data.error_code), ErrorCode::None);
    let mut found = Vec::new();
    for batch in batches(&data.records.clone().unwrap_or_default()) {
        let each = |r: kafka_wire::record::Record<'_>| {
            found.push((r.offset, r.timestamp, String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
        };
        batch.unwrap().records(1 << 20).unwrap().for_each(each).unwrap();
    }
    found
}

/// The offset that ListOffsets gives for a time.
async fn list(raw: &mut Raw, topic: &str, timestamp: i64) -> i64 {
    let partition = ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp };
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let response: ListOffsetsResponse = raw.call(7, &request).await;
    assert_eq!(code(response.topics[0].partitions[0].error_code), ErrorCode::None);
    response.topics[0].partitions[0].offset
}

const EARLIEST: i64 = -2;

/// Waits until the log starts there.
async fn starts_at(raw: &mut Raw, topic: &str, offset: i64) {
    let deadline = Instant::now() + PATIENCE;
    while list(raw, topic, EARLIEST).await != offset {
        assert!(Instant::now() < deadline, "{topic} does not start at {offset}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A topic whose every record is too old for whatever the clock shows: a look takes it.
const WITNESS: &str = "witness";

async fn witness(raw: &mut Raw) {
    let configs = [("retention.ms", "3600000"), ("message.timestamp.type", "CreateTime")];
    assert_eq!(create(raw, WITNESS, &configs).await, ErrorCode::None);
}

/// Waits until a whole look was taken by the clock as it is now: the first that is seen may have begun before, and the last
/// may not be over.
async fn looked(raw: &mut Raw) {
    for _ in 0..3 {
        let (error, offset) = append(raw, WITNESS, record(1, "old", None)).await;
        assert_eq!(error, ErrorCode::None);
        starts_at(raw, WITNESS, offset + 1).await;
    }
}

/// Retention goes by the wall clock, as Kafka's: a step that is taken back before the next look costs nothing, records
/// from a clock that was ahead stay until the clock has come there, and a step back keeps everything.
#[tokio::test(flavor = "multi_thread")]
async fn retention() {
    let (dir, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    // A look is taken where the test changes this, and not before.
    let rarely = [("log.retention.check.interval.ms", "86400000")];
    let store = testkit::MemStore::shared();
    let served = start(dir.path(), &hands, store.clone(), &rarely).await;
    let mut raw = served.raw().await;
    let configs = [("retention.ms", "3600000"), ("message.timestamp.after.max.ms", "9223372036854775807")];
    for topic in ["now", "ahead"] {
        assert_eq!(create(&mut raw, topic, &configs).await, ErrorCode::None);
    }
    witness(&mut raw).await;
    assert_eq!(append(&mut raw, "now", record(hands.unix_ms(), "a", None)).await, (ErrorCode::None, 0));
    hands.set(DAY_MS);
    assert_eq!(append(&mut raw, "ahead", record(hands.unix_ms(), "b", None)).await, (ErrorCode::None, 0));
    // Nobody looked meanwhile.
    hands.set(-DAY_MS);
    served.stop().await;

    let often = [("log.retention.check.interval.ms", "20")];
    let served = start(dir.path(), &hands, store, &often).await;
    let mut raw = served.raw().await;
    hands.set(-10 * DAY_MS);
    looked(&mut raw).await;
    assert_eq!((list(&mut raw, "now", EARLIEST).await, list(&mut raw, "ahead", EARLIEST).await), (0, 0));
    hands.set(10 * DAY_MS);
    looked(&mut raw).await;
    assert_eq!((list(&mut raw, "now", EARLIEST).await, list(&mut raw, "ahead", EARLIEST).await), (0, 0));
    // What is older than it may be goes, as in Kafka; what came from a clock that was ahead is not.
    hands.set(2 * HOUR_MS);
    starts_at(&mut raw, "now", 1).await;
    assert_eq!(list(&mut raw, "ahead", EARLIEST).await, 0);
    hands.set(DAY_MS);
    starts_at(&mut raw, "ahead", 1).await;
    // A log that is empty takes records whatever the clock shows.
    hands.set(-DAY_MS);
    assert_eq!(append(&mut raw, "now", record(hands.unix_ms(), "c", None)).await, (ErrorCode::None, 1));
    served.stop().await;
}

/// `message.timestamp.type=LogAppendTime` stamps what the clock shows; segments roll when it went forward, never because it
/// went back; lookups by time give the first record that is not older, before and after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn append_times_and_rolling() {
    let (dir, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    let store = testkit::MemStore::shared();
    let served = start(dir.path(), &hands, store.clone(), &[]).await;
    let mut raw = served.raw().await;
    let configs =
        [("message.timestamp.type", "LogAppendTime"), ("segment.ms", "3600000"), ("retention.ms", "-1")];
    assert_eq!(create(&mut raw, "t", &configs).await, ErrorCode::None);
    let logs = || {
        let names = std::fs::read_dir(dir.path().join("t-0")).unwrap().map(|e| e.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|e| e == "log")).count()
    };
    let mut stamped = Vec::new();
    // Back by two days, forward by one, back by half an hour, forward by two.
    for (n, step_ms) in [0, -2 * DAY_MS, DAY_MS, -HOUR_MS / 2, 2 * DAY_MS].into_iter().enumerate() {
        hands.set(step_ms);
        let before = hands.unix_ms();
        let sent = record(0, &n.to_string(), None);
        assert_eq!(append(&mut raw, "t", sent).await, (ErrorCode::None, n as i64));
        stamped.push((before, hands.unix_ms()));
    }
    let check = async |raw: &mut Raw| {
        let found = read(raw, "t", 0).await;
        let mut all = found;
        while all.len() < stamped.len() {
            // One answer ends with a segment.
            let more = read(raw, "t", all.len() as i64).await;
            assert!(!more.is_empty());
            all.extend(more);
        }
        for (n, (offset, timestamp, value)) in all.iter().enumerate() {
            assert_eq!((*offset, value), (n as i64, &n.to_string()));
            let (from, to) = stamped[n];
            assert!((from..=to).contains(timestamp), "record {n}: {timestamp} is not in {from}..={to}");
        }
        for time in all.iter().map(|(_, timestamp, _)| *timestamp) {
            let first = all.iter().find(|(_, timestamp, _)| *timestamp >= time).unwrap().0;
            assert_eq!(list(raw, "t", time).await, first, "the first not older than {time}");
        }
    };
    // The step back from the first record's time rolls nothing; the last one is later than the first by more than an hour.
    assert_eq!(logs(), 2);
    check(&mut raw).await;
    served.stop().await;
    let served = start(dir.path(), &hands, store, &[]).await;
    check(&mut served.raw().await).await;
    served.stop().await;
}

async fn enter(raw: &mut Raw) -> JoinGroupResponse {
    let response: JoinGroupResponse = raw.call(9, &join("", 6_000)).await;
    assert_eq!(code(response.error_code), ErrorCode::MemberIdRequired);
    let joined: JoinGroupResponse = raw.call(9, &join(&response.member_id, 6_000)).await;
    assert_eq!(code(joined.error_code), ErrorCode::None);
    joined
}

async fn heartbeat(raw: &mut Raw, joined: &JoinGroupResponse) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    let response: HeartbeatResponse = raw.call(4, &request).await;
    code(response.error_code)
}

/// Commits an offset that is to be kept for a moment, and waits until the coordinator has looked for such, by the clock as
/// it is now.
async fn expired(raw: &mut Raw) {
    let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let commit = OffsetCommitRequest {
        group_id: WITNESS.into(),
        generation_id_or_member_epoch: -1,
        retention_time_ms: 1,
        topics: vec![topic],
        ..Default::default()
    };
    // The look that takes the first may have begun before.
    for _ in 0..2 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response: OffsetCommitResponse = raw.call(4, &commit).await;
            match code(response.topics[0].partitions[0].error_code) {
                // The group that lost its last offset is on its way out; clients try again.
                ErrorCode::CoordinatorNotAvailable if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => break assert_eq!(other, ErrorCode::None),
            }
        }
        while !committed(raw, WITNESS).await.is_empty() {
            assert!(Instant::now() < deadline, "nobody looks for offsets to forget");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The offsets of a group.
async fn committed(raw: &mut Raw, group: &str) -> Vec<i64> {
    let group = OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let response: OffsetFetchResponse = raw.call(8, &request).await;
    let partitions = response.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.committed_offset).collect()
}

/// Sessions last as long as they last: a step forward throws nobody out, a step back keeps no dead member. Committed offsets
/// of a group in use do not expire.
#[tokio::test(flavor = "multi_thread")]
async fn group_sessions() {
    let (dir, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    // One coordinator for all groups.
    let checked = [("offsets.retention.check.interval.ms", "50"), ("offsets.topic.num.partitions", "1")];
    let served = start(dir.path(), &hands, testkit::MemStore::shared(), &checked).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let joined = enter(&mut raw).await;
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    let response: SyncGroupResponse = raw.call(5, &sync).await;
    assert_eq!(code(response.error_code), ErrorCode::None);
    let partition = OffsetCommitRequestPartition { committed_offset: 3, ..Default::default() };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        topics: vec![topic],
        ..Default::default()
    };
    let response: OffsetCommitResponse = raw.call(8, &commit).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    for step_ms in [30 * DAY_MS, -60 * DAY_MS, HOUR_MS, -HOUR_MS, 30 * DAY_MS] {
        hands.set(step_ms);
        expired(&mut raw).await;
        assert_eq!(heartbeat(&mut raw, &joined).await, ErrorCode::None, "after {step_ms}");
    }
    assert_eq!(committed(&mut raw, "g").await, [3]);

    // The member is silent from here on, and the clock goes back: another gets in once the session has passed.
    hands.set(-DAY_MS);
    let start = Instant::now();
    let mut other = served.raw().await;
    let alone = tokio::time::timeout(PATIENCE, enter(&mut other)).await.expect("the silent member is out");
    assert_eq!(alone.members.len(), 1, "{alone:?}");
    assert!(start.elapsed() >= Duration::from_secs(3), "out after {:?}", start.elapsed());
    assert_eq!(heartbeat(&mut raw, &joined).await, ErrorCode::UnknownMemberId);
    served.stop().await;
}

/// A fetch waits as long as it asks to, whatever the clock shows meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn delayed_fetches() {
    let (dir, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    let served = start(dir.path(), &hands, testkit::MemStore::shared(), &[]).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    for step_ms in [DAY_MS, -2 * DAY_MS] {
        let asked = Instant::now();
        raw.send(12, &fetch("t", 0, 1_000, 1)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        hands.set(step_ms);
        let response: FetchResponse =
            tokio::time::timeout(PATIENCE, raw.receive(12)).await.expect("it ends, too");
        assert_eq!(response.error_code, 0);
        assert!(asked.elapsed() >= Duration::from_millis(950), "{:?}", asked.elapsed());
    }
    // And it is woken by what comes.
    raw.send(12, &fetch("t", 0, 300_000, 1)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    hands.set(DAY_MS);
    let mut writer = served.raw().await;
    assert_eq!(append(&mut writer, "t", record(hands.unix_ms(), "a", None)).await.0, ErrorCode::None);
    let response: FetchResponse = tokio::time::timeout(PATIENCE, raw.receive(12)).await.expect("woken");
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    served.stop().await;
}

/// A producer is known for `producer.id.expiration.ms` of the wall clock, as in Kafka. One whose id expired early by a step
/// goes on where it was; one that the clock left alone has its retries told from new records.
#[tokio::test(flavor = "multi_thread")]
async fn producer_ids() {
    let (dir, hands) = (tempfile::tempdir().unwrap(), Hands::new());
    let often = [("log.retention.check.interval.ms", "20")];
    let served = start(dir.path(), &hands, testkit::MemStore::shared(), &often).await;
    let mut raw = served.raw().await;
    let configs = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")];
    assert_eq!(create(&mut raw, "t", &configs).await, ErrorCode::None);
    witness(&mut raw).await;
    let sent = |sequence: i32| {
        record(0, &sequence.to_string(), Some(Producer { id: 77, epoch: 0, base_sequence: sequence }))
    };
    assert_eq!(append(&mut raw, "t", sent(0)).await, (ErrorCode::None, 0));
    assert_eq!(append(&mut raw, "t", sent(1)).await, (ErrorCode::None, 1));
    // Back: nothing expires, however long it lasts, and a retry gets the offset it had.
    hands.set(-40 * DAY_MS);
    looked(&mut raw).await;
    assert_eq!(append(&mut raw, "t", sent(1)).await, (ErrorCode::None, 1));
    assert_eq!(append(&mut raw, "t", sent(2)).await, (ErrorCode::None, 2));
    hands.set(40 * DAY_MS);
    assert_eq!(append(&mut raw, "t", sent(3)).await, (ErrorCode::None, 3));
    // Forward by more than a day: the id is forgotten, and its next sequence taken as it comes.
    hands.set(2 * DAY_MS);
    looked(&mut raw).await;
    assert_eq!(append(&mut raw, "t", sent(4)).await, (ErrorCode::None, 4));
    assert_eq!(append(&mut raw, "t", sent(4)).await, (ErrorCode::None, 4));
    assert_eq!(append(&mut raw, "t", sent(6)).await.0, ErrorCode::OutOfOrderSequenceNumber);
    served.stop().await;
}
