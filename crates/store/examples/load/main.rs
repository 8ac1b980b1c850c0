//! Load on an etcd port, the same for every server: one line of figures on standard output.
//!
//! `load ADDRESS[,ADDRESS...] WORKLOAD CLIENTS SECONDS [PKI]`
//!
//! | workload | |
//! |---|---|
//! | `echo` | the health check, which does nothing: the transport's own ceiling |
//! | `put`, `create`, `get` | 1 KB; a transaction that makes a key of 4 KiB if it is not there, as the API server does; linearizable |
//! | `fill`, `fill-txn`, `revisions` | CLIENTS x 1000 keys of 1 KB; of 100 bytes, by 128 a transaction; so many puts of 100 bytes on 1000 keys |
//! | `range` | reads all keys SECONDS times |
//! | `watch` | CLIENTS watches on one prefix: SECONDS events, each timed to the last watcher |
//! | `compact` | CLIENTS writers for at least SECONDS while all history is compacted: the longest put |
//! | `gaps` | CLIENTS writers that go from member to member: the longest time without an acknowledged put |
//! | `leader` | prints which address leads |
//!
//! The line: `count rate p50 p99 p99.9 longest`, latencies in microseconds.

mod client;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_wire::etcdserverpb::{self as pb, request_op};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::task::JoinSet;

use client::{Channel, Failure, HEAD_BYTES, Messages, framed};

/// Connections, over which clients are spread.
const CONNECTIONS: usize = 8;
/// Keys that puts and gets go round.
const KEYS: u64 = 100_000;
/// Watches on one stream: as many as one client library shares a stream for.
const WATCHES_PER_STREAM: usize = 100;
/// Puts in one transaction: etcd's limit.
const TXN_PUTS: u64 = 128;
/// How long a writer waits for a member before it goes to the next.
const MEMBER_PATIENCE: Duration = Duration::from_millis(250);

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";

struct Load {
    addresses: Vec<String>,
    pki: Option<String>,
    channels: Vec<Channel>,
    next: AtomicU64,
    /// Keeps the keys of one run apart from another's.
    run: u64,
}

fn key(n: u64) -> Bytes {
    format!("/registry/pods/default/pod-{n:08}").into()
}

fn value(bytes: usize) -> Bytes {
    static LARGEST: [u8; 4096] = [b'v'; 4096];
    Bytes::from_static(&LARGEST).slice(..bytes)
}

fn put(key: Bytes, bytes: usize) -> pb::PutRequest {
    pb::PutRequest { key, value: value(bytes), ..pb::PutRequest::default() }
}

/// What the API server sends for a create.
fn create(key: Bytes) -> pb::TxnRequest {
    let compare = pb::Compare {
        target: 2,
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp { request: Some(request_op::Request::RequestPut(put(key, 4096))) }],
        failure: vec![pb::RequestOp { request: Some(request_op::Request::RequestRange(get)) }],
    }
}

impl Load {
    async fn connect(addresses: &str, pki: Option<&String>) -> Result<Self, Failure> {
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        let mut channels = Vec::new();
        for at in 0..CONNECTIONS {
            let address = &addresses[at % addresses.len()];
            channels.push(Channel::connect(address, pki.map(String::as_str)).await?);
        }
        let run = std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64;
        Ok(Self { addresses, pki: pki.cloned(), channels, next: AtomicU64::new(0), run })
    }

