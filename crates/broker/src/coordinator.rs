//! The coordinators' loops: one task per partition of an internal topic that is in use, each owning a shard.
//!
//! ```text
//! handler ──Ask(f)──▶ queue ──▶ f(&mut shard, now, token) ──▶ Effects ┬ replies: token ─▶ who waits
//!                                                                     ├ writes: append, flush ─┐
//!                                                                     └ markers: to their partitions ─┐
//!                       shard.complete(id, result) ◀── in order of the writes ────────────────┘       │
//!                       shard.marked(...) ◀───────────────────────────────────────────────────────────┘
//! ```
//! A loop starts with the first question for its partition, by replaying what the partition holds, and sleeps until the
//! shard's next deadline. `groups` and `transactions` say what the shards are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::clock::SharedClock;
use base::task::TaskKind;
use bytes::{Bytes, BytesMut};
use commitlog::FlushError;
use commitlog::kafka::{AppendError, EndTxnMarker, Guard, Origin, ProducerError, Verified};
use coordinators::{Author, Effects, Markers, Token, Write, WriteId, partition_for};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use kafka_wire::record::{Builder, Producer, batches};
use kafka_wire::{DecodeError, ErrorCode};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::api::Broker;
use crate::catalog::Topic;
use crate::partition::{Append, Flushed, Partition};

/// Questions that may wait for a loop; who asks beyond waits for room.
const QUEUE: usize = 1024;
/// Bytes replayed between two looks at other tasks.
const REPLAY_BYTES: usize = 1024 * 1024;
/// The wall clock was set when it parts this much from the time that passed: less is rounding, or a clock that is steered.
const CLOCK_STEP_MS: i64 = 100;
/// How large a batch of the topic may grow: the broker wrote it itself.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// A shard as a loop drives it.
pub(crate) trait Machine: Send + 'static {
    /// What is answered to questions.
    type Response: Send + 'static;
    /// The topic whose partitions hold what shards know.
    const TOPIC: &'static str;
    /// The name of the tasks.
    const TASK: &'static str;
    /// What is told while no shard can be asked.
    const UNAVAILABLE: ErrorCode;

    fn replay(&mut self, of: Option<i64>, key: &Bytes, value: Option<&Bytes>) -> Result<(), DecodeError>;
    fn replay_end(&mut self, producer_id: i64, commit: bool);
    fn loaded(&mut self, now_ms: i64) -> Effects<Self::Response>;
    fn complete(
        &mut self,
        now_ms: i64,
        id: WriteId,
        result: Result<(), ErrorCode>,
    ) -> Effects<Self::Response>;
    fn poll(&mut self, now_ms: i64) -> Effects<Self::Response>;
    fn unload(&mut self) -> Effects<Self::Response>;
    fn next_deadline(&self) -> Option<i64>;
    /// The level of the feature `transaction.version`; told before everything else.
    fn transaction_version(&mut self, _level: i16) {}
    /// The wall clock was set, by so much.
    fn clock_set(&mut self, by_ms: i64);
    /// The markers of a transaction are all durable.
    fn marked(&mut self, now_ms: i64, markers: &Markers) -> Effects<Self::Response>;
    /// Whether it wants a producer id before the next question.
    fn wants_id(&self) -> bool;
    fn give_id(&mut self, producer_id: i64);
}

type Ask<M> = Box<dyn FnOnce(&mut M, i64, Token) -> Effects<<M as Machine>::Response> + Send>;
type Look<M> = Box<dyn FnOnce(&M) + Send>;

enum Command<M: Machine> {
    /// Changes something; the answer may take its time.
    Ask(Ask<M>, oneshot::Sender<M::Response>),
    /// Reads; answered at once.
    Look(Look<M>),
}

/// A running loop and the partition it works on.
struct Running<M: Machine> {
    queue: mpsc::Sender<Command<M>>,
    partition: Arc<Partition>,
}

/// The shards of one topic.
pub(crate) struct Coordinator<M: Machine> {
    make: Box<dyn Fn() -> M + Send + Sync>,
    running: Mutex<HashMap<i32, Running<M>>>,
}

