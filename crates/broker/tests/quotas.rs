//! Quotas over the wire: what is told, how long a connection is left alone, what comes through.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Raw, Served, code, create, fetch, options, produce};
use kafka_wire::ErrorCode;
use kafka_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_wire::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::messages::create_topics_request::CreatableTopic;
use kafka_wire::messages::delete_topics_request::DeleteTopicState;
use kafka_wire::messages::describe_client_quotas_request::ComponentData;
use kafka_wire::messages::metadata_request::MetadataRequestTopic;
use kafka_wire::messages::*;
use kafka_wire::record::Builder;
use store_api::Store;

/// Two busy cores take their time.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the raw client calls itself.
const CLIENT: &str = "test";

/// Two seconds' worth are had at once: three windows of a second.
async fn start(dir: &Path, store: std::sync::Arc<dyn Store>) -> Served {
    let mut options = options(dir);
    options.properties.insert("quota.window.num".into(), "3".into());
    Served::with(options, store).await
}

fn entry(parts: &[(&str, Option<&str>)], ops: &[(&str, Option<f64>)]) -> EntryData {
    let part = |(kind, name): &(&str, Option<&str>)| EntityData {
        entity_type: (*kind).to_owned(),
        entity_name: name.map(str::to_owned),
    };
    let op = |(key, value): &(&str, Option<f64>)| OpData {
        key: (*key).to_owned(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    };
    EntryData { entity: parts.iter().map(part).collect(), ops: ops.iter().map(op).collect() }
}

async fn alter(raw: &mut Raw, entries: Vec<EntryData>) -> Vec<(ErrorCode, Option<String>)> {
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    let response: AlterClientQuotasResponse = raw.call(1, &request).await;
    response.entries.into_iter().map(|entry| (code(entry.error_code), entry.error_message)).collect()
}

async fn limit(raw: &mut Raw, key: &str, value: Option<f64>) {
    limit_client(raw, CLIENT, key, value).await;
}

async fn limit_client(raw: &mut Raw, client: &str, key: &str, value: Option<f64>) {
    let done = alter(raw, vec![entry(&[("client-id", Some(client))], &[(key, value)])]).await;
    assert_eq!(done, [(ErrorCode::None, None)]);
}

fn records(bytes: usize) -> Bytes {
    let mut builder = Builder::new();
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    builder.append(now_ms, Some(b"k"), Some(&vec![b'x'; bytes]));
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn produced_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let served = start(dir.path(), testkit::MemStore::shared()).await;
    let (mut raw, mut admin) = (served.raw().await, served.raw().await);
    create(&mut admin, "t", &[]).await;
    limit(&mut admin, "producer_byte_rate", Some(12_000.0)).await;
    // 30,000 a second over two seconds: two and a half times what may be, so one and a half of those times are made up for.
    let asked = Instant::now();
    let response: ProduceResponse = raw.call(9, &produce("t", -1, records(60_000))).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert!((2_900..3_300).contains(&response.throttle_time_ms), "{}", response.throttle_time_ms);
    assert!(asked.elapsed() < Duration::from_millis(2_500), "answered at once: {:?}", asked.elapsed());
    // Nothing more is read from this connection meanwhile, whatever it asks; another one is served.
    raw.send(12, &MetadataRequest::default()).await;
    let _: MetadataResponse = admin.call(12, &MetadataRequest::default()).await;
    assert!(asked.elapsed() < Duration::from_millis(2_500), "the other one waited: {:?}", asked.elapsed());
    let _: MetadataResponse = raw.receive(12).await;
    assert!(asked.elapsed() >= Duration::from_millis(2_900), "read too early: {:?}", asked.elapsed());
    // Without an answer the pause is the same. What the one before has used is not this one's.
    raw.client_id = "silent";
    limit_client(&mut admin, raw.client_id, "producer_byte_rate", Some(12_000.0)).await;
    let asked = Instant::now();
    raw.send(9, &produce("t", 0, records(60_000))).await;
    let _: MetadataResponse = raw.call(12, &MetadataRequest::default()).await;
    assert!(asked.elapsed() >= Duration::from_millis(2_900), "acks=0: {:?}", asked.elapsed());
    // And without the quota there is none.
    limit_client(&mut admin, raw.client_id, "producer_byte_rate", None).await;
    let response: ProduceResponse = raw.call(9, &produce("t", -1, records(60_000))).await;
    assert_eq!(response.throttle_time_ms, 0);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetched_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let served = start(dir.path(), testkit::MemStore::shared()).await;
    let (mut raw, mut admin) = (served.raw().await, served.raw().await);
    create(&mut admin, "t", &[]).await;
    for _ in 0..10 {
        let _: ProduceResponse = admin.call(9, &produce("t", -1, records(10_000))).await;
    }
    limit(&mut admin, "consumer_byte_rate", Some(20_000.0)).await;
    let (started, mut at, mut pauses) = (Instant::now(), 0, 0);
    while at < 10 {
        assert!(started.elapsed() < PATIENCE, "stuck at {at}");
        let response: FetchResponse = raw.call(12, &fetch("t", at, 0, 1)).await;
        assert_eq!(response.error_code, 0);
        let found = response.responses.first().and_then(|topic| topic.partitions[0].records.clone());
        if response.throttle_time_ms > 0 {
            assert!(found.is_none(), "nothing comes with a pause");
            pauses += 1;
            continue;
        }
        // An answer is never more than may be had at once, though a megabyte is asked for.
        let found = found.unwrap();
        assert!(found.len() <= 40_000, "{}", found.len());
        for batch in kafka_wire::record::batches(&found).map_while(Result::ok) {
            at = batch.next_offset();
        }
    }
    // 100,000 bytes, of which two seconds' worth at once.
    let elapsed = started.elapsed();
    assert!(pauses > 0 && elapsed >= Duration::from_secs(2), "{pauses} pauses in {elapsed:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_time_and_new_connections() {
    let dir = tempfile::tempdir().unwrap();
    let served = start(dir.path(), testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    limit(&mut raw, "request_percentage", Some(0.000_001)).await;
    let asked = Instant::now();
    let response: MetadataResponse = raw.call(12, &MetadataRequest::default()).await;
    assert_eq!(response.throttle_time_ms, 1_000, "a window at most");
    let response: ListGroupsResponse = raw.call(5, &ListGroupsRequest::default()).await;
    assert!(response.throttle_time_ms > 0 && asked.elapsed() >= Duration::from_millis(900));
    limit(&mut raw, "request_percentage", None).await;
    let response: MetadataResponse = raw.call(12, &MetadataRequest::default()).await;
    assert_eq!(response.throttle_time_ms, 0);

    let done =
        alter(&mut raw, vec![entry(&[("ip", None)], &[("connection_creation_rate", Some(2.0))])]).await;
    assert_eq!(done, [(ErrorCode::None, None)]);
    let mut closed = 0;
    for _ in 0..8 {
        let mut one = served.raw().await;
        one.send(12, &MetadataRequest::default()).await;
        closed += usize::from(one.frame().await.is_none());
    }
    assert!(closed > 0, "eight in a few moments, four of them too many");
    let done = alter(&mut raw, vec![entry(&[("ip", None)], &[("connection_creation_rate", None)])]).await;
    assert_eq!(done, [(ErrorCode::None, None)]);
    let _: MetadataResponse = served.raw().await.call(12, &MetadataRequest::default()).await;
    served.stop().await;
}

fn topic_of(name: &str, num_partitions: i32) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..Default::default() }
}

async fn create_topics(raw: &mut Raw, version: i16, topics: &[(&str, i32)]) -> (Vec<ErrorCode>, i32) {
    let topics = topics.iter().map(|(name, partitions)| topic_of(name, *partitions)).collect();
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    let response: CreateTopicsResponse = raw.call(version, &request).await;
    (response.topics.iter().map(|topic| code(topic.error_code)).collect(), response.throttle_time_ms)
}

/// Eleven seconds' worth are had at once. What goes beyond is refused, topic by topic, where the version knows the error, and
/// made up for by a pause where it does not.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_partitions() {
    let (fine, exceeded) = (ErrorCode::None, ErrorCode::ThrottlingQuotaExceeded);
    let dir = tempfile::tempdir().unwrap();
    let served = start(dir.path(), testkit::MemStore::shared()).await;
    let (mut raw, mut admin) = (served.raw().await, served.raw().await);
    raw.client_id = "maker";
    limit_client(&mut admin, raw.client_id, "controller_mutation_rate", Some(2.0)).await;
    // Of twenty-two the first leaves twenty, which the second overdraws; the third has to wait.
    let asked = Instant::now();
    let (codes, pause_ms) = create_topics(&mut raw, 7, &[("a", 2), ("b", 23), ("c", 1)]).await;
    assert_eq!(codes, [fine, fine, exceeded]);
    assert!((1_000..=1_500).contains(&pause_ms), "three too many are one and a half seconds: {pause_ms}");
    // The connection is not read meanwhile, others are, and other clients have their own.
    assert_eq!(create_topics(&mut admin, 7, &[("d", 30)]).await, (vec![fine], 0));
    let (codes, pause_ms) = create_topics(&mut raw, 7, &[("c", 18)]).await;
    assert!(asked.elapsed() >= Duration::from_millis(1_000), "read too early: {:?}", asked.elapsed());
    assert_eq!((codes, pause_ms), (vec![fine], 0));
    let text = ErrorCode::ThrottlingQuotaExceeded.message();
    let mut other = served.raw().await;
    other.client_id = raw.client_id;
    let grow = CreatePartitionsTopic { name: "a".into(), count: 5, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![grow], timeout_ms: 10_000, validate_only: false };
    let response: CreatePartitionsResponse = other.call(3, &request).await;
    assert_eq!(code(response.results[0].error_code), exceeded);
    assert_eq!(response.results[0].error_message.as_deref(), Some(text));
    assert!((1..=9_000).contains(&response.throttle_time_ms), "{}", response.throttle_time_ms);
    let mut other = served.raw().await;
    other.client_id = raw.client_id;
    let topics = vec![DeleteTopicState { name: Some("b".into()), ..Default::default() }];
    let request = DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    let response: DeleteTopicsResponse = other.call(6, &request).await;
    assert_eq!(code(response.responses[0].error_code), exceeded);
    assert_eq!(response.responses[0].error_message.as_deref(), Some(text));
    // Nor is a topic made on the way; who asks again gets it later.
    let mut other = served.raw().await;
    other.client_id = raw.client_id;
    let wanted = MetadataRequestTopic { name: Some("on-the-way".into()), ..Default::default() };
    let topics = Some(vec![wanted]);
    let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..Default::default() };
    let response: MetadataResponse = other.call(12, &request).await;
    assert_eq!(code(response.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);
    // An older version is served, and pauses for what was owed before as well.
    let (codes, pause_ms) = create_topics(&mut other, 5, &[("old", 1)]).await;
    assert_eq!(codes, [fine]);
    assert!((1..=9_500).contains(&pause_ms), "{pause_ms}");
    limit_client(&mut admin, raw.client_id, "controller_mutation_rate", None).await;
    let mut free = served.raw().await;
    free.client_id = raw.client_id;
    assert_eq!(create_topics(&mut free, 7, &[("e", 50)]).await, (vec![fine], 0));
    let response: MetadataResponse = free.call(12, &request).await;
    assert_eq!(response.topics[0].error_code, 0);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_altered_and_described() {
    let (dir, store) = (tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let served = start(dir.path(), store.clone()).await;
    let mut raw = served.raw().await;
    let (user, both) = ([("user", Some("u"))], [("user", Some("u")), ("client-id", None)]);
    let done = alter(
        &mut raw,
        vec![
            entry(&user, &[("producer_byte_rate", Some(1000.0)), ("request_percentage", Some(12.5))]),
            entry(&both, &[("consumer_byte_rate", Some(5.0))]),
            entry(&user, &[("consumer_byte_rate", Some(5.0))]),
            entry(&[("ip", Some("nowhere"))], &[("connection_creation_rate", Some(5.0))]),
            entry(&[("user", Some("x"))], &[("connection_creation_rate", Some(5.0))]),
            entry(&[("user", Some("y"))], &[("producer_byte_rate", Some(5.0)), ("producer_byte_rate", None)]),
            // Nothing to remove is no error.
            entry(&[("client-id", Some("z"))], &[("producer_byte_rate", None)]),
        ],
    )
    .await;
    let codes: Vec<_> = done.iter().map(|(code, _)| *code).collect();
    let (fine, not) = (ErrorCode::None, ErrorCode::InvalidRequest);
    assert_eq!(codes, [fine, fine, not, not, not, not, fine], "{done:?}");
    let request = AlterClientQuotasRequest {
        entries: vec![entry(&[("client-id", Some("dry"))], &[("producer_byte_rate", Some(5.0))])],
        validate_only: true,
    };
    let response: AlterClientQuotasResponse = raw.call(1, &request).await;
    assert_eq!(response.entries[0].error_code, 0);
    served.stop().await;

    // They outlive the broker.
    let served = start(dir.path(), store).await;
    let mut raw = served.raw().await;
    let describe = async |raw: &mut Raw, parts: &[(&str, i8, Option<&str>)], strict| {
        let part = |(kind, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
            entity_type: (*kind).to_owned(),
            match_type: *match_type,
            match_: name.map(str::to_owned),
        };
        let request = DescribeClientQuotasRequest { components: parts.iter().map(part).collect(), strict };
        let response: DescribeClientQuotasResponse = raw.call(1, &request).await;
        let shown = |e: describe_client_quotas_response::EntryData| {
            let parts = e.entity.iter().map(|p| format!("{}={:?}", p.entity_type, p.entity_name));
            let values = e.values.iter().map(|v| format!("{}:{}", v.key, v.value));
            format!("{} {}", parts.collect::<Vec<_>>().join(","), values.collect::<Vec<_>>().join(","))
        };
        let entries: Vec<_> = response.entries.unwrap_or_default().into_iter().map(shown).collect();
        (code(response.error_code), entries)
    };
    let (of_user, of_both) = (
        r#"user=Some("u") producer_byte_rate:1000,request_percentage:12.5"#.to_owned(),
        r#"client-id=None,user=Some("u") consumer_byte_rate:5"#.to_owned(),
    );
    let all = (fine, vec![of_both.clone(), of_user.clone()]);
    assert_eq!(describe(&mut raw, &[], false).await, all);
    assert_eq!(describe(&mut raw, &[], true).await, (fine, vec![]));
    assert_eq!(describe(&mut raw, &[("user", 0, Some("u"))], false).await, all);
    assert_eq!(describe(&mut raw, &[("user", 0, Some("u"))], true).await, (fine, vec![of_user]));
    assert_eq!(describe(&mut raw, &[("client-id", 1, None)], false).await, (fine, vec![of_both.clone()]));
    assert_eq!(describe(&mut raw, &[("client-id", 2, None)], false).await, (fine, vec![of_both]));
    assert_eq!(describe(&mut raw, &[("client-id", 0, Some("z"))], false).await, (fine, vec![]));
    assert_eq!(describe(&mut raw, &[("user", 0, None)], false).await.0, not);
    assert_eq!(describe(&mut raw, &[("ip", 2, None), ("user", 2, None)], false).await.0, not);
    assert_eq!(describe(&mut raw, &[("host", 2, None)], false).await.0, ErrorCode::UnsupportedVersion);
    served.stop().await;
}
