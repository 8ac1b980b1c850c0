//! The Lease service through a gRPC client: answers and refusals as etcd 3.6 gives them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;

use std::time::Duration;

use door::{Served, get, put, refusal};
use etcd_wire::etcdserverpb as pb;
use tokio_stream::wrappers::ReceiverStream;

#[tokio::test]
async fn grants_states_and_ends() {
    let served = Served::start().await;
    let (mut lease, mut kv) = (served.lease().await, served.kv().await);
    let grant = |id, ttl| pb::LeaseGrantRequest { id, ttl };
    let granted = lease.lease_grant(grant(7, 100)).await.unwrap().into_inner();
    assert_eq!((granted.id, granted.ttl, granted.header.unwrap().revision), (7, 100, 1));
    assert_eq!(lease.lease_grant(grant(8, 0)).await.unwrap().get_ref().ttl, 2, "the least there is");
    assert!(lease.lease_grant(grant(0, 50)).await.unwrap().get_ref().id > 0);
    assert_eq!(
        refusal(lease.lease_grant(grant(7, 5)).await),
        "FailedPrecondition: etcdserver: lease already exists"
    );
    let large = refusal(lease.lease_grant(grant(9, 9_000_000_001)).await);
    assert_eq!(large, "OutOfRange: etcdserver: too large lease TTL");
    kv.put(pb::PutRequest { lease: 7, ..put("a", "1") }).await.unwrap();
    kv.put(pb::PutRequest { lease: 7, ..put("b", "1") }).await.unwrap();
    let ask = |id, keys| pb::LeaseTimeToLiveRequest { id, keys };
    let left = lease.lease_time_to_live(ask(7, true)).await.unwrap().into_inner();
    assert_eq!((left.ttl, left.granted_ttl, &left.keys[..]), (99, 100, &["a".into(), "b".into()][..]));
    assert!(lease.lease_time_to_live(ask(7, false)).await.unwrap().get_ref().keys.is_empty());
    let unknown = lease.lease_time_to_live(ask(99, true)).await.unwrap().into_inner();
    assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (99, -1, 0));
    let leases = lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert_eq!(leases.len(), 3);
    assert_eq!(leases[2].id, 7, "what ends last comes last");
    let revoked = lease.lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 4);
    assert_eq!(kv.range(get("a")).await.unwrap().get_ref().count, 0);
    let gone = refusal(lease.lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await);
    assert_eq!(gone, "NotFound: etcdserver: requested lease not found");
    served.stop().await;
}

#[tokio::test]
async fn a_lease_lives_as_long_as_it_is_renewed() {
    let served = Served::start().await;
    let (mut lease, mut kv) = (served.lease().await, served.kv().await);
    lease.lease_grant(pb::LeaseGrantRequest { id: 5, ttl: 2 }).await.unwrap();
    kv.put(pb::PutRequest { lease: 5, ..put("a", "1") }).await.unwrap();
    let (requests, out) = tokio::sync::mpsc::channel(4);
    let mut answers = lease.lease_keep_alive(ReceiverStream::new(out)).await.unwrap().into_inner();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        requests.send(pb::LeaseKeepAliveRequest { id: 5 }).await.unwrap();
        let renewed = answers.message().await.unwrap().unwrap();
        assert_eq!((renewed.id, renewed.ttl), (5, 2));
    }
    assert_eq!(kv.range(get("a")).await.unwrap().get_ref().count, 1);
    requests.send(pb::LeaseKeepAliveRequest { id: 6 }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 0, "unknown");
    drop(requests);
    assert!(answers.message().await.unwrap().is_none());
    let ended = async {
        while kv.range(get("a")).await.unwrap().get_ref().count > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("ends without renewals");
    served.stop().await;
}
