//! The admin's keys that one broker, which is its own cluster, has little to do for: elections, reassignments, features,
//! the quorum, producers of a partition. Answers and codes are those of a KRaft node alone.

use kafka_wire::ErrorCode;
use kafka_wire::messages as m;
use kafka_wire::messages::alter_partition_reassignments_response as reassigned;
use kafka_wire::messages::describe_producers_response as producers;
use kafka_wire::messages::describe_quorum_response as quorum;
use kafka_wire::messages::elect_leaders_response as elected;
use kafka_wire::messages::update_features_request::FeatureUpdateKey;
use kafka_wire::messages::update_features_response::UpdatableFeatureResult;

use super::{Broker, Connection, find};
use crate::catalog::Refusal;
use crate::features::{self, FEATURES, Levels, TRANSACTION_VERSION};
use crate::names;

/// Election types of ElectLeaders.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// Upgrade types of UpdateFeatures.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;
/// The log of the cluster's metadata, which is the store here.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// One node that is its own quorum was elected once.
const METADATA_EPOCH: i32 = 1;

fn refuse<T>(code: ErrorCode, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

/// Code and text of a result.
fn told(done: Result<(), Refusal>) -> (i16, Option<String>) {
    match done {
        Ok(()) => (0, None),
        Err(refusal) => (refusal.code.code(), Some(refusal.text)),
    }
}

/// Answers ElectLeaders: every partition is led by its only, preferred replica, or offline with it.
pub(crate) fn elect(c: &Connection, request: m::ElectLeadersRequest) -> m::ElectLeadersResponse {
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        let error_code = ErrorCode::InvalidRequest.code();
        return m::ElectLeadersResponse { error_code, ..Default::default() };
    }
    let one = |topic: &str, index: i32| {
        let missing = ErrorCode::UnknownTopicOrPartition;
        let Some(found) = c.broker.catalog.topic(topic) else {
            return Refusal::new(missing, format!("No such topic as {topic}"));
        };
        let Some(place) = found.place(index) else {
            return Refusal::new(missing, format!("No such partition as {topic}-{index}"));
        };
        let code = match (place.served(), request.election_type) {
            (Some(_), _) => ErrorCode::ElectionNotNeeded,
            (None, PREFERRED) => ErrorCode::PreferredLeaderNotAvailable,
            (None, _) => ErrorCode::EligibleLeadersNotAvailable,
        };
        Refusal::new(code, code.message())
    };
    let result = |topic: String, partitions: Vec<i32>| {
        let results = partitions.into_iter().map(|partition_id| {
            let refusal = one(&topic, partition_id);
            elected::PartitionResult {
                partition_id,
                error_code: refusal.code.code(),
                error_message: Some(refusal.text),
            }
        });
        elected::ReplicaElectionResult { partition_result: results.collect(), topic }
    };
    let replica_election_results = match request.topic_partitions {
        Some(topics) => topics.into_iter().map(|topic| result(topic.topic, topic.partitions)).collect(),
        // Of all partitions only those are told that had to be elected.
        None => {
            let names =
                c.broker.catalog.snapshot().by_name.keys().map(ToString::to_string).collect::<Vec<_>>();
            names.into_iter().map(|topic| result(topic, Vec::new())).collect()
        }
    };
    m::ElectLeadersResponse { replica_election_results, ..Default::default() }
}

/// Whether replicas may be put on these brokers: this one, once.
pub(super) fn check_replicas(
    broker: &Broker,
    replicas: &[i32],
    before: Option<usize>,
) -> Result<(), Refusal> {
    let invalid = |text: String| refuse(ErrorCode::InvalidReplicaAssignment, text);
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (index, id) in sorted.iter().enumerate() {
        if index > 0 && sorted[index - 1] == *id {
            return invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
        if *id != broker.broker_id {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
    }
    match before {
        Some(count) if count != replicas.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
             with previous partitions, which have {count} replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

/// Answers AlterPartitionReassignments: the only place to be is here, and nothing moves that could be stopped.
pub(crate) fn reassign(
    c: &Connection,
    request: m::AlterPartitionReassignmentsRequest,
) -> m::AlterPartitionReassignmentsResponse {
    let one = |topic: &str, index: i32, replicas: Option<&Vec<i32>>| {
        let missing = ErrorCode::UnknownTopicOrPartition;
        let Some(found) = c.broker.catalog.topic(topic) else {
            return refuse(missing, format!("Unable to find a topic named {topic}."));
        };
        if found.place(index).is_none() {
            return refuse(missing, format!("Unable to find partition {topic}:{index}."));
        }
        match replicas {
            Some(replicas) => check_replicas(&c.broker, replicas, None),
            None => {
                let code = ErrorCode::NoReassignmentInProgress;
                refuse(code, code.message())
            }
        }
    };
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let done = one(&topic.name, partition.partition_index, partition.replicas.as_ref());
            let (error_code, error_message) = told(done);
            reassigned::ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message,
            }
        });
        reassigned::ReassignableTopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    m::AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        ..Default::default()
    }
}

