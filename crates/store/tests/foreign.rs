//! Clients of other makers against the door, and against a real etcd, so that what they check is etcd's behaviour: the crate
//! `etcd-client` (`KETCH_TEST_ETCD_RUST` names the program of `tests/rust/etcd-client`) and Python's etcd3gw over the JSON
//! gateway (`KETCH_TEST_ETCD_PYTHONPATH` says where it is; the script is `tests/python/etcd_gateway.py`).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::path::Path;
use std::process::Command;

use door::Served;
use etcd::{Etcd, everything, program};

/// Parts of each program; a new one there wants to be counted here.
const PARTS_OF_RUST: usize = 7;
const PARTS_OF_PYTHON: usize = 5;

/// Runs it to its end: every part must say that it holds.
async fn holds(mut command: Command, parts: usize) {
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (said, told) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}{told}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), parts, "{said}");
}

/// Runs what `command` makes of `HOST:PORT` against the door and, where there is one, a real etcd.
async fn against_both(command: impl Fn(&str) -> Command, parts: usize) {
    let served = Served::start().await;
    holds(command(&served.door.addrs()[0].to_string()), parts).await;
    served.stop().await;
    let Some(program) = program("KETCH_TEST_ETCD") else { return };
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&program, dir.path(), &[]).await;
    // It has a leader once it answers.
    everything(etcd.channel().await).await;
    holds(command(&format!("127.0.0.1:{}", etcd.port())), parts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crate_etcd_client() {
    let Some(program) = program("KETCH_TEST_ETCD_RUST") else { return };
    let command = |address: &str| {
        let mut command = Command::new(&program);
        command.arg(format!("http://{address}"));
        command
    };
    against_both(command, PARTS_OF_RUST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_etcd3gw_over_the_gateway() {
    let Some(site) = program("KETCH_TEST_ETCD_PYTHONPATH") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/etcd_gateway.py");
    let command = |address: &str| {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &site).env("PYTHONDONTWRITEBYTECODE", "1").arg(&script).arg(address);
        command
    };
    against_both(command, PARTS_OF_PYTHON).await;
}
