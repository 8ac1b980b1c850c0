//! Where things lie in the [`State`](crate::State). All numbers are big-endian, so that byte order is number order.
//!
//! ```text
//! k <key>                      create 8 | mod 8 | version 8 | lease 8 | value        what is: one scan serves a list
//! o <key, escaped> <rev 8>     1 | create 8 | mod 8 | version 8 | lease 8 | value     what was, until superseded at ...
//!                              0                                                      ... or deleted at rev
//! h <rev 8> <sub 4>            1 (put) or 0 (delete) | key                            what happened, in order
//! l <lease 8>                  granted ttl in seconds 8 | seconds left when last noted 8, if it was
//! a <lease 8> <key>            (empty)                                                keys attached to a lease
//! u e                          1 (authentication is on) or 0 | auth revision 8
//! u u <name>, u r <name>       a user, a role: see `auth::records`
//! x a <member 8> <kind 1>      (empty)                                                alarms that are raised
//! m r | m c | m s              revision 8: current; compacted; up to where `sweep` has cleaned up
//! ```
//! A version's value is stored once: in `k` while it is current, moved to `o` when it is superseded. A read at revision R
//! takes a key's `k` record if its mod revision is at most R, else its last `o` record at or below R. A key changes at
//! most once a revision (etcd refuses duplicate keys in a transaction), so `o` needs no sub-revision.
//!
//! Escape: 0x00 becomes 0x00 0xff and 0x00 0x01 ends the key, which keeps the order and makes no key a prefix of another.

use bytes::Bytes;
use store_api::{KeyRange, KeyValue, LeaseId, Revision};

use crate::StateError;
use crate::alarm::{Alarm, AlarmKind};

/// Current state of the keys.
pub const CURRENT: u8 = b'k';
/// Superseded versions and tombstones.
pub const OLD: u8 = b'o';
/// Events by revision.
pub const HISTORY: u8 = b'h';
/// Leases.
pub const LEASE: u8 = b'l';
/// Keys by lease.
pub const ATTACHED: u8 = b'a';
/// Authentication: on or off, and its revision.
pub const AUTH_STATUS: &[u8] = b"ue";
/// Alarms that are raised.
pub const ALARM: &[u8] = b"xa";
/// The current revision.
pub const META_REVISION: &[u8] = b"mr";
/// The compacted revision.
pub const META_COMPACTED: &[u8] = b"mc";
/// Events below this revision have been cleaned up.
pub const META_SWEPT: &[u8] = b"ms";

/// Bytes before the value in a current record; in an old one a byte more.
pub const META_BYTES: usize = 32;
const PUT: u8 = 1;
const DELETE: u8 = 0;

/// Key of a current record.
#[must_use]
pub fn current(key: &[u8]) -> Vec<u8> {
    tagged(CURRENT, key)
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + rest.len());
    out.push(tag);
    out.extend_from_slice(rest);
    out
}

/// Bounds of the current records of a range.
#[must_use]
pub fn current_bounds(range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    match range {
        KeyRange::One(key) => (current(key), current(&after(key))),
        KeyRange::Span { start, end } if end.is_empty() => (current(start), vec![CURRENT + 1]),
        KeyRange::Span { start, end } => (current(start), current(end)),
    }
}

/// The least key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// Prefix of all old records of a key.
#[must_use]
pub fn old_prefix(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 11);
    out.push(OLD);
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
    out
}

/// Key of the record of a version that is no more, or of a tombstone.
#[must_use]
pub fn old(key: &[u8], revision: Revision) -> Vec<u8> {
    let mut out = old_prefix(key);
    out.extend_from_slice(&revision.get().to_be_bytes());
    out
}

/// Bounds of the old records of a range.
#[must_use]
pub fn old_bounds(range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    match range {
        KeyRange::One(key) => (old_prefix(key), old_prefix(&after(key))),
        KeyRange::Span { start, end } if end.is_empty() => (old_prefix(start), vec![OLD + 1]),
        KeyRange::Span { start, end } => (old_prefix(start), old_prefix(end)),
    }
}

