//! What a client sees on the wire, request by request, and what strangers' bytes do: nothing.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::time::Duration;

use common::{Raw, Served, append, batch, code, create, fetch, options, produce};
use kafka_wire::messages::create_topics_request::CreatableTopic;
use kafka_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::messages::*;
use kafka_wire::record::{Builder, Producer};
use kafka_wire::{ApiKey, ErrorCode, MESSAGES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn list(raw: &mut Raw, topic: &str, timestamp: i64) -> i64 {
    let partition = ListOffsetsPartition { timestamp, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![partition] }];
    let response: ListOffsetsResponse =
        raw.call(9, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }).await;
    response.topics[0].partitions[0].offset
}

#[tokio::test]
async fn every_announced_version_of_every_key_answers() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let request =
        ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    let versions: ApiVersionsResponse = raw.call(4, &request).await;
    assert_eq!(versions.finalized_features[0].max_version_level, 30);
    for announced in &versions.api_keys {
        let key = ApiKey::from_i16(announced.api_key).unwrap();
        let name = format!("{}Request", key.name());
        let message = MESSAGES.iter().find(|m| m.name == name).unwrap();
        let answer = MESSAGES.iter().find(|m| m.name == format!("{}Response", key.name())).unwrap();
        // Of Produce, versions 0 to 2 are announced for librdkafka's sake and served nowhere.
        for version in announced.min_version.max(message.versions.0)..=announced.max_version {
            if key == ApiKey::Produce {
                // The default's acks=0 has no answer.
                let request = ProduceRequest { acks: 1, ..Default::default() };
                let _: ProduceResponse = raw.call(version, &request).await;
                continue;
            }
            let mut frame = vec![];
            frame.extend_from_slice(&key.number().to_be_bytes());
            frame.extend_from_slice(&version.to_be_bytes());
            frame.extend_from_slice(&[0, 0, 0, 7, 0xff, 0xff]);
            if key.request_header_version(version) >= 2 {
                frame.push(0);
            }
            frame.extend_from_slice(&(message.encode_default)(version).unwrap());
            raw.stream.write_i32(frame.len() as i32).await.unwrap();
            raw.stream.write_all(&frame).await.unwrap();
            let got = raw.frame().await.unwrap_or_else(|| panic!("{name} {version} closed the connection"));
            assert_eq!(&got[..4], [0, 0, 0, 7], "{name} {version}");
            let body = got.slice(4 + usize::from(key.response_header_version(version) == 1)..);
            let (again, text) =
                (answer.recode)(&body, version).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            assert_eq!(again, body, "{name} {version}: {text}");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn unknown_keys_and_versions() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    for (key, version) in [(4i16, 0i16), (999, 0), (-1, 0), (3, 99), (0, 2), (24, 3)] {
        let mut raw = served.raw().await;
        raw.stream.write_all(&[0, 0, 0, 10]).await.unwrap();
        raw.stream.write_all(&key.to_be_bytes()).await.unwrap();
        raw.stream.write_all(&version.to_be_bytes()).await.unwrap();
        raw.stream.write_all(&[0, 0, 0, 1, 0xff, 0xff]).await.unwrap();
        assert_eq!(raw.frame().await, None, "{key} {version}");
    }
    // ApiVersions of the future is answered in version 0, with the versions there are.
    let mut raw = served.raw().await;
    raw.stream.write_all(&[0, 0, 0, 12, 0, 18, 0, 77, 0, 0, 0, 5, 0xff, 0xff, 9, 9]).await.unwrap();
    let frame = raw.frame().await.unwrap();
    assert_eq!(frame[..], [0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    let bad = ApiVersionsRequest { client_software_name: "-".into(), client_software_version: "1".into() };
    let versions: ApiVersionsResponse = raw.call(3, &bad).await;
    assert_eq!(code(0), ErrorCode::None);
    assert_eq!(versions.error_code, ErrorCode::InvalidRequest.code());
    served.stop().await;
}

#[tokio::test]
async fn garbage_closes_its_own_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut random = base::random::Random::from_seed(7);
    for round in 0..300 {
        let mut raw = served.raw().await;
        let mut bytes = vec![0u8; 1 + random.below(200) as usize];
        random.fill(&mut bytes);
        if round % 3 > 0 && bytes.len() > 12 {
            // A sound size and a key that is served, then noise.
            let size = (bytes.len() - 4) as i32;
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            bytes[4..6].copy_from_slice(&(random.below(76) as i16).to_be_bytes());
            bytes[6..8].copy_from_slice(&(random.below(14) as i16).to_be_bytes());
            let end = bytes.len().min(14);
            bytes[12..end].fill(0xff);
        }
        // The broker may close before all is sent.
        let _ = raw.stream.write_all(&bytes).await;
        let _ = raw.stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), raw.stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "round {round}: the connection stays open");
    }
    // An announced gigabyte is refused; an announced 90 MB is waited for without room being made for it.
    let mut raw = served.raw().await;
    raw.stream.write_i32(1 << 30).await.unwrap();
    assert_eq!(raw.frame().await, None);
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut raw = served.raw().await;
        raw.stream.write_i32(90 << 20).await.unwrap();
        raw.stream.write_all(&[0, 3]).await.unwrap();
        slow.push(raw);
    }
    let mut raw = served.raw().await;
    let _: MetadataResponse = raw.call(9, &MetadataRequest { topics: None, ..Default::default() }).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let rss_kib: u64 = rss.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(rss_kib < 400 * 1024, "{rss}");
    served.stop().await;
}

