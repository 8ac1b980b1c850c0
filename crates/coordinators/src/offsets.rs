//! Committed offsets: commit, fetch, delete, expiry.

use std::collections::BTreeMap;

use kafka_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};
use kafka_wire::records::OffsetCommitValue;
use kafka_wire::{ErrorCode, Uuid};

use crate::desk::{Effects, LogRecord, Response, Then, Token};
use crate::group::{Group, State};
use crate::log::{NAME_BYTES_MAX, group_tombstone, offset_record};
use crate::shard::Shard;

/// First version that says GROUP_ID_NOT_FOUND where older ones say ILLEGAL_GENERATION.
const NOT_FOUND_FROM: i16 = 9;
/// "Use the broker's retention" in versions 2 to 4, and always in later ones.
const RETENTION_DEFAULT: i64 = -1;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub offset: i64,
    /// -1 where the client did not say.
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_ms: i64,
    /// Where the client asked for its own retention.
    pub expires_ms: Option<i64>,
    pub topic_id: Uuid,
    /// Its place among all that the shard replayed; not written.
    pub order: u64,
}

impl From<OffsetCommitValue> for Committed {
    fn from(v: OffsetCommitValue) -> Self {
        Self {
            offset: v.offset,
            leader_epoch: v.leader_epoch,
            metadata: v.metadata,
            committed_ms: v.commit_timestamp,
            expires_ms: (v.expire_timestamp != -1).then_some(v.expire_timestamp),
            topic_id: v.topic_id,
            order: 0,
        }
    }
}

/// The offsets of a group, by topic and partition.
pub(crate) type GroupOffsets = BTreeMap<String, BTreeMap<i32, Committed>>;

impl Shard {
    /// OffsetCommit, versions 2 to 10. The answer comes when the offsets are durable.
    ///
    /// From version 10 on, topics carry ids: the caller fills in their names, and both come back.
    pub fn commit_offsets(
        &mut self,
        now_ms: i64,
        token: Token,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> Effects {
        self.desk.now_ms = now_ms;
        let mut records = Vec::new();
        let topics = match self.check_commit(version, request) {
            Err(error) => commit_answers(request, |_, _| error),
            Ok(()) => {
                self.renew_by_commit(request);
                let expires = request.retention_time_ms;
                let expires = (expires != RETENTION_DEFAULT).then(|| now_ms.saturating_add(expires));
                let max = self.desk.options.offset_metadata_max;
                commit_answers(request, |topic, p| {
                    commit_one(request, topic, p, now_ms, expires, max, &mut records)
                })
            }
        };
        let response = Response::OffsetCommit(OffsetCommitResponse { topics, ..Default::default() });
        self.write_or_reply(records, token, response);
        self.desk.take()
    }

    /// OffsetFetch of one group, as versions 8 and later ask; None for `topics` means all.
    ///
    /// Older versions are the same question with one group. Topic ids come back as they were given; where all topics
    /// were asked for, they are zero and the caller fills them in. With `stable`, partitions that an open transaction has
    /// committed for are answered UNSTABLE_OFFSET_COMMIT.
    #[must_use]
    pub fn fetch_offsets(&self, request: &OffsetFetchRequestGroup, stable: bool) -> OffsetFetchResponseGroup {
        let dead = self.groups.get(&request.group_id).is_none_or(|g| g.state == State::Dead);
        let offsets = self.offsets.get(&request.group_id).filter(|_| !dead);
        let mut topics: Vec<_> = match &request.topics {
            Some(asked) => asked.iter().map(|t| fetched(t, offsets)).collect(),
            None => offsets.into_iter().flatten().map(|(topic, all)| all_fetched(topic, all)).collect(),
        };
        for topic in topics.iter_mut().filter(|_| stable && !dead) {
            for p in &mut topic.partitions {
                if self.waiting.has(&request.group_id, &topic.name, p.partition_index) {
                    *p = fetched_one(p.partition_index, None);
                    p.error_code = ErrorCode::UnstableOffsetCommit.code();
                }
            }
        }
        OffsetFetchResponseGroup { group_id: request.group_id.clone(), topics, ..Default::default() }
    }

    /// OffsetDelete. Partitions without an offset are no error.
    pub fn delete_offsets(&mut self, now_ms: i64, token: Token, request: &OffsetDeleteRequest) -> Effects {
        self.desk.now_ms = now_ms;
        let mut records = Vec::new();
        let response = match self.check_delete(&request.group_id) {
            Err(error) => OffsetDeleteResponse { error_code: error.code(), ..Default::default() },
            Ok(group) => {
                let offsets = self.offsets.get(&request.group_id);
                let topics = delete_answers(group, offsets, request, &mut records);
                OffsetDeleteResponse { topics, ..Default::default() }
            }
        };
        self.write_or_reply(records, token, Response::OffsetDelete(response));
        self.desk.take()
    }

    /// A topic is no more: what any group committed for it goes, members or not (`OffsetMetadataManager.onPartitionsDeleted`).
    /// The answer says only that it is done.
    pub fn forget_topic(&mut self, now_ms: i64, token: Token, topic: &str) -> Effects {
        self.desk.now_ms = now_ms;
        let kept = self.offsets.iter().filter_map(|(group, topics)| Some((group, topics.get(topic)?)));
        let gone = kept.flat_map(|(group, partitions)| partitions.keys().map(move |p| (group.as_str(), *p)));
        let mut gone: std::collections::BTreeSet<_> = gone.collect();
        // What waits for the end of a transaction must not outlive the topic.
        gone.extend(self.waiting.of_topic(topic));
        let records = gone.into_iter().map(|(group, p)| offset_record(group, topic, p, None)).collect();
        self.write_or_reply(records, token, Response::OffsetDelete(OffsetDeleteResponse::default()));
        self.desk.take()
    }

    fn write_or_reply(&mut self, records: Vec<LogRecord>, token: Token, response: Response) {
        match records.is_empty() {
            true => self.desk.reply(token, response),
            false => self.desk.write(records, Then::Reply(token, response)),
        }
    }

    fn check_commit(&mut self, version: i16, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        // As in Kafka, whose older clients committed so, the empty group is one like any other here.
        if request.group_id.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            return match generation < 0 {
                // A consumer that only keeps its offsets here; the group appears when they are durable.
                true => Ok(()),
                false if version >= NOT_FOUND_FROM => Err(ErrorCode::GroupIdNotFound),
                false => Err(ErrorCode::IllegalGeneration),
            };
        };
        group.check_commit(&request.member_id, request.group_instance_id.as_deref(), generation)
    }

