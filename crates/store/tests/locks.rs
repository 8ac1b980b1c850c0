//! The Lock and Election services: one at a time, in order, and nobody waits for the dead.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;

use std::time::Duration;

use door::{Served, get, refusal};
use etcd_wire::v3electionpb::{self as election, election_client::ElectionClient};
use etcd_wire::v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient};
use store_api::{LeaseId, Store as _};
use tokio::time::timeout;

/// Long enough for what must happen.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to see that something does not happen.
const WHILE: Duration = Duration::from_millis(200);

async fn lease(served: &Served) -> i64 {
    served.store.lease_grant(LeaseId(0), 60).await.unwrap().id.get()
}

fn lock(lease: i64) -> LockRequest {
    LockRequest { name: "jobs".into(), lease }
}

#[tokio::test]
async fn a_lock_is_one_callers_and_passes_on_in_order() {
    let served = Served::start().await;
    let mut locks = LockClient::new(served.channel().await);
    let (one, two, three) = (lease(&served).await, lease(&served).await, lease(&served).await);
    let first = locks.lock(lock(one)).await.unwrap().into_inner();
    assert_eq!(first.key, format!("jobs/{one:x}"));
    // Again with the same lease: it is the caller's already.
    assert_eq!(locks.lock(lock(one)).await.unwrap().get_ref().key, first.key);
    let waiting = |id| {
        let mut locks = locks.clone();
        tokio::spawn(async move { locks.lock(lock(id)).await })
    };
    let mut second = waiting(two);
    assert!(timeout(WHILE, &mut second).await.is_err(), "the lock is held");
    let mut third = waiting(three);
    assert!(timeout(WHILE, &mut third).await.is_err());
    locks.unlock(UnlockRequest { key: first.key }).await.unwrap();
    let second = timeout(SOON, second).await.unwrap().unwrap().unwrap().into_inner();
    assert!(timeout(WHILE, &mut third).await.is_err(), "the second holds it");
    // The lease of the holder ends.
    served.store.lease_revoke(LeaseId(two)).await.unwrap();
    let third = timeout(SOON, third).await.unwrap().unwrap().unwrap().into_inner();
    assert!(second.key != third.key);
    assert_eq!(refusal(locks.lock(lock(12345)).await), "Unknown: etcdserver: requested lease not found");
    served.stop().await;
}

#[tokio::test]
async fn who_goes_away_gives_up_its_place() {
    let served = Served::start().await;
    let mut locks = LockClient::new(served.channel().await);
    let (one, two) = (lease(&served).await, lease(&served).await);
    locks.lock(lock(one)).await.unwrap();
    let request = locks.lock(lock(two));
    assert!(timeout(WHILE, request).await.is_err());
    let mut kv = served.kv().await;
    let place = format!("jobs/{two:x}");
    let gone = async {
        while kv.range(get(&place)).await.unwrap().get_ref().count > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_lock_without_a_lease_gets_one() {
    let served = Served::start().await;
    let mut locks = LockClient::new(served.channel().await);
    let key = locks.lock(lock(0)).await.unwrap().into_inner().key;
    let id = i64::from_str_radix(std::str::from_utf8(&key[5..]).unwrap(), 16).unwrap();
    assert_eq!(served.store.lease_status(LeaseId(id)).await.unwrap().granted_ttl_s, 60);
    served.stop().await;
}

#[tokio::test]
async fn an_election_has_one_leader_and_observers_see_each() {
    let served = Served::start().await;
    let mut elections = ElectionClient::new(served.channel().await);
    let name = || election::LeaderRequest { name: "chair".into() };
    assert_eq!(refusal(elections.leader(name()).await), "Unknown: election: no leader");
    let mut observed = elections.observe(name()).await.unwrap().into_inner();
    let campaign = |lease, value: &'static str| election::CampaignRequest {
        name: "chair".into(),
        lease,
        value: value.into(),
    };
    let (one, two) = (lease(&served).await, lease(&served).await);
    let first = elections.campaign(campaign(one, "one")).await.unwrap().into_inner().leader.unwrap();
    let mut next = async || {
        let message = timeout(SOON, observed.message()).await.unwrap().unwrap().unwrap();
        String::from_utf8(message.kv.unwrap().value.to_vec()).unwrap()
    };
    assert_eq!(next().await, "one");
    let mut clone = elections.clone();
    let mut second = tokio::spawn(async move { clone.campaign(campaign(two, "two")).await });
    assert!(timeout(WHILE, &mut second).await.is_err());
    let proclaim = election::ProclaimRequest { leader: Some(first.clone()), value: "uno".into() };
    elections.proclaim(proclaim.clone()).await.unwrap();
    assert_eq!(next().await, "uno");
    assert_eq!(elections.leader(name()).await.unwrap().into_inner().kv.unwrap().value, "uno");
    elections.resign(election::ResignRequest { leader: Some(first) }).await.unwrap();
    let second = timeout(SOON, second).await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!(second.leader.unwrap().lease, two);
    assert_eq!(next().await, "two");
    assert_eq!(refusal(elections.proclaim(proclaim).await), "Unknown: election: not leader");
    assert_eq!(
        refusal(elections.resign(election::ResignRequest { leader: None }).await),
        "Unknown: \"leader\" field must be provided"
    );
    drop(observed);
    served.stop().await;
}
