//! Produce: verify the transaction, validate, append, and wait for durability when asked to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use commitlog::kafka::{AppendError, AppendInfo, BatchHeader, KafkaBatch, Origin, Verified};
use coordinators::transactions::Partitions;
use kafka_wire::frame::RequestHead;
use kafka_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_wire::messages::{ProduceRequest, ProduceResponse, produce_request};
use kafka_wire::record::{Batch, Compression, Fault, RecordError, Rules, patch_create_time, recompress};
use kafka_wire::{ApiKey, ErrorCode, Uuid};

use super::{Connection, chunks, find, now, rules};
use crate::catalog::Topic;
use crate::coordinator::producer_error;
use crate::door::{Answer, Close, Reply};
use crate::partition::{Append, Flushed, Partition};
use crate::transactions::{Member, Opening};

/// The first version whose clients can read zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// The version whose clients know TRANSACTION_ABORTABLE, and the first that relies on the broker to add partitions to
/// transactions (KIP-890).
const ABORTABLE_FROM: i16 = 11;
const ADDS_FROM: i16 = 12;
const ACKS_ALL: i16 = -1;

/// The least that a batch of any magic says it holds (`LegacyRecord.RECORD_OVERHEAD_V0`).
const BODY_BYTES_MIN: i32 = 14;
/// The most bytes a compressed body may grow to.
const DECOMPRESSED_MAX_BYTES: usize = 64 << 20;
/// Kafka's message shows so many records at fault.
const SHOWN_MAX: usize = 3;

/// A partition's append and, when its answer must wait, what it waits for.
type Outcome = Result<(AppendInfo, Option<Flushed>, Option<i64>), Refused>;

/// Why a partition's records were refused. Kafka tells a text only where single records are at fault.
struct Refused {
    code: ErrorCode,
    /// For all of them, and for each with its place in the batch.
    texts: Option<(String, Vec<(i32, String)>)>,
    /// Where the log begins, once it was looked at.
    log_start: i64,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self { code, texts: None, log_start: -1 }
    }
}

impl Refused {
    fn at(code: ErrorCode, partition: &Partition) -> Self {
        Self { log_start: partition.log_start().get(), ..code.into() }
    }

    /// What `LogValidator` found in a batch for `partition`.
    fn invalid(error: &RecordError, partition: &Partition, rules: &Rules, now_ms: i64) -> Self {
        if let RecordError::Codec(_) = error {
            return Self::at(ErrorCode::UnknownServerError, partition);
        }
        let RecordError::Faults(faults) = error else {
            let known_late = !matches!(error, RecordError::Checksum { .. });
            let log_start = if known_late { partition.log_start().get() } else { -1 };
            return Self { log_start, ..error.code().into() };
        };
        let tell = |(record, fault): &(i32, Fault)| (*record, fault_text(fault, partition, rules, now_ms));
        let each: Vec<(i32, String)> = faults.iter().map(tell).collect();
        let all = match error.code() {
            ErrorCode::InvalidTimestamp => {
                "One or more records have been rejected due to invalid timestamp".into()
            }
            _ => {
                let shown = |(record, text): &(i32, String)| {
                    format!("RecordError(batchIndex={record}, message='{text}')")
                };
                let first: Vec<String> = each.iter().take(SHOWN_MAX).map(shown).collect();
                format!(
                    "One or more records have been rejected due to {} record errors in total, and only showing the \
                     first three errors at most: [{}]",
                    each.len(),
                    first.join(", ")
                )
            }
        };
        Self { texts: Some((all, each)), ..Self::at(error.code(), partition) }
    }
}

fn fault_text(fault: &Fault, partition: &Partition, rules: &Rules, now_ms: i64) -> String {
    match fault {
        Fault::NoKey => format!(
            "Compacted topic cannot accept message without key in topic partition {}-{}.",
            partition.topic, partition.index
        ),
        Fault::Timestamp { timestamp, offset } => format!(
            "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp should be within \
             [{}, {}]",
            now_ms.wrapping_sub(rules.timestamp_before_max_ms),
            now_ms.wrapping_add(rules.timestamp_after_max_ms)
        ),
        Fault::AppendTime { timestamp, offset, sizes: (key, value) } => format!(
            "Invalid timestamp type in message DefaultRecord(offset={offset}, timestamp={timestamp}, key={key} bytes, \
             value={value} bytes). Producer should not set timestamp type to LogAppendTime."
        ),
    }
}

