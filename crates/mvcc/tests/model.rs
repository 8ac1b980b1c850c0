//! Random programs against a model that keeps every past state whole.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use mvcc::{Entry, MemState, Reader, Reply, State, StateError, apply, dump, hash, layout, read, sweep};
use proptest::prelude::*;
use store_api::{
    Compare, Error, Event, EventKind, KeyRange, KeyValue, LeaseId, Op, RangeRequest, Revision, Txn,
};

/// A step of a program. Keys are few, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Txn {
        absent: Option<u8>,
        ops: Vec<Change>,
    },
    Grant(i64),
    Revoke(i64),
    /// Compact this many revisions below the present, and sweep with this budget.
    Compact(i64, usize),
}

#[derive(Debug, Clone)]
enum Change {
    Put(u8, i64),
    Delete(u8, u8),
}

/// Keys with zero bytes and common prefixes, where escaping matters.
fn key(n: u8) -> Vec<u8> {
    [&b"a"[..], b"a\0", b"a\0\x01", b"a\0\xff", b"ab", b"b", b"\0", b"\xff"][usize::from(n)].to_vec()
}

fn span(from: u8, to: u8) -> KeyRange {
    KeyRange::Span { start: key(from).into(), end: if to == 6 { vec![].into() } else { key(to).into() } }
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..8u8, 0..3i64).prop_map(|(key, lease)| Change::Put(key, lease)),
        1 => (0..8u8, 0..8u8).prop_map(|(from, to)| Change::Delete(from, to)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (proptest::option::weighted(0.3, 0..8u8), proptest::collection::vec(changes(), 1..4))
            .prop_map(|(absent, ops)| Step::Txn { absent, ops }),
        1 => (1..3i64).prop_map(Step::Grant),
        1 => (1..3i64).prop_map(Step::Revoke),
        1 => (0..6i64, 1..20usize).prop_map(|(back, budget)| Step::Compact(back, budget)),
    ]
}

type Keys = BTreeMap<Vec<u8>, KeyValue>;

/// All states by revision, and all events.
struct Model {
    states: Vec<Keys>,
    events: Vec<Event>,
    leases: Vec<i64>,
    compacted: i64,
}

impl Model {
    fn revision(&self) -> i64 {
        self.states.len() as i64
    }
    fn now(&self) -> &Keys {
        self.states.last().unwrap()
    }
    fn at(&self, revision: i64) -> &Keys {
        &self.states[revision as usize - 1]
    }

    fn commit(&mut self, next: Keys, mut events: Vec<Event>) {
        if !events.is_empty() {
            self.states.push(next);
            self.events.append(&mut events);
        }
    }

    fn put(&self, next: &mut Keys, events: &mut Vec<Event>, n: u8, lease: i64) {
        let revision = Revision(self.revision() + 1);
        let old = next.get(&key(n)).cloned();
        let kv = KeyValue {
            key: key(n).into(),
            value: format!("{revision}").into(),
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: LeaseId(lease),
        };
        next.insert(key(n), kv.clone());
        events.push(Event { kind: EventKind::Put, kv, prev_kv: old });
    }

    fn delete(&self, next: &mut Keys, events: &mut Vec<Event>, matching: impl Fn(&KeyValue) -> bool) {
        let gone: Vec<_> = next.values().filter(|kv| matching(kv)).cloned().collect();
        for old in gone {
            next.remove(&old.key[..]);
            let kv = KeyValue {
                key: old.key.clone(),
                value: "".into(),
                create_revision: Revision(0),
                mod_revision: Revision(self.revision() + 1),
                version: 0,
                lease: LeaseId(0),
            };
            events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(old) });
        }
    }

    /// None when the transaction is refused.
    fn txn(&mut self, absent: Option<u8>, ops: &[Change], lease_ok: bool) -> Option<bool> {
        let succeeds = absent.is_none_or(|n| !self.now().contains_key(&key(n)));
        if !lease_ok && succeeds {
            return None;
        }
        if succeeds {
            let (mut next, mut events) = (self.now().clone(), Vec::new());
            for op in ops {
                match op {
                    Change::Put(n, lease) => self.put(&mut next, &mut events, *n, *lease),
                    Change::Delete(from, to) => {
                        let range = span(*from, *to);
                        self.delete(&mut next, &mut events, |kv| range.contains(&kv.key));
                    }
                }
            }
            self.commit(next, events);
        }
        Some(succeeds)
    }
}

