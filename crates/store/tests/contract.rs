//! The contract suite over a real member, and what only a real one can show: restarts, formats, full disks.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::clock::SharedClock;
use base::task::Tasks;
use store::{Handle, Options, Service};
use store_api::{
    Error, KeyRange, LeaseId, Op, RangeRequest, Revision, Store, Txn, WatchMessage, WatchRequest,
};
use testkit::sim::{SimClock, SimDisk, SimFault};

fn start(dir: &Path) -> Handle {
    Service::start(Options::new(dir), &Tasks::new()).unwrap()
}

async fn put(store: &Handle, key: &str, value: impl Into<Vec<u8>>) -> Result<Revision, Error> {
    let success = vec![Op::put(key.to_owned(), value.into())];
    store.txn(Txn { success, ..Txn::default() }).await.map(|done| done.revision)
}

async fn count(store: &Handle) -> usize {
    store.range(RangeRequest { count_only: true, ..RangeRequest::prefix("") }).await.unwrap().count
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let dirs = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU32::new(0);
    testkit::store_contract::run(|| async {
        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        start(&dirs.path().join(n.to_string())).shared()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = start(dir.path());
        assert_eq!(count(&store).await, round * 50);
        for n in 0..50 {
            put(&store, &format!("k{round}/{n}"), "v").await.unwrap();
        }
        if round == 1 {
            store.lease_grant(LeaseId(9), 60).await.unwrap();
        }
        store.close().await;
        assert_eq!(put(&store, "late", "x").await, Err(Error::ShuttingDown));
        let read = store.range(RangeRequest::key("late")).await;
        assert_eq!(read, Err(Error::ShuttingDown));
    }
    let store = start(dir.path());
    assert_eq!(store.revision(), Revision(151));
    assert!(store.lease_keep_alive(LeaseId(9)).await.is_ok(), "a lease survives with its whole time");
    let mut watch = store
        .watch(WatchRequest {
            range: KeyRange::prefix("k0/"),
            start_revision: Some(Revision(2)),
            prev_kv: false,
        })
        .await
        .unwrap();
    let Some(WatchMessage::Events { events, .. }) = watch.messages.recv().await else { panic!("no events") };
    assert_eq!(events.len(), 50, "history survives");
    store.close().await;
    assert_eq!(watch.messages.recv().await, Some(WatchMessage::Cancelled { error: Error::ShuttingDown }));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_the_tasks_closes_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let store = Service::start(Options::new(dir.path()), &tasks).unwrap();
    put(&store, "a", "1").await.unwrap();
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
    assert_eq!(put(&store, "a", "2").await, Err(Error::ShuttingDown));
    assert_eq!(count(&start(dir.path())).await, 1);
}

#[tokio::test]
async fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("FORMAT"), "ketch-store 9\n").unwrap();
    let error = Service::start(Options::new(dir.path()), &Tasks::new()).unwrap_err().to_string();
    assert!(error.ends_with(
        "store format 9 is newer than format 3, the newest this program knows; use a newer ketch"
    ));
    std::fs::write(dir.path().join("FORMAT"), "something else").unwrap();
    assert!(Service::start(Options::new(dir.path()), &Tasks::new()).is_err());
}

