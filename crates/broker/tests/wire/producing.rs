//! Produce: what is refused and how, what is changed on the way in.

use bytes::Bytes;
use kafka_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::messages::produce_response::PartitionProduceResponse;
use kafka_wire::messages::{FetchResponse, ProduceRequest, ProduceResponse};
use kafka_wire::record::{Batch, Builder, Compression, Producer, patch_log_append_time};
use kafka_wire::{ErrorCode, Uuid};

use crate::common::{Raw, Served, append, batch, code, create, fetch, produce};

async fn send(raw: &mut Raw, version: i16, request: ProduceRequest) -> PartitionProduceResponse {
    let response: ProduceResponse = raw.call(version, &request).await;
    response.responses.into_iter().next().unwrap().partition_responses.into_iter().next().unwrap()
}

async fn refused(raw: &mut Raw, topic: &str, records: impl Into<Bytes>) -> ErrorCode {
    let answer = send(raw, 9, produce(topic, -1, records.into())).await;
    let code = code(answer.error_code);
    // Bytes that are no batch are told why, as the only ones without single records at fault.
    assert_eq!(answer.base_offset, -1);
    assert!(answer.error_message.is_none() || code == ErrorCode::CorruptMessage);
    code
}

fn now_ms() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

/// The batches of a topic from an offset on.
async fn stored(raw: &mut Raw, topic: &str, offset: i64) -> Bytes {
    let response: FetchResponse = raw.call(12, &fetch(topic, offset, 0, 1)).await;
    response.responses[0].partitions[0].records.clone().unwrap()
}

fn values(batch: &Batch<'_>) -> Vec<(i64, Vec<u8>)> {
    let mut all = Vec::new();
    let each = |record: kafka_wire::record::Record<'_>| {
        all.push((record.offset, record.value.unwrap_or_default().to_vec()));
    };
    batch.records(1 << 20).unwrap().for_each(each).unwrap();
    all
}

#[tokio::test]
async fn codes_of_broken_batches() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let good = batch(3, None);
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + to.len()].copy_from_slice(to);
        let crc = base::checksum::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    assert_eq!(refused(&mut raw, "t", Bytes::new()).await, ErrorCode::InvalidRecord);
    assert_eq!(refused(&mut raw, "t", good.slice(..70)).await, ErrorCode::InvalidRecord);
    assert_eq!(refused(&mut raw, "t", changed(8, &5i32.to_be_bytes())).await, ErrorCode::CorruptMessage);
    assert_eq!(refused(&mut raw, "t", changed(16, &[0])).await, ErrorCode::InvalidRecord);
    assert_eq!(refused(&mut raw, "t", changed(16, &[1])).await, ErrorCode::InvalidRecord);
    assert_eq!(refused(&mut raw, "t", changed(16, &[3])).await, ErrorCode::CorruptMessage);
    assert_eq!(refused(&mut raw, "t", changed(0, &1i64.to_be_bytes())).await, ErrorCode::InvalidRecord);
    assert_eq!(refused(&mut raw, "t", changed(57, &4i32.to_be_bytes())).await, ErrorCode::InvalidRecord);
    assert_eq!(refused(&mut raw, "t", changed(23, &1i32.to_be_bytes())).await, ErrorCode::InvalidRecord);
    assert_eq!(refused(&mut raw, "t", changed(21, &0x20i16.to_be_bytes())).await, ErrorCode::InvalidRecord);
    let transactional = changed(21, &0x10i16.to_be_bytes());
    assert_eq!(refused(&mut raw, "t", transactional).await, ErrorCode::TransactionalIdAuthorizationFailed);
    assert_eq!(refused(&mut raw, "t", changed(43, &9i64.to_be_bytes())).await, ErrorCode::InvalidRecord);
    let gzip = changed(21, &1i16.to_be_bytes());
    assert_eq!(refused(&mut raw, "t", gzip).await, ErrorCode::UnknownServerError);
    assert_eq!(refused(&mut raw, "t", changed(61, &[0x7f])).await, ErrorCode::InvalidRecord);
    let unknown = Producer { id: 5, epoch: 0, base_sequence: 0 };
    assert_eq!(append(&mut raw, "t", batch(1, Some(unknown))).await, (ErrorCode::None, 0));
    let gap = Producer { base_sequence: 5, ..unknown };
    assert_eq!(refused(&mut raw, "t", batch(1, Some(gap))).await, ErrorCode::OutOfOrderSequenceNumber);
    let newer = Producer { epoch: 2, ..unknown };
    assert_eq!(append(&mut raw, "t", batch(1, Some(newer))).await, (ErrorCode::None, 1));
    let fenced = Producer { base_sequence: 1, ..unknown };
    assert_eq!(refused(&mut raw, "t", batch(1, Some(fenced))).await, ErrorCode::InvalidProducerEpoch);
    // Less than a batch behind the batch is cut off; nothing of the rest was stored.
    let tail = [good.clone(), good.slice(..30)].concat();
    assert_eq!(append(&mut raw, "t", tail.into()).await, (ErrorCode::None, 2));
    assert_eq!(append(&mut raw, "t", good).await, (ErrorCode::None, 5));
    served.stop().await;
}

