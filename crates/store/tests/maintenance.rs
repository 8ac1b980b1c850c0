//! The Maintenance service through a gRPC client, and snapshots between Ketch and a real etcd, both ways.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::process::Command;
use std::sync::Arc;

use base::task::Tasks;
use door::{Served, get, prefix, put, refusal};
use etcd::{Etcd, everything, program, save};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_client::KvClient;
use etcd_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use pb::alarm_request::AlarmAction;
use pb::downgrade_request::DowngradeAction;
use store::snapshot::{RestoreOptions, restore, status};
use store_api::{LeaseId, Op, Revision, Store, Txn};
use tonic::transport::Channel;

async fn maintenance(served: &Served) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(served.channel().await)
}

async fn write(store: &dyn Store, ops: Vec<Op>) {
    store.txn(Txn { success: ops, ..Txn::default() }).await.unwrap();
}

/// Keys with history, deletes, several in one revision, and a lease.
async fn fill(store: &dyn Store) {
    store.lease_grant(LeaseId(77), 600).await.unwrap();
    for n in 0..300 {
        let key = format!("/k/{}", n % 70);
        let ops = match n % 10 {
            3 => vec![Op::delete(key)],
            4 => vec![Op::put(key, vec![b'v'; 9000]), Op::put(format!("/pair/{n}"), "x")],
            5 => vec![Op::Put { key: key.into(), value: "l".into(), lease: LeaseId(77), prev_kv: false }],
            _ => vec![Op::put(key, n.to_string())],
        };
        write(store, ops).await;
    }
}

