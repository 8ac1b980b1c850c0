//! Directories as each released `FORMAT` wrote them open, and hold what they held.
//!
//! A golden directory is a text: `file PATH BYTES`, then `OFFSET HEX` for each row of 32 bytes that are not all zero.
//! `KETCH_GOLDEN=write` writes the newest one's anew, which is right only for a format that nobody has yet.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::disk::Disk;
use base::random::Random;
use base::task::Tasks;
use bytes::Bytes;
use futures::future::BoxFuture;
use store::raft::transport::{Lane, Transport};
use store::raft::{Begin, ClusterOptions, NetworkOptions};
use store::{Handle, Options, Service};
use store_api::{KeyRange, LeaseId, Op, RangeRequest, Revision, Store, Txn};
use testkit::sim::{SimClock, SimDisk};

const ROW: usize = 32;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn shown(files: &Files) -> String {
    let mut out = String::new();
    for (path, content) in files {
        writeln!(out, "file {} {}", path.display(), content.len()).unwrap();
        for (n, row) in content.chunks(ROW).enumerate().filter(|(_, row)| row.iter().any(|b| *b != 0)) {
            let hex: String = row.iter().map(|b| format!("{b:02x}")).collect();
            writeln!(out, "{} {hex}", n * ROW).unwrap();
        }
    }
    out
}

fn parsed(text: &str) -> Files {
    let mut files = Files::new();
    let mut current = PathBuf::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("file ") {
            let (path, len) = rest.rsplit_once(' ').unwrap();
            current = PathBuf::from(path);
            files.insert(current.clone(), vec![0; len.parse().unwrap()]);
            continue;
        }
        let (offset, hex) = line.split_once(' ').unwrap();
        let at: usize = offset.parse().unwrap();
        let file = files.get_mut(&current).unwrap();
        for (n, byte) in hex.as_bytes().chunks(2).enumerate() {
            file[at + n] = u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 16).unwrap();
        }
    }
    files
}

fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    for (path, content) in files {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = disk.open(path, true).unwrap();
        file.set_len(content.len() as u64).unwrap();
        file.write_all_at(content, 0).unwrap();
    }
    disk
}

fn options(disk: &SimDisk) -> Options {
    Options {
        disk: disk.shared(),
        clock: Arc::new(SimClock::new()),
        random: Random::from_seed(3),
        cache_bytes: 1 << 20,
        ..Options::new("/data")
    }
}

/// No other member is there.
struct Nobody;

impl Transport for Nobody {
    fn call(&self, _: u64, _: &[String], _: Lane, _: Bytes) -> BoxFuture<'static, std::io::Result<Bytes>> {
        Box::pin(std::future::ready(Err(std::io::ErrorKind::NotConnected.into())))
    }
}

async fn start(format: u32, disk: &SimDisk, tasks: &Tasks) -> Handle {
    if format != 2 {
        return Service::start(options(disk), tasks).unwrap();
    }
    let network = NetworkOptions::Given(Box::new(|_, _, _| Arc::new(Nobody)));
    let cluster = ClusterOptions::new("golden", "http://golden:1", Begin::Alone, network);
    let handle = Service::start_member(options(disk), cluster, tasks).await.unwrap();
    let mut leader = handle.leader_changes();
    tokio::time::timeout(Duration::from_secs(20), leader.wait_for(Option::is_some)).await.unwrap().unwrap();
    handle
}

async fn write(store: &Handle) {
    let put = |key: &str, value: &str| Txn {
        success: vec![Op::put(key.to_owned(), value.to_owned())],
        ..Txn::default()
    };
    store.txn(put("a", "1")).await.unwrap();
    store.txn(put("a", "2")).await.unwrap();
    store.lease_grant(LeaseId(77), 3600).await.unwrap();
    let op = Op::Put { key: "leased".into(), value: "v".into(), lease: LeaseId(77), prev_kv: false };
    store.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
    store.txn(put("gone", "x")).await.unwrap();
    store.txn(Txn { success: vec![Op::delete("gone")], ..Txn::default() }).await.unwrap();
    store.compact(Revision(2)).await.unwrap();
    for n in 0..20 {
        store.txn(put(&format!("many{n:02}"), "in the log")).await.unwrap();
    }
}

