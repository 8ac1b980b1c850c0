//! Durable puts a second through one member in process, and how long starts take.
//!
//! `cargo run --release -p store --example puts -- [dir] [tasks, with commas] [seconds] [value bytes]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::task::Tasks;
use store::{Handle, Options, Service};
use store_api::{Op, RangeRequest, Store, Txn};

fn argument<T: std::str::FromStr>(at: usize, default: T) -> T {
    std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn put(store: &Handle, key: String, value: Vec<u8>) {
    let done = store.txn(Txn { success: vec![Op::put(key, value)], ..Txn::default() }).await;
    done.expect("a durable put");
}

/// Puts for a while; how many, and the latencies in microseconds, sorted.
async fn puts(store: &Handle, tasks: usize, patience: Duration, value_bytes: usize) -> (f64, Vec<u64>) {
    let (next, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (store, next) = (store.clone(), next.clone());
        set.spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < patience {
                let key = format!(
                    "/registry/pods/default/pod-{:06}",
                    next.fetch_add(1, Ordering::Relaxed) % 100_000
                );
                let began = Instant::now();
                put(&store, key, vec![b'v'; value_bytes]).await;
                took.push(began.elapsed().as_micros() as u64);
            }
            took
        });
    }
    let mut all = set.join_all().await.concat();
    all.sort_unstable();
    (all.len() as f64 / start.elapsed().as_secs_f64(), all)
}

fn memory_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned()
}

fn start(dir: &str, label: &str) -> Handle {
    let began = Instant::now();
    let store = Service::start(Options::new(dir), &Tasks::new()).expect("a start");
    println!("start {label}: {:.1} ms, {}", began.elapsed().as_secs_f64() * 1e3, memory_kib());
    store
}

#[tokio::main]
async fn main() {
    let dir: String = argument(1, "/tmp/ketch-puts".to_owned());
    let counts: String = argument(2, "1,64".to_owned());
    let (seconds, value_bytes) = (argument(3, 5), argument(4, 256));
    let _ = std::fs::remove_dir_all(&dir);
    let store = start(&dir, "empty");
    let began = Instant::now();
    put(&store, "first".to_owned(), vec![0; 100]).await;
    println!("first put: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    for tasks in counts.split(',').filter_map(|count| count.parse().ok()) {
        let (rate, took) = puts(&store, tasks, Duration::from_secs(seconds), value_bytes).await;
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        println!(
            "{tasks} tasks: {rate:.0} puts/s, p50 {} us, p99 {} us, p99.9 {} us",
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
    let began = Instant::now();
    let found = store.range(RangeRequest::prefix("/registry/")).await.expect("a list");
    println!("list of {}: {:.1} ms, {}", found.kvs.len(), began.elapsed().as_secs_f64() * 1e3, memory_kib());
    drop(found);
    store.close().await;
    let store = start(&dir, "after a close");
    println!("{} keys", store.range(RangeRequest::prefix("/registry/")).await.map_or(0, |found| found.count));
    store.close().await;
}