fn alarm(action: AlarmAction, member_id: u64, alarm: pb::AlarmType) -> pb::AlarmRequest {
    pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_hashes_tell_what_is_there() {
    let served = Served::start().await;
    fill(&served.store).await;
    let mut client = maintenance(&served).await;
    let told = client.status(pb::StatusRequest {}).await.unwrap().into_inner();
    let header = told.header.unwrap();
    assert_eq!((told.leader, header.revision), (header.member_id, served.store.revision().get()));
    assert!(told.db_size > 0 && told.db_size_in_use > 0 && told.db_size_in_use <= told.db_size, "{told:?}");
    assert_eq!((told.version.as_str(), told.storage_version.as_str()), ("3.6.16", "3.6.0"));
    assert_eq!(told.db_size_quota, 2 * 1024 * 1024 * 1024);
    assert!(told.raft_index >= told.raft_applied_index && told.raft_applied_index > 300, "{told:?}");
    assert!(told.errors.is_empty() && !told.is_learner);
    let now = client.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    let before =
        client.hash_kv(pb::HashKvRequest { revision: now.hash_revision - 1 }).await.unwrap().into_inner();
    assert_ne!(now.hash, before.hash);
    assert_eq!(now.compact_revision, -1);
    let future = client.hash_kv(pb::HashKvRequest { revision: now.hash_revision + 1 }).await;
    assert_eq!(refusal(future), "OutOfRange: etcdserver: mvcc: required revision is a future revision");
    served.store.compact(Revision(100)).await.unwrap();
    let gone = client.hash_kv(pb::HashKvRequest { revision: 99 }).await;
    assert_eq!(refusal(gone), "OutOfRange: etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_raised_kept_and_ended() {
    let served = Served::start().await;
    let mut client = maintenance(&served).await;
    let mut kv = served.kv().await;
    kv.put(put("a", "1")).await.unwrap();
    let raise = alarm(AlarmAction::Activate, 5, pb::AlarmType::Nospace);
    let answer = client.alarm(raise).await.unwrap().into_inner();
    assert_eq!(answer.alarms, [pb::AlarmMember { member_id: 5, alarm: 1 }]);
    let refused = "ResourceExhausted: etcdserver: mvcc: database space exceeded";
    assert_eq!(refusal(kv.put(put("b", "1")).await), refused);
    let grown = served.store.lease_grant(LeaseId(0), 60).await;
    assert_eq!(grown, Err(store_api::Error::NoSpace));
    // What frees space and what reads goes on.
    kv.range(get("a")).await.unwrap();
    kv.delete_range(door::delete("a")).await.unwrap();
    served.store.compact(served.store.revision()).await.unwrap();
    let told = client.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(told.errors, ["memberID:5 alarm:NOSPACE "]);
    let none = alarm(AlarmAction::Get, 0, pb::AlarmType::Corrupt);
    assert!(client.alarm(none).await.unwrap().into_inner().alarms.is_empty());
    let end = alarm(AlarmAction::Deactivate, 5, pb::AlarmType::Nospace);
    assert_eq!(client.alarm(end).await.unwrap().into_inner().alarms.len(), 1);
    assert!(client.alarm(end).await.unwrap().into_inner().alarms.is_empty(), "there is none to end any more");
    kv.put(put("b", "1")).await.unwrap();
    client.alarm(alarm(AlarmAction::Activate, 5, pb::AlarmType::Corrupt)).await.unwrap();
    assert_eq!(refusal(kv.put(put("b", "2")).await), "DataLoss: etcdserver: corrupt cluster");
    assert_eq!(refusal(kv.delete_range(door::delete("b")).await), "DataLoss: etcdserver: corrupt cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_beyond_its_quota_raises_the_alarm_and_shrinks_by_compaction_and_defragmentation() {
    let dir = tempfile::tempdir().unwrap();
    let quota = 16 * 1024 * 1024;
    let options = store::Options { quota_bytes: Some(quota), ..store::Options::new(dir.path()) };
    let store = store::Service::start(options, &Tasks::new()).unwrap();
    let mut refused = None;
    for n in 0..200 {
        let put = Op::put(format!("k{}", n % 4), vec![n as u8; 500_000]);
        if let Err(error) = store.txn(Txn { success: vec![put], ..Txn::default() }).await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(store_api::Error::NoSpace));
    assert_eq!(store.alarms().unwrap().len(), 1);
    let before = store.status().unwrap().db_size_bytes;
    store.compact(store.revision()).await.unwrap();
    while !store.swept(store.revision()).unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    store.defragment().await.unwrap();
    let after = store.status().unwrap().db_size_bytes;
    assert!(after < before / 3, "{before} bytes before, {after} after");
    let alarm = store.alarms().unwrap()[0];
    store.set_alarm(alarm, false).await.unwrap();
    write(&store, vec![Op::put("again", "1")]).await;
    let kept = store.range(store_api::RangeRequest::prefix("k")).await.unwrap();
    assert_eq!(kept.kvs.len(), 4);
    store.close().await;
    let again = store::Service::start(store::Options::new(dir.path()), &Tasks::new()).unwrap();
    assert_eq!(again.range(store_api::RangeRequest::prefix("")).await.unwrap().count, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defragmentation_loses_nothing_that_is_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = store::Service::start(store::Options::new(dir.path()), &Tasks::new()).unwrap();
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for n in 0..400 {
            write(&writer, vec![Op::put(format!("k{n}"), vec![1; 2000])]).await;
        }
    });
    while !writing.is_finished() {
        store.defragment().await.unwrap();
        store.range(store_api::RangeRequest::prefix("k")).await.unwrap();
    }
    writing.await.unwrap();
    assert_eq!(store.range(store_api::RangeRequest::prefix("k")).await.unwrap().count, 400);
    store.close().await;
    let store = store::Service::start(store::Options::new(dir.path()), &Tasks::new()).unwrap();
    assert_eq!(store.range(store_api::RangeRequest::prefix("k")).await.unwrap().count, 400);
    assert!(!dir.path().join("state.redb.new").exists());
}

#[tokio::test]
async fn downgrades_and_the_leader_answer_as_etcds() {
    let served = Served::start().await;
    let mut client = maintenance(&served).await;
    let ask = |action: DowngradeAction, version: &str| pb::DowngradeRequest {
        action: action.into(),
        version: version.to_owned(),
    };
    let valid = client.downgrade(ask(DowngradeAction::Validate, "3.5.0")).await.unwrap().into_inner();
    assert_eq!(valid.version, "3.6");
    let wrong = client.downgrade(ask(DowngradeAction::Validate, "three")).await;
    assert_eq!(refusal(wrong), "InvalidArgument: etcdserver: wrong downgrade target version format");
    let old = client.downgrade(ask(DowngradeAction::Validate, "3.4")).await;
    assert_eq!(refusal(old), "InvalidArgument: etcdserver: invalid downgrade target version");
    client.downgrade(ask(DowngradeAction::Cancel, "")).await.unwrap();
    let member = served.store.header().member_id;
    client.move_leader(pb::MoveLeaderRequest { target_id: member }).await.unwrap();
    let moved = client.move_leader(pb::MoveLeaderRequest { target_id: member ^ 1 }).await;
    assert_eq!(refusal(moved), "FailedPrecondition: etcdserver: bad leader transferee");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_snapshot_is_a_store_again() {
    let served = Served::start().await;
    fill(&served.store).await;
    served.store.compact(Revision(150)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (file, new) = (dir.path().join("s.db"), dir.path().join("new"));
    save(served.channel().await, &file).await;
    let told = status(&file).unwrap();
    let all = everything(served.channel().await).await;
    assert_eq!((told.total_keys, told.revision), (all.count as u64, served.store.revision()));
    restore(&file, &new, RestoreOptions::default()).unwrap();
    let restored = store::Service::start(store::Options::new(&new), &Tasks::new()).unwrap();
    let whole = store_api::RangeRequest::prefix("");
    let found = restored.range(whole.clone()).await.unwrap();
    assert_eq!(found, served.store.range(whole).await.unwrap());
    assert_ne!(restored.header().cluster_id, served.store.header().cluster_id, "it is a new cluster");
    assert_eq!(restored.lease_status(LeaseId(77)).await.unwrap().granted_ttl_s, 600);
    write(&restored, vec![Op::put("more", "1")]).await;
    restored.close().await;
    let again = store::Service::start(store::Options::new(&new), &Tasks::new()).unwrap();
    assert_eq!(again.revision(), told.revision.next());
}

/// From Ketch to a real etcd: etcdctl saves, etcdutl restores, etcd serves the same keys; and back again.
#[tokio::test(flavor = "multi_thread")]
async fn to_a_real_etcd_and_back() {
    let programs = (program("KETCH_TEST_ETCD"), program("KETCH_TEST_ETCDUTL"), program("KETCH_TEST_ETCDCTL"));
    let (Some(etcd), Some(etcdutl), Some(etcdctl)) = programs else { return };
    let served = Served::start().await;
    fill(&served.store).await;
    served.store.compact(Revision(150)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = |program: &std::path::Path, args: &[&std::ffi::OsStr]| {
        let done = Command::new(program).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let url = served.url();
    run(
        &etcdctl,
        &["--endpoints".as_ref(), url.as_ref(), "snapshot".as_ref(), "save".as_ref(), at("s.db").as_ref()],
    );
    run(&etcdutl, &["snapshot".as_ref(), "status".as_ref(), at("s.db").as_ref()]);
    run(
        &etcdutl,
        &[
            "snapshot".as_ref(),
            "restore".as_ref(),
            at("s.db").as_ref(),
            "--data-dir".as_ref(),
            at("etcd").as_ref(),
        ],
    );
    let real = Etcd::start(&etcd, &at("etcd"), &[]).await;
    let ours = everything(served.channel().await).await;
    let theirs = everything(real.channel().await).await;
    assert_eq!((theirs.count, &theirs.kvs), (ours.count, &ours.kvs));
    let revision = |answer: &pb::RangeResponse| answer.header.unwrap().revision;
    assert_eq!(revision(&theirs), revision(&ours));
    // History above the compacted revision came along.
    let mut old = KvClient::new(real.channel().await).max_decoding_message_size(usize::MAX);
    let past = pb::RangeRequest { revision: 170, ..prefix("/") };
    let mut kv = served.kv().await;
    let (a, b) = (old.range(past.clone()).await.unwrap(), kv.range(past).await.unwrap());
    assert_eq!(a.into_inner().kvs, b.into_inner().kvs);
    let below = pb::RangeRequest { revision: 149, ..prefix("/") };
    assert_eq!(
        refusal(old.range(below).await),
        "OutOfRange: etcdserver: mvcc: required revision has been compacted"
    );
    // On with etcd, and back.
    for n in 0..50 {
        old.put(put(format!("/etcd/{n}"), "e")).await.unwrap();
    }
    old.delete_range(door::delete("/etcd/7")).await.unwrap();
    save(real.channel().await, &at("back.db")).await;
    restore(&at("back.db"), &at("back"), RestoreOptions::default()).unwrap();
    let back = store::Service::start(store::Options::new(at("back")), &Tasks::new()).unwrap();
    let door_options = store::door::Options::new(vec!["127.0.0.1:0".parse().unwrap()], None);
    let back_door = store::door::Service::start(door_options, back.clone(), &Tasks::new()).await.unwrap();
    let url = format!("http://{}", back_door.addrs()[0]);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let theirs = everything(real.channel().await).await;
    let ours = everything(channel).await;
    assert_eq!((ours.count, &ours.kvs), (theirs.count, &theirs.kvs));
    assert_eq!(revision(&ours), revision(&theirs));
    let _: Arc<dyn Store> = back.shared();
}
