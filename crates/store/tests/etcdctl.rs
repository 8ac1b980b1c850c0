//! etcdctl as people and scripts use it, and what it prints: 3.6 where `KETCH_TEST_ETCDCTL` names it, 3.4 (Debian's) where
//! `KETCH_TEST_ETCDCTL_34` does.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use door::Served;
use etcd::program;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::maintenance_client::MaintenanceClient;

/// One etcdctl and a store of its own.
struct Ctl {
    program: PathBuf,
    served: Served,
    old: bool,
}

impl Ctl {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // The old one names a whole URL as the authority where it dials one endpoint, which HTTP/2 does not allow.
        let endpoint = self.endpoint();
        if self.old {
            command.env("ETCDCTL_API", "3");
        }
        command.args(["--endpoints", &endpoint, "--command-timeout", "10s"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn endpoint(&self) -> String {
        let address = self.served.door.addrs()[0].to_string();
        if self.old { address } else { format!("http://{address}") }
    }

    /// What it prints when it succeeds.
    fn run(&self, args: &[&str]) -> String {
        finished(args, self.command(args).output().unwrap())
    }

    /// The same with something to read.
    fn fed(&self, args: &[&str], input: &str) -> String {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        finished(args, child.wait_with_output().unwrap())
    }

    /// The error it ends with.
    fn refused(&self, args: &[&str]) -> String {
        let done = self.command(args).output().unwrap();
        assert!(!done.status.success(), "{args:?} is refused");
        let told = String::from_utf8(done.stderr).unwrap();
        told.lines().last().unwrap_or_default().to_owned()
    }

    /// One that runs until it is killed.
    fn running(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }
}

fn finished(args: &[&str], done: Output) -> String {
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {told}");
    String::from_utf8(done.stdout).unwrap()
}

/// Killed when it goes out of scope.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn lines(&mut self, count: usize) -> Vec<String> {
        let mut next = || {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            line.trim_end_matches('\n').to_owned()
        };
        (0..count).map(|_| next()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `script` with every etcdctl there is, on threads that may block.
async fn with_each(script: fn(&Ctl)) {
    for (variable, old) in [("KETCH_TEST_ETCDCTL", false), ("KETCH_TEST_ETCDCTL_34", true)] {
        let Some(program) = program(variable) else { continue };
        let ctl = Ctl { program, served: Served::start().await, old };
        let ctl = tokio::task::spawn_blocking(move || {
            script(&ctl);
            ctl
        });
        ctl.await.unwrap().served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_transactions() {
    with_each(|ctl| {
        assert_eq!(ctl.run(&["put", "a", "1"]), "OK\n");
        assert_eq!(ctl.run(&["put", "a", "2", "--prev-kv"]), "OK\na\n1\n");
        assert_eq!(ctl.run(&["put", "ab", "3"]), "OK\n");
        assert_eq!(ctl.run(&["get", "a"]), "a\n2\n");
        assert_eq!(ctl.run(&["get", "a", "--rev", "2"]), "a\n1\n");
        assert_eq!(ctl.run(&["get", "a", "--prefix"]), "a\n2\nab\n3\n");
        assert_eq!(ctl.run(&["get", "a", "--prefix", "--keys-only"]), "a\n\nab\n\n");
        let newest = ["get", "", "--prefix", "--sort-by", "MODIFY", "--order", "DESCEND", "--limit", "1"];
        assert_eq!(ctl.run(&newest), "ab\n3\n");
        assert_eq!(ctl.run(&["get", "a", "--print-value-only"]), "2\n");
        assert_eq!(ctl.run(&["get", "none"]), "");
        let fields = ctl.run(&["get", "a", "-w", "fields"]);
        for line in ["\"Revision\" : 4", "\"CreateRevision\" : 2", "\"ModRevision\" : 3", "\"Version\" : 2"] {
            assert!(fields.lines().any(|l| l == line), "{line} in {fields}");
        }
        let txn = "value(\"a\") = \"2\"\n\nput b 1\nget b\ndel ab\n\nput c 1\n\n";
        assert_eq!(ctl.fed(&["txn"], txn), "SUCCESS\n\nOK\n\nb\n1\n\n1\n");
        let txn = "ver(\"a\") > \"7\"\n\nput b 2\n\nget c\nget b\n\n";
        assert_eq!(ctl.fed(&["txn"], txn), "FAILURE\n\n\nb\n1\n");
        assert_eq!(ctl.run(&["del", "b", "--prev-kv"]), "1\nb\n1\n");
        assert_eq!(ctl.run(&["del", "b"]), "0\n");
        assert_eq!(ctl.run(&["compaction", "5"]), "compacted revision 5\n");
        let told = ctl.refused(&["get", "a", "--rev", "4"]);
        assert_eq!(told, "Error: etcdserver: mvcc: required revision has been compacted");
        let told = ctl.refused(&["compaction", "50"]);
        assert_eq!(told, "Error: etcdserver: mvcc: required revision is a future revision");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    with_each(|ctl| {
        ctl.run(&["put", "w/a", "1"]);
        let mut watch = ctl.running(&["watch", "w/", "--prefix", "--rev", "2", "--prev-kv"]);
        assert_eq!(watch.lines(3), ["PUT", "w/a", "1"]);
        ctl.run(&["put", "other", "x"]);
        ctl.run(&["put", "w/a", "2"]);
        assert_eq!(watch.lines(5), ["PUT", "w/a", "1", "w/a", "2"]);
        ctl.run(&["del", "w/a"]);
        assert_eq!(watch.lines(5), ["DELETE", "w/a", "2", "w/a", ""]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases() {
    with_each(|ctl| {
        let granted = ctl.run(&["lease", "grant", "600"]);
        let id = granted.split(' ').nth(1).unwrap();
        assert_eq!(granted, format!("lease {id} granted with TTL(600s)\n"));
        assert_eq!(ctl.run(&["put", "l", "1", "--lease", id]), "OK\n");
        let alive = ctl.run(&["lease", "keep-alive", "--once", id]);
        assert_eq!(alive, format!("lease {id} keepalived with TTL(600)\n"));
        let left = ctl.run(&["lease", "timetolive", id, "--keys"]);
        let begin = format!("lease {id} granted with TTL(600s), remaining(");
        assert!(left.starts_with(&begin) && left.ends_with("s), attached keys([l])\n"), "{left}");
        assert_eq!(ctl.run(&["lease", "list"]), format!("found 1 leases\n{id}\n"));
        assert_eq!(ctl.run(&["lease", "revoke", id]), format!("lease {id} revoked\n"));
        assert_eq!(ctl.run(&["get", "l"]), "");
        let told = ctl.refused(&["lease", "revoke", id]);
        assert_eq!(told, "Error: failed to revoke lease (etcdserver: requested lease not found)");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_elections() {
    with_each(|ctl| {
        assert_eq!(ctl.run(&["lock", "m", "echo", "held"]), "held\n");
        let mut first = ctl.running(&["lock", "m"]);
        let key = first.lines(1).remove(0);
        assert!(key.starts_with("m/"), "{key}");
        let mut second = ctl.running(&["lock", "m"]);
        // Whoever waits has its key there already; it gets the lock when the first is interrupted.
        while ctl.run(&["get", "m/", "--prefix", "--keys-only"]).lines().count() < 4 {}
        ctl.run(&["del", &key]);
        assert_ne!(second.lines(1).remove(0), key);
        let mut leader = ctl.running(&["elect", "e", "me"]);
        let elected = leader.lines(2);
        assert!(elected[0].starts_with("e/") && elected[1] == "me", "{elected:?}");
        assert_eq!(ctl.running(&["elect", "--listen", "e"]).lines(2), elected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_itself() {
    with_each(|ctl| {
        let endpoint = ctl.endpoint();
        let healthy = ctl.command(&["endpoint", "health"]).output().unwrap();
        let told = [healthy.stdout, healthy.stderr].concat();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(healthy.status.success() && told.contains(&format!("{endpoint} is healthy")), "{told}");
        let header = ctl.served.store.header();
        let id = format!("{:x}", header.member_id);
        let status = ctl.run(&["endpoint", "status"]);
        assert!(status.starts_with(&format!("{endpoint}, {id}, 3.6.")), "{status}");
        let list = ctl.run(&["member", "list"]);
        assert!(list.starts_with(&format!("{id}, started, ")) && list.ends_with(", false\n"), "{list}");
        assert_eq!(list.lines().count(), 1, "{list}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db").display().to_string();
        ctl.run(&["put", "k", "v"]);
        let saved = ctl.run(&["snapshot", "save", &path]);
        assert!(saved.contains(&format!("Snapshot saved at {path}\n")), "{saved}");
        let into = dir.path().join("restored");
        let told = store::snapshot::restore(path.as_ref(), &into, Default::default()).unwrap();
        assert_eq!((told.revision.get(), told.changes), (2, 1));
        assert_eq!(ctl.run(&["alarm", "list"]), "");
        raise_alarm(ctl);
        let raised = format!("memberID:{} alarm:NOSPACE \n", header.member_id);
        assert_eq!(ctl.run(&["alarm", "list"]), raised);
        assert_eq!(ctl.refused(&["put", "k", "w"]), "Error: etcdserver: mvcc: database space exceeded");
        assert_eq!(ctl.run(&["alarm", "disarm"]), raised);
        assert_eq!(ctl.run(&["put", "k", "w"]), "OK\n");
    })
    .await;
}

/// As a member that is out of space does; etcdctl has no command for it.
fn raise_alarm(ctl: &Ctl) {
    let alarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate.into(),
        member_id: ctl.served.store.header().member_id,
        alarm: pb::AlarmType::Nospace.into(),
    };
    tokio::runtime::Handle::current().block_on(async {
        MaintenanceClient::new(ctl.served.channel().await).alarm(alarm).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles() {
    with_each(|ctl| {
        assert_eq!(ctl.run(&["user", "add", "root:secret"]), "User root created\n");
        assert_eq!(ctl.run(&["user", "add", "ann:pass"]), "User ann created\n");
        assert_eq!(ctl.run(&["role", "add", "r"]), "Role r created\n");
        assert_eq!(
            ctl.run(&["role", "grant-permission", "r", "readwrite", "a", "--prefix"]),
            "Role r updated\n"
        );
        let role = "Role r\nKV Read:\n\t[a, b) (prefix a)\nKV Write:\n\t[a, b) (prefix a)\n";
        assert_eq!(ctl.run(&["role", "get", "r"]), role);
        assert_eq!(ctl.run(&["user", "grant-role", "ann", "r"]), "Role r is granted to user ann\n");
        assert_eq!(ctl.run(&["user", "get", "ann"]), "User: ann\nRoles: r\n");
        assert_eq!(ctl.run(&["user", "list"]), "ann\nroot\n");
        assert_eq!(ctl.run(&["user", "grant-role", "root", "root"]), "Role root is granted to user root\n");
        assert_eq!(ctl.run(&["auth", "enable"]), "Authentication Enabled\n");
        assert_eq!(ctl.refused(&["get", "a"]), "Error: etcdserver: user name is empty");
        assert_eq!(ctl.run(&["--user", "ann:pass", "put", "ab", "1"]), "OK\n");
        assert_eq!(ctl.run(&["--user", "ann", "--password", "pass", "get", "ab"]), "ab\n1\n");
        assert_eq!(
            ctl.refused(&["--user", "ann:pass", "put", "b", "1"]),
            "Error: etcdserver: permission denied"
        );
        let told = ctl.refused(&["--user", "ann:wrong", "get", "ab"]);
        assert!(told.ends_with("authentication failed, invalid user ID or password"), "{told}");
        let root = ["--user", "root:secret"];
        assert_eq!(
            ctl.run(&[&root[..], &["role", "list"]].concat()),
            "r\n",
            "root is granted without being there"
        );
        assert_eq!(ctl.run(&[&root[..], &["auth", "disable"]].concat()), "Authentication Disabled\n");
        assert_eq!(ctl.run(&["user", "revoke-role", "ann", "r"]), "Role r is revoked from user ann\n");
        assert_eq!(ctl.run(&["user", "delete", "ann"]), "User ann deleted\n");
        assert_eq!(ctl.run(&["role", "delete", "r"]), "Role r deleted\n");
    })
    .await;
}
