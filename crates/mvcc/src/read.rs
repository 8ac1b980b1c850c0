//! Reads of one consistent view of the state.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use store_api::{
    Error, Event, EventKind, KeyRange, KeyValue, LeaseId, Op, OpResponse, RangeRequest, RangeResponse,
    Revision, Txn, TxnResponse,
};

use crate::{Failure, Reader, StateError, Stored, arrange, check, layout};

/// Events a history read looks at before it returns, so that a watch of a rare key does not hold a view for long.
const HISTORY_SCAN_MAX: usize = 10_000;
/// Bytes of values that a history read gathers before it returns (one revision may hold more).
const HISTORY_BYTES_MAX: usize = 1 << 20;

/// The store's revision; 1 for a state nothing was written to.
///
/// # Errors
/// When the state fails.
pub fn revision(state: &impl Reader) -> Result<Revision, StateError> {
    Ok(number(state, layout::META_REVISION)?.map_or(Revision(1), Revision))
}

/// Reads below this revision are refused; 0 when nothing was compacted.
///
/// # Errors
/// When the state fails.
pub fn compacted(state: &impl Reader) -> Result<Revision, StateError> {
    Ok(Revision(number(state, layout::META_COMPACTED)?.unwrap_or(0)))
}

/// The last compaction that was asked for, as etcd counts: -1 when none was. (One at 0 removes nothing, but is one.)
pub(crate) fn last_compaction(state: &impl Reader) -> Result<Revision, StateError> {
    Ok(Revision(number(state, layout::META_COMPACTED)?.unwrap_or(-1)))
}

/// What compactions have cleaned up to; 0 when nothing was.
///
/// # Errors
/// When the state fails.
pub fn swept(state: &impl Reader) -> Result<Revision, StateError> {
    Ok(Revision(number(state, layout::META_SWEPT)?.unwrap_or(0)))
}

pub(crate) fn number(state: &impl Reader, key: &[u8]) -> Result<Option<i64>, StateError> {
    state.get(key)?.map(|record| layout::parse_number(&record)).transpose()
}

/// A key as it is.
pub(crate) fn current(state: &impl Reader, key: &[u8]) -> Result<Option<KeyValue>, StateError> {
    let record = state.get(&layout::current(key))?;
    record.map(|record| layout::take_current(Bytes::copy_from_slice(key), &record)).transpose()
}

/// Runs `visit` over a scan; an error in it ends the scan.
pub(crate) fn try_scan(
    state: &impl Reader,
    (from, to): (&[u8], &[u8]),
    reverse: bool,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StateError>,
) -> Result<(), StateError> {
    state.scan(from, to, reverse, &mut |key, stored| visit(key, stored.whole()?))
}

/// As much of a record as is asked for.
fn part(stored: &mut dyn Stored, value: bool) -> Result<&[u8], StateError> {
    if value { stored.whole() } else { Ok(stored.head()) }
}

/// Serves a range request.
///
/// # Errors
/// `Compacted`, `FutureRevision`, an empty key; or the state's.
pub fn range(state: &impl Reader, request: &RangeRequest) -> Result<RangeResponse, Failure> {
    check::check_range(&request.range)?;
    range_at(state, request, revision(state)?)
}

/// The same when the current revision is known (in a transaction that wrote, it is not in the state yet).
pub(crate) fn range_at(
    state: &impl Reader,
    request: &RangeRequest,
    now: Revision,
) -> Result<RangeResponse, Failure> {
    if arrange::is_plain(request) {
        return scan_range(state, request, now);
    }
    let mut response = scan_range(state, &arrange::to_fetch(request), now)?;
    arrange::arrange(request, &mut response);
    Ok(response)
}

/// Whether a request is answered by the keys as they are now, in the store's own order:
/// what can be passed on without building values of it.
#[must_use]
pub fn is_of_now(request: &RangeRequest) -> bool {
    let now = request.revision.is_none_or(|revision| revision.get() <= 0);
    now && !request.count_only && arrange::is_plain(request)
}

