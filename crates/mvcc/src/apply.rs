//! Applying entries. The same entries over the same state give the same state, replies and events on every member.
//!
//! ```text
//! entry ─▶ plan: comparisons and refusals, nothing written ─▶ Writer: at most one new revision ─▶ reply + events
//! ```
//! A refusal is found before anything is written, so a refused entry leaves the state as it was.

use bytes::Bytes;
use store_api::{
    Compare, CompareResult, CompareTarget, Error, Event, EventKind, KeyRange, KeyValue, LeaseId, LeaseStatus,
    Op, OpResponse, RangeRequest, Revision, Txn, TxnResponse,
};

use crate::alarm::{self, Alarm, Refusals};
use crate::auth::{self, AuthChange, Gate};
use crate::read::{check_revision, current, deleted, range_at};
use crate::{Entry, Failure, MIN_LEASE_TTL_S, Reader, State, StateError, check, layout, read};

/// etcd's `MaxLeaseTTL`, seconds.
const MAX_LEASE_TTL_S: i64 = 9_000_000_000;

/// What an entry answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Txn(TxnResponse),
    LeaseGranted(LeaseStatus),
    LeaseRevoked,
    LeasesNoted,
    Compacted,
    /// Users or roles are as asked.
    Auth,
    /// The alarm that was raised or ended; None when there was none to end.
    Alarm(Option<Alarm>),
}

/// The changes of one revision, in the order they were made. Every event carries the value before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBatch {
    pub revision: Revision,
    pub events: Vec<Event>,
}

/// What became of a lease: for the room's [`Lessor`](crate::Lessor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    Granted {
        id: LeaseId,
        ttl_s: i64,
    },
    Revoked {
        id: LeaseId,
    },
    /// What was left of it, seconds; 0 when its whole time counts again.
    Noted {
        id: LeaseId,
        left_s: i64,
    },
}

/// What applying entries did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision afterwards.
    pub revision: Revision,
    /// One for each entry, in order.
    pub replies: Vec<Result<Reply, Error>>,
    pub events: Vec<EventBatch>,
    pub leases: Vec<LeaseChange>,
    pub auth: Vec<AuthChange>,
}

/// Applies entries in order.
///
/// # Errors
/// Only the state's; it is then in the middle of something and its transaction must be dropped. A refused entry is a reply.
pub fn apply(state: &mut impl State, entries: &[Entry]) -> Result<Applied, StateError> {
    let before = read::revision(state)?;
    let mut applied = Applied {
        revision: before,
        replies: Vec::with_capacity(entries.len()),
        events: Vec::new(),
        leases: Vec::new(),
        auth: Vec::new(),
    };
    let mut gates = Gates { auth: Gate::default(), alarms: Refusals::read(state)? };
    for entry in entries {
        let reply = match apply_one(state, &mut applied, &mut gates, entry) {
            Ok(reply) => Ok(reply),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::State(error)) => return Err(error),
        };
        applied.replies.push(reply);
    }
    if applied.revision != before {
        state.put(layout::META_REVISION, &[&applied.revision.get().to_be_bytes()])?;
    }
    Ok(applied)
}

/// What may refuse an entry before it is looked at, remembered over a batch.
struct Gates {
    auth: Gate,
    alarms: Refusals,
}

