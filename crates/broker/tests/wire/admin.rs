//! The admin's keys as one broker answers them.

use kafka_wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_wire::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_wire::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_wire::messages::describe_producers_request::TopicRequest;
use kafka_wire::messages::describe_quorum_request as quorum;
use kafka_wire::messages::elect_leaders_request::TopicPartitions;
use kafka_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::messages::*;
use kafka_wire::record::Producer;
use kafka_wire::{ErrorCode, Uuid};

use crate::common::{Raw, Served, append, batch, code, create, feature_level, options, set_feature};

#[tokio::test]
async fn elections_and_reassignments() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let topics = |names: &[(&str, i32)]| {
        let one = |(topic, index): &(&str, i32)| TopicPartitions {
            topic: (*topic).into(),
            partitions: vec![*index],
        };
        Some(names.iter().map(one).collect())
    };
    let elect = |election_type, topic_partitions| ElectLeadersRequest {
        election_type,
        topic_partitions,
        timeout_ms: 1,
    };
    let response: ElectLeadersResponse =
        raw.call(2, &elect(0, topics(&[("t", 0), ("t", 9), ("no", 0)]))).await;
    let codes: Vec<_> =
        response.replica_election_results.iter().map(|r| code(r.partition_result[0].error_code)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes, [ErrorCode::ElectionNotNeeded, unknown, unknown]);
    let response: ElectLeadersResponse = raw.call(2, &elect(5, None)).await;
    assert_eq!(code(response.error_code), ErrorCode::InvalidRequest);
    let response: ElectLeadersResponse = raw.call(2, &elect(1, None)).await;
    assert_eq!(response.replica_election_results[0].partition_result, []);
    let reassign = async |raw: &mut Raw, topic: &str, partition_index, replicas: Option<&[i32]>| {
        let partitions =
            vec![ReassignablePartition { partition_index, replicas: replicas.map(<[i32]>::to_vec) }];
        let topics = vec![ReassignableTopic { name: topic.into(), partitions }];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        let response: AlterPartitionReassignmentsResponse = raw.call(1, &request).await;
        let partition = &response.responses[0].partitions[0];
        (code(partition.error_code), partition.error_message.clone().unwrap_or_default())
    };
    assert_eq!(reassign(&mut raw, "t", 0, Some(&[1])).await.0, ErrorCode::None);
    assert_eq!(reassign(&mut raw, "t", 0, None).await.0, ErrorCode::NoReassignmentInProgress);
    let refused = "The manual partition assignment includes broker 2, but no such broker is registered.";
    let wrong = reassign(&mut raw, "t", 0, Some(&[1, 2])).await;
    assert_eq!(wrong, (ErrorCode::InvalidReplicaAssignment, refused.into()));
    assert_eq!(reassign(&mut raw, "t", 0, Some(&[])).await.0, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(&mut raw, "no", 0, None).await.1, "Unable to find a topic named no.");
    let response: ListPartitionReassignmentsResponse =
        raw.call(0, &ListPartitionReassignmentsRequest::default()).await;
    assert_eq!((response.error_code, response.topics), (0, vec![]));
    served.stop().await;
}

