//! kill -9 at random moments: what `acks=all` acknowledged is there at the offset that was told, offsets have no gap, an
//! idempotent producer's records come once and in order, and the indexes agree with the log.
//!
//! The producers (librdkafka) outlive the broker: they meet its end in the middle of requests and try again at its next
//! life, on the same port. `KETCH_TEST_KILL_ROUNDS` asks for more rounds. Where `KETCH_TEST_KAFKA_CLASSPATH` is set, Kafka's
//! own DumpLogSegments checks the indexes too.
//!
//! What it cannot produce: a loss of power (`durability.rs` simulates it); transactions (`transaction_kill.rs`).

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::random::Random;
use common::{Raw, Served, child, code, fetch, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::FetchResponse;
use kafka_wire::record::batches;
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Semaphore;

const ROUNDS: &str = "KETCH_TEST_KILL_ROUNDS";
const ROUNDS_DEFAULT: u64 = 3;
/// Longer than any round and the recovery behind it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
/// Records that wait for their acknowledgement at a time: enough that every kill meets some.
const IN_FLIGHT: usize = 400;
/// A round goes on until so many more are acknowledged, and a random while longer.
const LEAST_A_ROUND: u64 = 300;
const WHILE_MS_MAX: u64 = 700;
/// Large enough that segments roll, which are as small as may be.
const VALUE_BYTES: usize = 700;
const SEGMENT_BYTES: &str = "1048576";

/// Not a test: the broker of the test below, in a process of its own. Passes at once when nobody asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_broker() {
    child::serve(small).await;
}

fn small(dir: &Path) -> broker::Options {
    let mut options = options(dir);
    for (name, value) in [("log.segment.bytes", SEGMENT_BYTES), ("num.partitions", &PARTITIONS.to_string())] {
        options.properties.insert(name.into(), value.into());
    }
    options
}