impl<M: Machine> Coordinator<M> {
    /// Shards come from `make`.
    pub(crate) fn new(make: impl Fn() -> M + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), running: Mutex::default() }
    }

    /// A shard that knows nothing.
    pub(crate) fn fresh(&self) -> M {
        (self.make)()
    }

    /// Has the shard of `name` do something and waits for its answer.
    pub(crate) async fn ask(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        name: &str,
        ask: impl FnOnce(&mut M, i64, Token) -> Effects<M::Response> + Send + 'static,
    ) -> Result<M::Response, ErrorCode> {
        self.ask_at(broker, topic, partition_for(name, topic.partitions.len() as i32), ask).await
    }

    /// The same for a shard known by its partition.
    pub(crate) async fn ask_at(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        index: i32,
        ask: impl FnOnce(&mut M, i64, Token) -> Effects<M::Response> + Send + 'static,
    ) -> Result<M::Response, ErrorCode> {
        let queue = self.queue(broker, topic, index).ok_or(M::UNAVAILABLE)?;
        let (tell, told) = oneshot::channel();
        let command = Command::Ask(Box::new(ask), tell);
        queue.send(command).await.map_err(|_| ErrorCode::NotCoordinator)?;
        told.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Reads from the shard of `name`.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        name: &str,
        look: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        self.look_at(broker, topic, partition_for(name, topic.partitions.len() as i32), look).await
    }

    /// Reads from every shard that holds something.
    pub(crate) async fn look_at_all<T: Send + 'static>(
        &self,
        broker: &Arc<Broker>,
        look: impl Fn(&M) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        let Some(topic) = broker.catalog.topic(M::TOPIC) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for partition in topic.served().filter(|partition| self.holds_something(partition)) {
            found.push(self.look_at(broker, &topic, partition.index, look.clone()).await?);
        }
        Ok(found)
    }

    /// Has every shard that holds something do the same and waits until all have answered.
    pub(crate) async fn ask_all(
        &self,
        broker: &Arc<Broker>,
        ask: impl FnOnce(&mut M, i64, Token) -> Effects<M::Response> + Clone + Send + 'static,
    ) -> Result<(), ErrorCode> {
        let Some(topic) = broker.catalog.topic(M::TOPIC) else { return Ok(()) };
        for partition in topic.served().filter(|partition| self.holds_something(partition)) {
            self.ask_at(broker, &topic, partition.index, ask.clone()).await?;
        }
        Ok(())
    }

    /// Whether a partition's loop runs or has something to read.
    fn holds_something(&self, partition: &Partition) -> bool {
        let started = self.running.lock().contains_key(&partition.index);
        started || partition.high_watermark() > partition.log_start()
    }

    async fn look_at<T: Send + 'static>(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        index: i32,
        look: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let queue = self.queue(broker, topic, index).ok_or(M::UNAVAILABLE)?;
        let (tell, told) = oneshot::channel();
        let command = Command::Look(Box::new(move |shard: &M| drop(tell.send(look(shard)))));
        queue.send(command).await.map_err(|_| ErrorCode::NotCoordinator)?;
        told.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// The queue of a partition's loop, which is started when it is not running.
    fn queue(&self, broker: &Arc<Broker>, topic: &Topic, index: i32) -> Option<mpsc::Sender<Command<M>>> {
        let partition = topic.partition(index)?;
        let mut running = self.running.lock();
        let alive = |r: &&Running<M>| Arc::ptr_eq(&r.partition, partition) && !r.queue.is_closed();
        if let Some(found) = running.get(&index).filter(alive) {
            return Some(found.queue.clone());
        }
        let (queue, commands) = mpsc::channel(QUEUE);
        let state = Loop {
            shard: self.fresh(),
            broker: broker.clone(),
            partition: partition.clone(),
            clock: Steady::new(broker.catalog.root.clock.clone()),
            waiting: HashMap::new(),
            next_token: Token(0),
            writes: FuturesOrdered::new(),
            markings: FuturesUnordered::new(),
        };
        let stop = broker.tasks.token();
        broker.tasks.spawn(TaskKind::Service, M::TASK, async move { state.run(commands, stop).await });
        running.insert(index, Running { queue: queue.clone(), partition: partition.clone() });
        Some(queue)
    }

    /// Starts the loops of partitions that hold something, so that what is due happens also where nobody asks.
    pub(crate) async fn resume(&self, broker: &Arc<Broker>) {
        // Failing means stopping, or a topic that went away: nothing to resume.
        let _ = self.look_at_all(broker, |_| ()).await;
    }
}

type Written = BoxFuture<'static, (WriteId, Result<(), ErrorCode>)>;

/// A shard with its loop's state.
struct Loop<M: Machine> {
    shard: M,
    broker: Arc<Broker>,
    partition: Arc<Partition>,
    clock: Steady,
    waiting: HashMap<Token, oneshot::Sender<M::Response>>,
    next_token: Token,
    /// Writes under way, oldest first.
    writes: FuturesOrdered<Written>,
    /// Markers under way.
    markings: FuturesUnordered<BoxFuture<'static, Markers>>,
}

