//! Load on an etcd port, the same for every server: one line of figures on standard output.
//!
//! `load ADDRESS WORKLOAD CLIENTS SECONDS`, with WORKLOAD one of
//! `echo` (the health check), `put` (1 KB), `create` (a transaction that makes a key of 4 KiB if it is not there, as the
//! API server does), `get` (linearizable); `fill` puts CLIENTS x 1000 keys, `range` reads all keys SECONDS times, and
//! `watch` opens CLIENTS watches on one prefix and times SECONDS events to the last watcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_wire::etcdserverpb::{self as pb, kv_client::KvClient, request_op, watch_client::WatchClient};
use prost::bytes::Bytes;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// Connections, over which clients are spread.
const CONNECTIONS: usize = 8;
/// Keys that puts and gets go round.
const KEYS: u64 = 100_000;
/// Watches on one stream: as many as one client library shares a stream for.
const WATCHES_PER_STREAM: usize = 100;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Load {
    channels: Vec<Channel>,
    next: AtomicU64,
    /// Keeps the keys of one run apart from another's.
    run: u64,
}

fn key(n: u64) -> Bytes {
    format!("/registry/pods/default/pod-{n:08}").into()
}

impl Load {
    async fn connect(address: &str) -> Result<Self, Failure> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
            channels.push(endpoint.connect().await?);
        }
        let run = std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64;
        Ok(Self { channels, next: AtomicU64::new(0), run })
    }

    fn kv(&self, client: usize) -> KvClient<Channel> {
        let channel = self.channels[client % CONNECTIONS].clone();
        KvClient::new(channel).max_decoding_message_size(usize::MAX)
    }

    async fn once(&self, workload: &str, kv: &mut KvClient<Channel>, echo: &mut Echo) -> Result<(), Failure> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        match workload {
            "echo" => echo.call().await?,
            "put" => {
                let put = pb::PutRequest { key: key(n % KEYS), value: value(1024), ..Default::default() };
                kv.put(put).await?;
            }
            "create" => {
                kv.txn(create(format!("/registry/created/{}/{n}", self.run).into())).await?;
            }
            "get" => {
                let range = pb::RangeRequest { key: key(n * 7919 % KEYS), ..Default::default() };
                kv.range(range).await?;
            }
            other => return Err(format!("no workload is called {other}").into()),
        }
        Ok(())
    }
}

fn value(bytes: usize) -> Bytes {
    Bytes::from(vec![b'v'; bytes])
}

/// What the API server sends for a create.
fn create(key: Bytes) -> pb::TxnRequest {
    let compare = pb::Compare {
        target: 2,
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let put = pb::PutRequest { key: key.clone(), value: value(4096), ..Default::default() };
    let get = pb::RangeRequest { key, ..Default::default() };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
        failure: vec![pb::RequestOp { request: Some(request_op::Request::RequestRange(get)) }],
    }
}

/// `grpc.health.v1.Health/Check`, which does nothing: the transport's own ceiling.
struct Echo(tonic::client::Grpc<Channel>);

impl Echo {
    async fn call(&mut self) -> Result<(), Failure> {
        self.0.ready().await?;
        let path = "/grpc.health.v1.Health/Check".parse()?;
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        self.0.unary(tonic::Request::new(()), path, codec).await?;
        Ok(())
    }
}

/// Runs clients for a while: how many calls a second, and their latencies in microseconds, sorted.
async fn rate(load: Arc<Load>, workload: &str, clients: usize, time: Duration) -> Result<(), Failure> {
    let (mut set, start) = (JoinSet::new(), Instant::now());
    for client in 0..clients {
        let (load, workload) = (load.clone(), workload.to_owned());
        set.spawn(async move {
            let mut kv = load.kv(client);
            let mut echo = Echo(tonic::client::Grpc::new(load.channels[client % CONNECTIONS].clone()));
            let mut took = Vec::new();
            while start.elapsed() < time {
                let began = Instant::now();
                load.once(&workload, &mut kv, &mut echo).await?;
                took.push(began.elapsed().as_micros() as u64);
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = set.join_next().await {
        all.extend(done??);
    }
    let seconds = start.elapsed().as_secs_f64();
    report(&mut all, seconds);
    Ok(())
}

fn report(took: &mut [u64], seconds: f64) {
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    println!("{} {:.1} {} {} {}", took.len(), took.len() as f64 / seconds, at(0.5), at(0.99), at(0.999));
}

/// Makes keys of 1 KB, a thousand for each client.
async fn fill(load: Arc<Load>, thousands: usize) -> Result<(), Failure> {
    let (mut set, start) = (JoinSet::new(), Instant::now());
    let total = thousands as u64 * 1000;
    for client in 0..256 {
        let load = load.clone();
        set.spawn(async move {
            let mut kv = load.kv(client);
            loop {
                let n = load.next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return Ok::<_, Failure>(());
                }
                kv.put(pb::PutRequest { key: key(n), value: value(1024), ..Default::default() }).await?;
            }
        });
    }
    while let Some(done) = set.join_next().await {
        done??;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{total} {:.1} 0 0 0", total as f64 / seconds);
    Ok(())
}

/// Reads everything some times.
async fn range(load: &Load, times: u64) -> Result<(), Failure> {
    let mut took = Vec::new();
    let mut kv = load.kv(0);
    let start = Instant::now();
    for _ in 0..times {
        let began = Instant::now();
        let range = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let count = kv.range(range).await?.into_inner().kvs.len();
        took.push(began.elapsed().as_micros() as u64);
        eprintln!("{count} keys in {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    }
    report(&mut took, start.elapsed().as_secs_f64());
    Ok(())
}

/// From a put to the last of many watchers.
async fn watch(load: Arc<Load>, watchers: usize, events: u64) -> Result<(), Failure> {
    let (told, mut tell) = tokio::sync::mpsc::channel::<usize>(1024);
    let mut set = JoinSet::new();
    for stream in 0..watchers.div_ceil(WATCHES_PER_STREAM) {
        let count = WATCHES_PER_STREAM.min(watchers - stream * WATCHES_PER_STREAM);
        let (channel, told) = (load.channels[stream % CONNECTIONS].clone(), told.clone());
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
    let (mut kv, mut took, start) = (load.kv(0), Vec::new(), Instant::now());
    for n in 0..events {
        let began = Instant::now();
        kv.put(pb::PutRequest {
            key: format!("watched/{n}").into(),
            value: value(1024),
            ..Default::default()
        })
        .await?;
        wait(watchers).await?;
        took.push(began.elapsed().as_micros() as u64);
    }
    report(&mut took, start.elapsed().as_secs_f64());
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
    let requests = tokio_stream::iter(vec![request; count]);
    // The stream stays open after the last request.
    let requests = futures::StreamExt::chain(requests, futures::stream::pending());
    let mut answers = WatchClient::new(channel).watch(requests).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        told.send(usize::from(answer.created) + answer.events.len()).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, workload, clients, seconds] = &arguments[..] else {
        return Err("load ADDRESS WORKLOAD CLIENTS SECONDS".into());
    };
    let (clients, seconds): (usize, u64) = (clients.parse()?, seconds.parse()?);
    let load = Arc::new(Load::connect(address).await?);
    match workload.as_str() {
        "fill" => fill(load, clients).await,
        "range" => range(&load, seconds).await,
        "watch" => watch(load, clients, seconds).await,
        plain => rate(load, plain, clients, Duration::from_secs(seconds)).await,
    }
}
