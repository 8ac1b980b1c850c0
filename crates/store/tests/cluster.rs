//! Several members in one process, over loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use base::task::Tasks;
use store::raft::{Begin, ClusterError, ClusterOptions, MemberNode, NetworkOptions, PeerError, Timing};
use store::{Handle, Options, Service};
use store_api::{LeaseId, Op, RangeRequest, Store, Txn};

const PATIENCE: Duration = Duration::from_secs(20);

struct Member {
    handle: Handle,
    tasks: Tasks,
    url: String,
}

impl Member {
    async fn start(dir: &Path, begin: Begin, listener: TcpListener) -> Self {
        Self::start_timed(dir, begin, listener, Timing::default()).await
    }

    async fn start_timed(dir: &Path, begin: Begin, listener: TcpListener, timing: Timing) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tasks = Tasks::new();
        let name = dir.file_name().unwrap().to_str().unwrap();
        let network = NetworkOptions::Listen { listener, tls: None, joining: None };
        let cluster = ClusterOptions { timing, ..ClusterOptions::new(name, &url, begin, network) };
        let handle = Service::start_member(Options::new(dir), cluster, &tasks).await.unwrap();
        Self { handle, tasks, url }
    }

    fn id(&self) -> u64 {
        self.handle.header().member_id
    }

    async fn stop(self) {
        self.handle.close().await;
        assert!(self.tasks.shutdown(PATIENCE).await);
    }
}

fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn put(key: &str, value: &str) -> Txn {
    Txn { success: vec![Op::put(key.to_owned(), value.to_owned())], ..Txn::default() }
}

