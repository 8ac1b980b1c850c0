//! ListOffsets and OffsetForLeaderEpoch: offsets by time, by name, by epoch.

use std::collections::BTreeSet;

use commitlog::kafka::EpochEnd;
use commitlog::{Chunk, Offset};
use kafka_wire::ErrorCode;
use kafka_wire::messages::list_offsets_request::ListOffsetsPartition;
use kafka_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_wire::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use kafka_wire::record::Batch;

use super::{Connection, check_epoch, find};
use crate::partition::Partition;

/// How large a batch may grow when it is searched for a record: what validation let in.
const DECOMPRESSED_MAX_BYTES: usize = 64 << 20;

/// `isolation.level=read_committed`.
const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// An offset, the timestamp of its record and the epoch that wrote it; -1 where there is none.
struct Found {
    offset: i64,
    timestamp_ms: i64,
    epoch: i32,
}

const NOTHING: Found = Found { offset: -1, timestamp_ms: -1, epoch: -1 };

/// Answers ListOffsets.
pub(crate) fn handle(c: &Connection, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let read_committed = request.isolation_level == READ_COMMITTED;
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for (topic, partition) in
        request.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p)))
    {
        if !seen.insert((topic.clone(), partition.partition_index)) {
            twice.insert((topic.clone(), partition.partition_index));
        }
    }
    let topics = request.topics.into_iter().map(|topic| {
        let found = c.broker.catalog.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            if twice.contains(&(topic.name.clone(), wanted.partition_index)) {
                return answer(wanted, Err(ErrorCode::InvalidRequest));
            }
            if !is_known(wanted.timestamp, version) {
                return answer(wanted, Err(ErrorCode::UnsupportedVersion));
            }
            let partition = find(found.as_ref(), wanted.partition_index, ErrorCode::UnknownTopicOrPartition);
            answer(wanted, partition.and_then(|partition| look(&partition, wanted, read_committed)))
        });
        ListOffsetsTopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

/// Whether a time may be asked for in a version: each special one came with its own.
fn is_known(timestamp: i64, version: i16) -> bool {
    let since = match timestamp {
        0.. | LATEST | EARLIEST => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => return false,
    };
    version >= since
}

fn answer(wanted: &ListOffsetsPartition, found: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let partition_index = wanted.partition_index;
    match found {
        Ok(Found { offset, timestamp_ms: timestamp, epoch: leader_epoch }) => {
            ListOffsetsPartitionResponse { partition_index, error_code: 0, timestamp, offset, leader_epoch }
        }
        Err(code) => {
            ListOffsetsPartitionResponse { partition_index, error_code: code.code(), ..Default::default() }
        }
    }
}

fn look(
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Found, ErrorCode> {
    check_epoch(partition, wanted.current_leader_epoch)?;
    let visible = if read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
    let at = |offset: Offset, epoch| Ok(Found { offset: offset.get(), timestamp_ms: -1, epoch });
    match wanted.timestamp {
        LATEST => at(visible, partition.leader_epoch()),
        EARLIEST | EARLIEST_LOCAL => {
            let start = partition.log_start();
            at(start, partition.log().epoch_of(start))
        }
        // Nothing is tiered.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOTHING),
        MAX_TIMESTAMP => match partition.log().max_timestamp() {
            Some(max) => by_time(partition, max.timestamp_ms, visible),
            None => Ok(NOTHING),
        },
        timestamp if timestamp < 0 => Err(ErrorCode::UnsupportedVersion),
        timestamp => by_time(partition, timestamp, visible),
    }
}

/// The first visible record that is not older than `timestamp_ms`.
fn by_time(partition: &Partition, timestamp_ms: i64, upto: Offset) -> Result<Found, ErrorCode> {
    let storage = |error: &dyn std::fmt::Display| {
        tracing::error!(topic = %partition.topic, partition = partition.index, %error, "search by time failed");
        ErrorCode::KafkaStorageError
    };
    let chunk =
        partition.with_log(|log| log.read_from_time(timestamp_ms, upto)).map_err(|error| storage(&error))?;
    if chunk.next.is_none() {
        return Ok(NOTHING);
    }
    first_record(&chunk, timestamp_ms, partition.log_start()).map_err(|error| storage(&error))
}

fn first_record(
    chunk: &Chunk,
    timestamp_ms: i64,
    start: Offset,
) -> Result<Found, kafka_wire::record::RecordError> {
    for batch in kafka_wire::record::batches(&chunk.bytes) {
        let batch: Batch<'_> = batch?;
        let mut records = batch.records(DECOMPRESSED_MAX_BYTES)?;
        while let Some(record) = records.next() {
            let record = record?;
            let time = if batch.is_log_append_time() { batch.max_timestamp() } else { record.timestamp };
            if time >= timestamp_ms && record.offset >= start.get() {
                return Ok(Found { offset: record.offset, timestamp_ms: time, epoch: batch.leader_epoch() });
            }
        }
    }
    Ok(NOTHING)
}

/// Answers OffsetForLeaderEpoch (KIP-320).
pub(crate) fn epochs(c: &Connection, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let found = c.broker.catalog.topic(&topic.topic);
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = find(found.as_ref(), wanted.partition, ErrorCode::UnknownTopicOrPartition);
            epoch_answer(wanted, partition.and_then(|partition| epoch_end(&partition, wanted)))
        });
        OffsetForLeaderTopicResult { partitions: partitions.collect(), topic: topic.topic }
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }
}

fn epoch_end(partition: &Partition, wanted: &OffsetForLeaderPartition) -> Result<EpochEnd, ErrorCode> {
    check_epoch(partition, wanted.current_leader_epoch)?;
    Ok(partition.log().epoch_end(wanted.leader_epoch, partition.high_watermark()))
}

fn epoch_answer(wanted: &OffsetForLeaderPartition, end: Result<EpochEnd, ErrorCode>) -> EpochEndOffset {
    let partition = wanted.partition;
    match end {
        Ok(end) => {
            EpochEndOffset { error_code: 0, partition, leader_epoch: end.epoch, end_offset: end.end.get() }
        }
        Err(code) => EpochEndOffset { error_code: code.code(), partition, ..Default::default() },
    }
}
