//! Histories that are right pass; every kind of planted mistake is found.

use std::sync::Arc;

use base::random::Random;
use bytes::Bytes;
use store_api::{KeyRange, Revision};

use super::*;

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(value: &str) -> Call {
    Call::Put { key: key("k"), value: key(value) }
}

fn get() -> Call {
    Call::Get { key: key("k") }
}

fn found(value: &str, mod_revision: i64) -> Option<Found> {
    Some(Found { value: key(value), mod_revision: Revision(mod_revision) })
}

fn got(revision: i64, found: Option<Found>) -> Reply {
    Reply::Get { revision: Revision(revision), found }
}

fn wrote(revision: i64) -> Reply {
    Reply::Put { revision: Revision(revision) }
}

/// Operations one after another.
fn serial(steps: Vec<(Call, Option<Reply>)>) -> History {
    let recorder = Recorder::new();
    for (call, reply) in steps {
        let id = recorder.call(0, call);
        if let Some(reply) = reply {
            recorder.reply(id, reply);
        }
    }
    recorder.finish()
}

#[test]
fn a_plain_history_is_right() {
    let cas = |expect, value| Call::Cas { key: key("k"), expect: Revision(expect), value: key(value) };
    let history = serial(vec![
        (get(), Some(got(1, None))),
        (put("a"), Some(wrote(2))),
        (get(), Some(got(2, found("a", 2)))),
        (cas(2, "b"), Some(Reply::Cas { revision: Revision(3), outcome: Ok(()) })),
        (cas(2, "c"), Some(Reply::Cas { revision: Revision(3), outcome: Err(found("b", 3)) })),
        (
            Call::Delete { key: key("k") },
            Some(Reply::Delete { revision: Revision(4), previous: found("b", 3) }),
        ),
        (Call::Delete { key: key("k") }, Some(Reply::Delete { revision: Revision(4), previous: None })),
        (get(), Some(got(4, None))),
        (put("refused"), Some(Reply::Failed)),
        (get(), Some(got(4, None))),
    ]);
    assert_eq!(history.check(), Ok(()));
    assert_eq!(history.counts(), (9, 1, 0));
}

#[test]
fn concurrent_writes_may_take_either_order() {
    let recorder = Recorder::new();
    let a = recorder.call(1, put("a"));
    let b = recorder.call(2, put("b"));
    let read = recorder.call(3, get());
    recorder.reply(a, wrote(3));
    recorder.reply(b, wrote(2));
    recorder.reply(read, got(2, found("b", 2)));
    let after = recorder.call(3, get());
    recorder.reply(after, got(3, found("a", 3)));
    assert_eq!(recorder.finish().check(), Ok(()));
}

#[test]
fn an_unanswered_write_may_have_happened_later_or_never() {
    let never = serial(vec![
        (put("a"), Some(wrote(2))),
        (put("lost"), None),
        (get(), Some(got(2, found("a", 2)))),
        (put("b"), Some(wrote(3))),
    ]);
    assert_eq!(never.check(), Ok(()));
    let late = serial(vec![
        (put("a"), Some(wrote(2))),
        (put("slow"), None),
        (get(), Some(got(2, found("a", 2)))),
        (get(), Some(got(3, found("slow", 3)))),
        (put("b"), Some(wrote(4))),
        (get(), Some(got(4, found("b", 4)))),
    ]);
    assert_eq!(late.check(), Ok(()));
    let back = serial(vec![
        (put("slow"), None),
        (get(), Some(got(2, found("slow", 2)))),
        (put("b"), Some(wrote(3))),
        (get(), Some(got(3, found("slow", 2)))),
    ]);
    assert!(back.check().is_err(), "it happened once, not twice");
}

