//! DeleteRecords: moving the start of a log.

use std::time::Duration;

use commitlog::{Error, Offset};
use kafka_wire::ErrorCode;
use kafka_wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Connection, find};
use crate::partition::Partition;
use crate::upkeep::remove_later;

/// Stands for the high watermark.
const TO_HIGH_WATERMARK: i64 = -1;

/// Answers DeleteRecords. The new starts are durable before the answer.
pub(crate) async fn delete(c: &Connection, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let found = c.broker.catalog.topic(&topic.name);
        let delay = found.as_ref().map_or(0, |topic| topic.settings.file_delete_delay_ms.max(0));
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = match found.as_ref().is_some_and(|topic| topic.is_internal()) {
                true => Err(ErrorCode::InvalidTopicException),
                false => find(found.as_ref(), wanted.partition_index, ErrorCode::UnknownTopicOrPartition),
            };
            let low = partition.and_then(|partition| {
                delete_one(c, &partition, wanted.offset, Duration::from_millis(delay as u64))
            });
            DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: low.as_ref().map_or(-1, |low| low.get()),
                error_code: low.err().map_or(0, ErrorCode::code),
            }
        });
        let partitions = partitions.collect();
        response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    let catalog = c.broker.catalog.clone();
    let written = tokio::task::spawn_blocking(move || catalog.write_checkpoints()).await;
    if !matches!(written, Ok(Ok(()))) {
        for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            (partition.error_code, partition.low_watermark) = (ErrorCode::KafkaStorageError.code(), -1);
        }
    }
    response
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
    let files = partition.log().delete_before(to).map_err(|error| match error {
        Error::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        error => {
            tracing::error!(topic = %partition.topic, partition = partition.index, %error, "records not deleted");
            ErrorCode::KafkaStorageError
        }
    })?;
    if !files.is_empty() {
        remove_later(&c.broker, &c.broker.tasks, files, delay);
    }
    Ok(partition.log_start())
}
