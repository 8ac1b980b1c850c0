//! Real clients: librdkafka through its Rust binding, and kcat.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use common::{Served, options};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Message, Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(served: &Served, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", served.bootstrap());
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

async fn produce(producer: &FutureProducer, topic: &str, values: std::ops::Range<i32>) {
    let sends = values.map(|n| async move {
        let (key, value) = (n.to_string(), format!("value {n}"));
        let record =
            FutureRecord::to(topic).key(&key).payload(&value).timestamp(1_700_000_000_000 + i64::from(n));
        producer.send(record, PATIENCE).await.expect("delivered");
    });
    futures::future::join_all(sends).await;
}

/// The values of a topic from the beginning, sorted by number.
async fn consume(served: &Served, topic: &str, count: usize) -> Vec<i32> {
    let consumer: StreamConsumer = config(served, &[("group.id", "reader")]).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let message =
            tokio::time::timeout(PATIENCE, consumer.recv()).await.expect("in time").expect("a message");
        let text = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
        found.push(text.strip_prefix("value ").unwrap().parse().unwrap());
    }
    found.sort_unstable();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_compression_goes_in_and_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for idempotence in ["true", "false"] {
            let topic = format!("{codec}-{idempotence}");
            let settings =
                [("compression.codec", codec), ("enable.idempotence", idempotence), ("linger.ms", "5")];
            let producer: FutureProducer = config(&served, &settings).create().unwrap();
            produce(&producer, &topic, 0..500).await;
            assert_eq!(consume(&served, &topic, 500).await, (0..500).collect::<Vec<_>>(), "{topic}");
        }
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let producer: FutureProducer = config(&served, &[("linger.ms", "0")]).create().unwrap();
    for n in 0..50 {
        produce(&producer, "t", n..n + 1).await;
    }
    let consumer: BaseConsumer = config(&served, &[("group.id", "x")]).create().unwrap();
    for n in [0, 1, 25, 49] {
        let mut times = TopicPartitionList::new();
        times.add_partition_offset("t", 0, Offset::Offset(1_700_000_000_000 + n)).unwrap();
        let offsets = consumer.offsets_for_times(times, PATIENCE).unwrap();
        assert_eq!(offsets.elements()[0].offset(), Offset::Offset(n));
    }
    assert_eq!(consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(), (0, 50));
    let output = kcat(&served, &["-C", "-t", "t", "-o", "s@1700000000048", "-e", "-q", "-f", "%o "]);
    assert_eq!(output, "48 49 ");
    served.stop().await;
}

