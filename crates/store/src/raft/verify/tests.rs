use std::net::TcpListener;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use base::task::Tasks;
use mvcc::{Reader as _, State as _};
use store_api::{Error, KeyRange, Op, RangeRequest, Store as _, Txn, WatchMessage, WatchRequest};

use super::*;
use crate::raft::{Begin, ClusterOptions, MemberNode, NetworkOptions};
use crate::{Handle, Options, Service};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn who_differs_from_most_is_odd() {
    let found = |list: &[(u64, u64, i64)]| {
        list.iter()
            .map(|(id, hash, compacted)| (*id, Fingerprint { hash: *hash, compacted: *compacted }))
            .collect()
    };
    assert!(odd_ones(1, &found(&[(1, 7, 0), (2, 7, 0), (3, 7, 0)])).is_empty());
    assert_eq!(odd_ones(1, &found(&[(1, 7, 0), (2, 7, 0), (3, 8, 0)])), [3]);
    assert_eq!(odd_ones(1, &found(&[(1, 9, 0), (2, 7, 0), (3, 7, 0)])), [1]);
    assert_eq!(odd_ones(2, &found(&[(1, 9, 0), (2, 7, 0)])), [1]);
    assert!(odd_ones(1, &found(&[(1, 9, 0), (2, 7, 5)])).is_empty());
}

struct Running {
    handle: Handle,
    tasks: Tasks,
}

async fn start(dir: &Path, begin: Begin, listener: TcpListener) -> Running {
    let tasks = Tasks::new();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let network = NetworkOptions::Listen { listener, tls: None, joining: None };
    let cluster = ClusterOptions::new("m", url, begin, network);
    Running { handle: Service::start_member(Options::new(dir), cluster, &tasks).await.unwrap(), tasks }
}

async fn three(dir: &Path) -> Vec<Running> {
    let ports: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let node = |(n, port): (usize, &TcpListener)| {
        let peer_urls = vec![format!("http://{}", port.local_addr().unwrap())];
        (n as u64 + 1, MemberNode { peer_urls, ..MemberNode::default() })
    };
    let members: Vec<_> = ports.iter().enumerate().map(node).collect();
    let mut started = Vec::new();
    for (n, port) in ports.into_iter().enumerate() {
        let begin = Begin::Together { cluster_id: 7, member_id: n as u64 + 1, members: members.clone() };
        started.push(start(&dir.join(n.to_string()), begin, port).await);
    }
    started
}

