//! Fetch: whole batches below the high watermark (or the last stable offset), and waiting for more.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use commitlog::kafka::PartitionLog;
use commitlog::{Error, Found, Offset};
use kafka_wire::frame::RequestHead;
use kafka_wire::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use kafka_wire::messages::{FetchRequest, FetchResponse};
use kafka_wire::{ApiKey, ErrorCode, Uuid};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fetch_sessions::{FINAL_EPOCH, Key, NO_SESSION, TopicKey, Wanted};
use super::{Broker, Connection, check_epoch, chunks};
use crate::door::{Answer, Reply};
use crate::memory::Held;
use crate::partition::Partition;
use crate::quotas::{Kind, Who, throttle};
use crate::slices::{IN_MEMORY_BYTES_MAX, SLICE_BYTES_MAX, Slices};

/// The longest a fetch waits, whatever the client asks: longer than any client's own request timeout.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// What an answer may have however full the memory is: a batch of the usual largest size.
const ANSWER_BYTES_MIN: usize = 1 << 20;
/// What an answer has about a partition besides its records, about.
const PARTITION_BYTES: usize = 60;
/// First version that names topics by their ids.
const IDS_FROM: i16 = 13;
/// First version with sessions.
const SESSIONS_FROM: i16 = 7;
/// `isolation.level=read_committed`.
const READ_COMMITTED: i8 = 1;

/// A partition, or why it cannot be read.
type FoundPartition = Result<Arc<Partition>, ErrorCode>;

/// A request with its partitions looked up.
struct Plan {
    wanted: Vec<Wanted>,
    found: Vec<FoundPartition>,
    read_committed: bool,
    max_bytes: usize,
    min_bytes: usize,
}

/// What one pass over the partitions gave.
struct Pass {
    answers: Vec<PartitionData>,
    /// Records that are still in their files.
    slices: Slices,
    bytes: usize,
    /// Of these, bytes that were read.
    in_memory: usize,
    /// Where all logs were when they were read.
    mark: Mark,
    /// Something must be told at once.
    urgent: bool,
    /// There was no memory for more.
    short: bool,
}

/// How far all logs of a request are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Sum of the offsets up to which consumers see.
    visible: i64,
    /// Sum of the logs' bytes.
    bytes: u64,
    /// Some of those bytes are not visible yet, so that their growth tells nothing.
    loose: bool,
}

/// Answers when enough bytes are there, or something is wrong, or the time is over.
pub(crate) fn handle(c: &Connection, head: RequestHead, request: FetchRequest) -> Reply {
    let c = c.clone();
    Reply::Later(Box::pin(async move {
        let limited = c.broker.quotas.limits_clients();
        let who = limited.then(|| throttle::who(head.client_id.as_deref()));
        let (response, slices, held) = fetch(&c, request, head.version, who).await;
        Some(Answer { slices, held, ..chunks(&head, &response)? })
    }))
}