#[test]
fn an_unanswered_compare_that_held_tells_of_a_write_nobody_saw() {
    let cas = |expect, value| Call::Cas { key: key("k"), expect: Revision(expect), value: key(value) };
    let history = |second: Call| {
        serial(vec![
            (put("a"), Some(wrote(2))),
            (second, None),
            (cas(3, "c"), None),
            (get(), Some(got(4, found("c", 4)))),
        ])
    };
    history(put("b")).check().unwrap();
    // Without a write between them the compare cannot have held.
    assert!(history(get()).check().is_err());
}

#[test]
fn unanswered_writes_that_nobody_can_have_seen_do_not_keep_the_search_busy() {
    let mut steps: Vec<(Call, Option<Reply>)> = (0..30).map(|n| (put(&format!("lost-{n}")), None)).collect();
    let cas = Call::Cas { key: key("k"), expect: Revision(2), value: key("b") };
    steps.extend([
        (put("a"), Some(wrote(2))),
        (cas, Some(Reply::Cas { revision: Revision(3), outcome: Ok(()) })),
        (put("told"), None),
        (get(), Some(got(4, found("told", 4)))),
        (get(), Some(got(5, found("nobody's", 5)))),
    ]);
    let violation = serial(steps).check().unwrap_err();
    assert!(matches!(violation, Violation::NotLinearizable { .. }), "{violation}");
}

#[test]
fn planted_violations_are_found() {
    let lost = serial(vec![(put("a"), Some(wrote(2))), (get(), Some(got(2, None)))]);
    assert!(matches!(lost.check(), Err(Violation::Revisions(_))));
    let stale = serial(vec![
        (put("a"), Some(wrote(2))),
        (put("b"), Some(wrote(3))),
        (get(), Some(got(2, found("a", 2)))),
    ]);
    assert!(matches!(stale.check(), Err(Violation::Revisions(_))));
    let twice = serial(vec![(put("a"), Some(wrote(2))), (put("b"), Some(wrote(2)))]);
    assert!(twice.check().is_err());
    let invented = serial(vec![(put("a"), Some(wrote(2))), (get(), Some(got(3, found("x", 3))))]);
    assert!(matches!(invented.check(), Err(Violation::NotLinearizable { .. })));
    let refused = serial(vec![(put("a"), Some(Reply::Failed)), (get(), Some(got(2, found("a", 2))))]);
    assert!(matches!(refused.check(), Err(Violation::NotLinearizable { .. })));
    let wrong_value = serial(vec![(put("a"), Some(wrote(2))), (get(), Some(got(2, found("b", 2))))]);
    assert!(wrong_value.check().is_err());
    let both = |revision, value| {
        let call = Call::Cas { key: key("k"), expect: Revision(2), value: key(value) };
        (call, Some(Reply::Cas { revision: Revision(revision), outcome: Ok(()) }))
    };
    let split_brain = serial(vec![(put("a"), Some(wrote(2))), both(3, "b"), both(4, "c")]);
    assert!(matches!(split_brain.check(), Err(Violation::NotLinearizable { .. })));
}

/// A store of one register behind one lock, with clients whose calls and replies are late; some answers get lost.
fn simulated(seed: u64, spoil: impl Fn(usize, &mut Reply)) -> History {
    let random = &mut Random::from_seed(seed);
    let recorder = Arc::new(Recorder::new());
    let (mut revision, mut register) = (1, None);
    let mut waiting: Vec<(OperationId, Call, Option<Reply>)> = Vec::new();
    for n in 0..400 {
        if waiting.len() < 6 && random.next_u64().is_multiple_of(2) {
            let call = match random.next_u64() % 4 {
                0 => get(),
                1 => Call::Delete { key: key("k") },
                _ => put(&format!("v{n}")),
            };
            waiting.push((recorder.call(n, call.clone()), call, None));
        }
        let Some(chosen) = pick(random, waiting.len()) else { continue };
        let (id, call, reply) = &mut waiting[chosen];
        match reply.take() {
            None => *reply = Some(happen(call, &mut revision, &mut register)),
            Some(mut reply) => {
                spoil(n as usize, &mut reply);
                if !random.next_u64().is_multiple_of(20) {
                    recorder.reply(*id, reply);
                }
                waiting.remove(chosen);
            }
        }
    }
    recorder.finish()
}

