//! An answer that lists keys, as bytes behind a message's head.
//!
//! ```text
//! scan ─▶ Plan: all but the values that are apart, and where those go ─▶ Answer ─▶ pieces, one step after the other
//! ```
//! The head of a message tells its length, which the tree knows without a look at the values. So values are read when they
//! are sent: a long answer is never in memory as a whole, its reading goes on beside its sending, and a client that
//! takes its time keeps nothing but the files of the values.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use mvcc::StateError;
use mvcc::layout::Record;

use super::super::grpc::HEAD_BYTES;
use crate::db::Current;
use crate::values::{self, Cursor, Pointer, Segments};

/// Keys of fields: number << 3 | kind, of `RangeResponse` ...
const KVS_KEY: u8 = 2 << 3 | LENGTH_DELIMITED;
/// ... and of `KeyValue`.
const KEY_KEY: u8 = 1 << 3 | LENGTH_DELIMITED;
const CREATE_KEY: u8 = 2 << 3;
const MOD_KEY: u8 = 3 << 3;
const VERSION_KEY: u8 = 4 << 3;
const VALUE_KEY: u8 = 5 << 3 | LENGTH_DELIMITED;
const LEASE_KEY: u8 = 6 << 3;
const LENGTH_DELIMITED: u8 = 2;
/// An answer is made of pieces of about this length.
const PIECE_BYTES: usize = 256 * 1024;

/// A part of an answer but for the values that are apart.
#[derive(Default)]
pub(super) struct Plan {
    pub bytes: Vec<u8>,
    /// Values that go in, in order: before which of the bytes, and where they are.
    apart: Vec<(usize, Pointer)>,
    /// Length of those values together.
    apart_bytes: usize,
    /// Keys in it.
    pub count: usize,
}

impl Plan {
    pub(super) fn add(&mut self, current: &Current<'_>, key_only: bool) -> Result<(), StateError> {
        self.count += 1;
        let Current { key, record, apart } = current;
        let value = if key_only { &[] } else { record.value };
        let Some(pointer) = apart.filter(|_| !key_only) else {
            let value_len = value.len();
            put_key_value(&mut self.bytes, key, &Record { value, ..*record }, value_len);
            return Ok(());
        };
        let value_len = (pointer.record_len as usize).checked_sub(values::HEAD_BYTES);
        let value_len = value_len.ok_or_else(|| {
            StateError::Corrupt(format!("the value of {} is shorter than its head", key.escape_ascii()))
        })?;
        let at = put_key_value(&mut self.bytes, key, &Record { value: &[], ..*record }, value_len);
        self.apart.push((at, pointer));
        self.apart_bytes += value_len;
        Ok(())
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.apart_bytes
    }
}

/// An answer that is being made.
pub(in crate::door) struct Answer {
    plans: VecDeque<Plan>,
    /// Of the first plan: how many bytes, and values, are done.
    done: (usize, usize),
    cursor: Cursor<Arc<Segments>>,
    /// Bytes to be made.
    left: usize,
}

impl Answer {
    /// The answer that these plans, the first of which begins with room for a message's head, come to; None when it is
    /// longer than a message can be.
    pub(super) fn new(mut plans: VecDeque<Plan>, segments: Arc<Segments>) -> Option<Self> {
        let left = plans.iter().map(Plan::len).sum::<usize>();
        let len = u32::try_from(left.checked_sub(HEAD_BYTES)?).ok()?;
        plans.front_mut()?.bytes[1..HEAD_BYTES].copy_from_slice(&len.to_be_bytes());
        Some(Self { plans, done: (0, 0), cursor: Cursor::new(segments), left })
    }

    /// Bytes to be made.
    pub(in crate::door) fn left(&self) -> usize {
        self.left
    }

