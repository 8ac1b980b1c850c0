//! Members as processes, each in a network namespace of its own, with faults between them: killed, stopped, cut off, slow,
//! restarted and replaced under load. Every acknowledged write is there afterwards, all hold the same, and after each
//! fault a write is acknowledged in time.
//!
//! As root only; says so when it skips. `KETCH_MEMBERS_ROUNDS=N` goes round N times (once unless told).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod client;
mod process;
mod site;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Ledger, endpoint, write_until};
use site::Site;

/// Default timers: a new leader, and the first write it acknowledges, on a quiet machine.
const FAILOVER: Duration = Duration::from_millis(1500);
/// What a fault may cost on a machine that is busy with other tests.
const BUSY: Duration = Duration::from_secs(10);

/// The process of a member: what this program is when a test starts it again.
#[test]
fn member_process() {
    if let Some(member) = process::Member::from_env() {
        member.run();
    }
}

/// How long until a write is acknowledged, asked of all members but `without`.
async fn back(site: &Site<'_>, what: &str, without: Option<usize>) -> Duration {
    let others: Vec<_> = site.running().into_iter().filter(|n| Some(*n) != without).collect();
    let began = Instant::now();
    write_until(&others, began + BUSY * 2).await;
    let took = began.elapsed();
    eprintln!("{what}: a write after {took:.2?}");
    assert!(took < BUSY, "{what}: no write for {took:?}");
    took
}

/// Leaders and followers are killed, one after the other; how long it took each time a leader was.
async fn kills(site: &mut Site<'_>) -> Vec<Duration> {
    let mut failovers = Vec::new();
    for _ in 0..2 {
        let leader = site.leader().await;
        site.kill(leader);
        failovers.push(back(site, "the leader is killed", None).await);
        site.start(leader);
        site.all_in_step().await;
        let follower = site.follower().await;
        site.kill(follower);
        back(site, "a follower is killed", None).await;
        site.start(follower);
        site.all_in_step().await;
    }
    failovers
}

async fn stopped(site: &Site<'_>) -> Duration {
    let leader = site.leader().await;
    site.signal(leader, nix::sys::signal::Signal::SIGSTOP);
    let took = back(site, "the leader is stopped", Some(leader)).await;
    site.signal(leader, nix::sys::signal::Signal::SIGCONT);
    site.all_in_step().await;
    took
}

async fn cut_off(site: &Site<'_>) {
    let leader = site.leader().await;
    site.cut(leader, "input", None);
    site.cut(leader, "output", None);
    back(site, "the leader is cut off", Some(leader)).await;
    site.mend(leader);
    back(site, "the cut is mended", None).await;
    site.all_in_step().await;
    let leader = site.leader().await;
    // It still tells the others that it leads, and hears nobody.
    site.cut(leader, "input", None);
    back(site, "the leader hears nobody", Some(leader)).await;
    site.mend(leader);
    site.all_in_step().await;
    let (leader, follower) = (site.leader().await, site.follower().await);
    site.cut(follower, "input", Some(leader));
    back(site, "a follower does not hear the leader", None).await;
    site.mend(follower);
    site.all_in_step().await;
    let follower = site.follower().await;
    if site.delay(follower, 40) {
        back(site, "a follower is 40 ms away", None).await;
        site.mend(follower);
    }
}

async fn rolling(site: &mut Site<'_>) {
    for n in site.running() {
        site.stop(n);
        back(site, "a member is restarted", None).await;
        site.start(n);
        site.all_in_step().await;
    }
}

/// A fourth member comes while a follower is down, and one of the first goes.
async fn membership(site: &mut Site<'_>) {
    let down = site.follower().await;
    site.kill(down);
    let added = site.add().await;
    back(site, "a member is added while one is down", None).await;
    site.start(down);
    site.votes(added).await;
    site.all_in_step().await;
    site.remove(down).await;
    back(site, "a member is removed", None).await;
    site.all_in_step().await;
}

async fn rounds(site: &mut Site<'_>, ledger: Arc<Ledger>) {
    let rounds = std::env::var("KETCH_MEMBERS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    site.all_in_step().await;
    for round in 0..rounds {
        let failovers = kills(site).await;
        let best = failovers.iter().min().copied().unwrap_or_default();
        eprintln!("round {round}: after a killed leader {failovers:.2?}");
        assert!(best <= FAILOVER, "no failover within {FAILOVER:?}: {failovers:?}");
        stopped(site).await;
        cut_off(site).await;
        rolling(site).await;
        membership(site).await;
    }
    ledger.stop().await;
    site.all_in_step().await;
    for n in site.running() {
        ledger.check(endpoint(n)).await;
    }
    site.all_equal().await;
}

#[test]
fn acknowledged_writes_outlive_faults_of_real_members() {
    if !testkit::can_isolate() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = testkit::Host::new().unwrap();
    host.block_on(|| async {
        let mut site = Site::new(&host, dir.path());
        let ledger = Ledger::begin(site.known());
        rounds(&mut site, ledger).await;
    });
}