#[tokio::test]
async fn features_quorum_and_brokers() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let update = async |raw: &mut Raw, feature: &str, max_version_level, upgrade_type| {
        set_feature(raw, feature_level(feature, max_version_level, upgrade_type)).await
    };
    assert_eq!(update(&mut raw, "metadata.version", 30, 1).await, (ErrorCode::None, String::new()));
    let (refused, text) = update(&mut raw, "metadata.version", 31, 1).await;
    assert_eq!(refused, ErrorCode::InvalidUpdateVersion);
    assert!(text.ends_with("Local controller 1 only supports versions 7-30"), "{text}");
    assert_eq!(update(&mut raw, "metadata.version", 20, 1).await.0, ErrorCode::InvalidUpdateVersion);
    assert_eq!(update(&mut raw, "metadata.version", 20, 2).await.0, ErrorCode::InvalidUpdateVersion);
    assert_eq!(update(&mut raw, "transaction.version", 2, 1).await.0, ErrorCode::None);
    assert_eq!(update(&mut raw, "share.version", 1, 1).await.0, ErrorCode::InvalidUpdateVersion);
    let ask = |topic: &str, partition_index| DescribeQuorumRequest {
        topics: vec![quorum::TopicData {
            topic_name: topic.into(),
            partitions: vec![quorum::PartitionData { partition_index }],
        }],
    };
    let response: DescribeQuorumResponse = raw.call(2, &ask("__cluster_metadata", 0)).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.error_code, partition.current_voters.len()), (1, 0, 1));
    assert_eq!((partition.observers.len(), response.nodes[0].node_id), (0, 1));
    let before = partition.high_watermark;
    create(&mut raw, "t", &[]).await;
    let response: DescribeQuorumResponse = raw.call(2, &ask("__cluster_metadata", 0)).await;
    assert!(response.topics[0].partitions[0].high_watermark > before);
    let response: DescribeQuorumResponse = raw.call(2, &ask("t", 0)).await;
    assert_eq!(code(response.topics[0].partitions[0].error_code), ErrorCode::UnknownTopicOrPartition);
    for (broker_id, expect) in [(7, ErrorCode::BrokerIdNotRegistered), (1, ErrorCode::InvalidRequest)] {
        let response: UnregisterBrokerResponse = raw.call(0, &UnregisterBrokerRequest { broker_id }).await;
        assert_eq!(code(response.error_code), expect);
    }
    served.stop().await;
}