#[tokio::test]
async fn produce_is_validated() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "t", &[("max.message.bytes", "2000")]).await, ErrorCode::None);
    assert_eq!(append(&mut raw, "t", batch(3, None)).await, (ErrorCode::None, 0));
    assert_eq!(append(&mut raw, "nope", batch(1, None)).await, (ErrorCode::UnknownTopicOrPartition, -1));
    let mut flipped = batch(1, None).to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(append(&mut raw, "t", flipped.into()).await.0, ErrorCode::CorruptMessage);
    let two = [batch(1, None), batch(1, None)].concat();
    assert_eq!(append(&mut raw, "t", two.into()).await.0, ErrorCode::InvalidRecord);
    assert_eq!(append(&mut raw, "t", batch(1, None).slice(..40)).await.0, ErrorCode::InvalidRecord);
    assert_eq!(append(&mut raw, "t", batch(200, None)).await.0, ErrorCode::MessageTooLarge);
    let response: ProduceResponse = raw.call(9, &produce("t", 5, batch(1, None))).await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::InvalidRequiredAcks.code()
    );
    let mut old = Builder::new();
    old.append(1_000_000_000_000_000, None, Some(b"from the future"));
    assert_eq!(append(&mut raw, "t", old.build().unwrap()).await.0, ErrorCode::InvalidTimestamp);
    assert_eq!(append(&mut raw, "t", batch(1, None)).await, (ErrorCode::None, 3));
    // acks=0 is silent when it works and closes the connection when it does not.
    raw.send(9, &produce("t", 0, batch(1, None))).await;
    assert_eq!(append(&mut raw, "t", batch(1, None)).await, (ErrorCode::None, 5));
    raw.send(9, &produce("nope", 0, batch(1, None))).await;
    assert_eq!(raw.frame().await, None);
    served.stop().await;
}