    /// A commit shows that the member is there.
    fn renew_by_commit(&mut self, request: &OffsetCommitRequest) {
        let Some(group) = self.groups.get(&request.group_id) else { return };
        if matches!(group.state, State::Stable | State::PreparingRebalance) {
            group.renew_session(&mut self.desk, &request.member_id);
        }
    }

    fn check_delete(&self, group: &str) -> Result<&Group, ErrorCode> {
        let found = self.groups.get(group).filter(|g| g.state != State::Dead);
        match found {
            _ if group.is_empty() => Err(ErrorCode::InvalidGroupId),
            None => Err(ErrorCode::GroupIdNotFound),
            Some(g) if g.state != State::Empty && !g.is_consumer() => Err(ErrorCode::NonEmptyGroup),
            Some(g) => Ok(g),
        }
    }

    /// Writes tombstones for offsets that expired, and for groups that have neither members nor offsets (KIP-211).
    pub(crate) fn expire_offsets(&mut self) {
        let busy = self.busy_groups();
        let mut records = Vec::new();
        let mut deleted = Vec::new();
        let idle = |(id, group): &(&String, &mut Group)| !busy.contains(*id) && group.state != State::Dead;
        for (id, group) in self.groups.iter_mut().filter(idle) {
            let offsets = self.offsets.get(id);
            let before = records.len();
            let now = self.desk.now_ms;
            for (topic, partition, committed) in offsets.into_iter().flatten().flat_map(each_partition) {
                let expired =
                    group.has_expired(topic, committed, now, self.desk.options.offsets_retention_ms);
                if expired && !self.waiting.has(id, topic, partition) {
                    records.push(offset_record(id, topic, partition, None));
                }
            }
            let all = offsets.map_or(0, |o| o.values().map(BTreeMap::len).sum());
            let waits = self.waiting.of_group(id).next().is_some();
            let idle = group.state == State::Empty && group.pending_join.is_empty();
            if records.len() - before == all && idle && !waits {
                group.transition(&self.desk, State::Dead);
                records.push(group_tombstone(id));
                deleted.push(id.clone());
            }
        }
        if !records.is_empty() {
            self.desk.write(records, Then::Deleted { groups: deleted, reply: None });
        }
    }
}

fn each_partition<'a>(
    (topic, partitions): (&'a String, &'a BTreeMap<i32, Committed>),
) -> impl Iterator<Item = (&'a str, i32, &'a Committed)> {
    partitions.iter().map(move |(partition, committed)| (topic.as_str(), *partition, committed))
}