async fn fetch(
    c: &Connection,
    mut request: FetchRequest,
    version: i16,
    who: Option<Who>,
) -> (FetchResponse, Slices, Option<Held>) {
    let broker = &c.broker;
    let refuse = |code: ErrorCode| {
        let error_code = code.code();
        let response = FetchResponse { error_code, session_id: NO_SESSION, ..Default::default() };
        (response, Slices::default(), None)
    };
    let by_id = version >= IDS_FROM;
    let asked = match version {
        SESSIONS_FROM.. => (request.session_id, request.session_epoch),
        _ => (NO_SESSION, FINAL_EPOCH),
    };
    let (named, forgotten) = named(&mut request, by_id);
    let (context, wanted) = match broker.sessions.open(asked, by_id, named, &forgotten, broker.passed_ms()) {
        Ok(opened) => opened,
        Err(code) => return refuse(code),
    };
    let follower = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let mut plan = plan(broker, wanted, &request, follower);
    if let Some(who) = &who {
        plan.max_bytes = plan.max_bytes.min(broker.quotas.fetch_bytes_max(who));
        plan.min_bytes = plan.min_bytes.min(plan.max_bytes);
    }
    let (answers, slices, held) = wait_and_read(c, &plan, request.max_wait_ms).await;
    let throttle_time_ms = who.map_or(0, |who| pause(c, &who, &answers));
    if throttle_time_ms > 0 {
        // Nothing is told now, so that nothing is used; the client asks again when it may.
        let session_id = context.session_id();
        let response = FetchResponse { throttle_time_ms, session_id, ..Default::default() };
        return (response, Slices::default(), None);
    }
    count(broker, &plan, &answers);
    for (wanted, found) in plan.wanted.iter_mut().zip(&plan.found) {
        if let Ok(partition) = found {
            (wanted.known, wanted.name) = (Arc::downgrade(partition), Some(partition.topic.clone()));
        }
    }
    match broker.sessions.close(context, plan.wanted, answers, broker.passed_ms()) {
        Ok((session_id, told)) => {
            let response = FetchResponse { session_id, responses: grouped(told), ..Default::default() };
            (response, slices, Some(held))
        }
        Err(code) => refuse(code),
    }
}

/// Counts an answer; how long the client must pause before it gets one, milliseconds.
fn pause(c: &Connection, who: &Who, answers: &[PartitionData]) -> i32 {
    let records = answers.iter().map(|data| data.records.as_ref().map_or(0, Bytes::len)).sum::<usize>();
    let bytes = (records + answers.len() * PARTITION_BYTES) as f64;
    let (quotas, now_ms) = (&c.broker.quotas, c.broker.passed_ms());
    let pause_ms = quotas.record(Kind::Fetch, who, bytes, now_ms);
    if pause_ms > 0 {
        quotas.unrecord(Kind::Fetch, who, bytes, now_ms);
        c.mute(pause_ms);
    }
    i32::try_from(pause_ms).unwrap_or(i32::MAX)
}

/// The partitions a request names, and those it forgets.
fn named(request: &mut FetchRequest, by_id: bool) -> (Vec<Wanted>, Vec<Key>) {
    let key = |name: String, id: Uuid| if by_id { TopicKey::Id(id) } else { TopicKey::Name(name.into()) };
    let mut named = Vec::new();
    for topic in std::mem::take(&mut request.topics) {
        let topic_key = key(topic.topic, topic.topic_id);
        named.extend(topic.partitions.iter().map(|partition| Wanted {
            key: (topic_key.clone(), partition.partition),
            position: partition.into(),
            name: None,
            known: Weak::new(),
        }));
    }
    let mut forgotten = Vec::new();
    for topic in std::mem::take(&mut request.forgotten_topics_data) {
        let topic_key = key(topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.into_iter().map(|partition| (topic_key.clone(), partition)));
    }
    (named, forgotten)
}

