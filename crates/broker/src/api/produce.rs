//! Produce: validate, append, and wait for durability when asked to.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use commitlog::kafka::{AppendError, AppendInfo, KafkaBatch, ProducerError};
use kafka_wire::frame::RequestHead;
use kafka_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_wire::messages::{ProduceRequest, ProduceResponse};
use kafka_wire::record::{Batch, Compression, RecordError};
use kafka_wire::{ApiKey, ErrorCode};

use super::{Connection, chunks, find, now, rules};
use crate::catalog::{Refusal, Topic};
use crate::door::{Close, Reply};
use crate::partition::Flushed;

/// The first version whose clients can read zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
const ACKS_ALL: i16 = -1;

/// A partition's append and, when its answer must wait, what it waits for.
type Outcome = Result<(AppendInfo, Option<Flushed>, Option<i64>), Refused>;

/// Why a partition's records were refused, and because of which record.
struct Refused {
    refusal: Refusal,
    record: Option<i32>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, record: None }
    }
}

impl From<RecordError> for Refused {
    fn from(error: RecordError) -> Self {
        let record = match &error {
            RecordError::Timestamp { record, .. }
            | RecordError::NoKey(record)
            | RecordError::Malformed(record) => Some(*record),
            _ => None,
        };
        Self { refusal: Refusal::new(error.code(), error.to_string()), record }
    }
}

/// Appends what can be appended; the reply waits for the flusher when `acks=all` and durability is fsync.
pub(crate) fn handle(c: &Connection, head: RequestHead, request: ProduceRequest) -> Result<Reply, Close> {
    let (acks, version) = (request.acks, head.version);
    let transactional = request.transactional_id.is_some();
    let mut waits = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let by_id = version >= 13;
        let topic = match by_id {
            true => c.broker.catalog.topic_by_id(&data.topic_id),
            false => c.broker.catalog.topic(&data.name),
        };
        let missing = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let mut partition_responses = Vec::with_capacity(data.partition_data.len());
        for part in data.partition_data {
            let bytes = part.records.as_ref().map_or(0, Bytes::len) as u64;
            let outcome = refuse_early(acks, transactional)
                .and_then(|()| append(c, topic.as_ref(), missing, &head, part.index, part.records, acks));
            if outcome.is_err() {
                c.broker.metrics.refused_produce(topic.as_ref().map(|topic| &topic.name), bytes);
            }
            let (response, wait) = answer(part.index, outcome);
            c.broker.metrics.told_error(ApiKey::Produce, response.error_code);
            if let Some(wait) = wait {
                waits.push((responses.len(), partition_responses.len(), wait));
            }
            partition_responses.push(response);
        }
        responses.push(TopicProduceResponse {
            name: data.name,
            topic_id: data.topic_id,
            partition_responses,
        });
    }
    let response = ProduceResponse { responses, ..Default::default() };
    if acks == 0 {
        return silent(&response);
    }
    if waits.is_empty() {
        return now(&head, &response);
    }
    Ok(Reply::Later(Box::pin(async move { chunks(&head, &durable(response, waits).await) })))
}

/// acks=0: nobody reads an answer; an error shows as a closed connection.
fn silent(response: &ProduceResponse) -> Result<Reply, Close> {
    let mut all = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match all.find(|partition| partition.error_code != 0) {
        Some(partition) => {
            Err(Close::Refused(format!("produce with acks=0 failed: {}", partition.error_code)))
        }
        None => Ok(Reply::Silent),
    }
}

fn refuse_early(acks: i16, transactional: bool) -> Result<(), Refused> {
    if !matches!(acks, ACKS_ALL | 0 | 1) {
        return Err(Refusal::new(ErrorCode::InvalidRequiredAcks, format!("acks={acks}")).into());
    }
    if transactional {
        let text = "this broker serves no transactions";
        return Err(Refusal::new(ErrorCode::TransactionalIdAuthorizationFailed, text).into());
    }
    Ok(())
}