fn apply_one(
    state: &mut impl State,
    applied: &mut Applied,
    gates: &mut Gates,
    entry: &Entry,
) -> Result<Reply, Failure> {
    gates.alarms.check(entry)?;
    match entry {
        Entry::Txn(txn) => apply_txn(state, applied, txn).map(Reply::Txn),
        Entry::LeaseGrant { id, ttl_s } => {
            let status = grant(state, *id, *ttl_s)?;
            applied.leases.push(LeaseChange::Granted { id: *id, ttl_s: status.granted_ttl_s });
            Ok(Reply::LeaseGranted(status))
        }
        Entry::LeaseRevoke { id } => {
            revoke(state, applied, *id)?;
            applied.leases.push(LeaseChange::Revoked { id: *id });
            Ok(Reply::LeaseRevoked)
        }
        Entry::LeaseCheckpoint { remaining } => {
            for (id, left_s) in remaining {
                note(state, applied, *id, *left_s)?;
            }
            Ok(Reply::LeasesNoted)
        }
        Entry::Compact { revision } => compact(state, *revision, applied.revision).map(|()| Reply::Compacted),
        Entry::Auth(op) => {
            gates.auth.clear();
            auth::apply(state, op, &mut applied.auth).map(|()| Reply::Auth)
        }
        Entry::As { caller, entry } => {
            auth::permit(state, &mut gates.auth, caller, entry)?;
            apply_one(state, applied, gates, entry)
        }
        Entry::Alarm { alarm, raise } => {
            let changed = alarm::set(state, *alarm, *raise)?;
            gates.alarms = Refusals::read(state)?;
            Ok(Reply::Alarm(changed))
        }
    }
}

fn apply_txn(state: &mut impl State, applied: &mut Applied, txn: &Txn) -> Result<TxnResponse, Failure> {
    check::validate(txn)?;
    let path = plan(state, txn)?;
    check_branch(state, txn, applied.revision, &mut path.iter().copied())?;
    let mut writer = Writer { state, before: applied.revision, events: Vec::new() };
    let response = writer.branch(txn, &mut path.into_iter())?;
    let events = writer.events;
    applied.publish(events);
    Ok(response)
}

impl Applied {
    fn publish(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.revision = self.revision.next();
            self.events.push(EventBatch { revision: self.revision, events });
        }
    }
}

/// Which branch each transaction of the tree takes, outer before inner. All comparisons see the state before any
/// write of the transaction, nested ones too (etcd: `compareToPath`).
pub(crate) fn plan(state: &impl Reader, txn: &Txn) -> Result<Vec<bool>, Failure> {
    let mut path = Vec::new();
    plan_into(state, txn, &mut path)?;
    Ok(path)
}

fn plan_into(state: &impl Reader, txn: &Txn, path: &mut Vec<bool>) -> Result<(), Failure> {
    let mut succeeded = true;
    for compare in &txn.compare {
        succeeded = succeeded && holds(state, compare)?;
    }
    path.push(succeeded);
    for op in if succeeded { &txn.success } else { &txn.failure } {
        if let Op::Txn(inner) = op {
            plan_into(state, inner, path)?;
        }
    }
    Ok(())
}

/// Whether a condition holds for every key of its range; over no key at all it sees zeros, and no value equals nothing.
fn holds(state: &impl Reader, compare: &Compare) -> Result<bool, Failure> {
    let mut request = RangeRequest::of(compare.range.clone());
    request.keys_only = !matches!(compare.target, CompareTarget::Value(_));
    let found = range_at(state, &request, Revision(0))?.kvs;
    if !found.is_empty() {
        return Ok(found.iter().all(|kv| matches(compare, kv)));
    }
    let nothing = deleted(Bytes::new(), Revision(0), None).kv;
    Ok(request.keys_only && matches(compare, &nothing))
}

fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::CreateRevision(revision) => kv.create_revision.cmp(revision),
        CompareTarget::ModRevision(revision) => kv.mod_revision.cmp(revision),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Lease(lease) => kv.lease.cmp(lease),
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}

/// Refusals that depend on the state: an unknown lease, a revision that is not there.
fn check_branch(
    state: &impl Reader,
    txn: &Txn,
    now: Revision,
    path: &mut impl Iterator<Item = bool>,
) -> Result<(), Failure> {
    let succeeded = path.next().unwrap_or_default();
    for op in if succeeded { &txn.success } else { &txn.failure } {
        match op {
            Op::Range(request) => check_revision(state, request.revision, now)?,
            Op::Put { lease, .. } if lease.get() != 0 && read::lease(state, *lease)?.is_none() => {
                return Err(Error::LeaseNotFound.into());
            }
            Op::Update { key, lease, .. } => check_update(state, key, *lease)?,
            Op::Put { .. } | Op::DeleteRange { .. } => {}
            Op::Txn(inner) => check_branch(state, inner, now, path)?,
        }
    }
    Ok(())
}

