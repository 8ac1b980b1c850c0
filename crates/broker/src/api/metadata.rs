//! Metadata and DescribeTopicPartitions: who leads what; unknown topics are made on the way when allowed.

use std::sync::Arc;

use kafka_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse,
};
use kafka_wire::{ErrorCode, Uuid};

use super::{Connection, topics};
use crate::catalog::Topic;
use crate::names;
use crate::place::Place;
use crate::quotas::Mutations;

/// The most partitions DescribeTopicPartitions returns at a time (`max.request.partition.size.limit`).
const DESCRIBED_MAX: usize = 2000;

/// What anybody may do where nobody is refused: bits by the numbers of `AclOperation` (read, write, create, delete,
/// alter, describe, describe and alter configs).
const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// The same for the cluster (create, alter, describe, cluster action, describe and alter configs, idempotent write).
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Leads a partition that nobody leads, and its epoch where that is unknown.
const NO_LEADER: i32 = -1;
const NO_EPOCH: i32 = -1;
/// Tells nothing.
const NOT_ASKED: i32 = i32::MIN;

/// Answers Metadata.
pub(crate) async fn handle(
    c: &Connection,
    request: MetadataRequest,
    version: i16,
    mutations: &mut Mutations,
) -> MetadataResponse {
    let (host, port) = c.endpoint();
    let broker = MetadataResponseBroker { node_id: c.broker.broker_id, host, port, rack: None };
    // Version 0 has no null: an empty list means all.
    let wanted = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let mut topics = Vec::new();
    match wanted {
        None => {
            topics.extend(c.broker.catalog.snapshot().by_name.values().map(|topic| describe(c, topic)));
        }
        Some(wanted) => {
            for one in wanted {
                let create = request.allow_auto_topic_creation.then_some(&mut *mutations);
                topics.push(one_topic(c, one.name, one.topic_id, create).await);
            }
        }
    }
    if request.include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    let cluster_authorized_operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { NOT_ASKED };
    MetadataResponse {
        cluster_authorized_operations,
        brokers: vec![broker],
        cluster_id: Some(c.broker.cluster_id.clone()),
        controller_id: c.broker.broker_id,
        topics,
        ..Default::default()
    }
}

/// A topic by its name or id; one that is not there is made, where `create` says what may be.
async fn one_topic(
    c: &Connection,
    name: Option<String>,
    id: Uuid,
    create: Option<&mut Mutations>,
) -> MetadataResponseTopic {
    let refused = |code: ErrorCode, name: Option<String>, topic_id| {
        let is_internal = name.as_deref().is_some_and(names::is_internal);
        MetadataResponseTopic { error_code: code.code(), name, topic_id, is_internal, ..Default::default() }
    };
    let Some(name) = name else {
        return match c.broker.catalog.topic_by_id(&id) {
            Some(topic) => describe(c, &topic),
            None => refused(ErrorCode::UnknownTopicId, None, id),
        };
    };
    if let Some(topic) = c.broker.catalog.topic(&name) {
        return describe(c, &topic);
    }
    if names::check(&name).is_err() {
        return refused(ErrorCode::InvalidTopicException, Some(name), id);
    }
    let create = create.filter(|_| c.broker.server.is("auto.create.topics.enable"));
    let Some(mutations) = create else {
        return refused(ErrorCode::UnknownTopicOrPartition, Some(name), id);
    };
    match topics::create_automatically(&c.broker, &name, mutations).await {
        Ok(topic) => describe(c, &topic),
        // Not yet: as in Kafka, the client asks again.
        Err(refusal) if refusal.code == ErrorCode::ThrottlingQuotaExceeded => {
            refused(ErrorCode::UnknownTopicOrPartition, Some(name), id)
        }
        Err(refusal) => {
            tracing::warn!(topic = name, error = refusal.text, "topic not made automatically");
            refused(refusal.code, Some(name), id)
        }
    }
}

/// Who leads a partition.
struct State {
    leader_id: i32,
    leader_epoch: i32,
    offline_replicas: Vec<i32>,
}

