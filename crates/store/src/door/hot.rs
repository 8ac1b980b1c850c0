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
use super::http2::{self, Received};
use super::kv;
use super::metrics::Calls;
use super::range::{self, Written};
use super::{Door, MESSAGE_BYTES_MAX, Peer, convert};
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

/// An answer behind its head; or the refusal.
type Outcome = Result<Written, Status>;

/// What a call came to.
pub(super) struct Answer<'d> {
    result: Outcome,
    door: &'d Arc<Door>,
    calls: &'d Calls,
}

impl Answer<'_> {
    /// Sends it; counts what became of it.
    pub(super) async fn send(self, respond: SendResponse<Bytes>) {
        let sent = match self.result {
            Ok(Written { pieces, rest }) => {
                let rest_bytes = rest.as_ref().map_or(0, |rest| rest.left());
                self.door.metrics.sent(rest_bytes + pieces.iter().map(Bytes::len).sum::<usize>());
                self.calls.sent.add(1);
                match rest {
                    None => send_message(respond, pieces).map(|()| Code::Ok),
                    // Apart, so that what every call takes up is small.
                    Some(rest) => Box::pin(send_long(self.door, respond, pieces, rest)).await,
                }
            }
            Err(status) => {
                let code = status.code();
                send_refusal(respond, status).map(|()| code)
            }
        };
        // An error means that the client is gone, or the connection.
        self.calls.ended(sent.unwrap_or(Code::Cancelled));
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
    out.send_trailers(all_sent())
}

fn all_sent() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

/// Sends an answer that is made while it is sent: each step is read while the one before it leaves, as fast as the client
/// takes them. What the call ends with.
async fn send_long(
    door: &Arc<Door>,
    mut respond: SendResponse<Bytes>,
    mut pieces: Vec<Bytes>,
    mut rest: Box<range::Answer>,
) -> Result<Code, h2::Error> {
    let mut out = respond.send_response(response(), false)?;
    while !pieces.is_empty() {
        let reading = range::next(door, rest);
        let sending = async {
            for piece in pieces {
                out.send_data(piece, false)?;
            }
            http2::room(&mut out).await
        };
        let (read, sent) = tokio::join!(reading, sending);
        sent?;
        match read {
            Ok(read) => (pieces, rest) = read,
            Err(refusal) => {
                // The message is not whole: the client is told why instead of its end.
                let status = kv::refused(refusal);
                let mut trailers = HeaderMap::new();
                // What cannot be told in a header is left out of the text.
                let _ = status.add_header(&mut trailers);
                out.send_trailers(trailers)?;
                return Ok(status.code());
            }
        }
    }
    out.send_trailers(all_sent())?;
    Ok(Code::Ok)
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
    let metrics = &door.metrics;
    metrics.received(whole.len());
    let calls = metrics.begun(method);
    metrics.asked(&head.headers, "unary");
    Some(Answer { result, door, calls })
}

/// A message behind its head.
fn framed(message: &impl Message) -> Written {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + len);
    out.put_u8(0);
    // Answers of single calls are far below 4 GiB.
    out.put_u32(len as u32);
    message.encode_raw(&mut out);
    Written { pieces: vec![out.freeze()], rest: None }
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