/// A put that keeps something needs something to keep; its own lease must exist as any put's.
fn check_update(state: &impl Reader, key: &Bytes, lease: Option<LeaseId>) -> Result<(), Failure> {
    if state.head(&layout::current(key))?.is_none() {
        return Err(Error::Invalid("etcdserver: key not found".to_owned()).into());
    }
    match lease.filter(|lease| lease.get() != 0) {
        Some(lease) if read::lease(state, lease)?.is_none() => Err(Error::LeaseNotFound.into()),
        _ => Ok(()),
    }
}

/// The writes of one revision.
struct Writer<'a, S> {
    state: &'a mut S,
    before: Revision,
    events: Vec<Event>,
}

impl<S: State> Writer<'_, S> {
    /// The revision a reader within the transaction sees.
    fn revision(&self) -> Revision {
        if self.events.is_empty() { self.before } else { self.before.next() }
    }

    fn branch(&mut self, txn: &Txn, path: &mut impl Iterator<Item = bool>) -> Result<TxnResponse, Failure> {
        let succeeded = path.next().unwrap_or_default();
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(self.op(op, path)?);
        }
        Ok(TxnResponse { revision: self.revision(), succeeded, responses })
    }

    fn op(&mut self, op: &Op, path: &mut impl Iterator<Item = bool>) -> Result<OpResponse, Failure> {
        Ok(match op {
            Op::Range(request) => OpResponse::Range(range_at(self.state, request, self.revision())?),
            Op::Put { key, value, lease, prev_kv } => {
                let old = self.put(key, value, *lease)?;
                OpResponse::Put { prev_kv: old.filter(|_| *prev_kv) }
            }
            Op::Update { key, value, lease, prev_kv } => {
                let old = self.update(key, value.as_ref(), *lease)?;
                OpResponse::Put { prev_kv: old.filter(|_| *prev_kv) }
            }
            Op::DeleteRange { range, prev_kv } => {
                let gone = self.delete_range(range)?;
                let deleted = gone.len();
                OpResponse::DeleteRange { deleted, prev_kvs: if *prev_kv { gone } else { Vec::new() } }
            }
            Op::Txn(inner) => OpResponse::Txn(self.branch(inner, path)?),
        })
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: LeaseId) -> Result<Option<KeyValue>, StateError> {
        let (revision, place) = (self.before.next(), layout::current(key));
        let old = self.state.get(&place)?;
        let old = old.map(|record| layout::take_current(key.clone(), &record)).transpose()?;
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease,
        };
        if let Some(old) = &old {
            self.retire(old, &place)?;
        }
        self.move_lease(key, old.as_ref().map_or(LeaseId(0), |old| old.lease), lease)?;
        self.state.put(&place, &[&layout::meta(&kv), value])?;
        self.record(Event { kind: EventKind::Put, kv, prev_kv: old.clone() })?;
        Ok(old)
    }

    /// A put that keeps what is None.
    fn update(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        lease: Option<LeaseId>,
    ) -> Result<Option<KeyValue>, Failure> {
        let now = current(self.state, key)?;
        // A delete earlier in this transaction cannot have taken it: validation refuses a key written twice.
        let Some(now) = now else {
            return Err(Error::Invalid("etcdserver: key not found".to_owned()).into());
        };
        let value = value.unwrap_or(&now.value);
        Ok(self.put(key, value, lease.unwrap_or(now.lease))?)
    }

    fn delete_range(&mut self, range: &KeyRange) -> Result<Vec<KeyValue>, Failure> {
        let gone = range_at(self.state, &RangeRequest::of(range.clone()), self.before)?.kvs;
        for kv in &gone {
            self.delete(kv)?;
        }
        Ok(gone)
    }

    fn delete(&mut self, old: &KeyValue) -> Result<(), StateError> {
        let (revision, place) = (self.before.next(), layout::current(&old.key));
        self.retire(old, &place)?;
        self.move_lease(&old.key, old.lease, LeaseId(0))?;
        self.state.delete(&place)?;
        self.state.put(&layout::old(&old.key, revision), &[&layout::event_tag(false)])?;
        self.record(deleted(old.key.clone(), revision, Some(old.clone())))
    }

    /// Moves a version to where history looks for it.
    fn retire(&mut self, old: &KeyValue, place: &[u8]) -> Result<(), StateError> {
        self.state.supersede(place, &layout::old(&old.key, old.mod_revision))
    }

    fn move_lease(&mut self, key: &[u8], from: LeaseId, to: LeaseId) -> Result<(), StateError> {
        if from == to {
            return Ok(());
        }
        if from.get() != 0 {
            self.state.delete(&layout::attached(from, key))?;
        }
        if to.get() != 0 {
            self.state.put(&layout::attached(to, key), &[])?;
        }
        Ok(())
    }

    fn record(&mut self, event: Event) -> Result<(), StateError> {
        // A transaction is bounded to far fewer events than u32 counts; a wide delete is bounded by the keys there are.
        let at = layout::history(self.before.next(), self.events.len() as u32);
        self.state.put(&at, &[&layout::event_tag(event.kind == EventKind::Put), &event.kv.key])?;
        self.events.push(event);
        Ok(())
    }
}

