//! Scripts a person can read: commands in, answers and events out.
//!
//! ```text
//! put KEY VALUE [lease=N]   del KEY|PREFIX*   get KEY|PREFIX* [@REV]   txn CONDITION ? OPS : OPS   (ops split by ;)
//! grant N TTL   revoke N    compact REV       sweep BUDGET             history KEY|PREFIX* REV     dump
//! ```
//! A condition is `KEY absent`, `KEY mod N` or `KEY value V`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fmt::Write;

use expect_test::{Expect, expect};
use mvcc::{Entry, MemState, Reply, apply, layout, read, sweep};
use store_api::{
    Compare, CompareResult, CompareTarget, Event, EventKind, KeyRange, KeyValue, LeaseId, Op, OpResponse,
    RangeRequest, Revision, Txn, TxnResponse,
};

fn range(text: &str) -> KeyRange {
    text.strip_suffix('*')
        .map_or_else(|| KeyRange::One(text.to_owned().into()), |prefix| KeyRange::prefix(prefix.to_owned()))
}

fn op(text: &str) -> Op {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["put", key, value] => Op::put(key.to_owned(), value.to_owned()),
        ["put", key, value, lease] => Op::Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease: LeaseId(lease.strip_prefix("lease=").unwrap().parse().unwrap()),
            prev_kv: false,
        },
        ["del", keys] => Op::DeleteRange { range: range(keys), prev_kv: true },
        ["get", keys] => Op::Range(RangeRequest::of(range(keys))),
        ["get", keys, at] => Op::Range(RangeRequest {
            revision: Some(Revision(at.strip_prefix('@').unwrap().parse().unwrap())),
            ..RangeRequest::of(range(keys))
        }),
        _ => panic!("not an operation: {text}"),
    }
}

fn condition(text: &str) -> Compare {
    let words: Vec<&str> = text.split_whitespace().collect();
    let with = |key: &str, target| Compare { range: range(key), target, result: CompareResult::Equal };
    match words[..] {
        [key, "absent"] => Compare::absent(key.to_owned()),
        [key, "mod", n] => Compare::unchanged(key.to_owned(), Revision(n.parse().unwrap())),
        [key, "value", v] => with(key, CompareTarget::Value(v.to_owned().into())),
        _ => panic!("not a condition: {text}"),
    }
}

fn entry(line: &str) -> Entry {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["grant", id, ttl] => {
            Entry::LeaseGrant { id: LeaseId(id.parse().unwrap()), ttl_s: ttl.parse().unwrap() }
        }
        ["revoke", id] => Entry::LeaseRevoke { id: LeaseId(id.parse().unwrap()) },
        ["compact", revision] => Entry::Compact { revision: Revision(revision.parse().unwrap()) },
        ["txn", ..] => {
            let (when, branches) = line.trim_start_matches("txn").split_once('?').unwrap();
            let (yes, no) = branches.split_once(':').unwrap();
            let ops = |text: &str| text.split(';').filter(|t| !t.trim().is_empty()).map(op).collect();
            Entry::Txn(Txn { compare: vec![condition(when)], success: ops(yes), failure: ops(no) })
        }
        _ => Entry::Txn(Txn { success: vec![op(line)], ..Txn::default() }),
    }
}

fn kv(kv: &KeyValue) -> String {
    let lease = if kv.lease.get() == 0 { String::new() } else { format!(" lease {}", kv.lease) };
    let (key, value) = (kv.key.escape_ascii(), kv.value.escape_ascii());
    format!("{key}={value} (made {}, at {}, v{}{lease})", kv.create_revision, kv.mod_revision, kv.version)
}

fn answer(response: &TxnResponse) -> String {
    let shown = response.responses.iter().map(|one| match one {
        OpResponse::Range(found) => format!("{:?}", found.kvs.iter().map(kv).collect::<Vec<_>>()),
        OpResponse::Put { .. } => "put".to_owned(),
        OpResponse::DeleteRange { deleted, .. } => format!("deleted {deleted}"),
        OpResponse::Txn(inner) => answer(inner),
    });
    let branch = if response.succeeded { "yes" } else { "no" };
    format!("rev {} {branch}: {}", response.revision, shown.collect::<Vec<_>>().join(", "))
}

