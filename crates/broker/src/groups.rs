//! The group coordinator's loops: one task per partition of `__consumer_offsets` that is in use, each owning a shard.
//!
//! ```text
//! handler ──Ask(f)──▶ queue ──▶ f(&mut shard, now, token) ──▶ Effects ┬ replies: token ─▶ who waits
//!                                                                     └ writes: append, flush ─┐
//!                       shard.complete(id, result) ◀── in order of the writes ────────────────┘
//! ```
//! A loop starts with the first question for its partition, by replaying what the partition holds, and sleeps until the
//! shard's next deadline. The topic itself is made with the first group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::clock::SharedClock;
use base::random::Random;
use base::task::{TaskKind, Tasks};
use bytes::{Bytes, BytesMut};
use commitlog::FlushError;
use coordinators::{Effects, LogRecord, Response, Shard, Token, Write, WriteId, partition_for};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use kafka_wire::ErrorCode;
use kafka_wire::record::{Builder, Producer, batches};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::api::Broker;
use crate::api::create_automatically;
use crate::catalog::Topic;
use crate::config::Server;
use crate::names;
use crate::partition::Partition;

/// Questions that may wait for a loop; who asks beyond waits for room.
const QUEUE: usize = 1024;
/// Bytes replayed between two looks at other tasks.
const REPLAY_BYTES: usize = 1024 * 1024;
/// The wall clock was set when it parts this much from the time that passed: less is rounding, or a clock that is steered.
const CLOCK_STEP_MS: i64 = 100;
/// How large a batch of the topic may grow: the broker wrote it itself.
const BATCH_BYTES_MAX: usize = 1 << 30;

type Ask = Box<dyn FnOnce(&mut Shard, i64, Token) -> Effects + Send>;
type Look = Box<dyn FnOnce(&Shard) + Send>;

enum Command {
    /// Changes something; the answer may take its time.
    Ask(Ask, oneshot::Sender<Response>),
    /// Reads; answered at once.
    Look(Look),
}

/// A running loop and the partition it works on.
struct Running {
    queue: mpsc::Sender<Command>,
    partition: Arc<Partition>,
}

/// The coordinator.
pub(crate) struct Groups {
    options: coordinators::Options,
    running: Mutex<HashMap<i32, Running>>,
    seeds: Mutex<Random>,
}

impl Groups {
    pub(crate) fn new(server: &Server) -> Self {
        let int = |name| server.number(name) as i32;
        let options = coordinators::Options {
            session_timeout_min_ms: int("group.min.session.timeout.ms"),
            session_timeout_max_ms: int("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
            group_size_max: int("group.max.size") as usize,
            offset_metadata_max: int("offset.metadata.max.bytes") as usize,
            offsets_retention_ms: server.number("offsets.retention.minutes").saturating_mul(60_000),
            offsets_check_interval_ms: server.number("offsets.retention.check.interval.ms"),
            ..Default::default()
        };
        Self { options, running: Mutex::default(), seeds: Mutex::new(Random::from_entropy()) }
    }

    /// Has the shard of `group` do something and waits for its answer.
    pub(crate) async fn ask(
        &self,
        broker: &Broker,
        group: &str,
        ask: impl FnOnce(&mut Shard, i64, Token) -> Effects + Send + 'static,
    ) -> Result<Response, ErrorCode> {
        let topic = offsets_topic(broker).await?;
        let index = partition_for(group, topic.partitions.len() as i32);
        let queue = self.queue(broker, &topic, index).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let (tell, told) = oneshot::channel();
        let command = Command::Ask(Box::new(ask), tell);
        queue.send(command).await.map_err(|_| ErrorCode::NotCoordinator)?;
        told.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Has every shard that holds something do the same and waits until all have answered.
    pub(crate) async fn ask_all(
        &self,
        broker: &Broker,
        ask: impl FnOnce(&mut Shard, i64, Token) -> Effects + Clone + Send + 'static,
    ) -> Result<(), ErrorCode> {
        let Some(topic) = broker.catalog.topic(names::OFFSETS) else { return Ok(()) };
        for partition in topic.served().filter(|partition| self.holds_something(partition)) {
            let queue =
                self.queue(broker, &topic, partition.index).ok_or(ErrorCode::CoordinatorNotAvailable)?;
            let (tell, told) = oneshot::channel();
            let command = Command::Ask(Box::new(ask.clone()), tell);
            queue.send(command).await.map_err(|_| ErrorCode::NotCoordinator)?;
            told.await.map_err(|_| ErrorCode::NotCoordinator)?;
        }
        Ok(())
    }

    /// Whether a partition's loop runs or has something to read.
    fn holds_something(&self, partition: &Partition) -> bool {
        let started = self.running.lock().contains_key(&partition.index);
        started || partition.high_watermark() > partition.log_start()
    }

    /// Reads from the shard of `group`; where no group was ever made, from an empty one.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        broker: &Broker,
        group: &str,
        look: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let Some(topic) = broker.catalog.topic(names::OFFSETS) else {
            return Ok(look(&Shard::new(self.options.clone(), 0)));
        };
        let index = partition_for(group, topic.partitions.len() as i32);
        self.look_at(broker, &topic, index, look).await
    }

    /// Reads from every shard that holds something.
    pub(crate) async fn look_at_all<T: Send + 'static>(
        &self,
        broker: &Broker,
        look: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        let Some(topic) = broker.catalog.topic(names::OFFSETS) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for partition in topic.served().filter(|partition| self.holds_something(partition)) {
            found.push(self.look_at(broker, &topic, partition.index, look.clone()).await?);
        }
        Ok(found)
    }