/// Values that are apart from the tree: one as it is, one as it was.
async fn write_large(store: &Handle) {
    for letter in ["o", "n"] {
        let put = Op::put("large", letter.repeat(300));
        store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    }
}

async fn check_large(store: &Handle) {
    let get = async |at| {
        let request = RangeRequest { revision: at, ..RangeRequest::key("large") };
        store.range(request).await.unwrap().kvs.pop().unwrap().value
    };
    assert_eq!(get(Some(Revision(27))).await, "o".repeat(300));
    assert_eq!(get(None).await, "n".repeat(300));
    let put = Op::put("large", "p".repeat(300));
    store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    assert_eq!(get(Some(Revision(28))).await, "n".repeat(300));
    assert_eq!(get(None).await, "p".repeat(300));
}

/// `last` is the revision that was written last.
async fn check(store: &Handle, last: i64) {
    let get = async |key: &str, at: Option<Revision>| {
        let mut request = RangeRequest::key(key.to_owned());
        request.revision = at;
        let found = store.range(request).await.unwrap().kvs.pop();
        found.map(|kv| (String::from_utf8(kv.value.to_vec()).unwrap(), kv.mod_revision.get(), kv.version))
    };
    assert_eq!(get("a", None).await, Some(("2".to_owned(), 3, 2)));
    assert_eq!(get("a", Some(Revision(2))).await, Some(("1".to_owned(), 2, 1)));
    assert_eq!(get("gone", None).await, None);
    assert_eq!(get("gone", Some(Revision(5))).await, Some(("x".to_owned(), 5, 1)));
    assert_eq!(get("many19", None).await.unwrap().1, 26);
    let many = store.range(RangeRequest::of(KeyRange::prefix("many"))).await.unwrap();
    assert_eq!((many.kvs.len(), store.revision()), (20, Revision(last)));
    let lease = store.lease_status(LeaseId(77)).await.unwrap();
    assert_eq!((lease.granted_ttl_s, lease.keys), (3600, vec![Bytes::from_static(b"leased")]));
    // It takes writes, too.
    let txn = Txn { success: vec![Op::put("new", "yes")], ..Txn::default() };
    assert_eq!(store.txn(txn).await.unwrap().revision, Revision(last + 1));
}

async fn golden(format: u32) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-{format}.txt"));
    if format == 3 && std::env::var("KETCH_GOLDEN").is_ok_and(|what| what == "write") {
        let (disk, tasks) = (SimDisk::new(), Tasks::new());
        let store = start(format, &disk, &tasks).await;
        write(&store).await;
        write_large(&store).await;
        // What a killed process leaves is in the log only; here the state has it.
        store.close().await;
        std::fs::write(&path, shown(&disk.contents())).unwrap();
        tasks.shutdown(Duration::from_secs(20)).await;
    }
    let files = parsed(&std::fs::read_to_string(&path).unwrap());
    let format_line = format!("ketch-store {format}\n");
    assert_eq!(files[Path::new("/data/FORMAT")], format_line.as_bytes());
    let tasks = Tasks::new();
    let store = start(format, &disk_of(&files), &tasks).await;
    if format == 3 {
        check(&store, 28).await;
        check_large(&store).await;
    } else {
        check(&store, 26).await;
    }
    store.close().await;
    assert!(tasks.shutdown(Duration::from_secs(20)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1_opens() {
    golden(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn format_2_opens() {
    golden(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn format_3_opens() {
    golden(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused_by_name() {
    let disk = disk_of(&Files::from([(PathBuf::from("/data/FORMAT"), b"ketch-store 4\n".to_vec())]));
    let refused = Service::start(options(&disk), &Tasks::new()).unwrap_err();
    assert!(matches!(refused, store::Error::NewerFormat { found: 4, known: 3, .. }), "{refused}");
}
