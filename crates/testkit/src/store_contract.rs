//! What every [`Store`] must do, as tests any implementation runs: `store_contract::run(|| async { ... }).await`.
//!
//! Each case gets a fresh store. Cases panic with what they saw. Not covered here: restarts, full disks, crashes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store_api::{
    Compare, CompareResult, CompareTarget, Error, Event, EventKind, KeyRange, KeyValue, LeaseId, Op,
    OpResponse, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse, Watch, WatchMessage,
    WatchRequest,
};

/// How long a message may take to come before a case fails.
const PATIENCE: Duration = Duration::from_secs(10);

type Shared = Arc<dyn Store>;

/// Runs all cases, each on a store of its own.
///
/// # Panics
/// When a case fails.
pub async fn run<F: Future<Output = Shared>>(make: impl Fn() -> F) {
    revisions_and_versions(make().await).await;
    ranges(make().await).await;
    past_revisions(make().await).await;
    comparisons(make().await).await;
    transactions(make().await).await;
    refusals(make().await).await;
    compaction(make().await).await;
    watch_from_now(make().await).await;
    watch_from_the_past(make().await).await;
    watch_edges(make().await).await;
    slow_watch_loses_nothing(make().await).await;
    many_writers(make().await).await;
    leases(make().await).await;
    lease_expiry(make().await).await;
}

async fn put(store: &Shared, key: &str, value: &str) -> Revision {
    let ops = vec![Op::put(key.to_owned(), value.to_owned())];
    write(store, ops).await.revision
}

async fn delete(store: &Shared, key: &str) -> Revision {
    write(store, vec![Op::delete(key.to_owned())]).await.revision
}

async fn write(store: &Shared, success: Vec<Op>) -> TxnResponse {
    store.txn(Txn { success, ..Txn::default() }).await.expect("the transaction")
}

async fn get(store: &Shared, key: &str) -> Option<KeyValue> {
    let mut found = store.range(RangeRequest::key(key.to_owned())).await.expect("the read");
    found.kvs.pop()
}

