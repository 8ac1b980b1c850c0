//! Entries as bytes, for the log. Numbers are big-endian; byte strings are a u32 length and the bytes.
//!
//! ```text
//! entry    1 txn | 2 lease grant: id 8, ttl 8 | 3 lease revoke: id 8 | 4 compact: revision 8 | 6 auth: see `auth::codec`
//!          7 alarm: member 8, kind 1, raised 1 | 8 lease checkpoint: u32 n, n x (id 8, seconds left 8)
//! txn      u32 n, n compares | u32 n, n ops (success) | u32 n, n ops (failure)
//! compare  range | target tag 1: version, 2 create, 3 mod, 5 lease: 8 bytes; 4 value: string | result 1
//! op       1 range | 2 put: key, value, lease 8, prev 1 | 3 delete: range, prev 1 | 4 txn
//!          5 update: key, flags 1 (1 value, 2 lease, 4 prev), value if any, lease 8 if any
//!          6 range, sort target 1, sort order 1, bounds 4 x 8 (min, max mod; min, max create revision)
//! range    1 one: key | 2 span: start, end
//! ```
//! Decoding allocates no more than the bytes at hand allow: counts are not trusted with a reservation.

use bytes::Bytes;
use store_api::{
    Compare, CompareResult, CompareTarget, KeyRange, LeaseId, Op, RangeRequest, Revision, RevisionBounds,
    SortOrder, SortTarget, Txn,
};

use crate::alarm::{Alarm, AlarmKind};
use crate::auth::{Caller, codec as auth};
use crate::entry::{Entry, MAX_TXN_DEPTH};

/// The bytes are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log entry: {0}")]
pub struct CodecError(&'static str);

impl CodecError {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self(what)
    }
}

type Result<T> = std::result::Result<T, CodecError>;

/// Room for the numbers and tags around the keys and values of an entry that does little.
const SMALL_ENTRY_BYTES: usize = 128;

impl Entry {
    /// About how long its bytes are: what to reserve, so that large values are copied once.
    #[must_use]
    pub fn bytes_about(&self) -> usize {
        match self {
            Self::As { caller, entry } => caller.user.len() + entry.bytes_about(),
            Self::Txn(txn) => SMALL_ENTRY_BYTES + txn_bytes(txn),
            _ => SMALL_ENTRY_BYTES,
        }
    }

    /// Appends the entry's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Txn(txn) => {
                out.push(1);
                put_txn(out, txn);
            }
            Self::LeaseGrant { id, ttl_s } => {
                out.push(2);
                put_i64(out, id.get());
                put_i64(out, *ttl_s);
            }
            Self::LeaseRevoke { id } => {
                out.push(3);
                put_i64(out, id.get());
            }
            Self::Compact { revision } => {
                out.push(4);
                put_i64(out, revision.get());
            }
            Self::LeaseCheckpoint { remaining } => {
                out.push(8);
                put_len(out, remaining.len());
                for (id, left_s) in remaining {
                    put_i64(out, id.get());
                    put_i64(out, *left_s);
                }
            }
            Self::Auth(op) => {
                out.push(6);
                auth::put_op(out, op);
            }
            Self::Alarm { alarm, raise } => {
                out.push(7);
                put_i64(out, alarm.member.cast_signed());
                out.extend_from_slice(&[alarm.kind.number(), u8::from(*raise)]);
            }
            Self::As { caller, entry } => {
                out.extend_from_slice(&[6, auth::AS]);
                put_bytes(out, caller.user.as_bytes());
                put_i64(out, caller.auth_revision.cast_signed());
                entry.encode(out);
            }
        }
    }

    /// Reads an entry that takes up all of `bytes`; keys and values share their memory.
    ///
    /// # Errors
    /// When they are no entry.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let mut input = Input::new(bytes);
        let entry = input.entry()?;
        if input.bytes.is_empty() { Ok(entry) } else { Err(CodecError("bytes after the end")) }
    }
}

