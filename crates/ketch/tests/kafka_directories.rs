//! One directory, served in turn by a real Apache Kafka 4.3 and by Ketch: each goes on where the other stopped.
//!
//! ```text
//! Kafka writes ─▶ import-metadata ─▶ Ketch reads and writes ─▶ export-metadata ─▶ Kafka reads and writes ─▶ up reads
//! ```
//! At every arrow all records, committed offsets, topic ids and configurations are the same on both sides.

#[path = "../../broker/tests/common/kafka.rs"]
mod kafka;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kafka::RealKafka;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const KETCH: &str = env!("CARGO_BIN_EXE_ketch");
const WITHIN: Duration = Duration::from_secs(60);
const GROUP: &str = "readers";
/// What Kafka's tools for topics and logs say of damage.
const COMPLAINTS: &[&str] =
    &["mismatch", "Mismatches", "Found timestamp", "isvalid: false", "corrupt", "Exception", "out of order"];

/// `ketch up` on a directory that stays.
struct Up {
    process: Child,
    addr: String,
}

impl Up {
    fn start(dir: &Path) -> Self {
        Self::with(dir, &[])
    }

    fn with(dir: &Path, more: &[&str]) -> Self {
        let ports = ["--api-port", "0", "--etcd-port", "0", "--console-port", "0", "--kafka-port", "0"];
        let mut command = Command::new(KETCH);
        command.args(["up", "--no-node", "--data-dir"]).arg(dir).args(ports).args(more);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("ketch starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let deadline = Instant::now() + WITHIN;
        while !lines.next().expect("ready before the end").expect("text").starts_with("ready in ") {
            assert!(Instant::now() < deadline, "not ready");
        }
        std::thread::spawn(move || lines.for_each(drop));
        let text = std::fs::read_to_string(dir.join("endpoints.json")).expect("endpoints");
        let endpoints: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let addr = endpoints["kafka"].as_str().expect("a broker").to_owned();
        Self { process, addr }
    }

    fn stop(mut self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.process.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
        assert!(self.process.wait().expect("a child").success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ketch(args: &[&str], dir: &Path) -> Output {
    Command::new(KETCH).args(args).arg("--data-dir").arg(dir).output().expect("ketch runs")
}

/// Standard output of a command that must succeed.
fn ok(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn config(addr: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", addr).set("message.timeout.ms", "30000");
    config
}

fn produce(addr: &str, topic: &str, codec: &str, keys: std::ops::Range<i64>) {
    let producer: BaseProducer = config(addr)
        .set("compression.codec", codec)
        .set("enable.idempotence", "true")
        .create()
        .expect("made");
    send(&producer, topic, codec, keys);
    producer.flush(WITHIN).expect("acknowledged");
}

fn send(producer: &BaseProducer, topic: &str, word: &str, keys: std::ops::Range<i64>) {
    for n in keys {
        let (key, value) = (format!("key {n}"), format!("{word} {n} {}", "x".repeat(n as usize % 50)));
        let headers = OwnedHeaders::new()
            .insert(Header { key: "word", value: Some(word) })
            .insert(Header { key: "none", value: None::<&str> });
        let record = BaseRecord::to(topic).key(&key).payload(&value).headers(headers);
        // Some a second apart, from 2026-11 on.
        let record = record.timestamp(1_793_500_000_000 + n * 1000).partition((n % 2) as i32);
        assert!(producer.send(record).is_ok());
    }
}

/// A committed and an aborted transaction, the same id each time: its epoch goes on over the brokers.
fn transactions(addr: &str, topic: &str, word: &str) {
    let producer: BaseProducer = config(addr)
        .set("transactional.id", "bank")
        .set("transaction.timeout.ms", "60000")
        .create()
        .expect("made");
    producer.init_transactions(WITHIN).expect("a producer id");
    producer.begin_transaction().expect("begun");
    send(&producer, topic, word, 0..6);
    producer.commit_transaction(WITHIN).expect("committed");
    producer.begin_transaction().expect("begun");
    send(&producer, topic, "never seen", 0..4);
    producer.flush(WITHIN).expect("acknowledged");
    producer.abort_transaction(WITHIN).expect("aborted");
}

fn create(addr: &str, name: &str, configs: &[(&str, &str)]) {
    let admin: AdminClient<_> = config(addr).create().expect("made");
    let topic = NewTopic::new(name, 2, TopicReplication::Fixed(1));
    let topic = configs.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let made = block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("answered");
    made.into_iter().for_each(|one| drop(one.expect("created")));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn commit(addr: &str, topic: &str, offsets: [i64; 2]) {
    let consumer: BaseConsumer = config(addr).set("group.id", GROUP).create().expect("made");
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("added");
    }
    consumer.commit(&list, CommitMode::Sync).expect("committed");
}

/// All that clients can see of a broker.
#[derive(Debug)]
struct World {
    /// Lines of offset, timestamp, key, value, headers by topic and partition.
    records: BTreeMap<(String, i32), Vec<String>>,
    committed: BTreeMap<(String, i32), i64>,
    /// What kafka-topics says, ids and configurations among it.
    topics: Vec<String>,
}

impl World {
    fn look(class_path: &str, addr: &str) -> Self {
        let consumer: BaseConsumer = config(addr)
            .set("group.id", GROUP)
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()
            .expect("made");
        let metadata = consumer.fetch_metadata(None, WITHIN).expect("metadata");
        let topics = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__"));
        let all: Vec<_> =
            topics.flat_map(|t| t.partitions().iter().map(|p| (t.name().to_owned(), p.id()))).collect();
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &all {
            list.add_partition_offset(topic, *partition, Offset::Beginning).expect("added");
        }
        let committed = committed(&consumer, &list);
        let committed = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some(((element.topic().to_owned(), element.partition()), offset)),
            _ => None,
        });
        let committed = committed.collect();
        let records = read_all(&consumer, &list, all);
        Self { records, committed, topics: describe(class_path, addr) }
    }
}

/// A coordinator that has just started may still be reading its topic.
fn committed(consumer: &BaseConsumer, list: &TopicPartitionList) -> TopicPartitionList {
    let deadline = Instant::now() + WITHIN;
    loop {
        match consumer.committed_offsets(list.clone(), WITHIN) {
            Ok(committed) => return committed,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn read_all(
    consumer: &BaseConsumer,
    list: &TopicPartitionList,
    all: Vec<(String, i32)>,
) -> BTreeMap<(String, i32), Vec<String>> {
    consumer.assign(list).expect("assigned");
    let mut left = all.len();
    let mut records: BTreeMap<_, Vec<String>> = all.into_iter().map(|place| (place, Vec::new())).collect();
    let deadline = Instant::now() + WITHIN;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} partitions without an end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let place = (message.topic().to_owned(), message.partition());
                records.get_mut(&place).expect("assigned").push(shown(&message));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    records
}

fn shown(message: &impl Message) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
    let headers: Vec<_> = message
        .headers()
        .map(|headers| headers.iter().map(|h| format!("{}={:?}", h.key, text(h.value))).collect())
        .unwrap_or_default();
    let (key, value) = (text(message.key()), text(message.payload()));
    format!("{} {:?} {key:?} {value:?} {headers:?}", message.offset(), message.timestamp())
}

/// Configurations in the order of their names: Kafka has one of its own.
fn describe(class_path: &str, addr: &str) -> Vec<String> {
    let args = ["--bootstrap-server", addr, "--describe"];
    let described = kafka::java(class_path, "org.apache.kafka.tools.TopicCommand", &args).output();
    let sorted = |line: &str| match line.split_once("Configs: ") {
        Some((topic, configs)) => {
            // A value may hold commas too: such as `compact,delete`.
            let mut words: Vec<_> = configs.split(',').collect();
            words.sort_unstable();
            format!("{topic}{words:?}")
        }
        None => line.to_owned(),
    };
    ok(&described.expect("java runs")).lines().map(sorted).collect()
}

/// Compares part by part, so that a difference can be seen.
fn same(now: &World, then: &World, when: &str) {
    assert_eq!(now.topics, then.topics, "{when}");
    assert_eq!(now.committed, then.committed, "{when}");
    assert_eq!(now.records.keys().collect::<Vec<_>>(), then.records.keys().collect::<Vec<_>>(), "{when}");
    for (place, records) in &now.records {
        assert_eq!(records, &then.records[place], "{when}: {place:?}");
    }
}

/// Every file of the partitions is one that Kafka's own tool and ours find in order.
fn examine(class_path: &str, dir: &Path) {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        // Most of the 50 partitions of offsets are empty.
        let empty = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
        if path.is_dir() && !name.contains('.') && !empty(&path.join("00000000000000000000.log")) {
            files.extend(segment_files(&path));
        }
    }
    let list: Vec<_> = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let args = ["--files", &list.join(","), "--deep-iteration"];
    let dumped = kafka::java(class_path, "org.apache.kafka.tools.DumpLogSegments", &args).output();
    let dumped = dumped.expect("java runs");
    let said = ok(&dumped);
    assert!(!COMPLAINTS.iter().any(|word| said.contains(word)), "{said}");
    for kind in [".log", ".snapshot"] {
        assert!(files.iter().any(|path| path.to_string_lossy().ends_with(kind)), "no {kind} in {files:?}");
    }
    ok(&Command::new(KETCH).args(["log", "inspect", "--records"]).arg(dir).output().expect("ketch runs"));
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let kinds = ["log", "index", "timeindex", "txnindex", "snapshot"];
    let files = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|e| kinds.iter().any(|kind| e == *kind))).collect()
}

#[test]
fn a_directory_is_served_by_kafka_and_by_ketch_in_turn() {
    let Some(class_path) = kafka::class_path() else { return };
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    std::fs::create_dir(&dir).expect("made");
    let few = [("offsets.topic.num.partitions", "3"), ("transaction.state.log.num.partitions", "2")];

    let mut kafka = RealKafka::start(&dir, &class_path, &few);
    let addr = kafka.addr.to_string();
    create(&addr, "orders", &[("retention.ms", "-1"), ("segment.bytes", "1048576")]);
    create(&addr, "latest", &[("cleanup.policy", "compact")]);
    create(&addr, "bank", &[("message.timestamp.type", "LogAppendTime")]);
    create(&addr, "gone", &[]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        produce(&addr, "orders", codec, 0..40);
    }
    produce(&addr, "latest", "lz4", 0..20);
    produce(&addr, "latest", "none", 5..15);
    transactions(&addr, "bank", "first");
    commit(&addr, "orders", [7, 9]);
    let before = World::look(&class_path, &addr);
    kafka.stop();
    assert!(before.topics.iter().any(|line| line.contains("TopicId")), "{:?}", before.topics);
    assert_eq!(before.records[&("bank".to_owned(), 0)].len(), 3, "{:?}", before.records);

    let said = ok(&ketch(&["log", "import-metadata"], &dir));
    assert!(said.contains("imported 6 topics"), "{said}");
    let up = Up::start(&dir);
    same(&World::look(&class_path, &up.addr), &before, "Ketch serves what Kafka wrote");

    produce(&up.addr, "orders", "zstd", 100..140);
    create(&up.addr, "fresh", &[("cleanup.policy", "compact,delete"), ("max.message.bytes", "2000000")]);
    produce(&up.addr, "fresh", "gzip", 0..30);
    commit(&up.addr, "orders", [70, 9]);
    commit(&up.addr, "fresh", [3, 4]);
    let admin: AdminClient<_> = config(&up.addr).create().expect("made");
    let deleted = block_on(admin.delete_topics(&["gone"], &AdminOptions::new())).expect("answered");
    deleted.into_iter().for_each(|one| drop(one.expect("deleted")));
    drop(admin);
    let between = World::look(&class_path, &up.addr);
    assert_eq!(between.committed[&("orders".to_owned(), 0)], 70);
    up.stop();

    let said = ok(&ketch(&["log", "export-metadata"], &dir));
    assert!(said.contains("exported 6 topics"), "{said}");
    examine(&class_path, &dir.join("kafka"));
    let mut kafka = RealKafka::on_exported(&dir, &dir.join("kafka"), &class_path, &few);
    kafka.up();
    let addr = kafka.addr.to_string();
    same(&World::look(&class_path, &addr), &between, "Kafka serves what Ketch wrote");
    transactions(&addr, "bank", "second");
    produce(&addr, "fresh", "none", 30..35);
    create(&addr, "late", &[]);
    commit(&addr, "fresh", [9, 9]);
    let after = World::look(&class_path, &addr);
    kafka.stop();

    // Without a word: what Kafka left is newer than what Ketch has.
    let up = Up::start(&dir);
    same(&World::look(&class_path, &up.addr), &after, "Ketch serves what Kafka added");
    up.stop();
}

fn configs(class_path: &str, args: &[&str]) -> String {
    ok(&kafka::java(class_path, "kafka.admin.ConfigCommand", args).output().expect("java runs"))
}

/// Gives every client id a quota.
fn limit(class_path: &str, addr: &str, limits: &str) {
    let of = ["--bootstrap-server", addr, "--entity-type", "clients", "--entity-default"];
    configs(class_path, &[&of[..], &["--alter", "--add-config", limits]].concat());
}

fn limited(class_path: &str, addr: &str) -> String {
    let of = ["--bootstrap-server", addr, "--entity-type", "clients", "--entity-default"];
    let said = configs(class_path, &[&of[..], &["--describe"]].concat());
    // Which quota comes first is up to a hash map.
    let mut words: Vec<_> = said.split([',', ' ']).map(str::trim).collect();
    words.sort_unstable();
    words.join(" ")
}

/// The same with partitions in two directories, both ways.
#[test]
fn several_directories_are_exchanged_as_one() {
    let Some(class_path) = kafka::class_path() else { return };
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    std::fs::create_dir(&dir).expect("made");
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    let both = format!("{},{}", one.display(), two.display());
    let few = ["--kafka-property", "offsets.topic.num.partitions=3", "--kafka-log-dirs", &both];

    let up = Up::with(&dir, &few);
    for topic in ["orders", "latest", "fresh"] {
        create(&up.addr, topic, &[]);
        produce(&up.addr, topic, "lz4", 0..40);
        commit(&up.addr, topic, [7, 9]);
    }
    limit(&class_path, &up.addr, "producer_byte_rate=100000000,request_percentage=2000");
    let (before, limits) = (World::look(&class_path, &up.addr), limited(&class_path, &up.addr));
    assert!(limits.contains("producer_byte_rate=1.0E8"), "{limits}");
    up.stop();
    let held = |dir: &Path| {
        let names =
            std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| {
                ["orders", "latest", "fresh"].iter().any(|t| name.to_string_lossy().starts_with(t))
            })
            .count()
    };
    assert_eq!((held(&one), held(&two)), (3, 3), "partitions in both");

