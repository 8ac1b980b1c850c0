//! The KV service through a gRPC client: answers and refusals as etcd 3.6 gives them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;

use door::{Served, delete, get, prefix, put, refusal};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_client::KvClient;
use etcd_wire::etcdserverpb::request_op::Request as Op;
use etcd_wire::etcdserverpb::response_op::Response as Done;
use expect_test::{Expect, expect};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use tonic::transport::Channel;

type Kv = KvClient<Channel>;

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn show(kv: &etcd_wire::mvccpb::KeyValue) -> String {
    let (key, value) = (text(&kv.key), text(&kv.value));
    format!("{key}={value}@{},{},{}", kv.create_revision, kv.mod_revision, kv.version)
}

/// An answer to a range on one line.
fn line(response: &pb::RangeResponse) -> String {
    let kvs: Vec<_> = response.kvs.iter().map(show).collect();
    let revision = response.header.map_or(0, |header| header.revision);
    format!("r{revision} count {} more {} [{}]", response.count, response.more, kvs.join(" "))
}

async fn range(kv: &mut Kv, request: pb::RangeRequest) -> String {
    line(kv.range(request).await.unwrap().get_ref())
}

/// a=3 (twice written), b=1, c=2, d=1.
async fn fill(kv: &mut Kv) {
    for (key, value) in [("a", "0"), ("b", "1"), ("c", "2"), ("a", "3"), ("d", "1")] {
        kv.put(put(key, value)).await.unwrap();
    }
}