fn names(response: &RangeResponse) -> String {
    let show = |kv: &KeyValue| format!("{}={}@{}", text(&kv.key), text(&kv.value), kv.mod_revision);
    response.kvs.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn show(event: &Event) -> String {
    let kind = if event.kind == EventKind::Put { "put" } else { "del" };
    let before = event.prev_kv.as_ref().map(|kv| format!("<-{}", text(&kv.value))).unwrap_or_default();
    format!("{kind} {}={}@{}{before}", text(&event.kv.key), text(&event.kv.value), event.kv.mod_revision)
}

async fn next(watch: &mut Watch) -> WatchMessage {
    let message = tokio::time::timeout(PATIENCE, watch.messages.recv()).await;
    message.expect("a message in time").expect("an open watch")
}

/// Reads until `count` events have come; they must come in order and whole.
async fn events(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut last = Revision(0);
    while seen.len() < count {
        let WatchMessage::Events { revision, events } = next(watch).await else { continue };
        assert!(events[0].kv.mod_revision > last, "a revision split over messages, or out of order");
        last = events[events.len() - 1].kv.mod_revision;
        assert_eq!(last, revision);
        seen.extend(events.iter().map(show));
    }
    seen
}

async fn watch(store: &Shared, prefix: &str, start: Option<i64>, prev_kv: bool) -> Watch {
    let range = KeyRange::prefix(prefix.to_owned());
    let request = WatchRequest { range, start_revision: start.map(Revision), prev_kv };
    store.watch(request).await.expect("a watch")
}

async fn revisions_and_versions(store: Shared) {
    assert_eq!(store.revision(), Revision(1));
    assert_eq!(put(&store, "a", "1").await, Revision(2));
    assert_eq!(put(&store, "a", "2").await, Revision(3));
    assert_eq!(delete(&store, "nothing").await, Revision(3), "a delete of nothing moves no revision");
    assert_eq!(get(&store, "nothing").await, None);
    let kv = get(&store, "a").await.expect("a");
    let numbers = (kv.create_revision, kv.mod_revision, kv.version, text(&kv.value));
    assert_eq!(numbers, (Revision(2), Revision(3), 2, "2".to_owned()));
    assert_eq!(delete(&store, "a").await, Revision(4));
    assert_eq!(get(&store, "a").await, None);
    assert_eq!(put(&store, "a", "3").await, Revision(5));
    let kv = get(&store, "a").await.expect("a");
    assert_eq!((kv.create_revision, kv.version), (Revision(5), 1), "a new generation starts over");
    assert_eq!(store.revision(), Revision(5));
    let both = write(&store, vec![Op::put("x", "1"), Op::put("y", "2")]).await;
    assert_eq!(both.revision, Revision(6), "one transaction is one revision");
    assert_eq!(get(&store, "x").await.map(|kv| kv.mod_revision), Some(Revision(6)));
}

async fn ranges(store: Shared) {
    for key in ["a", "p/1", "p/2", "p/3", "q"] {
        put(&store, key, key).await;
    }
    let read = async |request: RangeRequest| store.range(request).await.expect("the read");
    let all = read(RangeRequest::prefix("p/")).await;
    assert_eq!((names(&all).as_str(), all.count, all.more), ("p/1=p/1@3 p/2=p/2@4 p/3=p/3@5", 3, false));
    assert_eq!(all.revision, Revision(6));
    let page = read(RangeRequest { limit: 2, ..RangeRequest::prefix("p/") }).await;
    assert_eq!((names(&page).as_str(), page.count, page.more), ("p/1=p/1@3 p/2=p/2@4", 3, true));
    let exact = read(RangeRequest { limit: 3, ..RangeRequest::prefix("p/") }).await;
    assert_eq!((exact.kvs.len(), exact.more), (3, false));
    let keys = read(RangeRequest { keys_only: true, ..RangeRequest::prefix("p/") }).await;
    assert_eq!(names(&keys), "p/1=@3 p/2=@4 p/3=@5");
    let count = read(RangeRequest { count_only: true, ..RangeRequest::prefix("p/") }).await;
    assert_eq!((count.kvs.len(), count.count), (0, 3));
    let from = KeyRange::Span { start: "p/3".into(), end: Bytes::new() };
    assert_eq!(names(&read(RangeRequest::of(from)).await), "p/3=p/3@5 q=q@6");
    let between = KeyRange::Span { start: "a".into(), end: "p/2".into() };
    assert_eq!(names(&read(RangeRequest::of(between)).await), "a=a@2 p/1=p/1@3");
    let backwards = KeyRange::Span { start: "q".into(), end: "a".into() };
    assert_eq!(read(RangeRequest::of(backwards)).await.count, 0);
}

async fn past_revisions(store: Shared) {
    put(&store, "p/a", "1").await; // 2
    put(&store, "p/b", "1").await; // 3
    put(&store, "p/a", "2").await; // 4
    delete(&store, "p/b").await; // 5
    put(&store, "p/b", "3").await; // 6
    put(&store, "p/0", "1").await; // 7
    let cases = [
        (2, "p/a=1@2"),
        (3, "p/a=1@2 p/b=1@3"),
        (4, "p/a=2@4 p/b=1@3"),
        (5, "p/a=2@4"),
        (6, "p/a=2@4 p/b=3@6"),
        (7, "p/0=1@7 p/a=2@4 p/b=3@6"),
    ];
    for (revision, expect) in cases {
        let request = RangeRequest { revision: Some(Revision(revision)), ..RangeRequest::prefix("p/") };
        let found = store.range(request.clone()).await.expect("a read of the past");
        assert_eq!((names(&found).as_str(), found.count), (expect, found.kvs.len()), "at {revision}");
        assert_eq!(found.revision, Revision(7), "the answer tells the present revision");
        let page = store.range(RangeRequest { limit: 1, ..request }).await.expect("a page of the past");
        assert_eq!((page.kvs.first(), page.count), (found.kvs.first(), found.count));
    }
    let at = |key: &'static str, revision| RangeRequest {
        revision: Some(Revision(revision)),
        ..RangeRequest::key(key)
    };
    assert_eq!(names(&store.range(at("p/b", 4)).await.expect("one key of the past")), "p/b=1@3");
    assert_eq!(names(&store.range(at("p/b", 5)).await.expect("one key of the past")), "");
    let future = store.range(at("p/b", 8)).await;
    assert_eq!(future, Err(Error::FutureRevision { current: Revision(7) }));
}