/// Cuts all keys from `start` on, up to `end` (empty: all), into up to `parts` ranges that follow each other. Their sizes
/// are guesses: keys are taken to be spread evenly between the first and the last.
///
/// # Errors
/// When the state fails.
pub fn cut(state: &impl Reader, start: &Bytes, end: &Bytes, parts: u64) -> Result<Vec<KeyRange>, StateError> {
    let mut last = Bytes::new();
    let (from, to) = layout::current_bounds(&KeyRange::Span { start: start.clone(), end: end.clone() });
    state.scan(&from, &to, true, &mut |raw, _| {
        last = Bytes::copy_from_slice(&raw[1..]);
        Ok(ControlFlow::Break(()))
    })?;
    let same = start.iter().zip(&last).take_while(|(a, b)| a == b).count();
    // What follows what they share, as numbers.
    let number = |key: &[u8]| {
        let mut bytes = [0; 8];
        let rest = &key[same..key.len().min(same + bytes.len())];
        bytes[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(bytes)
    };
    let (low, high) = (number(start), number(&last));
    let mut cuts = vec![start.clone()];
    for part in 1..parts {
        let step = high.saturating_sub(low) / parts * part;
        let at = Bytes::from([&start[..same], &(low + step).to_be_bytes()].concat());
        if step > 0 && cuts.last().is_some_and(|before| *before < at) && (end.is_empty() || at < *end) {
            cuts.push(at);
        }
    }
    let ends = cuts.iter().skip(1).cloned().chain([end.clone()]);
    Ok(cuts.iter().cloned().zip(ends).map(|(start, end)| KeyRange::Span { start, end }).collect())
}

/// Serves a request as if it asked for the store's own order and no bounds.
fn scan_range(state: &impl Reader, request: &RangeRequest, now: Revision) -> Result<RangeResponse, Failure> {
    let at = request.revision.filter(|r| r.get() > 0);
    check_revision(state, at, now)?;
    let mut answer = Answer::new(request, now);
    match at.filter(|at| *at != now) {
        None => current_range(state, request, &mut answer)?,
        Some(at) => past_range(state, request, at, &mut answer)?,
    }
    Ok(answer.response)
}

/// Whether a revision that was asked for can be read. 0 is now. A number below zero is below every revision in a
/// transaction (etcd checks its reads before they run), and now in a plain read, which never comes here with one.
pub(crate) fn check_revision(
    state: &impl Reader,
    at: Option<Revision>,
    now: Revision,
) -> Result<(), Failure> {
    let Some(at) = at.filter(|r| r.get() != 0) else { return Ok(()) };
    if at > now {
        return Err(Error::FutureRevision { current: now }.into());
    }
    let compact_revision = last_compaction(state)?;
    if at < compact_revision { Err(Error::Compacted { compact_revision }.into()) } else { Ok(()) }
}

/// A response under construction.
struct Answer<'a> {
    request: &'a RangeRequest,
    response: RangeResponse,
}

impl<'a> Answer<'a> {
    fn new(request: &'a RangeRequest, revision: Revision) -> Self {
        Self { request, response: RangeResponse { revision, ..RangeResponse::default() } }
    }

    /// Counts a key, and keeps it when there is room.
    fn add(&mut self, load: impl FnOnce(bool) -> Result<KeyValue, StateError>) -> Result<(), StateError> {
        let (request, response) = (self.request, &mut self.response);
        response.count += 1;
        if request.count_only {
            return Ok(());
        }
        if request.limit != 0 && response.kvs.len() >= request.limit {
            response.more = true;
            return Ok(());
        }
        response.kvs.push(load(!request.keys_only)?);
        Ok(())
    }
}

fn current_range(
    state: &impl Reader,
    request: &RangeRequest,
    answer: &mut Answer<'_>,
) -> Result<(), StateError> {
    if let KeyRange::One(key) = &request.range {
        let place = layout::current(key);
        let whole = !request.keys_only && !request.count_only;
        if let Some(record) = if whole { state.get(&place) } else { state.head(&place) }? {
            answer.add(|value| {
                if value {
                    layout::take_current(key.clone(), &record)
                } else {
                    layout::parse_current(key.clone(), &record, false)
                }
            })?;
        }
        return Ok(());
    }
    let (from, to) = layout::current_bounds(&request.range);
    state.scan(&from, &to, false, &mut |raw, stored| {
        let key = Bytes::copy_from_slice(&raw[1..]);
        answer.add(|value| layout::parse_current(key, part(stored, value)?, value))?;
        Ok(ControlFlow::Continue(()))
    })
}

