//! Carries partitions to other directories, as fast as `replica.alter.log.dirs.io.max.bytes.per.second` lets it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::api::Broker;
use crate::catalog::Moved;

/// Bytes a second for all moves.
const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
/// The most that a pass copies of a partition.
const PASS_BYTES: u64 = 8 << 20;
/// What could not go on (a full disk, a compaction under way) is tried again after this long.
const RETRY: Duration = Duration::from_secs(2);
/// The longest wait that the throttle asks for at a time: the rate may be changed meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Moves whatever is to be moved.
pub(super) async fn keep(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    let mut wait = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = broker.catalog.root.moves.notified() => {}
            () = sleep(wait) => {}
        }
        wait = loop {
            let rate = broker.server.text(RATE).and_then(|rate| rate.trim().parse::<u64>().ok());
            let rate = rate.unwrap_or(u64::MAX).max(1);
            let catalog = broker.catalog.clone();
            let budget = PASS_BYTES.min(rate);
            let moved = tokio::task::spawn_blocking(move || catalog.advance_moves(budget)).await;
            let moved = moved.unwrap_or_else(|error| {
                tracing::error!(%error, "moving partitions panicked");
                Moved { failed: true, ..Moved::default() }
            });
            let idle = moved.more && moved.bytes == 0;
            if moved.failed || idle || !moved.more {
                break (moved.failed || idle).then_some(RETRY);
            }
            let pause = Duration::from_secs_f64(moved.bytes as f64 / rate as f64).min(PAUSE_MAX);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        };
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