async fn comparisons(store: Shared) {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{CreateRevision, Lease, ModRevision, Value, Version};
    put(&store, "k", "m").await;
    put(&store, "k", "n").await; // create 2, mod 3, version 2
    let one = |key: &'static str| KeyRange::One(key.into());
    let cases = [
        (one("k"), Version(2), Equal, true),
        (one("k"), Version(2), NotEqual, false),
        (one("k"), CreateRevision(Revision(2)), Equal, true),
        (one("k"), ModRevision(Revision(2)), Greater, true),
        (one("k"), ModRevision(Revision(3)), Less, false),
        (one("k"), Value("n".into()), Equal, true),
        (one("k"), Value("m".into()), Greater, true),
        (one("k"), Lease(LeaseId(0)), Equal, true),
        (one("none"), ModRevision(Revision(0)), Equal, true),
        (one("none"), Version(0), Equal, true),
        (one("none"), Value(Bytes::new()), Equal, false),
        (one("none"), Value("x".into()), NotEqual, false),
        (KeyRange::prefix("k"), Version(1), Greater, true),
        (KeyRange::prefix(""), CreateRevision(Revision(0)), Greater, true),
        (KeyRange::prefix("none"), CreateRevision(Revision(0)), Greater, false),
    ];
    for (range, target, result, expect) in cases {
        let compare = Compare { range, target, result };
        let txn = Txn { compare: vec![compare.clone()], ..Txn::default() };
        let found = store.txn(txn).await.expect("the comparison").succeeded;
        assert_eq!(found, expect, "{compare:?}");
    }
    put(&store, "k2", "n").await;
    let all = |target, result| Compare { range: KeyRange::prefix("k"), target, result };
    for (compare, expect) in [(all(Value("n".into()), Equal), true), (all(Version(2), Equal), false)] {
        let txn = Txn { compare: vec![compare], ..Txn::default() };
        assert_eq!(
            store.txn(txn).await.expect("the comparison").succeeded,
            expect,
            "a range holds for every key"
        );
    }
}

