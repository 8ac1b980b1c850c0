//! Clusters in simulated time, by seed: members die at any call of their disks, networks split, clocks jump, leaders
//! move; afterwards no acknowledged write is missing, every history is linearizable, watches saw everything once and in
//! order, and all members hold the same.
//!
//! `KETCH_SIM_SEEDS=N` runs N seeds from `KETCH_SIM_FROM` on (`cargo xtask sim --seeds N`). Not drawn here: what
//! `SimDisk` and [`network`] cannot produce, changes of members, full disks.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod network;
mod world;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// Seeds of a plain test run.
const SEEDS: u64 = 6;
/// Simulated time no run may need.
const LONG: Duration = Duration::from_secs(600);
/// Seeds that failed once.
const ONCE_FAILED: &[u64] = &[];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(seed: u64) -> Result<String, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let run = tokio::spawn(world::run(seed));
        match tokio::time::timeout(LONG, run).await {
            Ok(Ok(done)) => done,
            Ok(Err(panicked)) => Err(panicked.to_string()),
            Err(_) => Err("the run does not end".to_owned()),
        }
    })
}

#[test]
fn clusters_keep_their_word() {
    let from = number("KETCH_SIM_FROM", 1);
    let seeds = from..from + number("KETCH_SIM_SEEDS", SEEDS);
    let seeds: Mutex<VecDeque<u64>> = Mutex::new(ONCE_FAILED.iter().copied().chain(seeds).collect());
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = { seeds.lock().unwrap().pop_front() } {
                    let began = std::time::Instant::now();
                    match run(seed) {
                        Ok(done) => println!("seed {seed}: {done} ({:.1?})", began.elapsed()),
                        Err(error) => {
                            println!("seed {seed}: FAILED: {error}");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}
