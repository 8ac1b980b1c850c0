//! The power goes at any storage call; what was acknowledged is there afterwards, and nothing else than what was asked.
//!
//! Drawn by seed: the calls it goes at, what unsynced writes survive or tear, the writes themselves. Not drawn here:
//! bits that rot, syncs that lie (see `testkit::sim::SimDisk`).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base::random::Random;
use base::task::Tasks;
use store::{Handle, Options, Service};
use store_api::{Op, RangeRequest, Store, Txn};
use testkit::sim::{SimClock, SimDisk, SimFault};

/// Seeds of one run. Each crashes twice.
const SEEDS: u64 = 30;
/// Storage calls among which the power goes: start, writes, durable commits and the close lie within.
const CALLS: u64 = 260;
const KEYS: u64 = 6;

fn options(disk: &SimDisk) -> Options {
    Options {
        dir: "/data".into(),
        cache_bytes: 1 << 20,
        quota_bytes: None,
        value_segment_bytes: 20_000,
        clock: Arc::new(SimClock::new()),
        disk: disk.shared(),
        random: Random::from_seed(1),
        auth: Default::default(),
    }
}

/// What may be found under each key: the last acknowledged value, and those whose outcome is unknown.
type Expect = BTreeMap<String, Vec<Option<String>>>;

/// Writes until the power goes or the work is done.
async fn work(store: &Handle, random: &mut Random, expect: &mut Expect, round: u64) {
    for n in 0..40 {
        let key = format!("k{}", random.below(KEYS));
        let delete = random.below(5) == 0;
        let value = format!("{round}.{n}.{}", "x".repeat(random.below(9000) as usize));
        let op = if delete { Op::delete(key.clone()) } else { Op::put(key.clone(), value.clone()) };
        let wanted = (!delete).then_some(value);
        let done = store.txn(Txn { success: vec![op], ..Txn::default() }).await;
        let slot = expect.entry(key).or_insert_with(|| vec![None]);
        if done.is_ok() {
            *slot = vec![wanted];
        } else {
            slot.push(wanted);
            return;
        }
        if random.below(12) == 0 {
            // Lets a durable commit of the state come in between.
            tokio::time::sleep(std::time::Duration::from_millis(120)).await;
        }
    }
}

async fn check(store: &Handle, expect: &mut Expect, seed: u64) {
    for n in 0..KEYS {
        let key = format!("k{n}");
        let found = store.range(RangeRequest::key(key.clone())).await.unwrap().kvs.pop();
        let found = found.map(|kv| String::from_utf8(kv.value.to_vec()).unwrap());
        let allowed = expect.entry(key.clone()).or_insert_with(|| vec![None]);
        assert!(allowed.contains(&found), "seed {seed}: {key} is {found:.40?}, not one of {allowed:.40?}");
        *allowed = vec![found];
    }
}

async fn crash_twice(seed: u64) {
    let mut random = Random::from_seed(seed);
    let (mut disk, mut expect) = (SimDisk::new(), Expect::new());
    for round in 0..2 {
        disk.set_fault(SimFault::PowerOffAfter(random.below(CALLS)));
        if let Ok(store) = Service::start(options(&disk), &Tasks::new()) {
            work(&store, &mut random, &mut expect, round).await;
            store.close().await;
        }
        disk = disk.crash(&mut random);
        let store = Service::start(options(&disk), &Tasks::new())
            .unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        check(&store, &mut expect, seed).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_crash_at_any_call() {
    for chunk in (0..SEEDS).collect::<Vec<_>>().chunks(8) {
        let mut tasks = tokio::task::JoinSet::new();
        chunk.iter().for_each(|seed| drop(tasks.spawn(crash_twice(*seed))));
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}

/// One run of seeded writes, one after the other; all files, before the close empties the log.
async fn files_after(seed: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let (disk, mut random) = (SimDisk::new(), Random::from_seed(seed));
    let store = Service::start(options(&disk), &Tasks::new()).unwrap();
    for _ in 0..200 {
        let (key, value) = (random.below(20).to_string(), random.text(b"abcdef", 30));
        store.txn(Txn { success: vec![Op::put(key, value)], ..Txn::default() }).await.unwrap();
    }
    let mut files = disk.contents();
    // How far the state's copy has come depends on the time; its content is the log's, which the contract suite shows.
    files.retain(|path, _| path.extension().is_none_or(|extension| extension != "redb"));
    store.close().await;
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_bytes() {
    let (one, again, other) = (files_after(1).await, files_after(1).await, files_after(2).await);
    assert!(one == again && one != other);
    assert!(one.keys().any(|path| path.extension().is_some_and(|e| e == "wal")));
}

/// What a start found in the page cache after a failed sync, and served, is there when the power goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_after_a_failed_sync_survives_the_power() {
    for seed in 0..8 {
        let disk = SimDisk::new();
        let put = |key: &'static str| Txn { success: vec![Op::put(key, "1")], ..Txn::default() };
        let store = Service::start(options(&disk), &Tasks::new()).unwrap();
        store.txn(put("before")).await.unwrap();
        disk.set_fault(SimFault::SyncFailsUnder("/data/wal"));
        assert!(store.txn(put("unknown")).await.is_err());
        // The process is killed; the disk recovers, as far as anybody is told.
        let disk = disk.survive();
        let store = Service::start(options(&disk), &Tasks::new()).unwrap();
        let read = store.range(RangeRequest::key("unknown")).await.unwrap().kvs;
        assert_eq!(read.len(), 1, "the log's end is read");
        let disk = disk.crash(&mut Random::from_seed(seed));
        let store = Service::start(options(&disk), &Tasks::new()).unwrap();
        assert_eq!(store.range(RangeRequest::key("unknown")).await.unwrap().kvs, read, "seed {seed}");
        store.close().await;
    }
}