    async fn look_at<T: Send + 'static>(
        &self,
        broker: &Broker,
        topic: &Topic,
        index: i32,
        look: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let queue = self.queue(broker, topic, index).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let (tell, told) = oneshot::channel();
        let command = Command::Look(Box::new(move |shard| drop(tell.send(look(shard)))));
        queue.send(command).await.map_err(|_| ErrorCode::NotCoordinator)?;
        told.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// The queue of a partition's loop, which is started when it is not running.
    fn queue(&self, broker: &Broker, topic: &Topic, index: i32) -> Option<mpsc::Sender<Command>> {
        let partition = topic.partition(index)?;
        let mut running = self.running.lock();
        if let Some(found) = running.get(&index).filter(|r| Arc::ptr_eq(&r.partition, partition)) {
            return Some(found.queue.clone());
        }
        let (queue, commands) = mpsc::channel(QUEUE);
        let shard = Shard::new(self.options.clone(), self.seeds.lock().next_u64());
        let state = Loop {
            shard,
            partition: partition.clone(),
            clock: Steady::new(broker.catalog.root.clock.clone()),
            waiting: HashMap::new(),
            next_token: Token(0),
            writes: FuturesOrdered::new(),
        };
        spawn(&broker.tasks, state, commands);
        running.insert(index, Running { queue: queue.clone(), partition: partition.clone() });
        Some(queue)
    }

    /// Starts the loops of partitions that hold something, so that offsets expire also where nobody asks.
    pub(crate) async fn resume(&self, broker: &Broker) {
        // Failing means stopping, or a topic that went away: nothing to resume.
        let _ = self.look_at_all(broker, |_| ()).await;
    }
}

/// The topic of offsets, made when it is not there.
pub(crate) async fn offsets_topic(broker: &Broker) -> Result<Arc<Topic>, ErrorCode> {
    if let Some(topic) = broker.catalog.topic(names::OFFSETS) {
        return Ok(topic);
    }
    create_automatically(broker, names::OFFSETS).await.map_err(|refusal| {
        tracing::warn!(error = refusal.text, "the topic of offsets cannot be made");
        ErrorCode::CoordinatorNotAvailable
    })
}

fn spawn(tasks: &Tasks, state: Loop, commands: mpsc::Receiver<Command>) {
    let stop = tasks.token();
    tasks.spawn(TaskKind::Service, "kafka-groups", async move { state.run(commands, stop).await });
}

type Written = BoxFuture<'static, (WriteId, Result<(), ErrorCode>)>;