    // Named alone, one of them is not all.
    let alone = ketch(&["log", "export-metadata", "--kafka-log-dirs", &one.to_string_lossy()], &dir);
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && said.contains("needs all of them named"), "{said}");
    let said = ok(&ketch(&["log", "export-metadata", "--kafka-log-dirs", &both], &dir));
    assert!(said.contains("exported 4 topics") && said.contains(&format!("log.dirs={both}")), "{said}");

    let settings = [("offsets.topic.num.partitions", "3")];
    let mut kafka = RealKafka::on_exported(&dir, Path::new(&both), &class_path, &settings);
    kafka.up();
    let addr = kafka.addr.to_string();
    same(&World::look(&class_path, &addr), &before, "Kafka serves what Ketch wrote");
    assert_eq!(limited(&class_path, &addr), limits, "quotas go along");
    limit(&class_path, &addr, "consumer_byte_rate=300000000");
    let limits = limited(&class_path, &addr);
    produce(&addr, "orders", "zstd", 100..140);
    create(&addr, "late", &[]);
    produce(&addr, "late", "none", 0..10);
    commit(&addr, "orders", [20, 30]);
    let after = World::look(&class_path, &addr);
    kafka.stop();

    let said = ok(&ketch(&["log", "import-metadata", "--kafka-log-dirs", &both], &dir));
    assert!(said.contains("imported 5 topics") && said.contains("--kafka-log-dirs"), "{said}");
    let up = Up::with(&dir, &few);
    same(&World::look(&class_path, &up.addr), &after, "Ketch serves what Kafka added");
    assert_eq!(limited(&class_path, &up.addr), limits, "quotas come back");
    up.stop();
}
