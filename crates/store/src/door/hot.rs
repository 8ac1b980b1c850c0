//! The calls that come thousands of times a second, from bytes to bytes: KV's Put, Range, Txn and DeleteRange past the
//! generated service.
//!
//! ```text
//! body ──▶ one whole message ──▶ decode (keys and values share its bytes) ──▶ store ──▶ one buffer: head, answer
//! ```
//! Whatever is unusual (several messages, a compressed or an oversized one, bytes that are no message, a read that takes
//! a thread of its own) is left to the ordinary service, which sees the same body from its start.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use etcd_wire::etcdserverpb as pb;
use h2::server::SendResponse;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, request};
use prost::Message;
use store_api::KeyRange;
use tonic::{Code, Status};

use super::grpc::{HEAD_BYTES, Services};
use super::http2::Received;
use super::kv;
use super::metrics::{Calls, Metrics};
use super::{Door, MESSAGE_BYTES_MAX, Peer, convert, range};
use crate::auth::Acting;

/// What is served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Put,
    Range,
    Txn,
    DeleteRange,
}

impl Method {
    pub(super) const ALL: [Self; 4] = [Self::Put, Self::Range, Self::Txn, Self::DeleteRange];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::DeleteRange => "/etcdserverpb.KV/DeleteRange",
        }
    }

    /// The method that an ordinary call of gRPC asks for, if it is one of these.
    pub(super) fn of(head: &request::Parts) -> Option<Self> {
        let content = head.headers.get(header::CONTENT_TYPE)?;
        let plain = head.method == http::Method::POST
            && (content == "application/grpc" || content == "application/grpc+proto")
            && !head.headers.contains_key("grpc-encoding");
        let path = head.uri.path();
        Self::ALL.into_iter().find(|method| plain && method.path() == path)
    }
}

/// An answer behind its head, in pieces; or the refusal.
type Outcome = Result<Vec<Bytes>, Status>;

/// What a call came to.
pub(super) struct Answer<'d> {
    result: Outcome,
    metrics: &'d Metrics,
    calls: &'d Calls,
}

impl Answer<'_> {
    /// Sends it; counts what became of it.
    pub(super) fn send(self, respond: SendResponse<Bytes>) {
        let code = match &self.result {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        };
        let sent = match self.result {
            Ok(pieces) => {
                self.metrics.sent(pieces.iter().map(Bytes::len).sum());
                self.calls.sent.add(1);
                send_message(respond, pieces)
            }
            Err(status) => send_refusal(respond, status),
        };
        // An error means that the client is gone, or the connection.
        self.calls.ended(if sent.is_ok() { code } else { Code::Cancelled });
    }
}

fn response() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn send_message(mut respond: SendResponse<Bytes>, pieces: Vec<Bytes>) -> Result<(), h2::Error> {
    let mut out = respond.send_response(response(), false)?;
    // What the client has no room for yet waits in the stream, as long as it would here.
    for piece in pieces {
        out.send_data(piece, false)?;
    }
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    out.send_trailers(trailers)
}

fn send_refusal(mut respond: SendResponse<Bytes>, status: Status) -> Result<(), h2::Error> {
    let (mut head, ()) = status.into_http::<()>().into_parts();
    head.extensions.clear();
    respond.send_response(Response::from_parts(head, ()), true).map(drop)
}

/// Serves a call; None when it is not for this place. The body can then be read from its start.
pub(super) async fn call<'d>(
    services: &'d Services,
    method: Method,
    head: &request::Parts,
    peer: &Peer,
    body: &mut Received,
) -> Option<Answer<'d>> {
    let door = services.door();
    let whole = body.whole(HEAD_BYTES + MESSAGE_BYTES_MAX).await?;
    let (frame, message) = whole.split_first_chunk::<HEAD_BYTES>()?;
    let [flag, len @ ..] = *frame;
    if flag != 0 || u32::from_be_bytes(len) as usize != message.len() {
        return None;
    }
    let message = whole.slice(HEAD_BYTES..);
    let result = if super::needs_leader(&head.headers)
        && let Err(status) = door.check_leader()
    {
        Err(status)
    } else {
        let acting = door.acting_for(&head.headers, Some(peer)).await;
        match method {
            Method::Put => {
                let put = kv::put(door, acting, pb::PutRequest::decode(message).ok()?).await;
                put.map(|response| framed(&response))
            }
            Method::Range => read(door, acting, pb::RangeRequest::decode(message).ok()?)?.await,
            Method::Txn => {
                let txn = kv::txn(door, acting, pb::TxnRequest::decode(message).ok()?).await;
                txn.map(|response| framed(&response))
            }
            Method::DeleteRange => {
                let request = pb::DeleteRangeRequest::decode(message).ok()?;
                kv::delete_range(door, acting, request).await.map(|response| framed(&response))
            }
        }
    };
    let metrics = &*door.metrics;
    metrics.received(whole.len());
    let calls = metrics.begun(method);
    metrics.asked(&head.headers, "unary");
    Some(Answer { result, metrics, calls })
}

/// A message behind its head.
fn framed(message: &impl Message) -> Vec<Bytes> {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + len);
    out.put_u8(0);
    // Answers of single calls are far below 4 GiB.
    out.put_u32(len as u32);
    message.encode_raw(&mut out);
    vec![out.freeze()]
}

/// A read of keys as they are now; None for every other read.
fn read(
    door: &Arc<Door>,
    acting: Result<Acting, Status>,
    request: pb::RangeRequest,
) -> Option<impl Future<Output = Outcome> + use<'_>> {
    let asked = convert::range(request).ok()?;
    let simple = mvcc::read::is_of_now(&asked);
    simple.then_some(door.metrics.ranged(async move {
        let store = acting?;
        if !matches!(asked.range, KeyRange::One(_)) {
            return range::write(door, &store, asked).await.map_err(kv::refused);
        }
        let view = store.view(&asked.range, asked.serializable).await.map_err(kv::refused)?;
        range::write_framed(door, &view, &asked).map_err(kv::refused)
    }))
}
