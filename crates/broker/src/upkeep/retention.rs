//! Segments that are too old or too many go (`cleanup.policy` contains `delete`), and producers nobody heard of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::task::Tasks;
use commitlog::kafka::Retention;

use super::remove_later;
use crate::Error;
use crate::api::Broker;
use crate::log_dir::LogDir;

/// Looks as often as `log.retention.check.interval.ms` says.
pub(super) async fn keep(broker: Arc<Broker>, tasks: Tasks) -> Result<(), Error> {
    let stop = tasks.token();
    loop {
        let interval = broker.server.number("log.retention.check.interval.ms").max(1) as u64;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(interval)) => {}
        }
        let looking = broker.clone();
        match tokio::task::spawn_blocking(move || retain_all(&looking)).await {
            Ok(retired) => {
                retired.into_iter().for_each(|(dir, files, delay)| remove_later(&dir, &tasks, files, delay))
            }
            Err(error) => tracing::error!(%error, "retention panicked"),
        }
    }
}

/// Retires what every topic's settings no longer keep; files with the time they stay.
fn retain_all(broker: &Broker) -> Vec<(Arc<LogDir>, Vec<PathBuf>, Duration)> {
    let now_ms = broker.catalog.root.clock.unix_ms();
    let mut retired = Vec::new();
    for topic in broker.catalog.snapshot().by_name.values() {
        let settings = &topic.settings;
        let retention = Retention { ms: settings.retention_ms, bytes: settings.retention_bytes };
        let delay = Duration::from_millis(settings.file_delete_delay_ms.max(0) as u64);
        for partition in topic.served() {
            partition.log().expire_producers(now_ms);
            if !settings.deletes {
                continue;
            }
            let upto = partition.high_watermark();
            match partition.change_log(|log| log.retain(retention, upto, now_ms)) {
                Ok((files, _)) if files.is_empty() => {}
                Ok((files, dir)) => {
                    broker.catalog.root.checkpoints_due();
                    retired.push((dir, files, delay));
                }
                Err(error) => {
                    tracing::warn!(topic = %topic.name, partition = partition.index, %error, "retention failed")
                }
            }
        }
    }
    retired
}