impl State {
    /// A partition that is offline has lost the only replica that could lead it.
    fn of(c: &Connection, place: &Place) -> Self {
        let here = c.broker.broker_id;
        match place.served() {
            Some(partition) => {
                let leader_epoch = partition.leader_epoch();
                Self { leader_id: here, leader_epoch, offline_replicas: Vec::new() }
            }
            None => Self { leader_id: NO_LEADER, leader_epoch: NO_EPOCH, offline_replicas: vec![here] },
        }
    }
}

fn describe(c: &Connection, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(partition_index, place)| {
        let state = State::of(c, place);
        MetadataResponsePartition {
            error_code: if state.leader_id == NO_LEADER { ErrorCode::LeaderNotAvailable.code() } else { 0 },
            partition_index,
            leader_id: state.leader_id,
            leader_epoch: state.leader_epoch,
            replica_nodes: vec![c.broker.broker_id],
            isr_nodes: vec![c.broker.broker_id],
            offline_replicas: state.offline_replicas,
        }
    });
    MetadataResponseTopic {
        error_code: 0,
        name: Some(topic.name.to_string()),
        topic_id: topic.record.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

/// Answers DescribeTopicPartitions (KIP-966): topics in order of name, from the cursor on, a bounded number of partitions.
pub(crate) fn describe_partitions(
    c: &Connection,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    if let Some(code) = refusal(&request) {
        return refused(request, code);
    }
    let snapshot = c.broker.catalog.snapshot();
    let all = request.topics.is_empty();
    let mut wanted: Vec<String> = request.topics.into_iter().map(|topic| topic.name).collect();
    if all {
        wanted = snapshot.by_name.keys().map(ToString::to_string).collect();
    }
    wanted.sort_unstable();
    wanted.dedup();
    let from = request.cursor.map(|cursor| (cursor.topic_name, cursor.partition_index.max(0)));
    let mut room = (request.response_partition_limit.max(1) as usize).min(DESCRIBED_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in wanted {
        let first = match &from {
            Some((topic, _)) if name < *topic => continue,
            Some((topic, partition)) if name == *topic => *partition,
            _ => 0,
        };
        if room == 0 {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: first });
            break;
        }
        let Some(topic) = snapshot.by_name.get(&*name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let partitions: Vec<_> = (0..).zip(&topic.partitions).skip(first as usize).take(room).collect();
        room -= partitions.len();
        let next = first + partitions.len() as i32;
        response.topics.push(described(c, topic, &partitions));
        if next < topic.partitions.len() as i32 {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: next });
            break;
        }
    }
    response
}

/// Why the whole request is refused: a cursor must point at one of the topics asked for. (Kafka fails on empty names.)
fn refusal(request: &DescribeTopicPartitionsRequest) -> Option<ErrorCode> {
    // Topics before the cursor are not looked at.
    let skipped = |name: &str| request.cursor.as_ref().is_some_and(|cursor| name < &*cursor.topic_name);
    if request.topics.iter().any(|topic| topic.name.is_empty() && !skipped(&topic.name)) {
        return Some(ErrorCode::UnknownServerError);
    }
    let cursor = request.cursor.as_ref()?;
    let listed =
        request.topics.is_empty() || request.topics.iter().any(|topic| topic.name == cursor.topic_name);
    (!listed || cursor.partition_index < 0).then_some(ErrorCode::InvalidRequest)
}

fn refused(request: DescribeTopicPartitionsRequest, code: ErrorCode) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.into_iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(topic.name),
        ..Default::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}

fn unknown(name: String) -> DescribeTopicPartitionsResponseTopic {
    let legal = names::check(&name).is_ok();
    let code = if legal { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}

fn described(
    c: &Connection,
    topic: &Topic,
    partitions: &[(i32, &Place)],
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = partitions.iter().map(|(partition_index, place)| {
        let state = State::of(c, place);
        DescribeTopicPartitionsResponsePartition {
            // Also without a leader: this answer has no code of its own for that.
            error_code: 0,
            partition_index: *partition_index,
            leader_id: state.leader_id,
            leader_epoch: state.leader_epoch,
            replica_nodes: vec![c.broker.broker_id],
            isr_nodes: vec![c.broker.broker_id],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: state.offline_replicas,
        }
    });
    DescribeTopicPartitionsResponseTopic {
        error_code: 0,
        name: Some(topic.name.to_string()),
        topic_id: topic.record.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}