fn txn_bytes(txn: &Txn) -> usize {
    let of = |op: &Op| match op {
        Op::Put { key, value, .. } => SMALL_ENTRY_BYTES / 4 + key.len() + value.len(),
        Op::Update { key, value, .. } => {
            SMALL_ENTRY_BYTES / 4 + key.len() + value.as_ref().map_or(0, Bytes::len)
        }
        Op::Txn(inner) => txn_bytes(inner),
        Op::Range(_) | Op::DeleteRange { .. } => SMALL_ENTRY_BYTES,
    };
    let ops = txn.success.iter().chain(&txn.failure).map(of).sum::<usize>();
    ops + txn.compare.len() * SMALL_ENTRY_BYTES
}

pub(crate) fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&number.to_be_bytes());
}

pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    // Requests are bounded far below 4 GiB (store_api::MAX_REQUEST_BYTES).
    out.extend_from_slice(&(len as u32).to_be_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_key_range(out: &mut Vec<u8>, range: &KeyRange) {
    match range {
        KeyRange::One(key) => {
            out.push(1);
            put_bytes(out, key);
        }
        KeyRange::Span { start, end } => {
            out.push(2);
            put_bytes(out, start);
            put_bytes(out, end);
        }
    }
}

fn put_txn(out: &mut Vec<u8>, txn: &Txn) {
    put_len(out, txn.compare.len());
    for compare in &txn.compare {
        put_compare(out, compare);
    }
    for ops in [&txn.success, &txn.failure] {
        put_len(out, ops.len());
        for op in ops {
            put_op(out, op);
        }
    }
}

fn put_compare(out: &mut Vec<u8>, compare: &Compare) {
    put_key_range(out, &compare.range);
    let (tag, number) = match &compare.target {
        CompareTarget::Version(number) => (1, *number),
        CompareTarget::CreateRevision(revision) => (2, revision.get()),
        CompareTarget::ModRevision(revision) => (3, revision.get()),
        CompareTarget::Value(value) => {
            out.push(4);
            put_bytes(out, value);
            return out.push(result_tag(compare.result));
        }
        CompareTarget::Lease(lease) => (5, lease.get()),
    };
    out.push(tag);
    put_i64(out, number);
    out.push(result_tag(compare.result));
}

fn result_tag(result: CompareResult) -> u8 {
    match result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    }
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Range(request) if crate::arrange::is_plain(request) => {
            out.push(1);
            put_range(out, request);
        }
        Op::Range(request) => {
            out.push(6);
            put_range(out, request);
            put_arrangement(out, request);
        }
        Op::Update { key, value, lease, prev_kv } => {
            out.push(5);
            put_bytes(out, key);
            out.push(u8::from(value.is_some()) | u8::from(lease.is_some()) << 1 | u8::from(*prev_kv) << 2);
            value.iter().for_each(|value| put_bytes(out, value));
            lease.iter().for_each(|lease| put_i64(out, lease.get()));
        }
        Op::Put { key, value, lease, prev_kv } => {
            out.push(2);
            put_bytes(out, key);
            put_bytes(out, value);
            put_i64(out, lease.get());
            out.push(u8::from(*prev_kv));
        }
        Op::DeleteRange { range, prev_kv } => {
            out.push(3);
            put_key_range(out, range);
            out.push(u8::from(*prev_kv));
        }
        Op::Txn(txn) => {
            out.push(4);
            put_txn(out, txn);
        }
    }
}

fn put_range(out: &mut Vec<u8>, request: &RangeRequest) {
    put_key_range(out, &request.range);
    put_i64(out, i64::try_from(request.limit).unwrap_or(i64::MAX));
    put_i64(out, request.revision.map_or(0, Revision::get));
    out.push(u8::from(request.keys_only) | u8::from(request.count_only) << 1);
}

fn put_arrangement(out: &mut Vec<u8>, request: &RangeRequest) {
    out.push(match request.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::CreateRevision => 2,
        SortTarget::ModRevision => 3,
        SortTarget::Value => 4,
    });
    out.push(match request.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    });
    let RevisionBounds { min_mod, max_mod, min_create, max_create } = request.bounds;
    [min_mod, max_mod, min_create, max_create].iter().for_each(|bound| put_i64(out, bound.get()));
}

/// Bytes that are read from the front.
pub(crate) struct Input {
    bytes: Bytes,
}

