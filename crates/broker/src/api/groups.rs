//! The group keys: requests are taken apart, put to the shards of their groups, and their answers put together.

use std::sync::Arc;

use coordinators::{Client, Response};
use kafka_wire::ErrorCode;
use kafka_wire::frame::RequestHead;
use kafka_wire::messages as m;
use kafka_wire::messages::delete_groups_response::DeletableGroupResult;
use kafka_wire::messages::find_coordinator_response::Coordinator;
use kafka_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::{Connection, later};
use crate::door::Reply;
use crate::groups::{internal_topic, offsets_topic};
use crate::names;

/// First version of OffsetCommit and OffsetFetch with topic ids.
const IDS_FROM: i16 = 10;
/// First version of OffsetFetch that asks for several groups.
const GROUPS_FROM: i16 = 8;
/// First version of FindCoordinator that asks for several.
const KEYS_FROM: i16 = 4;
/// Key type of a group; 1 is a transaction, 2 a share group.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers FindCoordinator: this broker. The topic of offsets, or of transactions, is made on the way.
pub(crate) fn find(c: &Connection, head: RequestHead, request: m::FindCoordinatorRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let found = match request.key_type {
            GROUP => offsets_topic(&c.broker).await.map(drop),
            TRANSACTION => internal_topic(&c.broker, names::TRANSACTIONS).await.map(drop),
            _ => Err(ErrorCode::InvalidRequest),
        };
        let (host, port) = c.endpoint();
        let (node_id, host, port) =
            if found.is_ok() { (c.broker.broker_id, host, port) } else { (-1, String::new(), -1) };
        let code = found.err().unwrap_or(ErrorCode::None);
        let error_message = (!code.is_ok()).then(|| code.message().to_owned());
        if version < KEYS_FROM {
            let error_code = code.code();
            let error_message = error_message.or_else(|| Some("NONE".to_owned()));
            return m::FindCoordinatorResponse {
                error_code,
                error_message,
                node_id,
                host,
                port,
                ..Default::default()
            };
        }
        let one = |key| Coordinator {
            key,
            node_id,
            host: host.clone(),
            port,
            error_code: code.code(),
            // Without an error the text is empty, not absent.
            error_message: Some(error_message.clone().unwrap_or_default()),
        };
        let coordinators = request.coordinator_keys.into_iter().map(one).collect();
        m::FindCoordinatorResponse { coordinators, ..Default::default() }
    })
}

/// Answers JoinGroup, when the rebalance it joins is complete.
pub(crate) fn join(c: &Connection, head: RequestHead, request: m::JoinGroupRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    let id = head.client_id.clone().unwrap_or_default();
    let client = Client { id, host: format!("/{}", c.peer.remote.ip().to_canonical()) };
    later(head, async move {
        let (group, member_id) = (request.group_id.clone(), request.member_id.clone());
        let ask = move |shard: &mut coordinators::Shard, now_ms, token| {
            shard.join(now_ms, token, &client, version, &request)
        };
        match c.broker.groups.ask(&c.broker, &group, ask).await {
            Ok(Response::JoinGroup(response)) => response,
            other => m::JoinGroupResponse { error_code: code_of(other), member_id, ..Default::default() },
        }
    })
}

/// Answers SyncGroup, when the leader's assignment is durable.
pub(crate) fn sync(c: &Connection, head: RequestHead, request: m::SyncGroupRequest) -> Reply {
    let c = c.clone();
    later(head, async move {
        let group = request.group_id.clone();
        let ask = move |shard: &mut coordinators::Shard, now_ms, token| shard.sync(now_ms, token, &request);
        match c.broker.groups.ask(&c.broker, &group, ask).await {
            Ok(Response::SyncGroup(response)) => response,
            other => m::SyncGroupResponse { error_code: code_of(other), ..Default::default() },
        }
    })
}

/// Answers Heartbeat.
pub(crate) fn heartbeat(c: &Connection, head: RequestHead, request: m::HeartbeatRequest) -> Reply {
    let c = c.clone();
    later(head, async move {
        let group = request.group_id.clone();
        let ask =
            move |shard: &mut coordinators::Shard, now_ms, token| shard.heartbeat(now_ms, token, &request);
        match c.broker.groups.ask(&c.broker, &group, ask).await {
            Ok(Response::Heartbeat(response)) => response,
            other => m::HeartbeatResponse { error_code: code_of(other), ..Default::default() },
        }
    })
}

/// Answers LeaveGroup.
pub(crate) fn leave(c: &Connection, head: RequestHead, request: m::LeaveGroupRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let group = request.group_id.clone();
        let ask = move |shard: &mut coordinators::Shard, now_ms, token| {
            shard.leave(now_ms, token, version, &request)
        };
        match c.broker.groups.ask(&c.broker, &group, ask).await {
            Ok(Response::LeaveGroup(response)) => response,
            other => m::LeaveGroupResponse { error_code: code_of(other), ..Default::default() },
        }
    })
}

