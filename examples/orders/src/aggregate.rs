//! A member of the group: adds orders up, writes the sums, then commits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use crate::model::{Order, Sum};
use crate::{setting, topics};

/// Orders in one sum, and how long one may wait for more.
const BATCH_ORDERS: usize = 500;
const BATCH_TIME: Duration = Duration::from_millis(200);
const FLUSH_TIME: Duration = Duration::from_secs(30);

/// Says when partitions come and go.
struct Loud;
impl ClientContext for Loud {}
impl ConsumerContext for Loud {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            let mine: Vec<i32> = partitions.elements().iter().map(|e| e.partition()).collect();
            println!("my partitions: {mine:?}");
        }
    }
}

pub fn run() -> Result<()> {
    topics::ensure()?;
    let name = setting("HOSTNAME", "aggregator");
    let consumer: BaseConsumer<Loud> = ClientConfig::new()
        .set("bootstrap.servers", crate::bootstrap())
        .set("group.id", setting("GROUP", "order-aggregators"))
        .set("client.id", &name)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .create_with_context(Loud)?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", crate::bootstrap())
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .create()?;
    consumer.subscribe(&[topics::ORDERS])?;
    loop {
        let sums = collect(&consumer, &name);
        if !sums.is_empty() {
            publish(&producer, &sums)?;
            commit(&consumer, &sums);
        }
    }
}

/// Reads until a batch is full or old.
fn collect(consumer: &BaseConsumer<Loud>, name: &str) -> Vec<Sum> {
    let (start, mut count) = (Instant::now(), 0);
    let mut sums: BTreeMap<i32, Sum> = BTreeMap::new();
    while count < BATCH_ORDERS && start.elapsed() < BATCH_TIME {
        match consumer.poll(BATCH_TIME) {
            Some(Ok(message)) => {
                let Some(order) = message.payload().and_then(|p| serde_json::from_slice::<Order>(p).ok())
                else {
                    eprintln!("not an order: {}/{}", message.partition(), message.offset());
                    continue;
                };
                let fresh =
                    || Sum { by: name.to_owned(), partition: message.partition(), orders: Vec::new() };
                let sum = sums.entry(message.partition()).or_insert_with(fresh);
                sum.orders.push((message.offset(), order.item, order.cents));
                count += 1;
            }
            Some(Err(error)) => eprintln!("reading: {error}"),
            None => {}
        }
    }
    sums.into_values().collect()
}

/// Writes the sums and waits until the broker has them all.
fn publish(producer: &ThreadedProducer<DefaultProducerContext>, sums: &[Sum]) -> Result<()> {
    for sum in sums {
        let payload = serde_json::to_vec(sum)?;
        let record = BaseRecord::<(), _>::to(topics::TOTALS).partition(sum.partition).payload(&payload);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(FLUSH_TIME)?;
    Ok(())
}

fn commit(consumer: &BaseConsumer<Loud>, sums: &[Sum]) {
    let mut offsets = TopicPartitionList::new();
    for sum in sums {
        if let Some((last, _, _)) = sum.orders.last() {
            // Adding a partition to a list we own cannot fail for a valid offset.
            let _ = offsets.add_partition_offset(topics::ORDERS, sum.partition, Offset::Offset(last + 1));
        }
    }
    // A commit refused by a rebalance means that another member counts these again; the page says so.
    if let Err(error) = consumer.commit(&offsets, CommitMode::Sync) {
        eprintln!("commit: {error}");
    }
}
