//! etcd's own Go client library against the door, where `KETCH_TEST_ETCD_GO` names the program of `tests/go/etcd`: locks,
//! elections, transactions in memory, watches, leases, namespaces, mirrors, caches under leases, the texts of errors.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::process::Command;

use door::Served;
use etcd::program;

/// Checks of the program; a new one there wants to be counted here.
const CHECKS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn every_check_of_the_go_client_holds() {
    let Some(program) = program("KETCH_TEST_ETCD_GO") else { return };
    let served = Served::start().await;
    let mut command = Command::new(program);
    command.args(["--endpoints", &served.url()]);
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{told}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), CHECKS, "{said}");
    served.stop().await;
}