/// The error of an answer that is none, or is not to the question.
fn code_of(other: Result<Response, ErrorCode>) -> i16 {
    other.err().unwrap_or(ErrorCode::UnknownServerError).code()
}

/// Answers OffsetCommit, when the offsets are durable. Topics that are not there are refused one by one.
pub(crate) fn commit(c: &Connection, head: RequestHead, mut request: m::OffsetCommitRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let mut refused = Vec::new();
        request.topics.retain_mut(|topic| {
            let found = match version >= IDS_FROM {
                true => c.broker.catalog.topic_by_id(&topic.topic_id),
                false => c.broker.catalog.topic(&topic.name),
            };
            if let Some(found) = &found {
                topic.name = found.name.to_string();
                // What is written tells the topic from a later one of the same name, however the client named it.
                topic.topic_id = found.record.id;
            }
            let is_there = |index| found.as_ref().is_some_and(|found| found.place(index).is_some());
            let code = if found.is_some() { ErrorCode::UnknownTopicOrPartition } else { missing(version) };
            let gone = topic.partitions.extract_if(.., |p| !is_there(p.partition_index));
            let partitions: Vec<_> = gone.map(|p| refused_commit(p.partition_index, code)).collect();
            if !partitions.is_empty() {
                let (name, topic_id) = (topic.name.clone(), topic.topic_id);
                refused.push(OffsetCommitResponseTopic { name, topic_id, partitions });
            }
            !topic.partitions.is_empty()
        });
        let mut response = match request.topics.is_empty() && !refused.is_empty() {
            true => m::OffsetCommitResponse::default(),
            false => commit_known(&c, version, request).await,
        };
        for topic in refused {
            // A topic with partitions of both kinds has one entry.
            let same = |known: &&mut OffsetCommitResponseTopic| {
                known.name == topic.name && known.topic_id == topic.topic_id
            };
            match response.topics.iter_mut().find(same) {
                Some(known) => known.partitions.extend(topic.partitions),
                None => response.topics.push(topic),
            }
        }
        response
    })
}

fn missing(version: i16) -> ErrorCode {
    if version >= IDS_FROM { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition }
}

fn refused_commit(partition_index: i32, code: ErrorCode) -> OffsetCommitResponsePartition {
    OffsetCommitResponsePartition { partition_index, error_code: code.code() }
}

async fn commit_known(
    c: &Connection,
    version: i16,
    request: m::OffsetCommitRequest,
) -> m::OffsetCommitResponse {
    let request = Arc::new(request);
    let asked = request.clone();
    let ask = move |shard: &mut coordinators::Shard, now_ms, token| {
        shard.commit_offsets(now_ms, token, version, &asked)
    };
    let code = match c.broker.groups.ask(&c.broker, &request.group_id, ask).await {
        Ok(Response::OffsetCommit(response)) => return response,
        other => other.err().unwrap_or(ErrorCode::UnknownServerError),
    };
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|p| refused_commit(p.partition_index, code)).collect(),
    });
    m::OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

/// Answers OffsetFetch.
pub(crate) fn fetch_offsets(c: &Connection, head: RequestHead, request: m::OffsetFetchRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let stable = request.require_stable;
        if version >= GROUPS_FROM {
            let mut groups = Vec::with_capacity(request.groups.len());
            for group in request.groups {
                groups.push(fetch_group(&c, version, group, stable).await);
            }
            return m::OffsetFetchResponse { groups, ..Default::default() };
        }
        let topics = request.topics.map(|topics| {
            let one = |t: m::offset_fetch_request::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
                name: t.name,
                partition_indexes: t.partition_indexes,
                ..Default::default()
            };
            topics.into_iter().map(one).collect()
        });
        let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
        older(fetch_group(&c, version, group, stable).await)
    })
}

/// The answer for one group as versions before 8 have it.
fn older(group: OffsetFetchResponseGroup) -> m::OffsetFetchResponse {
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|p| OffsetFetchResponsePartition {
                partition_index: p.partition_index,
                committed_offset: p.committed_offset,
                committed_leader_epoch: p.committed_leader_epoch,
                metadata: p.metadata,
                error_code: p.error_code,
            })
            .collect(),
    });
    m::OffsetFetchResponse { topics: topics.collect(), error_code: group.error_code, ..Default::default() }
}

