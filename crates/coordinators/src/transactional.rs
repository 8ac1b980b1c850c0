//! Offsets committed in transactions: they wait for the end of their producer's transaction (KIP-98, KIP-447).
//!
//! ```text
//! commit_in_transaction ─▶ transactional batch ─▶ waiting, by producer ─┬ marker: commit ─▶ committed, unless a newer one is
//!                                                                       └ marker: abort  ─▶ forgotten
//! ```
//! While one waits, who asks for stable offsets is told UNSTABLE_OFFSET_COMMIT, and neither it nor its group expires.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_wire::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use kafka_wire::{DecodeError, ErrorCode, Uuid};

use crate::desk::{Author, Batch, Effects, Response, Then, Token};
use crate::group::Group;
use crate::log::{Fact, NAME_BYTES_MAX, offset_record, read};
use crate::offsets::{Committed, check_metadata};
use crate::shard::Shard;

/// Group, topic and partition.
type Place = (String, String, i32);

/// Offsets that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    by_producer: BTreeMap<i64, BTreeMap<Place, Committed>>,
    producers: BTreeMap<Place, BTreeSet<i64>>,
}

impl Waiting {
    fn add(&mut self, producer_id: i64, place: Place, committed: Committed) {
        self.producers.entry(place.clone()).or_default().insert(producer_id);
        self.by_producer.entry(producer_id).or_default().insert(place, committed);
    }

    /// Takes what a producer has waiting.
    fn take(&mut self, producer_id: i64) -> BTreeMap<Place, Committed> {
        let taken = self.by_producer.remove(&producer_id).unwrap_or_default();
        for place in taken.keys() {
            if let Some(producers) = self.producers.get_mut(place) {
                producers.remove(&producer_id);
                if producers.is_empty() {
                    self.producers.remove(place);
                }
            }
        }
        taken
    }

    /// Forgets what waits for a partition.
    pub fn forget(&mut self, place: &Place) {
        for producer_id in self.producers.remove(place).into_iter().flatten() {
            if let Some(waiting) = self.by_producer.get_mut(&producer_id) {
                waiting.remove(place);
                if waiting.is_empty() {
                    self.by_producer.remove(&producer_id);
                }
            }
        }
    }

    /// Whether an offset waits for this partition.
    pub fn has(&self, group: &str, topic: &str, partition: i32) -> bool {
        !self.producers.is_empty()
            && self.producers.contains_key(&(group.to_owned(), topic.to_owned(), partition))
    }

    /// Groups and partitions of a topic that offsets wait for.
    pub fn of_topic(&self, topic: &str) -> impl Iterator<Item = (&str, i32)> {
        let all = self.producers.keys().filter(move |(_, of, _)| of == topic);
        all.map(|(group, _, partition)| (group.as_str(), *partition))
    }

    /// Partitions of a group that offsets wait for.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&str, i32)> {
        let from = (group.to_owned(), String::new(), i32::MIN);
        let all = self.producers.range(from..).take_while(move |((of, ..), _)| of == group);
        all.map(|((_, topic, partition), _)| (topic.as_str(), *partition))
    }
}

impl Shard {
    /// TxnOffsetCommit. The answer comes when the offsets are durable; they count from the end of the transaction on.
    /// `guard` is the caller's word for having verified the transaction.
    pub fn commit_in_transaction(
        &mut self,
        now_ms: i64,
        token: Token,
        request: &TxnOffsetCommitRequest,
        guard: Option<u64>,
    ) -> Effects {
        self.desk.now_ms = now_ms;
        let mut records = Vec::new();
        let topics = match self.check_transactional_commit(request) {
            Err(error) => answers(request, |_, _| error),
            Ok(()) => {
                let max = self.desk.options.offset_metadata_max;
                answers(request, |topic, partition| {
                    let checked = committed(topic, partition, now_ms, max);
                    checked.map_or_else(
                        |code| code,
                        |committed| {
                            let (name, index) = (&topic.name, partition.partition_index);
                            records.push(offset_record(&request.group_id, name, index, Some(&committed)));
                            ErrorCode::None
                        },
                    )
                })
            }
        };
        let response = Response::TxnOffsetCommit(TxnOffsetCommitResponse { topics, ..Default::default() });
        if records.is_empty() {
            self.desk.reply(token, response);
        } else {
            let author = Author { producer_id: request.producer_id, epoch: request.producer_epoch };
            let batch = Batch::Transactional { author, guard };
            self.desk.write_as(batch, records, Then::Reply(token, response));
        }
        self.desk.take()
    }