fn append(
    c: &Connection,
    topic: Option<&Arc<Topic>>,
    missing: ErrorCode,
    head: &RequestHead,
    index: i32,
    records: Option<Bytes>,
    acks: i16,
) -> Outcome {
    let partition = find(topic, index, missing).map_err(|code| Refusal::new(code, code.message()))?;
    let topic = topic.expect("its partition was found");
    if topic.is_internal() && head.client_id.as_deref() != Some("__admin_client") {
        return Err(Refusal::new(ErrorCode::InvalidTopicException, "the topic is internal").into());
    }
    if acks == ACKS_ALL && topic.settings.min_insync_replicas > 1 {
        let code = ErrorCode::NotEnoughReplicas;
        return Err(Refusal::new(code, "there is one replica, min.insync.replicas asks for more").into());
    }
    let records = records.unwrap_or_default();
    let now_ms = c.broker.now_ms();
    let (count, max_timestamp_ms) = validate(topic, &records, head.version, now_ms)?;
    // Alone in its frame the batch is changed where it lies; else it is copied.
    let mut batch = records.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let append_time = topic.settings.log_append_time.then_some(now_ms);
    if let Some(now_ms) = append_time {
        KafkaBatch::stamp(&mut batch, now_ms);
    } else if let Some(correct) = max_timestamp_ms {
        KafkaBatch::set_max_timestamp(&mut batch, correct);
    }
    let appended = partition.append(&mut batch, count, topic.settings.flush_messages, acks == ACKS_ALL);
    let (info, wait) = appended.map_err(|error| Refused::from(refusal(&error)))?;
    c.broker.metrics.produced(&topic.name, count as u64, batch.len() as u64);
    Ok((info, wait, append_time))
}

/// How many records there are, and the largest timestamp when the header has it wrong.
fn validate(
    topic: &Topic,
    records: &Bytes,
    version: i16,
    now_ms: i64,
) -> Result<(i64, Option<i64>), Refused> {
    let batch = Batch::single(records)?;
    if records.len() as i64 > topic.settings.max_message_bytes {
        let (size, most) = (records.len(), topic.settings.max_message_bytes);
        let text =
            format!("The record batch size of {size} bytes exceeds the maximum configured value of {most}");
        return Err(Refusal::new(ErrorCode::MessageTooLarge, text).into());
    }
    if records.len() as i64 > topic.settings.segment_bytes {
        return Err(Refusal::new(ErrorCode::RecordListTooLarge, "the batch is larger than a segment").into());
    }
    if batch.compression()? == Compression::Zstd && version < ZSTD_FROM {
        let code = ErrorCode::UnsupportedCompressionType;
        return Err(Refusal::new(code, "zstd needs version 7 of Produce").into());
    }
    if batch.is_transactional() {
        return Err(Refusal::new(ErrorCode::InvalidTxnState, "this broker serves no transactions").into());
    }
    let summary = batch.validate(&rules(topic), now_ms)?;
    let wrong = summary.max_timestamp != batch.max_timestamp();
    Ok((i64::from(summary.count), wrong.then_some(summary.max_timestamp)))
}

fn refusal(error: &AppendError) -> Refusal {
    let code = match error {
        AppendError::Producer(ProducerError::OutOfOrderSequence { .. }) => {
            ErrorCode::OutOfOrderSequenceNumber
        }
        AppendError::Producer(ProducerError::InvalidEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::Producer(ProducerError::InvalidTxnState { .. }) => ErrorCode::InvalidTxnState,
        AppendError::Producer(ProducerError::CoordinatorFenced { .. }) => {
            ErrorCode::TransactionCoordinatorFenced
        }
        AppendError::Log(_) => {
            tracing::warn!(%error, "append failed");
            ErrorCode::KafkaStorageError
        }
    };
    Refusal::new(code, error.to_string())
}

fn answer(index: i32, outcome: Outcome) -> (PartitionProduceResponse, Option<Flushed>) {
    let blank = PartitionProduceResponse { index, base_offset: -1, ..Default::default() };
    match outcome {
        Ok((info, wait, append_time)) => {
            let response = PartitionProduceResponse {
                base_offset: info.base_offset.get(),
                log_append_time_ms: append_time.unwrap_or(-1),
                log_start_offset: info.log_start.get(),
                ..blank
            };
            (response, wait)
        }
        Err(Refused { refusal, record }) => {
            let message = Some(refusal.text.clone());
            let one =
                |batch_index| BatchIndexAndErrorMessage { batch_index, batch_index_error_message: message };
            let response = PartitionProduceResponse {
                error_code: refusal.code.code(),
                record_errors: record.map(one).into_iter().collect(),
                error_message: Some(refusal.text),
                ..blank
            };
            (response, None)
        }
    }
}

/// Waits for the flushes; a partition whose flush failed says so.
async fn durable(mut response: ProduceResponse, waits: Vec<(usize, usize, Flushed)>) -> ProduceResponse {
    for (topic, partition, flushed) in waits {
        if matches!(flushed.await, Ok(Ok(()))) {
            continue;
        }
        let failed = &mut response.responses[topic].partition_responses[partition];
        failed.error_code = ErrorCode::KafkaStorageError.code();
        failed.error_message = Some("the records could not be made durable".to_owned());
        failed.base_offset = -1;
    }
    response
}
