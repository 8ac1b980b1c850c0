//! The two topics, made by whoever comes first.

use anyhow::{Result, bail};
use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

/// Where producers write.
pub const ORDERS: &str = "orders";
/// Where aggregators write.
pub const TOTALS: &str = "order-totals";
/// Partitions of each.
pub const PARTITIONS: i32 = 6;

/// Makes both topics unless they exist; waits for the broker.
pub fn ensure() -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", crate::bootstrap()).create()?;
    let topics = [ORDERS, TOTALS].map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    for attempt in 1.. {
        match block_on(admin.create_topics(&topics, &AdminOptions::new())) {
            Ok(results) => {
                for result in results {
                    match result {
                        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                        Err((topic, code)) => bail!("cannot create topic {topic}: {code}"),
                    }
                }
                break;
            }
            Err(error) if attempt >= 60 => return Err(error.into()),
            Err(error) => eprintln!("waiting for the broker: {error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    Ok(())
}