async fn transactions(store: Shared) {
    put(&store, "a", "1").await;
    let inner =
        Txn { compare: vec![Compare::absent("b")], success: vec![Op::put("c", "3")], ..Txn::default() };
    let txn = Txn {
        compare: vec![Compare::unchanged("a", Revision(2))],
        success: vec![
            Op::Range(RangeRequest::key("b")),
            Op::Put { key: "b".into(), value: "2".into(), lease: LeaseId(0), prev_kv: true },
            Op::Range(RangeRequest::prefix("")),
            Op::Txn(inner),
            Op::DeleteRange { range: KeyRange::One("a".into()), prev_kv: true },
        ],
        failure: vec![Op::put("a", "lost")],
    };
    let done = store.txn(txn.clone()).await.expect("the transaction");
    assert_eq!((done.revision, done.succeeded), (Revision(3), true));
    let [
        OpResponse::Range(before),
        OpResponse::Put { prev_kv: None },
        OpResponse::Range(after),
        OpResponse::Txn(inner),
        OpResponse::DeleteRange { deleted: 1, prev_kvs },
    ] = &done.responses[..]
    else {
        panic!("unexpected responses: {:?}", done.responses)
    };
    assert_eq!((names(before).as_str(), names(after).as_str()), ("", "a=1@2 b=2@3"));
    // Nested comparisons see the state before the transaction too: `b` was absent then.
    assert!(inner.succeeded);
    assert_eq!(prev_kvs.iter().map(|kv| text(&kv.value)).collect::<Vec<_>>(), ["1"]);
    let again = store.txn(txn).await.expect("the transaction");
    assert_eq!((again.succeeded, again.responses.len()), (false, 1));
    let all = store.range(RangeRequest::prefix("")).await.expect("the read");
    assert_eq!(names(&all), "a=lost@4 b=2@3 c=3@3");
    let overwrite = Op::Put { key: "b".into(), value: "4".into(), lease: LeaseId(0), prev_kv: true };
    let done = write(&store, vec![overwrite]).await;
    let [OpResponse::Put { prev_kv: Some(old) }] = &done.responses[..] else { panic!("no value before") };
    assert_eq!(text(&old.value), "2");
    let read = Txn { success: vec![Op::Range(RangeRequest::key("b"))], ..Txn::default() };
    let read = store.txn(read).await.expect("a transaction that reads");
    assert_eq!((read.revision, read.succeeded), (Revision(5), true));
}

async fn refusals(store: Shared) {
    let invalid = |text: &str| Err::<(), _>(Error::Invalid(text.to_owned()));
    let duplicate = invalid("etcdserver: duplicate key given in txn request");
    let cases = [
        (vec![Op::put("k", "1"), Op::put("k", "2")], duplicate.clone()),
        (vec![Op::put("k", "1"), Op::delete("k")], duplicate),
        (vec![Op::put("", "1")], invalid("etcdserver: key is not provided")),
        (vec![Op::put("k", vec![0; 2_000_000])], invalid("etcdserver: request is too large")),
        (
            (0..129).map(|n| Op::put(format!("{n}"), "")).collect(),
            invalid("etcdserver: too many operations in txn request"),
        ),
        (
            vec![Op::Put { key: "k".into(), value: "1".into(), lease: LeaseId(77), prev_kv: false }],
            Err(Error::LeaseNotFound),
        ),
        (
            vec![
                Op::put("k", "1"),
                Op::Range(RangeRequest { revision: Some(Revision(99)), ..RangeRequest::key("k") }),
            ],
            Err(Error::FutureRevision { current: Revision(1) }),
        ),
    ];
    for (success, expect) in cases {
        let found = store.txn(Txn { success, ..Txn::default() }).await.map(drop);
        assert_eq!(found, expect);
    }
    let empty = store.range(RangeRequest::key("")).await.map(drop);
    assert_eq!(empty, invalid("etcdserver: key is not provided"));
    assert_eq!(store.revision(), Revision(1), "what is refused changes nothing");
}

async fn compaction(store: Shared) {
    for n in 1..=5 {
        put(&store, "a", &n.to_string()).await; // 2..=6
    }
    put(&store, "b", "1").await; // 7
    delete(&store, "b").await; // 8
    assert_eq!(store.compact(Revision(9)).await, Err(Error::FutureRevision { current: Revision(8) }));
    store.compact(Revision(5)).await.expect("a compaction");
    assert_eq!(store.compact(Revision(5)).await, Err(Error::Compacted { compact_revision: Revision(5) }));
    let at = |revision| RangeRequest { revision: Some(Revision(revision)), ..RangeRequest::prefix("") };
    let compacted = Error::Compacted { compact_revision: Revision(5) };
    assert_eq!(store.range(at(4)).await, Err(compacted.clone()));
    for (revision, expect) in [(5, "a=4@5"), (6, "a=5@6"), (7, "a=5@6 b=1@7"), (8, "a=5@6")] {
        assert_eq!(names(&store.range(at(revision)).await.expect("the past")), expect, "at {revision}");
    }
    let mut early = watch(&store, "", Some(4), false).await;
    assert_eq!(next(&mut early).await, WatchMessage::Cancelled { error: compacted });
    let mut exact = watch(&store, "", Some(5), false).await;
    assert_eq!(events(&mut exact, 4).await, ["put a=4@5", "put a=5@6", "put b=1@7", "del b=@8"]);
    store.compact(Revision(8)).await.expect("a compaction");
    let mut last = watch(&store, "", Some(8), false).await;
    assert_eq!(events(&mut last, 1).await, ["del b=@8"]);
    assert_eq!(names(&store.range(RangeRequest::prefix("")).await.expect("the present")), "a=5@6");
    put(&store, "b", "2").await; // 9
    assert_eq!(get(&store, "b").await.map(|kv| (kv.version, kv.create_revision)), Some((1, Revision(9))));
}

