//! `/metrics`: what is counted, and whether every name of a real etcd's page is there or known to be absent.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use base::task::Tasks;

use door::{Served, delete, get, put};
use etcd::{Etcd, everything, program};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::auth_client::AuthClient;
use etcd_wire::etcdserverpb::kv_client::KvClient;
use etcd_wire::etcdserverpb::lease_client::LeaseClient;
use etcd_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use etcd_wire::etcdserverpb::request_op::Request;
use etcd_wire::etcdserverpb::watch_request::RequestUnion;
use store::raft::{Begin, ClusterOptions, MemberNode, NetworkOptions};
use store::{Options, Service};
use store_api::{Op, Store as _, Txn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;

/// Names of etcd 3.6 that Ketch does not have, and why.
const ABSENT: &[(&str, &[&str])] = &[
    ("of Go's runtime and its HTTP library", &["go_", "promhttp_", "etcd_server_go_version"]),
    ("of a proxy, of the store of version 2", &["etcd_grpc_proxy_", "etcd_debugging_store_"]),
    (
        "of bbolt's pages and etcd's index in memory, which are not here",
        &[
            "etcd_debugging_disk_backend_commit_",
            "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
            "etcd_mvcc_db_open_read_transactions",
        ],
    ),
    ("of snapshots of the log, which are not files here", &["etcd_snap_", "etcd_debugging_snap_"]),
    ("of switches for parts that are always on here, or absent", &["etcd_server_feature_enabled"]),
    (
        "of an index in memory, and of buffers between it and the watches",
        &["etcd_debugging_mvcc_keys_total", "etcd_debugging_mvcc_pending_events_total"],
    ),
    // etcd has it once there is another member.
    ("only with other members", &["etcd_network_known_peers"]),
];

async fn page(address: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn names(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_etcd_is_there_or_known_to_be_absent() {
    let Some(program) = program("KETCH_TEST_ETCD") else { return };
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&program, dir.path(), &[]).await;
    everything(etcd.channel().await).await;
    let served = Served::start().await;
    everything(served.channel().await).await;
    let theirs = names(&page(&format!("127.0.0.1:{}", etcd.port())).await);
    let ours = names(&page(&served.door.addrs()[0].to_string()).await);
    let absent =
        |name: &str| ABSENT.iter().flat_map(|(_, all)| all.iter()).any(|begin| name.starts_with(begin));
    let missing: Vec<_> = theirs.iter().filter(|name| !ours.contains(*name) && !absent(name)).collect();
    assert!(missing.is_empty(), "neither there nor known to be absent: {missing:#?}");
    // What is called absent is not there after all: the list would hide what is lost later.
    let there: Vec<_> = ours.iter().filter(|name| absent(name)).collect();
    assert!(there.is_empty(), "there, and called absent: {there:#?}");
    let own: Vec<_> = ours.difference(&theirs).collect();
    assert!(own.is_empty(), "not etcd's: {own:#?}");
    served.stop().await;
}

/// Changes of many kinds, refused ones among them, and a compaction.
async fn changes(channel: Channel) {
    let mut kv = KvClient::new(channel.clone());
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.unwrap();
        kv.put(put("b", value)).await.unwrap();
    }
    kv.delete_range(delete("b")).await.unwrap();
    let op = pb::RequestOp { request: Some(Request::RequestPut(put("c", "1"))) };
    kv.txn(pb::TxnRequest { success: vec![op.clone(), op], ..Default::default() }).await.unwrap_err();
    let op = |key: &str| pb::RequestOp { request: Some(Request::RequestPut(put(key, "1"))) };
    kv.txn(pb::TxnRequest { success: vec![op("c"), op("d")], ..Default::default() }).await.unwrap();
    kv.put(pb::PutRequest { lease: 77, ..put("a", "4") }).await.unwrap_err();
    let mut leases = LeaseClient::new(channel.clone());
    leases.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 5 }).await.unwrap();
    leases.lease_revoke(pb::LeaseRevokeRequest { id: 5 }).await.unwrap();
    let mut auth = AuthClient::new(channel);
    let role = || pb::AuthRoleAddRequest { name: "r".to_owned() };
    auth.role_add(role()).await.unwrap();
    auth.role_add(role()).await.unwrap_err();
    // Everything up to the delete goes, itself included.
    kv.compact(pb::CompactionRequest { revision: 9, physical: true }).await.unwrap();
}