async fn fetch_group(
    c: &Connection,
    version: i16,
    mut group: OffsetFetchRequestGroup,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let by_id = version >= IDS_FROM;
    let mut unknown = Vec::new();
    if let Some(topics) = group.topics.as_mut().filter(|_| by_id) {
        topics.retain_mut(|topic| match c.broker.catalog.topic_by_id(&topic.topic_id) {
            Some(found) => {
                topic.name = found.name.to_string();
                true
            }
            None => {
                unknown.push(unknown_topic(topic));
                false
            }
        });
    }
    let all = group.topics.is_none();
    let id = group.group_id.clone();
    let look = move |shard: &coordinators::Shard| shard.fetch_offsets(&group, stable);
    let looked = c.broker.groups.look(&c.broker, &id, look).await;
    let mut response = match looked {
        Ok(response) => response,
        Err(code) => OffsetFetchResponseGroup { group_id: id, error_code: code.code(), ..Default::default() },
    };
    if by_id && all {
        // Offsets of a topic that is no more have no id to go by.
        response.topics.retain_mut(|topic| match c.broker.catalog.topic(&topic.name) {
            Some(found) => {
                topic.topic_id = found.record.id;
                true
            }
            None => false,
        });
    }
    response.topics.extend(unknown);
    response
}

fn unknown_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partition = |index: &i32| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code: ErrorCode::UnknownTopicId.code(),
    };
    OffsetFetchResponseTopics {
        name: String::new(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(partition).collect(),
    }
}

/// Answers DescribeGroups.
pub(crate) fn describe(c: &Connection, head: RequestHead, request: m::DescribeGroupsRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            let id = group.clone();
            let looked =
                c.broker.groups.look(&c.broker, &group, move |shard| shard.describe(version, &id)).await;
            groups.push(looked.unwrap_or_else(|code| m::describe_groups_response::DescribedGroup {
                error_code: code.code(),
                group_id: group,
                ..Default::default()
            }));
        }
        m::DescribeGroupsResponse { groups, ..Default::default() }
    })
}

/// Answers ListGroups, in order of the ids.
pub(crate) fn list(c: &Connection, head: RequestHead, request: m::ListGroupsRequest) -> Reply {
    let c = c.clone();
    later(head, async move {
        let (states, types) = (request.states_filter, request.types_filter);
        let looked = c.broker.groups.look_at_all(&c.broker, move |shard| shard.list(&states, &types)).await;
        match looked {
            Ok(lists) => {
                let mut groups: Vec<_> = lists.into_iter().flatten().collect();
                groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
                m::ListGroupsResponse { groups, ..Default::default() }
            }
            Err(code) => m::ListGroupsResponse { error_code: code.code(), ..Default::default() },
        }
    })
}

/// Answers DeleteGroups, when the tombstones are durable.
pub(crate) fn delete(c: &Connection, head: RequestHead, request: m::DeleteGroupsRequest) -> Reply {
    let c = c.clone();
    later(head, async move {
        let mut results = Vec::with_capacity(request.groups_names.len());
        for group in request.groups_names {
            let names = [group.clone()];
            let ask = move |shard: &mut coordinators::Shard, now_ms, token| {
                shard.delete_groups(now_ms, token, &names)
            };
            match c.broker.groups.ask(&c.broker, &group, ask).await {
                Ok(Response::DeleteGroups(deleted)) => results.extend(deleted),
                other => results.push(DeletableGroupResult { group_id: group, error_code: code_of(other) }),
            }
        }
        m::DeleteGroupsResponse { results, ..Default::default() }
    })
}

/// Answers OffsetDelete.
pub(crate) fn delete_offsets(
    c: &Connection,
    head: RequestHead,
    mut request: m::OffsetDeleteRequest,
) -> Reply {
    let c = c.clone();
    later(head, async move {
        let mut refused = Vec::new();
        request.topics.retain(|topic| {
            let known = c.broker.catalog.topic(&topic.name).is_some();
            if !known {
                let error_code = ErrorCode::UnknownTopicOrPartition.code();
                let partition = |p: &m::offset_delete_request::OffsetDeleteRequestPartition| {
                    OffsetDeleteResponsePartition { partition_index: p.partition_index, error_code }
                };
                let partitions = topic.partitions.iter().map(partition).collect();
                refused.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
            }
            known
        });
        let group = request.group_id.clone();
        let ask = move |shard: &mut coordinators::Shard, now_ms, token| {
            shard.delete_offsets(now_ms, token, &request)
        };
        let mut response = match c.broker.groups.ask(&c.broker, &group, ask).await {
            Ok(Response::OffsetDelete(response)) => response,
            other => m::OffsetDeleteResponse { error_code: code_of(other), ..Default::default() },
        };
        if response.error_code == 0 {
            response.topics.extend(refused);
        }
        response
    })
}

/// Deletes what groups committed for a topic that is no more, so that a new topic of the name is read from where its readers
/// are told to begin. Members that are still there commit anew by themselves.
pub(crate) async fn forget_topic(broker: &Arc<super::Broker>, topic: &str) {
    let name = topic.to_owned();
    let forget =
        move |shard: &mut coordinators::Shard, now_ms, token| shard.forget_topic(now_ms, token, &name);
    // Failing means that the coordinator is stopping: the offsets then stay, as they do in Kafka.
    if let Err(code) = broker.groups.ask_all(broker, forget).await {
        tracing::warn!(topic, %code, "offsets of a deleted topic stay");
    }
}