/// The transaction version goes down, safely or not, and up again, as Kafka 4.3 answered the same requests; clients are told
/// of a newer epoch, and it outlives the broker.
#[tokio::test]
async fn the_transaction_version_is_lowered_and_raised() {
    const UPGRADE: i8 = 1;
    const SAFE: i8 = 2;
    const UNSAFE: i8 = 3;
    let (fine, invalid) = (ErrorCode::None, ErrorCode::InvalidUpdateVersion);
    let (dir, store) = (tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let served = Served::with(options(dir.path()), store.clone()).await;
    let mut raw = served.raw().await;
    let told = async |raw: &mut Raw| {
        let name =
            ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
        let response: ApiVersionsResponse = raw.call(4, &name).await;
        let found = response.finalized_features.iter().find(|found| found.name == "transaction.version");
        let supported = response.supported_features.iter().find(|of| of.name == "transaction.version");
        assert_eq!(supported.map(|of| (of.min_version, of.max_version)), Some((0, 2)));
        let level = found.map(|found| {
            assert_eq!(found.min_version_level, found.max_version_level);
            found.max_version_level
        });
        (level, response.finalized_features_epoch)
    };
    let update = async |raw: &mut Raw, feature_updates, validate_only| {
        let request = UpdateFeaturesRequest { feature_updates, validate_only, ..Default::default() };
        let response: UpdateFeaturesResponse = raw.call(2, &request).await;
        assert!(response.results.is_empty());
        (code(response.error_code), response.error_message.unwrap_or_default())
    };
    let head =
        "The update failed for all features since the following feature had an error: Invalid update version";
    let of = |level: i16, kind| vec![feature_level("transaction.version", level, kind)];
    assert_eq!(told(&mut raw).await, (Some(2), 0));
    let text = format!(
        "{head} 1 for feature transaction.version. Can't downgrade the version of this feature without setting the \
         upgrade type to either safe or unsafe downgrade."
    );
    assert_eq!(update(&mut raw, of(1, UPGRADE), false).await, (invalid, text));
    let text = format!(
        "{head} 1 for feature transaction.version. The controller does not support the given upgrade type."
    );
    assert_eq!(update(&mut raw, of(1, 0), false).await, (invalid, text));
    let text = format!("{head} -1 for feature transaction.version. A feature version cannot be less than 0.");
    assert_eq!(update(&mut raw, of(-1, UNSAFE), false).await, (invalid, text));
    // What is only checked, and what comes with something that cannot be, changes nothing.
    assert_eq!(update(&mut raw, of(1, SAFE), true).await, (fine, String::new()));
    let both = [of(1, SAFE), vec![feature_level("metadata.version", 20, SAFE)]].concat();
    assert_eq!(update(&mut raw, both, false).await.0, invalid);
    assert_eq!(told(&mut raw).await, (Some(2), 0));

    assert_eq!(update(&mut raw, of(1, SAFE), false).await, (fine, String::new()));
    let (level, first) = told(&mut raw).await;
    assert!(level == Some(1) && first > 0, "{level:?} {first}");
    assert_eq!(update(&mut raw, of(1, UNSAFE), false).await, (fine, String::new()));
    let text = format!("{head} 2 for feature transaction.version. Can't downgrade to a newer version.");
    assert_eq!(update(&mut raw, of(2, SAFE), false).await, (invalid, text));
    assert_eq!(update(&mut raw, of(0, UNSAFE), false).await, (fine, String::new()));
    let (level, second) = told(&mut raw).await;
    assert!(level.is_none() && second > first, "one at 0 is not told: {level:?} {second}");
    served.stop().await;

    let served = Served::with(options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert_eq!(told(&mut raw).await, (None, second));
    let text =
        format!("{head} 3 for feature transaction.version. Local controller 1 only supports versions 0-2");
    assert_eq!(update(&mut raw, of(3, UPGRADE), false).await, (invalid, text));
    // The oldest version of the request names its downgrades otherwise, and tells of each feature.
    let request = UpdateFeaturesRequest { feature_updates: of(2, UPGRADE), ..Default::default() };
    let response: UpdateFeaturesResponse = raw.call(0, &request).await;
    let results: Vec<_> = response.results.iter().map(|of| (&*of.feature, of.error_code)).collect();
    assert_eq!((response.error_code, results), (0, vec![("transaction.version", 0)]));
    assert_eq!(told(&mut raw).await.0, Some(2));
    let mut lower = of(1, UPGRADE);
    let request = UpdateFeaturesRequest { feature_updates: lower.clone(), ..Default::default() };
    let response: UpdateFeaturesResponse = raw.call(0, &request).await;
    assert_eq!(code(response.error_code), invalid);
    lower[0].allow_downgrade = true;
    let request = UpdateFeaturesRequest { feature_updates: lower, ..Default::default() };
    let response: UpdateFeaturesResponse = raw.call(0, &request).await;
    assert_eq!(response.error_code, 0);
    assert_eq!(told(&mut raw).await.0, Some(1));
    served.stop().await;
}

#[tokio::test]
async fn producers_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let producer = Producer { id: 77, epoch: 3, base_sequence: 0 };
    assert_eq!(append(&mut raw, "t", batch(4, Some(producer))).await.0, ErrorCode::None);
    let ask = |name: &str, index| TopicRequest { name: name.into(), partition_indexes: vec![index] };
    let request =
        DescribeProducersRequest { topics: vec![ask("t", 0), ask("t", 5), ask("no", 0), ask("a b", 0)] };
    let response: DescribeProducersResponse = raw.call(0, &request).await;
    let codes: Vec<_> = response.topics.iter().map(|t| code(t.partitions[0].error_code)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes, [ErrorCode::None, unknown, unknown, ErrorCode::InvalidTopicException]);
    let active = &response.topics[0].partitions[0].active_producers[0];
    assert_eq!((active.producer_id, active.producer_epoch, active.last_sequence), (77, 3, 3));
    assert_eq!((active.coordinator_epoch, active.current_txn_start_offset), (-1, -1));
    let move_to = |path: &str, name: &str| {
        let topics = vec![AlterReplicaLogDirTopic { name: name.into(), partitions: vec![0] }];
        AlterReplicaLogDirsRequest { dirs: vec![AlterReplicaLogDir { path: path.into(), topics }] }
    };
    let here = dir.path().to_str().unwrap();
    for (path, name, expect) in
        [(here, "t", ErrorCode::None), (here, "no", unknown), ("/nowhere", "t", ErrorCode::LogDirNotFound)]
    {
        let response: AlterReplicaLogDirsResponse = raw.call(2, &move_to(path, name)).await;
        assert_eq!(code(response.results[0].partitions[0].error_code), expect);
    }
    served.stop().await;
}

#[tokio::test]
async fn assignments_and_operations() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let make = async |raw: &mut Raw, count, factor, assignments: &[(i32, &[i32])]| {
        let assign = |(partition_index, ids): &(i32, &[i32])| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: ids.to_vec(),
        };
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: count,
            replication_factor: factor,
            assignments: assignments.iter().map(assign).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], validate_only: true, ..Default::default() };
        let response: CreateTopicsResponse = raw.call(7, &request).await;
        let topic = &response.topics[0];
        (code(topic.error_code), topic.error_message.clone().unwrap_or_default(), topic.num_partitions)
    };
    assert_eq!(make(&mut raw, -1, -1, &[(0, &[1]), (1, &[1])]).await, (ErrorCode::None, String::new(), 2));
    let invalid = ErrorCode::InvalidReplicaAssignment;
    assert_eq!(make(&mut raw, -1, -1, &[(0, &[1]), (0, &[1])]).await.0, invalid);
    assert_eq!(make(&mut raw, -1, -1, &[(0, &[1]), (2, &[1])]).await.0, invalid);
    assert_eq!(make(&mut raw, -1, -1, &[(0, &[1, 1])]).await.0, invalid);
    assert_eq!(make(&mut raw, -1, -1, &[(0, &[])]).await.0, invalid);
    assert_eq!(make(&mut raw, 1, -1, &[(0, &[1])]).await.0, ErrorCode::InvalidRequest);
    assert_eq!(make(&mut raw, 1, 3, &[]).await.0, ErrorCode::InvalidReplicationFactor);
    assert_eq!(make(&mut raw, 0, 1, &[]).await.0, ErrorCode::InvalidPartitions);
    create(&mut raw, "t", &[]).await;
    let grow = async |raw: &mut Raw, count, ids: &[&[i32]]| {
        let assignments =
            ids.iter().map(|ids| CreatePartitionsAssignment { broker_ids: ids.to_vec() }).collect();
        let topic = CreatePartitionsTopic { name: "t".into(), count, assignments: Some(assignments) };
        let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
        let response: CreatePartitionsResponse = raw.call(3, &request).await;
        (code(response.results[0].error_code), response.results[0].error_message.clone().unwrap_or_default())
    };
    let text = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
    assert_eq!(grow(&mut raw, 3, &[&[1]]).await, (invalid, text.into()));
    assert_eq!(
        grow(&mut raw, 1, &[]).await,
        (ErrorCode::InvalidPartitions, "Topic already has 1 partition(s).".into())
    );
    assert_eq!(grow(&mut raw, 2, &[&[1]]).await.0, ErrorCode::None);
    let request = MetadataRequest {
        topics: None,
        include_topic_authorized_operations: true,
        include_cluster_authorized_operations: true,
        ..Default::default()
    };
    let metadata: MetadataResponse = raw.call(9, &request).await;
    assert_eq!(
        (metadata.topics[0].topic_authorized_operations, metadata.cluster_authorized_operations),
        (0xdf8, 0x1fa0)
    );
    served.stop().await;
}

