//! Three servers as processes on loopback, spoken to by the real etcdctl and kubectl.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

const KETCH: &str = env!("CARGO_BIN_EXE_ketch");
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the controllers' Lease counts.
const LEASE: Duration = Duration::from_secs(15);
/// Every port a free one, and nothing that needs root.
const FREE_PORTS: [&str; 10] = [
    "--api-port",
    "0",
    "--etcd-port",
    "0",
    "--kafka-port",
    "0",
    "--console-port",
    "0",
    "--no-node",
    "--log=warn",
];

/// A running `ketch server` or `ketch up`.
struct Server {
    child: Child,
    dir: PathBuf,
    endpoints: Value,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server and waits until it is ready.
    fn start(dir: &Path, more: &[&str]) -> Self {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let flags = [&["server", "--peer-port", "0", "--node-name", name], &FREE_PORTS[..], more].concat();
        Self::run(dir, &flags)
    }

    fn run(dir: &Path, flags: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(dir.with_extension("log")).unwrap();
        let mut command = Command::new(KETCH);
        command.args(flags).arg("--data-dir").arg(dir).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        loop {
            // Written when all is ready, and by this process.
            let text = std::fs::read(dir.join("endpoints.json")).unwrap_or_default();
            let endpoints: Value = serde_json::from_slice(&text).unwrap_or_default();
            if endpoints["pid"] == child.id() {
                return Self { child, dir: dir.to_owned(), endpoints };
            }
            let said = || std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE, "{}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn at(&self, part: &str) -> &str {
        self.endpoints[part].as_str().unwrap_or_else(|| panic!("no {part} in {}", self.endpoints))
    }

    /// Stops as by Ctrl-C.
    fn stop(mut self) -> PathBuf {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success() && self.child.wait().unwrap().success(), "it stops well");
        self.dir.clone()
    }

    /// `ketch ARGS` about this server: what it prints.
    fn ketch(&self, args: &[&str]) -> Result<String, String> {
        outcome(Command::new(KETCH).args(args).arg("--data-dir").arg(&self.dir))
    }

    fn token(&self) -> String {
        self.ketch(&["token", "create"]).unwrap().trim().to_owned()
    }

    /// The real etcdctl against this server's etcd port.
    fn etcdctl(&self, args: &[&str]) -> Result<String, String> {
        let path = |name: &str| self.dir.join("pki/etcd").join(name).display().to_string();
        let mut command = Command::new(std::env::var("KETCH_TEST_ETCDCTL").unwrap());
        command
            .args([
                "--endpoints",
                self.at("etcd"),
                "--cacert",
                &path("ca.crt"),
                "--cert",
                &path("client.crt"),
            ])
            .args(["--key", &path("client.key"), "--command-timeout=2s", "--dial-timeout=1s"])
            .args(args);
        outcome(&mut command)
    }

    /// The real kubectl against this server's API.
    fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(std::env::var("KETCH_TEST_KUBECTL").unwrap());
        command.arg("--kubeconfig").arg(self.dir.join("kubeconfig")).arg("--request-timeout=5s").args(args);
        outcome(&mut command)
    }

    /// Whether it has a vote: it is listed as a voter from the start, and counts once it holds the log.
    fn votes(&self) -> bool {
        const IS_LEARNER: usize = 9;
        let status = self.ketch(&["store", "status"]).unwrap_or_default();
        let mut lines = status.lines().map(|line| line.split(", ").collect::<Vec<_>>());
        lines.any(|line| line[0] == self.at("etcd") && line.get(IS_LEARNER) == Some(&"false"))
    }
}

