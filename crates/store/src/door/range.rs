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
use mvcc::{StateError, read};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint, message};
use store_api::{Error, KeyRange, RangeRequest};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};

use super::grpc::HEAD_BYTES;
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
/// Room for the answer to a read of one key, of the size most have.
const ANSWER_BYTES: usize = 1536;
/// A longer answer is made of pieces of about this length.
const PIECE_BYTES: usize = 256 * 1024;
/// Keys that are read before others help.
const ALONE_KEYS: usize = 4096;
/// Threads that read one range at most.
const SCANS_MAX: usize = 4;

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
        let written = write(&self.door, &store?, asked).await.map_err(|refusal| error::status(&refusal))?;
        // tonic makes the head itself.
        Ok(tonic::Response::new(Bytes::from(written.concat()).slice(HEAD_BYTES..)))
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
            let metrics = this.door.metrics.clone();
            let method = tower::service_fn(move |request| {
                let (this, metrics) = (this.clone(), metrics.clone());
                async move { metrics.ranged(this.range(request)).await }
            });
            Ok(Grpc::new(Codec).unary(method, request).await)
        })
    }
}

/// The same for a read that may be long.
pub(super) async fn write(
    door: &Arc<Door>,
    store: &Acting,
    request: RangeRequest,
) -> Result<Vec<Bytes>, Error> {
    let view = store.view(&request.range, request.serializable).await?;
    let door = door.clone();
    // A scan may be long, and may wait for the disk: not on a thread that serves connections.
    let written = tokio::task::spawn_blocking(move || write_framed(&door, &view, &request)).await;
    written.unwrap_or_else(|join| Err(Error::Unavailable(format!("the read was not finished: {join}"))))
}

/// What is written of an answer, in pieces, so that a long one is never copied while it grows.
struct Pieces {
    full: Vec<BytesMut>,
    now: BytesMut,
}

impl Pieces {
    fn new() -> Self {
        Self { full: Vec::new(), now: BytesMut::with_capacity(ANSWER_BYTES) }
    }

    fn record(&mut self, key: &[u8], mut record: Record<'_>, key_only: bool) {
        if key_only {
            record.value = &[];
        }
        put_key_value(&mut self.now, key, &record);
        if self.now.len() >= PIECE_BYTES {
            let next = BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
            self.full.push(std::mem::replace(&mut self.now, next));
        }
    }

    fn append(&mut self, more: Self) {
        self.full.push(std::mem::take(&mut self.now));
        self.full.extend(more.full);
        self.now = more.now;
    }

    /// All of it, with the length in its head.
    fn framed(mut self) -> Result<Vec<Bytes>, Error> {
        self.full.push(self.now);
        let len = self.full.iter().map(BytesMut::len).sum::<usize>() - HEAD_BYTES;
        let len = u32::try_from(len).map_err(|_| Error::Unavailable("the answer is too large".to_owned()))?;
        self.full[0][1..HEAD_BYTES].copy_from_slice(&len.to_be_bytes());
        Ok(self.full.into_iter().map(BytesMut::freeze).collect())
    }
}

/// The answer behind its message's head.
pub(super) fn write_framed(door: &Door, view: &View, request: &RangeRequest) -> Result<Vec<Bytes>, Error> {
    door.store.inner.health.look(try_write_framed(door, view, request))
}

fn try_write_framed(door: &Door, view: &View, request: &RangeRequest) -> Result<Vec<Bytes>, Error> {
    let mut out = Pieces::new();
    out.now.put_bytes(0, HEAD_BYTES);
    message::encode(HEADER, &door.header(Some(read::revision(view)?)), &mut out.now);
    let (written, count) = match &request.range {
        KeyRange::Span { start, end } if request.limit == 0 => {
            let count = write_span(view, (start, end), request.keys_only, &mut out)?;
            (count, count)
        }
        range => {
            let mut written = 0;
            let count = read::records(view, range, request.limit, !request.keys_only, &mut |key, record| {
                out.record(key, record, request.keys_only);
                written += 1;
                Ok(())
            })?;
            (written, count)
        }
    };
    put_number(&mut out.now, MORE_KEY, i64::from(written < count));
    put_number(&mut out.now, COUNT_KEY, i64::try_from(count).unwrap_or(i64::MAX));
    out.framed()
}

/// Writes all keys of a span; how many. A long one is read by several threads, each a part: what takes time is reading
/// the state's pages.
fn write_span(
    view: &View,
    (start, end): (&Bytes, &Bytes),
    keys_only: bool,
    out: &mut Pieces,
) -> Result<usize, StateError> {
    let span = KeyRange::Span { start: start.clone(), end: end.clone() };
    let (mut count, next) = write_part(view, &span, ALONE_KEYS, keys_only, out)?;
    let Some(next) = next else { return Ok(count) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(SCANS_MAX);
    let parts = read::cut(view, &next, end, cores as u64)?;
    let scan = |part: &KeyRange| {
        let mut out = Pieces::new();
        write_part(view, part, usize::MAX, keys_only, &mut out).map(|(count, _)| (count, out))
    };
    let (mine, others) = parts.split_first().unwrap_or((&span, &[]));
    std::thread::scope(|scope| {
        let spawn = |part| {
            std::thread::Builder::new().name("store-scan".into()).spawn_scoped(scope, move || scan(part))
        };
        let others: Vec<_> = others.iter().map(|part| (part, spawn(part))).collect();
        let mine = write_part(view, mine, usize::MAX, keys_only, out)?;
        count += mine.0;
        for (part, thread) in others {
            // Without a thread to spare, or from one that panicked, the part is read here.
            let done = thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| scan(part));
            let (more, pieces) = done?;
            count += more;
            out.append(pieces);
        }
        Ok(count)
    })
}

/// Writes at most `max` keys of a range: how many, and where to go on.
fn write_part(
    view: &View,
    range: &KeyRange,
    max: usize,
    keys_only: bool,
    out: &mut Pieces,
) -> Result<(usize, Option<Bytes>), StateError> {
    let mut count = 0;
    let next = read::first_records(view, range, max, !keys_only, &mut |key, record| {
        out.record(key, record, keys_only);
        count += 1;
        Ok(())
    })?;
    Ok((count, next))
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