/// A batch that may be appended, and whether it was verified to be in a transaction.
struct Ready {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    records: Bytes,
    verified: Verified,
}

/// What is to be appended to a partition.
struct Part {
    index: i32,
    bytes: u64,
    ready: Result<Ready, Refused>,
}

struct TopicWork {
    name: String,
    topic_id: Uuid,
    topic: Option<Arc<Topic>>,
    parts: Vec<Part>,
}

/// A request taken apart.
struct Work {
    head: RequestHead,
    acks: i16,
    transactional_id: Option<String>,
    topics: Vec<TopicWork>,
}

/// A request whose records are appended.
struct Appended {
    head: RequestHead,
    acks: i16,
    response: ProduceResponse,
    waits: Vec<(usize, usize, Flushed)>,
}

/// A produce that has not appended its records yet; the connection's later ones wait for it.
struct Turn(Arc<AtomicUsize>);

impl Turn {
    fn take(deferred: &Arc<AtomicUsize>) -> Self {
        deferred.fetch_add(1, Ordering::AcqRel);
        Self(deferred.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Appends what can be appended; the reply waits for the flusher when `acks=all` and durability is fsync. Where a batch
/// opens a transaction, its coordinator is asked first, and what comes behind it on the connection waits too: a producer's
/// batches are appended in the order it sent them.
pub(crate) fn handle(c: &Connection, head: RequestHead, request: ProduceRequest) -> Result<Reply, Close> {
    if let Some((code, text)) = refuse_all(&request) {
        return refused_all(&head, request, code, text);
    }
    let mut work = Work::read(c, head, request);
    if c.deferred.load(Ordering::Acquire) == 0 && !work.opens_transactions() {
        return work.append(c).reply();
    }
    let (c, turn) = (c.clone(), Turn::take(&c.deferred));
    Ok(Reply::Later(Box::pin(async move {
        work.verify(&c).await;
        let appended = work.append(&c);
        drop(turn);
        appended.finish().await
    })))
}

impl Work {
    fn read(c: &Connection, head: RequestHead, request: ProduceRequest) -> Self {
        let by_id = head.version >= 13;
        let missing = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let of_topic = |data: produce_request::TopicProduceData| {
            let topic = match by_id {
                true => c.broker.catalog.topic_by_id(&data.topic_id),
                false => c.broker.catalog.topic(&data.name),
            };
            let part = |part: produce_request::PartitionProduceData| Part {
                index: part.index,
                bytes: part.records.as_ref().map_or(0, Bytes::len) as u64,
                ready: ready(topic.as_ref(), missing, head.version, part.index, part.records),
            };
            let parts = data.partition_data.into_iter().map(part).collect();
            TopicWork { name: data.name, topic_id: data.topic_id, topic, parts }
        };
        let topics = request.topic_data.into_iter().map(of_topic).collect();
        Self { acks: request.acks, transactional_id: request.transactional_id, topics, head }
    }

    fn ready(&mut self) -> impl Iterator<Item = &mut Part> {
        self.topics.iter_mut().flat_map(|topic| &mut topic.parts)
    }

    /// Whether a batch belongs to a transaction that is not open in its partition.
    fn opens_transactions(&mut self) -> bool {
        self.transactional_id.is_some()
            && self.ready().filter_map(|part| part.ready.as_ref().ok()).any(|ready| {
                transactional(&ready.records).is_some_and(|batch| {
                    let log = ready.partition.log();
                    !log.is_in_transaction(batch.producer_id, batch.producer_epoch)
                })
            })
    }

    /// Asks the coordinator about transactions that are not open in their partitions; what it refuses is not appended.
    async fn verify(&mut self, c: &Connection) {
        let Some(transactional_id) = self.transactional_id.clone() else { return };
        let opening = match self.head.version {
            ADDS_FROM.. => Opening::Add,
            ABORTABLE_FROM => Opening::Verify,
            _ => Opening::VerifyOld,
        };
        let waived = !opening.rises() && !c.broker.server.is("transaction.partition.verification.enable");
        let of = |part: &mut Part| transactional(&part.ready.as_ref().ok()?.records);
        let producers: BTreeSet<_> =
            self.ready().filter_map(of).map(|batch| (batch.producer_id, batch.producer_epoch)).collect();
        if producers.len() > 1 {
            self.ready().for_each(|part| part.ready = Err(ErrorCode::InvalidProducerIdMapping.into()));
        }
        let Some((producer_id, epoch)) = producers.first().copied() else { return };
        let mut partitions = Partitions::new();
        for Part { index, ready, .. } in self.ready() {
            let Ok(ready) = ready else { continue };
            let Some(batch) = transactional(&ready.records) else { continue };
            let (log, sequence) = (ready.partition.log(), batch.base_sequence);
            match log.begin_verification(producer_id, epoch, sequence, opening.rises()) {
                // It is open, and if a marker comes before the batch, the batch is refused.
                None => {}
                Some(_) if waived => ready.verified = Verified::Waived,
                Some(guard) => {
                    ready.verified = Verified::By(guard);
                    partitions.entry(ready.topic.name.to_string()).or_default().insert(*index);
                }
            }
        }
        if partitions.is_empty() {
            return;
        }
        let member = Member { transactional_id, producer_id, epoch };
        let told = c.broker.transactions.open(&c.broker, &member, &partitions, opening).await;
        for part in self.ready() {
            let Ok(Ready { topic, verified: Verified::By(_), .. }) = &part.ready else { continue };
            let mine =
                |(name, index, _): &&(String, i32, ErrorCode)| *name == *topic.name && *index == part.index;
            match told.iter().find(mine) {
                Some((.., code)) if !code.is_ok() => part.ready = Err(unverified(*code, opening)),
                _ => {}
            }
        }
    }

    fn append(self, c: &Connection) -> Appended {
        let (mut waits, mut responses) = (Vec::new(), Vec::with_capacity(self.topics.len()));
        for TopicWork { name, topic_id, topic, parts } in self.topics {
            let mut partition_responses = Vec::with_capacity(parts.len());
            for Part { index, bytes, ready } in parts {
                let outcome = ready.and_then(|ready| append(c, ready, &self.head, self.acks));
                if outcome.is_err() {
                    c.broker.metrics.refused_produce(topic.as_ref().map(|topic| &topic.name), bytes);
                }
                let (response, wait) = answer(index, outcome);
                c.broker.metrics.told_error(ApiKey::Produce, response.error_code);
                if let Some(wait) = wait {
                    waits.push((responses.len(), partition_responses.len(), wait));
                }
                partition_responses.push(response);
            }
            responses.push(TopicProduceResponse { name, topic_id, partition_responses });
        }
        let response = ProduceResponse { responses, ..Default::default() };
        Appended { head: self.head, acks: self.acks, response, waits }
    }
}

impl Appended {
    fn reply(self) -> Result<Reply, Close> {
        if self.acks == 0 {
            return silent(&self.response);
        }
        if self.waits.is_empty() {
            return now(&self.head, &self.response);
        }
        Ok(Reply::Later(Box::pin(self.finish())))
    }

    async fn finish(self) -> Option<Answer> {
        if self.acks == 0 {
            // Without an answer to put it in, an error shows as a closed connection.
            return silent(&self.response).is_ok().then(Answer::default);
        }
        chunks(&self.head, &durable(self.response, self.waits).await)
    }
}

/// The header of a batch of a transaction.
fn transactional(records: &[u8]) -> Option<BatchHeader> {
    BatchHeader::parse(records).filter(|batch| batch.is_transactional() && batch.has_producer())
}

/// Why a batch that its coordinator does not agree to is refused: errors that producers cannot do anything about are told
/// as one that they try again after.
fn unverified(code: ErrorCode, opening: Opening) -> Refused {
    let told = |code: ErrorCode, text: String| Refused { texts: Some((text, Vec::new())), ..code.into() };
    match code {
        ErrorCode::InvalidTxnState => told(code, "Partition was not added to the transaction".to_owned()),
        ErrorCode::ConcurrentTransactions if opening.rises() => code.into(),
        ErrorCode::ConcurrentTransactions
        | ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => told(
            ErrorCode::NotEnoughReplicas,
            format!(
                "Unable to verify the partition has been added to the transaction. Underlying error: {}",
                code.name()
            ),
        ),
        code => code.into(),
    }
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

/// Why a request is refused as a whole: Kafka looks for transactional batches before anything else, and on the way meets
/// bytes that are no batch.
fn refuse_all(request: &ProduceRequest) -> Option<(ErrorCode, Option<String>)> {
    // Nobody may write in a transaction without saying whose.
    let not_allowed = Some((ErrorCode::TransactionalIdAuthorizationFailed, None));
    let named = request.transactional_id.is_some();
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    for records in partitions.filter_map(|partition| partition.records.as_ref()) {
        let mut rest: &[u8] = records;
        while let Some(size) = rest.get(8..12).and_then(|size| size.try_into().ok()).map(i32::from_be_bytes) {
            if size < BODY_BYTES_MIN {
                let least = BODY_BYTES_MIN;
                let text = format!("Record size {size} is less than the minimum record overhead ({least})");
                return Some((ErrorCode::CorruptMessage, Some(text)));
            }
            match rest.get(16).map(|magic| *magic as i8) {
                Some(magic) if !(0..=2).contains(&magic) => {
                    let text = format!("Invalid magic found in record: {magic}");
                    return Some((ErrorCode::CorruptMessage, Some(text)));
                }
                _ => {}
            }
            match Batch::split(rest) {
                Ok((batch, _)) if batch.is_transactional() && !named => return not_allowed,
                Ok((_, after)) => rest = after,
                Err(_) => break,
            }
        }
    }
    None
}

fn refused_all(
    head: &RequestHead,
    request: ProduceRequest,
    code: ErrorCode,
    text: Option<String>,
) -> Result<Reply, Close> {
    let refused = |data: kafka_wire::messages::produce_request::TopicProduceData| TopicProduceResponse {
        name: data.name,
        topic_id: data.topic_id,
        partition_responses: data
            .partition_data
            .iter()
            .map(|partition| PartitionProduceResponse {
                error_message: text.clone(),
                ..answer(partition.index, Err(code.into())).0
            })
            .collect(),
    };
    let responses = request.topic_data.into_iter().map(refused).collect();
    let response = ProduceResponse { responses, ..Default::default() };
    if request.acks == 0 { silent(&response) } else { now(head, &response) }
}

fn ready(
    topic: Option<&Arc<Topic>>,
    missing: ErrorCode,
    version: i16,
    index: i32,
    records: Option<Bytes>,
) -> Result<Ready, Refused> {
    let partition = find(topic, index, missing)?;
    let topic = topic.expect("its partition was found").clone();
    let records = only_batch(records.unwrap_or_default(), version)?;
    Ok(Ready { topic, partition, records, verified: Verified::No })
}

fn append(c: &Connection, ready: Ready, head: &RequestHead, acks: i16) -> Outcome {
    let Ready { topic, partition, records, verified } = ready;
    if !matches!(acks, ACKS_ALL | 0 | 1) {
        return Err(ErrorCode::InvalidRequiredAcks.into());
    }
    if topic.is_internal() && head.client_id.as_deref() != Some("__admin_client") {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    // `min.insync.replicas` asks for no more than there are replicas (KIP-966): here for one, which is in sync.
    let now_ms = c.broker.now_ms();
    let (mut batch, count) = validated(&topic, &partition, records, now_ms)?;
    let append_time = topic.settings.log_append_time.then_some(now_ms);
    let how = Append {
        records: count,
        flush_records: topic.settings.flush_messages,
        wait: acks == ACKS_ALL,
        origin: Origin::Client(verified),
    };
    let (info, wait) = partition.append(&mut batch, how).map_err(|error| refusal(&error, &partition))?;
    c.broker.metrics.produced(&topic.name, count as u64, batch.len() as u64);
    Ok((info, wait, append_time))
}

/// The one batch of a partition, as `ProduceRequest.validateRecords` wants it. What follows it and is less than a batch
/// is cut off, as Kafka does.
fn only_batch(records: Bytes, version: i16) -> Result<Bytes, Refused> {
    let (batch, rest) =
        Batch::split(&records).map_err(|error| Refused::from(unreadable(&records, &error)))?;
    match Batch::split(rest) {
        Err(error) if unreadable(rest, &error) == ErrorCode::CorruptMessage => {
            return Err(ErrorCode::CorruptMessage.into());
        }
        Err(RecordError::Truncated) => {}
        Ok(_) | Err(_) => return Err(ErrorCode::InvalidRecord.into()),
    }
    if version < ZSTD_FROM {
        // There Kafka asks first whether it is zstd, and fails on what it does not know; later it fails with the log at hand.
        match batch.compression() {
            Ok(Compression::Zstd) => return Err(ErrorCode::UnsupportedCompressionType.into()),
            Ok(_) => {}
            Err(_) => return Err(ErrorCode::UnknownServerError.into()),
        }
    }
    let size = batch.bytes().len();
    Ok(if size == records.len() { records } else { records.slice(..size) })
}

/// What Kafka says to bytes that no batch begins with: impossible sizes and magics are corrupt, too few bytes are no
/// batch, and older magics are not for producers any more.
fn unreadable(bytes: &[u8], error: &RecordError) -> ErrorCode {
    let size = bytes.get(8..12).and_then(|size| size.try_into().ok()).map(i32::from_be_bytes);
    match error {
        RecordError::Magic(magic) if !(0..=2).contains(magic) => ErrorCode::CorruptMessage,
        RecordError::Truncated if size.is_some_and(|size| size < BODY_BYTES_MIN) => ErrorCode::CorruptMessage,
        // Whole, and yet smaller than a header.
        RecordError::Truncated if size.is_some_and(|size| size as usize + 12 <= bytes.len()) => {
            ErrorCode::CorruptMessage
        }
        error => error.code(),
    }
}

/// The batch as it goes into the log, and how many records it has.
fn validated(
    topic: &Topic,
    partition: &Partition,
    records: Bytes,
    now_ms: i64,
) -> Result<(BytesMut, i64), Refused> {
    let (settings, rules) = (&topic.settings, rules(topic));
    let invalid = |error: RecordError| Refused::invalid(&error, partition, &rules, now_ms);
    let batch = Batch::single(&records).map_err(invalid)?;
    if records.len() as i64 > settings.max_message_bytes {
        return Err(ErrorCode::MessageTooLarge.into());
    }
    let summary = batch.validate(&rules, now_ms).map_err(invalid)?;
    let other = settings.compression.filter(|(codec, _)| batch.compression() != Ok(*codec));
    let (claims_time, max_timestamp) = (batch.is_log_append_time(), batch.max_timestamp());
    let mut made = match other {
        Some((codec, level)) => {
            let made = recompress(batch, codec, level, DECOMPRESSED_MAX_BYTES).map_err(invalid)?;
            if made.len() as i64 > settings.max_message_bytes {
                return Err(ErrorCode::MessageTooLarge.into());
            }
            BytesMut::from(Bytes::from(made))
        }
        // Alone in its frame the batch is changed where it lies; else it is copied.
        None => records.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..])),
    };
    if made.len() as i64 > settings.segment_bytes {
        return Err(ErrorCode::RecordListTooLarge.into());
    }
    if settings.log_append_time {
        KafkaBatch::stamp(&mut made, now_ms);
    } else if claims_time || summary.max_timestamp != max_timestamp {
        patch_create_time(&mut made, summary.max_timestamp);
    }
    Ok((made, i64::from(summary.count)))
}

fn refusal(error: &AppendError, partition: &Partition) -> Refused {
    match error {
        AppendError::Producer(error) => Refused::at(producer_error(error), partition),
        AppendError::Log(_) => {
            tracing::warn!(%error, "append failed");
            ErrorCode::KafkaStorageError.into()
        }
    }
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
        Err(refused) => {
            let one = |(batch_index, text): (i32, String)| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: Some(text),
            };
            let (error_message, each) = refused.texts.unzip();
            let response = PartitionProduceResponse {
                error_code: refused.code.code(),
                log_start_offset: refused.log_start,
                record_errors: each.unwrap_or_default().into_iter().map(one).collect(),
                error_message,
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