impl Group {
    fn check_commit(&self, member: &str, instance: Option<&str>, generation: i32) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            // An administrator, or a consumer that assigns partitions to itself.
            State::Empty if generation < 0 => return Ok(()),
            _ if generation < 0 && member.is_empty() && instance.is_none() => {
                return Err(ErrorCode::UnknownMemberId);
            }
            _ => self.validate(member, instance)?,
        }
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// The same for a commit in a transaction: older clients name no member, and a rebalance is no hindrance.
    pub(crate) fn check_transactional(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            State::Empty if generation < 0 => return Ok(()),
            _ if generation < 0 && member.is_empty() && instance.is_none() => return Ok(()),
            _ => self.validate(member, instance)?,
        }
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    fn has_expired(&self, topic: &str, committed: &Committed, now_ms: i64, retention_ms: i64) -> bool {
        let from = match (&self.protocol_type, self.state) {
            (Some(_), State::Empty) => self.since_ms.unwrap_or(committed.committed_ms),
            // A live consumer group keeps what it is subscribed to.
            (Some(_), State::Stable) if self.subscribed.is_some() && !self.is_subscribed(topic) => {
                committed.committed_ms
            }
            (Some(_), _) => return false,
            (None, _) => committed.committed_ms,
        };
        match committed.expires_ms {
            Some(expires) => now_ms >= expires,
            None => now_ms.saturating_sub(from) >= retention_ms,
        }
    }
}

fn commit_answers(
    request: &OffsetCommitRequest,
    mut one: impl FnMut(&OffsetCommitRequestTopic, &OffsetCommitRequestPartition) -> ErrorCode,
) -> Vec<OffsetCommitResponseTopic> {
    let mut topic_answer = |topic: &OffsetCommitRequestTopic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|p| OffsetCommitResponsePartition {
                partition_index: p.partition_index,
                error_code: one(topic, p).code(),
            })
            .collect(),
    };
    request.topics.iter().map(&mut topic_answer).collect()
}

/// The metadata that goes with an offset, where name and metadata are not too long for the log; `metadata_max` in UTF-16 as
/// Java counts.
pub(crate) fn check_metadata(
    topic: &str,
    metadata: Option<&str>,
    metadata_max: usize,
) -> Result<String, ErrorCode> {
    if topic.len() > NAME_BYTES_MAX {
        return Err(ErrorCode::InvalidTopicException);
    }
    let metadata = metadata.unwrap_or_default();
    if metadata.encode_utf16().count() > metadata_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(metadata.to_owned())
}

fn commit_one(
    request: &OffsetCommitRequest,
    topic: &OffsetCommitRequestTopic,
    partition: &OffsetCommitRequestPartition,
    now_ms: i64,
    expires_ms: Option<i64>,
    metadata_max: usize,
    records: &mut Vec<LogRecord>,
) -> ErrorCode {
    let metadata = match check_metadata(&topic.name, partition.committed_metadata.as_deref(), metadata_max) {
        Ok(metadata) => metadata,
        Err(error) => return error,
    };
    let committed = Committed {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata,
        committed_ms: now_ms,
        expires_ms,
        topic_id: topic.topic_id,
        order: 0,
    };
    records.push(offset_record(&request.group_id, &topic.name, partition.partition_index, Some(&committed)));
    ErrorCode::None
}

fn delete_answers(
    group: &Group,
    offsets: Option<&GroupOffsets>,
    request: &OffsetDeleteRequest,
    records: &mut Vec<LogRecord>,
) -> Vec<OffsetDeleteResponseTopic> {
    let mut answers = Vec::new();
    for topic in &request.topics {
        let kept = offsets.and_then(|o| o.get(&topic.name));
        let in_use = group.state != State::Empty && group.is_subscribed(&topic.name);
        let mut partitions = Vec::new();
        for p in &topic.partitions {
            let error = if in_use { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            if !in_use && kept.is_some_and(|k| k.contains_key(&p.partition_index)) {
                records.push(offset_record(&group.id, &topic.name, p.partition_index, None));
            }
            let error_code = error.code();
            partitions.push(OffsetDeleteResponsePartition { partition_index: p.partition_index, error_code });
        }
        answers.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
    }
    answers
}

fn fetched(asked: &OffsetFetchRequestTopics, offsets: Option<&GroupOffsets>) -> OffsetFetchResponseTopics {
    let kept = offsets.and_then(|o| o.get(&asked.name));
    let one = |p: &i32| fetched_one(*p, kept.and_then(|k| k.get(p)));
    OffsetFetchResponseTopics {
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        partitions: asked.partition_indexes.iter().map(one).collect(),
    }
}

fn all_fetched(topic: &str, kept: &BTreeMap<i32, Committed>) -> OffsetFetchResponseTopics {
    OffsetFetchResponseTopics {
        name: topic.to_owned(),
        partitions: kept.iter().map(|(p, committed)| fetched_one(*p, Some(committed))).collect(),
        ..Default::default()
    }
}

/// An offset of -1 and empty metadata where nothing was committed.
fn fetched_one(partition: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: partition,
        committed_offset: committed.map_or(-1, |c| c.offset),
        committed_leader_epoch: committed.map_or(-1, |c| c.leader_epoch),
        metadata: Some(committed.map(|c| c.metadata.clone()).unwrap_or_default()),
        error_code: 0,
    }
}
