//! Durable puts in process, without a port: `embedded DIR TASKS SECONDS [BYTES]` prints
//! `puts rate p50 p99 p99.9 longest` (microseconds).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::task::Tasks;
use bytes::Bytes;
use store_api::{Op, Store as _, Txn};
use tokio::task::JoinSet;

/// Keys that puts go round.
const KEYS: u64 = 100_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, clients, seconds, rest @ ..] = &arguments[..] else {
        return Err("embedded DIR TASKS SECONDS [BYTES]".into());
    };
    let (clients, seconds): (usize, u64) = (clients.parse()?, seconds.parse()?);
    let bytes: usize = rest.first().map_or(Ok(256), |text| text.parse())?;
    let tasks = Tasks::new();
    let store = store::Service::start(store::Options::new(dir), &tasks)?;
    let (next, value) = (Arc::new(AtomicU64::new(0)), Bytes::from(vec![b'v'; bytes]));
    let (mut set, start) = (JoinSet::new(), Instant::now());
    for _ in 0..clients {
        let (store, next, value) = (store.clone(), next.clone(), value.clone());
        set.spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < Duration::from_secs(seconds) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let key = format!("/registry/pods/default/pod-{:08}", n % KEYS);
                let began = Instant::now();
                let put = Txn { success: vec![Op::put(key, value.clone())], ..Txn::default() };
                store.txn(put).await?;
                took.push(began.elapsed().as_micros() as u64);
            }
            Ok::<_, store_api::Error>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = set.join_next().await {
        all.extend(done??);
    }
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    all.sort_unstable();
    let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
    println!("{} {rate:.1} {} {} {} {}", all.len(), at(0.5), at(0.99), at(0.999), at(1.0));
    tasks.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