impl<M: Machine> Loop<M> {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command<M>>,
        stop: CancellationToken,
    ) -> Result<(), commitlog::Error> {
        self.load().await?;
        let now_ms = self.now_ms();
        let effects = self.shard.loaded(now_ms);
        self.carry_out(effects);
        loop {
            self.stock().await;
            let deadline = self.until_deadline();
            tokio::select! {
                () = stop.cancelled() => break,
                Some((id, result)) = self.writes.next(), if !self.writes.is_empty() => {
                    let now_ms = self.now_ms();
                    let effects = self.shard.complete(now_ms, id, result);
                    self.carry_out(effects);
                }
                Some(markers) = self.markings.next(), if !self.markings.is_empty() => {
                    let now_ms = self.now_ms();
                    let effects = self.shard.marked(now_ms, &markers);
                    self.carry_out(effects);
                }
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                () = sleep(deadline) => {
                    let now_ms = self.now_ms();
                    let effects = self.shard.poll(now_ms);
                    self.carry_out(effects);
                }
            }
        }
        let effects = self.shard.unload();
        self.carry_out(effects);
        Ok(())
    }

    /// The wall clock, for what the shard does next. It is told the level of its feature first, and when the clock was set:
    /// records carry its time, while members and
    /// rebalances have as long as they had (Kafka's timers run on the monotonic clock).
    fn now_ms(&mut self) -> i64 {
        self.shard.transaction_version(self.broker.features.transaction_version());
        let (now_ms, step_ms) = self.clock.read();
        if step_ms != 0 {
            tracing::info!(topic = M::TOPIC, partition = self.partition.index, step_ms, "the clock was set");
            self.shard.clock_set(step_ms);
        }
        now_ms
    }

    fn until_deadline(&mut self) -> Option<Duration> {
        let now_ms = self.now_ms();
        let left = self.shard.next_deadline()?.saturating_sub(now_ms);
        Some(Duration::from_millis(left.max(0) as u64))
    }

    /// Gives the shard the producer id it wants. Without one it tells who needs it to come again.
    async fn stock(&mut self) {
        if !self.shard.wants_id() {
            return;
        }
        match self.broker.producer_ids.next().await {
            Ok(producer_id) => self.shard.give_id(producer_id),
            Err(error) => tracing::warn!(%error, "no producer id"),
        }
    }

    /// Replays the partition.
    async fn load(&mut self) -> Result<(), commitlog::Error> {
        let (mut at, end) = (self.partition.log_start(), self.partition.high_watermark());
        while at < end {
            let chunk = self.partition.with_log(|log| log.log().read(at, end, REPLAY_BYTES, true))?;
            let Some(next) = chunk.next else { break };
            self.replay(&chunk.bytes);
            at = next;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Replays whole batches. What cannot be read is passed over, as Kafka does, rather than locking everybody out.
    fn replay(&mut self, bytes: &Bytes) {
        for batch in batches(bytes) {
            let Ok(batch) = batch.inspect_err(|error| self.unreadable(error)) else { continue };
            if batch.is_control() {
                if let Some(marker) = EndTxnMarker::parse(batch.bytes()) {
                    self.shard.replay_end(batch.producer_id(), marker.commit);
                }
                continue;
            }
            let of = batch.is_transactional().then(|| batch.producer_id());
            let records = batch.records(BATCH_BYTES_MAX);
            let Ok(mut records) = records.inspect_err(|error| self.unreadable(error)) else { continue };
            while let Some(record) = records.next() {
                let Ok(record) = record.inspect_err(|error| self.unreadable(error)) else { break };
                let Some(key) = record.key.map(Bytes::copy_from_slice) else { continue };
                let value = record.value.map(Bytes::copy_from_slice);
                if let Err(error) = self.shard.replay(of, &key, value.as_ref()) {
                    tracing::error!(topic = M::TOPIC, partition = self.partition.index, %error, "unreadable record");
                }
            }
        }
    }

    fn unreadable(&self, error: &kafka_wire::record::RecordError) {
        tracing::error!(topic = M::TOPIC, partition = self.partition.index, %error, "unreadable batch");
    }

    fn obey(&mut self, command: Command<M>) {
        match command {
            Command::Look(look) => look(&self.shard),
            Command::Ask(ask, tell) => {
                let token = self.next_token;
                self.next_token = token.next();
                self.waiting.insert(token, tell);
                let now_ms = self.now_ms();
                let effects = ask(&mut self.shard, now_ms, token);
                self.carry_out(effects);
            }
        }
    }

    fn carry_out(&mut self, effects: Effects<M::Response>) {
        for (token, response) in effects.replies {
            if let Some(tell) = self.waiting.remove(&token) {
                // A client that went away no longer listens.
                let _ = tell.send(response);
            }
        }
        for write in effects.writes {
            let written = self.write(write);
            self.writes.push_back(written);
        }
        for markers in effects.markers {
            let epoch = self.partition.leader_epoch();
            let broker = self.broker.clone();
            self.markings.push(Box::pin(crate::markers::write_all(broker, markers, epoch)));
        }
    }

    /// Appends a batch; the future resolves when it is durable.
    fn write(&self, write: Write) -> Written {
        let id = write.id;
        match self.append(&write) {
            Err(code) => Box::pin(std::future::ready((id, Err(code)))),
            Ok(None) => Box::pin(std::future::ready((id, Ok(())))),
            Ok(Some(flushed)) => Box::pin(async move {
                let durable = flushed.await.unwrap_or(Err(FlushError::Stopped));
                (id, durable.map_err(|_| ErrorCode::KafkaStorageError))
            }),
        }
    }

    fn append(&self, write: &Write) -> Result<Option<Flushed>, ErrorCode> {
        use coordinators::Batch as Kind;
        let now_ms = self.partition.now_ms();
        // Kafka's coordinators number their records though nothing checks it.
        let producer =
            |author: Author| Producer { id: author.producer_id, epoch: author.epoch, base_sequence: 0 };
        let nobody = Producer { id: -1, epoch: -1, base_sequence: 0 };
        let (mut batch, origin) = match write.batch {
            Kind::Plain => (Builder::new().producer(nobody), Origin::Coordinator(Verified::Waived)),
            Kind::Transactional { author, guard } => {
                let verified = guard.map_or(Verified::Waived, |guard| Verified::By(Guard::from_raw(guard)));
                (Builder::new().producer(producer(author)).transactional(), Origin::Coordinator(verified))
            }
            Kind::Marker { author, commit, coordinator_epoch, version } => {
                let marker = EndTxnMarker { commit, coordinator_epoch };
                return append_marker(&self.partition, author, marker, version);
            }
        };
        for record in &write.records {
            batch.append(now_ms, Some(&record.key), record.value.as_deref());
        }
        let bytes = batch.build().map_err(|_| ErrorCode::UnknownServerError)?;
        append(&self.partition, bytes, write.records.len() as i64, origin)
    }
}

/// Reads the wall clock and notices when it was set.
struct Steady {
    clock: SharedClock,
    /// What the wall clock is ahead of the monotonic one.
    ahead_ms: i64,
}

impl Steady {
    fn new(clock: SharedClock) -> Self {
        let mut steady = Self { clock, ahead_ms: 0 };
        steady.read();
        steady
    }

    /// The wall clock, and by how much it was set since the last call.
    fn read(&mut self) -> (i64, i64) {
        let passed_ms = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        let now_ms = self.clock.unix_ms();
        let step_ms = now_ms.saturating_sub(passed_ms).saturating_sub(self.ahead_ms);
        if step_ms.saturating_abs() < CLOCK_STEP_MS {
            return (now_ms, 0);
        }
        self.ahead_ms = self.ahead_ms.saturating_add(step_ms);
        (now_ms, step_ms)
    }
}

/// Appends a marker of a transaction; the receiver resolves when it is durable.
pub(crate) fn append_marker(
    partition: &Arc<Partition>,
    author: Author,
    marker: EndTxnMarker,
    version: i16,
) -> Result<Option<Flushed>, ErrorCode> {
    let (key, value) = marker.record();
    let producer = Producer { id: author.producer_id, epoch: author.epoch, base_sequence: -1 };
    let mut batch = Builder::new().producer(producer).transactional().control();
    batch.append(partition.now_ms(), Some(&key), Some(&value));
    let bytes = batch.build().map_err(|_| ErrorCode::UnknownServerError)?;
    append(partition, bytes, 1, Origin::Marker { version })
}

fn append(
    partition: &Arc<Partition>,
    bytes: Bytes,
    records: i64,
    origin: Origin,
) -> Result<Option<Flushed>, ErrorCode> {
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let how = Append { records, flush_records: i64::MAX, wait: true, origin };
    let appended = partition.append(&mut bytes, how);
    appended.map(|(_, flushed)| flushed).map_err(|error| match error {
        AppendError::Producer(error) => producer_error(&error),
        AppendError::Log(error) => {
            tracing::warn!(topic = %partition.topic, partition = partition.index, %error, "not written");
            partition.gone().unwrap_or(ErrorCode::KafkaStorageError)
        }
    })
}

/// Kafka's word for why a producer's batch is refused.
pub(crate) fn producer_error(error: &ProducerError) -> ErrorCode {
    match error {
        ProducerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        ProducerError::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        ProducerError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        ProducerError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
    }
}

/// Sleeps that long, or for ever.
async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
