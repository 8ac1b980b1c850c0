//! The seeded script: what is asked of both brokers, in order.

use base::random::Random;
use kafka_wire::messages as m;
use kafka_wire::{ApiKey, Message, Uuid};

use crate::batches;
use crate::side::Step;

/// A step with what must follow it.
pub struct Planned {
    pub step: Step,
    /// Topics or configurations change: wait until both brokers see it.
    pub changes: bool,
    /// Asking again gives the same: a difference may be a broker that has not caught up.
    pub repeatable: bool,
}

/// Names that topics have, or might have.
const TOPICS: [&str; 6] = ["alpha", "beta", "gamma.x", "delta-1", "compacted", "never"];
const BAD_NAMES: [&str; 8] = ["", ".", "..", "a b", "a/b", "ö", "gamma_x", "__consumer_offsets"];
const CONFIGS: [(&str, &[&str]); 16] = [
    ("retention.ms", &["1000000", "-1", "-2", "x"]),
    ("retention.bytes", &["5000000", "-1"]),
    ("max.message.bytes", &["1000012", "1048588", "-1", ""]),
    ("cleanup.policy", &["delete", "compact", "compact,delete", "shred"]),
    ("compression.type", &["producer", "uncompressed", "none"]),
    ("message.timestamp.type", &["CreateTime", "Never"]),
    ("min.insync.replicas", &["1", "0", "2"]),
    ("segment.bytes", &["1048576", "10"]),
    ("segment.ms", &["3600000", "0"]),
    ("flush.messages", &["1", "100", "0"]),
    ("flush.ms", &["1000"]),
    ("delete.retention.ms", &["1000", "-1"]),
    ("unclean.leader.election.enable", &["true", "false", "maybe"]),
    ("preallocate", &["true", "false"]),
    ("no.such.config", &["1"]),
    ("message.timestamp.after.max.ms", &["3600000", "-5"]),
];

pub struct Script {
    random: Random,
    now_ms: i64,
    wrongs: usize,
}

