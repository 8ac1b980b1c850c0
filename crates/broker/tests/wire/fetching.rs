//! Fetch: sessions, topic ids, epochs, limits.

use kafka_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_wire::messages::{
    DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse,
};
use kafka_wire::{ErrorCode, Uuid};

use crate::common::{Raw, Served, append, batch, code, create, fetch};

/// Partition 0 of topics by id, from offset 0.
fn by_id(session: (i32, i32), ids: &[Uuid]) -> FetchRequest {
    let partition = || FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = |id: &Uuid| FetchTopic { topic_id: *id, partitions: vec![partition()], ..Default::default() };
    FetchRequest {
        max_bytes: 1 << 20,
        session_id: session.0,
        session_epoch: session.1,
        topics: ids.iter().map(topic).collect(),
        ..Default::default()
    }
}

async fn id_of(raw: &mut Raw, topic: &str) -> Uuid {
    let all: MetadataResponse = raw.call(12, &MetadataRequest { topics: None, ..Default::default() }).await;
    all.topics.iter().find(|t| t.name.as_deref() == Some(topic)).unwrap().topic_id
}

fn codes(response: &FetchResponse) -> Vec<ErrorCode> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| code(partition.error_code)).collect()
}

async fn delete(raw: &mut Raw, topic: &str) {
    let request = DeleteTopicsRequest { topic_names: vec![topic.into()], ..Default::default() };
    let _: DeleteTopicsResponse = raw.call(5, &request).await;
}

#[tokio::test]
async fn a_session_tells_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    for topic in ["a", "b"] {
        create(&mut raw, topic, &[]).await;
    }
    let ids = [id_of(&mut raw, "a").await, id_of(&mut raw, "b").await];
    let response: FetchResponse = raw.call(16, &by_id((0, 0), &ids)).await;
    let id = response.session_id;
    assert!(id > 0);
    assert_eq!(response.responses.len(), 2);
    append(&mut raw, "b", batch(1, None)).await;
    let response: FetchResponse = raw.call(16, &by_id((id, 1), &[])).await;
    assert_eq!((response.session_id, response.responses.len()), (id, 1));
    assert_eq!(response.responses[0].topic_id, ids[1]);
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    // The offset stays until it is named anew; what is forgotten is read no more.
    let mut next = by_id((id, 2), &ids[1..]);
    next.topics[0].partitions[0].fetch_offset = 1;
    next.forgotten_topics_data =
        vec![ForgottenTopic { topic_id: ids[0], partitions: vec![0], ..Default::default() }];
    let response: FetchResponse = raw.call(16, &next).await;
    assert_eq!(response.responses, []);
    append(&mut raw, "a", batch(1, None)).await;
    let response: FetchResponse = raw.call(16, &by_id((id, 3), &[])).await;
    assert_eq!(response.responses, []);
    // Epochs count; names and ids do not mix; a session unknown is said to be.
    let response: FetchResponse = raw.call(16, &by_id((id, 3), &[])).await;
    assert_eq!((code(response.error_code), response.session_id), (ErrorCode::InvalidFetchSessionEpoch, 0));
    let named = FetchRequest { topics: vec![], ..by_id((id, 4), &[]) };
    let response: FetchResponse = raw.call(12, &named).await;
    assert_eq!(code(response.error_code), ErrorCode::FetchSessionTopicIdError);
    let response: FetchResponse = raw.call(16, &by_id((id ^ 1, 4), &[])).await;
    assert_eq!(code(response.error_code), ErrorCode::FetchSessionIdNotFound);
    // Asking for everything drops the session named.
    let response: FetchResponse = raw.call(16, &by_id((id, -1), &ids)).await;
    assert_eq!((response.session_id, response.responses.len()), (0, 2));
    let response: FetchResponse = raw.call(16, &by_id((id, 4), &[])).await;
    assert_eq!(code(response.error_code), ErrorCode::FetchSessionIdNotFound);
    served.stop().await;
}