/// Splits the key of an old record.
///
/// # Errors
/// `Corrupt` when it is none.
pub fn parse_old(raw: &[u8]) -> Result<(Vec<u8>, Revision), StateError> {
    let (escaped, revision) = raw.split_last_chunk::<8>().ok_or_else(|| corrupt("old key", raw))?;
    let body =
        escaped.get(1..).and_then(|b| b.strip_suffix(&[0, 1])).ok_or_else(|| corrupt("old key", raw))?;
    let mut key = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 && bytes.next() != Some(&0xff) {
            return Err(corrupt("old key", raw));
        }
    }
    Ok((key, Revision(i64::from_be_bytes(*revision))))
}

/// Key of an event.
#[must_use]
pub fn history(revision: Revision, sub: u32) -> Vec<u8> {
    let mut out = tagged(HISTORY, &revision.get().to_be_bytes());
    out.extend_from_slice(&sub.to_be_bytes());
    out
}

/// The revision in the key of an event.
///
/// # Errors
/// `Corrupt` when it is none.
pub fn parse_history(raw: &[u8]) -> Result<Revision, StateError> {
    let revision = raw.get(1..9).and_then(|b| b.try_into().ok());
    revision.map(|b| Revision(i64::from_be_bytes(b))).ok_or_else(|| corrupt("event key", raw))
}

/// Bytes before the key in an event's record.
#[must_use]
pub fn event_tag(put: bool) -> [u8; 1] {
    [if put { PUT } else { DELETE }]
}

/// The revision and the place within it in the key of an event.
///
/// # Errors
/// `Corrupt` when it is none.
pub fn parse_history_place(raw: &[u8]) -> Result<(Revision, u32), StateError> {
    let sub = raw.get(9..13).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    Ok((parse_history(raw)?, sub.ok_or_else(|| corrupt("event key", raw))?))
}

/// Whether an old record is a version, not a tombstone.
///
/// # Errors
/// `Corrupt` when it is neither.
pub fn is_version(record: &[u8]) -> Result<bool, StateError> {
    match record.first() {
        Some(&PUT) => Ok(true),
        Some(&DELETE) => Ok(false),
        _ => Err(corrupt("old record", record)),
    }
}

/// Splits an event's record into whether it is a put, and the key.
///
/// # Errors
/// `Corrupt` when it is none.
pub fn parse_event(raw: &[u8]) -> Result<(bool, &[u8]), StateError> {
    match raw.split_first() {
        Some((&PUT, key)) => Ok((true, key)),
        Some((&DELETE, key)) => Ok((false, key)),
        _ => Err(corrupt("event", raw)),
    }
}

/// Key of an alarm.
#[must_use]
pub fn alarm(alarm: Alarm) -> Vec<u8> {
    let mut out = ALARM.to_vec();
    out.extend_from_slice(&alarm.member.to_be_bytes());
    out.push(alarm.kind.number());
    out
}

/// The alarm in a key.
///
/// # Errors
/// `Corrupt` when it is none.
pub fn parse_alarm(raw: &[u8]) -> Result<Alarm, StateError> {
    let parsed = raw.strip_prefix(ALARM).and_then(<[u8]>::split_first_chunk::<8>);
    let alarm = parsed.and_then(|(member, kind)| {
        let [kind] = kind else { return None };
        Some(Alarm { member: u64::from_be_bytes(*member), kind: AlarmKind::of(*kind)? })
    });
    alarm.ok_or_else(|| corrupt("alarm", raw))
}

/// Key of a lease.
#[must_use]
pub fn lease(id: LeaseId) -> Vec<u8> {
    tagged(LEASE, &id.get().to_be_bytes())
}

/// What was left of a lease when that was last noted, seconds.
#[must_use]
pub fn lease_left(record: &[u8]) -> Option<i64> {
    record.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes)
}

