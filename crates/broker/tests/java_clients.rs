//! The Java client of two ages against a broker: the programs of Kafka's own system tests and its performance tools,
//! unmodified, of 4.3 and of 2.8.
//!
//! They need `KETCH_TEST_KAFKA_CLASSPATH` and `KETCH_TEST_KAFKA_28_CLASSPATH`, which `cargo xtask test` sets; without them
//! each test says so and passes.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use common::Served;
use common::kafka::java;
use serde_json::Value;

/// Java virtual machines on two busy cores take their time.
const PATIENCE: Duration = Duration::from_secs(120);
const RECORDS: u64 = 2_000;
const RECORD_BYTES: u64 = 100;

/// A release of the client with the names that its tools had.
struct Release {
    class_path: String,
    new: bool,
}

impl Release {
    fn from_env(variable: &str, new: bool) -> Option<Self> {
        let found = std::env::var(variable).ok();
        if found.is_none() {
            eprintln!("skipped: {variable} is not set; `cargo xtask test` sets it");
        }
        Some(Self { class_path: found?, new })
    }

    /// Runs a tool, which must succeed within the patience; what it printed.
    async fn run(&self, class: &str, args: &[&str]) -> String {
        let (succeeded, out) = self.attempt(class, args).await;
        assert!(succeeded, "{class} {args:?}\n{out}");
        out
    }

