//! Several log directories: who holds what, what a restart finds, and what becomes of a directory that fails.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{Options, Service};
use common::{Raw, Served, append, batch, code, create, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::*;
use store_api::{RangeRequest, Store};
use testkit::sim::SimDisk;

const PATIENCE: Duration = Duration::from_secs(30);
const EIO: i32 = 5;

fn in_dirs(dirs: &[&Path]) -> Options {
    let mut options = options(dirs[0]);
    let list: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    options.properties.insert("log.dirs".into(), list.join(","));
    options
}

async fn describe(raw: &mut Raw) -> Vec<describe_log_dirs_response::DescribeLogDirsResult> {
    let response: DescribeLogDirsResponse = raw.call(5, &DescribeLogDirsRequest { topics: None }).await;
    response.results
}

/// The topics in each directory.
async fn held(raw: &mut Raw) -> BTreeMap<String, BTreeSet<String>> {
    let dirs = describe(raw).await;
    dirs.into_iter().map(|dir| (dir.log_dir, dir.topics.into_iter().map(|t| t.name).collect())).collect()
}

fn directory_id(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("meta.properties")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("directory.id=")).unwrap().to_owned()
}

/// Waits until producing to a topic gives this code.
async fn until(raw: &mut Raw, topic: &str, wanted: ErrorCode) {
    let told = async {
        while append(raw, topic, batch(1, None)).await.0 != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the code is told in time");
}

async fn leader(raw: &mut Raw, topic: &str) -> i32 {
    let wanted = metadata_request::MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![wanted]), ..Default::default() };
    let response: MetadataResponse = raw.call(9, &request).await;
    response.topics[0].partitions[0].leader_id
}