#[tokio::test]
async fn records_at_fault_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[("message.timestamp.before.max.ms", "1000")]).await;
    let (now, mut builder) = (now_ms(), Builder::new());
    builder.append(now, Some(b"k"), None).append(now - 60_000, None, None).append(
        now + 4_000_000,
        None,
        None,
    );
    let answer = send(&mut raw, 9, produce("t", -1, builder.build().unwrap())).await;
    assert_eq!(code(answer.error_code), ErrorCode::InvalidTimestamp);
    let text = "One or more records have been rejected due to invalid timestamp";
    assert_eq!(answer.error_message.as_deref(), Some(text));
    assert_eq!(answer.record_errors.iter().map(|one| one.batch_index).collect::<Vec<_>>(), [1, 2]);
    let first = answer.record_errors[0].batch_index_error_message.clone().unwrap();
    assert!(
        first.starts_with(&format!("Timestamp {} of message with offset 1 is out of range.", now - 60_000)),
        "{first}"
    );
    assert_eq!(answer.log_start_offset, 0);
    // A batch that claims the broker's time.
    create(&mut raw, "stamped", &[("message.timestamp.type", "LogAppendTime")]).await;
    let mut claims = batch(1, None).to_vec();
    patch_log_append_time(&mut claims, now);
    let answer = send(&mut raw, 9, produce("stamped", -1, claims.clone().into())).await;
    let text = answer.record_errors[0].batch_index_error_message.clone().unwrap();
    assert!(text.starts_with("Invalid timestamp type in message DefaultRecord(offset=0, "), "{text}");
    create(&mut raw, "plain", &[]).await;
    assert_eq!(append(&mut raw, "plain", claims.into()).await, (ErrorCode::None, 0));
    let bytes = stored(&mut raw, "plain", 0).await;
    let kept = Batch::single(&bytes).unwrap();
    kept.verify().unwrap();
    assert!(!kept.is_log_append_time());
    served.stop().await;
}

#[tokio::test]
async fn topics_have_a_codec_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let names =
        [("uncompressed", Compression::None), ("gzip", Compression::Gzip), ("snappy", Compression::Snappy)];
    for (name, codec) in names.into_iter().chain([("lz4", Compression::Lz4), ("zstd", Compression::Zstd)]) {
        assert_eq!(create(&mut raw, name, &[("compression.type", name)]).await, ErrorCode::None);
        for (n, from) in Compression::ALL.into_iter().enumerate() {
            let producer = Producer { id: 7, epoch: 0, base_sequence: n as i32 };
            let mut builder = Builder::new().compression(from).producer(producer);
            builder.append(now_ms(), Some(b"key"), Some(format!("value {n}").as_bytes()));
            assert_eq!(append(&mut raw, name, builder.build().unwrap()).await, (ErrorCode::None, n as i64));
            let bytes = stored(&mut raw, name, n as i64).await;
            let kept = Batch::single(&bytes).unwrap();
            kept.verify().unwrap();
            assert_eq!(kept.compression(), Ok(codec));
            assert_eq!((kept.producer_id(), kept.base_sequence()), (7, n as i32));
            assert_eq!(values(&kept), [(n as i64, format!("value {n}").into_bytes())]);
        }
    }
    // What grows beyond the limit by being unpacked is refused after all.
    create(&mut raw, "small", &[("compression.type", "uncompressed"), ("max.message.bytes", "500")]).await;
    let mut builder = Builder::new().compression(Compression::Zstd);
    builder.append(now_ms(), None, Some(&[7; 5000]));
    assert_eq!(refused(&mut raw, "small", builder.build().unwrap()).await, ErrorCode::MessageTooLarge);
    served.stop().await;
}

#[tokio::test]
async fn versions_acks_and_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    create(&mut raw, "two", &[("min.insync.replicas", "2")]).await;
    let mut zstd = Builder::new().compression(Compression::Zstd);
    zstd.append(now_ms(), None, Some(b"v"));
    let zstd = zstd.build().unwrap();
    let answer = send(&mut raw, 6, produce("t", 1, zstd.clone())).await;
    assert_eq!(code(answer.error_code), ErrorCode::UnsupportedCompressionType);
    assert_eq!(send(&mut raw, 7, produce("t", 1, zstd)).await.error_code, 0);
    assert_eq!(code(send(&mut raw, 9, produce("two", -1, batch(1, None))).await.error_code), ErrorCode::None);
    assert_eq!(send(&mut raw, 9, produce("two", 1, batch(1, None))).await.error_code, 0);
    assert_eq!(
        code(send(&mut raw, 9, produce("t", 2, batch(1, None))).await.error_code),
        ErrorCode::InvalidRequiredAcks
    );
    let data = PartitionProduceData { index: 0, records: Some(batch(1, None)) };
    let topic =
        TopicProduceData { topic_id: Uuid::from_u128(9), partition_data: vec![data], ..Default::default() };
    let by_id = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
    assert_eq!(code(send(&mut raw, 13, by_id).await.error_code), ErrorCode::UnknownTopicId);
    let transactional =
        ProduceRequest { transactional_id: Some("x".into()), ..produce("t", 1, batch(1, None)) };
    // The id alone makes no transaction.
    assert_eq!(code(send(&mut raw, 9, transactional).await.error_code), ErrorCode::None);
    served.stop().await;
}