/// What a disk that rots, or a bug, might do to a state.
fn spoil(handle: &Handle) {
    let db = handle.inner.reads.db.clone();
    let mut found = Vec::new();
    let view = db.view().unwrap();
    view.scan(&[], &[0xff], false, &mut |key, stored| {
        let value = stored.whole()?;
        if value.windows(8).any(|window| window == b"original") {
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert!(!found.is_empty());
    db.update(true, |state| {
        found.iter().try_for_each(|(key, value)| {
            let at = value.windows(8).position(|window| window == b"original").unwrap();
            let mut spoiled = value.clone();
            spoiled[at] = b'0';
            state.put(key, &[&spoiled])
        })
    })
    .unwrap();
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn put(key: &str, value: &str) -> Txn {
    Txn { success: vec![Op::put(key.to_owned(), value.to_owned())], ..Txn::default() }
}

async fn leading(members: &[Running]) -> usize {
    let mut leader = None;
    until("somebody leads", || {
        let named: Vec<_> = members.iter().map(|m| *m.handle.leader_changes().borrow()).collect();
        leader = named[0].filter(|_| named.windows(2).all(|pair| pair[0] == pair[1]));
        leader.is_some()
    })
    .await;
    members.iter().position(|m| Some(m.handle.header().member_id) == leader).unwrap()
}

async fn refuses(handle: &Handle) {
    let corrupt = |error: Error| assert!(matches!(error, Error::Corrupt(_)), "{error}");
    corrupt(handle.range(RangeRequest::key("k")).await.unwrap_err());
    let stale = RangeRequest { serializable: true, ..RangeRequest::of(KeyRange::prefix("k")) };
    corrupt(handle.range(stale).await.unwrap_err());
    corrupt(handle.txn(put("k", "2")).await.unwrap_err());
    assert!(handle.status().unwrap().errors[0].contains("CORRUPT"));
}

/// The member `victim` of the started ones (0: the leader) gets another state: it alone is fenced.
async fn fenced_alone(victim: usize) {
    let dir = tempfile::tempdir().unwrap();
    let members = three(dir.path()).await;
    let leader = leading(&members).await;
    let revision = members[leader].handle.txn(put("k", "original")).await.unwrap().revision;
    until("all have applied it", || members.iter().all(|m| m.handle.revision() == revision)).await;
    let victim = &members[(leader + victim) % 3].handle;
    let me = victim.header().member_id;
    let others: Vec<_> = members.iter().map(|m| &m.handle).filter(|h| h.header().member_id != me).collect();
    let request = WatchRequest { range: KeyRange::prefix("k"), start_revision: None, prev_kv: false };
    let mut watch = victim.watch(request).await.unwrap();
    spoil(victim);
    members[leader].handle.inner.member.as_ref().unwrap().compare(revision).await.unwrap();
    until("the victim heeds the alarm", || victim.state_differs()).await;
    refuses(victim).await;
    let told = async {
        while let Some(message) = watch.messages.recv().await {
            if let WatchMessage::Cancelled { .. } = message {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    until("another leads", || *others[0].leader_changes().borrow() != Some(me)).await;
    for other in &others {
        let began = Instant::now();
        while let Err(error) = other.txn(put("k", "3")).await {
            assert!(began.elapsed() < PATIENCE, "the others go on: {error}");
        }
        let raised = Alarm { member: me, kind: AlarmKind::Corrupt };
        assert_eq!((other.alarms().unwrap(), other.state_differs()), (vec![raised], false));
        assert_eq!(other.range(RangeRequest::key("k")).await.unwrap().kvs[0].value, "3");
    }
    // Who knows better may end the alarm.
    let alarm = Alarm { member: me, kind: AlarmKind::Corrupt };
    others[1].set_alarm(alarm, false).await.unwrap();
    until("the victim serves again", || !victim.state_differs()).await;
    for member in members {
        member.handle.close().await;
        assert!(member.tasks.shutdown(PATIENCE).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_state_differs_is_fenced_alone() {
    fenced_alone(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_state_differs_is_fenced_and_steps_aside() {
    fenced_alone(0).await;
}

/// Flips a bit of a value where the member wrote it; false while it has not.
fn rot(values: &Path) -> bool {
    for file in std::fs::read_dir(values).unwrap().map(|entry| entry.unwrap().path()) {
        let mut bytes = std::fs::read(&file).unwrap();
        if let Some(at) = bytes.windows(500).position(|window| window == [7; 500]) {
            bytes[at] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_reads_a_rotten_value_serves_nothing_more_and_tells_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let members = three(dir.path()).await;
    let leader = leading(&members).await;
    // Values are written once there are enough of them.
    let mut revision = Revision(0);
    for n in 0..8 {
        let op = if n == 0 { Op::put("k", vec![7; 500]) } else { Op::put("fill", vec![n; 100_000]) };
        let txn = Txn { success: vec![op], ..Txn::default() };
        revision = members[leader].handle.txn(txn).await.unwrap().revision;
    }
    until("all have applied it", || members.iter().all(|m| m.handle.revision() == revision)).await;
    let at = (leader + 1) % 3;
    let victim = &members[at].handle;
    until("it is on the disk", || rot(&dir.path().join(at.to_string()).join("values"))).await;
    let read = RangeRequest { serializable: true, ..RangeRequest::key("k") };
    assert!(matches!(victim.range(read).await, Err(Error::Corrupt(_))));
    let raised = Alarm { member: victim.header().member_id, kind: AlarmKind::Corrupt };
    let others = [&members[leader].handle, &members[(leader + 2) % 3].handle];
    until("the others know", || others.iter().all(|other| other.alarms().unwrap() == [raised])).await;
    refuses(victim).await;
    for other in others {
        assert_eq!(other.range(RangeRequest::key("k")).await.unwrap().kvs[0].value, vec![7; 500]);
    }
    for member in members {
        member.handle.close().await;
        assert!(member.tasks.shutdown(PATIENCE).await);
    }
}
