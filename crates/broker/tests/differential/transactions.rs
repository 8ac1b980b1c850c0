//! Transactions beside Kafka: a few transactional ids, seeded requests of every key and version that belongs to them, wrong
//! producers, epochs, partitions and groups among them.
//!
//! Producer ids are each broker's own: a request names the one that its broker gave, and answers are compared by whose it is.
//! After each end both brokers are waited for, since markers follow the answer.

use base::random::Random;
use bytes::Bytes;
use kafka_wire::messages as m;
use kafka_wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_wire::record::{Builder, Producer};
use kafka_wire::{ApiKey, Message};

use crate::Pair;
use crate::script::Planned;
use crate::side::{Ids, Step};

/// Topics of transactions: their logs hold producer ids, so that they are not compared byte by byte.
pub const PREFIX: &str = "txn-";
const TOPICS: [&str; 2] = ["txn-a", "txn-b"];
const IDS: [&str; 4] = ["x", "y", "never", ""];
const GROUPS: [&str; 3] = ["gx", "gy", ""];

/// What a request says of its producer: what is right, or what is not.
#[derive(Clone, Copy)]
enum Who {
    Right,
    OldEpoch,
    NewEpoch,
    OtherId,
}

pub struct Transactions {
    random: Random,
    now_ms: i64,
    /// Sequences by transactional id and topic, since the last epoch.
    sequences: std::collections::BTreeMap<(&'static str, &'static str), i32>,
}

impl Transactions {
    pub fn new(seed: u64, now_ms: i64) -> Self {
        Self { random: Random::from_seed(seed), now_ms, sequences: Default::default() }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize]
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn version<M: Message>(&mut self) -> i16 {
        let versions = ApiKey::from_i16(M::KEY).expect("a client's key").versions();
        versions.min + self.random.below((versions.stable_max - versions.min + 1) as u64) as i16
    }