/// Answers ListPartitionReassignments: none are under way.
pub(crate) fn reassignments() -> m::ListPartitionReassignmentsResponse {
    m::ListPartitionReassignmentsResponse::default()
}

/// Answers UnregisterBroker: of brokers that do not run there are none, and the one that runs is needed.
pub(crate) fn unregister(
    c: &Connection,
    request: &m::UnregisterBrokerRequest,
) -> m::UnregisterBrokerResponse {
    let id = request.broker_id;
    let done = match id == c.broker.broker_id {
        true => refuse(ErrorCode::InvalidRequest, format!("Broker ID {id} is running and is the only one")),
        false => {
            refuse(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"))
        }
    };
    let (error_code, error_message) = told(done);
    m::UnregisterBrokerResponse { error_code, error_message, ..Default::default() }
}

/// Answers DescribeProducers: the producers whose sequences a partition remembers.
pub(crate) fn producers(
    c: &Connection,
    request: m::DescribeProducersRequest,
) -> m::DescribeProducersResponse {
    let one = |topic: &str, index: i32| {
        if names::check(topic).is_err() {
            return Err(ErrorCode::InvalidTopicException);
        }
        let found = c.broker.catalog.topic(topic);
        Ok(find(found.as_ref(), index, ErrorCode::UnknownTopicOrPartition)?.log().producers())
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let active = one(&topic.name, *index);
            producers::PartitionResponse {
                partition_index: *index,
                error_code: active.as_ref().err().map_or(0, |code| code.code()),
                error_message: active.as_ref().err().map(|code| code.message().to_owned()),
                active_producers: active.unwrap_or_default().iter().map(producer).collect(),
            }
        });
        producers::TopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    m::DescribeProducersResponse { topics: topics.collect(), ..Default::default() }
}

fn producer(active: &commitlog::kafka::ActiveProducer) -> producers::ProducerState {
    producers::ProducerState {
        producer_id: active.producer_id,
        producer_epoch: i32::from(active.epoch),
        last_sequence: active.last_sequence,
        last_timestamp: active.last_timestamp_ms,
        coordinator_epoch: active.coordinator_epoch,
        current_txn_start_offset: active.transaction_start.map_or(-1, |start| start.get()),
    }
}

/// Answers DescribeQuorum: the node is its own quorum, the store's revision the end of its log.
pub(crate) async fn quorum(c: &Connection, request: m::DescribeQuorumRequest) -> m::DescribeQuorumResponse {
    let only = match &request.topics[..] {
        [topic] => {
            topic.topic_name == METADATA_TOPIC
                && matches!(&topic.partitions[..], [p] if p.partition_index == 0)
        }
        _ => false,
    };
    if !only {
        return unknown_quorum(request);
    }
    let end = match c.broker.resources.store_revision().await {
        Ok(revision) => revision,
        Err(error) => {
            tracing::warn!(%error, "the store does not answer");
            let error_code = ErrorCode::RequestTimedOut.code();
            return m::DescribeQuorumResponse { error_code, ..Default::default() };
        }
    };
    let (now_ms, (host, port), replica_id) = (c.broker.now_ms(), c.endpoint(), c.broker.broker_id);
    let voter = quorum::ReplicaState {
        replica_id,
        log_end_offset: end,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..Default::default()
    };
    let partition = quorum::PartitionData {
        leader_id: replica_id,
        leader_epoch: METADATA_EPOCH,
        high_watermark: end,
        current_voters: vec![voter],
        ..Default::default()
    };
    let listener = quorum::Listener { name: c.listener_name(), host, port: port as u16 };
    m::DescribeQuorumResponse {
        topics: vec![quorum::TopicData { topic_name: METADATA_TOPIC.into(), partitions: vec![partition] }],
        nodes: vec![quorum::Node { node_id: replica_id, listeners: vec![listener] }],
        ..Default::default()
    }
}