fn event(event: &Event) -> String {
    let before = event.prev_kv.as_ref().map(|old| format!("  was {}", kv(old))).unwrap_or_default();
    match event.kind {
        EventKind::Put => format!("  + {}{before}", kv(&event.kv)),
        EventKind::Delete => {
            format!("  - {} at {}{before}", event.kv.key.escape_ascii(), event.kv.mod_revision)
        }
    }
}

fn run(state: &mut MemState, line: &str, out: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["sweep", budget] => {
            writeln!(out, "more: {}", sweep(state, budget.parse().unwrap()).unwrap()).unwrap()
        }
        ["dump"] => state.entries().for_each(|(key, value)| dump(key, value, out)),
        ["history", keys, from] => {
            match read::history(state, &range(keys), Revision(from.parse().unwrap()), 100) {
                Ok(found) => found.events.iter().for_each(|e| writeln!(out, "{}", event(e)).unwrap()),
                Err(failure) => writeln!(out, "{}", store_api::Error::from(failure)).unwrap(),
            }
        }
        _ => {
            let applied = apply(state, &[entry(line)]).unwrap();
            match &applied.replies[0] {
                Ok(Reply::Txn(response)) => writeln!(out, "{}", answer(response)).unwrap(),
                Ok(other) => writeln!(out, "{other:?}").unwrap(),
                Err(error) => writeln!(out, "{error}").unwrap(),
            }
            let events = applied.events.iter().flat_map(|batch| &batch.events);
            events.for_each(|e| writeln!(out, "{}", event(e)).unwrap());
        }
    }
}

fn dump(key: &[u8], value: &[u8], out: &mut String) {
    let shown = match key[0] {
        layout::OLD => {
            let (name, revision) = layout::parse_old(key).unwrap();
            format!("o {} {revision}", name.escape_ascii())
        }
        layout::HISTORY => format!("h {}", layout::parse_history(key).unwrap()),
        _ => key.escape_ascii().to_string(),
    };
    writeln!(out, "  {shown} ({} bytes)", value.len()).unwrap();
}

fn check(script: &str, expect: &Expect) {
    let (mut state, mut out) = (MemState::default(), String::new());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(out, "> {line}").unwrap();
        run(&mut state, line, &mut out);
    }
    expect.assert_eq(&out);
}

