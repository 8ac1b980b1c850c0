//! One side of the comparison: any method by its path, bytes in and bytes out, so that even garbage can be sent.

use std::time::Duration;

use etcd_wire::etcdserverpb as pb;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Longer than any answer takes; a server that hangs fails the test instead of stalling it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends and receives encoded messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}

/// A call: which method, and the request as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Call {
    /// Such as `/etcdserverpb.KV/Range`.
    pub path: String,
    pub request: Bytes,
}

impl Call {
    pub fn new(path: &str, request: &impl Message) -> Self {
        Self { path: path.to_owned(), request: request.encode_to_vec().into() }
    }
}

/// What a server said: an encoded message, or a code and a text.
pub type Answer = Result<Bytes, (Code, String)>;

/// A server under comparison.
#[derive(Clone)]
pub struct Side {
    pub name: &'static str,
    pub channel: Channel,
    /// Sent as `token` with every call.
    pub token: Option<String>,
}

impl Side {
    pub fn new(name: &'static str, address: &str) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self { name, channel: endpoint.connect_lazy(), token: None }
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(PATIENCE);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    /// Calls a method that answers with one message.
    pub async fn unary(&self, call: &Call) -> Answer {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        grpc.ready().await.unwrap();
        let path = call.path.parse().unwrap();
        let answer = grpc.unary(self.request(call.request.clone()), path, Raw).await;
        answer.map(tonic::Response::into_inner).map_err(said)
    }

    /// Sends messages on a stream and takes the first message that comes back.
    pub async fn stream(&self, call: &Call) -> Answer {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = call.path.parse().unwrap();
        let requests = tokio_stream::iter([call.request.clone()]);
        let answers = grpc.streaming(self.request(requests), path, Raw).await;
        let mut answers = answers.map_err(said)?.into_inner();
        let first = tokio::time::timeout(PATIENCE, answers.message()).await;
        let first = first.map_err(|_| (Code::Unknown, format!("{}: no answer", self.name)))?;
        first.map_err(said)?.ok_or_else(|| (Code::Ok, "the stream ended".to_owned()))
    }

    /// The store's revision, learned by a read.
    pub async fn revision(&self) -> i64 {
        let range = pb::RangeRequest { key: "revision".into(), ..Default::default() };
        let answer = self.unary(&Call::new("/etcdserverpb.KV/Range", &range)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error:?}", self.name));
        pb::RangeResponse::decode(answer).unwrap().header.unwrap().revision
    }
}

/// The code and text of a status.
pub fn said(status: Status) -> (Code, String) {
    (status.code(), status.message().to_owned())
}