#[tokio::test]
async fn idempotent_producers_are_deduplicated_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let first: InitProducerIdResponse =
        raw.call(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() }).await;
    let second: InitProducerIdResponse =
        raw.call(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() }).await;
    assert_ne!(first.producer_id, second.producer_id);
    let of = |sequence| Some(Producer { id: first.producer_id, epoch: 0, base_sequence: sequence });
    assert_eq!(append(&mut raw, "t", batch(3, of(0))).await, (ErrorCode::None, 0));
    assert_eq!(append(&mut raw, "t", batch(2, of(3))).await, (ErrorCode::None, 3));
    assert_eq!(append(&mut raw, "t", batch(3, of(0))).await, (ErrorCode::None, 0));
    assert_eq!(append(&mut raw, "t", batch(1, of(7))).await.0, ErrorCode::OutOfOrderSequenceNumber);
    let store = served.store.clone();
    served.stop().await;
    let served = Served::with(options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "t", batch(2, of(3))).await, (ErrorCode::None, 3));
    assert_eq!(append(&mut raw, "t", batch(1, of(5))).await, (ErrorCode::None, 5));
    let older = Some(Producer { id: first.producer_id, epoch: 1, base_sequence: 0 });
    assert_eq!(append(&mut raw, "t", batch(1, older)).await, (ErrorCode::None, 6));
    assert_eq!(append(&mut raw, "t", batch(1, of(6))).await.0, ErrorCode::InvalidProducerEpoch);
    let third: InitProducerIdResponse =
        raw.call(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() }).await;
    assert!(third.producer_id > second.producer_id);
    let transactional = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 1_000,
        ..Default::default()
    };
    // Nobody has looked for the coordinator yet.
    let refused: InitProducerIdResponse = raw.call(4, &transactional).await;
    assert_eq!(code(refused.error_code), ErrorCode::NotCoordinator);
    served.stop().await;
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_the_append() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let (mut reader, mut writer) = (served.raw().await, served.raw().await);
    create(&mut writer, "t", &[]).await;
    create(&mut writer, "behind", &[]).await;
    reader.send(12, &fetch("t", 0, 30_000, 1)).await;
    // Requests of a connection are taken in order: once the one behind has its effect, the fetch waits.
    reader.send(9, &produce("behind", 0, batch(1, None))).await;
    let taken = async {
        while list(&mut writer, "behind", -1).await != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.expect("both requests are taken");
    let began = std::time::Instant::now();
    append(&mut writer, "t", batch(2, None)).await;
    let answer = reader.frame().await.expect("an answer");
    let (_, response): (_, FetchResponse) = kafka_wire::frame::read_response(&answer, 12).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 2));
    assert!(!partition.records.as_ref().unwrap().is_empty());
    // Nothing new: the wait ends by itself.
    let response: FetchResponse = reader.call(12, &fetch("t", 2, 50, 1)).await;
    assert!(response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    // Out of range is told at once; so is a session nobody has.
    let response: FetchResponse = reader.call(12, &fetch("t", 99, 30_000, 1)).await;
    assert_eq!(code(response.responses[0].partitions[0].error_code), ErrorCode::OffsetOutOfRange);
    let session = FetchRequest { session_id: 5, session_epoch: 1, ..fetch("t", 0, 0, 1) };
    let response: FetchResponse = reader.call(12, &session).await;
    assert_eq!(code(response.error_code), ErrorCode::FetchSessionIdNotFound);
    served.stop().await;
}

#[tokio::test]
async fn offsets_by_name_and_deleted_records() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    assert_eq!(
        [list(&mut raw, "t", -1).await, list(&mut raw, "t", -2).await, list(&mut raw, "t", -3).await],
        [0, 0, -1]
    );
    append(&mut raw, "t", batch(3, None)).await;
    append(&mut raw, "t", batch(3, None)).await;
    assert_eq!(
        [list(&mut raw, "t", -1).await, list(&mut raw, "t", -2).await, list(&mut raw, "t", -5).await],
        [6, 0, -1]
    );
    assert_eq!([list(&mut raw, "t", 0).await, list(&mut raw, "t", i64::MAX).await], [0, -1]);
    let partitions = vec![delete_records_request::DeleteRecordsPartition { partition_index: 0, offset: 4 }];
    let topics = vec![delete_records_request::DeleteRecordsTopic { name: "t".into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 1000 };
    let response: DeleteRecordsResponse = raw.call(2, &request).await;
    assert_eq!(response.topics[0].partitions[0].low_watermark, 4);
    assert_eq!([list(&mut raw, "t", -2).await, list(&mut raw, "t", 0).await], [4, 4]);
    let response: FetchResponse = raw.call(12, &fetch("t", 3, 0, 1)).await;
    assert_eq!(code(response.responses[0].partitions[0].error_code), ErrorCode::OffsetOutOfRange);
    let store = served.store.clone();
    served.stop().await;
    let served = Served::with(options(dir.path()), store).await;
    assert_eq!(list(&mut served.raw().await, "t", -2).await, 4);
    served.stop().await;
}