/// A shard with its loop's state.
struct Loop {
    shard: Shard,
    partition: Arc<Partition>,
    clock: Steady,
    waiting: HashMap<Token, oneshot::Sender<Response>>,
    next_token: Token,
    /// Writes under way, oldest first.
    writes: FuturesOrdered<Written>,
}

impl Loop {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) -> Result<(), commitlog::Error> {
        self.load().await?;
        let now_ms = self.now_ms();
        let effects = self.shard.loaded(now_ms);
        self.carry_out(effects);
        loop {
            let deadline = self.until_deadline();
            tokio::select! {
                () = stop.cancelled() => break,
                Some((id, result)) = self.writes.next(), if !self.writes.is_empty() => {
                    let now_ms = self.now_ms();
                    let effects = self.shard.complete(now_ms, id, result);
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

    /// The wall clock, which the shard is told of first when it was set: records carry its time, while members and
    /// rebalances have as long as they had (Kafka's timers run on the monotonic clock).
    fn now_ms(&mut self) -> i64 {
        let (now_ms, step_ms) = self.clock.read();
        if step_ms != 0 {
            tracing::info!(partition = self.partition.index, step_ms, "the clock was set");
            self.shard.clock_set(step_ms);
        }
        now_ms
    }

    fn until_deadline(&mut self) -> Option<Duration> {
        let now_ms = self.now_ms();
        let left = self.shard.next_deadline()?.saturating_sub(now_ms);
        Some(Duration::from_millis(left.max(0) as u64))
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

    /// Replays whole batches. What cannot be read is passed over, as Kafka does, rather than locking all groups out.
    fn replay(&mut self, bytes: &Bytes) {
        for batch in batches(bytes) {
            let records = batch.and_then(|batch| batch.records(BATCH_BYTES_MAX));
            let Ok(mut records) = records.inspect_err(|error| self.unreadable(error)) else { continue };
            while let Some(record) = records.next() {
                let Ok(record) = record.inspect_err(|error| self.unreadable(error)) else { break };
                let Some(key) = record.key.map(Bytes::copy_from_slice) else { continue };
                let value = record.value.map(Bytes::copy_from_slice);
                if let Err(error) = self.shard.replay(&key, value.as_ref()) {
                    tracing::error!(partition = self.partition.index, %error, "unreadable record of a group");
                }
            }
        }
    }

    fn unreadable(&self, error: &kafka_wire::record::RecordError) {
        tracing::error!(partition = self.partition.index, %error, "unreadable batch of groups");
    }

    fn obey(&mut self, command: Command) {
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

    fn carry_out(&mut self, effects: Effects) {
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
    }

    /// Appends a batch; the future resolves when it is durable.
    fn write(&self, write: Write) -> Written {
        let id = write.id;
        match self.append(&write.records) {
            Err(code) => Box::pin(std::future::ready((id, Err(code)))),
            Ok(None) => Box::pin(std::future::ready((id, Ok(())))),
            Ok(Some(flushed)) => Box::pin(async move {
                let durable = flushed.await.unwrap_or(Err(FlushError::Stopped));
                (id, durable.map_err(|_| ErrorCode::KafkaStorageError))
            }),
        }
    }

    fn append(&self, records: &[LogRecord]) -> Result<Option<crate::partition::Flushed>, ErrorCode> {
        let now_ms = self.partition.now_ms();
        // Kafka's coordinators number their records though no producer stands behind them.
        let mut batch = Builder::new().producer(Producer { id: -1, epoch: -1, base_sequence: 0 });
        for record in records {
            batch.append(now_ms, Some(&record.key), record.value.as_deref());
        }
        let bytes = batch.build().map_err(|_| ErrorCode::UnknownServerError)?;
        let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let appended = self.partition.append(&mut bytes, records.len() as i64, i64::MAX, true);
        appended.map(|(_, flushed)| flushed).map_err(|error| {
            tracing::warn!(partition = self.partition.index, %error, "groups not written");
            ErrorCode::KafkaStorageError
        })
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

/// Sleeps that long, or for ever.
async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