/// How often each kind of change was applied, and how many versions were cleaned up.
fn applied(page: &str) -> BTreeMap<String, String> {
    let names =
        ["etcd_server_apply_duration_seconds_count{", "etcd_debugging_mvcc_db_compaction_keys_total "];
    // A member of etcd says who it is by entries of its own.
    let own = |name: &str| {
        ["ClusterMemberAttrSet", "ClusterVersionSet", "unknown"].iter().any(|op| name.contains(op))
    };
    let lines = page.lines().filter(|line| names.iter().any(|name| line.starts_with(name)) && !own(line));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, count)| (name.to_owned(), count.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_and_cleaned_up_is_counted_as_a_real_etcd_counts_it() {
    let served = Served::start().await;
    changes(served.channel().await).await;
    let ended = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count";
    let ours = until(&served.door.addrs()[0].to_string(), ended, 1.0).await;
    assert_eq!(value(&ours, "etcd_debugging_mvcc_db_compaction_keys_total"), 6.0);
    assert!(value(&ours, "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count") >= 1.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let last = value(&ours, "etcd_debugging_mvcc_db_compaction_last");
    assert!(last <= now && last > now - 60.0, "{last} and now {now}");
    let put = |which: &str, success: bool| {
        format!(r#"etcd_server_apply_duration_seconds_{which}{{op="Put",success="{success}",version="v3"}}"#)
    };
    assert_eq!((value(&ours, &put("count", true)), value(&ours, &put("count", false))), (6.0, 1.0));
    assert!(value(&ours, &put("sum", true)) > 0.0);
    served.stop().await;
    let Some(program) = program("KETCH_TEST_ETCD") else { return };
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&program, dir.path(), &[]).await;
    everything(etcd.channel().await).await;
    changes(etcd.channel().await).await;
    let theirs = until(&format!("127.0.0.1:{}", etcd.port()), ended, 1.0).await;
    assert_eq!(applied(&ours), applied(&theirs));
}

/// A member with its door.
struct Member {
    store: store::Handle,
    door: store::door::Handle,
    tasks: Tasks,
}

impl Member {
    async fn start(dir: &Path, begin: Begin, listener: std::net::TcpListener) -> Self {
        let tasks = Tasks::new();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let network = NetworkOptions::Listen { listener, tls: None, joining: None };
        let cluster = ClusterOptions::new("m", url, begin, network);
        let store = Service::start_member(Options::new(dir), cluster, &tasks).await.unwrap();
        let options = store::door::Options::new(vec![SocketAddr::from(([127, 0, 0, 1], 0))], None);
        let door = store::door::Service::start(options, store.clone(), &tasks).await.unwrap();
        Self { store, door, tasks }
    }

    async fn stop(self) {
        self.store.close().await;
        assert!(self.tasks.shutdown(Duration::from_secs(20)).await);
    }
}

async fn three(dir: &Path) -> Vec<Member> {
    let ports: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let node = |(n, port): (u64, &std::net::TcpListener)| {
        let peer_urls = vec![format!("http://{}", port.local_addr().unwrap())];
        (n, MemberNode { name: format!("m{n}"), peer_urls, ..MemberNode::default() })
    };
    let members: Vec<_> = (11..).zip(&ports).map(node).collect();
    let mut started = Vec::new();
    for (n, port) in (11..).zip(ports) {
        let begin = Begin::Together { cluster_id: 7, member_id: n, members: members.clone() };
        started.push(Member::start(&dir.join(n.to_string()), begin, port).await);
    }
    started
}

/// Who leads, and the others.
async fn led(mut members: Vec<Member>) -> (Member, Vec<Member>) {
    let mut leads = members[0].store.leader_changes();
    let leader = leads.wait_for(Option::is_some).await.unwrap().unwrap();
    let at = members.iter().position(|member| member.store.header().member_id == leader).unwrap();
    (members.swap_remove(at), members)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_between_members_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, mut members) = led(three(dir.path()).await).await;
    let channel = Channel::from_shared(format!("http://{}", leader.door.addrs()[0])).unwrap();
    let mut kv = KvClient::new(channel.connect().await.unwrap());
    let size = 100_000;
    kv.put(put("a", "v".repeat(size))).await.unwrap();
    let me = leader.store.header().member_id;
    for other in &members {
        let other_address = other.door.addrs()[0].to_string();
        let (address, other) = (leader.door.addrs()[0].to_string(), other.store.header().member_id);
        let pair = |name: &str| format!(r#"etcd_network_{name}{{Local="{me:x}",Remote="{other:x}"}}"#);
        let seen = until(&address, &pair("active_peers"), 1.0).await;
        assert_eq!(value(&seen, &pair("known_peers")), 1.0);
        assert_eq!(value(&seen, &pair("disconnected_peers_total")), 0.0);
        let to = |name: &str| format!(r#"etcd_network_peer_{name}{{To="{other:x}"}}"#);
        let heartbeats = to("round_trip_time_seconds_count");
        let seen = until_more(&address, &heartbeats, value(&seen, &heartbeats)).await;
        assert!(value(&seen, &to("round_trip_time_seconds_sum")) > 0.0);
        let from = |id: u64| format!(r#"etcd_network_peer_received_bytes_total{{From="{id:x}"}}"#);
        until_more(&address, &to("sent_bytes_total"), size as f64).await;
        until_more(&other_address, &from(me), size as f64).await;
        assert!(value(&seen, &from(other)) > 0.0);
    }
    let gone = members.remove(0);
    let id = gone.store.header().member_id;
    gone.stop().await;
    let address = leader.door.addrs()[0].to_string();
    let pair = |name: &str| format!(r#"etcd_network_{name}{{Local="{me:x}",Remote="{id:x}"}}"#);
    let seen = until(&address, &pair("active_peers"), 0.0).await;
    assert!(value(&seen, &pair("disconnected_peers_total")) >= 1.0);
    until_more(&address, &format!(r#"etcd_network_peer_sent_failures_total{{To="{id:x}"}}"#), 0.0).await;
    members.remove(0).stop().await;
    // Alone, it cannot know that it still leads, once the others' word is too old.
    let began = Instant::now();
    while kv.range(get("a")).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "it reads without the others");
    }
    let seen = page(&address).await;
    for name in ["etcd_server_slow_read_indexes_total", "etcd_server_read_indexes_failed_total"] {
        assert!(value(&seen, name) >= 1.0, "{name}");
    }
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promotions_are_counted_by_the_leader_with_etcds_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, members) = led(three(dir.path()).await).await;
    let me = leader.store.header().member_id;
    // Asked of another, it is still the leader who counts.
    for (store, id) in [(&leader.store, 123), (&members[0].store, 123), (&members[1].store, me)] {
        assert!(store.promote_member(id).await.is_err());
    }
    let seen = page(&leader.door.addrs()[0].to_string()).await;
    let failed = |reason: &str| {
        value(&seen, &format!(r#"etcd_server_learner_promote_failures{{Reason="membership: {reason}"}}"#))
    };
    assert_eq!([failed("ID not found"), failed("can only promote a learner member")], [2.0, 1.0]);
    assert_eq!(value(&seen, "etcd_server_learner_promote_successes"), 0.0);
    assert!(value(&seen, "etcd_server_heartbeat_send_failures_total") >= 0.0);
    let others = page(&members[0].door.addrs()[0].to_string()).await;
    assert!(!others.contains("learner_promote_failures"));
    for member in members.into_iter().chain([leader]) {
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_state_that_goes_to_a_new_member_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let tasks = Tasks::new();
    let alone = Service::start(Options::new(&first), &tasks).unwrap();
    alone.txn(Txn { success: vec![Op::put("a", "1")], ..Txn::default() }).await.unwrap();
    alone.close().await;
    assert!(tasks.shutdown(Duration::from_secs(20)).await);
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let one = Member::start(&first, Begin::Alone, port()).await;
    one.store.leader_changes().wait_for(Option::is_some).await.unwrap();
    let listener = port();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let id = one.store.add_member(vec![url], true).await.unwrap();
    let me = one.store.header();
    let begin = Begin::Join { cluster_id: me.cluster_id, member_id: id };
    let two = Member::start(&second, begin, listener).await;
    let [sender, receiver] = [&one, &two].map(|member| member.door.addrs()[0].to_string());
    let to = |what: &str| format!(r#"etcd_network_snapshot_send_{what}{{To="{id:x}"}}"#);
    let from = |what: &str| format!(r#"etcd_network_snapshot_receive_{what}{{From="{:x}"}}"#, me.member_id);
    let sent = until_more(&sender, &to("success"), 0.0).await;
    let received = until_more(&receiver, &from("success"), 0.0).await;
    for (seen, name) in [(&sent, &to as &dyn Fn(&str) -> String), (&received, &from)] {
        assert_eq!(value(seen, &name("inflights_total")), 0.0);
        assert_eq!(value(seen, &name("total_duration_seconds_count")), value(seen, &name("success")));
        assert!(value(seen, &name("total_duration_seconds_sum")) > 0.0);
    }
    two.stop().await;
    one.stop().await;
}

/// The name of a method's count of messages.
fn msg(which: &str, method: &str, service: &str, kind: &str) -> String {
    let labels =
        format!(r#"grpc_method="{method}",grpc_service="etcdserverpb.{service}",grpc_type="{kind}""#);
    format!("grpc_server_msg_{which}_total{{{labels}}}")
}

/// Fingerprints, a snapshot, a defragmentation.
async fn upkeep(served: &Served) {
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    maintenance.hash(pb::HashRequest {}).await.unwrap();
    maintenance.hash_kv(pb::HashKvRequest::default()).await.unwrap();
    maintenance.defragment(pb::DefragmentRequest {}).await.unwrap();
    let mut pieces = maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    while pieces.message().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted() {
    let served = Served::start().await;
    let address = served.door.addrs()[0].to_string();
    let mut kv = served.kv().await;
    for _ in 0..3 {
        kv.put(put("a", "1")).await.unwrap();
    }
    kv.delete_range(delete("a")).await.unwrap();
    let mut versioned = tonic::Request::new(get("a"));
    versioned.metadata_mut().insert("client-api-version", "3.6".parse().unwrap());
    kv.range(versioned).await.unwrap();
    assert!(kv.range(pb::RangeRequest { revision: 99, ..get("a") }).await.is_err());
    upkeep(&served).await;
    let mut lease = served.lease().await;
    let id = lease.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap().into_inner().id;
    lease.lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap();
    let create = |key: &str, start_revision| pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.as_bytes().to_vec().into(),
            start_revision,
            ..pb::WatchCreateRequest::default()
        })),
    };
    let (requests, asked) = tokio::sync::mpsc::channel(4);
    requests.send(create("a", 2)).await.unwrap();
    requests.send(create("b", 0)).await.unwrap();
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut answers = served.watch().await.watch(asked).await.unwrap().into_inner();
    let mut events = 0;
    while events < 4 {
        events += answers.message().await.unwrap().unwrap().events.len();
    }
    let seen = until(&address, "etcd_debugging_mvcc_slow_watcher_total", 0.0).await;
    for (name, expect) in [
        ("etcd_mvcc_put_total", 3.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_debugging_lease_granted_total", 1.0),
        ("etcd_debugging_lease_revoked_total", 1.0),
        ("etcd_debugging_mvcc_watch_stream_total", 1.0),
        ("etcd_debugging_mvcc_watcher_total", 2.0),
        ("etcd_debugging_mvcc_events_total", 4.0),
        ("etcd_debugging_lease_ttl_total_count", 1.0),
        ("etcd_debugging_lease_ttl_total_sum", 60.0),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 6.0),
        ("etcd_mvcc_range_total", 2.0),
        (r#"etcd_server_range_duration_seconds_count{success="true"}"#, 1.0),
        (r#"etcd_server_range_duration_seconds_count{success="false"}"#, 1.0),
        (r#"etcd_server_client_requests_total{client_api_version="3.6",type="unary"}"#, 1.0),
        (r#"etcd_server_client_requests_total{client_api_version="unknown",type="stream"}"#, 2.0),
        (&msg("received", "Put", "KV", "unary"), 3.0),
        (&msg("sent", "Put", "KV", "unary"), 3.0),
        (&msg("received", "Watch", "Watch", "bidi_stream"), 2.0),
        ("etcd_mvcc_hash_duration_seconds_count", 1.0),
        ("etcd_mvcc_hash_rev_duration_seconds_count", 1.0),
        ("etcd_disk_backend_defrag_duration_seconds_count", 1.0),
        ("etcd_disk_defrag_inflight", 0.0),
        ("etcd_disk_backend_snapshot_duration_seconds_count", 1.0),
        ("etcd_server_read_indexes_failed_total", 0.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
        ("etcd_server_proposals_pending", 0.0),
        ("etcd_server_proposals_failed_total", 0.0),
    ] {
        assert_eq!(value(&seen, name), expect, "{name}");
    }
    assert!(value(&seen, "etcd_disk_wal_fsync_duration_seconds_count") >= 1.0);
    assert!(value(&seen, "etcd_disk_wal_write_duration_seconds_count") >= 6.0);
    assert!(value(&seen, "etcd_disk_wal_write_bytes_total") > 6.0 * 36.0);
    assert!(value(&seen, "process_network_receive_bytes_total") > 0.0);
    let (used, size) = ("etcd_mvcc_db_total_size_in_use_in_bytes", "etcd_mvcc_db_total_size_in_bytes");
    assert!(value(&seen, used) > 0.0 && value(&seen, used) <= value(&seen, size));
    drop((answers, requests));
    let seen = until(&address, "etcd_debugging_mvcc_watch_stream_total", 0.0).await;
    assert_eq!(value(&seen, "etcd_debugging_mvcc_watcher_total"), 0.0);
    served.stop().await;
}

/// The page once a name has this value.
async fn until(address: &str, name: &str, expect: f64) -> String {
    until_is(address, name, |value| value == expect).await
}

/// The page once a name has a higher value.
async fn until_more(address: &str, name: &str, before: f64) -> String {
    until_is(address, name, |value| value > before).await
}

async fn until_is(address: &str, name: &str, holds: impl Fn(f64) -> bool) -> String {
    let began = Instant::now();
    loop {
        let seen = page(address).await;
        let line = seen.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        if line.is_some_and(|value| holds(value.parse().unwrap())) {
            return seen;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{name} is not what it should be in {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
