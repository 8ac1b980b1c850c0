//! Partitions move between log directories while they are used: nothing is lost, nothing comes twice.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use base::random::Random;
use broker::Options;
use common::{Raw, Served, append, batch, code, create, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::messages::*;
use kafka_wire::record::{Builder, Producer, batches};
use testkit::sim::{SimDisk, SimFault};

const PATIENCE: Duration = Duration::from_secs(30);
const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const BROKER: i8 = 4;

fn in_dirs(dirs: &[&Path]) -> Options {
    let mut options = options(dirs[0]);
    let list: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    options.properties.insert("log.dirs".into(), list.join(","));
    options
}

async fn move_to(raw: &mut Raw, topic: &str, dir: &Path) -> ErrorCode {
    let topics = vec![AlterReplicaLogDirTopic { name: topic.into(), partitions: vec![0] }];
    let dirs = vec![AlterReplicaLogDir { path: dir.display().to_string(), topics }];
    let response: AlterReplicaLogDirsResponse = raw.call(2, &AlterReplicaLogDirsRequest { dirs }).await;
    code(response.results[0].partitions[0].error_code)
}

/// The directory of the log, and of its future log with how much that lacks.
async fn places(raw: &mut Raw, topic: &str) -> (Option<String>, Option<(String, i64)>) {
    let response: DescribeLogDirsResponse = raw.call(5, &DescribeLogDirsRequest { topics: None }).await;
    let (mut here, mut future) = (None, None);
    for dir in response.results {
        for partition in dir.topics.iter().filter(|t| t.name == topic).flat_map(|t| &t.partitions) {
            match partition.is_future_key {
                true => future = Some((dir.log_dir.clone(), partition.offset_lag)),
                false => here = Some(dir.log_dir.clone()),
            }
        }
    }
    (here, future)
}

async fn arrives(raw: &mut Raw, topic: &str, dir: &Path) {
    let there = (Some(dir.display().to_string()), None);
    let arrived = async {
        while places(raw, topic).await != there {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("the partition arrives");
}

async fn throttle(raw: &mut Raw, rate: &str) {
    let config = AlterableConfig { name: RATE.into(), config_operation: 0, value: Some(rate.into()) };
    let resource =
        AlterConfigsResource { resource_type: BROKER, resource_name: String::new(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response: IncrementalAlterConfigsResponse = raw.call(1, &request).await;
    assert_eq!(
        code(response.responses[0].error_code),
        ErrorCode::None,
        "{:?}",
        response.responses[0].error_message
    );
}

fn numbered(n: i64) -> ProduceRequest {
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let mut builder = Builder::new();
    builder.append(now_ms, None, Some(n.to_string().as_bytes()));
    common::produce("t", -1, builder.build().unwrap())
}

/// Produces a number; None when the broker went away.
async fn send(raw: &mut Raw, n: i64) -> (ErrorCode, i64) {
    let response: ProduceResponse = raw.call(9, &numbered(n)).await;
    let partition = &response.responses[0].partition_responses[0];
    (code(partition.error_code), partition.base_offset)
}

/// Offsets and numbers from `offset` on, as far as one fetch gives them.
async fn read(raw: &mut Raw, offset: i64, max_wait_ms: i32) -> Vec<(i64, i64)> {
    let response: FetchResponse = raw.call(12, &common::fetch("t", offset, max_wait_ms, 1)).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(code(data.error_code), ErrorCode::None, "at {offset}");
    let mut found = Vec::new();
    // The last may be cut at the limit of the answer.
    for batch in batches(data.records.as_ref().unwrap()).map_while(Result::ok) {
        let each = |record: kafka_wire::record::Record<'_>| {
            found.push((
                record.offset,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap().parse().unwrap(),
            ));
        };
        batch.records(1 << 20).unwrap().for_each(each).unwrap();
    }
    found.retain(|(at, _)| *at >= offset);
    found
}

async fn read_all(raw: &mut Raw) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    loop {
        let more = read(raw, all.last().map_or(0, |(offset, _)| offset + 1), 0).await;
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moves_under_a_producer_and_a_consumer() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let served = Served::with(in_dirs(&[a.path(), b.path()]), testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    // Small segments, so that reads meet files whose names change.
    assert_eq!(
        create(&mut raw, "t", &[("segment.bytes", "1048576"), ("internal.segment.bytes", "4096")]).await,
        ErrorCode::None
    );
    let (stop, produced) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let producer = {
        let (mut raw, stop, produced) = (served.raw().await, stop.clone(), produced.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let n = produced.load(Ordering::Relaxed);
                assert_eq!(
                    send(&mut raw, n).await,
                    (ErrorCode::None, n),
                    "acknowledged at once and in order"
                );
                produced.store(n + 1, Ordering::Release);
            }
        })
    };
    let consumer = {
        let (mut raw, stop, produced) = (served.raw().await, stop.clone(), produced.clone());
        tokio::spawn(async move {
            let mut next = 0;
            while !stop.load(Ordering::Acquire) || next < produced.load(Ordering::Acquire) {
                for (offset, n) in read(&mut raw, next, 100).await {
                    assert_eq!((offset, n), (next, next));
                    next += 1;
                }
            }
            next
        })
    };
    let reader = {
        // Reads old segments again and again.
        let (mut raw, stop) = (served.raw().await, stop.clone());
        tokio::spawn(async move {
            let mut from = 0;
            while !stop.load(Ordering::Acquire) {
                let found = read(&mut raw, from, 0).await;
                assert!(found.iter().zip(from..).all(|((offset, n), want)| (*offset, *n) == (want, want)));
                from = (found.last().map_or(0, |(offset, _)| offset + 1))
                    .min(produced.load(Ordering::Acquire) / 2);
            }
        })
    };
    for _ in 0..3 {
        for dir in [b.path(), a.path()] {
            assert_eq!(move_to(&mut raw, "t", dir).await, ErrorCode::None);
            arrives(&mut raw, "t", dir).await;
            let then = produced_after(&mut raw).await;
            assert!(then > 0);
        }
    }
    stop.store(true, Ordering::Release);
    producer.await.unwrap();
    assert!(consumer.await.unwrap() > 10);
    reader.await.unwrap();
    let all = read_all(&mut raw).await;
    assert!(all.iter().zip(0..).all(|(found, want)| *found == (want, want)));
    served.stop().await;
    assert!(a.path().join("t-0").exists() && !b.path().join("t-0").exists());
}

/// The end of the log, once it has grown.
async fn produced_after(raw: &mut Raw) -> i64 {
    let end = async |raw: &mut Raw| {
        let partition = list_offsets_request::ListOffsetsPartition { timestamp: -1, ..Default::default() };
        let topic = list_offsets_request::ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let response: ListOffsetsResponse = raw.call(7, &request).await;
        response.topics[0].partitions[0].offset
    };
    let before = end(raw).await;
    loop {
        let now = end(raw).await;
        if now > before {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_move_goes_on_after_a_restart_and_ends_by_moving_back() {
    let (a, b, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let options = || in_dirs(&[a.path(), b.path()]);
    let served = Served::with(options(), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::None);
    let producer = Producer { id: 7, epoch: 0, base_sequence: 0 };
    assert_eq!(append(&mut raw, "t", batch(5, Some(producer))).await, (ErrorCode::None, 0));
    for n in 0..200 {
        assert_eq!(append(&mut raw, "t", batch(5, None)).await, (ErrorCode::None, 5 + 5 * n));
    }
    throttle(&mut raw, "300").await;
    assert_eq!(move_to(&mut raw, "t", b.path()).await, ErrorCode::None);
    let begun = async |raw: &mut Raw| {
        let under_way = async {
            loop {
                let (here, future) = places(raw, "t").await;
                assert_eq!(here.as_deref(), a.path().to_str());
                if let Some((dir, lag)) = future.filter(|(_, lag)| *lag < 1005) {
                    assert_eq!((Some(&*dir), lag > 0), (b.path().to_str(), true));
                    return lag;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, under_way).await.expect("the move is under way")
    };
    let before = begun(&mut raw).await;
    served.stop().await;

    let served = Served::with(options(), store.clone()).await;
    let mut raw = served.raw().await;
    assert!(begun(&mut raw).await <= before, "it goes on where it was");
    // Back to where it is: the move is over.
    assert_eq!(move_to(&mut raw, "t", a.path()).await, ErrorCode::None);
    assert_eq!(places(&mut raw, "t").await, (a.path().to_str().map(str::to_owned), None));
    assert_eq!(move_to(&mut raw, "t", b.path()).await, ErrorCode::None);
    begun(&mut raw).await;
    throttle(&mut raw, "1000000000").await;
    served.stop().await;

    let served = Served::with(options(), store.clone()).await;
    let mut raw = served.raw().await;
    arrives(&mut raw, "t", b.path()).await;
    assert_eq!(
        append(&mut raw, "t", batch(5, Some(producer))).await,
        (ErrorCode::None, 0),
        "its sequences came along"
    );
    assert_eq!(append(&mut raw, "t", batch(5, None)).await, (ErrorCode::None, 1005));
    served.stop().await;
    let served = Served::with(options(), store).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "t", batch(5, None)).await, (ErrorCode::None, 1010));
    assert_eq!(places(&mut raw, "t").await, (b.path().to_str().map(str::to_owned), None));
    served.stop().await;
}

#[tokio::test]
async fn what_cannot_be_moved_is_told_as_kafka_does() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let served = Served::with(in_dirs(&[a.path(), b.path()]), testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::None);
    assert_eq!(move_to(&mut raw, "t", Path::new("/nowhere")).await, ErrorCode::LogDirNotFound);
    assert_eq!(move_to(&mut raw, "none", a.path()).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(move_to(&mut raw, &"t".repeat(240), a.path()).await, ErrorCode::InvalidTopicException);
    // What was asked for before the topic was there is where it is made.
    for topic in ["later1", "later2", "later3"] {
        assert_eq!(move_to(&mut raw, topic, b.path()).await, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(create(&mut raw, topic, &[]).await, ErrorCode::None);
        assert_eq!(places(&mut raw, topic).await.0.as_deref(), b.path().to_str());
    }
    served.stop().await;
}

#[tokio::test]
async fn deleted_records_and_deleted_topics_stay_deleted() {
    let (a, b, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let served = Served::with(in_dirs(&[a.path(), b.path()]), store.clone()).await;
    let mut raw = served.raw().await;
    for topic in ["t", "gone"] {
        assert_eq!(create(&mut raw, topic, &[]).await, ErrorCode::None);
        if places(&mut raw, topic).await.0.as_deref() != a.path().to_str() {
            assert_eq!(move_to(&mut raw, topic, a.path()).await, ErrorCode::None);
            arrives(&mut raw, topic, a.path()).await;
        }
    }
    for n in 0..100 {
        assert_eq!(send(&mut raw, n).await, (ErrorCode::None, n));
        assert_eq!(append(&mut raw, "gone", batch(5, None)).await.0, ErrorCode::None);
    }
    throttle(&mut raw, "200").await;
    assert_eq!(move_to(&mut raw, "gone", b.path()).await, ErrorCode::None);
    let partition = delete_records_request::DeleteRecordsPartition { offset: 42, ..Default::default() };
    let topic = delete_records_request::DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], ..Default::default() };
    assert_eq!(move_to(&mut raw, "t", b.path()).await, ErrorCode::None);
    let response: DeleteRecordsResponse = raw.call(2, &request).await;
    assert_eq!(response.topics[0].partitions[0].low_watermark, 42);
    let topic = delete_topics_request::DeleteTopicState { name: Some("gone".into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let response: DeleteTopicsResponse = raw.call(6, &request).await;
    assert_eq!(response.responses[0].error_code, 0);
    throttle(&mut raw, "1000000000").await;
    arrives(&mut raw, "t", b.path()).await;
    served.stop().await;
    let left: Vec<_> = [a.path(), b.path()]
        .into_iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap())
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with("gone-"))
        .collect();
    assert!(left.len() >= 2 && left.iter().all(|name| name.ends_with("-delete")), "{left:?}");
    let served = Served::with(in_dirs(&[a.path(), b.path()]), store).await;
    let mut raw = served.raw().await;
    assert_eq!(read(&mut raw, 42, 0).await.first(), Some(&(42, 42)));
    let response: FetchResponse = raw.call(12, &common::fetch("t", 41, 0, 1)).await;
    assert_eq!(code(response.responses[0].partitions[0].error_code), ErrorCode::OffsetOutOfRange);
    served.stop().await;
}

#[tokio::test]
async fn a_power_cut_in_the_middle_of_a_move_loses_nothing_acknowledged() {
    let (mut moved, mut cut_early) = (0, 0);
    for seed in 0..40 {
        let mut random = Random::from_seed(seed);
        let (mut disk, store) = (SimDisk::new(), testkit::MemStore::shared());
        let on = |disk: &SimDisk| {
            let mut options = in_dirs(&[Path::new("/a"), Path::new("/b")]);
            options.disk = disk.shared();
            options
        };
        let (mut acknowledged, mut next) = (Vec::<i64>::new(), 0);
        for round in 0..4 {
            let served = Served::with(on(&disk), store.clone()).await;
            let mut raw = served.raw().await;
            if round == 0 {
                assert_eq!(
                    create(&mut raw, "t", &[("internal.segment.bytes", "300")]).await,
                    ErrorCode::None
                );
            }
            let all = read_all(&mut raw).await;
            assert!(
                all.iter().zip(0..).all(|((offset, _), want)| *offset == want),
                "seed {seed} round {round}: {all:?}"
            );
            let found: BTreeSet<_> = all.iter().map(|(_, n)| *n).collect();
            assert_eq!(found.len(), all.len(), "seed {seed} round {round}: twice in {all:?}");
            let lost: Vec<_> = acknowledged.iter().filter(|n| !found.contains(n)).collect();
            assert!(
                lost.is_empty(),
                "seed {seed} round {round}: {lost:?} of {acknowledged:?} not in {all:?}"
            );
            for _ in 0..random.below(20) {
                if send(&mut raw, next).await.0 == ErrorCode::None {
                    acknowledged.push(next);
                }
                next += 1;
            }
            let (here, future) = places(&mut raw, "t").await;
            let to = if here.as_deref() == Some("/a") { "/b" } else { "/a" };
            disk.set_fault(SimFault::PowerOffAfter(random.below(150)));
            if future.is_none() {
                move_to(&mut raw, "t", Path::new(to)).await;
            }
            for _ in 0..random.below(30) {
                if send(&mut raw, next).await.0 == ErrorCode::None {
                    acknowledged.push(next);
                }
                next += 1;
            }
            match places(&mut raw, "t").await.0.as_deref() == Some(to) {
                true => moved += 1,
                false => cut_early += 1,
            }
            let crashed = disk.crash(&mut random);
            served.tasks.shutdown(Duration::from_secs(5)).await;
            disk = crashed;
        }
    }
    assert!(moved > 5 && cut_early > 5, "moved {moved}, cut early {cut_early}");
}