/// Key that attaches `key` to a lease; an empty `key` gives the prefix of all.
#[must_use]
pub fn attached(id: LeaseId, key: &[u8]) -> Vec<u8> {
    let mut out = tagged(ATTACHED, &id.get().to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Key of a user.
#[must_use]
pub fn auth_user(name: &str) -> Vec<u8> {
    [b"uu", name.as_bytes()].concat()
}

/// Key of a role.
#[must_use]
pub fn auth_role(name: &str) -> Vec<u8> {
    [b"ur", name.as_bytes()].concat()
}

/// The numbers that precede a value.
#[must_use]
pub fn meta(kv: &KeyValue) -> [u8; META_BYTES] {
    let mut out = [0; META_BYTES];
    let numbers = [kv.create_revision.get(), kv.mod_revision.get(), kv.version, kv.lease.get()];
    for (place, number) in out.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    out
}

/// A current record, not copied.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
    pub value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes a record apart, or its beginning: the value is empty then.
    ///
    /// # Errors
    /// `Corrupt` when it is too short.
    pub fn parse(record: &'a [u8]) -> Result<Self, StateError> {
        Ok(Self {
            create_revision: number(record, 0)?,
            mod_revision: number(record, 8)?,
            version: number(record, 16)?,
            lease: number(record, 24)?,
            value: record.get(META_BYTES..).unwrap_or_default(),
        })
    }
}

/// The mod revision in a current record.
///
/// # Errors
/// `Corrupt` when it is too short.
pub fn mod_revision(record: &[u8]) -> Result<Revision, StateError> {
    number(record, 8).map(Revision)
}

/// A current record as a key and value; `value` false leaves the value out.
///
/// # Errors
/// `Corrupt` when it is too short.
pub fn parse_current(key: Bytes, record: &[u8], value: bool) -> Result<KeyValue, StateError> {
    let value = if value { record.get(META_BYTES..).map(Bytes::copy_from_slice) } else { None };
    Ok(KeyValue {
        key,
        create_revision: Revision(number(record, 0)?),
        mod_revision: Revision(number(record, 8)?),
        version: number(record, 16)?,
        lease: LeaseId(number(record, 24)?),
        value: value.unwrap_or_default(),
    })
}

/// The same without copying the value.
///
/// # Errors
/// `Corrupt` when it is too short.
pub fn take_current(key: Bytes, record: &Bytes) -> Result<KeyValue, StateError> {
    let mut kv = parse_current(key, record, false)?;
    kv.value = record.slice(META_BYTES..);
    Ok(kv)
}

/// An old record: None for a tombstone.
///
/// # Errors
/// `Corrupt` when it is neither.
pub fn parse_old_record(key: &[u8], record: &[u8], value: bool) -> Result<Option<KeyValue>, StateError> {
    match record.split_first() {
        Some((&DELETE, _)) => Ok(None),
        Some((&PUT, rest)) => parse_current(Bytes::copy_from_slice(key), rest, value).map(Some),
        _ => Err(corrupt("old record", record)),
    }
}

fn number(record: &[u8], at: usize) -> Result<i64, StateError> {
    let bytes = record.get(at..at + 8).and_then(|b| b.try_into().ok());
    bytes.map(i64::from_be_bytes).ok_or_else(|| corrupt("record", record))
}

/// A number that stands alone in a record.
///
/// # Errors
/// `Corrupt` when it is too short.
pub fn parse_number(record: &[u8]) -> Result<i64, StateError> {
    number(record, 0)
}

pub(crate) fn missing(key: &[u8]) -> StateError {
    StateError::Corrupt(format!("nothing at {}", key[..key.len().min(64)].escape_ascii()))
}

fn corrupt(what: &str, raw: &[u8]) -> StateError {
    StateError::Corrupt(format!("not a {what}: {}", raw[..raw.len().min(64)].escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_keys_keep_their_order_and_come_back() {
        let keys: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"a", b"a\0", b"a\x01"];
        for pair in keys.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(old(pair[0], Revision(i64::MAX)) < old(pair[1], Revision(0)), "{pair:?}");
        }
        for key in keys {
            assert_eq!(parse_old(&old(key, Revision(7))).unwrap(), (key.to_vec(), Revision(7)));
        }
        assert!(parse_old(b"o").is_err() && parse_old(b"oa\0\x05\0\x01\0\0\0\0\0\0\0\x01").is_err());
    }
}