#[tokio::test]
async fn topics_are_refused_in_kafkas_words() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "a.b", &[]).await, ErrorCode::None);
    assert_eq!(create(&mut raw, "a.b", &[]).await, ErrorCode::TopicAlreadyExists);
    assert_eq!(create(&mut raw, "a_b", &[]).await, ErrorCode::InvalidTopicException);
    assert_eq!(create(&mut raw, "a b", &[]).await, ErrorCode::InvalidTopicException);
    assert_eq!(create(&mut raw, "c", &[("cleanup.policy", "shrink")]).await, ErrorCode::InvalidConfig);
    assert_eq!(create(&mut raw, "d", &[("cleanup.policy", "compact")]).await, ErrorCode::None);
    assert_eq!(create(&mut raw, "e", &[("cleanup.policy", "compact,delete")]).await, ErrorCode::None);
    assert_eq!(create(&mut raw, "c", &[("no.such", "1")]).await, ErrorCode::InvalidConfig);
    let topics = vec![CreatableTopic {
        name: "r".into(),
        num_partitions: 1,
        replication_factor: 3,
        ..Default::default()
    }];
    let response: CreateTopicsResponse =
        raw.call(7, &CreateTopicsRequest { topics, ..Default::default() }).await;
    assert_eq!(code(response.topics[0].error_code), ErrorCode::InvalidReplicationFactor);
    let deleted =
        DeleteTopicsRequest { topic_names: vec!["a.b".into(), "nope".into()], ..Default::default() };
    let response: DeleteTopicsResponse = raw.call(5, &deleted).await;
    let codes: Vec<_> = response.responses.iter().map(|r| code(r.error_code)).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    assert!(!dir.path().join("a.b-0").exists());
    assert_eq!(create(&mut raw, "a_b", &[]).await, ErrorCode::None);
    served.stop().await;
}

#[tokio::test]
async fn settings_of_a_topic_take_effect() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.properties.insert("log.retention.check.interval.ms".into(), "50".into());
    options.durability = broker::Durability::PageCache;
    options.advertised = vec![Some(("broker.example".into(), 1234))];
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    let metadata: MetadataResponse =
        raw.call(9, &MetadataRequest { topics: None, ..Default::default() }).await;
    assert_eq!((&*metadata.brokers[0].host, metadata.brokers[0].port), ("broker.example", 1234));
    create(&mut raw, "stamped", &[("message.timestamp.type", "LogAppendTime")]).await;
    let mut old = Builder::new();
    old.append(1000, None, Some(b"of 1970")).append(2000, None, Some(b"of 1970"));
    let response: ProduceResponse = raw.call(9, &produce("stamped", -1, old.build().unwrap())).await;
    let stamped = response.responses[0].partition_responses[0].log_append_time_ms;
    assert!(stamped > 1_700_000_000_000, "{stamped}");
    assert_eq!(
        [list(&mut raw, "stamped", stamped).await, list(&mut raw, "stamped", stamped + 1).await],
        [0, -1]
    );
    let response: FetchResponse = raw.call(12, &fetch("stamped", 0, 0, 1)).await;
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    let (batch, _) = kafka_wire::record::Batch::split(&records).unwrap();
    batch.verify().unwrap();
    assert_eq!((batch.is_log_append_time(), batch.max_timestamp()), (true, stamped));
    // Records of 1970 are older than any retention.
    create(&mut raw, "short", &[("retention.ms", "1000")]).await;
    assert_eq!(append(&mut raw, "short", old.build().unwrap()).await, (ErrorCode::None, 0));
    let gone = async {
        while list(&mut raw, "short", -2).await != 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("retention removes old records");
    assert_eq!(append(&mut raw, "short", old.build().unwrap()).await, (ErrorCode::None, 2));
    create(&mut raw, "pair", &[("min.insync.replicas", "2")]).await;
    assert_eq!(append(&mut raw, "pair", old.build().unwrap()).await.0, ErrorCode::None);
    served.stop().await;
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let partitions = vec![offset_commit_request::OffsetCommitRequestPartition {
        committed_offset: 7,
        committed_metadata: Some("note".into()),
        ..Default::default()
    }];
    let topics = vec![offset_commit_request::OffsetCommitRequestTopic {
        name: "t".into(),
        partitions,
        ..Default::default()
    }];
    let commit = OffsetCommitRequest { group_id: "g".into(), topics, ..Default::default() };
    let response: OffsetCommitResponse = raw.call(8, &commit).await;
    assert_eq!(code(response.topics[0].partitions[0].error_code), ErrorCode::UnknownTopicOrPartition);
    create(&mut raw, "t", &[]).await;
    let response: OffsetCommitResponse = raw.call(8, &commit).await;
    assert_eq!(code(response.topics[0].partitions[0].error_code), ErrorCode::None);
    let fetch = OffsetFetchRequest { group_id: "g".into(), topics: None, ..Default::default() };
    let found: OffsetFetchResponse = raw.call(7, &fetch).await;
    let partition = &found.topics[0].partitions[0];
    assert_eq!((partition.committed_offset, partition.metadata.as_deref()), (7, Some("note")));
    let deleted = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    let _: DeleteTopicsResponse = raw.call(5, &deleted).await;
    create(&mut raw, "t", &[]).await;
    let found: OffsetFetchResponse = raw.call(7, &fetch).await;
    assert_eq!(found.topics, []);
    served.stop().await;
}

