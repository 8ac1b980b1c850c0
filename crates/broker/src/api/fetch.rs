//! Fetch: whole batches below the high watermark, and waiting for more.
//!
//! Sessions (KIP-227) are declined: session id 0 tells the client to send full requests, which every client does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commitlog::{Error, Offset};
use kafka_wire::frame::RequestHead;
use kafka_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use kafka_wire::messages::{FetchRequest, FetchResponse};
use kafka_wire::{ApiKey, ErrorCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Connection, check_epoch, chunks, find};
use crate::door::Reply;
use crate::partition::Partition;

/// The longest a fetch waits, whatever the client asks: longer than any client's own request timeout.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A topic's partitions in the order of the request, or why they cannot be read.
type Found = Vec<Result<Arc<Partition>, ErrorCode>>;

/// A request with its partitions looked up.
struct Plan {
    topics: Vec<(FetchTopic, Found)>,
    max_bytes: usize,
    min_bytes: usize,
}

/// What one pass over the partitions gave.
struct Pass {
    response: FetchResponse,
    bytes: usize,
    /// Something must be told at once.
    urgent: bool,
}

/// Answers when enough bytes are there, or something is wrong, or the time is over.
pub(crate) fn handle(c: &Connection, head: RequestHead, request: FetchRequest) -> Reply {
    let c = c.clone();
    Reply::Later(Box::pin(async move {
        let response = fetch(&c, request, head.version).await;
        chunks(&head, &response)
    }))
}

async fn fetch(c: &Connection, request: FetchRequest, version: i16) -> FetchResponse {
    if request.session_id != 0 {
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        return FetchResponse { error_code, ..Default::default() };
    }
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    let stop = c.broker.tasks.token();
    let plan = plan(c, request, version);
    let more = Arc::new(Notify::new());
    let mut registered = false;
    loop {
        let pass = read_all(&plan);
        if pass.bytes >= plan.min_bytes || pass.urgent || Instant::now() >= deadline || plan.topics.is_empty()
        {
            count(c, &plan, &pass.response);
            return pass.response;
        }
        if !registered {
            // Looked at once more after registering, so that nothing which came meanwhile is missed.
            plan.partitions().for_each(|partition| partition.wait(&more));
            registered = true;
            continue;
        }
        tokio::select! {
            () = more.notified() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = stop.cancelled() => {
                count(c, &plan, &pass.response);
                return pass.response;
            }
        }
        registered = false;
    }
}

/// Tells the metrics what goes out.
fn count(c: &Connection, plan: &Plan, response: &FetchResponse) {
    let answered = response.responses.iter().flat_map(|topic| &topic.partitions);
    let found = plan.topics.iter().flat_map(|(_, found)| found);
    for (found, data) in found.zip(answered) {
        c.broker.metrics.told_error(ApiKey::Fetch, data.error_code);
        let Ok(partition) = found else { continue };
        match data.error_code {
            0 => {
                c.broker.metrics.fetched(&partition.topic, data.records.as_ref().map_or(0, Bytes::len) as u64)
            }
            _ => c.broker.metrics.failed_fetch(&partition.topic),
        }
    }
}

fn plan(c: &Connection, request: FetchRequest, version: i16) -> Plan {
    let most = c.broker.server.number("fetch.max.bytes");
    let look_up = |topic: &FetchTopic| {
        let (found, missing) = match version >= 13 {
            true => (c.broker.catalog.topic_by_id(&topic.topic_id), ErrorCode::UnknownTopicId),
            false => (c.broker.catalog.topic(&topic.topic), ErrorCode::UnknownTopicOrPartition),
        };
        topic.partitions.iter().map(|p| find(found.as_ref(), p.partition, missing)).collect()
    };
    let topics = request.topics.into_iter().map(|topic| {
        let found = look_up(&topic);
        (topic, found)
    });
    Plan {
        topics: topics.collect(),
        max_bytes: i64::from(request.max_bytes).clamp(0, most) as usize,
        min_bytes: request.min_bytes.max(0) as usize,
    }
}

impl Plan {
    fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.topics.iter().flat_map(|(_, found)| found.iter().flatten())
    }
}

fn read_all(plan: &Plan) -> Pass {
    let mut pass = Pass { response: FetchResponse::default(), bytes: 0, urgent: false };
    for (topic, found) in &plan.topics {
        let mut partitions = Vec::with_capacity(found.len());
        for (wanted, found) in topic.partitions.iter().zip(found) {
            let budget = plan.max_bytes.saturating_sub(pass.bytes);
            let data = read(wanted, found, budget, pass.bytes == 0);
            pass.bytes += data.records.as_ref().map_or(0, Bytes::len);
            pass.urgent |= data.error_code != 0 || data.diverging_epoch.end_offset >= 0;
            partitions.push(data);
        }
        let response =
            FetchableTopicResponse { topic: topic.topic.clone(), topic_id: topic.topic_id, partitions };
        pass.response.responses.push(response);
    }
    pass
}

/// Reads one partition. `first`: nothing was read yet, so that a batch larger than every limit still gets through.
fn read(
    wanted: &FetchPartition,
    found: &Result<Arc<Partition>, ErrorCode>,
    budget: usize,
    first: bool,
) -> PartitionData {
    let mut data = PartitionData {
        partition_index: wanted.partition,
        high_watermark: -1,
        records: Some(Bytes::new()),
        ..Default::default()
    };
    let partition = match found {
        Ok(partition) if partition.is_deleted() => return refused(data, ErrorCode::UnknownTopicOrPartition),
        Ok(partition) => partition,
        Err(code) => return refused(data, *code),
    };
    if let Err(code) = check_epoch(partition, wanted.current_leader_epoch) {
        return refused(data, code);
    }
    let high_watermark = partition.high_watermark();
    data.high_watermark = high_watermark.get();
    data.last_stable_offset = high_watermark.get();
    data.log_start_offset = partition.log_start().get();
    let from = Offset(wanted.fetch_offset);
    if let Some(diverging) = diverges(partition, wanted.last_fetched_epoch, from) {
        data.diverging_epoch = diverging;
        return data;
    }
    if from > high_watermark {
        // Beyond what is visible, yet in the log: it will be visible soon. Beyond the log: it never was.
        let code =
            if from > partition.log().log().end() { ErrorCode::OffsetOutOfRange } else { return data };
        return refused(data, code);
    }
    let max_bytes = (wanted.partition_max_bytes.max(0) as usize).min(budget);
    match partition.log().log().read(from, high_watermark, max_bytes, first && budget > 0) {
        Ok(chunk) => data.records = Some(chunk.bytes),
        Err(Error::OutOfRange { .. }) => return refused(data, ErrorCode::OffsetOutOfRange),
        Err(error) => {
            tracing::error!(topic = %partition.topic, partition = partition.index, %error, "read failed");
            return refused(data, ErrorCode::KafkaStorageError);
        }
    }
    data
}

fn refused(data: PartitionData, code: ErrorCode) -> PartitionData {
    PartitionData { error_code: code.code(), ..data }
}

/// Where the log of a reader that last read in `epoch` parts from this one (KIP-595).
fn diverges(partition: &Partition, epoch: i32, from: Offset) -> Option<EpochEndOffset> {
    if epoch < 0 {
        return None;
    }
    let end = partition.log().epoch_end(epoch, partition.log().log().end());
    let parted = end.epoch < epoch || end.end < from;
    parted.then_some(EpochEndOffset { epoch: end.epoch, end_offset: end.end.get() })
}
