//! A small client of Kafka's protocol: one connection to a broker, a request and its answer at a time.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kafka_wire::messages::metadata_request::MetadataRequestTopic;
use kafka_wire::messages::metadata_response::MetadataResponseTopic;
use kafka_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse};
use kafka_wire::{ErrorCode, Message, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer accepted: a fetch of a very large batch fits.
const ANSWER_BYTES_MAX: usize = 128 << 20;
const CLIENT_ID: &str = "ketch";
const API_VERSIONS: i16 = 3;
const METADATA: i16 = 9;

/// A connection and what the broker said it serves.
pub struct Client {
    stream: TcpStream,
    served: HashMap<i16, (i16, i16)>,
    correlation_id: i32,
}

impl Client {
    /// Connects and asks for the versions served.
    ///
    /// # Errors
    /// When nobody answers there in Kafka's protocol.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, served: HashMap::new(), correlation_id: 0 };
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let answer: ApiVersionsResponse = client
            .exchange(&request, API_VERSIONS)
            .await
            .with_context(|| format!("{address} speaks no Kafka"))?;
        check(answer.error_code, None)?;
        let ranges = answer.api_keys.iter().map(|key| (key.api_key, (key.min_version, key.max_version)));
        client.served = ranges.collect();
        Ok(client)
    }

    /// Asks in this version.
    ///
    /// # Errors
    /// When the broker does not serve the version, or does not answer.
    pub async fn call<Q: Message, A: Message>(&mut self, request: &Q, version: i16) -> Result<A> {
        match self.served.get(&Q::KEY) {
            Some((min, max)) if (*min..=*max).contains(&version) => self.exchange(request, version).await,
            _ => bail!("the broker does not serve version {version} of {}", Q::NAME),
        }
    }

    async fn exchange<Q: Message, A: Message>(&mut self, request: &Q, version: i16) -> Result<A> {
        self.correlation_id += 1;
        for chunk in frame::request(self.correlation_id, Some(CLIENT_ID), version, request)? {
            self.stream.write_all(&chunk).await?;
        }
        let size = self.stream.read_u32().await.context("the broker closed the connection")? as usize;
        if size > ANSWER_BYTES_MAX {
            bail!("an answer of {size} bytes");
        }
        let mut answer = Vec::new();
        // Memory follows the bytes that come, not the size announced.
        (&mut self.stream).take(size as u64).read_to_end(&mut answer).await?;
        if answer.len() < size {
            bail!("the broker closed the connection");
        }
        let (correlation_id, message) = frame::read_response::<A>(&Bytes::from(answer), version)?;
        if correlation_id != self.correlation_id {
            bail!("the broker answered another request");
        }
        Ok(message)
    }

    /// Metadata of some topics, or of all.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn metadata(&mut self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse> {
        let wanted = |name: &&str| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(wanted).collect()),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        self.call(&request, METADATA).await
    }

    /// The topic's metadata, partitions in order.
    ///
    /// # Errors
    /// When there is no such topic.
    pub async fn topic(&mut self, name: &str, create: bool) -> Result<MetadataResponseTopic> {
        let mut metadata = self.metadata(Some(&[name]), create).await?;
        let mut topic = metadata.topics.pop().context("the broker did not answer about the topic")?;
        check(topic.error_code, None).with_context(|| format!("topic '{name}'"))?;
        topic.partitions.sort_by_key(|partition| partition.partition_index);
        Ok(topic)
    }
}

/// An error code with its text, if it is one.
///
/// # Errors
/// When the code is not zero.
pub fn check(code: i16, message: Option<&str>) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    let known = ErrorCode::from_i16(code);
    let name = known.map_or_else(|| format!("error {code}"), |code| code.name().to_owned());
    let text =
        message.filter(|text| !text.is_empty()).or(known.map(|code| code.message())).unwrap_or_default();
    bail!("{name}: {text}")
}