async fn leader_becomes(raw: &mut Raw, topic: &str, wanted: i32) {
    let told = async {
        while leader(raw, topic).await != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the leader is told in time");
}

#[tokio::test]
async fn partitions_are_spread_and_found_again() {
    let (a, b, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let dirs = [a.path(), b.path()];
    let served = Served::with(in_dirs(&dirs), store.clone()).await;
    let mut raw = served.raw().await;
    let topics = ["t1", "t2", "t3", "t4", "t5", "t6"];
    for topic in topics {
        assert_eq!(create(&mut raw, topic, &[]).await, ErrorCode::None);
        assert_eq!(append(&mut raw, topic, batch(2, None)).await, (ErrorCode::None, 0));
    }
    let before = held(&mut raw).await;
    assert_eq!(before.values().map(BTreeSet::len).collect::<Vec<_>>(), [3, 3], "{before:?}");
    let sizes: Vec<_> =
        describe(&mut raw).await.iter().map(|dir| (dir.total_bytes > 0, dir.usable_bytes > 0)).collect();
    assert_eq!(sizes, [(true, true); 2]);
    served.stop().await;

    assert_ne!(directory_id(a.path()), directory_id(b.path()));
    for dir in dirs {
        assert!(dir.join(".kafka_cleanshutdown").exists(), "{}", dir.display());
        let named = std::fs::read_to_string(dir.join("recovery-point-offset-checkpoint")).unwrap();
        let named: BTreeSet<String> =
            named.lines().skip(2).map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(named, before[dir.to_str().unwrap()]);
    }
    let (id_a, id_b) = (directory_id(a.path()), directory_id(b.path()));
    // The other way round: the order of the directories says nothing of what is in them.
    let served = Served::with(in_dirs(&[b.path(), a.path()]), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(held(&mut raw).await, before);
    for topic in topics {
        assert_eq!(append(&mut raw, topic, batch(1, None)).await, (ErrorCode::None, 2));
    }
    served.stop().await;
    assert_eq!((directory_id(a.path()), directory_id(b.path())), (id_a, id_b));
}

#[tokio::test]
async fn a_third_directory_gets_what_is_new() {
    let roots: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let (dirs, store): (Vec<&Path>, _) =
        (roots.iter().map(|d| d.path()).collect(), testkit::MemStore::shared());
    let served = Served::with(in_dirs(&dirs[..2]), store.clone()).await;
    let mut raw = served.raw().await;
    for topic in ["t1", "t2", "t3", "t4"] {
        assert_eq!(create(&mut raw, topic, &[]).await, ErrorCode::None);
    }
    served.stop().await;
    let served = Served::with(in_dirs(&dirs), store.clone()).await;
    let mut raw = served.raw().await;
    for topic in ["new1", "new2"] {
        assert_eq!(create(&mut raw, topic, &[]).await, ErrorCode::None);
    }
    let third = held(&mut raw).await.remove(dirs[2].to_str().unwrap()).unwrap();
    assert_eq!(third, BTreeSet::from(["new1".to_owned(), "new2".to_owned()]));
    served.stop().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

async fn refused(options: Options, store: Arc<dyn Store>) -> String {
    let tasks = base::task::Tasks::new();
    Service::start(options, store, &tasks).await.expect_err("the broker does not start").to_string()
}

#[tokio::test]
async fn directories_that_do_not_belong_together_are_refused() {
    let (a, b, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let served = Served::with(in_dirs(&[a.path()]), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::None);
    served.stop().await;

    copy(&a.path().join("t-0"), &b.path().join("t-0"));
    let text = refused(in_dirs(&[a.path(), b.path()]), store.clone()).await;
    assert!(text.starts_with("Duplicate log directories for t-0 are found in both"), "{text}");
    // One that is left of an older topic of the name is put aside instead.
    std::fs::write(b.path().join("t-0/partition.metadata"), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAg")
        .unwrap();
    let served = Served::with(in_dirs(&[a.path(), b.path()]), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "t", batch(1, None)).await, (ErrorCode::None, 0));
    served.stop().await;
    let strays =
        std::fs::read_dir(b.path()).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
    assert_eq!(strays.filter(|name| name.ends_with("-stray")).count(), 1);

    std::fs::copy(a.path().join("meta.properties"), b.path().join("meta.properties")).unwrap();
    let text = refused(in_dirs(&[a.path(), b.path()]), store.clone()).await;
    assert!(text.contains("both have the directory.id"), "{text}");
    let theirs = std::fs::read_to_string(b.path().join("meta.properties")).unwrap();
    let theirs: String = theirs
        .lines()
        .filter(|l| !l.starts_with("cluster.id"))
        .fold("cluster.id=other\n".into(), |t, l| t + l + "\n");
    std::fs::write(b.path().join("meta.properties"), theirs).unwrap();
    let text = refused(in_dirs(&[a.path(), b.path()]), store).await;
    assert!(text.contains("belongs to cluster other"), "{text}");
}

fn on(disk: &SimDisk) -> Options {
    let mut options = in_dirs(&[Path::new("/a"), Path::new("/b")]);
    options.disk = disk.shared();
    options
}

/// A topic in each of two directories: the one in `/a` first.
async fn one_in_each(raw: &mut Raw) -> (String, String) {
    for topic in ["t1", "t2"] {
        assert_eq!(create(raw, topic, &[]).await, ErrorCode::None);
        assert_eq!(append(raw, topic, batch(3, None)).await, (ErrorCode::None, 0));
    }
    let held = held(raw).await;
    let only = |dir: &str| held[dir].first().unwrap().clone();
    (only("/a"), only("/b"))
}

async fn fetched(raw: &mut Raw, topic: &str) -> (ErrorCode, usize) {
    let response: FetchResponse = raw.call(12, &common::fetch(topic, 0, 0, 0)).await;
    let partition = &response.responses[0].partitions[0];
    (code(partition.error_code), partition.records.as_ref().map_or(0, |records| records.len()))
}

fn gauge(served: &Served, line: &str) -> bool {
    served.handle.metrics().lines().any(|told| told == line)
}

#[tokio::test]
async fn a_directory_that_fails_takes_its_partitions_offline_only() {
    let (disk, store) = (SimDisk::new(), testkit::MemStore::shared());
    let served = Served::with(on(&disk), store.clone()).await;
    let mut raw = served.raw().await;
    let (good, bad) = one_in_each(&mut raw).await;
    assert!(gauge(&served, "kafka_log_logmanager_offlinelogdirectorycount 0"));

    disk.fail_under("/b", EIO);
    assert_eq!(append(&mut raw, &bad, batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    leader_becomes(&mut raw, &bad, -1).await;
    assert_eq!(append(&mut raw, &bad, batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    assert_eq!(fetched(&mut raw, &bad).await.0, ErrorCode::KafkaStorageError);
    assert_eq!(append(&mut raw, &good, batch(1, None)).await, (ErrorCode::None, 3));
    assert_eq!((fetched(&mut raw, &good).await.0, leader(&mut raw, &good).await), (ErrorCode::None, 1));
    let told: Vec<_> =
        describe(&mut raw).await.iter().map(|d| (d.log_dir.clone(), code(d.error_code))).collect();
    assert_eq!(told, [("/a".to_owned(), ErrorCode::None), ("/b".to_owned(), ErrorCode::KafkaStorageError)]);
    for line in [
        "kafka_log_logmanager_offlinelogdirectorycount 1",
        "kafka_log_logmanager_logdirectoryoffline{logdirectory=\"/b\"} 1",
        "kafka_server_replicamanager_offlinereplicacount 1",
    ] {
        assert!(gauge(&served, line), "{line}");
    }
    // It stays so while the broker runs, also when the disk works again.
    disk.mend();
    assert_eq!(append(&mut raw, &bad, batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    // New topics go where it works.
    assert_eq!(create(&mut raw, "new", &[]).await, ErrorCode::None);
    assert_eq!(append(&mut raw, "new", batch(1, None)).await, (ErrorCode::None, 0));
    served.stop().await;
    assert!(disk.contents().contains_key(Path::new("/a/.kafka_cleanshutdown")));
    assert!(!disk.contents().contains_key(Path::new("/b/.kafka_cleanshutdown")));

    let served = Served::with(on(&disk), store).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, &bad, batch(1, None)).await, (ErrorCode::None, 3));
    assert_eq!(append(&mut raw, &good, batch(1, None)).await, (ErrorCode::None, 4));
    served.stop().await;
}

#[tokio::test]
async fn a_fetch_that_waits_hears_of_a_failed_directory() {
    let (disk, store) = (SimDisk::new(), testkit::MemStore::shared());
    let served = Served::with(on(&disk), store).await;
    let (mut raw, mut waiting) = (served.raw().await, served.raw().await);
    let (_, bad) = one_in_each(&mut raw).await;
    waiting.send(12, &common::fetch(&bad, 3, 60_000, 1)).await;
    disk.fail_under("/b", EIO);
    assert_eq!(append(&mut raw, &bad, batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    let told =
        tokio::time::timeout(PATIENCE, waiting.receive::<FetchResponse>(12)).await.expect("told in time");
    assert_eq!(code(told.responses[0].partitions[0].error_code), ErrorCode::KafkaStorageError);
    served.stop().await;
}

#[tokio::test]
async fn a_start_does_without_a_directory_that_has_failed() {
    let (disk, store) = (SimDisk::new(), testkit::MemStore::shared());
    let served = Served::with(on(&disk), store.clone()).await;
    let mut raw = served.raw().await;
    let (good, bad) = one_in_each(&mut raw).await;
    served.stop().await;

    disk.fail_under("/b", EIO);
    let served = Served::with(on(&disk), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(
        append(&mut raw, &bad, batch(1, None)).await.0,
        ErrorCode::KafkaStorageError,
        "it is not made anew"
    );
    assert_eq!(append(&mut raw, &good, batch(1, None)).await, (ErrorCode::None, 3));
    served.stop().await;
    disk.mend();
    let served = Served::with(on(&disk), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, &bad, batch(1, None)).await, (ErrorCode::None, 3));
    served.stop().await;

    disk.fail_under("/", EIO);
    let text = refused(on(&disk), store).await;
    assert!(text.starts_with("all log directories have failed: /a (") && text.contains("/b ("), "{text}");
}

#[tokio::test]
async fn the_broker_stops_when_no_directory_is_left() {
    let (disk, store) = (SimDisk::new(), testkit::MemStore::shared());
    let served = Served::with(on(&disk), store).await;
    let mut raw = served.raw().await;
    let (first, second) = one_in_each(&mut raw).await;
    disk.fail_under("/a", EIO);
    until(&mut raw, &first, ErrorCode::KafkaStorageError).await;
    assert_eq!(served.tasks.failure(), None);
    disk.fail_under("/", EIO);
    raw.send(9, &common::produce(&second, -1, batch(1, None))).await;
    tokio::time::timeout(PATIENCE, served.handle.stopped()).await.expect("the broker stops");
    let why = served.tasks.failure().unwrap();
    assert!(why.contains("all log directories have failed"), "{why}");
    served.stop().await;
}

/// A directory whose disk is not mounted looks like a new one: what was in it must not be made anew, empty.
#[tokio::test]
async fn what_was_in_a_directory_that_is_missing_is_offline() {
    let (a, b, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let dirs = [a.path(), b.path()];
    let served = Served::with(in_dirs(&dirs), store.clone()).await;
    let mut raw = served.raw().await;
    for topic in ["t1", "t2"] {
        assert_eq!(create(&mut raw, topic, &[]).await, ErrorCode::None);
        assert_eq!(append(&mut raw, topic, batch(3, None)).await, (ErrorCode::None, 0));
    }
    let held = held(&mut raw).await;
    let lost = held[b.path().to_str().unwrap()].first().unwrap().clone();
    served.stop().await;

    let away = a.path().with_extension("away");
    std::fs::rename(b.path(), &away).unwrap();
    std::fs::create_dir(b.path()).unwrap();
    for _ in 0..2 {
        let served = Served::with(in_dirs(&dirs), store.clone()).await;
        let mut raw = served.raw().await;
        assert_eq!(append(&mut raw, &lost, batch(1, None)).await.0, ErrorCode::KafkaStorageError);
        served.stop().await;
    }
    std::fs::remove_dir_all(b.path()).unwrap();
    std::fs::rename(&away, b.path()).unwrap();
    let served = Served::with(in_dirs(&dirs), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, &lost, batch(1, None)).await, (ErrorCode::None, 3));
    served.stop().await;
    let known = store.range(RangeRequest::key("/ketch/kafka/directories/1")).await.unwrap();
    let known = String::from_utf8(known.kvs[0].value.to_vec()).unwrap();
    assert_eq!(known.split(',').count(), 2, "the one that took its place for a while is forgotten: {known}");
}

/// Runs the rest of a test in a mount namespace of its own, as root; None in the process that only waits for it.
fn in_mount_namespace(test: &str) -> Option<PathBuf> {
    const INSIDE: &str = "KETCH_TEST_MOUNTS";
    if let Some(dir) = std::env::var_os(INSIDE) {
        return Some(dir.into());
    }
    // SAFETY: getuid cannot fail and touches no memory.
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root may mount");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let done = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, dir.path())
        .status()
        .unwrap();
    assert!(done.success());
    None
}

fn run(program: &str, arguments: &[&str]) {
    let done = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(done.success(), "{program} {arguments:?}");
}

/// Two small file systems, with a broker on them and a topic in each; the names of the topics.
async fn mounted(root: &Path, store: &Arc<dyn Store>) -> (Served, [PathBuf; 2], [String; 2]) {
    let dirs = ["a", "b"].map(|name| root.join(name));
    for dir in &dirs {
        std::fs::create_dir_all(dir).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", dir.to_str().unwrap()]);
    }
    let served = Served::with(in_dirs(&[&dirs[0], &dirs[1]]), store.clone()).await;
    let mut raw = served.raw().await;
    for topic in ["t1", "t2"] {
        assert_eq!(create(&mut raw, topic, &[("segment.bytes", "1048576")]).await, ErrorCode::None);
        assert_eq!(append(&mut raw, topic, batch(3, None)).await, (ErrorCode::None, 0));
    }
    let held = held(&mut raw).await;
    let topics = [0, 1].map(|n: usize| held[dirs[n].to_str().unwrap()].first().unwrap().clone());
    (served, dirs, topics)
}

#[tokio::test]
async fn a_file_system_that_turns_read_only_is_a_failed_directory() {
    let Some(root) = in_mount_namespace("a_file_system_that_turns_read_only_is_a_failed_directory") else {
        return;
    };
    let store = testkit::MemStore::shared();
    let (served, dirs, [good, bad]) = mounted(&root, &store).await;
    let mut raw = served.raw().await;
    // What is open for writing would keep it from turning: the kernel does it by force on an error, a test by a bind.
    let b = dirs[1].to_str().unwrap();
    run("mount", &["--bind", b, b]);
    run("mount", &["-o", "remount,bind,ro", b]);
    // Segments are made anew through the path.
    let large = batch(30_000, None);
    let told = async {
        while append(&mut raw, &bad, large.clone()).await.0 == ErrorCode::None {}
        leader_becomes(&mut raw, &bad, -1).await;
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the directory fails");
    assert_eq!(append(&mut raw, &good, batch(1, None)).await, (ErrorCode::None, 3));
    let told: Vec<_> = describe(&mut raw).await.iter().map(|dir| code(dir.error_code)).collect();
    assert_eq!(told, [ErrorCode::None, ErrorCode::KafkaStorageError]);
    served.stop().await;
}

#[tokio::test]
async fn a_file_system_that_goes_away_is_a_failed_directory() {
    let Some(root) = in_mount_namespace("a_file_system_that_goes_away_is_a_failed_directory") else { return };
    let store = testkit::MemStore::shared();
    let (served, dirs, [good, bad]) = mounted(&root, &store).await;
    let mut raw = served.raw().await;
    run("umount", &["--lazy", dirs[1].to_str().unwrap()]);
    let large = batch(30_000, None);
    let told = async {
        while append(&mut raw, &bad, large.clone()).await.0 == ErrorCode::None {}
        leader_becomes(&mut raw, &bad, -1).await;
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the directory fails");
    let told: Vec<_> = describe(&mut raw).await.iter().map(|dir| code(dir.error_code)).collect();
    assert_eq!(told, [ErrorCode::None, ErrorCode::KafkaStorageError]);
    assert_eq!(append(&mut raw, &good, batch(1, None)).await, (ErrorCode::None, 3));
    served.stop().await;
}

#[tokio::test]
async fn a_full_file_system_refuses_until_there_is_room() {
    let Some(root) = in_mount_namespace("a_full_file_system_refuses_until_there_is_room") else { return };
    let store = testkit::MemStore::shared();
    let (served, dirs, [good, full]) = mounted(&root, &store).await;
    let mut raw = served.raw().await;
    let filler = dirs[1].join("filler");
    // Until the file system is full to the last page.
    assert!(std::fs::write(&filler, vec![1; 8 << 20]).is_err());
    let large = batch(3_000, None);
    let told = async { while append(&mut raw, &full, large.clone()).await.0 == ErrorCode::None {} };
    tokio::time::timeout(PATIENCE, told).await.expect("the disk is full");
    assert_eq!(append(&mut raw, &good, batch(1, None)).await, (ErrorCode::None, 3));
    assert_eq!(describe(&mut raw).await.iter().filter(|dir| dir.error_code != 0).count(), 0);
    std::fs::remove_file(&filler).unwrap();
    until(&mut raw, &full, ErrorCode::None).await;
    served.stop().await;
}