fn grant(state: &mut impl State, id: LeaseId, ttl_s: i64) -> Result<LeaseStatus, Failure> {
    if ttl_s > MAX_LEASE_TTL_S {
        return Err(Error::Invalid("etcdserver: too large lease TTL".to_owned()).into());
    }
    if id.get() == 0 {
        return Err(Error::Invalid("the proposer must choose the lease's id".to_owned()).into());
    }
    if read::lease(state, id)?.is_some() {
        return Err(Error::LeaseExists.into());
    }
    let ttl_s = ttl_s.max(MIN_LEASE_TTL_S);
    state.put(&layout::lease(id), &[&ttl_s.to_be_bytes()])?;
    Ok(LeaseStatus { id, granted_ttl_s: ttl_s, ttl_s, keys: Vec::new() })
}

/// Notes what is left of a lease; nothing when it has ended meanwhile.
fn note(state: &mut impl State, applied: &mut Applied, id: LeaseId, left_s: i64) -> Result<(), Failure> {
    let Some(ttl_s) = read::lease(state, id)? else { return Ok(()) };
    let left_s = left_s.clamp(0, ttl_s);
    if left_s == 0 {
        state.put(&layout::lease(id), &[&ttl_s.to_be_bytes()])?;
    } else {
        state.put(&layout::lease(id), &[&ttl_s.to_be_bytes(), &left_s.to_be_bytes()])?;
    }
    applied.leases.push(LeaseChange::Noted { id, left_s });
    Ok(())
}

fn revoke(state: &mut impl State, applied: &mut Applied, id: LeaseId) -> Result<(), Failure> {
    if read::lease(state, id)?.is_none() {
        return Err(Error::LeaseNotFound.into());
    }
    let keys = read::lease_keys(state, id)?;
    let mut writer = Writer { state, before: applied.revision, events: Vec::new() };
    for key in keys {
        if let Some(kv) = current(writer.state, &key)? {
            writer.delete(&kv)?;
        }
    }
    let events = writer.events;
    applied.publish(events);
    state.delete(&layout::lease(id))?;
    Ok(())
}

fn compact(state: &mut impl State, revision: Revision, now: Revision) -> Result<(), Failure> {
    if revision > now {
        return Err(Error::FutureRevision { current: now }.into());
    }
    let compact_revision = read::last_compaction(state)?;
    if revision <= compact_revision {
        return Err(Error::Compacted { compact_revision }.into());
    }
    state.put(layout::META_COMPACTED, &[&revision.get().to_be_bytes()])?;
    Ok(())
}
