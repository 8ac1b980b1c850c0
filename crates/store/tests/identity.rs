//! Who a member is, and that it stays the same.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use base::task::Tasks;
use store::{Options, Service};
use store_api::{Op, Store, Txn};

#[tokio::test]
async fn a_member_keeps_its_numbers_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let tasks = Tasks::new();
        (Service::start(Options::new(dir.path().join("store")), &tasks).unwrap(), tasks)
    };
    let (handle, _tasks) = start();
    let first = handle.header();
    assert!(first.cluster_id != 0 && first.member_id != 0 && first.cluster_id != first.member_id);
    assert_eq!(*handle.leader_changes().borrow(), Some(first.member_id));
    let txn = Txn { success: vec![Op::put("a", "1")], ..Txn::default() };
    let written = handle.txn(txn).await.unwrap().revision;
    let status = handle.status().unwrap();
    assert_eq!((status.raft_index, status.raft_applied_index, status.is_learner), (1, 1, false));
    assert_eq!((status.header.revision, status.leader), (written, Some(first.member_id)));
    assert!(status.db_size_bytes > 0 && status.errors.is_empty());
    handle.close().await;
    let (handle, _tasks) = start();
    let second = handle.header();
    assert_eq!((second.cluster_id, second.member_id), (first.cluster_id, first.member_id));
    handle.close().await;
}