fn outcome(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Looks again and again until it holds; what was seen last when it does not.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(began.elapsed() < PATIENCE, "not in time: {what}: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || if holds() { Ok(()) } else { Err(String::new()) });
}

fn has(variable: &str) -> bool {
    let set = std::env::var_os(variable).is_some();
    if !set {
        eprintln!("skipped: {variable} is not set (cargo xtask test sets it)");
    }
    set
}

#[test]
fn three_members_join_by_token_at_any_member_and_outlive_a_killed_leader() {
    if !has("KETCH_TEST_ETCDCTL") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let dir = |name: &str| root.path().join(name);
    let first = Server::start(&dir("a"), &["--store-only"]);
    assert!(first.etcdctl(&["put", "before", "1"]).unwrap().contains("OK"));
    let token = first.token();
    // A wrong secret is refused, and nothing is added.
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts[1] = "a".repeat(parts[1].len());
    let wrong = [&["server", "--store-only", "--peer-port", "0"], &FREE_PORTS[..]].concat();
    let refused = Command::new(KETCH)
        .args(wrong)
        .args(["--join", first.at("peer"), "--token", &parts.join("."), "--data-dir"])
        .arg(dir("wrong"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the token is not good"), "{refused:?}");
    let second = Server::start(&dir("b"), &["--store-only", "--join", first.at("peer"), "--token", &token]);
    until("the second votes", || second.votes());
    // The token is the cluster's: it opens the second's door too, and so does one that the second makes.
    let third =
        Server::start(&dir("c"), &["--store-only", "--join", second.at("peer"), "--token", &second.token()]);
    until("the third votes", || third.votes());
    let listed = third.ketch(&["token", "list"]).unwrap();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert_eq!(
        third.ketch(&["token", "delete", &token[..6]]).unwrap(),
        format!("token {} deleted\n", &token[..6])
    );
    assert!(third.etcdctl(&["get", "before"]).unwrap().contains("before\n1"));
    assert!(second.etcdctl(&["put", "by", "b"]).unwrap().contains("OK"));
    assert!(first.etcdctl(&["get", "by"]).unwrap().contains("by\nb"));
    // Members are told as etcdctl tells them, and changed as it changes them.
    let told = |server: &Server| server.ketch(&["store", "members"]).unwrap();
    assert_eq!(told(&third), third.etcdctl(&["member", "list"]).unwrap());
    let learner = ["--learner", "--peer-urls", "https://127.0.0.1:1"];
    let added = third.ketch(&[&["store", "members", "add"][..], &learner].concat()).unwrap();
    let id = added.split_whitespace().nth(1).unwrap();
    assert!(added.starts_with(&format!("Member {id} added to cluster ")), "{added}");
    assert!(told(&second).contains(&format!("{id}, unstarted, , https://127.0.0.1:1, , true")));
    assert_eq!(told(&second), second.etcdctl(&["member", "list"]).unwrap());
    let refused = third.ketch(&["store", "members", "promote", id]).unwrap_err();
    assert!(refused.contains("can only promote a learner member which is in sync with leader"), "{refused}");
    second.ketch(&["store", "members", "remove", id]).unwrap();
    assert!(!told(&third).contains(id));
    // A port that was free once stays the same: the others know it.
    let peer = third.at("peer").to_owned();
    let third = Server::start(&third.stop(), &["--store-only"]);
    assert_eq!(third.at("peer"), peer);
    until("the third knows the log", || third.etcdctl(&["get", "by"]).is_ok_and(|got| got.contains("by\nb")));
    // The first leads; it is killed as by the kernel.
    drop(first);
    let began = Instant::now();
    eventually("a write after the leader was killed", || second.etcdctl(&["put", "after", "1"]));
    eprintln!("a write {:?} after the leader was killed", began.elapsed());
    assert!(third.etcdctl(&["get", "after"]).unwrap().contains("after\n1"));
}

#[test]
fn three_servers_with_control_plane_begin_with_a_directory_of_up_and_outlive_a_killed_leader() {
    if !has("KETCH_TEST_KUBECTL") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let dir = |name: &str| root.path().join(name);
    // One that ran alone, under `up`, becomes the first of several.
    let up = Server::run(&dir("a"), &[&["up", "--node-name", "a"], &FREE_PORTS[..]].concat());
    up.kubectl(&["create", "configmap", "old", "--from-literal=by=up"]).unwrap();
    up.ketch(&["topic", "create", "t"]).unwrap();
    let first = Server::start(&up.stop(), &[]);
    let old = ["get", "configmap", "old", "-o", "jsonpath={.data.by}"];
    assert_eq!(first.kubectl(&old).unwrap(), "up");
    let token = first.token();
    let join = ["--join", first.at("peer"), "--token", &token];
    let (second, third) = (Server::start(&dir("b"), &join), Server::start(&dir("c"), &join));
    // Every server has the API; what one writes the others read, also in a list.
    second.kubectl(&["create", "deployment", "web", "--image=none", "--replicas=2"]).unwrap();
    assert!(third.kubectl(&["get", "deployments"]).unwrap().contains("web"));
    assert_eq!(third.kubectl(&old).unwrap(), "up");
    let pods = |server: &Server| {
        let names = server.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
        names.map(|names| names.lines().count())
    };
    until("the controllers made two pods", || pods(&third) == Ok(2));
    // The broker runs where it ran under `up`, and nowhere else.
    let topics = first.ketch(&["topic", "list"]).unwrap();
    assert!(topics.lines().any(|line| line.trim() == "t"), "{topics}");
    assert!(second.endpoints["kafka"].is_null() && third.endpoints["kafka"].is_null());
    let holder =
        ["get", "lease", "-n", "kube-system", "ketch-control", "-o", "jsonpath={.spec.holderIdentity}"];
    assert!(third.kubectl(&holder).unwrap().starts_with("a_"), "the first server leads");
    until("the second votes", || second.votes());
    until("the third votes", || third.votes());
    drop(first);
    let began = Instant::now();
    eventually("a write after the leader was killed", || {
        second.kubectl(&["create", "configmap", "new", "--from-literal=by=b"])
    });
    eprintln!("kubectl writes {:?} after the leader was killed", began.elapsed());
    assert_eq!(third.kubectl(&["get", "configmap", "new", "-o", "jsonpath={.data.by}"]).unwrap(), "b");
    second.kubectl(&["scale", "deployment", "web", "--replicas=3"]).unwrap();
    until("the controllers act elsewhere", || pods(&third) == Ok(3));
    eprintln!("controllers act {:?} after the leader was killed", began.elapsed());
    let last = third.kubectl(&holder).unwrap();
    assert!(last.starts_with("b_") || last.starts_with("c_"), "{last}");
    // The killed one comes back as a member, and the broker with it.
    let first = Server::start(&dir("a"), &[]);
    assert_eq!(first.kubectl(&["get", "configmap", "new", "-o", "jsonpath={.data.by}"]).unwrap(), "b");
    let topics = first.ketch(&["topic", "list"]).unwrap();
    assert!(topics.lines().any(|line| line.trim() == "t"), "{topics}");
    // Whoever holds the Lease and stops by itself lets go of it: another acts before it would have run out.
    let (holding, other) = if last.starts_with("b_") { (second, third) } else { (third, second) };
    holding.stop();
    let began = Instant::now();
    until("another holds the Lease", || {
        other.kubectl(&holder).is_ok_and(|now| !now.is_empty() && now != last)
    });
    assert!(began.elapsed() < LEASE, "let go of, not run out");
}

#[test]
fn a_server_is_a_node_too() {
    let Some(mut k) = common::Ketch::with_busybox_as("server", &["--peer-port", "0", "--node-name", "s"])
    else {
        return;
    };
    k.becomes("node s", "{.spec.podCIDR}", "10.42.0.0/24", 10);
    // A controller makes it; pods are refused before.
    k.becomes("serviceaccount default", "{.metadata.name}", "default", 30);
    k.k("run one --image=busybox --restart=Never --command -- sleep 600");
    k.becomes("pod one", "{.status.phase}", "Running", 60);
    // The pod outlives the server, and its part of the pods' range stays the node's.
    k.stop("INT");
    k.up();
    k.becomes("pod one", "{.status.containerStatuses[0].restartCount}", "0", 30);
    k.eventually("the pod answers", 30, || {
        k.try_kubectl(&["exec", "one", "--", "echo", "there"]).stdout.contains("there")
    });
}

#[test]
fn up_refuses_the_directory_of_a_server_and_a_server_joins_with_an_empty_one() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(&root.path().join("a"), &["--store-only"]);
    let (peer, token) = (server.at("peer").to_owned(), server.token());
    let dir = server.stop();
    let flags = |command: &'static str| [&[command], &FREE_PORTS[..]].concat();
    let told = outcome(Command::new(KETCH).args(flags("up")).arg("--data-dir").arg(&dir)).unwrap_err();
    assert!(told.contains("start it with `ketch server`"), "{told}");
    let export = outcome(Command::new(KETCH).args(["log", "export-metadata", "--data-dir"]).arg(&dir));
    let told = export.unwrap_err();
    let helps = format!("`ketch snapshot restore --from-data-dir {} --data-dir NEW`", dir.display());
    assert!(told.contains(&helps) && !told.contains("start it with"), "{told}");
    // A member needs no invitation any more; a store of one's own is no place to join with.
    let again = Server::start(&dir, &["--store-only", "--join", &peer, "--token", &token]);
    drop(again);
    // Snapshots by themselves, meanwhile: one that etcdutl would read, and `ketch snapshot` does.
    let saving =
        [flags("up"), vec!["--no-broker", "--snapshot-every", "1s", "--snapshot-keep", "1"]].concat();
    let alone = Server::run(&root.path().join("b"), &saving);
    let found = eventually("a snapshot", || {
        let entries = std::fs::read_dir(alone.dir.join("snapshots")).map_err(|error| error.to_string())?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| path.extension().is_some_and(|end| end == "db")).ok_or_else(String::new)
    });
    let alone = alone.stop();
    let told = outcome(Command::new(KETCH).args(["snapshot", "status"]).arg(&found)).unwrap();
    assert!(told.contains(", 3.6.0"), "{told}");
    let mut join = Command::new(KETCH);
    join.args(flags("server")).args(["--peer-port", "0", "--join", &peer, "--token", &token]);
    let told = outcome(join.arg("--data-dir").arg(&alone)).unwrap_err();
    assert!(told.contains("a server joins with an empty data directory"), "{told}");
}

#[test]
fn a_peer_port_that_changed_is_told_with_what_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("moving");
    std::fs::create_dir(&dir).unwrap();
    let said = || std::fs::read_to_string(dir.with_extension("log")).unwrap();
    let known = "the members know this one at";
    Server::start(&dir, &["--store-only"]).stop();
    assert!(!said().contains(known), "{}", said());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let flags = ["server", "--store-only", "--peer-port", &port, "--node-name", "moving"];
    let moved = Server::run(&dir, &[&flags, &FREE_PORTS[..]].concat());
    let text = said();
    let line = text.lines().find(|line| line.contains(known)).unwrap_or_else(|| panic!("{text}"));
    let command = line.split('\'').nth(1).and_then(|command| command.strip_prefix("ketch ")).unwrap();
    moved.ketch(&command.split(' ').collect::<Vec<_>>()).unwrap();
    let members = moved.ketch(&["store", "members"]).unwrap();
    assert!(members.contains(&format!("https://127.0.0.1:{port}")), "{members}");
    moved.stop();
    Server::run(&dir, &[&flags, &FREE_PORTS[..]].concat()).stop();
    assert_eq!(said().matches(known).count(), 1, "{}", said());
}
