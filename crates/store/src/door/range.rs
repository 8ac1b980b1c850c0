//! Range, past the generated service: the answer is written straight from the scan.
//!
//! ```text
//! redb scan ──key, record──▶ bytes of RangeResponse ──▶ frame
//! ```
//! A list of a hundred thousand keys so costs no value of its own for each key. Reads of single keys, of the past, and
//! those that are sorted or bounded go the ordinary way.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_server::{Kv as _, KvServer};
use http::{Request, Response};
use mvcc::layout::Record;
use mvcc::read;
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint, message};
use store_api::{Error, KeyRange, RangeRequest};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};

use super::kv::Kv;
use super::{Door, convert, error};
use crate::auth::Acting;
use crate::db::View;

/// Keys of fields: number << 3 | kind, of `RangeResponse` ...
const HEADER: u32 = 1;
const KVS_KEY: u8 = 2 << 3 | LENGTH_DELIMITED;
const MORE_KEY: u8 = 3 << 3;
const COUNT_KEY: u8 = 4 << 3;
/// ... and of `KeyValue`.
const KEY_KEY: u8 = 1 << 3 | LENGTH_DELIMITED;
const CREATE_KEY: u8 = 2 << 3;
const MOD_KEY: u8 = 3 << 3;
const VERSION_KEY: u8 = 4 << 3;
const VALUE_KEY: u8 = 5 << 3 | LENGTH_DELIMITED;
const LEASE_KEY: u8 = 6 << 3;
const LENGTH_DELIMITED: u8 = 2;

/// The KV service with its own Range.
#[derive(Clone)]
pub(crate) struct KvService {
    door: Arc<Door>,
    rest: KvServer<Kv>,
}

impl NamedService for KvService {
    const NAME: &'static str = "etcdserverpb.KV";
}

impl KvService {
    pub(crate) fn new(door: &Arc<Door>) -> Self {
        Self { door: door.clone(), rest: KvServer::new(Kv(door.clone())) }
    }

    async fn range(
        self,
        request: tonic::Request<pb::RangeRequest>,
    ) -> Result<tonic::Response<Bytes>, Status> {
        let store = self.door.acting(&request).await;
        let asked = convert::range(request.get_ref().clone())?;
        if matches!(asked.range, KeyRange::One(_)) || !read::is_of_now(&asked) {
            let answer = Kv(self.door.clone()).range(request).await?;
            return Ok(answer.map(|answer| answer.encode_to_vec().into()));
        }
        let written = write(&self.door, store?, asked).await;
        written.map(tonic::Response::new).map_err(|refusal| error::status(&refusal))
    }
}

impl tower::Service<Request<Body>> for KvService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != "/etcdserverpb.KV/Range" {
            return tower::Service::call(&mut self.rest, request);
        }
        let this = self.clone();
        Box::pin(async move {
            let method = tower::service_fn(move |request| this.clone().range(request));
            Ok(Grpc::new(Codec).unary(method, request).await)
        })
    }
}

async fn write(door: &Arc<Door>, store: Acting, request: RangeRequest) -> Result<Bytes, Error> {
    let view = store.view(&request.range, request.serializable).await?;
    let door = door.clone();
    // A scan may be long, and may wait for the disk: not on a thread that serves connections.
    let written = tokio::task::spawn_blocking(move || write_from(&door, &view, &request)).await;
    written.unwrap_or_else(|join| Err(Error::Unavailable(format!("the read was not finished: {join}"))))
}

fn write_from(door: &Door, view: &View, request: &RangeRequest) -> Result<Bytes, Error> {
    let mut out = BytesMut::new();
    message::encode(HEADER, &door.header(Some(read::revision(view)?)), &mut out);
    let mut written = 0;
    let count = read::records(view, &request.range, request.limit, &mut |key, mut record| {
        if request.keys_only {
            record.value = &[];
        }
        put_key_value(&mut out, key, &record);
        written += 1;
        Ok(())
    })?;
    put_number(&mut out, MORE_KEY, i64::from(written < count));
    put_number(&mut out, COUNT_KEY, i64::try_from(count).unwrap_or(i64::MAX));
    Ok(out.freeze())
}

fn put_key_value(out: &mut BytesMut, key: &[u8], record: &Record<'_>) {
    let Record { create_revision, mod_revision, version, lease, value } = *record;
    let numbers: usize = [create_revision, mod_revision, version, lease].into_iter().map(number_len).sum();
    let len = bytes_len(key) + numbers + bytes_len(value);
    out.reserve(len + 16);
    out.put_u8(KVS_KEY);
    encode_varint(len as u64, out);
    put_bytes(out, KEY_KEY, key);
    put_number(out, CREATE_KEY, create_revision);
    put_number(out, MOD_KEY, mod_revision);
    put_number(out, VERSION_KEY, version);
    put_bytes(out, VALUE_KEY, value);
    put_number(out, LEASE_KEY, lease);
}

/// A field that is its kind's zero is left out, as everywhere in protobuf 3.
fn number_len(number: i64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number.cast_unsigned()) }
}

fn put_number(out: &mut BytesMut, key: u8, number: i64) {
    if number != 0 {
        out.put_u8(key);
        encode_varint(number.cast_unsigned(), out);
    }
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + encoded_len_varint(bytes.len() as u64) + bytes.len() }
}

fn put_bytes(out: &mut BytesMut, key: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(key);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

/// Requests in, answers out that are bytes already.
#[derive(Clone, Copy)]
struct Codec;

impl tonic::codec::Codec for Codec {
    type Encode = Bytes;
    type Decode = pb::RangeRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Codec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.len());
        out.put(item);
        Ok(())
    }
}

impl Decoder for Codec {
    type Item = pb::RangeRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<pb::RangeRequest>, Status> {
        let request = pb::RangeRequest::decode(bytes);
        request.map(Some).map_err(|e| Status::internal(format!("grpc: error unmarshalling request: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_wire::mvccpb;

    #[test]
    fn a_record_is_written_as_protobuf_writes_it() {
        let cases =
            [(b"k".to_vec(), [1, 2, 3, 0]), (vec![7; 300], [i64::MAX, 1 << 40, 1, -1]), (vec![0], [0; 4])];
        for (bytes, [create_revision, mod_revision, version, lease]) in cases {
            for value in [Vec::new(), bytes.clone(), vec![1; 20_000]] {
                let mut out = BytesMut::new();
                let record = Record { create_revision, mod_revision, version, lease, value: &value };
                put_key_value(&mut out, &bytes, &record);
                put_number(&mut out, COUNT_KEY, 1);
                let kv = mvccpb::KeyValue {
                    key: bytes.clone().into(),
                    create_revision,
                    mod_revision,
                    version,
                    value: value.into(),
                    lease,
                };
                let expect = pb::RangeResponse { kvs: vec![kv], count: 1, ..pb::RangeResponse::default() };
                assert_eq!(out, expect.encode_to_vec());
            }
        }
    }
}
