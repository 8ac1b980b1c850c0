//! What was acknowledged is there: after a power cut, after the disk was full. `kill.rs` has kill -9.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::random::Random;
use common::{Raw, Served, code, fetch, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::messages::*;
use kafka_wire::record::{Builder, batches};
use testkit::sim::{SimDisk, SimFault};

const PATIENCE: Duration = Duration::from_secs(20);

/// All values of partition 0 of a topic, as numbers.
async fn values(raw: &mut Raw, topic: &str) -> Vec<i64> {
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let request = fetch(topic, offset, 0, 0);
        let response: FetchResponse = raw.call(12, &request).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(code(data.error_code), ErrorCode::None);
        let records = data.records.clone().unwrap();
        if records.is_empty() {
            return found;
        }
        for batch in batches(&records) {
            // The last may be cut at the limit of the answer.
            let Ok(batch) = batch else { break };
            let each = |r: kafka_wire::record::Record<'_>| {
                found.push(String::from_utf8(r.value.unwrap().to_vec()).unwrap().parse().unwrap());
            };
            batch.records(1 << 20).unwrap().for_each(each).unwrap();
            offset = batch.next_offset();
        }
    }
}

fn produce(n: i64, partition: i32) -> ProduceRequest {
    let mut batch = Builder::new();
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    batch.append(now_ms, None, Some(n.to_string().as_bytes()));
    let data = PartitionProduceData { index: partition, records: Some(batch.build().unwrap()) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() }
}

async fn send(raw: &mut Raw, n: i64) -> ErrorCode {
    let response: ProduceResponse = raw.call(9, &produce(n, 0)).await;
    code(response.responses[0].partition_responses[0].error_code)
}

async fn auto_create(raw: &mut Raw) {
    let topics =
        vec![metadata_request::MetadataRequestTopic { name: Some("t".into()), ..Default::default() }];
    let request =
        MetadataRequest { topics: Some(topics), allow_auto_topic_creation: true, ..Default::default() };
    let response: MetadataResponse = raw.call(9, &request).await;
    assert_eq!(code(response.topics[0].error_code), ErrorCode::None);
}

async fn on(disk: &SimDisk, store: Arc<dyn store_api::Store>) -> Served {
    let mut options = options(Path::new("/kafka"));
    options.disk = disk.shared();
    Served::with(options, store).await
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged() {
    for seed in 0..30 {
        let mut random = Random::from_seed(seed);
        let mut disk = SimDisk::new();
        let store = testkit::MemStore::shared();
        let (mut acknowledged, mut next) = (Vec::new(), 0);
        for round in 0..4 {
            let served = on(&disk, store.clone()).await;
            let mut raw = served.raw().await;
            auto_create(&mut raw).await;
            let found = values(&mut raw, "t").await;
            assert!(
                found.iter().collect::<BTreeSet<_>>().is_superset(&acknowledged.iter().collect()),
                "seed {seed} round {round}: {acknowledged:?} {found:?}"
            );
            assert!(found.is_sorted(), "seed {seed}");
            disk.set_fault(SimFault::PowerOffAfter(random.below(60)));
            for _ in 0..random.below(40) {
                let answer = send(&mut raw, next).await;
                if answer == ErrorCode::None {
                    acknowledged.push(next);
                }
                next += 1;
            }
            let crashed = disk.crash(&mut random);
            served.tasks.shutdown(Duration::from_secs(5)).await;
            disk = crashed;
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let (disk, store) = (SimDisk::new(), testkit::MemStore::shared());
    let served = on(&disk, store).await;
    let mut raw = served.raw().await;
    auto_create(&mut raw).await;
    for n in 0..3 {
        assert_eq!(send(&mut raw, n).await, ErrorCode::None);
    }
    // What was made ahead of the end still takes some.
    disk.set_fault(SimFault::Full);
    let mut next = 3;
    let refused = loop {
        match send(&mut raw, next).await {
            ErrorCode::None => next += 1,
            refused => break refused,
        }
    };
    assert_eq!(refused, ErrorCode::KafkaStorageError);
    assert_eq!(values(&mut raw, "t").await, (0..next).collect::<Vec<_>>());
    disk.set_fault(SimFault::None);
    assert_eq!(send(&mut raw, next).await, ErrorCode::None);
    // A sync that fails takes back what it could not make durable.
    disk.set_fault(SimFault::SyncFails);
    assert_eq!(send(&mut raw, 101).await, ErrorCode::KafkaStorageError);
    assert_eq!(values(&mut raw, "t").await, (0..=next).collect::<Vec<_>>());
    disk.set_fault(SimFault::None);
    let again = async {
        while send(&mut raw, next + 1).await != ErrorCode::None {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("writes go on");
    assert_eq!(values(&mut raw, "t").await, (0..=next + 1).collect::<Vec<_>>());
    served.stop().await;
}
