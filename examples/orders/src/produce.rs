//! Writes orders at a steady rate until stopped.

use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::model::{ITEMS, Order};
use crate::{setting, topics};

/// How often the rate is evened out.
const TICK: Duration = Duration::from_millis(50);
const CUSTOMERS: u64 = 500;

pub fn run() -> Result<()> {
    topics::ensure()?;
    let per_second: u64 = setting("ORDERS_PER_SECOND", "200").parse()?;
    let name = setting("HOSTNAME", "producer");
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", crate::bootstrap())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .create()?;
    println!("{name}: {per_second} orders a second");
    let (start, mut sent) = (Instant::now(), 0u64);
    loop {
        let due = (start.elapsed().as_millis() as u64) * per_second / 1000;
        while sent < due {
            send(&producer, &order(&name, sent))?;
            sent += 1;
            if sent.is_multiple_of(per_second.max(1) * 10) {
                println!("{name}: {sent} orders, {} in flight", producer.in_flight_count());
            }
        }
        std::thread::sleep(TICK);
    }
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, order: &Order) -> Result<()> {
    let payload = serde_json::to_vec(order)?;
    loop {
        let record = BaseRecord::to(topics::ORDERS).key(&order.customer).payload(&payload);
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => std::thread::sleep(TICK),
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// The `number`th order of a producer: varied, and the same every time.
fn order(producer: &str, number: u64) -> Order {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let (item, cents) = ITEMS[(mixed % ITEMS.len() as u64) as usize];
    Order {
        id: format!("{producer}-{number}"),
        customer: format!("customer-{}", mixed % CUSTOMERS),
        item: item.into(),
        cents,
    }
}
