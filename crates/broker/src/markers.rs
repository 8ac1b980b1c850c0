//! Markers: the ends of transactions, written to the partitions they were in.

use std::sync::Arc;
use std::time::Duration;

use commitlog::kafka::EndTxnMarker;
use coordinators::{Author, Markers, Response};
use kafka_wire::ErrorCode;

use crate::api::Broker;
use crate::catalog::Topic;
use crate::coordinator::append_marker;
use crate::names;
use crate::partition::Partition;

/// The first pause before markers that could not be written are tried again; it doubles...
const PAUSE: Duration = Duration::from_millis(100);
/// ...up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a marker says, and of whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub author: Author,
    pub marker: EndTxnMarker,
    pub version: i16,
}

/// Counts markers that wait, also where the wait is given up with the broker.
struct Waiting<'a>(&'a Broker, u64);

impl<'a> Waiting<'a> {
    fn new(broker: &'a Broker, count: usize) -> Self {
        broker.metrics.markers_wait(count as u64);
        Self(broker, count as u64)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.metrics.markers_go_on(self.1);
    }
}

/// Writes the markers of a transaction until all are durable. Partitions that are no more need none; one that is offline is
/// waited for.
pub(crate) async fn write_all(broker: Arc<Broker>, markers: Markers, coordinator_epoch: i32) -> Markers {
    let end = End {
        author: Author { producer_id: markers.producer_id, epoch: markers.epoch },
        marker: EndTxnMarker { commit: markers.commit, coordinator_epoch },
        version: markers.version,
    };
    let all =
        markers.partitions.iter().flat_map(|(topic, all)| all.iter().map(move |p| (topic.as_str(), *p)));
    let mut left: Vec<(&str, i32)> = all.collect();
    let mut pause = PAUSE;
    loop {
        let tries = left.iter().map(|(topic, index)| write(&broker, topic, *index, end));
        let results = futures::future::join_all(tries).await;
        let failed = left.into_iter().zip(results).filter(|((topic, index), result)| {
            let Err(code) = result else { return false };
            let (id, partition) = (&markers.transactional_id, format!("{topic}-{index}"));
            match code {
                ErrorCode::UnknownTopicOrPartition => false,
                // A newer producer or coordinator was there: the transaction has ended there already.
                ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced => {
                    tracing::warn!(transactional_id = id, partition, %code, "no marker: fenced");
                    false
                }
                code => {
                    tracing::warn!(transactional_id = id, partition, %code, "marker not written yet");
                    true
                }
            }
        });
        left = failed.map(|(place, _)| place).collect();
        if left.is_empty() {
            return markers;
        }
        let waiting = Waiting::new(&broker, left.len());
        tokio::time::sleep(pause).await;
        drop(waiting);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Writes one marker; durable when this returns.
pub(crate) async fn write(broker: &Arc<Broker>, topic: &str, index: i32, end: End) -> Result<(), ErrorCode> {
    let found = broker.catalog.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let place = found.place(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = place.served().ok_or(ErrorCode::KafkaStorageError)?;
    match &*found.name == names::OFFSETS {
        true => through_coordinator(broker, &found, index, end).await,
        false => directly(partition, end).await,
    }
}

async fn directly(partition: &Arc<Partition>, end: End) -> Result<(), ErrorCode> {
    match append_marker(partition, end.author, end.marker, end.version)? {
        None => Ok(()),
        Some(flushed) => match flushed.await {
            Ok(Ok(())) => Ok(()),
            _ => Err(partition.gone().unwrap_or(ErrorCode::KafkaStorageError)),
        },
    }
}

/// The offsets of the transaction count from here on, or are forgotten: the groups' coordinator writes the marker.
async fn through_coordinator(
    broker: &Arc<Broker>,
    topic: &Topic,
    index: i32,
    end: End,
) -> Result<(), ErrorCode> {
    let End { author, marker, version } = end;
    let epoch = (marker.coordinator_epoch, version);
    let ask = move |shard: &mut coordinators::Shard, now_ms, token| {
        shard.end_transaction(now_ms, token, author, marker.commit, epoch)
    };
    match broker.groups.ask_at(broker, topic, index, ask).await? {
        Response::EndTransaction(ErrorCode::None) => Ok(()),
        Response::EndTransaction(code) => Err(code),
        _ => Err(ErrorCode::UnknownServerError),
    }
}
