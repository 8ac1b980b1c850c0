//! How far a topic and a group are, asked over Kafka's own protocol.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kafka_wire::Message;
use kafka_wire::frame;
use kafka_wire::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_wire::messages::list_offsets_response::ListOffsetsResponse;
use kafka_wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_wire::messages::metadata_response::MetadataResponse;
use kafka_wire::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use kafka_wire::messages::offset_fetch_response::OffsetFetchResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Versions spoken: old enough to be simple, new enough to be served for long.
const METADATA: i16 = 4;
const LIST_OFFSETS: i16 = 4;
const OFFSET_FETCH: i16 = 5;
/// Asks for the offset after the last record.
const LATEST: i64 = -1;
/// Longest answer accepted.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A connection that is made again when it breaks.
pub struct Offsets {
    broker: SocketAddr,
    stream: Option<TcpStream>,
    correlation_id: i32,
}

impl Offsets {
    /// Nothing is connected yet.
    pub fn new(broker: SocketAddr) -> Self {
        Self { broker, stream: None, correlation_id: 0 }
    }

    /// The end offset of each partition.
    ///
    /// # Errors
    /// When the topic does not exist or the broker does not answer.
    pub async fn end(&mut self, topic: &str) -> Result<Vec<i64>> {
        let partitions = self.partitions(topic).await?;
        let wanted = (0..partitions).map(|partition_index| ListOffsetsPartition {
            partition_index,
            current_leader_epoch: -1,
            timestamp: LATEST,
        });
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: topic.into(), partitions: wanted.collect() }],
            ..Default::default()
        };
        let response: ListOffsetsResponse = self.call(&request, LIST_OFFSETS).await?;
        let mut answered: Vec<_> = response.topics.into_iter().flat_map(|t| t.partitions).collect();
        answered.sort_by_key(|p| p.partition_index);
        Ok(answered.into_iter().map(|p| p.offset.max(0)).collect())
    }

    /// What the group has committed for each partition of `end`; nothing counts as 0.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn committed(&mut self, group: &str, topic: &str, end: &[i64]) -> Result<Vec<i64>> {
        let partition_indexes = (0..end.len() as i32).collect();
        let topics = vec![OffsetFetchRequestTopic { name: topic.into(), partition_indexes }];
        let request =
            OffsetFetchRequest { group_id: group.into(), topics: Some(topics), ..Default::default() };
        let response: OffsetFetchResponse = self.call(&request, OFFSET_FETCH).await?;
        let partitions = response.topics.into_iter().flat_map(|t| t.partitions);
        Ok(partitions.map(|p| p.committed_offset.max(0)).collect())
    }

    async fn partitions(&mut self, topic: &str) -> Result<i32> {
        let wanted = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response: MetadataResponse = self.call(&request, METADATA).await?;
        let found = response.topics.first().filter(|t| t.error_code == 0).context("no such topic")?;
        Ok(found.partitions.len() as i32)
    }

    async fn call<Q: Message, A: Message>(&mut self, request: &Q, version: i16) -> Result<A> {
        self.correlation_id += 1;
        let answer =
            self.exchange(frame::request(self.correlation_id, Some("ketch"), version, request)?).await;
        if answer.is_err() {
            self.stream = None;
        }
        Ok(frame::read_response::<A>(&answer?, version)?.1)
    }

    async fn exchange(&mut self, request: Vec<Bytes>) -> Result<Bytes> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(TcpStream::connect(self.broker).await?),
        };
        for chunk in request {
            stream.write_all(&chunk).await?;
        }
        let size = stream.read_u32().await? as usize;
        if size > ANSWER_BYTES_MAX {
            bail!("an answer of {size} bytes");
        }
        let mut answer = vec![0; size];
        stream.read_exact(&mut answer).await?;
        Ok(answer.into())
    }
}