fn pick(random: &mut Random, count: usize) -> Option<usize> {
    (count > 0).then(|| (random.next_u64() % count as u64) as usize)
}

fn happen(call: &Call, revision: &mut i64, register: &mut Option<Found>) -> Reply {
    match call {
        Call::Get { .. } => got(*revision, register.clone()),
        Call::Put { value, .. } | Call::Cas { value, .. } => {
            *revision += 1;
            *register = Some(Found { value: value.clone(), mod_revision: Revision(*revision) });
            wrote(*revision)
        }
        Call::Delete { .. } => {
            let previous = register.take();
            *revision += i64::from(previous.is_some());
            Reply::Delete { revision: Revision(*revision), previous }
        }
    }
}

#[test]
fn random_right_histories_pass_and_spoiled_ones_do_not() {
    let mut caught = 0;
    for seed in 0..40 {
        assert_eq!(simulated(seed, |_, _| ()).check(), Ok(()), "seed {seed}");
        let spoiled = simulated(seed, |n, reply| {
            if n > 200
                && let Reply::Get { found, .. } = reply
            {
                *found = self::found("v3", 4);
            }
        });
        caught += usize::from(spoiled.check().is_err());
    }
    assert_eq!(caught, 40);
}

/// A short history with answers that may or may not fit together.
fn short(random: &mut Random) -> History {
    let recorder = Recorder::new();
    let mut open: Vec<(OperationId, Call)> = Vec::new();
    let value = |random: &mut Random| key(&format!("v{}", random.below(4)));
    let found = |random: &mut Random| {
        (random.below(3) > 0)
            .then(|| Found { value: value(random), mod_revision: Revision(2 + random.below(4) as i64) })
    };
    for n in 0..6 {
        let call = match random.below(8) {
            0..=1 => get(),
            2 => Call::Delete { key: key("k") },
            3..=4 => put(&format!("v{n}")),
            _ => Call::Cas {
                key: key("k"),
                expect: Revision([0, 2, 3, 4][random.below(4) as usize]),
                value: key(&format!("v{n}")),
            },
        };
        open.push((recorder.call(n, call.clone()), call));
        while open.len() > random.below(4) as usize {
            let (id, call) = open.remove(random.below(open.len() as u64) as usize);
            let revision = Revision(2 + random.below(5) as i64);
            let reply = match call {
                Call::Get { .. } => Reply::Get { revision: Revision(9), found: found(random) },
                Call::Put { .. } => Reply::Put { revision },
                Call::Delete { .. } => Reply::Delete { revision, previous: found(random) },
                Call::Cas { .. } if random.below(3) > 0 => Reply::Cas { revision, outcome: Ok(()) },
                Call::Cas { .. } => Reply::Cas { revision, outcome: Err(found(random)) },
            };
            if random.below(2) > 0 {
                recorder.reply(id, reply);
            }
        }
    }
    recorder.finish()
}