/// Keys as they were at `at`: those not changed since, and the last old version of those that were.
fn past_range(
    state: &impl Reader,
    request: &RangeRequest,
    at: Revision,
    answer: &mut Answer<'_>,
) -> Result<(), StateError> {
    let mut changed = versions_at(state, &request.range, at)?.into_iter().peekable();
    let version = |key: &[u8], revision, value| {
        let place = layout::old(key, revision);
        let record = if value { state.get(&place) } else { state.head(&place) }?;
        let kv = record.map(|record| layout::parse_old_record(key, &record, value)).transpose()?;
        kv.flatten().ok_or_else(|| layout::missing(&place))
    };
    let (from, to) = layout::current_bounds(&request.range);
    state.scan(&from, &to, false, &mut |raw, stored| {
        if layout::mod_revision(stored.head())? > at {
            return Ok(ControlFlow::Continue(()));
        }
        let key = &raw[1..];
        while let Some((old, revision)) = changed.next_if(|(old, _)| &old[..] < key) {
            answer.add(|value| version(&old, revision, value))?;
        }
        // A key unchanged since `at` may have older versions, which its current record hides.
        changed.next_if(|(old, _)| &old[..] == key);
        answer
            .add(|value| layout::parse_current(Bytes::copy_from_slice(key), part(stored, value)?, value))?;
        Ok(ControlFlow::Continue(()))
    })?;
    changed.try_for_each(|(old, revision)| answer.add(|value| version(&old, revision, value)))
}

