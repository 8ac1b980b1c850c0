//! A broker for a test, a raw client, and topics read back from directories.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod child;
pub mod kafka;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::task::Tasks;
use broker::{Handle, Options, Service};
use bytes::Bytes;
use kafka_wire::frame;
use kafka_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::messages::update_features_request::FeatureUpdateKey;
use kafka_wire::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchRequest, JoinGroupRequest, ProduceRequest,
    ProduceResponse, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use kafka_wire::record::{Builder, Producer};
use kafka_wire::{ErrorCode, Message};
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use store_api::{Op, Store, Txn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A broker in this process. Its store outlives it where the test keeps it.
pub struct Served {
    pub handle: Handle,
    pub tasks: Tasks,
    pub store: Arc<dyn Store>,
}

impl Served {
    /// Starts a broker in `dir` on a free port; groups do not wait for more members than there are.
    pub async fn start(dir: &Path) -> Self {
        Self::with(options(dir), testkit::MemStore::shared()).await
    }

    pub async fn with(options: Options, store: Arc<dyn Store>) -> Self {
        let tasks = Tasks::new();
        let handle = Service::start(options, store.clone(), &tasks).await.expect("the broker starts");
        Self { handle, tasks, store }
    }

    pub fn bootstrap(&self) -> String {
        self.handle.addr().to_string()
    }

    pub async fn raw(&self) -> Raw {
        Raw::connect(self.handle.addr()).await
    }

    pub async fn stop(self) {
        assert!(self.tasks.shutdown(Duration::from_secs(10)).await, "the broker stops");
    }
}

pub fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir, vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]);
    options.properties.insert("group.initial.rebalance.delay.ms".into(), "0".into());
    options
}

/// A client that speaks frames.
pub struct Raw {
    pub stream: TcpStream,
    pub client_id: &'static str,
    correlation_id: i32,
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("a connection");
        Self { stream, client_id: "test", correlation_id: 0 }
    }

    pub async fn send<Q: Message>(&mut self, version: i16, request: &Q) {
        self.correlation_id += 1;
        let chunks = frame::request(self.correlation_id, Some(self.client_id), version, request);
        for chunk in chunks.expect("a request") {
            self.stream.write_all(&chunk).await.expect("sent");
        }
    }

    pub async fn receive<A: Message>(&mut self, version: i16) -> A {
        let frame = self.frame().await.expect("an answer");
        let (correlation_id, answer) = frame::read_response(&frame, version).expect("readable");
        assert_eq!(correlation_id, self.correlation_id);
        answer
    }

    pub async fn call<Q: Message, A: Message>(&mut self, version: i16, request: &Q) -> A {
        self.send(version, request).await;
        self.receive(version).await
    }

    /// The next frame without its size; None when the broker closed the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let size = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; size as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }
}

#[track_caller]
pub fn code(error_code: i16) -> ErrorCode {
    ErrorCode::from_i16(error_code).expect("a known code")
}

/// A batch of small records, stamped now.
pub fn batch(count: i32, producer: Option<Producer>) -> Bytes {
    let mut builder = Builder::new();
    if let Some(producer) = producer {
        builder = builder.producer(producer);
    }
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    for n in 0..count {
        builder.append(now_ms + i64::from(n), Some(b"k"), Some(b"value"));
    }
    builder.build().unwrap()
}

pub fn produce(topic: &str, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: 0, records: Some(records) };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() }
}

/// Makes a topic of one partition.
pub async fn create(raw: &mut Raw, name: &str, configs: &[(&str, &str)]) -> ErrorCode {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: name.to_string(),
        value: Some(value.to_string()),
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let response: CreateTopicsResponse = raw.call(7, &request).await;
    code(response.topics[0].error_code)
}

/// Produces and gives error, base offset.
pub async fn append(raw: &mut Raw, topic: &str, records: Bytes) -> (ErrorCode, i64) {
    let response: ProduceResponse = raw.call(9, &produce(topic, -1, records)).await;
    let partition = &response.responses[0].partition_responses[0];
    (code(partition.error_code), partition.base_offset)
}

pub fn fetch(topic: &str, offset: i64, max_wait_ms: i32, min_bytes: i32) -> FetchRequest {
    let partition =
        FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_wait_ms, min_bytes, max_bytes: 1 << 20, topics: vec![topic], ..Default::default() }
}

/// Asks for a feature's level: an upgrade is of type 1, a safe downgrade of 2, an unsafe one of 3.
pub fn feature_level(feature: &str, max_version_level: i16, upgrade_type: i8) -> FeatureUpdateKey {
    FeatureUpdateKey { feature: feature.into(), max_version_level, allow_downgrade: false, upgrade_type }
}

/// Sets a feature's level; what is answered.
pub async fn set_feature(raw: &mut Raw, level: FeatureUpdateKey) -> (ErrorCode, String) {
    let request = UpdateFeaturesRequest { feature_updates: vec![level], ..Default::default() };
    let response: UpdateFeaturesResponse = raw.call(2, &request).await;
    (code(response.error_code), response.error_message.unwrap_or_default())
}

/// Joins the group `g` as a consumer; an empty id is a new member's.
pub fn join(member_id: &str, timeout_ms: i32) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"m") };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: timeout_ms,
        rebalance_timeout_ms: timeout_ms,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

/// The values that a reader of committed records (librdkafka) finds in partition 0 of a topic, in their order.
pub fn committed(bootstrap: &str, topic: &str, patience: Duration) -> Vec<String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "reader").set("enable.partition.eof", "true");
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, rdkafka::Offset::Beginning).expect("a partition");
    consumer.assign(&from).expect("assigned");
    let (mut values, deadline) = (Vec::new(), std::time::Instant::now() + patience);
    loop {
        assert!(std::time::Instant::now() < deadline, "{topic} does not end");
        match consumer.poll(Duration::from_secs(5)) {
            Some(Ok(message)) => {
                values.push(String::from_utf8(message.payload().unwrap().to_vec()).expect("text"));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return values,
            // The broker may be on its way up.
            Some(Err(_)) | None => {}
        }
    }
}

/// Puts the topics found on disk into a store, for brokers whose store was in memory.
pub async fn restore(dir: &Path, store: &Arc<dyn Store>) {
    let mut topics: BTreeMap<String, (String, i32)> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().expect("a name");
        let Some((topic, partition)) = name.rsplit_once('-') else { continue };
        let Ok(partition) = partition.parse::<i32>() else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("partition.metadata")) else { continue };
        let Some(id) = text.lines().nth(1).and_then(|line| line.strip_prefix("topic_id: ")) else { continue };
        let topic = topics.entry(topic.to_owned()).or_insert_with(|| (uuid_text(id), 0));
        topic.1 = topic.1.max(partition + 1);
    }
    for (name, (id, partitions)) in topics {
        let value = format!(r#"{{"id":"{id}","partitions":{partitions}}}"#);
        let put = Op::put(format!("/ketch/kafka/topics/{name}"), value);
        store.txn(Txn { success: vec![put], ..Txn::default() }).await.expect("a topic");
    }
}

/// base64url to 32 digits.
fn uuid_text(base64url: &str) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |c: u8| alphabet.iter().position(|a| *a == c).expect("base64url") as u128;
    let (last, head) = base64url.as_bytes().split_last().expect("not empty");
    let high = head.iter().fold(0u128, |n, c| n << 6 | digit(*c));
    format!("{:032x}", high << 2 | digit(*last) >> 4)
}