async fn watch_from_now(store: Shared) {
    put(&store, "p/a", "0").await; // 2
    let mut plain = watch(&store, "p/", None, false).await;
    let mut with_prev = watch(&store, "p/", None, true).await;
    assert_eq!(plain.created_revision, Revision(2));
    put(&store, "p/a", "1").await;
    put(&store, "other", "1").await;
    write(&store, vec![Op::put("p/b", "2"), Op::delete("p/a"), Op::put("q", "2")]).await;
    assert_eq!(events(&mut plain, 3).await, ["put p/a=1@3", "put p/b=2@5", "del p/a=@5"]);
    assert_eq!(events(&mut with_prev, 3).await, ["put p/a=1@3<-0", "put p/b=2@5", "del p/a=@5<-1"]);
    put(&store, "z", "1").await; // 6
    plain.request_progress();
    assert_eq!(next(&mut plain).await, WatchMessage::Progress { revision: Revision(6) });
}

async fn watch_from_the_past(store: Shared) {
    for n in 0..5 {
        put(&store, "p/a", &n.to_string()).await; // 2..=6
        put(&store, &format!("q/{n}"), "x").await;
    }
    delete(&store, "p/a").await; // 12
    let mut seen = watch(&store, "p/", Some(6), true).await;
    put(&store, "p/a", "new").await; // 13
    let expect = ["put p/a=2@6<-1", "put p/a=3@8<-2", "put p/a=4@10<-3", "del p/a=@12<-4", "put p/a=new@13"];
    assert_eq!(events(&mut seen, 5).await, expect);
}

async fn watch_edges(store: Shared) {
    put(&store, "a", "1").await; // 2
    let mut future = watch(&store, "", Some(5), false).await;
    for n in 3..=6 {
        put(&store, "a", &n.to_string()).await;
    }
    assert_eq!(events(&mut future, 2).await, ["put a=5@5", "put a=6@6"]);
    drop(future);
    let mut one = store
        .watch(WatchRequest { range: KeyRange::One("a".into()), start_revision: None, prev_kv: false })
        .await
        .expect("a watch");
    put(&store, "ab", "no").await;
    put(&store, "a", "yes").await; // 8
    assert_eq!(events(&mut one, 1).await, ["put a=yes@8"]);
}

/// A watch that is not read while thousands of events happen sees them all, once and in order.
async fn slow_watch_loses_nothing(store: Shared) {
    const WRITES: i64 = 2000;
    let mut slow = watch(&store, "k", None, false).await;
    let mut asked = watch(&store, "k", Some(2), false).await;
    asked.request_progress();
    for n in 0..WRITES {
        put(&store, &format!("k{}", n % 7), &n.to_string()).await;
    }
    for watch in [&mut slow, &mut asked] {
        let seen = events(watch, WRITES as usize).await;
        let expect: Vec<_> = (0..WRITES).map(|n| format!("put k{}={n}@{}", n % 7, n + 2)).collect();
        assert!(seen == expect, "gaps or repeats: {} events", seen.len());
    }
}

