//! DeleteRecords: moving the start of a log.

use std::sync::Arc;
use std::time::Duration;

use commitlog::{Error, Offset};
use kafka_wire::ErrorCode;
use kafka_wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Connection, find};
use crate::catalog::{Catalog, Topic};
use crate::partition::Partition;
use crate::upkeep::remove_later;

/// Stands for the high watermark.
const TO_HIGH_WATERMARK: i64 = -1;

/// Answers DeleteRecords. The new starts are durable before the answer.
pub(crate) async fn delete(c: &Connection, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let (mut response, mut changed) = (DeleteRecordsResponse::default(), Vec::new());
    for topic in request.topics {
        let found = c.broker.catalog.topic(&topic.name);
        let delay = found.as_ref().map_or(0, |topic| topic.settings.file_delete_delay_ms.max(0));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let partition = look_up(found.as_ref(), wanted.partition_index);
            if let Ok(partition) = &partition {
                show_all(partition).await;
            }
            let low = partition.and_then(|partition| {
                let low = delete_one(c, &partition, wanted.offset, Duration::from_millis(delay as u64));
                changed.push(partition);
                low
            });
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: low.as_ref().map_or(-1, |low| low.get()),
                error_code: low.err().map_or(0, ErrorCode::code),
            });
        }
        response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    save_starts(c, &mut response, changed).await;
    response
}

/// A partition whose records clients may delete.
fn look_up(topic: Option<&Arc<Topic>>, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let partition = find(topic, index, ErrorCode::UnknownTopicOrPartition)?;
    match topic {
        Some(topic) if topic.is_internal() => Err(ErrorCode::InvalidTopicException),
        // Compaction alone decides what goes.
        Some(topic) if !topic.settings.deletes => Err(ErrorCode::PolicyViolation),
        _ => Ok(partition),
    }
}

/// What was acknowledged without being flushed (acks=1) is below the high watermark, too, before one counts from there.
async fn show_all(partition: &Arc<Partition>) {
    if partition.high_watermark() < partition.log().log().end()
        && let Some(flushed) = partition.request_flush(true)
    {
        // A failure is logged where it happens; the records then stay out of reach.
        let _ = flushed.await;
    }
}

/// Writes the checkpoints of the directories whose logs have new starts; where that fails, its partitions are told so.
async fn save_starts(c: &Connection, response: &mut DeleteRecordsResponse, changed: Vec<Arc<Partition>>) {
    let catalog = c.broker.catalog.clone();
    let written = tokio::task::spawn_blocking(move || {
        let mut unsaved = Vec::new();
        for dir in Catalog::dirs_of(&changed) {
            if let Err(error) = catalog.write_checkpoints_of(&dir) {
                tracing::warn!(dir = %dir.path.display(), %error, "offset checkpoints not written");
                unsaved.extend(changed.iter().filter(|p| Arc::ptr_eq(&p.dir(), &dir)).cloned());
            }
        }
        unsaved
    });
    let unsaved = match written.await {
        Ok(unsaved) => Some(unsaved),
        Err(error) => {
            tracing::error!(%error, "writing offset checkpoints panicked");
            None
        }
    };
    for topic in &mut response.topics {
        for partition in topic.partitions.iter_mut().filter(|partition| partition.error_code == 0) {
            let is_it = |p: &Arc<Partition>| *p.topic == *topic.name && p.index == partition.partition_index;
            if unsaved.as_ref().is_none_or(|unsaved| unsaved.iter().any(is_it)) {
                (partition.error_code, partition.low_watermark) = (ErrorCode::KafkaStorageError.code(), -1);
            }
        }
    }
}

fn delete_one(
    c: &Connection,
    partition: &Partition,
    offset: i64,
    delay: Duration,
) -> Result<Offset, ErrorCode> {
    let high_watermark = partition.high_watermark();
    let to = if offset == TO_HIGH_WATERMARK { high_watermark } else { Offset(offset) };
    if to.get() < 0 || to > high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let (files, dir) = partition.change_log(|log| log.delete_before(to)).map_err(|error| match error {
        Error::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        error => {
            tracing::error!(topic = %partition.topic, partition = partition.index, %error, "records not deleted");
            ErrorCode::KafkaStorageError
        }
    })?;
    if !files.is_empty() {
        remove_later(&dir, &c.broker.tasks, files, delay);
    }
    Ok(partition.log_start())
}