#[tokio::test]
async fn topics_that_go_or_change_under_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    for topic in ["gone", "again"] {
        create(&mut raw, topic, &[]).await;
    }
    let ids = [id_of(&mut raw, "gone").await, id_of(&mut raw, "again").await, Uuid::from_u128(7)];
    let response: FetchResponse = raw.call(16, &by_id((0, 0), &ids)).await;
    assert_eq!(codes(&response), [ErrorCode::None, ErrorCode::None, ErrorCode::UnknownTopicId]);
    let id = response.session_id;
    delete(&mut raw, "gone").await;
    delete(&mut raw, "again").await;
    create(&mut raw, "again", &[]).await;
    let response: FetchResponse = raw.call(16, &by_id((id, 1), &[])).await;
    let expect =
        [ErrorCode::UnknownTopicOrPartition, ErrorCode::InconsistentTopicId, ErrorCode::UnknownTopicId];
    assert_eq!(codes(&response), expect);
    served.stop().await;
}

#[tokio::test]
async fn epochs_limits_and_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    for _ in 0..3 {
        append(&mut raw, "t", batch(10, None)).await;
    }
    let one = async |raw: &mut Raw, change: &dyn Fn(&mut FetchRequest)| {
        let mut request = fetch("t", 0, 0, 1);
        change(&mut request);
        let response: FetchResponse = raw.call(12, &request).await;
        response.responses[0].partitions[0].clone()
    };
    let got = one(&mut raw, &|r| r.topics[0].partitions[0].current_leader_epoch = 7).await;
    assert_eq!(code(got.error_code), ErrorCode::UnknownLeaderEpoch);
    assert_eq!((got.high_watermark, got.last_stable_offset, got.log_start_offset), (-1, -1, -1));
    // The first batch comes whole however small the limits; the next as far as there is room, as from Kafka.
    let first = one(&mut raw, &|r| r.max_bytes = 0).await.records.unwrap();
    let all = one(&mut raw, &|_| {}).await.records.unwrap();
    assert_eq!(first.len() * 3, all.len());
    let limit = first.len() as i32 * 2 + 5;
    let two = one(&mut raw, &|r| r.topics[0].partitions[0].partition_max_bytes = limit).await;
    assert_eq!(two.records.unwrap(), all.slice(..limit as usize));
    // An epoch of which this log knows nothing; one that ended before the offset.
    let got = one(&mut raw, &|r| {
        (r.topics[0].partitions[0].last_fetched_epoch, r.topics[0].partitions[0].fetch_offset) = (0, 31);
    })
    .await;
    assert_eq!((got.error_code, got.diverging_epoch.epoch, got.diverging_epoch.end_offset), (0, 0, 30));
    assert_eq!(got.records.unwrap().len(), 0);
    let got = one(&mut raw, &|r| r.topics[0].partitions[0].fetch_offset = 31).await;
    assert_eq!(code(got.error_code), ErrorCode::OffsetOutOfRange);
    // Nobody replicates from the only broker; read_committed lists what was aborted.
    let got = one(&mut raw, &|r| r.replica_id = 2).await;
    assert_eq!(code(got.error_code), ErrorCode::NotLeaderOrFollower);
    let got = one(&mut raw, &|r| r.isolation_level = 1).await;
    assert_eq!((got.last_stable_offset, got.aborted_transactions), (30, Some(vec![])));
    let got = one(&mut raw, &|_| {}).await;
    assert_eq!(got.aborted_transactions, None);
    served.stop().await;
}

#[tokio::test]
async fn a_fetch_of_several_batches_waits_for_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let (mut writer, mut reader) = (served.raw().await, served.raw().await);
    create(&mut writer, "t", &[]).await;
    let size = batch(1, None).len() as i32;
    reader.send(12, &fetch("t", 0, 30_000, size * 3)).await;
    for _ in 0..3 {
        append(&mut writer, "t", batch(1, None)).await;
    }
    let response: FetchResponse = reader.receive(12).await;
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(records.len() as i32, size * 3);
    // More than a response may hold is not waited for.
    let small = FetchRequest { max_bytes: size, ..fetch("t", 0, 30_000, 1 << 20) };
    let response: FetchResponse = reader.call(12, &small).await;
    assert_eq!(response.responses[0].partitions[0].records.clone().unwrap().len() as i32, size);
    served.stop().await;
}