#[tokio::test]
async fn every_order_target_limit_and_bound_of_a_range() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    fill(&mut kv).await;
    let all = || pb::RangeRequest { range_end: vec![0].into(), ..get("\0") };
    let mut out = String::new();
    let mut add = |name: &str, answer: String| out.push_str(&format!("{name:<22} {answer}\n"));
    add("all", range(&mut kv, all()).await);
    add("one", range(&mut kv, get("a")).await);
    add("none", range(&mut kv, get("x")).await);
    add("limit", range(&mut kv, pb::RangeRequest { limit: 2, ..all() }).await);
    add("negative limit", range(&mut kv, pb::RangeRequest { limit: -2, ..all() }).await);
    add("count only", range(&mut kv, pb::RangeRequest { count_only: true, limit: 1, ..all() }).await);
    add("keys only", range(&mut kv, pb::RangeRequest { keys_only: true, ..prefix("a") }).await);
    add("at 4", range(&mut kv, pb::RangeRequest { revision: 4, ..all() }).await);
    for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
        for target in
            [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value]
        {
            let (sort_order, sort_target) = (order as i32, target as i32);
            let request = pb::RangeRequest { sort_order, sort_target, limit: 3, ..all() };
            add(&format!("{target:?} {order:?}"), range(&mut kv, request).await);
        }
    }
    add(
        "mod 4..5",
        range(&mut kv, pb::RangeRequest { min_mod_revision: 4, max_mod_revision: 5, ..all() }).await,
    );
    let bounds = pb::RangeRequest { min_create_revision: 3, max_create_revision: 4, limit: 1, ..all() };
    add("create 3..4 limit 1", range(&mut kv, bounds).await);
    add("end before start", range(&mut kv, pb::RangeRequest { range_end: "a".into(), ..get("b") }).await);
    let expect = expect![[r#"
        all                    r6 count 4 more false [a=3@2,5,2 b=1@3,3,1 c=2@4,4,1 d=1@6,6,1]
        one                    r6 count 1 more false [a=3@2,5,2]
        none                   r6 count 0 more false []
        limit                  r6 count 4 more true [a=3@2,5,2 b=1@3,3,1]
        negative limit         r6 count 4 more false [a=3@2,5,2 b=1@3,3,1 c=2@4,4,1 d=1@6,6,1]
        count only             r6 count 4 more false []
        keys only              r6 count 1 more false [a=@2,5,2]
        at 4                   r6 count 3 more false [a=0@2,2,1 b=1@3,3,1 c=2@4,4,1]
        Key None               r6 count 4 more true [a=3@2,5,2 b=1@3,3,1 c=2@4,4,1]
        Version None           r6 count 4 more true [b=1@3,3,1 c=2@4,4,1 d=1@6,6,1]
        Create None            r6 count 4 more true [a=3@2,5,2 b=1@3,3,1 c=2@4,4,1]
        Mod None               r6 count 4 more true [b=1@3,3,1 c=2@4,4,1 a=3@2,5,2]
        Value None             r6 count 4 more true [b=1@3,3,1 d=1@6,6,1 c=2@4,4,1]
        Key Ascend             r6 count 4 more true [a=3@2,5,2 b=1@3,3,1 c=2@4,4,1]
        Version Ascend         r6 count 4 more true [b=1@3,3,1 c=2@4,4,1 d=1@6,6,1]
        Create Ascend          r6 count 4 more true [a=3@2,5,2 b=1@3,3,1 c=2@4,4,1]
        Mod Ascend             r6 count 4 more true [b=1@3,3,1 c=2@4,4,1 a=3@2,5,2]
        Value Ascend           r6 count 4 more true [b=1@3,3,1 d=1@6,6,1 c=2@4,4,1]
        Key Descend            r6 count 4 more true [d=1@6,6,1 c=2@4,4,1 b=1@3,3,1]
        Version Descend        r6 count 4 more true [a=3@2,5,2 b=1@3,3,1 c=2@4,4,1]
        Create Descend         r6 count 4 more true [d=1@6,6,1 c=2@4,4,1 b=1@3,3,1]
        Mod Descend            r6 count 4 more true [d=1@6,6,1 a=3@2,5,2 c=2@4,4,1]
        Value Descend          r6 count 4 more true [a=3@2,5,2 c=2@4,4,1 b=1@3,3,1]
        mod 4..5               r6 count 4 more false [a=3@2,5,2 c=2@4,4,1]
        create 3..4 limit 1    r6 count 4 more true [b=1@3,3,1]
        end before start       r6 count 0 more false []
    "#]];
    expect.assert_eq(&out);
    served.stop().await;
}

#[tokio::test]
async fn refusals_have_etcds_codes_and_texts() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    fill(&mut kv).await;
    kv.compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
    let mut out = String::new();
    let mut add = |text: String| out.push_str(&(text + "\n"));
    add(refusal(kv.range(get("")).await));
    add(refusal(kv.range(pb::RangeRequest { sort_order: 7, ..get("a") }).await));
    add(refusal(kv.range(pb::RangeRequest { sort_target: 7, ..get("a") }).await));
    add(refusal(kv.range(pb::RangeRequest { revision: 99, ..get("a") }).await));
    add(refusal(kv.range(pb::RangeRequest { revision: 3, ..get("a") }).await));
    add(refusal(kv.put(put("", "1")).await));
    add(refusal(kv.put(pb::PutRequest { ignore_value: true, ..put("a", "1") }).await));
    add(refusal(kv.put(pb::PutRequest { ignore_lease: true, lease: 4, ..put("a", "1") }).await));
    add(refusal(kv.put(pb::PutRequest { ignore_value: true, ..put("x", "") }).await));
    add(refusal(kv.put(pb::PutRequest { lease: 4, ..put("a", "1") }).await));
    add(refusal(kv.delete_range(delete("")).await));
    add(refusal(kv.compact(pb::CompactionRequest { revision: 3, physical: false }).await));
    add(refusal(kv.compact(pb::CompactionRequest { revision: 99, physical: false }).await));
    add(refusal(kv.put(put("large", vec![0; store_api::MAX_REQUEST_BYTES])).await));
    add(refusal(kv.put(put("huge", vec![0; 3 << 20])).await));
    let expect = expect![[r#"
        InvalidArgument: etcdserver: key is not provided
        InvalidArgument: etcdserver: invalid sort option
        InvalidArgument: etcdserver: invalid sort option
        OutOfRange: etcdserver: mvcc: required revision is a future revision
        OutOfRange: etcdserver: mvcc: required revision has been compacted
        InvalidArgument: etcdserver: key is not provided
        InvalidArgument: etcdserver: value is provided
        InvalidArgument: etcdserver: lease is provided
        InvalidArgument: etcdserver: key not found
        NotFound: etcdserver: requested lease not found
        InvalidArgument: etcdserver: key is not provided
        OutOfRange: etcdserver: mvcc: required revision has been compacted
        OutOfRange: etcdserver: mvcc: required revision is a future revision
        InvalidArgument: etcdserver: request is too large
        ResourceExhausted: grpc: received message larger than max (3145739 vs. 2097152)
    "#]];
    expect.assert_eq(&out);
    assert_eq!(range(&mut kv, prefix("large")).await, "r6 count 0 more false []");
    served.stop().await;
}

fn step(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn txn(success: Vec<Op>) -> pb::TxnRequest {
    pb::TxnRequest { success: success.into_iter().map(step).collect(), ..pb::TxnRequest::default() }
}

fn show_txn(response: &pb::TxnResponse) -> String {
    let steps: Vec<_> = response.responses.iter().map(show_step).collect();
    let revision = response.header.map(|header| header.revision);
    format!("{revision:?} {} [{}]", response.succeeded, steps.join("; "))
}

fn show_step(step: &pb::ResponseOp) -> String {
    let at = |header: Option<pb::ResponseHeader>| header.map(|header| header.revision);
    match step.response.as_ref().unwrap() {
        Done::ResponseRange(range) => format!("range {}", line(range)),
        Done::ResponsePut(put) => format!("put {:?} {:?}", at(put.header), put.prev_kv.as_ref().map(show)),
        Done::ResponseDeleteRange(gone) => {
            let kvs: Vec<_> = gone.prev_kvs.iter().map(show).collect();
            format!("delete {:?} {} {kvs:?}", at(gone.header), gone.deleted)
        }
        Done::ResponseTxn(inner) => format!("txn {}", show_txn(inner)),
    }
}

#[tokio::test]
async fn a_transactions_steps_see_each_other_and_say_at_which_revision() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    fill(&mut kv).await;
    let nested = txn(vec![Op::RequestPut(put("n", "1")), Op::RequestRange(get("n"))]);
    let request = txn(vec![
        Op::RequestRange(get("a")),
        Op::RequestDeleteRange(delete("x")),
        Op::RequestTxn(nested),
        Op::RequestDeleteRange(delete("x")),
        Op::RequestPut(pb::PutRequest { prev_kv: true, ignore_value: true, ..put("a", "") }),
        Op::RequestDeleteRange(pb::DeleteRangeRequest {
            prev_kv: true,
            range_end: "d".into(),
            ..delete("b")
        }),
        Op::RequestRange(pb::RangeRequest { range_end: vec![0].into(), ..get("\0") }),
    ]);
    let response = kv.txn(request).await.unwrap().into_inner();
    expect![[r#"
        Some(7) true [range r6 count 1 more false [a=3@2,5,2]
        delete Some(6) 0 []
        txn Some(0) true [put Some(7) None
        range r7 count 1 more false [n=1@7,7,1]]
        delete Some(7) 0 []
        put Some(7) Some("a=3@2,5,2")
        delete Some(7) 2 ["b=1@3,3,1", "c=2@4,4,1"]
        range r7 count 3 more false [a=3@2,7,3 d=1@6,6,1 n=1@7,7,1]]"#]]
    .assert_eq(&show_txn(&response).replace("; ", "\n"));
    let nothing = kv.txn(txn(vec![Op::RequestDeleteRange(delete("x"))])).await.unwrap().into_inner();
    expect!["Some(7) true [delete Some(7) 0 []]"].assert_eq(&show_txn(&nothing));
    served.stop().await;
}

fn compare(key: &str, target: CompareTarget, result: CompareResult, given: TargetUnion) -> pb::Compare {
    pb::Compare {
        key: key.to_owned().into(),
        target: target as i32,
        result: result as i32,
        target_union: Some(given),
        ..pb::Compare::default()
    }
}

async fn holds(kv: &mut Kv, compare: pb::Compare) -> bool {
    let request = pb::TxnRequest { compare: vec![compare], ..pb::TxnRequest::default() };
    kv.txn(request).await.unwrap().get_ref().succeeded
}

#[tokio::test]
async fn every_compare_target_and_result_also_over_ranges() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let served = Served::start().await;
    let mut kv = served.kv().await;
    fill(&mut kv).await;
    let value = |text: &str| TargetUnion::Value(text.to_owned().into());
    let cases = [
        (compare("a", Version, Equal, TargetUnion::Version(2)), true),
        (compare("a", Version, Less, TargetUnion::Version(2)), false),
        (compare("a", Create, Equal, TargetUnion::CreateRevision(2)), true),
        (compare("a", Mod, Greater, TargetUnion::ModRevision(4)), true),
        (compare("a", Value, Equal, value("3")), true),
        (compare("a", Value, NotEqual, value("3")), false),
        (compare("a", Lease, Equal, TargetUnion::Lease(0)), true),
        (compare("x", Version, Equal, TargetUnion::Version(0)), true),
        (compare("x", Value, Equal, value("")), false),
        (compare("x", Value, NotEqual, value("1")), false),
        // A value of another kind is none.
        (compare("a", Version, Greater, TargetUnion::Lease(5)), true),
        (pb::Compare { result: 9, ..compare("a", Version, Equal, TargetUnion::Version(7)) }, true),
        (pb::Compare { target: 9, ..compare("a", Version, Equal, TargetUnion::Version(7)) }, true),
        (pb::Compare { target: 9, ..compare("a", Version, Less, TargetUnion::Version(7)) }, false),
        (
            pb::Compare { range_end: "z".into(), ..compare("a", Version, Greater, TargetUnion::Version(0)) },
            true,
        ),
        (
            pb::Compare { range_end: "z".into(), ..compare("a", Version, Equal, TargetUnion::Version(1)) },
            false,
        ),
        (
            pb::Compare {
                range_end: vec![0].into(),
                ..compare("b", Version, Equal, TargetUnion::Version(1))
            },
            true,
        ),
    ];
    for (compare, expect) in cases {
        assert_eq!(holds(&mut kv, compare.clone()).await, expect, "{compare:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn transactions_are_checked_before_they_run() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut check = async |request: pb::TxnRequest, expect: Expect| {
        expect.assert_eq(&refusal(kv.txn(request).await));
    };
    let puts = |n: usize| (0..n).map(|n| Op::RequestPut(put(n.to_string(), "1"))).collect::<Vec<_>>();
    check(txn(puts(129)), expect!["InvalidArgument: etcdserver: too many operations in txn request"]).await;
    check(
        txn(vec![Op::RequestTxn(txn(puts(128)))]),
        expect!["InvalidArgument: etcdserver: too many operations in txn request"],
    )
    .await;
    check(
        txn(vec![Op::RequestPut(put("a", "1")), Op::RequestPut(put("a", "2"))]),
        expect!["InvalidArgument: etcdserver: duplicate key given in txn request"],
    )
    .await;
    check(
        txn(vec![Op::RequestPut(put("a", "1")), Op::RequestTxn(txn(vec![Op::RequestPut(put("a", "2"))]))]),
        expect!["InvalidArgument: etcdserver: duplicate key given in txn request"],
    )
    .await;
    check(
        txn(vec![Op::RequestPut(put("", "1"))]),
        expect!["InvalidArgument: etcdserver: key is not provided"],
    )
    .await;
    check(
        pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..pb::TxnRequest::default() },
        expect!["InvalidArgument: etcdserver: key not found"],
    )
    .await;
    let keyless = compare("", CompareTarget::Mod, CompareResult::Equal, TargetUnion::ModRevision(0));
    check(
        pb::TxnRequest { compare: vec![keyless], ..pb::TxnRequest::default() },
        expect!["InvalidArgument: etcdserver: key is not provided"],
    )
    .await;
    let future = Op::RequestRange(pb::RangeRequest { revision: 99, ..get("a") });
    check(
        txn(vec![Op::RequestPut(put("a", "1")), future]),
        expect!["OutOfRange: etcdserver: mvcc: required revision is a future revision"],
    )
    .await;
    check(
        txn(vec![Op::RequestPut(pb::PutRequest { ignore_lease: true, ..put("a", "1") })]),
        expect!["InvalidArgument: etcdserver: key not found"],
    )
    .await;
    assert_eq!(range(&mut kv, get("a")).await, "r1 count 0 more false []");
    served.stop().await;
}

#[tokio::test]
async fn a_long_range_comes_whole_and_in_order() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    // More than one thread reads alone, and spread unevenly.
    let keys: Vec<String> =
        (0..6000_u32).map(|n| format!("k{:06}", if n < 5000 { n } else { n * 100 })).collect();
    for some in keys.chunks(128) {
        let puts = some.iter().map(|key| Op::RequestPut(put(key, format!("value of {key}"))));
        kv.txn(txn(puts.collect())).await.unwrap();
    }
    let asked = pb::RangeRequest { range_end: vec![0].into(), ..get("\0") };
    let answer = kv.range(asked.clone()).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.more), (6000, false));
    let seen: Vec<_> = answer.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect();
    let expect = keys.iter().map(|key| (key.into(), format!("value of {key}").into()));
    assert!(seen.into_iter().eq(expect));
    let answer =
        kv.range(pb::RangeRequest { limit: 4500, keys_only: true, ..asked }).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.more, answer.kvs.len()), (6000, true, 4500));
}
