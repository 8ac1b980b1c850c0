//! Topics of many partitions are made by several threads at a time, and are there after a power cut once that is answered.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base::disk::{Disk, DiskFile, RealDisk};
use base::random::Random;
use common::{Raw, Served, append, batch, code, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::messages::create_topics_request::CreatableTopic;
use kafka_wire::messages::*;
use testkit::sim::SimDisk;

/// Two threads that make directories meet in this time; where there is one, it waits in vain.
const PATIENCE: Duration = Duration::from_secs(30);

/// A disk on which directories are made by two at a time at least, and which counts.
#[derive(Debug, Default)]
struct Meeting {
    /// Whether who makes a directory alone waits for another.
    waits: AtomicBool,
    making: Mutex<usize>,
    more: Condvar,
    most: AtomicUsize,
    syncs: AtomicUsize,
}

impl Meeting {
    /// Counts one more that makes a directory; the first waits until there were two.
    fn enter(&self) {
        let mut making = self.making.lock().unwrap();
        *making += 1;
        self.most.fetch_max(*making, Ordering::SeqCst);
        self.more.notify_all();
        let alone = |_: &mut usize| self.most.load(Ordering::SeqCst) < 2;
        if self.waits.load(Ordering::SeqCst) {
            let waited = self.more.wait_timeout_while(making, PATIENCE, alone).unwrap().1;
            // Nobody else comes: the others need not wait as well.
            self.waits.fetch_and(!waited.timed_out(), Ordering::SeqCst);
        }
    }
}

impl Disk for Meeting {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path, create)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.enter();
        let made = RealDisk.create_dir_all(dir);
        *self.making.lock().unwrap() -= 1;
        made
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        RealDisk.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
}

async fn create(raw: &mut Raw, name: &str, num_partitions: i32) -> ErrorCode {
    let topic =
        CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let response: CreateTopicsResponse = raw.call(7, &request).await;
    code(response.topics[0].error_code)
}

async fn grow(raw: &mut Raw, name: &str, count: i32) -> ErrorCode {
    let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    let response: CreatePartitionsResponse = raw.call(3, &request).await;
    code(response.results[0].error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_are_made_together() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Meeting::default());
    let mut options = options(dir.path());
    options.disk = disk.clone();
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    let syncs = disk.syncs.load(Ordering::SeqCst);
    disk.most.store(0, Ordering::SeqCst);
    disk.waits.store(true, Ordering::SeqCst);
    assert_eq!(create(&mut raw, "many", 300).await, ErrorCode::None);
    assert!(disk.most.swap(0, Ordering::SeqCst) > 1, "one after the other");
    assert_eq!(grow(&mut raw, "many", 600).await, ErrorCode::None);
    assert!(disk.most.load(Ordering::SeqCst) > 1, "one after the other");
    let syncs = disk.syncs.load(Ordering::SeqCst) - syncs;
    assert!((2..20).contains(&syncs), "{syncs} syncs of directories for 600");
    for index in 0..600 {
        assert!(dir.path().join(format!("many-{index}/partition.metadata")).exists(), "{index}");
    }
    served.stop().await;
}

/// The power goes as soon as the answer is there: every partition's directory has its name, and the topic goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_survives_a_power_cut() {
    let (disk, store) = (SimDisk::new(), testkit::MemStore::shared());
    let mut on = options(Path::new("/kafka"));
    on.disk = disk.shared();
    let served = Served::with(on, store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "t", 40).await, ErrorCode::None);
    assert_eq!(grow(&mut raw, "t", 60).await, ErrorCode::None);
    let after = disk.crash(&mut Random::from_seed(3));
    let names = after.shared().list(Path::new("/kafka")).unwrap();
    let made = names.iter().filter(|name| name.starts_with("t-")).count();
    assert_eq!(made, 60, "{names:?}");
    served.stop().await;

    let mut on = options(Path::new("/kafka"));
    on.disk = after.shared();
    let served = Served::with(on, store).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "t", batch(1, None)).await, (ErrorCode::None, 0));
    // Whatever the cut left of it, the topic's id stands in every directory again.
    for index in 0..60 {
        let text = after.shared().read(Path::new(&format!("/kafka/t-{index}/partition.metadata"))).unwrap();
        assert!(String::from_utf8(text).unwrap().starts_with("version: 0\ntopic_id: "), "{index}");
    }
    served.stop().await;
}