    async fn attempt(&self, class: &str, args: &[&str]) -> (bool, String) {
        let mut command = tokio::process::Command::from(java(&self.class_path, class, args));
        let ended = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
        let Output { status, stdout, stderr } = ended.expect("in time").expect("java runs");
        let text = [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat();
        (status.success(), text)
    }

    /// Where one class moved between the releases.
    fn class(&self, name: &str) -> String {
        let package = if self.new { "org.apache.kafka.tools" } else { "kafka.tools" };
        format!("{package}.{name}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_java_client_of_4_3() {
    let Some(release) = Release::from_env("KETCH_TEST_KAFKA_CLASSPATH", true) else { return };
    all(release).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_java_client_of_2_8() {
    let Some(release) = Release::from_env("KETCH_TEST_KAFKA_28_CLASSPATH", false) else { return };
    all(release).await;
}

async fn all(release: Release) {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let bootstrap = served.bootstrap();
    compatibility(&release, &bootstrap).await;
    verifiable(&release, &bootstrap).await;
    performance(&release, &bootstrap).await;
    latency(&release, &bootstrap).await;
    transactions(&release, &bootstrap).await;
    served.stop().await;
}

/// What Kafka's system tests check of every pair of client and broker: metadata, topics, configurations, offsets by time,
/// records byte for byte.
async fn compatibility(release: &Release, bootstrap: &str) {
    let mut args: Vec<&str> =
        "--topic compatibility --offsets-for-times-supported true --cluster-id-supported true \
        --expect-record-too-large-exception false --num-cluster-nodes 1 --create-topics-supported true \
        --describe-acls-supported false --describe-configs-supported true"
            .split_whitespace()
            .collect();
    args.extend(["--bootstrap-server", bootstrap]);
    if release.new {
        args.extend(["--idempotent-producer-supported", "true"]);
    }
    let out = release.run("org.apache.kafka.tools.ClientCompatibilityTest", &args).await;
    assert!(out.contains("SUCCESS."), "{out}");
}

/// The events that a verifiable client printed, one JSON object a line.
fn events(out: &str) -> Vec<Value> {
    out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn named<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["name"] == name)
}

/// Every record that the producer says was acknowledged comes to the consumer once, at the offset it was told.
async fn verifiable(release: &Release, bootstrap: &str) {
    let count = RECORDS.to_string();
    let mut args = vec!["--bootstrap-server", bootstrap, "--topic", "verified", "--max-messages", &count];
    args.extend(["--acks", "-1"]);
    let out = release.run("org.apache.kafka.tools.VerifiableProducer", &args).await;
    let produced = events(&out);
    let tell = |event: &Value| (event["offset"].as_u64().unwrap(), event["value"].clone());
    let acknowledged: BTreeMap<u64, Value> = named(&produced, "producer_send_success").map(tell).collect();
    assert!(acknowledged.keys().copied().eq(0..RECORDS), "{} acknowledged", acknowledged.len());
    assert_eq!(named(&produced, "producer_send_error").count(), 0, "{out}");

    let mut args = vec!["--bootstrap-server", bootstrap, "--topic", "verified", "--max-messages", &count];
    args.extend(["--group-id", "verifiers", "--reset-policy", "earliest", "--verbose"]);
    let out = release.run("org.apache.kafka.tools.VerifiableConsumer", &args).await;
    let consumed = events(&out);
    let records: Vec<_> = named(&consumed, "record_data").map(tell).collect();
    assert_eq!(records, acknowledged.into_iter().collect::<Vec<_>>());
    let commits: Vec<&Value> = named(&consumed, "offsets_committed").collect();
    assert!(commits.iter().all(|commit| commit["success"] == true), "{commits:?}");
    assert_eq!(commits.last().unwrap()["offsets"][0]["offset"], RECORDS, "{commits:?}");
}

/// `kafka-producer-perf-test` and `kafka-consumer-perf-test`: as many records and bytes read as were sent.
async fn performance(release: &Release, bootstrap: &str) {
    let (count, size) = (RECORDS.to_string(), RECORD_BYTES.to_string());
    let properties = format!("bootstrap.servers={bootstrap}");
    let mut args = vec!["--topic", "measured", "--num-records", &count, "--record-size", &size];
    args.extend(["--throughput", "-1", "--producer-props", &properties, "acks=all", "compression.type=lz4"]);
    let out = release.run("org.apache.kafka.tools.ProducerPerformance", &args).await;
    assert!(out.contains(&format!("{count} records sent")), "{out}");
    let messages = if release.new { "--num-records" } else { "--messages" };
    let args = ["--bootstrap-server", bootstrap, "--topic", "measured", messages, &count];
    let out = release.run(&release.class("ConsumerPerformance"), &args).await;
    let row: Vec<&str> = out.lines().nth(1).unwrap_or_default().split(", ").collect();
    let megabytes = format!("{:.4}", (RECORDS * RECORD_BYTES) as f64 / f64::from(1 << 20));
    assert_eq!((row.get(2), row.get(4)), (Some(&&*megabytes), Some(&&*count)), "{out}");
}

/// A producer of a client id with a quota takes the time that the quota asks for, and its metrics tell of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_slows_the_producer() {
    let Some(release) = Release::from_env("KETCH_TEST_KAFKA_CLASSPATH", true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut options = common::options(dir.path());
    // A second's worth is had at once.
    options.properties.insert("quota.window.num".into(), "2".into());
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let bootstrap = served.bootstrap();
    let alter =
        ["--bootstrap-server", &bootstrap, "--alter", "--entity-type", "clients", "--entity-name", "slow"];
    let alter = [&alter[..], &["--add-config", "producer_byte_rate=500000"]].concat();
    release.run("kafka.admin.ConfigCommand", &alter).await;
    let properties = format!("bootstrap.servers={bootstrap}");
    let send = async |id: &str| {
        let id = format!("client.id={id}");
        let mut args = vec!["--topic", "measured", "--num-records", "3000", "--record-size", "1000"];
        args.extend(["--throughput", "-1", "--print-metrics", "--producer-props", &properties, &id]);
        let started = std::time::Instant::now();
        let out = release.run("org.apache.kafka.tools.ProducerPerformance", &args).await;
        assert!(out.contains("3000 records sent"), "{out}");
        let metric = out.lines().find(|line| line.contains("produce-throttle-time-max")).unwrap_or_default();
        let throttled: f64 = metric.rsplit(':').next().unwrap().trim().parse().unwrap_or_default();
        (started.elapsed(), throttled)
    };
    let (_, free) = send("free").await;
    let (slow, throttled) = send("slow").await;
    assert!((free, throttled > 0.0) == (0.0, true), "throttle times: {free}, {throttled}");
    // 3 MB at 0.5 MB a second, the first half a second's at once.
    assert!(slow >= Duration::from_secs(4), "{slow:?}");
    served.stop().await;
}

/// EndToEndLatency compares each record with what it sent, and fails when one is late, missing or another.
async fn latency(release: &Release, bootstrap: &str) {
    let args = [bootstrap, "echo", "200", "all", "100"];
    let out = release.run(&release.class("EndToEndLatency"), &args).await;
    assert!(out.contains("Avg latency: ") && out.contains("Percentiles: 50th"), "{out}");
}

/// What was produced is copied in transactions, some of them aborted on the way, with the offsets of the consumer.
async fn transactions(release: &Release, bootstrap: &str) {
    let count = RECORDS.to_string();
    let args = "--input-topic verified --input-partition 0 --output-topic copied --consumer-group copiers \
        --transactional-id copier --transaction-size 250 --enable-random-aborts --max-messages";
    let args = args.split_whitespace().chain([&*count, "--broker-list", bootstrap]);
    let args: Vec<&str> = args.collect();
    let out = release.run("org.apache.kafka.tools.TransactionalMessageCopier", &args).await;
    assert!(out.contains("\"remaining\":0"), "{out}");
    let address = bootstrap.to_owned();
    let read = tokio::task::spawn_blocking(move || common::committed(&address, "copied", PATIENCE));
    let values: Vec<u64> = read.await.unwrap().iter().map(|value| value.parse().unwrap()).collect();
    assert!(values.iter().copied().eq(0..RECORDS), "{} values", values.len());
}
