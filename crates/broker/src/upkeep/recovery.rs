//! Keeps what a restart after a crash must verify small: at most [`PARTITION_BYTES_MAX`] a partition and
//! [`TOTAL_BYTES_MAX`] in all beyond the recovery points, as far as the disk keeps up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commitlog::Flush;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::api::Broker;
use crate::partition::Partition;

/// A partition with this much beyond its recovery point gets a checkpoint: half of what a restart may have to read.
pub(crate) const PARTITION_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// So much in all partitions, and the fullest get one.
pub(crate) const TOTAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Once checkpoints are made, they are made until this is left, so that their cost is spread.
const TOTAL_BYTES_GOAL: u64 = 128 * 1024 * 1024;
/// In page-cache durability, writeback of a partition begins after so many bytes: small steps keep the disk's queue, and
/// with it the tails, short.
pub(crate) const WRITEBACK_BYTES: u64 = 4 * 1024 * 1024;
/// Checkpoint files are written this long after something changed, so that many changes share a write.
const CHECKPOINT_DELAY: Duration = Duration::from_secs(5);

/// Asks the flusher's thread to begin writing a partition's dirty pages, without waiting for them.
pub(crate) struct Writeback(pub Arc<Partition>);

impl Flush for Writeback {
    fn flush(&self) -> io::Result<()> {
        self.0.log().log().start_writeback();
        Ok(())
    }
}

/// Moves recovery points up when too much lies beyond them.
pub(super) async fn keep(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = broker.catalog.root.recovery.notified() => {}
        }
        // Appends tell when a limit is passed, not while it stays so: what came during a pass may be too much again.
        loop {
            let working = broker.clone();
            let moved = tokio::task::spawn_blocking(move || advance(&working)).await;
            let moved = moved.unwrap_or_else(|error| {
                tracing::error!(%error, "moving the recovery points panicked");
                false
            });
            if !moved || stop.is_cancelled() || !is_too_much(&broker) {
                break;
            }
        }
    }
}

fn is_too_much(broker: &Broker) -> bool {
    broker.catalog.root.beyond_recovery.load(Ordering::Relaxed) >= TOTAL_BYTES_MAX
}

/// Gives the fullest partitions checkpoints; whether any got one.
fn advance(broker: &Broker) -> bool {
    let root = &broker.catalog.root;
    let mut partitions: Vec<_> =
        broker.catalog.partitions().into_iter().filter(|p| p.beyond_recovery_point() > 0).collect();
    partitions.sort_by_key(|partition| std::cmp::Reverse(partition.beyond_recovery_point()));
    let mut moved = false;
    for partition in partitions {
        let much = partition.beyond_recovery_point() >= PARTITION_BYTES_MAX / 2;
        if !much && root.beyond_recovery.load(Ordering::Relaxed) <= TOTAL_BYTES_GOAL {
            break;
        }
        moved |= partition.checkpoint();
    }
    if moved {
        broker.catalog.write_checkpoints();
    }
    moved
}

/// Writes the offset checkpoints a while after something changed.
pub(super) async fn keep_checkpoints(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = broker.catalog.root.checkpoints.notified() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(CHECKPOINT_DELAY) => {}
        }
        let catalog = broker.catalog.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || catalog.write_checkpoints()).await {
            tracing::error!(%error, "writing offset checkpoints panicked");
        }
    }
}
