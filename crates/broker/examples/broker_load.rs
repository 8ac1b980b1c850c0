//! A load of one kind, with librdkafka, against any broker; prints one line of JSON. For `cargo xtask bench broker`.
//!
//! ```text
//! broker_load produce bootstrap=HOST:PORT topic=T records=N size=BYTES producers=N linger=MS acks=all|1 keyed=0|1 idempotent=0|1
//! broker_load consume bootstrap=HOST:PORT topic=T records=N
//! broker_load latency bootstrap=HOST:PORT topic=T records=N size=BYTES rate=RECORDS_PER_SECOND acks=all keyed=0|1
//! broker_load copy    bootstrap=HOST:PORT from=T topic=T records=N batch=RECORDS_A_TRANSACTION id=TRANSACTIONAL_ID
//! broker_load create  bootstrap=HOST:PORT topic=T partitions=N config.NAME=VALUE...
//! ```
//! `produce` measures from the call of send to the delivery report, and begins when every producer has delivered a record:
//! connecting is not what is timed. `latency` from the time a record was due to be sent
//! until a consumer has it: a broker that stalls does not slow the clock that times it. `copy` copies in transactions, with
//! the offsets it has read up to, and measures from the call of commit to its answer.

use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(120);

struct Args(HashMap<String, String>);

impl Args {
    fn text(&self, name: &str, default: &str) -> String {
        self.0.get(name).cloned().unwrap_or_else(|| default.to_owned())
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).map_or(default, |text| text.parse().expect("a number"))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.text("bootstrap", "127.0.0.1:9092"));
        config
    }
}

/// Collects how long each delivery took, microseconds.
#[derive(Default)]
struct Deliveries {
    took_us: Mutex<Vec<u32>>,
    failed: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        self.took_us.lock().expect("no panic").push(sent.elapsed().as_micros() as u32);
        if let Err((error, _)) = result {
            *self.failed.lock().expect("no panic") = Some(error.to_string());
        }
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mode = words.next().expect("produce, consume, latency or create");
    let args = Args(words.filter_map(|w| w.split_once('=').map(|(k, v)| (k.into(), v.into()))).collect());
    match mode.as_str() {
        "produce" => produce(&args),
        "consume" => consume(&args),
        "latency" => latency(&args),
        "copy" => copy(&args),
        "create" => create(&args),
        other => panic!("no load is called {other}"),
    }
}

/// Makes a topic.
fn create(args: &Args) {
    let admin: AdminClient<DefaultClientContext> = args.client().create().expect("an admin client");
    let topic = args.text("topic", "load");
    let partitions = args.number("partitions", 1) as i32;
    let mut wanted = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in &args.0 {
        if let Some(name) = name.strip_prefix("config.") {
            wanted = wanted.set(name, value);
        }
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let made = futures::executor::block_on(admin.create_topics([&wanted], &options)).expect("an answer");
    made.into_iter().for_each(|topic| drop(topic.expect("the topic is made")));
    println!("{{}}");
}

fn producer(args: &Args) -> ThreadedProducer<Deliveries> {
    let mut config = args.client();
    config.set("acks", args.text("acks", "all")).set("linger.ms", args.text("linger", "5"));
    config.set("queue.buffering.max.messages", "1000000").set("queue.buffering.max.kbytes", "262144");
    config.set("max.in.flight.requests.per.connection", "5");
    config.set("enable.idempotence", if args.number("idempotent", 0) == 1 { "true" } else { "false" });
    config.create_with_context(Deliveries::default()).expect("a producer")
}

fn produce(args: &Args) {
    let (records, producers) = (args.number("records", 100_000), args.number("producers", 1));
    let connected = Arc::new(Barrier::new(producers as usize + 1));
    let threads: Vec<_> = (0..producers)
        .map(|index| {
            let (args, connected) = (Args(args.0.clone()), connected.clone());
            std::thread::spawn(move || produce_one(&args, records / producers, index, &connected))
        })
        .collect();
    connected.wait();
    let began = Began::now();
    let mut took: Vec<u32> =
        threads.into_iter().flat_map(|thread| thread.join().expect("a producer")).collect();
    report(records / producers * producers, &began, &mut took);
}

fn produce_one(args: &Args, records: u64, index: u64, connected: &Barrier) -> Vec<u32> {
    let (producer, topic) = (producer(args), args.text("topic", "load"));
    let payload = vec![b'x'; args.number("size", 100) as usize];
    let keyed = args.number("keyed", 0) == 1;
    let first = BaseRecord::with_opaque_to(&topic, Box::new(Instant::now())).payload(&payload).key("");
    producer.send(first).map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("the first is delivered in time");
    producer.context().took_us.lock().expect("no panic").clear();
    connected.wait();
    for n in 0..records {
        let key = key(n, index);
        loop {
            let mut record = BaseRecord::with_opaque_to(&topic, Box::new(Instant::now())).payload(&payload);
            if keyed {
                record = record.key(&key);
            }
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }
    producer.flush(PATIENCE).expect("everything is delivered in time");
    let context = producer.context();
    assert_eq!(*context.failed.lock().expect("no panic"), None);
    std::mem::take(&mut context.took_us.lock().expect("no panic"))
}

/// Keys that come again after 100,000.
fn key(n: u64, index: u64) -> String {
    format!("{}", (n * 7919 + index) % 100_000)
}

fn consumer(args: &Args, from: Offset) -> BaseConsumer {
    let topic = args.text("topic", "load");
    let mut config = args.client();
    config.set("group.id", "load").set("enable.auto.commit", "false").set("fetch.wait.max.ms", "500");
    config.set("check.crcs", "false").set("queued.min.messages", "200000");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).expect("metadata");
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        all.add_partition_offset(&topic, partition.id(), from).expect("an offset");
    }
    consumer.assign(&all).expect("assigned");
    consumer
}

