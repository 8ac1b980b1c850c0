//! The contract suite over an etcd that somebody else runs: Ketch's own door, and a real etcd behind mutual TLS.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::sync::Arc;
use std::time::Duration;

use base::task::Tasks;
use door::Served;
use etcd::{Etcd, program};
use store::external::{External, Options, RootsAndKey};
use store_api::{Error, KeyRange, Op, Revision, Store, Txn, WatchMessage, WatchRequest};
use tokio::sync::Mutex;

async fn connect(endpoints: Vec<String>, tls: Option<Arc<rustls::ClientConfig>>) -> External {
    let options = Options { endpoints, tls };
    for _ in 0..100 {
        // A member that has just started has no leader yet.
        if let Ok(external) = External::connect(&options, &Tasks::new()).await {
            return external;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    External::connect(&options, &Tasks::new()).await.unwrap()
}

async fn put(store: &dyn Store, key: &str) -> Result<Revision, Error> {
    let success = vec![Op::put(key.to_owned(), "v")];
    store.txn(Txn { success, ..Txn::default() }).await.map(|done| done.revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn ketchs_own_door_keeps_the_contract() {
    let all = Mutex::new(Vec::new());
    testkit::store_contract::run(|| async {
        let served = Served::start().await;
        let external = connect(vec![served.url()], None).await;
        all.lock().await.push(served);
        external.shared()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_etcd_keeps_the_contract() {
    let Some(program) = program("KETCH_TEST_ETCD") else { return };
    let dir = tempfile::tempdir().unwrap();
    let pki = pki::Pki::open(&dir.path().join("pki"), now_s()).unwrap();
    let names = pki::Names { dns: vec!["localhost".to_owned()], addresses: vec![[127, 0, 0, 1].into()] };
    pki.etcd_server(&names).unwrap();
    pki.etcd_client().unwrap();
    let file = |name: &str| dir.path().join("pki/etcd").join(name);
    let (ca, cert, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
    let tls = RootsAndKey { ca: &ca, client: Some((&cert, &key)) }.config().unwrap();
    let path = |name: &str| file(name).to_str().unwrap().to_owned();
    let flags = [
        ("--cert-file", path("server.crt")),
        ("--key-file", path("server.key")),
        ("--trusted-ca-file", path("ca.crt")),
    ];
    let mut more: Vec<&str> = vec!["--client-cert-auth"];
    more.extend(flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
    let (running, count) = (Mutex::new(None::<Etcd>), std::sync::atomic::AtomicU32::new(0));
    testkit::store_contract::run(|| async {
        let mut running = running.lock().await;
        running.take();
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let etcd = Etcd::start(&program, &dir.path().join(n.to_string()), &more).await;
        let external = connect(vec![format!("https://127.0.0.1:{}", etcd.port())], Some(tls.clone())).await;
        *running = Some(etcd);
        external.shared()
    })
    .await;
}

fn now_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() as i64
}

/// The next message within reason.
async fn next(watch: &mut store_api::Watch) -> WatchMessage {
    tokio::time::timeout(Duration::from_secs(20), watch.messages.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_endpoint_takes_over_and_watches_miss_nothing() {
    // Two doors to one store stand for two members that agree.
    let dir = tempfile::tempdir().unwrap();
    let store = store::Service::start(store::Options::new(dir.path()), &Tasks::new()).unwrap();
    let mut doors = Vec::new();
    for _ in 0..2 {
        let tasks = Tasks::new();
        let options = store::door::Options::new(vec!["127.0.0.1:0".parse().unwrap()], None);
        let door = store::door::Service::start(options, store.clone(), &tasks).await.unwrap();
        doors.push((format!("http://{}", door.addrs()[0]), tasks));
    }
    let external = connect(doors.iter().map(|(url, _)| url.clone()).collect(), None).await;
    let range = KeyRange::prefix("k");
    let mut watch =
        external.watch(WatchRequest { range, start_revision: None, prev_kv: false }).await.unwrap();
    put(&external, "k1").await.unwrap();
    assert!(matches!(next(&mut watch).await, WatchMessage::Events { revision: Revision(2), .. }));
    assert!(doors[0].1.shutdown(Duration::from_secs(10)).await);
    put(&store, "k2").await.unwrap();
    put(&store, "k3").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let WatchMessage::Events { events, .. } = next(&mut watch).await {
            seen.extend(events.into_iter().map(|event| event.kv.mod_revision.get()));
        }
    }
    assert_eq!(seen, [3, 4]);
    let read = external.range(store_api::RangeRequest::prefix("k")).await.unwrap();
    assert_eq!((read.count, external.revision()), (3, Revision(4)));
    assert!(doors[1].1.shutdown(Duration::from_secs(10)).await);
    let unavailable = put(&external, "k4").await;
    assert!(matches!(unavailable, Err(Error::Unavailable(_))), "{unavailable:?}");
}
