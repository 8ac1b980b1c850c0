//! One of the two brokers: a connection, and the ids of its topics.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::messages::{ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse};
use kafka_wire::{ApiKey, ErrorCode, MESSAGES, Message, Uuid, frame};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::tree;

/// Longer than any wait that a request of the script asks for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const METADATA: i16 = 12;
const LIST_OFFSETS: i16 = 7;
/// ListOffsets' word for the end.
const LATEST: i64 = -1;

/// The ids that a broker gave its topics: those of now, and all that it gave to each name, in order; the
/// producers of transactional ids with their epochs.
#[derive(Default, Clone)]
pub struct Ids(HashMap<String, Uuid>, HashMap<String, Vec<Uuid>>, HashMap<String, (i64, i16)>);

impl Ids {
    fn learn(&mut self, name: String, id: Uuid) {
        let all = self.1.entry(name.clone()).or_default();
        if all.last() != Some(&id) {
            all.push(id);
        }
        self.0.insert(name, id);
    }

    /// The ids that two brokers gave the same topics.
    pub fn pairs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Uuid, &'a Uuid)> {
        let both = self.1.iter().filter_map(|(name, ids)| Some((ids, other.1.get(name)?)));
        both.flat_map(|(ours, theirs)| ours.iter().zip(theirs))
    }

    /// The topic's id; one that nobody has for a topic that does not exist.
    pub fn of(&self, name: &str) -> Uuid {
        self.0.get(name).copied().unwrap_or(Uuid::from_u128(0x1234))
    }

    /// The producer that a transactional id has; one that nobody has where it has none.
    pub fn producer(&self, id: &str) -> (i64, i16) {
        self.2.get(id).copied().unwrap_or((900_000, 0))
    }

    fn owner(&self, producer_id: i64) -> Option<&str> {
        self.2.iter().find(|(_, (known, _))| *known == producer_id).map(|(id, _)| id.as_str())
    }

    fn name(&self, id: &str) -> Option<&str> {
        self.0.iter().find(|(_, known)| known.to_string() == id).map(|(name, _)| name.as_str())
    }
}

/// Makes a request for a broker with these ids.
type MakeFrame = Box<dyn Fn(&Ids) -> Vec<u8>>;

/// A request as it goes to a broker with these ids.
pub struct Step {
    pub key: ApiKey,
    pub version: i16,
    frame: MakeFrame,
    pub shown: String,
    /// What is special about it, counted apart.
    pub kind: &'static str,
    /// The transactional id whose producer the answer tells.
    pub learns: Option<&'static str>,
}

impl Step {
    /// A request that may name topics by id.
    pub fn new<M: Message + std::fmt::Debug>(version: i16, request: impl Fn(&Ids) -> M + 'static) -> Self {
        let key = ApiKey::from_i16(M::KEY).expect("a client's key");
        let shown = format!("{:?}", request(&Ids::default()));
        let frame = move |ids: &Ids| {
            frame::request(1, Some("differential"), version, &request(ids)).expect("writable").concat()
        };
        Self { key, version, frame: Box::new(frame), shown, kind: "", learns: None }
    }
}

pub struct Side {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    pub ids: Ids,
}

impl Side {
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: None, ids: Ids::default() }
    }

    /// The answer as a tree with topic ids replaced by names; a word when the connection was closed instead.
    pub async fn ask(&mut self, step: &Step) -> Value {
        let request = (step.frame)(&self.ids);
        let Some(answer) = self.exchange(&request).await else {
            self.stream = None;
            return Value::String("closed the connection".into());
        };
        let body = answer.slice(4 + usize::from(step.key.response_header_version(step.version) == 1)..);
        let name = format!("{}Response", step.key.name());
        let message = MESSAGES.iter().find(|message| message.name == name).expect("every key has a response");
        let (_, text) = (message.recode)(&body, step.version).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut tree = tree::parse(&text);
        if let Some(id) = step.learns {
            let told = (tree["producer_id"].as_i64(), tree["producer_epoch"].as_i64());
            if let (Some(producer_id @ 0..), Some(epoch)) = told {
                self.ids.2.insert(id.to_owned(), (producer_id, i16::try_from(epoch).expect("an epoch")));
            }
        }
        tree::each_field(&mut tree, &mut |field, value| {
            if field == "topic_id"
                && let Some(id) = value.as_str().filter(|id| Uuid::parse_str(id).is_ok_and(|id| !id.is_nil()))
            {
                let named = self.ids.name(id).map(|name| format!("id of {name}"));
                *value = Value::String(named.unwrap_or_else(|| "an id".into()));
            }
            if field == "producer_id"
                && let Some(id) = value.as_i64().filter(|id| *id >= 0)
            {
                let owner = self.ids.owner(id).map(|id| format!("producer of {id}"));
                *value = Value::String(owner.unwrap_or_else(|| "a producer".into()));
            }
        });
        tree
    }

    async fn exchange(&mut self, request: &[u8]) -> Option<Bytes> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(TcpStream::connect(self.addr).await.expect("a connection")),
        };
        stream.write_all(request).await.ok()?;
        let answer = async {
            let size = stream.read_i32().await.ok()?;
            let mut frame = vec![0; size as usize];
            stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.expect("an answer in time")
    }

    async fn call<T: Message>(&mut self, version: i16, request: &impl Message) -> T {
        let request = frame::request(1, Some("differential"), version, request).expect("writable").concat();
        let answer = self.exchange(&request).await.expect(T::NAME);
        frame::read_response::<T>(&answer, version).expect("readable").1
    }

    /// Learns the topics' ids; the topics with their numbers of partitions that are led.
    pub async fn learn(&mut self) -> Vec<(String, usize)> {
        let all = MetadataRequest { topics: None, ..Default::default() };
        let metadata: MetadataResponse = self.call(METADATA, &all).await;
        let named = metadata.topics.iter().filter_map(|topic| Some((topic.name.clone()?, topic)));
        let named: Vec<_> = named.collect();
        // Ids of topics that are gone stay known: an answer about them is about the same topic on both sides.
        named.iter().for_each(|(name, topic)| self.ids.learn(name.clone(), topic.topic_id));
        let public = named.iter().filter(|(_, topic)| !topic.is_internal);
        let mut topics = self.led(public.map(|(name, topic)| (name.clone(), topic.partitions.len()))).await;
        topics.sort();
        topics
    }

    /// Topics with their numbers of partitions that take requests: Kafka tells of a new topic a little earlier.
    async fn led(&mut self, topics: impl Iterator<Item = (String, usize)>) -> Vec<(String, usize)> {
        let partition = |n: usize| ListOffsetsPartition {
            partition_index: i32::try_from(n).expect("few partitions"),
            current_leader_epoch: -1,
            timestamp: LATEST,
        };
        let topics = topics
            .map(|(name, count)| ListOffsetsTopic { name, partitions: (0..count).map(partition).collect() })
            .collect();
        let all = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 1000 };
        let told: ListOffsetsResponse = self.call(LIST_OFFSETS, &all).await;
        let led = |code: i16| code == ErrorCode::None.code();
        told.topics
            .into_iter()
            .map(|t| (t.name, t.partitions.iter().filter(|p| led(p.error_code)).count()))
            .collect()
    }
}