fn kcat(served: &Served, args: &[&str]) -> String {
    let output = Command::new("kcat")
        .args(["-b", &served.bootstrap()])
        .args(args)
        .output()
        .expect("kcat is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kcat_lists_produces_and_consumes() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let file = dir.path().join("lines");
    std::fs::write(&file, (0..1000).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
    kcat(&served, &["-P", "-t", "lines", "-z", "lz4", "-l", file.to_str().unwrap()]);
    let all = kcat(&served, &["-C", "-t", "lines", "-o", "beginning", "-e", "-q"]);
    assert_eq!(all.lines().count(), 1000);
    assert_eq!(kcat(&served, &["-C", "-t", "lines", "-o", "998", "-e", "-q"]), "line 998\nline 999\n");
    assert_eq!(kcat(&served, &["-C", "-t", "lines", "-o", "-1", "-e", "-q"]), "line 999\n");
    let listed = kcat(&served, &["-L"]);
    assert!(listed.contains(&format!("broker 1 at {}", served.bootstrap())), "{listed}");
    assert!(listed.contains("topic \"lines\" with 1 partitions"), "{listed}");
    served.stop().await;
}

/// Reads until each consumer has exactly `share` partitions and together they have all.
async fn settle(consumers: &[&StreamConsumer], share: usize) {
    let settled = async {
        loop {
            for consumer in consumers {
                let _ = tokio::time::timeout(Duration::from_millis(50), consumer.recv()).await;
            }
            if consumers.iter().all(|c| c.assignment().unwrap().count() == share) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE * 2, settled).await.expect("the group settles");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_rebalances_and_keeps_its_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let admin: AdminClient<DefaultClientContext> = config(&served, &[]).create().unwrap();
    let topic = NewTopic::new("orders", 4, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let producer: FutureProducer = config(&served, &[]).create().unwrap();
    produce(&producer, "orders", 0..100).await;
    let member = || -> StreamConsumer {
        let settings = [
            ("group.id", "g"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "6000"),
            ("enable.auto.commit", "false"),
            ("heartbeat.interval.ms", "200"),
        ];
        let consumer: StreamConsumer = config(&served, &settings).create().unwrap();
        consumer.subscribe(&["orders"]).unwrap();
        consumer
    };
    let first = member();
    let mut seen = BTreeMap::new();
    while seen.len() < 100 {
        let message = tokio::time::timeout(PATIENCE, first.recv()).await.expect("in time").unwrap();
        seen.insert((message.partition(), message.offset()), ());
    }
    first.commit_consumer_state(CommitMode::Sync).unwrap();
    let second = member();
    settle(&[&first, &second], 2).await;
    drop(first);
    settle(&[&second], 4).await;
    drop(second);
    // What was committed is what a new life of the broker and of the group goes on from.
    let store = served.store.clone();
    drop((admin, producer));
    served.stop().await;
    let served = Served::with(options(dir.path()), store).await;
    let settings = [("group.id", "g"), ("auto.offset.reset", "earliest")];
    let consumer: StreamConsumer = config(&served, &settings).create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    let producer: FutureProducer = config(&served, &[]).create().unwrap();
    produce(&producer, "orders", 100..101).await;
    let message = tokio::time::timeout(PATIENCE, consumer.recv()).await.expect("in time").unwrap();
    assert_eq!(message.payload(), Some(&b"value 100"[..]));
    let groups = consumer.fetch_group_list(Some("g"), PATIENCE).unwrap();
    assert_eq!((groups.groups()[0].state(), groups.groups()[0].members().len()), ("Stable", 1));
    drop(message);
    drop((consumer, producer));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_configurations_are_administered() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let admin: AdminClient<DefaultClientContext> = config(&served, &[]).create().unwrap();
    let opts = AdminOptions::new();
    let topic = NewTopic::new("t", 2, TopicReplication::Fixed(1)).set("retention.ms", "1234");
    admin.create_topics([&topic], &opts).await.unwrap()[0].as_ref().unwrap();
    admin.create_partitions([&NewPartitions::new("t", 5)], &opts).await.unwrap()[0].as_ref().unwrap();
    let describe = || async {
        let described = admin.describe_configs([&ResourceSpecifier::Topic("t")], &opts).await.unwrap();
        let resource = described.into_iter().next().unwrap().unwrap();
        let value = |name| resource.get(name).unwrap().value.clone().unwrap();
        (value("retention.ms"), value("max.message.bytes"))
    };
    assert_eq!(describe().await, ("1234".into(), "1048588".into()));
    let alter = AlterConfig::new(ResourceSpecifier::Topic("t")).set("max.message.bytes", "100");
    admin.alter_configs([&alter], &opts).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(describe().await, ("604800000".into(), "100".into()));
    let producer: FutureProducer = config(&served, &[]).create().unwrap();
    let big = "x".repeat(500);
    let refused = producer.send(FutureRecord::<(), _>::to("t").payload(&big), PATIENCE).await;
    assert!(refused.is_err(), "max.message.bytes is in force");
    let consumer: BaseConsumer = config(&served, &[]).create().unwrap();
    assert_eq!(consumer.fetch_metadata(Some("t"), PATIENCE).unwrap().topics()[0].partitions().len(), 5);
    admin.delete_topics(&["t"], &opts).await.unwrap()[0].as_ref().unwrap();
    assert!(consumer.fetch_metadata(None, PATIENCE).unwrap().topics().is_empty());
    drop((admin, producer, consumer));
    served.stop().await;
}