fn unknown_quorum(request: m::DescribeQuorumRequest) -> m::DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| quorum::TopicData {
        topic_name: topic.topic_name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| quorum::PartitionData {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                ..Default::default()
            })
            .collect(),
    });
    m::DescribeQuorumResponse { topics: topics.collect(), ..Default::default() }
}

/// Answers UpdateFeatures: all levels asked for are in force then, or none where one cannot be.
pub(crate) async fn update_features(
    c: &Connection,
    request: m::UpdateFeaturesRequest,
    version: i16,
) -> m::UpdateFeaturesResponse {
    let set = c.broker.features.set_levels().0;
    let mut wanted = Levels::new();
    for update in &request.feature_updates {
        let done = match wanted.insert(update.feature.clone(), update.max_version_level) {
            None => check_feature(c, &set, update, version),
            Some(_) => {
                refuse(ErrorCode::InvalidRequest, "Provided map of feature updates contains duplicates.")
            }
        };
        if let Err(refusal) = done {
            let why = format!(
                "The update failed for all features since the following feature had an error: {}",
                refusal.text
            );
            return features_refused(Refusal::new(refusal.code, why));
        }
    }
    // What is as it would be set is not set: it may be as new clusters begin.
    wanted.retain(|name, level| {
        FEATURES.iter().any(|known| known.name == name && features::level(&set, known) != *level)
    });
    if !request.validate_only && !wanted.is_empty() {
        tracing::info!(?wanted, "levels of features are set");
        if let Err(refusal) = c.broker.features.set(&wanted).await {
            return features_refused(refusal);
        }
    }
    let fine =
        |update: FeatureUpdateKey| UpdatableFeatureResult { feature: update.feature, ..Default::default() };
    let results = request.feature_updates.into_iter().map(fine);
    // Later versions tell of all features together.
    let results = if version < 2 { results.collect() } else { Vec::new() };
    m::UpdateFeaturesResponse { results, ..Default::default() }
}

fn features_refused(refusal: Refusal) -> m::UpdateFeaturesResponse {
    let (error_code, error_message) = told(Err(refusal));
    m::UpdateFeaturesResponse { error_code, error_message, ..Default::default() }
}

/// Whether a level may be set (`FeatureControlManager.updateFeature`).
fn check_feature(
    c: &Connection,
    set: &Levels,
    update: &FeatureUpdateKey,
    version: i16,
) -> Result<(), Refusal> {
    let (name, level, id) = (&update.feature, update.max_version_level, c.broker.broker_id);
    let invalid = |why: String| {
        refuse(
            ErrorCode::InvalidUpdateVersion,
            format!("Invalid update version {level} for feature {name}. {why}"),
        )
    };
    let kind = match (version, update.allow_downgrade) {
        (0, true) => SAFE_DOWNGRADE,
        (0, false) => UPGRADE,
        _ => update.upgrade_type,
    };
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&kind) {
        return invalid("The controller does not support the given upgrade type.".into());
    }
    if level < 0 {
        return invalid("A feature version cannot be less than 0.".into());
    }
    let Some(feature) = FEATURES.iter().find(|known| known.name == name) else {
        return invalid(match level {
            0 if kind != UPGRADE => format!("Feature {name} not found."),
            _ => format!("Local controller {id} does not support this feature."),
        });
    };
    if level < feature.least || level > feature.most {
        let (least, most) = (feature.least, feature.most);
        return invalid(format!("Local controller {id} only supports versions {least}-{most}"));
    }
    let now = features::level(set, feature);
    if level < now && kind == UPGRADE {
        return invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
             unsafe downgrade."
                .into(),
        );
    }
    if level > now && kind != UPGRADE {
        return invalid("Can't downgrade to a newer version.".into());
    }
    if level == now || name == TRANSACTION_VERSION {
        return Ok(());
    }
    let text = match kind {
        UNSAFE_DOWNGRADE => "Unsafe metadata downgrade is not supported in this version.",
        _ => "Refusing to perform the requested downgrade because it might delete metadata information.",
    };
    refuse(
        ErrorCode::InvalidUpdateVersion,
        format!("Unsupported {name} downgrade from {now} to {level}. {text}"),
    )
}