fn entry(step: &Step, model: &Model) -> Entry {
    match step {
        Step::Txn { absent, ops } => {
            let revision = model.revision() + 1;
            let success = ops.iter().map(|op| match op {
                Change::Put(n, lease) => Op::Put {
                    key: key(*n).into(),
                    value: format!("{revision}").into(),
                    lease: LeaseId(*lease),
                    prev_kv: false,
                },
                Change::Delete(from, to) => Op::DeleteRange { range: span(*from, *to), prev_kv: false },
            });
            let compare = absent.iter().map(|n| Compare::absent(key(*n))).collect();
            Entry::Txn(Txn { compare, success: success.collect(), failure: vec![] })
        }
        Step::Grant(id) => Entry::LeaseGrant { id: LeaseId(*id), ttl_s: 10 },
        Step::Revoke(id) => Entry::LeaseRevoke { id: LeaseId(*id) },
        Step::Compact(back, _) => Entry::Compact { revision: Revision(model.revision() - back) },
    }
}

/// Runs a step on both; their answers must agree.
fn both(step: &Step, state: &mut MemState, model: &mut Model) {
    let mut encoded = Vec::new();
    entry(step, model).encode(&mut encoded);
    let applied = apply(state, &[Entry::decode(encoded.into()).unwrap()]).unwrap();
    let known = model.events.len();
    match (step, &applied.replies[0]) {
        (Step::Txn { .. }, Err(Error::Invalid(text))) => assert!(text.contains("duplicate key")),
        (Step::Txn { absent, ops }, reply) => {
            let leases =
                ops.iter().all(|op| matches!(op, Change::Delete(..) | Change::Put(_, 0)) || has(op, model));
            match (model.txn(*absent, ops, leases), reply) {
                (None, Err(Error::LeaseNotFound)) => {}
                (Some(expect), Ok(Reply::Txn(response))) => assert_eq!(response.succeeded, expect),
                other => panic!("{other:?}"),
            }
        }
        (Step::Grant(id), reply) => {
            assert_eq!(reply.is_ok(), !model.leases.contains(id));
            if reply.is_ok() {
                model.leases.push(*id);
            }
        }
        (Step::Revoke(id), reply) => {
            assert_eq!(reply.is_ok(), model.leases.contains(id));
            model.leases.retain(|lease| lease != id);
            let (mut next, mut events) = (model.now().clone(), Vec::new());
            model.delete(&mut next, &mut events, |kv| kv.lease.get() == *id);
            model.commit(next, events);
        }
        (Step::Compact(back, budget), reply) => {
            let bar = model.revision() - back;
            assert_eq!(reply.is_ok(), bar > model.compacted, "{reply:?}");
            model.compacted = model.compacted.max(bar);
            sweep(state, *budget).unwrap();
        }
    }
    assert_eq!(applied.revision, Revision(model.revision()));
    let events: Vec<_> = applied.events.into_iter().flat_map(|batch| batch.events).collect();
    assert_eq!(events, model.events[known..]);
}

fn has(op: &Change, model: &Model) -> bool {
    matches!(op, Change::Put(_, lease) if model.leases.contains(lease))
}