/// Neighbours of one topic share an entry.
fn grouped(told: Vec<(Wanted, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut groups: Vec<(TopicKey, Vec<PartitionData>)> = Vec::new();
    for (wanted, data) in told {
        match groups.last_mut() {
            Some((topic, partitions)) if *topic == wanted.key.0 => partitions.push(data),
            _ => groups.push((wanted.key.0, vec![data])),
        }
    }
    let response = |(topic, partitions)| {
        let (name, topic_id) = match topic {
            TopicKey::Name(name) => (name.to_string(), Uuid::nil()),
            TopicKey::Id(id) => (String::new(), id),
        };
        FetchableTopicResponse { topic: name, topic_id, partitions }
    };
    groups.into_iter().map(response).collect()
}

fn plan(broker: &Broker, wanted: Vec<Wanted>, request: &FetchRequest, follower: bool) -> Plan {
    // There are no other replicas, so nobody who says to be one is.
    let look_up = |wanted: &Wanted| match follower {
        true => Err(ErrorCode::NotLeaderOrFollower),
        false => find(broker, wanted),
    };
    let most = broker.server.number("fetch.max.bytes");
    let max_bytes = i64::from(request.max_bytes).clamp(0, most) as usize;
    Plan {
        found: wanted.iter().map(look_up).collect(),
        wanted,
        read_committed: request.isolation_level == READ_COMMITTED,
        max_bytes,
        // More than a response may hold never comes.
        min_bytes: (request.min_bytes.max(0) as usize).min(max_bytes),
    }
}

fn find(broker: &Broker, wanted: &Wanted) -> FoundPartition {
    if let Some(known) = wanted.known.upgrade().filter(|partition| partition.gone().is_none()) {
        return Ok(known);
    }
    let (topic, missing) = match &wanted.key.0 {
        TopicKey::Name(name) => (broker.catalog.topic(name), ErrorCode::UnknownTopicOrPartition),
        TopicKey::Id(id) => (broker.catalog.topic_by_id(id), gone(broker, wanted)),
    };
    super::find(topic.as_ref(), wanted.key.1, missing)
}

/// Why there is no topic with an id: it never was one, it was deleted, or another has its name now.
fn gone(broker: &Broker, wanted: &Wanted) -> ErrorCode {
    match &wanted.name {
        None => ErrorCode::UnknownTopicId,
        Some(name) if broker.catalog.topic(name).is_some() => ErrorCode::InconsistentTopicId,
        Some(_) => ErrorCode::UnknownTopicOrPartition,
    }
}

/// Reads until the least number of bytes is there, an error is, or the time is over. While it waits it holds nothing.
async fn wait_and_read(c: &Connection, plan: &Plan, max_wait_ms: i32) -> (Vec<PartitionData>, Slices, Held) {
    let wait = Duration::from_millis(max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    let stop = c.broker.tasks.token();
    loop {
        // What is read at once is bounded by the number of partitions; under pressure it is less.
        let usual = plan.wanted.len().saturating_mul(IN_MEMORY_BYTES_MAX).max(ANSWER_BYTES_MIN);
        let most = usual.min(plan.max_bytes).min((c.broker.memory.free() / 2).max(ANSWER_BYTES_MIN));
        let mut held = c.broker.memory.hold(most).await;
        let pass = read_all(plan, most);
        held.keep(pass.in_memory);
        // What there is no room for does not come by waiting.
        let enough = pass.bytes >= plan.min_bytes || pass.short || pass.urgent || plan.wanted.is_empty();
        if enough || Instant::now() >= deadline || stop.is_cancelled() {
            return (pass.answers, pass.slices, held);
        }
        let (bytes, mark) = (pass.bytes, pass.mark);
        drop((pass, held));
        // A fetch of several batches reads again only when there may be enough: a slow trickle costs sums, not reads.
        while !plan.may_have(bytes, mark) {
            let more = Arc::new(Notify::new());
            plan.partitions().for_each(|partition| partition.wait(&more));
            // Looked at once more after registering, so that nothing which came meanwhile is missed.
            if plan.may_have(bytes, mark) {
                break;
            }
            tokio::select! {
                () = more.notified() => {}
                () = tokio::time::sleep_until(deadline) => break,
                () = stop.cancelled() => break,
            }
        }
    }
}

/// Tells the metrics what goes out.
fn count(broker: &Broker, plan: &Plan, answers: &[PartitionData]) {
    for (found, data) in plan.found.iter().zip(answers) {
        broker.metrics.told_error(ApiKey::Fetch, data.error_code);
        let Ok(partition) = found else { continue };
        match data.error_code {
            0 => broker.metrics.fetched(&partition.topic, data.records.as_ref().map_or(0, Bytes::len) as u64),
            _ => broker.metrics.failed_fetch(&partition.topic),
        }
    }
}

impl Plan {
    fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.found.iter().flatten()
    }

    fn mark(&self) -> Mark {
        let mut mark = Mark { visible: 0, bytes: 0, loose: false };
        for partition in self.partitions() {
            // Only a fetch that waits for several batches needs to know. Bytes first: what comes after is growth.
            if self.min_bytes > 1 {
                mark.bytes += partition.log().log().bytes();
                mark.loose |= partition.log().log().end() > partition.high_watermark();
            }
            mark.visible = mark.visible.wrapping_add(partition.high_watermark().get());
        }
        mark
    }

    /// Whether there may be as much as is waited for, when `bytes` were there at `then`.
    fn may_have(&self, bytes: usize, then: Mark) -> bool {
        let now = self.mark();
        let grown = now.bytes.saturating_sub(then.bytes) as usize;
        let enough = self.min_bytes <= 1 || then.loose || bytes + grown >= self.min_bytes;
        let more = now.visible != then.visible && enough;
        more || self.partitions().any(|partition| partition.gone().is_some())
    }
}

/// Reads all partitions, at most `memory` bytes of them into memory.
fn read_all(plan: &Plan, memory: usize) -> Pass {
    let answers = Vec::with_capacity(plan.wanted.len());
    let (slices, mark) = (Slices::default(), plan.mark());
    let mut pass = Pass { answers, slices, bytes: 0, in_memory: 0, mark, urgent: false, short: false };
    for (wanted, found) in plan.wanted.iter().zip(&plan.found) {
        let budget = Budget {
            bytes: plan.max_bytes.saturating_sub(pass.bytes),
            memory: memory.saturating_sub(pass.in_memory),
            first: pass.bytes == 0,
        };
        pass.short |= !budget.has_memory();
        let slices = pass.slices.len();
        let data = read(wanted, found, plan.read_committed, budget, &mut pass.slices);
        let bytes = data.records.as_ref().map_or(0, Bytes::len);
        pass.bytes += bytes;
        pass.in_memory += if pass.slices.len() > slices { 0 } else { bytes };
        pass.urgent |= data.error_code != 0 || data.diverging_epoch.end_offset >= 0;
        pass.answers.push(data);
    }
    pass
}

/// What is left of an answer's limits.
struct Budget {
    bytes: usize,
    /// Of that, what may be read at once.
    memory: usize,
    /// Nothing was read yet, so that a batch larger than every limit still gets through.
    first: bool,
}

impl Budget {
    /// Whether there is memory for one more partition's records.
    fn has_memory(&self) -> bool {
        self.first || self.memory >= self.bytes.min(IN_MEMORY_BYTES_MAX)
    }

    /// Frames of a log within the limits.
    fn find(
        &self,
        partition: &Partition,
        (from, upto): (Offset, Offset),
        max_bytes: usize,
        slices: &mut Slices,
    ) -> Result<(Bytes, Option<Offset>), Error> {
        let max_bytes = max_bytes.min(self.bytes).min(SLICE_BYTES_MAX);
        let in_memory_max = match slices.is_full() {
            true => max_bytes,
            false => IN_MEMORY_BYTES_MAX,
        };
        if !self.has_memory() {
            return Ok((Bytes::new(), None));
        }
        let find = |log: &PartitionLog| log.log().find(from, upto, max_bytes, self.first, in_memory_max);
        Ok(match partition.with_log(find)? {
            Found::Frames(chunk) => (chunk.bytes, chunk.next),
            Found::Slice(slice) => {
                let next = slice.next();
                (slices.add(slice), Some(next))
            }
        })
    }
}

/// Reads one partition.
fn read(
    wanted: &Wanted,
    found: &FoundPartition,
    read_committed: bool,
    budget: Budget,
    slices: &mut Slices,
) -> PartitionData {
    let mut data = PartitionData {
        partition_index: wanted.key.1,
        high_watermark: -1,
        aborted_transactions: read_committed.then(Vec::new),
        records: Some(Bytes::new()),
        ..Default::default()
    };
    let served = found.as_ref().map_err(|code| *code).and_then(|partition| match partition.gone() {
        None => Ok(partition),
        Some(code) => Err(code),
    });
    let partition = match served {
        Ok(partition) => partition,
        // What is not even there is told with an empty list, what cannot be read with none.
        Err(code) => {
            let aborted_transactions = Some(Vec::new());
            return PartitionData { aborted_transactions, ..refused(data, code) };
        }
    };
    let position = &wanted.position;
    if let Err(code) = check_epoch(partition, position.leader_epoch) {
        return refused(data, code);
    }
    let from = Offset(position.offset);
    let diverging = match diverges(partition, position.last_fetched_epoch, from) {
        Ok(diverging) => diverging,
        Err(code) => return refused(data, code),
    };
    let high_watermark = partition.high_watermark();
    data.high_watermark = high_watermark.get();
    data.last_stable_offset = partition.last_stable_offset().get();
    data.log_start_offset = partition.log_start().get();
    if let Some(diverging) = diverging {
        data.diverging_epoch = diverging;
        data.aborted_transactions = None;
        return data;
    }
    if from > high_watermark {
        // Beyond what is visible, yet in the log: it will be visible soon. Beyond the log: it never was.
        return match from > partition.log().log().end() {
            true => refused(data, ErrorCode::OffsetOutOfRange),
            false => data,
        };
    }
    let max_bytes = position.max_bytes.max(0) as usize;
    // Who reads what is committed sees nothing of transactions that are open, and is told of those that were aborted.
    let upto = if read_committed { Offset(data.last_stable_offset) } else { high_watermark };
    if from > upto {
        return data;
    }
    match budget.find(partition, (from, upto), max_bytes, slices) {
        Ok((records, next)) => {
            if let (true, Some(next)) = (read_committed, next) {
                match aborted(partition, from, next) {
                    Ok(aborted) => data.aborted_transactions = Some(aborted),
                    Err(code) => return refused(data, code),
                }
            }
            data.records = Some(records);
        }
        Err(Error::OutOfRange { .. }) => return refused(data, ErrorCode::OffsetOutOfRange),
        Err(error) => {
            tracing::error!(topic = %partition.topic, partition = partition.index, %error, "read failed");
            let code = match error {
                Error::Corrupt { .. } => ErrorCode::CorruptMessage,
                _ => ErrorCode::KafkaStorageError,
            };
            return refused(data, code);
        }
    }
    data
}

/// The aborted transactions that have records between the offsets.
fn aborted(partition: &Partition, from: Offset, upto: Offset) -> Result<Vec<AbortedTransaction>, ErrorCode> {
    let found = partition.with_log(|log| log.aborted_transactions(from, upto)).map_err(|error| {
        tracing::error!(topic = %partition.topic, partition = partition.index, %error, "transaction index unreadable");
        ErrorCode::KafkaStorageError
    })?;
    let tell = |txn: &commitlog::kafka::AbortedTxn| AbortedTransaction {
        producer_id: txn.producer_id,
        first_offset: txn.first.get(),
    };
    Ok(found.iter().map(tell).collect())
}

/// Who is refused is told nothing else.
fn refused(data: PartitionData, code: ErrorCode) -> PartitionData {
    PartitionData {
        error_code: code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted_transactions: None,
        ..data
    }
}

/// Where the log of a reader that last read in `epoch` parts from this one (KIP-595).
fn diverges(partition: &Partition, epoch: i32, from: Offset) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if epoch < 0 {
        return Ok(None);
    }
    let end = partition.log().epoch_end(epoch, partition.log().log().end());
    if end.epoch < 0 || end.end.get() < 0 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let parted = end.epoch < epoch || end.end < from;
    Ok(parted.then_some(EpochEndOffset { epoch: end.epoch, end_offset: end.end.get() }))
}