/// Whether some order explains a history, found by trying them all on a real register.
fn explained(left: &[&Operation], revision: i64, register: &Option<Found>) -> bool {
    let Some(end) = left.iter().filter_map(|o| o.reply.as_ref()).map(|(replied, _)| *replied).min() else {
        return true;
    };
    left.iter().enumerate().filter(|(_, operation)| operation.called < end).any(|(at, operation)| {
        let mut rest = left.to_vec();
        rest.remove(at);
        let current = register.as_ref().map_or(0, |found| found.mod_revision.get());
        let at_most = 9;
        let write = |value: Option<&Bytes>, range: std::ops::RangeInclusive<i64>| {
            range.filter(|next| *next > revision).any(|next| {
                let found = value.map(|value| Found { value: value.clone(), mod_revision: Revision(next) });
                explained(&rest, next, &found)
            })
        };
        let any = 1..=at_most;
        let one = |revision: &Revision| revision.get()..=revision.get();
        match (&operation.call, operation.reply.as_ref().map(|(_, reply)| reply)) {
            (Call::Put { value, .. }, None) => write(Some(value), any),
            (Call::Put { value, .. }, Some(Reply::Put { revision })) => write(Some(value), one(revision)),
            (Call::Delete { .. }, None) => register.is_some() && write(None, any),
            (Call::Delete { .. }, Some(Reply::Delete { revision, previous: Some(previous) })) => {
                register.as_ref() == Some(previous) && write(None, one(revision))
            }
            (Call::Cas { expect, value, .. }, None) => expect.get() == current && write(Some(value), any),
            (Call::Cas { expect, value, .. }, Some(Reply::Cas { revision, outcome: Ok(()) })) => {
                expect.get() == current && write(Some(value), one(revision))
            }
            (Call::Cas { expect, .. }, Some(Reply::Cas { outcome: Err(found), .. })) => {
                expect.get() != current && found == register && explained(&rest, revision, register)
            }
            (Call::Get { .. }, Some(Reply::Get { found: seen, .. }))
            | (Call::Delete { .. }, Some(Reply::Delete { previous: seen, .. })) => {
                seen == register && explained(&rest, revision, register)
            }
            _ => false,
        }
    })
}

#[test]
fn the_search_finds_what_trying_everything_finds() {
    let mut random = Random::from_seed(11);
    let mut right = 0;
    for n in 0..20_000 {
        let history = short(&mut random);
        let operations: Vec<&Operation> = history.operations().iter().collect();
        let expected = explained(&operations, 1, &None);
        let found = linear::check(&key("k"), operations).is_ok();
        assert_eq!(found, expected, "history {n}: {:#?}", history.operations());
        right += usize::from(found);
    }
    assert!((2_000..18_000).contains(&right), "{right} of 20,000 are right");
}

#[test]
fn watches_are_held_to_the_history() {
    let history = serial(vec![
        (put("a"), Some(wrote(2))),
        (
            Call::Delete { key: key("k") },
            Some(Reply::Delete { revision: Revision(3), previous: found("a", 2) }),
        ),
        (put("lost"), None),
        (put("b"), Some(wrote(5))),
    ]);
    let event = |value: Option<&str>, revision| SeenEvent {
        key: key("k"),
        value: value.map(key),
        revision: Revision(revision),
    };
    let all = KeyRange::prefix("");
    let check = |messages: &[Seen]| check_watch(&history, &all, Revision(2), Some(Revision(5)), messages);
    let (a, gone, lost, b) =
        (event(Some("a"), 2), event(None, 3), event(Some("lost"), 4), event(Some("b"), 5));
    let one = |event: &SeenEvent| Seen::Events(vec![event.clone()]);
    let right =
        [Seen::Events(vec![a.clone(), gone.clone()]), Seen::Progress(Revision(3)), one(&lost), one(&b)];
    assert_eq!(check(&right), Ok(()));
    assert_eq!(check(&[one(&a), one(&gone), one(&b)]), Ok(()), "an unanswered write need not show");
    for (wrong, what) in [
        (vec![one(&a), one(&b)], "a gap"),
        (vec![one(&a), one(&gone)], "the end is missing"),
        (vec![one(&a), one(&a), one(&gone), one(&b)], "twice"),
        (vec![one(&gone), one(&a), one(&b)], "out of order"),
        (vec![Seen::Progress(Revision(4)), one(&a), one(&gone), one(&b)], "progress before the events"),
        (vec![one(&a), one(&gone), one(&event(Some("x"), 4)), one(&b)], "invented"),
        (vec![one(&a), one(&event(Some("a"), 3)), one(&b)], "another event at that revision"),
    ] {
        assert!(check(&wrong).is_err(), "{what}");
    }
}