    fn channel(&self, client: usize) -> &Channel {
        &self.channels[client % CONNECTIONS]
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn once(&self, workload: &str, channel: &Channel) -> Result<(), Failure> {
        let n = self.number();
        match workload {
            "echo" => drop(channel.call("/grpc.health.v1.Health/Check", &()).await?),
            "put" => {
                let answer = channel.call(PUT, &put(key(n % KEYS), 1024)).await?;
                pb::PutResponse::decode(answer)?.header.ok_or("an answer without a head")?;
            }
            "create" => {
                let txn = create(format!("/registry/created/{}/{n}", self.run).into());
                let answer = pb::TxnResponse::decode(channel.call(TXN, &txn).await?)?;
                answer.succeeded.then_some(()).ok_or("not created")?;
            }
            "get" => {
                let range = pb::RangeRequest { key: key(n * 7919 % KEYS), ..Default::default() };
                pb::RangeResponse::decode(channel.call(RANGE, &range).await?)?;
            }
            other => return Err(format!("no workload is called {other}").into()),
        }
        Ok(())
    }
}

/// Runs clients for a while: how many calls a second, and their latencies.
async fn rate(load: Arc<Load>, workload: &str, clients: usize, time: Duration) -> Result<(), Failure> {
    let (mut set, start) = (JoinSet::new(), Instant::now());
    for client in 0..clients {
        let (load, workload) = (load.clone(), workload.to_owned());
        set.spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < time {
                let began = Instant::now();
                load.once(&workload, load.channel(client)).await?;
                took.push(began.elapsed().as_micros() as u64);
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = set.join_next().await {
        all.extend(done??);
    }
    report(&mut all, start.elapsed());
    Ok(())
}

fn report(took: &mut [u64], time: Duration) {
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    let rate = took.len() as f64 / time.as_secs_f64();
    println!("{} {rate:.1} {} {} {} {}", took.len(), at(0.5), at(0.99), at(0.999), at(1.0));
}

/// Writes something `total` times over, from many clients.
async fn fill(load: Arc<Load>, workload: &str, thousands: usize) -> Result<(), Failure> {
    let (mut set, start) = (JoinSet::new(), Instant::now());
    let total = thousands as u64 * 1000;
    for client in 0..128 {
        let (load, workload) = (load.clone(), workload.to_owned());
        set.spawn(async move {
            loop {
                let n = load.number();
                let done = match &*workload {
                    "fill-txn" => n * TXN_PUTS >= total,
                    _ => n >= total,
                };
                if done {
                    return Ok::<_, Failure>(());
                }
                match &*workload {
                    "fill-txn" => load.channel(client).call(TXN, &many(n * TXN_PUTS, total)).await?,
                    "revisions" => load.channel(client).call(PUT, &put(key(n % 1000), 100)).await?,
                    _ => load.channel(client).call(PUT, &put(key(n), 1024)).await?,
                };
            }
        });
    }
    while let Some(done) = set.join_next().await {
        done??;
    }
    println!("{total} {:.1} 0 0 0 0", total as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Keys from the n-th on, in one transaction.
fn many(n: u64, total: u64) -> pb::TxnRequest {
    let puts = (n..total.min(n + TXN_PUTS)).map(|n| {
        let put = request_op::Request::RequestPut(put(format!("/many/{n:08}").into(), 100));
        pb::RequestOp { request: Some(put) }
    });
    pb::TxnRequest { success: puts.collect(), ..pb::TxnRequest::default() }
}

/// Reads everything some times.
async fn range(load: &Load, times: u64) -> Result<(), Failure> {
    let mut took = Vec::new();
    let start = Instant::now();
    for _ in 0..times {
        let began = Instant::now();
        let range = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let answer = load.channel(0).pieces(RANGE, &range).await?;
        took.push(began.elapsed().as_micros() as u64);
        // Decoded outside the time, which is the client's alone.
        let count = pb::RangeResponse::decode(&answer.concat()[HEAD_BYTES..])?.kvs.len();
        eprintln!("{count} keys in {:.1} ms", took.last().map_or(0.0, |us| *us as f64 / 1e3));
    }
    report(&mut took, start.elapsed());
    Ok(())
}

/// From a put to the last of many watchers.
async fn watch(load: Arc<Load>, watchers: usize, events: u64) -> Result<(), Failure> {
    let (told, mut tell) = tokio::sync::mpsc::channel::<usize>(1024);
    let mut set = JoinSet::new();
    for stream in 0..watchers.div_ceil(WATCHES_PER_STREAM) {
        let count = WATCHES_PER_STREAM.min(watchers - stream * WATCHES_PER_STREAM);
        let (channel, told) = (load.channel(stream).clone(), told.clone());
        set.spawn(async move { follow(channel, count, told).await });
    }
    let mut wait = async |count: usize| {
        let mut left = count;
        while left > 0 {
            left -= tell.recv().await.ok_or("a watch ended")?.min(left);
        }
        Ok::<_, Failure>(())
    };
    wait(watchers).await?;
    let (mut took, start) = (Vec::new(), Instant::now());
    for n in 0..events {
        let began = Instant::now();
        load.channel(0).call(PUT, &put(format!("watched/{n}").into(), 1024)).await?;
        wait(watchers).await?;
        took.push(began.elapsed().as_micros() as u64);
    }
    report(&mut took, start.elapsed());
    set.abort_all();
    Ok(())
}

/// Opens watches on one stream and tells how many were created, then how many events came.
async fn follow(
    channel: Channel,
    count: usize,
    told: tokio::sync::mpsc::Sender<usize>,
) -> Result<(), Failure> {
    let create =
        pb::WatchCreateRequest { key: "watched/".into(), range_end: "watched0".into(), ..Default::default() };
    let request =
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let (response, mut out) = channel.open("/etcdserverpb.Watch/Watch").await?;
    for _ in 0..count {
        out.send_data(framed(&request), false)?;
    }
    // The stream stays open after the last request.
    let mut answers = Messages::new(response.await?.into_body());
    while let Some(answer) = answers.next().await? {
        let answer = pb::WatchResponse::decode(answer)?;
        told.send(usize::from(answer.created) + answer.events.len()).await?;
    }
    drop(out);
    Ok(())
}

/// Writers go on while everything there was is compacted.
async fn compact(load: Arc<Load>, clients: usize, least: Duration) -> Result<(), Failure> {
    let (mut set, start) = (JoinSet::new(), Instant::now());
    let done = Arc::new(AtomicBool::new(false));
    for client in 0..clients {
        let (load, done) = (load.clone(), done.clone());
        set.spawn(async move {
            let mut took = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                load.once("put", load.channel(client)).await?;
                took.push(began.elapsed().as_micros() as u64);
            }
            Ok::<_, Failure>(took)
        });
    }
    let range = pb::RangeRequest { key: key(0), ..Default::default() };
    let now = pb::RangeResponse::decode(load.channel(0).call(RANGE, &range).await?)?;
    let revision = now.header.ok_or("an answer without a head")?.revision;
    let request = pb::CompactionRequest { revision, physical: true };
    load.channel(0).call("/etcdserverpb.KV/Compact", &request).await?;
    eprintln!("compacted {revision} revisions in {:.1} s", start.elapsed().as_secs_f64());
    tokio::time::sleep(least.saturating_sub(start.elapsed())).await;
    done.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    while let Some(done) = set.join_next().await {
        all.extend(done??);
    }
    report(&mut all, start.elapsed());
    Ok(())
}

/// The longest time in which no put was acknowledged by any member.
async fn gaps(load: Arc<Load>, clients: usize, time: Duration) -> Result<(), Failure> {
    let (mut set, start) = (JoinSet::new(), Instant::now());
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for client in 0..clients {
        let (load, acknowledged) = (load.clone(), acknowledged.clone());
        set.spawn(async move {
            let mut at = client;
            let mut channel = None;
            while start.elapsed() < time {
                let request = put(key(load.number() % KEYS), 1024);
                let attempt = async {
                    let used = match channel.take() {
                        Some(used) => used,
                        None => {
                            let address = &load.addresses[at % load.addresses.len()];
                            Channel::connect(address, load.pki.as_deref()).await?
                        }
                    };
                    used.call(PUT, &request).await?;
                    Ok::<_, Failure>(used)
                };
                match tokio::time::timeout(MEMBER_PATIENCE, attempt).await {
                    Ok(Ok(used)) => {
                        acknowledged.lock().push(start.elapsed().as_micros() as u64);
                        channel = Some(used);
                    }
                    Ok(Err(_)) => {
                        at += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(_) => at += 1,
                }
            }
        });
    }
    while set.join_next().await.is_some() {}
    let mut times = std::mem::take(&mut *acknowledged.lock());
    times.sort_unstable();
    let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if gaps.is_empty() {
        return Err("nothing was acknowledged".into());
    }
    report(&mut gaps, start.elapsed());
    Ok(())
}

/// Which of the addresses leads.
async fn leader(load: &Load) -> Result<(), Failure> {
    for (at, channel) in load.channels.iter().take(load.addresses.len()).enumerate() {
        let answer = channel.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await?;
        let status = pb::StatusResponse::decode(answer)?;
        if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
            println!("{at}");
            return Ok(());
        }
    }
    Err("nobody leads".into())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [addresses, workload, clients, seconds, pki @ ..] = &arguments[..] else {
        return Err("load ADDRESS[,ADDRESS...] WORKLOAD CLIENTS SECONDS [PKI]".into());
    };
    let (clients, seconds): (usize, u64) = (clients.parse()?, seconds.parse()?);
    let load = Arc::new(Load::connect(addresses, pki.first()).await?);
    let time = Duration::from_secs(seconds);
    match workload.as_str() {
        "fill" | "fill-txn" | "revisions" => fill(load, workload, clients).await,
        "range" => range(&load, seconds).await,
        "watch" => watch(load, clients, seconds).await,
        "compact" => compact(load, clients, time).await,
        "gaps" => gaps(load, clients, time).await,
        "leader" => leader(&load).await,
        plain => rate(load, plain, clients, time).await,
    }
}
