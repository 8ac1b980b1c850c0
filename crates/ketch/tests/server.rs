//! Three members of a store as processes on loopback, spoken to by the real etcdctl.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KETCH: &str = env!("CARGO_BIN_EXE_ketch");
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    dir: PathBuf,
    peer: String,
    etcd: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a member and waits until it is ready.
    fn start(dir: &Path, name: &str, join: Option<(&str, &str)>) -> Self {
        let mut command = Command::new(KETCH);
        command.args(["server", "--store-only", "--etcd-port", "0", "--peer-port", "0", "--name", name]);
        command.arg("--data-dir").arg(dir);
        if let Some((url, token)) = join {
            command.args(["--join", url, "--token", token]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (mut peer, mut etcd) = (None, None);
        let began = Instant::now();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next().transpose().unwrap() {
            assert!(began.elapsed() < PATIENCE, "{line}");
            if let Some((_, url)) = line.split_once("peers ") {
                peer = Some(url.to_owned());
            }
            if let Some(url) = line.trim().strip_prefix("etcd ") {
                etcd = Some(url.trim().to_owned());
            }
            if line.starts_with("try:") {
                break;
            }
        }
        // What is printed later must go somewhere.
        std::thread::spawn(move || lines.count());
        Self { child, dir: dir.to_owned(), peer: peer.unwrap(), etcd: etcd.unwrap() }
    }
}

/// Runs etcdctl; its output, or its complaint.
fn etcdctl(program: &str, pki: &Path, endpoints: &str, args: &[&str]) -> Result<String, String> {
    let path = |name: &str| pki.join(name).display().to_string();
    let output = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoints, "--cacert", &path("ca.crt"), "--cert", &path("client.crt")])
        .args(["--key", &path("client.key"), "--command-timeout=2s", "--dial-timeout=1s"])
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn three_servers_join_by_token_and_outlive_a_killed_leader() {
    let Ok(program) = std::env::var("KETCH_TEST_ETCDCTL") else {
        return eprintln!("skipped: KETCH_TEST_ETCDCTL names no etcdctl");
    };
    let root = tempfile::tempdir().unwrap();
    let first = Server::start(&root.path().join("a"), "a", None);
    let pki = first.dir.join("pki").join("etcd");
    let ctl = |endpoints: &str, args: &[&str]| etcdctl(&program, &pki, endpoints, args);
    assert!(ctl(&first.etcd, &["put", "before", "1"]).unwrap().contains("OK"));
    let made = Command::new(KETCH).args(["token", "create", "--data-dir"]).arg(&first.dir).output().unwrap();
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    // A wrong secret is refused, and nothing is added.
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts[1] = "a".repeat(parts[1].len());
    let refused = Command::new(KETCH)
        .args(["server", "--store-only", "--etcd-port", "0", "--peer-port", "0", "--join", &first.peer])
        .args(["--token", &parts.join("."), "--data-dir"])
        .arg(root.path().join("wrong"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the token is not good"), "{refused:?}");
    let join = Some((first.peer.as_str(), token.as_str()));
    let second = Server::start(&root.path().join("b"), "b", join);
    let third = Server::start(&root.path().join("c"), "c", join);
    let began = Instant::now();
    loop {
        let list = ctl(&third.etcd, &["member", "list"]).unwrap_or_default();
        let started = list.lines().filter(|line| line.contains("started") && line.ends_with("false")).count();
        // A member is listed as a voter from the start, and counts for the quorum once it holds the log: only then may
        // the first one go.
        let votes = |server: &Server| {
            let status = ctl(&server.etcd, &["endpoint", "status", "-w", "fields"]).unwrap_or_default();
            status.contains("\"IsLearner\" : false")
        };
        if started == 3 && votes(&second) && votes(&third) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{list}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(ctl(&third.etcd, &["get", "before"]).unwrap().contains("before\n1"));
    assert!(ctl(&second.etcd, &["put", "by", "b"]).unwrap().contains("OK"));
    assert!(ctl(&first.etcd, &["get", "by"]).unwrap().contains("by\nb"));
    // The first leads; it is killed as by the kernel.
    drop(first);
    let survivors = format!("{},{}", second.etcd, third.etcd);
    let began = Instant::now();
    while let Err(error) = ctl(&survivors, &["put", "after", "1"]) {
        assert!(began.elapsed() < PATIENCE, "{error}");
    }
    eprintln!("a write {:?} after the leader was killed", began.elapsed());
    assert!(ctl(&third.etcd, &["get", "after"]).unwrap().contains("after\n1"));
}