fn consume(args: &Args) {
    let (consumer, records) = (consumer(args, Offset::Beginning), args.number("records", 100_000));
    let (mut seen, mut start) = (0, None);
    while seen < records {
        consumer.poll(PATIENCE).expect("a record in time").expect("no error");
        start.get_or_insert_with(Began::now);
        seen += 1;
    }
    report(seen, &start.expect("records"), &mut Vec::new());
}

fn now_us() -> u64 {
    UNIX_EPOCH.elapsed().expect("after 1970").as_micros() as u64
}

fn latency(args: &Args) {
    let (records, rate) = (args.number("records", 100_000), args.number("rate", 10_000));
    let consumer = consumer(args, Offset::End);
    // The consumer is at the end before the first record comes.
    assert!(consumer.poll(Duration::from_secs(2)).is_none());
    let args = Args(args.0.clone());
    let size = args.number("size", 1024).max(8) as usize;
    let began = Began::now();
    let sending = std::thread::spawn(move || {
        let (producer, topic) = (producer(&args), args.text("topic", "load"));
        let keyed = args.number("keyed", 0) == 1;
        let mut payload = vec![b'x'; size];
        let begin = now_us();
        for n in 0..records {
            let due = begin + n * 1_000_000 / rate;
            while now_us() < due {
                std::thread::sleep(Duration::from_micros(200));
            }
            payload[..8].copy_from_slice(&due.to_be_bytes());
            let key = key(n, 0);
            let mut record: BaseRecord<'_, str, [u8], Box<Instant>> =
                BaseRecord::with_opaque_to(&topic, Box::new(Instant::now())).payload(&payload[..]);
            if keyed {
                record = record.key(&key);
            }
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(PATIENCE).expect("delivered");
    });
    let mut took = Vec::with_capacity(records as usize);
    while (took.len() as u64) < records {
        let message = consumer.poll(PATIENCE).expect("a record in time").expect("no error");
        let due = message.payload().and_then(|p| p.first_chunk()).map_or(0, |due| u64::from_be_bytes(*due));
        took.push(now_us().saturating_sub(due) as u32);
    }
    sending.join().expect("the producer");
    // The first tenth warms caches and connections.
    let mut steady = took.split_off(took.len() / 10);
    report(records, &began, &mut steady);
}

/// A topic copied to another exactly once.
fn copy(args: &Args) {
    let (records, batch) = (args.number("records", 100_000), args.number("batch", 1_000));
    let from = Args(
        [args.0.clone(), [("topic".to_owned(), args.text("from", "load"))].into()]
            .into_iter()
            .flatten()
            .collect(),
    );
    let consumer = consumer(&from, Offset::Beginning);
    let mut config = args.client();
    config.set("transactional.id", args.text("id", "copier")).set("linger.ms", args.text("linger", "5"));
    config.set("queue.buffering.max.messages", "1000000");
    let producer: ThreadedProducer<Deliveries> =
        config.create_with_context(Deliveries::default()).expect("a producer");
    producer.init_transactions(PATIENCE).expect("a producer id");
    let group = consumer.group_metadata().expect("a group");
    let (topic, mut took) = (args.text("topic", "copy"), Vec::new());
    let (began, mut copied) = (Began::now(), 0);
    while copied < records {
        producer.begin_transaction().expect("begun");
        let mut positions: HashMap<(String, i32), i64> = HashMap::new();
        for _ in 0..batch.min(records - copied) {
            let message = consumer.poll(PATIENCE).expect("a record in time").expect("no error");
            positions.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
            let record: BaseRecord<'_, str, [u8], Box<Instant>> =
                BaseRecord::with_opaque_to(&topic, Box::new(Instant::now()))
                    .payload(message.payload().unwrap_or_default());
            producer.send(record).map_err(|(error, _)| error).expect("queued");
            copied += 1;
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), offset) in positions {
            offsets.add_partition_offset(&topic, partition, Offset::Offset(offset)).expect("an offset");
        }
        producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).expect("offsets in the transaction");
        let commit = Instant::now();
        producer.commit_transaction(PATIENCE).expect("committed");
        took.push(commit.elapsed().as_micros() as u32);
    }
    report(copied, &began, &mut took);
}

/// Processor time of this program so far, seconds; 0 where the system does not say. Its start is a hundredth of a second.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    // User and system time, in hundredths.
    (ticks(11) + ticks(12)) / 100.0
}

/// When what is timed began, and the processor time until then.
struct Began {
    at: Instant,
    processor_s: f64,
}

impl Began {
    fn now() -> Self {
        Self { at: Instant::now(), processor_s: processor_s() }
    }
}

fn report(records: u64, began: &Began, latencies_us: &mut [u32]) {
    let took = began.at.elapsed();
    let busy = (processor_s() - began.processor_s) / took.as_secs_f64();
    latencies_us.sort_unstable();
    let at = |quantile: f64| {
        let index = (latencies_us.len() as f64 * quantile) as usize;
        latencies_us.get(index.min(latencies_us.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    println!(
        r#"{{"records":{records},"seconds":{:.4},"busy":{busy:.3},"p50_us":{},"p99_us":{},"p999_us":{}}}"#,
        took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
}