/// A producer that never stops, and what it was told.
struct Pump {
    topic: &'static str,
    producer: FutureProducer,
    sent: AtomicU64,
    /// Values by partition and offset.
    acknowledged: Mutex<BTreeMap<(i32, i64), u64>>,
    /// What was refused for good.
    failed: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Pump {
    fn new(topic: &'static str, port: u16, idempotent: bool) -> Arc<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", format!("127.0.0.1:{port}"))
            .set("acks", "all")
            .set("linger.ms", "1")
            .set("enable.idempotence", if idempotent { "true" } else { "false" })
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("retry.backoff.ms", "20")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .unwrap();
        let (acknowledged, failed) = (Mutex::default(), Mutex::default());
        Arc::new(Self {
            topic,
            producer,
            sent: AtomicU64::new(0),
            acknowledged,
            failed,
            stop: AtomicBool::new(false),
        })
    }

    /// Sends numbers, each to the partition of its remainder, until told to stop and all are answered.
    async fn run(self: Arc<Self>) {
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        while !self.stop.load(Ordering::Relaxed) {
            let permit = room.clone().acquire_owned().await.unwrap();
            let n = self.sent.fetch_add(1, Ordering::Relaxed);
            let value = format!("{n:>VALUE_BYTES$}");
            let record = FutureRecord::<(), _>::to(self.topic).partition(partition_of(n)).payload(&value);
            let told = self.producer.send_result(record).expect("room in the queue");
            let pump = self.clone();
            tokio::spawn(async move {
                match told.await.expect("the producer lives") {
                    Ok(at) => drop(pump.acknowledged.lock().insert((at.partition, at.offset), n)),
                    Err((error, _)) => pump.failed.lock().push(error.to_string()),
                }
                drop(permit);
            });
        }
        drop(room.acquire_many(IN_FLIGHT as u32).await.unwrap());
    }

    fn count(&self) -> u64 {
        self.acknowledged.lock().len() as u64
    }
}

fn partition_of(n: u64) -> i32 {
    (n % PARTITIONS as u64) as i32
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_and_repeats_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("kafka");
    let rounds = std::env::var(ROUNDS).map_or(ROUNDS_DEFAULT, |text| text.parse().expect("a number"));
    let (port, mut random) = (child::free_port(), Random::from_entropy());
    let mut child = child::start(&dir, port, 0).await;
    let pumps = [Pump::new("plain", port, false), Pump::new("idempotent", port, true)];
    let running: Vec<_> = pumps.iter().map(|pump| tokio::spawn(pump.clone().run())).collect();
    for round in 1..=rounds {
        until_acknowledged(&pumps).await;
        tokio::time::sleep(Duration::from_millis(random.below(WHILE_MS_MAX))).await;
        child.kill().await.unwrap();
        child = child::start(&dir, port, round).await;
    }
    until_acknowledged(&pumps).await;
    pumps.iter().for_each(|pump| pump.stop.store(true, Ordering::Relaxed));
    for pump in running {
        tokio::time::timeout(PATIENCE, pump).await.expect("everything is answered").unwrap();
    }
    // The last life ends as the others did; the next one is asked and ends well.
    child.kill().await.unwrap();
    let store = testkit::MemStore::shared();
    common::restore(&dir, &store).await;
    let served = Served::with(small(&dir), store).await;
    let mut raw = served.raw().await;
    for pump in &pumps {
        check(pump, &mut raw).await;
    }
    served.stop().await;
    let partitions = pumps.iter().flat_map(|pump| (0..PARTITIONS).map(|p| format!("{}-{p}", pump.topic)));
    let segments: usize = partitions.map(|name| indexes_agree(&dir.join(name))).sum();
    assert!(segments > 2 * PARTITIONS as usize, "no segment was ever rolled");
    kafka_agrees(&dir).await;
    let told: u64 = pumps.iter().map(|pump| pump.count()).sum();
    eprintln!("{rounds} rounds, {told} acknowledged, {segments} segments");
}

/// Waits until each producer has been told of some more.
async fn until_acknowledged(pumps: &[Arc<Pump>]) {
    let goals: Vec<u64> = pumps.iter().map(|pump| pump.count() + LEAST_A_ROUND).collect();
    let began = Instant::now();
    while pumps.iter().zip(&goals).any(|(pump, goal)| pump.count() < *goal) {
        assert!(began.elapsed() < PATIENCE, "{:?}", pumps.iter().map(|p| p.count()).collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn check(pump: &Pump, raw: &mut Raw) {
    let (topic, failed) = (pump.topic, pump.failed.lock().clone());
    assert!(failed.is_empty(), "{topic}: {} refused, first {:?}", failed.len(), failed.first());
    let acknowledged = pump.acknowledged.lock().clone();
    let mut stored = 0;
    for partition in 0..PARTITIONS {
        let found = values(raw, topic, partition).await;
        stored += found.len() as u64;
        for (offset, value) in found.iter().enumerate() {
            assert_eq!(partition_of(*value), partition, "{topic}-{partition} at {offset}");
        }
        let told = acknowledged.range((partition, 0)..(partition + 1, 0));
        for ((_, offset), value) in told {
            assert_eq!(found.get(*offset as usize), Some(value), "{topic}-{partition} at {offset}");
        }
        if topic == "idempotent" {
            let expect = (0..pump.sent.load(Ordering::Relaxed)).filter(|n| partition_of(*n) == partition);
            assert!(found.iter().copied().eq(expect), "{topic}-{partition}: not once each and in order");
        }
    }
    assert_eq!(acknowledged.len() as u64, pump.sent.load(Ordering::Relaxed), "{topic}");
    assert!(stored >= acknowledged.len() as u64, "{topic}");
}

/// The values of a partition; their offsets follow one another from 0.
async fn values(raw: &mut Raw, topic: &str, partition: i32) -> Vec<u64> {
    let mut found = Vec::new();
    loop {
        let at = found.len() as i64;
        let mut request = fetch(topic, at, 0, 0);
        request.topics[0].partitions[0].partition = partition;
        let response: FetchResponse = raw.call(12, &request).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(code(data.error_code), ErrorCode::None);
        let records = data.records.clone().unwrap();
        if records.is_empty() {
            assert_eq!(at, data.high_watermark, "{topic}-{partition} ends early");
            return found;
        }
        for batch in batches(&records) {
            // The last may be cut at the limit of the answer.
            let Ok(batch) = batch else { break };
            assert_eq!(batch.base_offset(), found.len() as i64, "{topic}-{partition} has a gap");
            let each = |r: kafka_wire::record::Record<'_>| {
                found.push(std::str::from_utf8(r.value.unwrap()).unwrap().trim().parse().unwrap());
            };
            batch.records(1 << 20).unwrap().for_each(each).unwrap();
            assert_eq!(batch.next_offset(), found.len() as i64, "{topic}-{partition} counts wrong");
        }
    }
}

/// Every entry of the indexes names a batch of the log that has what it says; how many segments there are.
fn indexes_agree(dir: &Path) -> usize {
    let logs = files(dir, "log");
    for log in &logs {
        let bytes = std::fs::read(log).unwrap();
        let base: i64 = log.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let entry = |file: &Path, size: usize| -> Vec<Vec<u8>> {
            let index = std::fs::read(file).unwrap_or_default();
            assert_eq!(index.len() % size, 0, "{}", file.display());
            index.chunks(size).map(<[u8]>::to_vec).collect()
        };
        let u32_at = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let batch_at = |position: usize| batches(&bytes[position..]).next().unwrap().unwrap();
        let index = log.with_extension("index");
        let mut entries = Vec::new();
        for found in entry(&index, 8) {
            let (offset, position) = (base + i64::from(u32_at(&found, 0)), u32_at(&found, 4) as usize);
            let batch = batch_at(position);
            assert!(
                (batch.base_offset()..batch.next_offset()).contains(&offset),
                "{}: {offset} is not in the batch at {position}",
                index.display()
            );
            entries.push(offset);
        }
        assert!(entries.is_sorted_by(|a, b| a < b), "{}", index.display());
        let times = log.with_extension("timeindex");
        let found = entry(&times, 12);
        assert!(found.is_sorted_by(|a, b| a[..8] <= b[..8]), "{}", times.display());
        let all: Vec<_> = batches(&bytes).map(|batch| batch.unwrap()).collect();
        for time in found {
            let stamp = i64::from_be_bytes(time[..8].try_into().unwrap());
            let offset = base + i64::from(u32_at(&time, 8));
            let before = all.iter().take_while(|batch| batch.base_offset() <= offset);
            let latest = before.map(|batch| batch.max_timestamp()).max();
            assert_eq!(latest, Some(stamp), "{} at {offset}", times.display());
        }
    }
    logs.len()
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    found
}

/// Kafka's own tool finds nothing wrong with the indexes.
async fn kafka_agrees(dir: &Path) {
    let Some(class_path) = common::kafka::class_path() else { return };
    let partitions = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let partitions = partitions.filter(|path| path.join("partition.metadata").is_file());
    let indexes =
        partitions.flat_map(|path| ["index", "timeindex"].map(|extension| files(&path, extension))).flatten();
    let named = indexes.map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(",");
    let args = ["--verify-index-only", "--files", &named];
    let command = common::kafka::java(&class_path, "org.apache.kafka.tools.DumpLogSegments", &args);
    let ended = tokio::process::Command::from(command).kill_on_drop(true).output();
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("in time").expect("java runs");
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && err.is_empty(), "{out}{err}");
    assert!(!out.contains("Found timestamp mismatch") && !out.contains("out of order"), "{out}{err}");
}
