//! Transactions over kill -9: records copied from a topic to two others in transactions, with the offsets they were read at,
//! while the broker is killed at random moments. Every record comes to each copy once, and a reader of committed records
//! never sees one copy without the other.
//!
//! The copiers are librdkafka's transactional producer and, where their jars are known, `TransactionalMessageCopier` of
//! Kafka's system tests, of 4.3 and of 2.8.
//!
//! What it cannot produce: a loss of power; a partition on a disk that fails.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use base::random::Random;
use common::kafka::java;
use common::{child, options};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(180);
const CALL: Duration = Duration::from_secs(30);
const RECORDS: i64 = 3_000;
const BATCH: i64 = 50;
const ROUNDS: u64 = 3;

/// Not a test: the broker of the tests below, in a process of its own. Passes at once when nobody asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_broker() {
    child::serve(small).await;
}

fn small(dir: &Path) -> broker::Options {
    let mut options = options(dir);
    for (name, value) in [
        ("log.segment.bytes", "1048576"),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.num.partitions", "3"),
    ] {
        options.properties.insert(name.into(), value.into());
    }
    options
}

fn config(port: u16, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{port}"));
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

/// Records `0..RECORDS` in partition 0 of `topic`.
fn fill(port: u16, topic: &str) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        config(port, &[("enable.idempotence", "true")]).create().unwrap();
    for n in 0..RECORDS {
        let value = n.to_string();
        let record = BaseRecord::<(), _>::to(topic).partition(0).payload(&value);
        producer.send(record).expect("room in the queue");
    }
    producer.flush(CALL).unwrap();
}

async fn committed(port: u16, topic: &'static str) -> Vec<i64> {
    let address = format!("127.0.0.1:{port}");
    let values = tokio::task::spawn_blocking(move || common::committed(&address, topic, PATIENCE));
    values.await.unwrap().into_iter().map(|value| value.parse().unwrap()).collect()
}

/// Copies `in` to `one` and `two` from the committed offset on, until all is copied or something fails for good.
fn copy(port: u16) -> Result<(), KafkaError> {
    let settings = [
        ("group.id", "copier"),
        ("enable.auto.commit", "false"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "earliest"),
    ];
    let consumer: BaseConsumer = config(port, &settings).create()?;
    let producer: ThreadedProducer<DefaultProducerContext> =
        config(port, &[("transactional.id", "copier"), ("transaction.timeout.ms", "10000")]).create()?;
    producer.init_transactions(CALL)?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition("in", 0);
    let done = consumer.committed_offsets(asked.clone(), CALL)?;
    let mut at = match done.elements()[0].offset() {
        Offset::Offset(at) => at,
        _ => 0,
    };
    asked.set_partition_offset("in", 0, Offset::Offset(at))?;
    consumer.assign(&asked)?;
    let group: ConsumerGroupMetadata = consumer.group_metadata().expect("a group");
    let mut round = 0;
    while at < RECORDS {
        producer.begin_transaction()?;
        let (from, mut left) = (at, BATCH.min(RECORDS - at));
        while left > 0 {
            let Some(message) = consumer.poll(CALL) else { continue };
            let Ok(message) = message else { continue };
            assert_eq!(message.offset(), at, "the input is read in order");
            let value = message.payload().unwrap();
            for topic in ["one", "two"] {
                producer
                    .send(BaseRecord::<(), _>::to(topic).partition(0).payload(value))
                    .map_err(|(error, _)| error)?;
            }
            (at, left) = (at + 1, left - 1);
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("in", 0, Offset::Offset(at))?;
        producer.send_offsets_to_transaction(&offsets, &group, CALL)?;
        round += 1;
        if round % 5 == 0 {
            // Now and then it is taken back, and copied again.
            producer.abort_transaction(CALL)?;
            at = from;
            consumer.seek("in", 0, Offset::Offset(at), CALL)?;
        } else {
            producer.commit_transaction(CALL)?;
        }
    }
    Ok(())
}

/// Copies over every end of the broker: what fails for good begins anew, as a process would.
fn copy_all(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = copy(port) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills the broker at random moments while `work` goes on; the broker's last life serves when this returns.
async fn killing<T: Send + 'static>(
    dir: &Path,
    port: u16,
    mut serving: tokio::process::Child,
    work: impl FnOnce() -> T + Send + 'static,
) -> (tokio::process::Child, T) {
    let working = tokio::task::spawn_blocking(work);
    let mut random = Random::from_entropy();
    for round in 1..=ROUNDS {
        tokio::time::sleep(Duration::from_millis(300 + random.below(900))).await;
        serving.kill().await.unwrap();
        serving = child::start(dir, port, round).await;
    }
    let worked = tokio::time::timeout(PATIENCE, working).await.expect("in time").expect("it works");
    (serving, worked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_9_copies_everything_once() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("kafka");
    let port = child::free_port();
    let serving = child::start(&dir, port, 0).await;
    tokio::task::spawn_blocking(move || fill(port, "in")).await.unwrap();
    let (mut serving, ()) = killing(&dir, port, serving, move || copy_all(port)).await;
    // Whatever the last life left half done is driven to its end by the next.
    serving.kill().await.unwrap();
    let mut serving = child::start(&dir, port, ROUNDS + 1).await;
    let all: Vec<i64> = (0..RECORDS).collect();
    for topic in ["one", "two"] {
        let found = committed(port, topic).await;
        assert_eq!(found, all, "{topic}: {} records", found.len());
    }
    serving.kill().await.unwrap();
}

/// Kafka's own program, which moves a partition's records in transactions; begun anew when its broker's end ends it.
fn copier(class_path: &str, port: u16, output: &str) {
    let bootstrap = format!("127.0.0.1:{port}");
    let (most, id) = (RECORDS.to_string(), format!("copier-{output}"));
    let args = [
        "--broker-list",
        &bootstrap,
        "--input-topic",
        "in",
        "--input-partition",
        "0",
        "--output-topic",
        output,
        "--consumer-group",
        &id,
        "--transactional-id",
        &id,
        "--max-messages",
        &most,
        "--transaction-size",
        "100",
        "--transaction-timeout",
        "10000",
        "--enable-random-aborts",
    ];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended =
            java(class_path, "org.apache.kafka.tools.TransactionalMessageCopier", &args).output().unwrap();
        let out = String::from_utf8_lossy(&ended.stdout);
        if ended.status.success() && out.contains("\"remaining\":0") {
            return;
        }
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(Instant::now() < deadline, "{out}\n{err}");
    }
}

async fn copied_by_java(variable: &str) {
    let Ok(class_path) = std::env::var(variable) else {
        eprintln!("skipped: {variable} is not set; `cargo xtask test` sets it");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("kafka");
    let port = child::free_port();
    let serving = child::start(&dir, port, 0).await;
    tokio::task::spawn_blocking(move || fill(port, "in")).await.unwrap();
    let (mut serving, ()) = killing(&dir, port, serving, move || copier(&class_path, port, "out")).await;
    let found = committed(port, "out").await;
    let distinct: BTreeSet<i64> = found.iter().copied().collect();
    assert_eq!((found.len() as i64, distinct.len() as i64), (RECORDS, RECORDS), "once each");
    assert!(found.is_sorted(), "in order");
    serving.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_copier_of_4_3_copies_everything_once() {
    copied_by_java("KETCH_TEST_KAFKA_CLASSPATH").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_copier_of_2_8_copies_everything_once() {
    copied_by_java("KETCH_TEST_KAFKA_28_CLASSPATH").await;
}