async fn get(handle: &Handle, key: &str) -> Option<String> {
    let found = handle.range(RangeRequest::key(key.to_owned())).await.unwrap().kvs.pop()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

async fn leader(members: &[Member]) -> usize {
    let mut changes = members[0].handle.leader_changes();
    let known = |id: &Option<u64>| id.is_some_and(|id| members.iter().any(|member| member.id() == id));
    let id = *tokio::time::timeout(PATIENCE, changes.wait_for(known)).await.unwrap().unwrap();
    members.iter().position(|member| Some(member.id()) == id).unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn three(dir: &Path) -> Vec<Member> {
    three_timed(dir, Timing::default()).await
}

async fn three_timed(dir: &Path, timing: Timing) -> Vec<Member> {
    let ports: Vec<_> = (0..3).map(|_| port()).collect();
    let node = |(n, port): (usize, &TcpListener)| {
        let peer_urls = vec![format!("http://{}", port.local_addr().unwrap())];
        (n as u64 + 11, MemberNode { name: format!("m{n}"), peer_urls, ..MemberNode::default() })
    };
    let members: Vec<_> = ports.iter().enumerate().map(node).collect();
    let mut started = Vec::new();
    for (n, port) in ports.into_iter().enumerate() {
        let begin = Begin::Together { cluster_id: 7, member_id: n as u64 + 11, members: members.clone() };
        started.push(Member::start_timed(&dir.join(format!("m{n}")), begin, port, timing).await);
    }
    started
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_agree_and_outlive_their_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path()).await;
    let led = leader(&members).await;
    for (n, member) in members.iter().enumerate() {
        member.handle.txn(put(&format!("k{n}"), "v")).await.unwrap();
    }
    for member in &members {
        for n in 0..3 {
            assert_eq!(get(&member.handle, &format!("k{n}")).await.as_deref(), Some("v"));
        }
        assert_eq!(member.handle.members().len(), 3);
    }
    let gone = members.remove(led);
    let began = Instant::now();
    gone.stop().await;
    let writes = async {
        loop {
            if members[0].handle.txn(put("after", "v")).await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, writes).await.unwrap();
    let took = began.elapsed();
    eprintln!("a write {took:?} after the leader was stopped");
    assert_eq!(get(&members[1].handle, "after").await.as_deref(), Some("v"));
    // It comes back and catches up.
    let port = TcpListener::bind(format!("127.0.0.1:{}", members[0].url.rsplit(':').next().unwrap()));
    assert!(port.is_err(), "the others keep their ports");
    for member in members {
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_ran_alone_is_joined_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    {
        let tasks = Tasks::new();
        let alone = Service::start(Options::new(&first), &tasks).unwrap();
        for n in 0..300 {
            alone.txn(put(&format!("old{n}"), "v")).await.unwrap();
        }
        let refused = alone.add_member(vec!["http://127.0.0.1:1".into()], false).await;
        assert_eq!(refused, Err(PeerError::Cluster(ClusterError::Alone)));
        alone.close().await;
    }
    let one = Member::start(&first, Begin::Alone, port()).await;
    assert_eq!(get(&one.handle, "old299").await.as_deref(), Some("v"));
    one.handle.txn(put("new", "v")).await.unwrap();
    assert!(matches!(
        one.handle.promote_member(99).await,
        Err(PeerError::Cluster(ClusterError::MemberNotFound))
    ));
    // A learner that has not started is not promoted.
    let listener = port();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let id = one.handle.add_member(vec![url.clone()], true).await.unwrap();
    assert_eq!(one.handle.add_member(vec![url], true).await, Err(ClusterError::PeerUrlExists.into()));
    assert_eq!(
        one.handle.add_member(vec!["http://127.0.0.1:1".into()], true).await,
        Err(ClusterError::TooManyLearners.into())
    );
    assert_eq!(
        one.handle.add_member(vec!["nonsense".into()], false).await,
        Err(ClusterError::BadUrls.into())
    );
    assert_eq!(one.handle.promote_member(id).await, Err(ClusterError::LearnerNotReady.into()));
    let cluster_id = one.handle.header().cluster_id;
    let join = |id| Begin::Join { cluster_id, member_id: id };
    let two = Member::start(&dir.path().join("second"), join(id), listener).await;
    until("the learner receives the state", || two.handle.header().revision == one.handle.header().revision)
        .await;
    assert!(two.handle.status().unwrap().is_learner);
    assert_eq!(get(&two.handle, "old0").await.as_deref(), Some("v"));
    let began = Instant::now();
    while let Err(error) = one.handle.promote_member(id).await {
        if error == ClusterError::NotLearner.into() {
            // An attempt that was not answered in time came to pass.
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(one.handle.promote_member(id).await, Err(ClusterError::NotLearner.into()));
    // One that is to vote does so by itself.
    let listener = port();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let id = two.handle.add_member(vec![url], false).await.unwrap();
    let three = Member::start(&dir.path().join("third"), join(id), listener).await;
    until("the third votes", || {
        !three.handle.status().unwrap().is_learner
            && three.handle.members().iter().all(|m| !m.name.is_empty())
    })
    .await;
    three.handle.txn(put("from the third", "v")).await.unwrap();
    // The leader moves where it is told, and the first leaves.
    let moved = two.handle.move_leader(three.id()).await;
    assert_eq!(moved, Ok(()));
    assert_eq!(one.handle.move_leader(5).await, Err(ClusterError::BadTransferee.into()));
    two.handle.remove_member(one.id()).await.unwrap();
    one.stop().await;
    two.handle.txn(put("without the first", "v")).await.unwrap();
    assert_eq!(get(&three.handle, "without the first").await.as_deref(), Some("v"));
    two.stop().await;
    three.stop().await;
    let refused = Service::start(Options::new(&first), &Tasks::new());
    assert!(matches!(refused, Err(store::Error::Member { .. })));
}

/// The leader's answer to a move races with the news that it leads no more: whoever asked is told that it was done.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_a_follower_asks_for_is_told_as_done() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody else is to lead meanwhile because a busy machine held a leader up.
    let (election_min, election_max) = (Duration::from_millis(1000), Duration::from_millis(1500));
    let members = three_timed(dir.path(), Timing { election_min, election_max, ..Timing::default() }).await;
    for _ in 0..10 {
        let led = leader(&members).await;
        let (asked, to) = (&members[(led + 1) % 3].handle, members[(led + 2) % 3].id());
        assert_eq!(asked.move_leader(to).await, Ok(()));
        until("the other leads", || asked.status().unwrap().leader == Some(to)).await;
    }
    for member in members {
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_kept_by_whoever_leads() {
    let dir = tempfile::tempdir().unwrap();
    let members = three(dir.path()).await;
    let led = leader(&members).await;
    let other = &members[(led + 1) % 3].handle;
    let lease = other.lease_grant(LeaseId(0), 2).await.unwrap().id;
    let kept = other.lease_grant(LeaseId(0), 60).await.unwrap().id;
    let with = |key: &str, lease| {
        let op = Op::Put { key: key.to_owned().into(), value: "v".into(), lease, prev_kv: false };
        Txn { success: vec![op], ..Txn::default() }
    };
    other.txn(with("short", lease)).await.unwrap();
    other.txn(with("long", kept)).await.unwrap();
    assert_eq!(other.lease_keep_alive(kept).await.unwrap().ttl_s, 60);
    assert!(other.lease_status(kept).await.unwrap().ttl_s > 57);
    assert!(other.lease_keep_alive(LeaseId(12345)).await.is_err());
    let began = Instant::now();
    while get(other, "short").await.is_some() {
        assert!(began.elapsed() < PATIENCE, "the lease ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(1));
    assert_eq!(get(other, "long").await.as_deref(), Some("v"));
    for member in members {
        member.stop().await;
    }
}