#[test]
fn generations() {
    check(
        "put a 1
         put a 2
         del a
         del a
         put a 3
         get a
         get a @3
         get a @4
         history a 2",
        &expect![[r#"
            > put a 1
            rev 2 yes: put
              + a=1 (made 2, at 2, v1)
            > put a 2
            rev 3 yes: put
              + a=2 (made 2, at 3, v2)  was a=1 (made 2, at 2, v1)
            > del a
            rev 4 yes: deleted 1
              - a at 4  was a=2 (made 2, at 3, v2)
            > del a
            rev 4 yes: deleted 0
            > put a 3
            rev 5 yes: put
              + a=3 (made 5, at 5, v1)
            > get a
            rev 5 yes: ["a=3 (made 5, at 5, v1)"]
            > get a @3
            rev 5 yes: ["a=2 (made 2, at 3, v2)"]
            > get a @4
            rev 5 yes: []
            > history a 2
              + a=1 (made 2, at 2, v1)
              + a=2 (made 2, at 3, v2)  was a=1 (made 2, at 2, v1)
              - a at 4  was a=2 (made 2, at 3, v2)
              + a=3 (made 5, at 5, v1)
        "#]],
    );
}

#[test]
fn transactions() {
    check(
        "txn a absent ? put a 1; put b 1; get * : get a
         txn a absent ? put a 1 : get *
         txn a value 1 ? del *; get * :
         txn a mod 0 ? put c 1; put c 2 :
         put c 1 lease=9
         get * @99",
        &expect![[r#"
            > txn a absent ? put a 1; put b 1; get * : get a
            rev 2 yes: put, put, ["a=1 (made 2, at 2, v1)", "b=1 (made 2, at 2, v1)"]
              + a=1 (made 2, at 2, v1)
              + b=1 (made 2, at 2, v1)
            > txn a absent ? put a 1 : get *
            rev 2 no: ["a=1 (made 2, at 2, v1)", "b=1 (made 2, at 2, v1)"]
            > txn a value 1 ? del *; get * :
            rev 3 yes: deleted 2, []
              - a at 3  was a=1 (made 2, at 2, v1)
              - b at 3  was b=1 (made 2, at 2, v1)
            > txn a mod 0 ? put c 1; put c 2 :
            etcdserver: duplicate key given in txn request
            > put c 1 lease=9
            etcdserver: requested lease not found
            > get * @99
            etcdserver: mvcc: required revision is a future revision
        "#]],
    );
}

#[test]
fn leases() {
    check(
        "grant 7 1
         grant 7 10
         grant 8 10
         put b 1 lease=7
         put a 1 lease=7
         put c 1 lease=7
         put c 2 lease=8
         put b 2
         revoke 7
         revoke 7
         get *",
        &expect![[r#"
            > grant 7 1
            LeaseGranted(LeaseStatus { id: 7, granted_ttl_s: 2, ttl_s: 2, keys: [] })
            > grant 7 10
            etcdserver: lease already exists
            > grant 8 10
            LeaseGranted(LeaseStatus { id: 8, granted_ttl_s: 10, ttl_s: 10, keys: [] })
            > put b 1 lease=7
            rev 2 yes: put
              + b=1 (made 2, at 2, v1 lease 7)
            > put a 1 lease=7
            rev 3 yes: put
              + a=1 (made 3, at 3, v1 lease 7)
            > put c 1 lease=7
            rev 4 yes: put
              + c=1 (made 4, at 4, v1 lease 7)
            > put c 2 lease=8
            rev 5 yes: put
              + c=2 (made 4, at 5, v2 lease 8)  was c=1 (made 4, at 4, v1 lease 7)
            > put b 2
            rev 6 yes: put
              + b=2 (made 2, at 6, v2)  was b=1 (made 2, at 2, v1 lease 7)
            > revoke 7
            LeaseRevoked
              - a at 7  was a=1 (made 3, at 3, v1 lease 7)
            > revoke 7
            etcdserver: requested lease not found
            > get *
            rev 7 yes: ["b=2 (made 2, at 6, v2)", "c=2 (made 4, at 5, v2 lease 8)"]
        "#]],
    );
}

#[test]
fn compaction() {
    check(
        "put a 1
         put a 2
         put b 1
         put a 3
         del b
         put c 1
         compact 99
         compact 6
         get * @5
         get * @6
         history * 5
         history * 6
         sweep 2
         sweep 100
         sweep 100
         dump
         get * @6
         history * 6
         compact 7
         sweep 100
         dump",
        &expect![[r#"
            > put a 1
            rev 2 yes: put
              + a=1 (made 2, at 2, v1)
            > put a 2
            rev 3 yes: put
              + a=2 (made 2, at 3, v2)  was a=1 (made 2, at 2, v1)
            > put b 1
            rev 4 yes: put
              + b=1 (made 4, at 4, v1)
            > put a 3
            rev 5 yes: put
              + a=3 (made 2, at 5, v3)  was a=2 (made 2, at 3, v2)
            > del b
            rev 6 yes: deleted 1
              - b at 6  was b=1 (made 4, at 4, v1)
            > put c 1
            rev 7 yes: put
              + c=1 (made 7, at 7, v1)
            > compact 99
            etcdserver: mvcc: required revision is a future revision
            > compact 6
            Compacted
            > get * @5
            etcdserver: mvcc: required revision has been compacted
            > get * @6
            rev 7 yes: ["a=3 (made 2, at 5, v3)"]
            > history * 5
            etcdserver: mvcc: required revision has been compacted
            > history * 6
              - b at 6  was b=1 (made 4, at 4, v1)
              + c=1 (made 7, at 7, v1)
            > sweep 2
            more: true
            > sweep 100
            more: false
            > sweep 100
            more: false
            > dump
              h 6 (2 bytes)
              h 7 (2 bytes)
              ka (33 bytes)
              kc (33 bytes)
              mc (8 bytes)
              mr (8 bytes)
              ms (8 bytes)
              o b 6 (1 bytes)
            > get * @6
            rev 7 yes: ["a=3 (made 2, at 5, v3)"]
            > history * 6
              - b at 6
              + c=1 (made 7, at 7, v1)
            > compact 7
            Compacted
            > sweep 100
            more: false
            > dump
              h 7 (2 bytes)
              ka (33 bytes)
              kc (33 bytes)
              mc (8 bytes)
              mr (8 bytes)
              ms (8 bytes)
        "#]],
    );
}