#[tokio::test]
async fn special_times_came_with_their_versions() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    append(&mut raw, "t", batch(3, None)).await;
    let ask = async |raw: &mut Raw, version, timestamp| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let response: ListOffsetsResponse = raw.call(version, &request).await;
        let partition = &response.topics[0].partitions[0];
        (code(partition.error_code), partition.offset)
    };
    for (timestamp, since, offset) in
        [(-1, 1, 3), (-2, 1, 0), (-3, 7, 2), (-4, 8, 0), (-5, 9, -1), (-6, 11, -1)]
    {
        assert_eq!(ask(&mut raw, 11, timestamp).await, (ErrorCode::None, offset), "{timestamp}");
        if since > 1 {
            assert_eq!(
                ask(&mut raw, since - 1, timestamp).await.0,
                ErrorCode::UnsupportedVersion,
                "{timestamp}"
            );
        }
    }
    assert_eq!(ask(&mut raw, 11, -7).await.0, ErrorCode::UnsupportedVersion);
    let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition.clone(), partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let response: ListOffsetsResponse = raw.call(9, &request).await;
    assert_eq!(code(response.topics[0].partitions[1].error_code), ErrorCode::InvalidRequest);
    let unknown = DeleteTopicsRequest {
        topics: vec![delete_topics_request::DeleteTopicState { name: None, topic_id: Uuid::from_u128(3) }],
        ..Default::default()
    };
    let response: DeleteTopicsResponse = raw.call(6, &unknown).await;
    assert_eq!(code(response.responses[0].error_code), ErrorCode::UnknownTopicId);
    served.stop().await;
}