impl Input {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    fn entry(&mut self) -> Result<Entry> {
        match self.u8()? {
            1 => Ok(Entry::Txn(self.txn(0)?)),
            2 => Ok(Entry::LeaseGrant { id: LeaseId(self.i64()?), ttl_s: self.i64()? }),
            3 => Ok(Entry::LeaseRevoke { id: LeaseId(self.i64()?) }),
            4 => Ok(Entry::Compact { revision: Revision(self.i64()?) }),
            6 => self.auth(),
            7 => {
                let member = self.i64()?.cast_unsigned();
                let kind = AlarmKind::of(self.u8()?).ok_or(CodecError("unknown alarm"))?;
                Ok(Entry::Alarm { alarm: Alarm { member, kind }, raise: self.flag()? })
            }
            8 => {
                let count = self.len()?;
                let remaining = (0..count).map(|_| Ok((LeaseId(self.i64()?), self.i64()?)));
                Ok(Entry::LeaseCheckpoint { remaining: remaining.collect::<Result<_>>()? })
            }
            _ => Err(CodecError("unknown entry")),
        }
    }

    fn auth(&mut self) -> Result<Entry> {
        let tag = self.u8()?;
        if tag != auth::AS {
            return Ok(Entry::Auth(auth::read_op(tag, self)?));
        }
        let caller = Caller { user: self.text()?, auth_revision: self.i64()?.cast_unsigned() };
        if self.bytes.starts_with(&[6, auth::AS]) {
            return Err(CodecError("an entry asked for by two"));
        }
        Ok(Entry::As { caller, entry: Box::new(self.entry()?) })
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        if len > self.bytes.len() { Err(CodecError("cut short")) } else { Ok(self.bytes.split_to(len)) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes[..].try_into().map_err(|_| CodecError("cut short"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        Ok(self.u8()? != 0)
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn len(&mut self) -> Result<usize> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    pub(crate) fn string(&mut self) -> Result<Bytes> {
        let len = self.len()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        let bytes = self.string()?;
        String::from_utf8(bytes.into()).map_err(|_| CodecError("a name that is no text"))
    }

    /// A counted list. Every item takes at least a byte, so a false count ends in an error, not in memory.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let len = self.len()?;
        let mut out = Vec::new();
        for _ in 0..len {
            out.push(item(self)?);
        }
        Ok(out)
    }

    fn txn(&mut self, depth: usize) -> Result<Txn> {
        if depth > MAX_TXN_DEPTH {
            return Err(CodecError("nested too deep"));
        }
        let compare = self.list(Self::compare)?;
        let success = self.list(|input| input.op(depth))?;
        let failure = self.list(|input| input.op(depth))?;
        Ok(Txn { compare, success, failure })
    }

    fn key_range(&mut self) -> Result<KeyRange> {
        match self.u8()? {
            1 => Ok(KeyRange::One(self.string()?)),
            2 => Ok(KeyRange::Span { start: self.string()?, end: self.string()? }),
            _ => Err(CodecError("unknown key range")),
        }
    }

    fn compare(&mut self) -> Result<Compare> {
        let range = self.key_range()?;
        let target = match self.u8()? {
            1 => CompareTarget::Version(self.i64()?),
            2 => CompareTarget::CreateRevision(Revision(self.i64()?)),
            3 => CompareTarget::ModRevision(Revision(self.i64()?)),
            4 => CompareTarget::Value(self.string()?),
            5 => CompareTarget::Lease(LeaseId(self.i64()?)),
            _ => return Err(CodecError("unknown compare target")),
        };
        let result = match self.u8()? {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            _ => return Err(CodecError("unknown compare result")),
        };
        Ok(Compare { range, target, result })
    }

    fn op(&mut self, depth: usize) -> Result<Op> {
        Ok(match self.u8()? {
            1 => Op::Range(self.range()?),
            2 => Op::Put {
                key: self.string()?,
                value: self.string()?,
                lease: LeaseId(self.i64()?),
                prev_kv: self.flag()?,
            },
            3 => Op::DeleteRange { range: self.key_range()?, prev_kv: self.flag()? },
            4 => Op::Txn(self.txn(depth + 1)?),
            5 => self.update()?,
            6 => Op::Range(self.arranged_range()?),
            _ => return Err(CodecError("unknown op")),
        })
    }

    fn range(&mut self) -> Result<RangeRequest> {
        let range = self.key_range()?;
        let limit = usize::try_from(self.i64()?).map_err(|_| CodecError("negative limit"))?;
        let revision = Some(Revision(self.i64()?)).filter(|r| r.get() > 0);
        let flags = self.u8()?;
        let (keys_only, count_only) = (flags & 1 != 0, flags & 2 != 0);
        Ok(RangeRequest { limit, revision, keys_only, count_only, ..RangeRequest::of(range) })
    }

    fn arranged_range(&mut self) -> Result<RangeRequest> {
        let mut request = self.range()?;
        request.sort_target = match self.u8()? {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::CreateRevision,
            3 => SortTarget::ModRevision,
            4 => SortTarget::Value,
            _ => return Err(CodecError("unknown sort target")),
        };
        request.sort_order = match self.u8()? {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return Err(CodecError("unknown sort order")),
        };
        let mut bound = || self.i64().map(Revision);
        request.bounds = RevisionBounds {
            min_mod: bound()?,
            max_mod: bound()?,
            min_create: bound()?,
            max_create: bound()?,
        };
        Ok(request)
    }

    fn update(&mut self) -> Result<Op> {
        let key = self.string()?;
        let flags = self.u8()?;
        let value = if flags & 1 != 0 { Some(self.string()?) } else { None };
        let lease = if flags & 2 != 0 { Some(LeaseId(self.i64()?)) } else { None };
        Ok(Op::Update { key, value, lease, prev_kv: flags & 4 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let compare = |target, result| Compare { range: KeyRange::One("k".into()), target, result };
        let txn = Txn {
            compare: vec![
                compare(CompareTarget::Version(1), CompareResult::Equal),
                compare(CompareTarget::Value("v".into()), CompareResult::NotEqual),
                compare(CompareTarget::Lease(LeaseId(-4)), CompareResult::Less),
                compare(CompareTarget::CreateRevision(Revision(3)), CompareResult::Greater),
                Compare::absent("x"),
            ],
            success: vec![
                Op::put("a", "1"),
                Op::Range(RangeRequest { limit: 5, keys_only: true, ..RangeRequest::prefix("a") }),
                Op::Txn(Txn { failure: vec![Op::delete("b")], ..Txn::default() }),
                Op::Update { key: "u".into(), value: Some("2".into()), lease: None, prev_kv: true },
                Op::Update { key: "v".into(), value: None, lease: Some(LeaseId(3)), prev_kv: false },
                Op::Range(RangeRequest {
                    sort_target: SortTarget::Value,
                    sort_order: SortOrder::Descend,
                    bounds: RevisionBounds { max_mod: Revision(9), ..RevisionBounds::default() },
                    ..RangeRequest::prefix("a")
                }),
            ],
            failure: vec![Op::DeleteRange { range: KeyRange::prefix("c"), prev_kv: true }],
        };
        vec![
            Entry::Txn(txn),
            Entry::LeaseGrant { id: LeaseId(7), ttl_s: 10 },
            Entry::LeaseRevoke { id: LeaseId(7) },
            Entry::Compact { revision: Revision(9) },
            Entry::LeaseCheckpoint { remaining: vec![(LeaseId(7), 5), (LeaseId(8), 0)] },
            Entry::As {
                caller: Caller { user: "alice".to_owned(), auth_revision: 7 },
                entry: Box::new(Entry::LeaseRevoke { id: LeaseId(7) }),
            },
        ]
    }

    #[test]
    fn entries_come_back_and_no_prefix_of_them_does() {
        for entry in entries() {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let again = Entry::decode(bytes.clone().into()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{entry:?}"));
            for cut in 0..bytes.len() {
                assert!(
                    Entry::decode(Bytes::copy_from_slice(&bytes[..cut])).is_err(),
                    "{entry:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_strangers_counts_and_depths_are_refused() {
        assert!(Entry::decode(Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff])).is_err());
        // One op (tag 4: a transaction) in each level's success list, deeper than allowed.
        let level = [0, 0, 0, 0, 0, 0, 0, 1, 4];
        let deep: Vec<u8> = [1].into_iter().chain(level.into_iter().cycle().take(9 * 10_000)).collect();
        assert_eq!(Entry::decode(deep.into()).unwrap_err(), CodecError("nested too deep"));
    }
}
