//! Those who write to the members, over the etcd port, and remember what was acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_wire::etcdserverpb::{self as pb, kv_client::KvClient};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::process::address;

/// One attempt of a write: long enough for a slow one, short enough to try another member.
const ATTEMPT: Duration = Duration::from_millis(700);
/// What a caller gets that is sure to be answered.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to a member, made when it is used.
pub fn endpoint(n: usize) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}:2379", address(n))).unwrap();
    endpoint.connect_timeout(Duration::from_millis(300)).connect_lazy()
}

async fn put(channel: &Channel, key: String, patience: Duration) -> bool {
    let request = pb::PutRequest { key: key.clone().into(), value: key.into(), ..Default::default() };
    let mut kv = KvClient::new(channel.clone());
    tokio::time::timeout(patience, kv.put(request)).await.is_ok_and(|done| done.is_ok())
}

/// Asks one member after the other until one acknowledges a write.
pub async fn write_until(members: &[usize], deadline: std::time::Instant) {
    let channels: Vec<Channel> = members.iter().map(|n| endpoint(*n)).collect();
    for channel in channels.iter().cycle() {
        if std::time::Instant::now() > deadline || put(channel, "probe".to_owned(), ATTEMPT).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writes all the time; what was acknowledged.
pub struct Ledger {
    acknowledged: Mutex<BTreeSet<String>>,
    over: AtomicBool,
    writers: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Ledger {
    /// Begins to write to the members that are known at any time.
    pub fn begin(known: Arc<Mutex<Vec<usize>>>) -> Arc<Self> {
        let ledger = Arc::new(Self {
            acknowledged: Mutex::default(),
            over: AtomicBool::new(false),
            writers: Mutex::default(),
        });
        for writer in 0..3 {
            let task = tokio::spawn(ledger.clone().write(writer, known.clone()));
            ledger.writers.lock().push(task);
        }
        ledger
    }

    async fn write(self: Arc<Self>, writer: usize, known: Arc<Mutex<Vec<usize>>>) {
        let mut n = 0_u64;
        while !self.over.load(Ordering::Relaxed) {
            let members = known.lock().clone();
            let channel = endpoint(members[(writer + n as usize) % members.len()]);
            // Each member gets some writes in a row over one connection.
            for _ in 0..20 {
                n += 1;
                let key = format!("w{writer}/{n:06}");
                if put(&channel, key.clone(), ATTEMPT).await {
                    self.acknowledged.lock().insert(key);
                } else {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    pub async fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
        let writers = std::mem::take(&mut *self.writers.lock());
        for writer in writers {
            writer.await.unwrap();
        }
    }

    /// Everything acknowledged is there, read at a member.
    pub async fn check(&self, channel: Channel) {
        let request =
            pb::RangeRequest { key: "w".into(), range_end: "x".into(), ..pb::RangeRequest::default() };
        let mut kv = KvClient::new(channel).max_decoding_message_size(64 << 20);
        let read = tokio::time::timeout(ANSWER, kv.range(request)).await.unwrap().unwrap().into_inner();
        let found: BTreeSet<String> =
            read.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect();
        let acknowledged = self.acknowledged.lock();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        eprintln!("{} acknowledged writes, {} found", acknowledged.len(), found.len());
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert!(acknowledged.len() > 100, "too little was written");
    }
}
