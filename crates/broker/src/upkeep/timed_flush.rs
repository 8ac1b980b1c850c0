//! `flush.ms` where acknowledging does not wait for the disk: a log is flushed so long after its first unflushed record.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::due::Due;
use crate::Error;
use crate::api::Broker;
use crate::partition::Partition;

/// Logs that wait for their flush, by when it is due and where they are in memory. A log waits once.
pub(crate) type TimedFlushes = Due<usize, Weak<Partition>>;

impl TimedFlushes {
    /// Has `partition` flushed after `delay`.
    pub(crate) fn add(&self, partition: &Arc<Partition>, delay: Duration) {
        self.insert(Instant::now() + delay, Arc::as_ptr(partition) as usize, Arc::downgrade(partition));
    }
}

/// Asks for flushes when they are due.
pub(super) async fn keep(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    loop {
        let due = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            due = broker.catalog.root.timed.next() => due,
        };
        for partition in due.iter().filter_map(|(_, partition)| partition.upgrade()) {
            partition.flush_now();
        }
    }
}
