//! The metadata of an Apache Kafka cluster, as the records of its log make it (MetadataDelta.java).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire::metadata as m;
use kafka_wire::metadata::Framed;
use kafka_wire::{DecodeError, Message, Uuid};

use crate::config::Values;
use crate::quotas::{Entity, Limits};

/// Kinds of resources that have configurations (ConfigResource.java).
pub(super) const BROKER: i8 = 4;
pub(super) const TOPIC: i8 = 2;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;
/// A partition change that names this leader changes no leader.
const SAME_LEADER: i32 = -2;

/// The cluster's metadata at a moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Image {
    pub topics: BTreeMap<Uuid, Topic>,
    /// By kind and name of the resource.
    pub configs: BTreeMap<(i8, String), Values>,
    pub features: BTreeMap<String, i16>,
    pub next_producer_id: i64,
    /// Who may do what, and by which secret.
    pub security: Security,
    pub quotas: BTreeMap<Entity, Limits>,
    /// Records of a transaction whose end was not read yet.
    open: Option<Vec<Bytes>>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub name: String,
    pub partitions: BTreeMap<i32, Partition>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub replicas: Vec<i32>,
    pub leader_epoch: i32,
}

/// What guards a cluster, by what tells one from the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    acls: BTreeSet<Uuid>,
    users: BTreeSet<(String, i8)>,
    tokens: BTreeSet<String>,
}

impl Security {
    /// A few words for each kind that is there.
    pub(super) fn told(&self) -> Vec<String> {
        let kinds = [
            (self.acls.len(), "ACLs"),
            (self.users.len(), "SCRAM users"),
            (self.tokens.len(), "delegation tokens"),
        ];
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}")).collect()
    }
}

impl Image {
    /// Takes the value of the log's next record. Those of a transaction (KIP-868) count once it has ended.
    pub(super) fn take(&mut self, value: &Bytes) -> Result<(), DecodeError> {
        let framed = Framed::read(value)?;
        match framed.key {
            m::BeginTransactionRecord::KEY => self.open = Some(Vec::new()),
            m::AbortTransactionRecord::KEY => self.open = None,
            m::EndTransactionRecord::KEY => {
                for value in self.open.take().unwrap_or_default() {
                    self.apply(Framed::read(&value)?)?;
                }
            }
            _ => match &mut self.open {
                Some(open) => open.push(value.clone()),
                None => self.apply(framed)?,
            },
        }
        Ok(())
    }

    fn apply(&mut self, framed: Framed) -> Result<(), DecodeError> {
        match framed.key {
            m::TopicRecord::KEY
            | m::RemoveTopicRecord::KEY
            | m::PartitionRecord::KEY
            | m::PartitionChangeRecord::KEY => self.apply_topic(framed),
            m::AccessControlEntryRecord::KEY
            | m::RemoveAccessControlEntryRecord::KEY
            | m::UserScramCredentialRecord::KEY
            | m::RemoveUserScramCredentialRecord::KEY
            | m::DelegationTokenRecord::KEY
            | m::RemoveDelegationTokenRecord::KEY => self.security.apply(framed),
            m::ClientQuotaRecord::KEY => {
                self.quota(framed.decode()?);
                Ok(())
            }
            m::ConfigRecord::KEY => {
                let record: m::ConfigRecord = framed.decode()?;
                let values = self.configs.entry((record.resource_type, record.resource_name)).or_default();
                match record.value {
                    Some(value) => values.insert(record.name, value),
                    None => values.remove(&record.name),
                };
                Ok(())
            }
            m::FeatureLevelRecord::KEY => {
                let record: m::FeatureLevelRecord = framed.decode()?;
                self.features.insert(record.name, record.feature_level);
                Ok(())
            }
            m::ProducerIdsRecord::KEY => {
                self.next_producer_id = framed.decode::<m::ProducerIdsRecord>()?.next_producer_id;
                Ok(())
            }
            // The brokers and controllers of the cluster, which is no more.
            m::RegisterBrokerRecord::KEY
            | m::UnregisterBrokerRecord::KEY
            | m::BrokerRegistrationChangeRecord::KEY
            | m::FenceBrokerRecord::KEY
            | m::UnfenceBrokerRecord::KEY
            | m::RegisterControllerRecord::KEY
            | m::ClearElrRecord::KEY
            | m::ZkMigrationStateRecord::KEY
            | m::NoOpRecord::KEY => Ok(()),
            other => Err(DecodeError::UnknownKey(other)),
        }
    }

