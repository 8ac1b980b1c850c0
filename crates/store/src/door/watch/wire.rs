//! Answers of a watch stream as bytes. Events are encoded once and shared by all watches that see the same.
//!
//! ```text
//! WatchResponse: header (1), watch_id (2), created..fragment (3-7), events (11): bytes of these parts may be joined.
//! Events { head: field 1 | watch_id | tail: fields 7 and 11 }
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use mvcc::watch::Delivery;
use prost::Message as _;
use prost::encoding::{encode_varint, message};
use store_api::{Event, EventKind};
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};

use crate::door::grpc::HEAD_BYTES;
use crate::door::{MESSAGE_BYTES_MAX, convert};

/// Field numbers of `WatchResponse`.
const HEADER: u32 = 1;
const EVENTS: u32 = 11;
/// The key of a varint field: number << 3.
const WATCH_ID_KEY: u8 = 2 << 3;
const FRAGMENT_KEY: u8 = 7 << 3;
/// What a watch id takes up at most.
const WATCH_ID_BYTES: usize = 11;
/// Bytes of answers sent on together.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// One answer.
pub(super) enum Wire {
    Control(pb::WatchResponse),
    Events { head: Bytes, watch_id: i64, tail: Bytes },
}

/// The answer's head, for many answers.
pub(super) fn head(header: &pb::ResponseHeader) -> Bytes {
    let mut out = BytesMut::new();
    message::encode(HEADER, header, &mut out);
    out.freeze()
}

/// The events of a delivery, encoded by the first who asks.
pub(super) fn shared(delivery: &Delivery, prev_kv: bool) -> Bytes {
    delivery.encoded[usize::from(prev_kv)].get_or_init(|| events(delivery.events.iter(), prev_kv)).clone()
}

/// Events as they stand in an answer.
pub(super) fn events<'a>(events: impl Iterator<Item = &'a Event>, prev_kv: bool) -> Bytes {
    let mut out = BytesMut::new();
    for event in events {
        message::encode(EVENTS, &wire_event(event, prev_kv), &mut out);
    }
    out.freeze()
}

fn wire_event(event: &Event, prev_kv: bool) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind as i32,
        kv: Some(convert::key_value(event.kv.clone())),
        prev_kv: event.prev_kv.clone().filter(|_| prev_kv).map(convert::key_value),
    }
}

/// Events cut so that no answer is larger than a request may be, as far as single events allow; all but the last are
/// marked as fragments.
pub(super) fn fragments(head: &Bytes, seen: &[&Event], prev_kv: bool) -> Vec<Bytes> {
    // The watch id and the fragment's mark take up to 13 bytes.
    let room = MESSAGE_BYTES_MAX.saturating_sub(head.len() + 13);
    let mut pieces = vec![BytesMut::new()];
    for event in seen {
        let mut one = BytesMut::new();
        message::encode(EVENTS, &wire_event(event, prev_kv), &mut one);
        match pieces.last_mut() {
            Some(last) if last.is_empty() || last.len() + one.len() < room => last.extend_from_slice(&one),
            _ => pieces.push(one),
        }
    }
    let last = pieces.len() - 1;
    for piece in &mut pieces[..last] {
        let mut marked = BytesMut::with_capacity(piece.len() + 2);
        marked.put_slice(&[FRAGMENT_KEY, 1]);
        marked.extend_from_slice(piece);
        *piece = marked;
    }
    pieces.into_iter().map(BytesMut::freeze).collect()
}

impl Wire {
    /// Appends the answer as a message of gRPC: a flag, the length, the message.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Control(response) => {
                put_message(out, response.encoded_len(), |out| response.encode_raw(out))
            }
            Self::Events { head, watch_id, tail } => put_events(out, head, *watch_id, tail),
        }
    }
}

/// The same for events, which many watches share.
pub(super) fn put_events(out: &mut BytesMut, head: &[u8], watch_id: i64, tail: &[u8]) {
    put_message(out, head.len() + tail.len() + WATCH_ID_BYTES, |out| {
        out.put_slice(head);
        if watch_id != 0 {
            out.put_u8(WATCH_ID_KEY);
            encode_varint(watch_id.cast_unsigned(), out);
        }
        out.put_slice(tail);
    });
}

/// Appends a message of at most `len` bytes behind its head.
fn put_message(out: &mut BytesMut, len: usize, write: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    // The second message of a batch shows that there will be many: then there is room for a whole one at once.
    let whole = if at == 0 { 0 } else { BATCH_BYTES.saturating_sub(at) };
    if out.capacity() - at < HEAD_BYTES + len {
        out.reserve((HEAD_BYTES + len).max(whole + HEAD_BYTES + len));
    }
    out.put_bytes(0, HEAD_BYTES);
    write(out);
    // One answer holds what one read of history or one batch brought: far below 4 GiB.
    let len = (out.len() - at - HEAD_BYTES) as u32;
    out[at + 1..at + HEAD_BYTES].copy_from_slice(&len.to_be_bytes());
}

/// Decodes requests.
#[derive(Clone, Copy)]
pub(super) struct Requests;

impl Decoder for Requests {
    type Item = pb::WatchRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<pb::WatchRequest>, Status> {
        let request = pb::WatchRequest::decode(bytes);
        let garbage = |e| Status::internal(format!("grpc: failed to unmarshal the received message: {e}"));
        request.map(Some).map_err(garbage)
    }
}
