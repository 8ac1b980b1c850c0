//! Namespaces, the processes in them, and what is done to both.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_wire::etcdserverpb::{
    self as pb, cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use testkit::{Host, Namespace};

use crate::client::endpoint;
use crate::process::{self, FIRST, address, first_id, peer_url};

/// The longest a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// One question to one member.
const ASK: Duration = Duration::from_millis(700);

struct Place {
    namespace: Namespace,
    dir: PathBuf,
    id: u64,
    child: Option<Child>,
}

/// A bridge, and members around it.
pub struct Site<'a> {
    host: &'a Host,
    root: PathBuf,
    places: Vec<Option<Place>>,
    known: Arc<Mutex<Vec<usize>>>,
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        for child in self.places.iter_mut().flatten().filter_map(|place| place.child.as_mut()) {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl<'a> Site<'a> {
    pub fn new(host: &'a Host, root: &Path) -> Self {
        let _ = host.succeed(&["ip", "link", "add", "br0", "type", "bridge"]);
        let _ = host.succeed(&["ip", "addr", "add", "10.90.0.254/24", "dev", "br0"]);
        let _ = host.succeed(&["ip", "link", "set", "br0", "up"]);
        let mut site = Self { host, root: root.to_path_buf(), places: Vec::new(), known: Arc::default() };
        for n in 0..FIRST {
            site.settle(first_id(n));
        }
        (0..FIRST).for_each(|n| site.start(n));
        site
    }

    /// The members that run, as writers see them.
    pub fn known(&self) -> Arc<Mutex<Vec<usize>>> {
        self.known.clone()
    }

    pub fn running(&self) -> Vec<usize> {
        let runs = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.child.is_some());
        (0..self.places.len()).filter(|n| runs(&self.places[*n])).collect()
    }

    fn place(&self, n: usize) -> &Place {
        self.places[n].as_ref().expect("the member is there")
    }

    /// Makes a namespace for the next member.
    fn settle(&mut self, id: u64) -> usize {
        let n = self.places.len();
        let namespace = self.host.namespace().unwrap();
        let (inside, outside) = (format!("in{n}"), format!("out{n}"));
        let link = ["ip", "link", "add", &outside, "type", "veth", "peer", "name", &inside];
        let _ = self.host.succeed(&link);
        let path = namespace.path().display().to_string();
        // `/proc/self` would be the command's own.
        let path = path.replace("self", &std::process::id().to_string());
        let _ = self.host.succeed(&["ip", "link", "set", &inside, "netns", &path]);
        let _ = self.host.succeed(&["ip", "link", "set", &outside, "master", "br0", "up"]);
        let cidr = format!("{}/24", address(n));
        for command in [
            vec!["ip", "link", "set", "lo", "up"],
            vec!["ip", "addr", "add", &cidr, "dev", &inside],
            vec!["ip", "link", "set", &inside, "up"],
        ] {
            let _ = self.host.succeed_in(&namespace, &command);
        }
        let dir = self.root.join(format!("m{n}"));
        self.places.push(Some(Place { namespace, dir, id, child: None }));
        n
    }

    /// Starts a member's process.
    #[allow(
        clippy::zombie_processes,
        reason = "it is waited for when it is killed or stopped, and at the end"
    )]
    pub fn start(&mut self, n: usize) {
        let place = self.place(n);
        let joins = if n < FIRST { 0 } else { place.id };
        let member = process::Member { n, dir: place.dir.clone(), joins };
        let child = self.host.within(&place.namespace, || {
            Command::new(std::env::current_exe().unwrap())
                .args(["member_process", "--exact", "--nocapture"])
                .env(process::ENV, member.env())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        });
        self.places[n].as_mut().expect("the member is there").child = Some(child);
        *self.known.lock() = self.running();
    }

    pub fn signal(&self, n: usize, signal: Signal) {
        let child = self.place(n).child.as_ref().expect("it runs");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    fn reap(&mut self, n: usize) {
        if let Some(mut child) = self.places[n].as_mut().and_then(|place| place.child.take()) {
            child.wait().unwrap();
        }
        *self.known.lock() = self.running();
    }

    /// As `kill -9`.
    pub fn kill(&mut self, n: usize) {
        self.signal(n, Signal::SIGKILL);
        self.reap(n);
    }

    /// In good order.
    pub fn stop(&mut self, n: usize) {
        self.signal(n, Signal::SIGTERM);
        self.reap(n);
    }

    /// Drops what comes into (`input`) or leaves (`output`) a member, from one other or from everybody.
    pub fn cut(&self, n: usize, hook: &str, from: Option<usize>) {
        let whom = from.map_or(String::new(), |from| format!("ip saddr {} ", address(from)));
        let device = if hook == "input" { "iifname" } else { "oifname" };
        let rules = format!(
            "table inet cut {{ chain {hook} {{ type filter hook {hook} priority 0; {device} != \"lo\" {whom}drop; }}; }}"
        );
        let _ = self.host.succeed_in(&self.place(n).namespace, &["nft", &rules]);
    }

    /// Makes what a member sends late; false where the kernel cannot.
    pub fn delay(&self, n: usize, ms: u32) -> bool {
        let (device, ms) = (format!("in{n}"), format!("{ms}ms"));
        let place = self.place(n);
        let done = self.host.within(&place.namespace, || {
            Command::new("tc").args(["qdisc", "add", "dev", &device, "root", "netem", "delay", &ms]).output()
        });
        let able = done.is_ok_and(|done| done.status.success());
        if !able {
            eprintln!("no delay: this kernel has no netem");
        }
        able
    }

    /// Ends cuts and delays.
    pub fn mend(&self, n: usize) {
        let device = format!("in{n}");
        self.host.within(&self.place(n).namespace, || {
            // What was not there need not go.
            let _ = Command::new("nft").args(["delete", "table", "inet", "cut"]).output();
            let _ = Command::new("tc").args(["qdisc", "del", "dev", &device, "root"]).output();
        });
    }

    async fn status(&self, n: usize) -> Option<pb::StatusResponse> {
        let mut maintenance = MaintenanceClient::new(endpoint(n));
        let asked = maintenance.status(pb::StatusRequest::default());
        Some(tokio::time::timeout(ASK, asked).await.ok()?.ok()?.into_inner())
    }

    /// The member whom most running members call their leader.
    pub async fn leader(&self) -> usize {
        let began = Instant::now();
        loop {
            let mut named = Vec::new();
            for n in self.running() {
                named.extend(self.status(n).await.map(|status| status.leader));
            }
            let agreed =
                |id: &u64| named.iter().filter(|other| *other == id).count() * 2 > self.running().len();
            let found = named.iter().find(|id| agreed(id)).copied();
            let at = |id| self.running().into_iter().find(|n| self.place(*n).id == id);
            if let Some(n) = found.and_then(at) {
                return n;
            }
            assert!(began.elapsed() < PATIENCE, "nobody leads: {named:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.running().into_iter().find(|n| *n != leader).expect("several run")
    }

    /// Waits until every running member has applied about what the others have.
    pub async fn all_in_step(&self) {
        let began = Instant::now();
        loop {
            let mut applied = Vec::new();
            for n in self.running() {
                applied.extend(self.status(n).await.map(|status| (status.raft_applied_index, status.leader)));
            }
            let (least, most) = (applied.iter().min(), applied.iter().max());
            let near = least.zip(most).is_some_and(|(least, most)| most.0 - least.0 < 200);
            if applied.len() == self.running().len() && near && applied.iter().all(|(_, leader)| *leader != 0)
            {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not in step: {applied:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until all running members hold the same.
    pub async fn all_equal(&self) {
        let began = Instant::now();
        loop {
            let mut hashes = Vec::new();
            for n in self.running() {
                let mut maintenance = MaintenanceClient::new(endpoint(n));
                let asked = maintenance.hash_kv(pb::HashKvRequest { revision: 0 });
                let hash = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap().into_inner();
                hashes.push((hash.hash, hash.compact_revision, hash.header.map(|header| header.revision)));
            }
            if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "they differ: {hashes:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Adds a member and starts it; its number.
    pub async fn add(&mut self) -> usize {
        let request =
            pb::MemberAddRequest { peer_ur_ls: vec![peer_url(self.places.len())], is_learner: false };
        let began = Instant::now();
        let id = loop {
            let leader = self.leader().await;
            let mut cluster = ClusterClient::new(endpoint(leader));
            match cluster.member_add(request.clone()).await {
                Ok(added) => break added.into_inner().member.unwrap().id,
                Err(error) => assert!(began.elapsed() < PATIENCE, "not added: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let n = self.settle(id);
        self.start(n);
        n
    }

    /// Waits until a member that was added votes.
    pub async fn votes(&self, n: usize) {
        let began = Instant::now();
        while self.status(n).await.is_none_or(|status| status.is_learner || status.leader == 0) {
            assert!(began.elapsed() < PATIENCE, "the member does not vote");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes a member and ends its process.
    pub async fn remove(&mut self, n: usize) {
        let began = Instant::now();
        let request = pb::MemberRemoveRequest { id: self.place(n).id };
        loop {
            let leader = self.leader().await;
            let mut cluster = ClusterClient::new(endpoint(leader));
            match cluster.member_remove(request).await {
                Ok(_) => break,
                Err(error) if error.message() == "etcdserver: member not found" => break,
                Err(error) => assert!(began.elapsed() < PATIENCE, "not removed: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.kill(n);
        self.places[n] = None;
        *self.known.lock() = self.running();
    }
}