#[tokio::test]
async fn the_log_of_offsets_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let with_small_segments = || {
        let mut options = options(dir.path());
        options.properties.insert("offsets.topic.segment.bytes".into(), "20000".into());
        options.properties.insert("offsets.topic.num.partitions".into(), "1".into());
        options
    };
    let served = Served::with(with_small_segments(), testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    for n in 0..600 {
        let partitions = vec![offset_commit_request::OffsetCommitRequestPartition {
            committed_offset: n,
            committed_metadata: Some("m".repeat(100)),
            ..Default::default()
        }];
        let topics = vec![offset_commit_request::OffsetCommitRequestTopic {
            name: "t".into(),
            partitions,
            ..Default::default()
        }];
        let group_id = format!("g{}", n % 3);
        let response: OffsetCommitResponse =
            raw.call(8, &OffsetCommitRequest { group_id, topics, ..Default::default() }).await;
        assert_eq!(code(response.topics[0].partitions[0].error_code), ErrorCode::None);
    }
    let partition = dir.path().join("__consumer_offsets-0");
    let size = || -> u64 {
        let logs = std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|e| e == "log"));
        logs.map(|path| path.metadata().map_or(0, |m| m.len())).sum()
    };
    let shrunk = async {
        while size() > 60_000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), shrunk).await.expect("compacted in time");
    let store = served.store.clone();
    served.stop().await;
    let served = Served::with(with_small_segments(), store).await;
    let mut raw = served.raw().await;
    for (group, last) in [("g0", 597), ("g1", 598), ("g2", 599)] {
        let fetch = OffsetFetchRequest { group_id: group.into(), topics: None, ..Default::default() };
        let found: OffsetFetchResponse = raw.call(7, &fetch).await;
        assert_eq!(found.topics[0].partitions[0].committed_offset, last);
    }
    served.stop().await;
}

#[tokio::test]
async fn topics_follow_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let put = store_api::Op::put(
        "/ketch/kafka/topics/x",
        r#"{"id":"0194f0b0-0000-4000-8000-000000000001","partitions":2}"#,
    );
    served.store.txn(store_api::Txn { success: vec![put], ..Default::default() }).await.unwrap();
    let count = async |raw: &mut Raw, wanted: usize| {
        let all = MetadataRequest { topics: None, ..Default::default() };
        loop {
            let metadata: MetadataResponse = raw.call(9, &all).await;
            if metadata.topics.len() == wanted {
                return metadata;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let metadata = tokio::time::timeout(Duration::from_secs(5), count(&mut raw, 1)).await.unwrap();
    assert_eq!(metadata.topics[0].partitions.len(), 2);
    assert_eq!(append(&mut raw, "x", batch(1, None)).await, (ErrorCode::None, 0));
    let delete = store_api::Op::delete("/ketch/kafka/topics/x");
    served.store.txn(store_api::Txn { success: vec![delete], ..Default::default() }).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), count(&mut raw, 0)).await.unwrap();
    served.stop().await;
}