    fn apply_topic(&mut self, framed: Framed) -> Result<(), DecodeError> {
        match framed.key {
            m::TopicRecord::KEY => {
                let record: m::TopicRecord = framed.decode()?;
                self.topics.entry(record.topic_id).or_default().name = record.name;
            }
            m::RemoveTopicRecord::KEY => {
                let record: m::RemoveTopicRecord = framed.decode()?;
                if let Some(topic) = self.topics.remove(&record.topic_id) {
                    self.configs.remove(&(TOPIC, topic.name));
                }
            }
            m::PartitionRecord::KEY => {
                let record: m::PartitionRecord = framed.decode()?;
                let partition = Partition { replicas: record.replicas, leader_epoch: record.leader_epoch };
                let topic = self.topics.entry(record.topic_id).or_default();
                topic.partitions.insert(record.partition_id, partition);
            }
            _ => {
                let record: m::PartitionChangeRecord = framed.decode()?;
                let topic = self.topics.get_mut(&record.topic_id);
                if let Some(partition) = topic.and_then(|t| t.partitions.get_mut(&record.partition_id)) {
                    if record.leader != SAME_LEADER {
                        partition.leader_epoch = partition.leader_epoch.saturating_add(1);
                    }
                    if let Some(replicas) = record.replicas {
                        partition.replicas = replicas;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Image {
    fn quota(&mut self, record: m::ClientQuotaRecord) {
        let parts = record.entity.into_iter().map(|part| (part.entity_type, part.entity_name));
        let entity: Entity = parts.collect();
        let limits = self.quotas.entry(entity.clone()).or_default();
        match record.remove {
            true => drop(limits.remove(&record.key)),
            false => drop(limits.insert(record.key, record.value)),
        }
        if limits.is_empty() {
            self.quotas.remove(&entity);
        }
    }
}

impl Security {
    fn apply(&mut self, framed: Framed) -> Result<(), DecodeError> {
        match framed.key {
            m::AccessControlEntryRecord::KEY => {
                self.acls.insert(framed.decode::<m::AccessControlEntryRecord>()?.id);
            }
            m::RemoveAccessControlEntryRecord::KEY => {
                self.acls.remove(&framed.decode::<m::RemoveAccessControlEntryRecord>()?.id);
            }
            m::UserScramCredentialRecord::KEY => {
                let record: m::UserScramCredentialRecord = framed.decode()?;
                self.users.insert((record.name, record.mechanism));
            }
            m::RemoveUserScramCredentialRecord::KEY => {
                let record: m::RemoveUserScramCredentialRecord = framed.decode()?;
                self.users.remove(&(record.name, record.mechanism));
            }
            m::DelegationTokenRecord::KEY => {
                self.tokens.insert(framed.decode::<m::DelegationTokenRecord>()?.token_id);
            }
            m::RemoveDelegationTokenRecord::KEY => {
                self.tokens.remove(&framed.decode::<m::RemoveDelegationTokenRecord>()?.token_id);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(values: &[Result<Bytes, kafka_wire::EncodeError>]) -> Result<Image, DecodeError> {
        let mut image = Image::default();
        for value in values {
            image.take(value.as_ref().expect("encodes"))?;
        }
        Ok(image)
    }

    fn config(name: &str, value: Option<&str>) -> m::ConfigRecord {
        let value = value.map(str::to_owned);
        m::ConfigRecord { resource_type: TOPIC, resource_name: "a".into(), name: name.into(), value }
    }

    #[test]
    fn topics_partitions_and_configurations_follow_the_log() {
        let id = Uuid::from_u128(7);
        let partition = |partition_id| m::PartitionRecord {
            partition_id,
            topic_id: id,
            replicas: vec![1, 2],
            leader_epoch: 3,
            ..Default::default()
        };
        let change = |leader, replicas| m::PartitionChangeRecord {
            partition_id: 0,
            topic_id: id,
            leader,
            replicas,
            ..Default::default()
        };
        let mut log = vec![
            m::encode(&m::TopicRecord { name: "a".into(), topic_id: id }, 0),
            m::encode(&partition(0), 0),
            m::encode(&partition(1), 2),
            m::encode(&config("retention.ms", Some("5")), 0),
            m::encode(&config("cleanup.policy", Some("compact")), 0),
            m::encode(&config("retention.ms", None), 0),
            m::encode(&change(-1, None), 0),
            m::encode(&change(1, None), 2),
            m::encode(&change(SAME_LEADER, Some(vec![1])), 1),
            m::encode(&m::ProducerIdsRecord { next_producer_id: 4000, ..Default::default() }, 0),
        ];
        let image = taken(&log).expect("read");
        let topic = &image.topics[&id];
        assert_eq!(topic.name, "a");
        assert_eq!(topic.partitions[&0], Partition { replicas: vec![1], leader_epoch: 5 });
        assert_eq!(topic.partitions[&1], Partition { replicas: vec![1, 2], leader_epoch: 3 });
        let expect = Values::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        assert_eq!(image.configs[&(TOPIC, "a".into())], expect);
        assert_eq!(image.next_producer_id, 4000);

        log.push(m::encode(&m::RemoveTopicRecord { topic_id: id }, 0));
        let image = taken(&log).expect("read");
        assert!(image.topics.is_empty() && image.configs.is_empty());
    }

    #[test]
    fn a_transaction_counts_when_it_has_ended() {
        let level = |feature_level| m::encode(&m::FeatureLevelRecord { name: "f".into(), feature_level }, 0);
        let begin = || m::encode(&m::BeginTransactionRecord::default(), 0);
        let end = || m::encode(&m::EndTransactionRecord::default(), 0);
        let abort = || m::encode(&m::AbortTransactionRecord::default(), 0);
        let of = |log: &[_]| taken(log).expect("read").features.get("f").copied();
        assert_eq!(of(&[level(1), begin(), level(2)]), Some(1));
        assert_eq!(of(&[level(1), begin(), level(2), end()]), Some(2));
        assert_eq!(of(&[level(1), begin(), level(2), abort(), begin(), level(3), end()]), Some(3));
    }

    #[test]
    fn what_guards_a_cluster_is_counted_and_an_unknown_record_is_refused() {
        let acl = |n| m::AccessControlEntryRecord { id: Uuid::from_u128(n), ..Default::default() };
        let gone = m::RemoveAccessControlEntryRecord { id: Uuid::from_u128(1) };
        let quota =
            |remove| m::ClientQuotaRecord { key: "producer_byte_rate".into(), remove, ..Default::default() };
        let mut log = vec![
            m::encode(&acl(1), 0),
            m::encode(&acl(2), 0),
            m::encode(&gone, 0),
            m::encode(&quota(false), 0),
        ];
        assert_eq!(taken(&log).expect("read").security.told(), ["ACLs: 1"]);
        let quotas = taken(&log).expect("read").quotas;
        assert_eq!(quotas[&Entity::new()], Limits::from([("producer_byte_rate".to_owned(), 0.0)]));
        log.push(m::encode(&quota(true), 0));
        assert!(taken(&log).expect("read").quotas.is_empty());
        log.push(Ok(Bytes::from_static(b"\x01\x63\x00")));
        assert_eq!(taken(&log), Err(DecodeError::UnknownKey(99)));
    }
}
