//! Values apart from the tree, in a running member on the machine's own disk.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base::random::Random;
use base::task::Tasks;
use store::{Handle, Options, Service};
use store_api::{Error, KeyRange, Op, RangeRequest, Revision, Store, Txn};

const PATIENCE: Duration = Duration::from_secs(60);

fn start(dir: &Path, segment_bytes: u64) -> Handle {
    let options = Options { value_segment_bytes: segment_bytes, ..Options::new(dir) };
    Service::start(options, &Tasks::new()).unwrap()
}

async fn put(store: &Handle, key: String, value: Vec<u8>) -> Result<Revision, Error> {
    let txn = Txn { success: vec![Op::put(key, value)], ..Txn::default() };
    Ok(store.txn(txn).await?.revision)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir.join("values")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    files
}

/// What a key has at a revision: its number says how long and of what.
fn value(key: u64, serial: u64) -> Vec<u8> {
    let mut random = Random::from_seed(key << 32 | serial);
    let mut value = vec![0; 16 + random.below(6000) as usize];
    random.fill(&mut value[16..]);
    value[..8].copy_from_slice(&key.to_be_bytes());
    value[8..16].copy_from_slice(&serial.to_be_bytes());
    value
}

fn is_whole(found: &[u8]) -> bool {
    let number = |at: usize| u64::from_be_bytes(found[at..at + 8].try_into().unwrap());
    found == value(number(0), number(8))
}

/// Writes, ranges now and in the past, compactions and what they set free, all at once.
#[tokio::test(flavor = "multi_thread")]
async fn readers_see_whole_values_while_space_is_reclaimed() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path(), 300_000);
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for n in 0..3_i64 {
        let (store, done) = (store.clone(), done.clone());
        readers.push(tokio::spawn(async move {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let past = Some(Revision(store.revision().get() - 20)).filter(|at| n == 2 && at.get() > 1);
                let request = RangeRequest { revision: past, ..RangeRequest::of(KeyRange::prefix("k")) };
                match store.range(request).await {
                    Ok(found) => {
                        assert!(found.kvs.iter().all(|kv| is_whole(&kv.value)));
                        seen += found.kvs.len();
                    }
                    Err(Error::Compacted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            seen
        }));
    }
    let mut random = Random::from_seed(7);
    for serial in 0..2500_u64 {
        let key = random.below(60);
        let revision = put(&store, format!("k{key:02}"), value(key, serial)).await.unwrap();
        if serial % 200 == 100 {
            store.compact(revision).await.unwrap();
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    // 7 MB were written, of which 200 KB are live; what may be dead is bounded.
    let bar = Instant::now() + PATIENCE;
    store.compact(store.revision()).await.unwrap();
    while files(dir.path()).len() > 4 {
        assert!(Instant::now() < bar, "{:?} stay", files(dir.path()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.status().unwrap().db_size_bytes < 6_000_000);
    store.close().await;
    let store = start(dir.path(), 300_000);
    let found = store.range(RangeRequest::of(KeyRange::prefix("k"))).await.unwrap();
    assert!(found.kvs.len() == 60 && found.kvs.iter().all(|kv| is_whole(&kv.value)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_value_is_told_and_fences_who_must_move_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path(), 1 << 20);
    for n in 0..5_u8 {
        put(&store, format!("k{n}"), vec![n; 1000]).await.unwrap();
    }
    store.close().await;
    let [file] = &files(dir.path())[..] else { panic!("one file") };
    let mut bytes = std::fs::read(file).unwrap();
    bytes[500] ^= 1;
    std::fs::write(file, &bytes).unwrap();
    let store = start(dir.path(), 1 << 20);
    let told = |found: Result<(), Error>| {
        let text = found.unwrap_err().to_string();
        assert!(text.contains("values/00000001") && text.contains("not what was written"), "{text}");
    };
    told(store.range(RangeRequest::key("k0")).await.map(drop));
    told(store.range(RangeRequest::prefix("k")).await.map(drop));
    assert_eq!(store.range(RangeRequest::key("k1")).await.unwrap().kvs[0].value, vec![1; 1000]);
    let keys = RangeRequest { keys_only: true, ..RangeRequest::prefix("k") };
    assert_eq!(store.range(keys).await.unwrap().kvs.len(), 5);
    put(&store, "k1".to_owned(), vec![2; 10]).await.unwrap();
    told(put(&store, "k0".to_owned(), vec![2; 10]).await.map(drop));
    assert!(put(&store, "k2".to_owned(), vec![2; 10]).await.is_err(), "the fence stays");
    store.close().await;
    // Values that are not there at all are told at the start.
    std::fs::remove_file(file).unwrap();
    let refused = Service::start(Options::new(dir.path()), &Tasks::new()).unwrap_err();
    assert!(matches!(refused, store::Error::Corrupt { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defragmentation_leaves_one_copy_and_its_readers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = start(dir.path(), 1 << 20);
    for serial in 0..400_u64 {
        put(&store, format!("k{:02}", serial % 20), value(serial % 20, serial)).await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, done) = (store.clone(), done.clone());
        async move {
            while !done.load(Ordering::Relaxed) {
                let found = store.range(RangeRequest::prefix("k")).await.unwrap();
                assert!(found.kvs.len() == 20 && found.kvs.iter().all(|kv| is_whole(&kv.value)));
            }
        }
    });
    for _ in 0..5 {
        store.defragment().await.unwrap();
        put(&store, "more".to_owned(), vec![1; 3000]).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    let bytes: u64 = files(dir.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 1_500_000, "{bytes}: history has 1.2 MB");
    store.close().await;
    let store = start(dir.path(), 1 << 20);
    assert_eq!(store.range(RangeRequest::prefix("k")).await.unwrap().kvs.len(), 20);
}