fn simulated(disk: &SimDisk, clock: SharedClock) -> Options {
    let random = base::random::Random::from_seed(1);
    Options {
        dir: "/data".into(),
        cache_bytes: 1 << 20,
        quota_bytes: None,
        value_segment_bytes: 20_000,
        clock,
        disk: disk.shared(),
        random,
        auth: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_heals() {
    let disk = SimDisk::new();
    let store = Service::start(simulated(&disk, Arc::new(SimClock::new())), &Tasks::new()).unwrap();
    put(&store, "before", "1").await.unwrap();
    disk.set_fault(SimFault::Full);
    let mut accepted = 1;
    let refused = loop {
        match put(&store, &format!("fill/{accepted}"), vec![7; 20_000]).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 1000, "the disk is full, but writes go on");
    };
    assert_eq!(refused, Error::NoSpace);
    assert_eq!(put(&store, "again", vec![7; 20_000]).await, Err(Error::NoSpace));
    assert_eq!(count(&store).await, accepted, "reads go on");
    disk.set_fault(SimFault::None);
    put(&store, "after", vec![7; 20_000]).await.unwrap();
    store.close().await;
    let store = Service::start(simulated(&disk, Arc::new(SimClock::new())), &Tasks::new()).unwrap();
    assert_eq!(count(&store).await, accepted + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_fences_the_member() {
    let disk = SimDisk::new();
    let store = Service::start(simulated(&disk, Arc::new(SimClock::new())), &Tasks::new()).unwrap();
    put(&store, "a", "1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    disk.set_fault(SimFault::SyncFails);
    assert!(matches!(put(&store, "b", "1").await, Err(Error::Unavailable(_))));
    disk.set_fault(SimFault::None);
    assert!(matches!(put(&store, "c", "1").await, Err(Error::Unavailable(_))), "the fence stays");
    assert_eq!(count(&store).await, 1, "what was acknowledged is still read");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_at_idle() {
    let disk = SimDisk::new();
    let store = Service::start(simulated(&disk, Arc::new(SimClock::new())), &Tasks::new()).unwrap();
    put(&store, "a", "1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let calls = disk.calls();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(disk.calls(), calls);
}

/// The log's files.
fn segments(wal: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(wal).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = names.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    segments.sort_unstable();
    segments
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_past_leaves_no_log_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path());
    for n in 0..100 {
        put(&store, "counter", vec![n; 200_000]).await.unwrap();
    }
    store.compact(Revision(100)).await.unwrap();
    let wal = dir.path().join("wal");
    let deadline = Instant::now() + Duration::from_secs(10);
    while segments(&wal).len() > 1 {
        assert!(Instant::now() < deadline, "old segments stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.close().await;
    let left: u64 = segments(&wal).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(left, 0, "a closed store has an empty log");
    let store = start(dir.path());
    assert_eq!(count(&store).await, 1);
    assert_eq!(store.revision(), Revision(101));
}

/// Where the zeros behind a segment's last frame begin. A frame begins with its length.
fn end_of_frames(segment: &[u8]) -> usize {
    let mut end = 0;
    while let Some(len) = segment.get(end..).and_then(|rest| rest.first_chunk())
        && *len != [0; 4]
    {
        end += u32::from_be_bytes(*len) as usize;
    }
    end
}

/// A copy of a directory as a crash of the process leaves it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_told_and_a_torn_end_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(&dir.path().join("running"));
    for n in 0..40_u8 {
        put(&running, &format!("k{n}"), vec![n; 1000]).await.unwrap();
    }
    // The state has a durable commit of few of them; the log has all.
    let (damaged, torn) = (dir.path().join("damaged"), dir.path().join("torn"));
    copy(&dir.path().join("running"), &damaged);
    copy(&dir.path().join("running"), &torn);
    let log = segments(&damaged.join("wal")).pop().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = end_of_frames(&bytes) / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let refused = |found: Result<Handle, store::Error>| found.expect_err("refused").to_string();
    let text = refused(Service::start(Options::new(&damaged), &Tasks::new()));
    assert!(text.starts_with(&format!("{}: damaged at byte ", log.display())), "{text}");
    assert!(text.contains("Restore a snapshot"), "{text}");
    assert_eq!(std::fs::read(&log).unwrap(), bytes, "nothing was changed");
    assert_eq!(refused(Service::start(Options::new(&damaged), &Tasks::new())), text, "however often");
    std::fs::remove_file(damaged.join("wal").join("DURABLE")).unwrap();
    let store = start(&damaged);
    let left = count(&store).await;
    assert!((1..40).contains(&left), "{left}");
    store.close().await;
    // Half of a frame behind the last one, which nobody was told of.
    let log = segments(&torn.join("wal")).pop().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let end = end_of_frames(&bytes);
    bytes[end..end + 30].fill(7);
    std::fs::write(&log, &bytes).unwrap();
    let store = start(&torn);
    assert_eq!(count(&store).await, 40);
    store.close().await;
    running.close().await;
}
