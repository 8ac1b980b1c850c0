//! Takes out of service what has failed: the partitions of a directory, or one whose files have changed under the broker.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::api::Broker;
use crate::service::failures;

/// Acts on failures; ends with an error, and the broker with it, when no directory is left.
pub(super) async fn keep(broker: Arc<Broker>, stop: CancellationToken) -> Result<(), Error> {
    let root = &broker.catalog.root;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = root.troubles.wait() => {}
        }
        let catalog = broker.catalog.clone();
        match tokio::task::spawn_blocking(move || catalog.take_offline()).await {
            Ok(true) => root.checkpoints_due(),
            Ok(false) => return Err(Error::NoLogDirs(failures(&root.dirs))),
            Err(error) => tracing::error!(%error, "taking partitions offline panicked"),
        }
    }
}