/// For each key with old records, the revision of the last version at or below `at`, unless that is a tombstone.
fn versions_at(
    state: &impl Reader,
    range: &KeyRange,
    at: Revision,
) -> Result<BTreeMap<Vec<u8>, Revision>, StateError> {
    let mut versions = BTreeMap::new();
    let (from, to) = layout::old_bounds(range);
    state.scan(&from, &to, false, &mut |raw, stored| {
        let (key, revision) = layout::parse_old(raw)?;
        if revision <= at {
            if layout::is_version(stored.head())? {
                versions.insert(key, revision);
            } else {
                versions.remove(&key);
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(versions)
}

/// Runs a transaction that writes nothing.
///
/// # Errors
/// As [`range`].
pub fn read_txn(state: &impl Reader, txn: &Txn) -> Result<TxnResponse, Failure> {
    check::validate(txn)?;
    let now = revision(state)?;
    let path = crate::apply::plan(state, txn)?;
    let mut path = path.into_iter();
    read_branch(state, txn, now, &mut path)
}

fn read_branch(
    state: &impl Reader,
    txn: &Txn,
    now: Revision,
    path: &mut impl Iterator<Item = bool>,
) -> Result<TxnResponse, Failure> {
    let succeeded = path.next().unwrap_or_default();
    let mut response = TxnResponse { revision: now, succeeded, responses: Vec::new() };
    for op in if succeeded { &txn.success } else { &txn.failure } {
        response.responses.push(match op {
            Op::Range(request) => {
                check_revision(state, request.revision, now)?;
                OpResponse::Range(range_at(state, request, now)?)
            }
            Op::Txn(inner) => OpResponse::Txn(read_branch(state, inner, now, path)?),
            Op::Put { .. } | Op::Update { .. } | Op::DeleteRange { .. } => {
                return Err(Error::Invalid("the transaction writes".to_owned()).into());
            }
        });
    }
    Ok(response)
}

/// A piece of history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Changes in order, revisions whole; each with the value before it, as far as it is still kept.
    pub events: Vec<Event>,
    /// The first revision that was not looked at.
    pub next: Revision,
}

/// What happened to keys of `range` from revision `from` on: about `max` events, up to the present.
///
/// # Errors
/// `Compacted` when `from` is; or the state's.
pub fn history(
    state: &impl Reader,
    range: &KeyRange,
    from: Revision,
    max: usize,
) -> Result<History, Failure> {
    let compact_revision = compacted(state)?;
    if from < compact_revision {
        return Err(Error::Compacted { compact_revision }.into());
    }
    let mut found = History { events: Vec::new(), next: revision(state)?.next().max(from) };
    let (mut last, mut seen, mut bytes) = (Revision(0), 0, 0);
    let bounds = (&layout::history(from, 0)[..], &[layout::HISTORY + 1][..]);
    try_scan(state, bounds, false, |raw, record| {
        let revision = layout::parse_history(raw)?;
        if revision != last
            && (found.events.len() >= max || seen >= HISTORY_SCAN_MAX || bytes >= HISTORY_BYTES_MAX)
        {
            found.next = revision;
            return Ok(ControlFlow::Break(()));
        }
        (last, seen) = (revision, seen + 1);
        let (put, key) = layout::parse_event(record)?;
        if range.contains(key) {
            let event = event(state, revision, put, key)?;
            bytes += event.kv.value.len() + event.prev_kv.as_ref().map_or(0, |kv| kv.value.len());
            found.events.push(event);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn event(state: &impl Reader, revision: Revision, put: bool, key: &[u8]) -> Result<Event, StateError> {
    let prev_kv = version_before(state, revision, key)?;
    if !put {
        return Ok(deleted(Bytes::copy_from_slice(key), revision, prev_kv));
    }
    let now = current(state, key)?.filter(|kv| kv.mod_revision == revision);
    let kv = match now {
        Some(kv) => Some(kv),
        None => match state.get(&layout::old(key, revision))? {
            Some(record) => layout::parse_old_record(key, &record, true)?,
            None => None,
        },
    };
    let missing = || StateError::Corrupt(format!("no version {revision} of {}", key.escape_ascii()));
    Ok(Event { kind: EventKind::Put, kv: kv.ok_or_else(missing)?, prev_kv })
}

/// The event of a delete.
pub(crate) fn deleted(key: Bytes, revision: Revision, prev_kv: Option<KeyValue>) -> Event {
    let kv = KeyValue {
        key,
        value: Bytes::new(),
        create_revision: Revision(0),
        mod_revision: revision,
        version: 0,
        lease: LeaseId(0),
    };
    Event { kind: EventKind::Delete, kv, prev_kv }
}

/// The version that a change at `revision` replaced.
fn version_before(
    state: &impl Reader,
    revision: Revision,
    key: &[u8],
) -> Result<Option<KeyValue>, StateError> {
    let mut found = None;
    let bounds = (&layout::old_prefix(key)[..], &layout::old(key, revision)[..]);
    try_scan(state, bounds, true, |_, record| {
        found = layout::parse_old_record(key, record, true)?;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// A lease's granted time in seconds; None when there is none.
///
/// # Errors
/// When the state fails.
pub fn lease(state: &impl Reader, id: LeaseId) -> Result<Option<i64>, StateError> {
    number(state, &layout::lease(id))
}

/// All leases and their granted times in seconds, by id.
///
/// # Errors
/// When the state fails.
pub fn leases(state: &impl Reader) -> Result<Vec<(LeaseId, i64)>, StateError> {
    let mut found = Vec::new();
    try_scan(state, (&[layout::LEASE], &[layout::LEASE + 1]), false, |raw, record| {
        found.push((
            LeaseId(layout::parse_number(raw.get(1..).unwrap_or_default())?),
            layout::parse_number(record)?,
        ));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// What was left of leases when that was last noted, seconds; leases of which nothing is noted are left out.
///
/// # Errors
/// When the state fails.
pub fn leases_noted(state: &impl Reader) -> Result<Vec<(LeaseId, i64)>, StateError> {
    let mut found = Vec::new();
    try_scan(state, (&[layout::LEASE], &[layout::LEASE + 1]), false, |raw, record| {
        let id = LeaseId(layout::parse_number(raw.get(1..).unwrap_or_default())?);
        found.extend(layout::lease_left(record).map(|left_s| (id, left_s)));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Keys attached to a lease, in order.
///
/// # Errors
/// When the state fails.
pub fn lease_keys(state: &impl Reader, id: LeaseId) -> Result<Vec<Bytes>, StateError> {
    let mut keys = Vec::new();
    let from = layout::attached(id, &[]);
    let to = store_api::prefix_end(&from);
    try_scan(state, (&from, &to), false, |raw, _| {
        keys.push(Bytes::copy_from_slice(raw.get(from.len()..).unwrap_or_default()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemState, State as _};

    fn state(keys: &[&[u8]]) -> MemState {
        let mut state = MemState::default();
        for key in keys {
            state.put(&layout::current(key), &[&[0; 32]]).unwrap();
        }
        state
    }

    #[test]
    fn the_parts_of_a_range_hold_each_key_once_and_in_order() {
        let sets: [&[&[u8]]; 6] = [
            &[b"a"],
            &[b"a", b"a\0", b"a\0\0", b"a\xff"],
            &[b"same/1", b"same/2", b"same/3", b"same/90", b"same/91"],
            &[b"", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"],
            &[b"k", b"k12345678abc", b"k12345678abd", b"z"],
            &[b"0000000000000001", b"0000000000000002", b"0000000000000003"],
        ];
        for keys in sets {
            let state = state(keys);
            for (parts, end) in
                (1..5).flat_map(|parts| [(parts, &b""[..]), (parts, b"same/91"), (parts, b"k2")])
            {
                let start = Bytes::from_static(keys[0]);
                let cuts = cut(&state, &start, &Bytes::from_static(end), parts).unwrap();
                assert!((1..=parts as usize).contains(&cuts.len()));
                let mut seen = Vec::new();
                for part in &cuts {
                    let request = RangeRequest::of(part.clone());
                    seen.extend(range(&state, &request).unwrap().kvs.into_iter().map(|kv| kv.key.to_vec()));
                }
                let expect: Vec<_> =
                    keys.iter().filter(|key| end.is_empty() || **key < end).map(|key| key.to_vec()).collect();
                assert_eq!(seen, expect, "{cuts:?}");
            }
        }
    }
}
