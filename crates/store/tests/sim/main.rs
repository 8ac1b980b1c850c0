//! Clusters in simulated time, by seed: members die at any call of their disks, disks lie full, slow and broken, networks
//! split, flap and jam, clocks jump, members come and go, leaders move; afterwards no acknowledged write is missing,
//! every history is linearizable, watches saw everything once and in order, all members hold the same, and a write is
//! acknowledged soon after the last fault ends.
//!
//! `KETCH_SIM_SEEDS=N` runs N seeds from `KETCH_SIM_FROM` on (`cargo xtask sim --seeds N`). Not drawn here: what
//! [`SimDisk`](testkit::sim::SimDisk) and [`network`] cannot produce, states larger than one chunk of a snapshot.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod client;
mod faults;
mod network;
mod world;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use world::{Done, Flaw};

/// Seeds of a plain test run.
const SEEDS: u64 = 6;
/// Simulated time no run may need.
const LONG: Duration = Duration::from_secs(600);
/// Seeds that failed once: a vote that was saved before a sync of entries under way was done counted for both; a leader
/// that lost its last entries with the power led on in the same term after its start.
const ONCE_FAILED: &[u64] = &[125, 163, 166, 184, 222, 226];
/// A planted bug must show within so many seeds.
const FLAW_SEEDS: u64 = 40;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(seed: u64, flaw: Option<Flaw>) -> Result<Done, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let run = tokio::spawn(world::run(seed, flaw));
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
                    match run(seed, None) {
                        Ok(done) => println!("seed {seed}: {} ({:.1?})", done.text, began.elapsed()),
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

#[test]
fn a_seed_is_the_same_to_the_byte() {
    let [one, again, other] = [7, 7, 8].map(|seed| run(seed, None).map(|done| done.digest));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

/// How many seeds it takes until a planted bug shows.
fn seeds_until_found(flaw: Flaw) -> u64 {
    let found = (1..=FLAW_SEEDS).find_map(|seed| Some((seed, run(seed, Some(flaw)).err()?)));
    let (seeds, how) = found.unwrap_or_else(|| panic!("{flaw:?} is not found in {FLAW_SEEDS} seeds"));
    println!("{flaw:?}: found by seed {seeds}: {how:.300}");
    seeds
}

#[test]
fn dropped_syncs_are_found() {
    seeds_until_found(Flaw::SyncDropped);
}

#[test]
fn acknowledgements_before_the_quorum_are_found() {
    seeds_until_found(Flaw::EarlyAck);
}

#[test]
fn stale_reads_are_found() {
    seeds_until_found(Flaw::StaleRead);
}

#[test]
fn skipped_events_are_found() {
    seeds_until_found(Flaw::EventSkipped);
}
