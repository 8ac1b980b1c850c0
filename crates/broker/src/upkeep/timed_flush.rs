//! `flush.ms` where acknowledging does not wait for the disk: a log is flushed so long after its first unflushed record.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::api::Broker;
use crate::partition::Partition;

/// Logs that wait for their flush, by when it is due. A log waits once.
#[derive(Debug, Default)]
pub(crate) struct TimedFlushes {
    due: Mutex<BTreeMap<(Instant, usize), Weak<Partition>>>,
    earlier: Notify,
}

impl TimedFlushes {
    /// Has `partition` flushed after `delay`.
    pub(crate) fn add(&self, partition: &Arc<Partition>, delay: Duration) {
        let key = (Instant::now() + delay, Arc::as_ptr(partition) as usize);
        let mut due = self.due.lock();
        let first = due.first_key_value().is_none_or(|(at, _)| key < *at);
        due.insert(key, Arc::downgrade(partition));
        drop(due);
        if first {
            self.earlier.notify_one();
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.lock().first_key_value().map(|((at, _), _)| *at)
    }

    fn take(&self, now: Instant) -> Vec<Weak<Partition>> {
        let mut due = self.due.lock();
        let later = due.split_off(&(now, usize::MAX));
        std::mem::replace(&mut *due, later).into_values().collect()
    }
}

/// Asks for flushes when they are due.
pub(super) async fn keep(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    let flushes = &broker.catalog.root.timed;
    loop {
        let next = flushes.next();
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = flushes.earlier.notified() => {}
            () = sleep => {
                for partition in flushes.take(Instant::now()).iter().filter_map(Weak::upgrade) {
                    partition.flush_now();
                }
            }
        }
    }
}