    fn check_transactional_commit(&self, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id;
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        match self.groups.get(&request.group_id) {
            None if generation < 0 => Ok(()),
            None => Err(ErrorCode::IllegalGeneration),
            Some(group) => {
                let instance = request.group_instance_id.as_deref();
                group.check_transactional(&request.member_id, instance, generation)
            }
        }
    }

    /// The end of a producer's transaction comes to the partition: its offsets count, or are forgotten. The answer comes
    /// when the marker is durable.
    pub fn end_transaction(
        &mut self,
        now_ms: i64,
        token: Token,
        author: Author,
        commit: bool,
        (coordinator_epoch, version): (i32, i16),
    ) -> Effects {
        self.desk.now_ms = now_ms;
        let batch = Batch::Marker { author, commit, coordinator_epoch, version };
        let response = Response::EndTransaction(ErrorCode::None);
        self.desk.write_as(batch, Vec::new(), Then::Reply(token, response));
        self.desk.take()
    }

    /// Takes over what a record of a transactional batch says: an offset that waits for the end of the transaction.
    ///
    /// # Errors
    /// A record that cannot be read; it is as if it were not there.
    pub fn replay_in_transaction(
        &mut self,
        producer_id: i64,
        key: &Bytes,
        value: Option<&Bytes>,
    ) -> Result<(), DecodeError> {
        let Fact::Offset { group, topic, partition, value: Some(mut committed) } = read(key, value)? else {
            // Nothing else is written in transactions.
            return Ok(());
        };
        committed.order = self.next_order();
        let now_ms = self.desk.now_ms;
        self.groups.entry(group.clone()).or_insert_with(|| Group::empty(&group, now_ms));
        self.waiting.add(producer_id, (group, topic, partition), committed);
        Ok(())
    }

    /// Takes over the end of a producer's transaction.
    pub fn replay_end(&mut self, producer_id: i64, commit: bool) {
        let taken = self.waiting.take(producer_id);
        for ((group, topic, partition), committed) in taken.into_iter().filter(|_| commit) {
            let kept = self.offsets.entry(group).or_default().entry(topic).or_default();
            // What was committed later, outside of the transaction, stays.
            if kept.get(&partition).is_none_or(|known| known.order < committed.order) {
                kept.insert(partition, committed);
            }
        }
    }
}

fn answers(
    request: &TxnOffsetCommitRequest,
    mut one: impl FnMut(&TxnOffsetCommitRequestTopic, &TxnOffsetCommitRequestPartition) -> ErrorCode,
) -> Vec<TxnOffsetCommitResponseTopic> {
    let mut topic_answer = |topic: &TxnOffsetCommitRequestTopic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|p| TxnOffsetCommitResponsePartition {
                partition_index: p.partition_index,
                error_code: one(topic, p).code(),
            })
            .collect(),
    };
    request.topics.iter().map(&mut topic_answer).collect()
}

fn committed(
    topic: &TxnOffsetCommitRequestTopic,
    partition: &TxnOffsetCommitRequestPartition,
    now_ms: i64,
    metadata_max: usize,
) -> Result<Committed, ErrorCode> {
    let metadata = check_metadata(&topic.name, partition.committed_metadata.as_deref(), metadata_max)?;
    Ok(Committed {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata,
        committed_ms: now_ms,
        expires_ms: None,
        topic_id: Uuid::nil(),
        order: 0,
    })
}