async fn many_writers(store: Shared) {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let mut all = watch(&store, "", None, false).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..EACH {
                let key = format!("w{writer}/{n}");
                let revision = put(&store, &key, "x").await;
                let found = get(&store, &key).await.map(|kv| kv.mod_revision);
                assert_eq!(found, Some(revision), "a writer reads its own write");
                increment(&store).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a writer");
    }
    let counter = get(&store, "counter").await.expect("the counter");
    assert_eq!(
        (text(&counter.value), counter.version),
        ((WRITERS * EACH).to_string(), (WRITERS * EACH) as i64)
    );
    assert_eq!(events(&mut all, 2 * WRITERS * EACH).await.len(), 2 * WRITERS * EACH);
}

/// Adds one to a key by compare and swap, however often that takes.
async fn increment(store: &Shared) {
    loop {
        let now = get(store, "counter").await;
        let (count, revision) =
            now.map_or((0, Revision(0)), |kv| (text(&kv.value).parse().unwrap_or(0), kv.mod_revision));
        let success = vec![Op::put("counter", (count + 1_u64).to_string())];
        let txn = Txn { compare: vec![Compare::unchanged("counter", revision)], success, failure: vec![] };
        if store.txn(txn).await.expect("the transaction").succeeded {
            return;
        }
    }
}

async fn put_leased(store: &Shared, key: &'static str, lease: i64) {
    let op = Op::Put { key: key.into(), value: "1".into(), lease: LeaseId(lease), prev_kv: false };
    write(store, vec![op]).await;
}

async fn leases(store: Shared) {
    let chosen = store.lease_grant(LeaseId(0), 60).await.expect("a lease");
    assert!(chosen.id.get() > 0 && chosen.granted_ttl_s == 60 && chosen.ttl_s == 60);
    store.lease_grant(LeaseId(7), 60).await.expect("a lease");
    assert_eq!(store.lease_grant(LeaseId(7), 60).await, Err(Error::LeaseExists));
    put_leased(&store, "a", 7).await;
    put_leased(&store, "b", 7).await;
    put_leased(&store, "c", 7).await;
    put(&store, "b", "free").await;
    let status = store.lease_status(LeaseId(7)).await.expect("a status");
    assert_eq!(status.keys, [Bytes::from("a"), Bytes::from("c")]);
    assert!((1..=60).contains(&status.ttl_s));
    assert_eq!(store.lease_keep_alive(LeaseId(7)).await.map(|s| s.granted_ttl_s), Ok(60));
    let mut seen = watch(&store, "", None, false).await;
    let before = store.revision();
    store.lease_revoke(LeaseId(7)).await.expect("a revocation");
    assert_eq!(store.revision(), before.next());
    let gone = events(&mut seen, 2).await;
    assert_eq!(gone, [format!("del a=@{}", before.next()), format!("del c=@{}", before.next())]);
    assert_eq!(store.lease_revoke(LeaseId(7)).await, Err(Error::LeaseNotFound));
    assert_eq!(store.lease_keep_alive(LeaseId(7)).await, Err(Error::LeaseNotFound));
    assert_eq!(store.lease_status(LeaseId(7)).await.map(|s| s.ttl_s), Ok(-1));
    let names = store.range(RangeRequest::prefix("")).await.expect("the read");
    assert_eq!(names.kvs.iter().map(|kv| text(&kv.key)).collect::<Vec<_>>(), ["b"]);
}

async fn lease_expiry(store: Shared) {
    let lease = store.lease_grant(LeaseId(5), 1).await.expect("a lease");
    assert_eq!(lease.granted_ttl_s, 2, "etcd's least");
    put_leased(&store, "gone", 5).await;
    let mut seen = watch(&store, "", None, false).await;
    assert_eq!(events(&mut seen, 1).await, ["del gone=@3"]);
    assert_eq!(store.lease_status(LeaseId(5)).await.map(|s| s.ttl_s), Ok(-1));
}