    fn id(&mut self) -> &'static str {
        match self.random.below(25) {
            0 => self.pick(&IDS),
            _ => self.pick(&IDS[..2]),
        }
    }

    fn who(&mut self) -> Who {
        match self.random.below(20) {
            0 => Who::OldEpoch,
            1 => Who::NewEpoch,
            2 => Who::OtherId,
            _ => Who::Right,
        }
    }

    /// Makes the topics and finds the coordinators.
    pub async fn opening(&mut self, pair: &mut Pair) {
        let topic = |name: &&str| m::create_topics_request::CreatableTopic {
            name: (*name).into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let create =
            m::CreateTopicsRequest { topics: TOPICS.iter().map(topic).collect(), ..Default::default() };
        pair.run(&Planned { changes: true, ..planned(7, move |_| create.clone()) }).await;
        for (key, key_type) in [("x", 1), ("y", 1), ("gx", 0)] {
            let find =
                m::FindCoordinatorRequest { key: key.into(), key_type, coordinator_keys: vec![key.into()] };
            let step = planned(4, move |_| find.clone());
            pair.run(&Planned { repeatable: true, ..step }).await;
        }
        // Kafka has no producer ids before the first is asked for.
        let plain = m::InitProducerIdRequest { transactional_id: None, ..Default::default() };
        pair.run(&Planned { repeatable: true, ..planned(4, move |_| plain.clone()) }).await;
        // Both are asked until both have loaded what there is of the topic.
        for id in ["x", "y"] {
            pair.run(&described(id)).await;
        }
    }

    /// One request, and what must follow it.
    pub async fn step(&mut self, pair: &mut Pair) {
        let id = self.id();
        match self.random.below(100) {
            0..=14 => {
                pair.run(&self.init(id)).await;
                self.settle(pair, id).await;
            }
            15..=29 => pair.run(&self.add_partitions(id)).await,
            30..=54 => pair.run(&self.produce(id)).await,
            55..=59 => pair.run(&self.add_offsets(id)).await,
            60..=67 => pair.run(&self.commit_offsets(id)).await,
            68..=84 => {
                let (step, _) = self.end(id);
                pair.run(&step).await;
                self.settle(pair, id).await;
            }
            85..=88 => pair.run(&described(id)).await,
            89..=92 => pair.run(&self.list()).await,
            93..=96 => pair.run(&self.fetch()).await,
            _ => pair.run(&self.fetch_offsets()).await,
        }
    }

    /// Waits until what was begun is over on both sides; a new epoch begins its sequences anew.
    async fn settle(&mut self, pair: &mut Pair, id: &'static str) {
        let epochs = pair.epochs(id);
        pair.until_settled(&described(id).step).await;
        if pair.epochs(id) != epochs || self.chance(4) {
            self.sequences.retain(|(of, _), _| *of != id);
        }
    }

    fn init(&mut self, id: &'static str) -> Planned {
        let version = self.version::<m::InitProducerIdRequest>();
        let timeout_ms = self.pick(&[60_000, 60_000, 60_000, 60_000, 0, 1_000_000]);
        let (who, known) = (self.who(), version >= 3 && self.chance(3));
        let half = self.chance(12);
        self.sequences.retain(|(of, _), _| *of != id);
        let request = move |ids: &Ids| {
            let (producer_id, producer_epoch) = match known {
                true => of(ids, id, who),
                false => (-1, -1),
            };
            m::InitProducerIdRequest {
                transactional_id: Some(id.into()),
                transaction_timeout_ms: timeout_ms,
                producer_id: if half && version >= 3 { 77 } else { producer_id },
                producer_epoch: if half { -1 } else { producer_epoch },
                ..Default::default()
            }
        };
        let mut planned = planned(version, request);
        planned.step.learns = Some(id);
        planned
    }

    fn add_partitions(&mut self, id: &'static str) -> Planned {
        let version = self.version::<m::AddPartitionsToTxnRequest>();
        let who = self.who();
        let verify_only = self.chance(2);
        let topic = if self.chance(12) { "txn-none" } else { self.pick(&TOPICS) };
        let both = self.chance(3);
        let request = move |ids: &Ids| {
            let one = |name: &str| AddPartitionsToTxnTopic { name: name.into(), partitions: vec![0] };
            let topics =
                if both && topic != TOPICS[0] { vec![one(TOPICS[0]), one(topic)] } else { vec![one(topic)] };
            let (producer_id, producer_epoch) = of(ids, id, who);
            match version {
                4.. => m::AddPartitionsToTxnRequest {
                    transactions: vec![AddPartitionsToTxnTransaction {
                        transactional_id: id.into(),
                        producer_id,
                        producer_epoch,
                        verify_only,
                        topics,
                    }],
                    ..Default::default()
                },
                _ => m::AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: id.into(),
                    v3_and_below_producer_id: producer_id,
                    v3_and_below_producer_epoch: producer_epoch,
                    v3_and_below_topics: topics,
                    ..Default::default()
                },
            }
        };
        planned(version, request)
    }

    fn produce(&mut self, id: &'static str) -> Planned {
        let version = self.pick(&[7, 9, 10, 11, 12, 12, 13, 13]);
        let (who, topic) = (self.who(), self.pick(&TOPICS));
        let next = self.sequences.entry((id, topic)).or_default();
        let sequence = *next;
        *next += 1;
        let sequence = if self.chance(15) { sequence + 3 } else { sequence };
        // Records outside of a transaction with an epoch that nobody has would raise the partition's epoch over the
        // coordinator's, and no marker could follow.
        let plain = self.chance(20) && matches!(who, Who::Right);
        let (unnamed, now_ms) = (self.chance(20), self.now_ms);
        let request = move |ids: &Ids| {
            let (producer_id, epoch) = of(ids, id, who);
            let producer = Producer { id: producer_id, epoch, base_sequence: sequence };
            let mut batch = Builder::new().producer(producer);
            if !plain {
                batch = batch.transactional();
            }
            batch.append(now_ms, Some(b"k"), Some(b"in a transaction"));
            let records: Bytes = batch.build().expect("a batch");
            let data = m::produce_request::PartitionProduceData { index: 0, records: Some(records) };
            let of_topic = m::produce_request::TopicProduceData {
                name: topic.into(),
                topic_id: ids.of(topic),
                partition_data: vec![data],
            };
            m::ProduceRequest {
                transactional_id: (!unnamed).then(|| id.into()),
                acks: -1,
                timeout_ms: 5_000,
                topic_data: vec![of_topic],
            }
        };
        let mut planned = planned(version, request);
        planned.step.kind = "transactional";
        planned
    }

    fn add_offsets(&mut self, id: &'static str) -> Planned {
        let version = self.version::<m::AddOffsetsToTxnRequest>();
        let (who, group) = (self.who(), self.pick(&GROUPS[..2]));
        let request = move |ids: &Ids| {
            let (producer_id, producer_epoch) = of(ids, id, who);
            let (transactional_id, group_id) = (id.into(), group.into());
            m::AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id }
        };
        planned(version, request)
    }

    fn commit_offsets(&mut self, id: &'static str) -> Planned {
        let version = self.version::<m::TxnOffsetCommitRequest>();
        let who = self.who();
        let group = if self.chance(12) { "" } else { self.pick(&GROUPS[..2]) };
        let topic = if self.chance(12) { "txn-none" } else { self.pick(&TOPICS) };
        let committed_offset = self.random.below(50) as i64;
        let generation_id = if version >= 3 { self.pick(&[-1, -1, -1, 3]) } else { -1 };
        let request = move |ids: &Ids| {
            let (producer_id, producer_epoch) = of(ids, id, who);
            let partition = TxnOffsetCommitRequestPartition {
                committed_offset,
                committed_metadata: Some("note".into()),
                ..Default::default()
            };
            m::TxnOffsetCommitRequest {
                transactional_id: id.into(),
                group_id: group.into(),
                producer_id,
                producer_epoch,
                generation_id,
                topics: vec![TxnOffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition] }],
                ..Default::default()
            }
        };
        planned(version, request)
    }

    fn end(&mut self, id: &'static str) -> (Planned, bool) {
        let version = self.version::<m::EndTxnRequest>();
        let (who, committed) = (self.who(), self.chance(2));
        let request = move |ids: &Ids| {
            let (producer_id, producer_epoch) = of(ids, id, who);
            m::EndTxnRequest { transactional_id: id.into(), producer_id, producer_epoch, committed }
        };
        let mut planned = planned(version, request);
        planned.step.learns = (version >= 5).then_some(id);
        (planned, committed)
    }

    fn list(&mut self) -> Planned {
        let version = self.version::<m::ListTransactionsRequest>();
        let states =
            self.pick(&[&[][..], &["Ongoing"], &["Empty", "Odd"], &["CompleteCommit", "CompleteAbort"]]);
        let pattern = if version >= 2 { self.pick(&[None, Some("x|y"), Some("("), Some("")]) } else { None };
        let duration_filter = if version >= 1 { self.pick(&[-1, -1, 3_600_000]) } else { -1 };
        let request = m::ListTransactionsRequest {
            state_filters: states.iter().map(ToString::to_string).collect(),
            producer_id_filters: Vec::new(),
            duration_filter,
            transactional_id_pattern: pattern.map(str::to_owned),
        };
        Planned { repeatable: true, ..planned(version, move |_| request.clone()) }
    }

    fn fetch(&mut self) -> Planned {
        let (topic, isolation_level) = (self.pick(&TOPICS), self.pick(&[0, 1, 1]));
        let fetch_offset = self.pick(&[0, 0, 3]);
        let request = move |_: &Ids| {
            let partition = m::fetch_request::FetchPartition {
                fetch_offset,
                // The records hold producer ids: what is around them is compared.
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            let topic = m::fetch_request::FetchTopic {
                topic: topic.into(),
                partitions: vec![partition],
                ..Default::default()
            };
            m::FetchRequest { max_bytes: 1 << 20, isolation_level, topics: vec![topic], ..Default::default() }
        };
        Planned { repeatable: true, ..planned(12, request) }
    }

    fn fetch_offsets(&mut self) -> Planned {
        use m::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
        let (group, require_stable) = (self.pick(&GROUPS[..2]), self.chance(2));
        let topic = |name: &&str| OffsetFetchRequestTopics {
            name: (*name).into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(TOPICS.iter().map(topic).collect()),
            ..Default::default()
        };
        let request = m::OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
        Planned { repeatable: true, ..planned(8, move |_| request.clone()) }
    }
}

fn planned<M: Message + std::fmt::Debug>(version: i16, request: impl Fn(&Ids) -> M + 'static) -> Planned {
    Planned { step: Step::new(version, request), changes: false, repeatable: false }
}

fn described(id: &'static str) -> Planned {
    let request = m::DescribeTransactionsRequest { transactional_ids: vec![id.into()] };
    Planned { repeatable: true, ..planned(0, move |_| request.clone()) }
}

fn of(ids: &Ids, id: &str, who: Who) -> (i64, i16) {
    let (producer_id, epoch) = ids.producer(id);
    match who {
        Who::Right => (producer_id, epoch),
        Who::OldEpoch => (producer_id, (epoch - 1).max(0)),
        Who::NewEpoch => (producer_id, epoch + 1),
        Who::OtherId => (producer_id + 500_000, epoch),
    }
}
