//! The records of `__consumer_offsets` that this shard writes and replays.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::internal::{decode_key, decode_value, encode_key, encode_value, key_type};
use kafka_wire::records::group_metadata_value::MemberMetadata;
use kafka_wire::records::{
    GroupMetadataKey, GroupMetadataValue, LegacyOffsetCommitKey, OffsetCommitKey, OffsetCommitValue,
};
use kafka_wire::{DecodeError, Message};

use crate::desk::LogRecord;
use crate::group::{Group, Member, Protocol, State, Terms};
use crate::offsets::Committed;

/// The version Kafka 4 writes group metadata in.
const GROUP_VERSION: i16 = 3;
/// The version Kafka 4 writes offsets in...
const OFFSET_VERSION: i16 = 4;
/// ...unless the client asked for its own retention: only this version has a time of expiry.
const OFFSET_VERSION_WITH_EXPIRY: i16 = 1;

/// Strings in keys have two-byte lengths; room is left for what member ids add to client ids.
pub(crate) const NAME_BYTES_MAX: usize = i16::MAX as usize - 64;

/// What a record says.
pub(crate) enum Fact {
    Offset {
        group: String,
        topic: String,
        partition: i32,
        value: Option<Committed>,
    },
    Group {
        group: String,
        value: Option<GroupMetadataValue>,
    },
    /// A record of another kind of group, kept in the log and not understood here.
    Other,
}

/// Reads a record. Record types of other kinds of groups are no error.
pub(crate) fn read(key: &Bytes, value: Option<&Bytes>) -> Result<Fact, DecodeError> {
    let kind = key_type(key)?;
    match kind {
        _ if kind == LegacyOffsetCommitKey::KEY || kind == OffsetCommitKey::KEY => {
            read_offset(kind, key, value)
        }
        _ if kind == GroupMetadataKey::KEY => {
            let group = decode_key::<GroupMetadataKey>(key)?.group;
            Ok(Fact::Group { group, value: value.map(decode_value).transpose()? })
        }
        _ => Ok(Fact::Other),
    }
}

fn read_offset(kind: i16, key: &Bytes, value: Option<&Bytes>) -> Result<Fact, DecodeError> {
    // Both key types have the same fields; only 0 was written by brokers before 0.9.
    let key = match kind == OffsetCommitKey::KEY {
        true => decode_key::<OffsetCommitKey>(key)?,
        false => {
            let old = decode_key::<LegacyOffsetCommitKey>(key)?;
            OffsetCommitKey { group: old.group, topic: old.topic, partition: old.partition }
        }
    };
    let value = value.map(decode_value::<OffsetCommitValue>).transpose()?.map(Committed::from);
    Ok(Fact::Offset { group: key.group, topic: key.topic, partition: key.partition, value })
}

/// A record's bytes. Handlers refuse names beyond [`NAME_BYTES_MAX`], so that every string fits its length.
fn record<K: Message, V: Message>(key: &K, value: Option<(&V, i16)>) -> LogRecord {
    LogRecord {
        key: encode_key(key).expect("names fit"),
        value: value.map(|(v, version)| encode_value(v, version).expect("names fit")),
    }
}

/// The key of a committed offset.
pub(crate) fn offset_key(group: &str, topic: &str, partition: i32) -> OffsetCommitKey {
    OffsetCommitKey { group: group.to_owned(), topic: topic.to_owned(), partition }
}

/// A committed offset, or its tombstone.
pub(crate) fn offset_record(
    group: &str,
    topic: &str,
    partition: i32,
    value: Option<&Committed>,
) -> LogRecord {
    let value = value.map(|c| OffsetCommitValue {
        offset: c.offset,
        leader_epoch: c.leader_epoch,
        metadata: c.metadata.clone(),
        commit_timestamp: c.committed_ms,
        expire_timestamp: c.expires_ms.unwrap_or(-1),
        topic_id: c.topic_id,
    });
    let version = match value.as_ref().is_some_and(|v| v.expire_timestamp != -1) {
        true => OFFSET_VERSION_WITH_EXPIRY,
        false => OFFSET_VERSION,
    };
    record(&offset_key(group, topic, partition), value.as_ref().map(|v| (v, version)))
}

/// The tombstone of a group.
pub(crate) fn group_tombstone(group: &str) -> LogRecord {
    record::<_, GroupMetadataValue>(&GroupMetadataKey { group: group.to_owned() }, None)
}

impl Group {
    /// The group as it is, with these assignments.
    pub fn record(&self, assignment: &BTreeMap<String, Bytes>) -> LogRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |m: &Member| MemberMetadata {
            member_id: m.id.clone(),
            group_instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            rebalance_timeout: m.terms.rebalance_timeout_ms,
            session_timeout: m.terms.session_timeout_ms,
            subscription: m.metadata(protocol).cloned().unwrap_or_default(),
            assignment: assignment.get(&m.id).cloned().unwrap_or_default(),
        };
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since_ms.unwrap_or(-1),
            members: self.members.values().map(member).collect(),
        };
        record(&GroupMetadataKey { group: self.id.clone() }, Some((&value, GROUP_VERSION)))
    }

    /// The group before its first generation.
    pub fn empty_record(&self) -> LogRecord {
        let now_ms = self.since_ms.unwrap_or(-1);
        Group::empty(&self.id, now_ms).record(&BTreeMap::new())
    }

    pub fn assignments(&self) -> BTreeMap<String, Bytes> {
        self.members.values().map(|m| (m.id.clone(), m.assignment.clone())).collect()
    }

    /// The group as a record tells of it: Stable with its members, or Empty.
    pub fn from_record(id: &str, value: GroupMetadataValue) -> Self {
        let mut group = Group::empty(id, value.current_state_timestamp);
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in value.members {
            group.add(loaded(member, &protocol), &value.protocol_type);
        }
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group.previous = group.state;
        group.since_ms = (value.current_state_timestamp != -1).then_some(value.current_state_timestamp);
        group.generation = value.generation;
        group.protocol_type = (!value.protocol_type.is_empty()).then_some(value.protocol_type);
        group.protocol = value.protocol;
        group.leader = value.leader;
        group.subscribed = group.compute_subscribed();
        group
    }
}

fn loaded(member: MemberMetadata, protocol: &str) -> Member {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let rebalance = member.rebalance_timeout;
    Member {
        id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        terms: Terms {
            rebalance_timeout_ms: if rebalance == -1 { member.session_timeout } else { rebalance },
            session_timeout_ms: member.session_timeout,
            protocols: vec![Protocol { name: protocol.to_owned(), metadata: copy(&member.subscription) }],
        },
        assignment: copy(&member.assignment),
        is_new: false,
        awaiting_join: None,
        awaiting_sync: None,
    }
}
