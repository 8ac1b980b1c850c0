//! Topics and the cluster as clients see them.

use kafka_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_wire::messages::metadata_request::MetadataRequestTopic;
use kafka_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_wire::messages::*;
use kafka_wire::{ErrorCode, Uuid};

use crate::common::{Raw, Served, append, batch, code, create};

#[tokio::test]
async fn the_cluster_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let ask = |endpoint_type| DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        endpoint_type,
        include_fenced_brokers: true,
    };
    let response: DescribeClusterResponse = raw.call(2, &ask(1)).await;
    assert_eq!((response.error_code, response.controller_id, response.brokers.len()), (0, 1, 1));
    assert_eq!(response.cluster_authorized_operations, 0x1fa0);
    assert!(!response.brokers[0].is_fenced);
    let response: DescribeClusterResponse = raw.call(2, &ask(2)).await;
    assert_eq!(code(response.error_code), ErrorCode::MismatchedEndpointType);
    create(&mut raw, "t", &[]).await;
    append(&mut raw, "t", batch(1, None)).await;
    let size = i64::from(batch(1, None).len() as i32);
    let topics = vec![DescribableLogDirTopic { topic: "t".into(), partitions: vec![0, 9] }];
    let response: DescribeLogDirsResponse =
        raw.call(4, &DescribeLogDirsRequest { topics: Some(topics) }).await;
    let found = &response.results[0];
    assert_eq!(found.log_dir, dir.path().to_str().unwrap());
    assert_eq!((found.topics.len(), found.topics[0].partitions[0].partition_size), (1, size));
    assert!(found.usable_bytes > 0 && found.usable_bytes <= found.total_bytes);
    let response: DescribeLogDirsResponse = raw.call(5, &DescribeLogDirsRequest { topics: None }).await;
    assert!(!response.results[0].is_cordoned);
    served.stop().await;
}

#[tokio::test]
async fn partitions_come_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    for topic in ["a", "b", "c"] {
        create(&mut raw, topic, &[]).await;
    }
    let grow =
        create_partitions_request::CreatePartitionsTopic { name: "b".into(), count: 3, assignments: None };
    let grow = CreatePartitionsRequest { topics: vec![grow], ..Default::default() };
    let _: CreatePartitionsResponse = raw.call(3, &grow).await;
    let (mut cursor, mut pages) = (None, Vec::new());
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: Vec::new(),
            response_partition_limit: 2,
            cursor: cursor.take(),
        };
        let response: DescribeTopicPartitionsResponse = raw.call(0, &request).await;
        let shown = |t: &describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic| {
            let name = t.name.clone().unwrap();
            t.partitions.iter().map(move |p| format!("{name}{}", p.partition_index)).collect::<Vec<_>>()
        };
        pages.push(response.topics.iter().flat_map(shown).collect::<Vec<_>>().join(" "));
        match response.next_cursor {
            Some(next) => {
                cursor = Some(Cursor { topic_name: next.topic_name, partition_index: next.partition_index });
            }
            None => break,
        }
    }
    assert_eq!(pages, ["a0 b0", "b1 b2", "c0"]);
    let names = ["a", "none", "b a d"].map(|name| TopicRequest { name: name.into() }).to_vec();
    let request =
        DescribeTopicPartitionsRequest { topics: names, response_partition_limit: 10, cursor: None };
    let response: DescribeTopicPartitionsResponse = raw.call(0, &request).await;
    let codes: Vec<_> = response.topics.iter().map(|t| code(t.error_code)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes, [ErrorCode::None, ErrorCode::InvalidTopicException, unknown]);
    served.stop().await;
}

#[tokio::test]
async fn epochs_and_removed_records() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    append(&mut raw, "t", batch(5, None)).await;
    let end_of = async |raw: &mut Raw, leader_epoch, current_leader_epoch| {
        let partition = OffsetForLeaderPartition { partition: 0, current_leader_epoch, leader_epoch };
        let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition] }];
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
        let response: OffsetForLeaderEpochResponse = raw.call(4, &request).await;
        let partition = response.topics[0].partitions[0].clone();
        (code(partition.error_code), partition.leader_epoch, partition.end_offset)
    };
    assert_eq!(end_of(&mut raw, 0, -1).await, (ErrorCode::None, 0, 5));
    assert_eq!(end_of(&mut raw, 0, 3).await.0, ErrorCode::UnknownLeaderEpoch);
    let remove = async |raw: &mut Raw, topic: &str, offset| {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
        let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
        let response: DeleteRecordsResponse =
            raw.call(2, &DeleteRecordsRequest { topics, timeout_ms: 1000 }).await;
        let partition = response.topics[0].partitions[0].clone();
        (code(partition.error_code), partition.low_watermark)
    };
    assert_eq!(remove(&mut raw, "t", 2).await, (ErrorCode::None, 2));
    assert_eq!(remove(&mut raw, "t", 9).await, (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(remove(&mut raw, "t", -2).await, (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(remove(&mut raw, "t", -1).await, (ErrorCode::None, 5));
    assert_eq!(remove(&mut raw, "none", 0).await.0, ErrorCode::UnknownTopicOrPartition);
    served.stop().await;
}

#[tokio::test]
async fn metadata_by_name_by_id_and_made_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "a.b", &[]).await;
    assert_eq!(create(&mut raw, "a_b", &[]).await, ErrorCode::InvalidTopicException);
    assert_eq!(create(&mut raw, "a.b", &[]).await, ErrorCode::TopicAlreadyExists);
    assert_eq!(create(&mut raw, "b c", &[]).await, ErrorCode::InvalidTopicException);
    let ask = |name: Option<&str>, topic_id, create| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: name.map(str::to_owned), topic_id }]),
        allow_auto_topic_creation: create,
        ..Default::default()
    };
    let response: MetadataResponse = raw.call(12, &ask(Some("a.b"), Uuid::nil(), false)).await;
    let id = response.topics[0].topic_id;
    let response: MetadataResponse = raw.call(12, &ask(None, id, false)).await;
    assert_eq!(response.topics[0].name.as_deref(), Some("a.b"));
    let response: MetadataResponse = raw.call(12, &ask(None, Uuid::from_u128(1), false)).await;
    assert_eq!(code(response.topics[0].error_code), ErrorCode::UnknownTopicId);
    let response: MetadataResponse = raw.call(12, &ask(Some("new"), Uuid::nil(), false)).await;
    assert_eq!(code(response.topics[0].error_code), ErrorCode::UnknownTopicOrPartition);
    let response: MetadataResponse = raw.call(12, &ask(Some("new"), Uuid::nil(), true)).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].partitions.len()), (0, 1));
    let response: MetadataResponse = raw.call(12, &ask(Some("n e w"), Uuid::nil(), true)).await;
    assert_eq!(code(response.topics[0].error_code), ErrorCode::InvalidTopicException);
    // An empty list asks for nothing, in version 0 for everything.
    let nothing = MetadataRequest { topics: Some(vec![]), ..Default::default() };
    let response: MetadataResponse = raw.call(9, &nothing).await;
    assert_eq!(response.topics, []);
    let response: MetadataResponse = raw.call(0, &nothing).await;
    assert_eq!(response.topics.len(), 2);
    served.stop().await;
}