impl Script {
    pub fn new(seed: u64, now_ms: i64) -> Self {
        Self { random: Random::from_seed(seed), now_ms, wrongs: 0 }
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize]
    }

    fn topic(&mut self) -> String {
        match self.random.below(30) {
            0 => self.pick(&BAD_NAMES).into(),
            // The names before "never" more often.
            _ => self.pick(&TOPICS[..]).into(),
        }
    }

    fn partition(&mut self) -> i32 {
        self.pick(&[0, 0, 0, 1, 1, 2, 7, -1])
    }

    fn version<M: Message>(&mut self) -> i16 {
        let versions = ApiKey::from_i16(M::KEY).expect("a client's key").versions();
        versions.min + self.random.below((versions.stable_max - versions.min + 1) as u64) as i16
    }

    fn read<M: Message + std::fmt::Debug + Clone + 'static>(&mut self, request: M) -> Planned {
        let version = self.version::<M>();
        Planned { step: Step::new(version, move |_| request.clone()), changes: false, repeatable: true }
    }

    fn write<M: Message + std::fmt::Debug + Clone + 'static>(&mut self, request: M) -> Planned {
        Planned { changes: true, repeatable: false, ..self.read(request) }
    }

    /// The topics that the rest of the script works on.
    pub fn opening(&mut self) -> Vec<Planned> {
        let topic =
            |name: &str, partitions, configs: &[(&str, &str)]| m::create_topics_request::CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor: 1,
                configs: configs.iter().map(|(name, value)| config(name, Some(value))).collect(),
                ..Default::default()
            };
        let topics = vec![
            topic("alpha", 1, &[]),
            topic("beta", 2, &[("max.message.bytes", "2000"), ("retention.ms", "-1")]),
            topic("gamma.x", 3, &[("message.timestamp.type", "CreateTime")]),
        ];
        let coordinator = m::FindCoordinatorRequest { key: "g1".into(), ..Default::default() };
        let group = m::DescribeGroupsRequest { groups: vec!["g1".into()], ..Default::default() };
        vec![
            self.write(m::CreateTopicsRequest { topics, ..Default::default() }),
            // The first makes the topic of offsets; both are asked until they agree that it is there.
            Planned { step: Step::new(3, move |_| coordinator.clone()), changes: false, repeatable: true },
            Planned { step: Step::new(5, move |_| group.clone()), changes: false, repeatable: true },
        ]
    }

    /// Removes a topic that one broker made and the other did not.
    pub fn delete(name: &str) -> Planned {
        let names = vec![name.to_owned()];
        let request = m::DeleteTopicsRequest { topic_names: names, timeout_ms: 30_000, ..Default::default() };
        Planned { step: Step::new(5, move |_| request.clone()), changes: true, repeatable: false }
    }

    /// The next step.
    pub fn next(&mut self) -> Planned {
        match self.random.below(100) {
            0..=5 => self.create_topics(),
            6..=7 => self.delete_topics(),
            8..=10 => self.create_partitions(),
            11..=30 => self.produce(),
            31..=46 => self.fetch(),
            47..=55 => self.list_offsets(),
            56..=59 => self.delete_records(),
            60..=66 => self.describe_configs(),
            67..=69 => self.alter_configs(),
            70..=73 => self.incremental_alter_configs(),
            74..=80 => self.metadata(),
            81..=84 => self.describe_partitions(),
            85..=89 => self.epochs(),
            90..=92 => self.cluster(),
            _ => self.offsets(),
        }
    }

    fn create_topics(&mut self) -> Planned {
        use m::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
        let topics = (0..=self.random.below(2)).map(|_| {
            let assigned = self.chance(6);
            let assignment = |partition_index, brokers: &[i32]| CreatableReplicaAssignment {
                partition_index,
                broker_ids: brokers.to_vec(),
            };
            let assignments = match self.random.below(5) {
                _ if !assigned => vec![],
                0 => vec![assignment(0, &[1]), assignment(2, &[1])],
                1 => vec![assignment(0, &[9])],
                2 => vec![assignment(0, &[1, 1])],
                _ => vec![assignment(0, &[1]), assignment(1, &[1])],
            };
            CreatableTopic {
                name: if self.chance(4) { self.pick(&BAD_NAMES).into() } else { self.topic() },
                num_partitions: if assigned { -1 } else { self.pick(&[-1, 1, 3, 0, -2]) },
                replication_factor: if assigned { -1 } else { self.pick(&[1, 1, 1, -1, 0, 2]) },
                assignments,
                configs: self.configs(),
            }
        });
        let topics = topics.collect();
        let validate_only = self.chance(4);
        self.write(m::CreateTopicsRequest { topics, validate_only, ..Default::default() })
    }

    fn configs(&mut self) -> Vec<m::create_topics_request::CreatableTopicConfig> {
        // One at most: which of several wrong ones Kafka names first is up to a hash map.
        if self.chance(2) {
            return vec![];
        }
        let (name, values) = self.pick(&CONFIGS);
        let value = self.pick(values);
        vec![config(name, (!self.chance(12)).then_some(value))]
    }

    fn delete_topics(&mut self) -> Planned {
        let name = self.topic();
        let version = self.version::<m::DeleteTopicsRequest>();
        let by_id = self.chance(2);
        let request = move |ids: &crate::side::Ids| {
            let state = m::delete_topics_request::DeleteTopicState {
                name: (!by_id).then(|| name.clone()),
                topic_id: if by_id { ids.of(&name) } else { Uuid::nil() },
            };
            let names = vec![name.clone()];
            match version {
                6.. => {
                    m::DeleteTopicsRequest { topics: vec![state], timeout_ms: 30_000, ..Default::default() }
                }
                _ => m::DeleteTopicsRequest { topic_names: names, timeout_ms: 30_000, ..Default::default() },
            }
        };
        Planned { step: Step::new(version, request), changes: true, repeatable: false }
    }

    fn create_partitions(&mut self) -> Planned {
        use m::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
        let assignments = self
            .chance(3)
            .then(|| vec![CreatePartitionsAssignment { broker_ids: vec![self.pick(&[1, 1, 8])] }]);
        let topic =
            CreatePartitionsTopic { name: self.topic(), count: self.pick(&[1, 2, 3, 4, 0, -1]), assignments };
        let validate_only = self.chance(3);
        self.write(m::CreatePartitionsRequest { topics: vec![topic], validate_only, timeout_ms: 30_000 })
    }

    fn produce(&mut self) -> Planned {
        let (name, index) = (self.topic(), self.partition());
        let version = self.version::<m::ProduceRequest>();
        let (what, records) = match self.random.below(5) {
            0 => ("idempotent", batches::idempotent(&mut self.random, self.now_ms)),
            1 | 2 => {
                self.wrongs += 1;
                batches::wrong(self.wrongs % batches::WRONGS, &mut self.random, self.now_ms)
            }
            _ => ("sound", batches::sound(&mut self.random, self.now_ms)),
        };
        let acks = self.pick(&[-1, -1, -1, 1, 1, 2]);
        let request = move |ids: &crate::side::Ids| {
            let data = m::produce_request::PartitionProduceData { index, records: Some(records.clone()) };
            let topic = m::produce_request::TopicProduceData {
                name: name.clone(),
                topic_id: ids.of(&name),
                partition_data: vec![data],
            };
            m::ProduceRequest { acks, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() }
        };
        let mut step = Step::new(version, request);
        step.shown.truncate(200);
        step.kind = what;
        Planned { step, changes: false, repeatable: false }
    }

    fn fetch(&mut self) -> Planned {
        let (name, partition) = (self.topic(), self.partition());
        let version = self.version::<m::FetchRequest>();
        let offset = self.pick(&[0, 0, 1, 5, 17, 40, 1000, -1]);
        let (limit, total) = (self.pick(&[1 << 20, 200, 0]), self.pick(&[1 << 20, 300, 1]));
        let isolation_level = self.pick(&[0, 1]);
        let (epoch, last_epoch) = (self.pick(&[-1, -1, 0, 3]), self.pick(&[-1, -1, 0, 5]));
        let session_id = self.pick(&[0, 0, 0, 0, 0, 77]);
        let request = move |ids: &crate::side::Ids| {
            let partition = m::fetch_request::FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: limit,
                current_leader_epoch: epoch,
                last_fetched_epoch: last_epoch,
                ..Default::default()
            };
            let topic = m::fetch_request::FetchTopic {
                topic: name.clone(),
                topic_id: ids.of(&name),
                partitions: vec![partition],
            };
            m::FetchRequest {
                max_wait_ms: 0,
                min_bytes: 0,
                max_bytes: total,
                isolation_level,
                session_id,
                session_epoch: if session_id == 0 { -1 } else { 1 },
                topics: vec![topic],
                ..Default::default()
            }
        };
        Planned { step: Step::new(version, request), changes: false, repeatable: true }
    }

    fn list_offsets(&mut self) -> Planned {
        use m::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let timestamp =
            self.pick(&[-1, -2, -3, -4, -5, -9, 0, self.now_ms, self.now_ms + 3, self.now_ms + 60_000]);
        let partition = ListOffsetsPartition {
            partition_index: self.partition(),
            current_leader_epoch: self.pick(&[-1, -1, -1, 0, 4]),
            timestamp,
        };
        let topics = vec![ListOffsetsTopic { name: self.topic(), partitions: vec![partition] }];
        let isolation_level = self.pick(&[0, 1]);
        self.read(m::ListOffsetsRequest { replica_id: -1, isolation_level, topics, timeout_ms: 1000 })
    }

    fn delete_records(&mut self) -> Planned {
        use m::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
        let partition = DeleteRecordsPartition {
            partition_index: self.partition(),
            offset: self.pick(&[0, 1, 2, 5, -1, 100_000]),
        };
        let topics = vec![DeleteRecordsTopic { name: self.topic(), partitions: vec![partition] }];
        Planned { repeatable: false, ..self.read(m::DeleteRecordsRequest { topics, timeout_ms: 2000 }) }
    }

    fn describe_configs(&mut self) -> Planned {
        let (kind, name) = match self.random.below(8) {
            0 => (4, "1".to_owned()),
            1 => (4, "7".to_owned()),
            2 => (4, String::new()),
            3 => (9, "x".to_owned()),
            _ => (2, self.topic()),
        };
        let keys = match self.random.below(4) {
            // All of a broker's are compared by name elsewhere: there are hundreds.
            0 if kind == 2 => None,
            1 => Some(vec![]),
            2 => Some(vec!["nothing".into()]),
            _ => Some(vec!["retention.ms".into(), "max.message.bytes".into(), "log.retention.hours".into()]),
        };
        let resource = m::describe_configs_request::DescribeConfigsResource {
            resource_type: kind,
            resource_name: name,
            configuration_keys: keys,
        };
        let (synonyms, documentation) = (self.chance(2), self.chance(3));
        self.read(m::DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: synonyms,
            include_documentation: documentation,
        })
    }

    fn alter_configs(&mut self) -> Planned {
        use m::alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let configs = self.configs().into_iter().map(|c| AlterableConfig { name: c.name, value: c.value });
        let resource = AlterConfigsResource {
            configs: configs.collect(),
            resource_type: self.pick(&[2, 2, 2, 2, 7]),
            resource_name: self.topic(),
        };
        let validate_only = self.chance(2);
        self.write(m::AlterConfigsRequest { resources: vec![resource], validate_only })
    }

    fn incremental_alter_configs(&mut self) -> Planned {
        use m::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let operation = self.pick(&[0, 0, 0, 1, 2, 3, 9]);
        let configs = self.configs().into_iter().map(|c| AlterableConfig {
            name: c.name,
            config_operation: operation,
            value: c.value,
        });
        let resource = AlterConfigsResource {
            configs: configs.collect(),
            resource_type: self.pick(&[2, 2, 2, 2, 7]),
            resource_name: self.topic(),
        };
        let validate_only = self.chance(2);
        self.write(m::IncrementalAlterConfigsRequest { resources: vec![resource], validate_only })
    }

    fn metadata(&mut self) -> Planned {
        let version = self.version::<m::MetadataRequest>();
        let (name, everything) = (self.topic(), self.chance(3));
        let by_id = version >= 12 && self.chance(2);
        let request = move |ids: &crate::side::Ids| {
            let topic = m::metadata_request::MetadataRequestTopic {
                topic_id: if by_id { ids.of(&name) } else { Uuid::nil() },
                name: (!by_id).then(|| name.clone()),
            };
            let topics = (!everything).then(|| vec![topic]);
            m::MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() }
        };
        // Before version 4 asking makes the topic.
        let changes = version < 4;
        Planned { step: Step::new(version, request), changes, repeatable: !changes }
    }

    fn describe_partitions(&mut self) -> Planned {
        use m::describe_topic_partitions_request::{Cursor, TopicRequest};
        let mut topics = vec![self.topic(), self.topic()];
        topics.dedup();
        let cursor = self
            .chance(3)
            .then(|| Cursor { topic_name: self.topic(), partition_index: self.partition().max(0) });
        let response_partition_limit = self.pick(&[2000, 1, 2]);
        let topics = topics.into_iter().map(|name| TopicRequest { name }).collect();
        self.read(m::DescribeTopicPartitionsRequest { topics, response_partition_limit, cursor })
    }

    fn epochs(&mut self) -> Planned {
        use m::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
        let partition = OffsetForLeaderPartition {
            partition: self.partition(),
            current_leader_epoch: self.pick(&[-1, 0, 2]),
            leader_epoch: self.pick(&[0, 0, -1, 1]),
        };
        let topics = vec![OffsetForLeaderTopic { topic: self.topic(), partitions: vec![partition] }];
        self.read(m::OffsetForLeaderEpochRequest { replica_id: -1, topics })
    }

    fn cluster(&mut self) -> Planned {
        match self.random.below(4) {
            0 => {
                let endpoint_type = self.pick(&[1, 1, 3]);
                self.read(m::DescribeClusterRequest { endpoint_type, ..Default::default() })
            }
            1 => {
                let name = self.pick(&["client", "", "-"]).to_owned();
                let request =
                    m::ApiVersionsRequest { client_software_name: name, client_software_version: "1".into() };
                self.read(request)
            }
            2 => {
                let resource_types = self.pick(&[&[2i8][..], &[4], &[], &[99]]).to_vec();
                self.read(m::ListConfigResourcesRequest { resource_types })
            }
            _ => {
                let topic = m::describe_log_dirs_request::DescribableLogDirTopic {
                    topic: self.topic(),
                    partitions: vec![self.partition()],
                };
                self.read(m::DescribeLogDirsRequest { topics: Some(vec![topic]) })
            }
        }
    }

    fn offsets(&mut self) -> Planned {
        let group = self.pick(&["g1", "g2", "nobody", ""]).to_owned();
        match self.random.below(4) {
            0 | 1 => self.commit(group),
            2 => {
                use m::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
                let version = self.version::<m::OffsetFetchRequest>();
                let (name, index) = (self.topic(), self.partition());
                let request = move |ids: &crate::side::Ids| {
                    let topic = OffsetFetchRequestTopics {
                        name: name.clone(),
                        topic_id: ids.of(&name),
                        partition_indexes: vec![index],
                    };
                    let old = m::offset_fetch_request::OffsetFetchRequestTopic {
                        name: name.clone(),
                        partition_indexes: vec![index],
                    };
                    let group_of = OffsetFetchRequestGroup {
                        group_id: group.clone(),
                        topics: Some(vec![topic]),
                        ..Default::default()
                    };
                    match version {
                        8.. => m::OffsetFetchRequest { groups: vec![group_of], ..Default::default() },
                        _ => m::OffsetFetchRequest {
                            group_id: group.clone(),
                            topics: Some(vec![old]),
                            ..Default::default()
                        },
                    }
                };
                Planned { step: Step::new(version, request), changes: false, repeatable: true }
            }
            _ => self.read(m::DescribeGroupsRequest { groups: vec![group], ..Default::default() }),
        }
    }

    fn commit(&mut self, group: String) -> Planned {
        use m::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        let version = self.version::<m::OffsetCommitRequest>();
        let (name, partition_index) = (self.topic(), self.partition());
        let (committed_offset, generation) = (self.pick(&[0, 5, -1]), self.pick(&[-1, -1, -1, 3]));
        let request = move |ids: &crate::side::Ids| {
            let partition = OffsetCommitRequestPartition {
                partition_index,
                committed_offset,
                committed_metadata: Some("note".into()),
                ..Default::default()
            };
            let topic = OffsetCommitRequestTopic {
                name: name.clone(),
                topic_id: ids.of(&name),
                partitions: vec![partition],
            };
            m::OffsetCommitRequest {
                group_id: group.clone(),
                generation_id_or_member_epoch: generation,
                topics: vec![topic],
                ..Default::default()
            }
        };
        Planned { step: Step::new(version, request), changes: false, repeatable: false }
    }
}

fn config(name: &str, value: Option<&str>) -> m::create_topics_request::CreatableTopicConfig {
    m::create_topics_request::CreatableTopicConfig { name: name.into(), value: value.map(str::to_owned) }
}