    /// The next pieces, of about `bytes` together, or of all there is; none at the end. Reads files.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub(in crate::door) fn next(&mut self, bytes: usize) -> Result<Vec<Bytes>, StateError> {
        let (mut pieces, mut len) = (Vec::new(), 0);
        while len < bytes && self.left > 0 {
            let piece = self.piece()?;
            len += piece.len();
            pieces.push(piece);
        }
        Ok(pieces)
    }

    fn piece(&mut self) -> Result<Bytes, StateError> {
        let room = self.left.min(PIECE_BYTES + PIECE_BYTES / 8);
        let mut out = BytesMut::with_capacity(room);
        while out.len() < PIECE_BYTES
            && let Some(plan) = self.plans.front()
        {
            let (bytes, values) = &mut self.done;
            let Some((at, pointer)) = plan.apart.get(*values) else {
                let step = (plan.bytes.len() - *bytes).min(PIECE_BYTES);
                out.put_slice(&plan.bytes[*bytes..*bytes + step]);
                *bytes += step;
                if *bytes == plan.bytes.len() {
                    self.plans.pop_front();
                    self.done = (0, 0);
                }
                continue;
            };
            // What precedes a value is a key and some numbers, or keys whose values are short.
            let step = (at - *bytes).min(PIECE_BYTES);
            out.put_slice(&plan.bytes[*bytes..*bytes + step]);
            *bytes += step;
            if bytes == at {
                out.put_slice(&self.cursor.record(pointer)?[values::HEAD_BYTES..]);
                *values += 1;
            }
        }
        self.left -= out.len();
        Ok(out.freeze())
    }
}

/// A few fields, put together before they are appended at once.
struct Fields {
    bytes: [u8; FIELDS_BYTES],
    len: usize,
}

/// Four keys of fields and four numbers, of ten bytes at most.
const FIELDS_BYTES: usize = 4 * 11;

impl Fields {
    fn new() -> Self {
        Self { bytes: [0; FIELDS_BYTES], len: 0 }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    fn number(&mut self, key: u8, number: i64) {
        if number != 0 {
            self.byte(key);
            self.varint(number.cast_unsigned());
        }
    }

    /// What precedes the bytes of a field.
    fn bytes(&mut self, key: u8, len: usize) {
        if len != 0 {
            self.byte(key);
            self.varint(len as u64);
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Writes a key and its value, of which as much as the record has: where the rest of it, up to `value_len`, goes.
fn put_key_value(out: &mut Vec<u8>, key: &[u8], record: &Record<'_>, value_len: usize) -> usize {
    let Record { create_revision, mod_revision, version, lease, value } = *record;
    let (mut before, mut after, mut end) = (Fields::new(), Fields::new(), Fields::new());
    after.number(CREATE_KEY, create_revision);
    after.number(MOD_KEY, mod_revision);
    after.number(VERSION_KEY, version);
    after.bytes(VALUE_KEY, value_len);
    end.number(LEASE_KEY, lease);
    before.bytes(KEY_KEY, key.len());
    let len = before.len + key.len() + after.len + value_len + end.len;
    let mut head = Fields::new();
    head.byte(KVS_KEY);
    head.varint(len as u64);
    for part in [head.as_slice(), before.as_slice(), key, after.as_slice(), value] {
        out.extend_from_slice(part);
    }
    let at = out.len();
    out.extend_from_slice(end.as_slice());
    at
}

/// Writes a number; a field that is its kind's zero is left out, as everywhere in protobuf 3.
pub(super) fn put_number(out: &mut Vec<u8>, key: u8, number: i64) {
    let mut field = Fields::new();
    field.number(key, number);
    out.extend_from_slice(field.as_slice());
}

#[cfg(test)]
mod tests {
    use etcd_wire::etcdserverpb as pb;
    use etcd_wire::mvccpb;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_record_is_written_as_protobuf_writes_it() {
        let cases =
            [(b"k".to_vec(), [1, 2, 3, 0]), (vec![7; 300], [i64::MAX, 1 << 40, 1, -1]), (vec![0], [0; 4])];
        for (bytes, [create_revision, mod_revision, version, lease]) in cases {
            for value in [Vec::new(), bytes.clone(), vec![1; 20_000]] {
                let record = Record { create_revision, mod_revision, version, lease, value: &value };
                let mut out = Vec::new();
                put_key_value(&mut out, &bytes, &record, value.len());
                let mut later = Vec::new();
                let at = put_key_value(&mut later, &bytes, &Record { value: &[], ..record }, value.len());
                later.splice(at..at, value.iter().copied());
                let kv = mvccpb::KeyValue {
                    key: bytes.clone().into(),
                    create_revision,
                    mod_revision,
                    version,
                    value: value.into(),
                    lease,
                };
                let expect = pb::RangeResponse { kvs: vec![kv], ..pb::RangeResponse::default() };
                assert_eq!(out, expect.encode_to_vec());
                assert_eq!(later, out);
            }
        }
    }
}