/// Every revision, range and piece of history reads as the model has it.
fn compare(state: &MemState, model: &Model) {
    for revision in 1..=model.revision() {
        for range in [KeyRange::prefix(""), span(0, 5), KeyRange::One(key(1).into())] {
            let request =
                RangeRequest { revision: Some(Revision(revision)), ..RangeRequest::of(range.clone()) };
            let found = read::range(state, &request);
            if revision < model.compacted {
                assert!(found.is_err());
                continue;
            }
            let expect: Vec<_> =
                model.at(revision).values().filter(|kv| range.contains(&kv.key)).cloned().collect();
            assert_eq!(found.unwrap().kvs, expect, "{range:?} at {revision}");
        }
    }
    let from = model.compacted.max(1);
    let found = read::history(state, &KeyRange::prefix(""), Revision(from), usize::MAX).unwrap().events;
    let expect: Vec<_> = model.events.iter().filter(|e| e.kv.mod_revision.get() >= from).collect();
    assert_eq!(found.len(), expect.len());
    for (found, expect) in found.iter().zip(expect) {
        assert_eq!((&found.kind, &found.kv), (&expect.kind, &expect.kv));
        // What was before is known unless it was compacted.
        let kept = found.prev_kv.is_some() || expect.kv.mod_revision.get() <= model.compacted;
        assert!(found.prev_kv == expect.prev_kv || !kept || found.prev_kv.is_none(), "{found:?}");
        assert!(kept || expect.prev_kv.is_none(), "{found:?} lost {:?}", expect.prev_kv);
    }
}

/// The state as a snapshot brings it over.
fn dumped_and_loaded(state: &MemState) -> MemState {
    let mut below = Vec::new();
    dump::visible_at_bar(state, &mut |revision, key| {
        below.push((revision, key.to_vec()));
        Ok::<_, StateError>(())
    })
    .unwrap();
    below.sort();
    let mut loaded = MemState::default();
    // A compaction at 0 removes nothing and is forgotten by a restore.
    if read::compacted(state).unwrap().get() == 0 {
        let stays = state.get(layout::META_COMPACTED).unwrap();
        if let Some(zero) = stays {
            loaded.put(layout::META_COMPACTED, &[&zero]).unwrap();
        }
    }
    let mut load = dump::Load::new(read::compacted(state).unwrap());
    for (id, ttl_s) in read::leases(state).unwrap() {
        load.lease(&mut loaded, id, ttl_s).unwrap();
    }
    for (sub, (revision, key)) in below.into_iter().enumerate() {
        let kv = dump::version(state, &key, revision).unwrap();
        load.put(&mut loaded, sub as u32, &kv).unwrap();
    }
    dump::events_from(state, &mut |revision, sub, put, key| {
        if put {
            load.put(&mut loaded, sub, &dump::version(state, key, revision)?)
        } else {
            load.delete(&mut loaded, revision, sub, key)
        }
    })
    .unwrap();
    let revision = load.revision();
    load.finish(&mut loaded, Revision(0)).unwrap();
    assert_eq!(revision, read::revision(state).unwrap());
    loaded
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_brain_is_the_model(program in proptest::collection::vec(steps(), 1..40)) {
        let mut state = MemState::default();
        let mut model = Model { states: vec![Keys::new()], events: vec![], leases: vec![], compacted: -1 };
        for step in &program {
            both(step, &mut state, &mut model);
        }
        compare(&state, &model);
        let loaded = dumped_and_loaded(&state);
        compare(&loaded, &model);
        let hash = hash::history(&state, Revision(0)).unwrap();
        let at_bar = hash::history(&state, hash.compacted).unwrap();
        while sweep(&mut state, 3).unwrap() {}
        compare(&state, &model);
        prop_assert_eq!(&loaded, &state);
        prop_assert_eq!(hash, hash::history(&state, Revision(0)).unwrap());
        prop_assert_eq!(at_bar, hash::history(&state, hash.compacted).unwrap());
        // What happens later changes nothing about the hash of before; any change changes the hash of now.
        apply(&mut state, &[Entry::Txn(Txn { success: vec![Op::put("late", "x")], ..Txn::default() })]).unwrap();
        prop_assert_eq!(hash.hash, hash::history(&state, hash.current).unwrap().hash);
        prop_assert_ne!(hash.hash, hash::history(&state, Revision(0)).unwrap().hash);
        let state = loaded;
        prop_assert_eq!(&dumped_and_loaded(&state), &state);
    }
}
