//! The transaction coordinator: shards of `__transaction_state`, driven by the loops of [`crate::coordinator`]. The topic
//! itself is made when the first client looks for its coordinator.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinators::transactions::{Marked, Options, Partitions, Response, Shard};
use coordinators::{Effects, Markers, Token, WriteId};
use kafka_wire::{DecodeError, ErrorCode};

use crate::api::Broker;
use crate::catalog::Topic;
use crate::config::Server;
use crate::coordinator::{Coordinator, Machine};
use crate::names;

impl Machine for Shard {
    type Response = Response;
    const TOPIC: &'static str = names::TRANSACTIONS;
    const TASK: &'static str = "kafka-transactions";
    const UNAVAILABLE: ErrorCode = ErrorCode::NotCoordinator;

    fn replay(&mut self, _: Option<i64>, key: &Bytes, value: Option<&Bytes>) -> Result<(), DecodeError> {
        self.replay(key, value)
    }
    /// Nobody writes to this topic in transactions.
    fn replay_end(&mut self, _: i64, _: bool) {}
    fn loaded(&mut self, now_ms: i64) -> Effects<Response> {
        self.loaded(now_ms)
    }
    fn complete(&mut self, now_ms: i64, id: WriteId, result: Result<(), ErrorCode>) -> Effects<Response> {
        self.complete(now_ms, id, result)
    }
    fn poll(&mut self, now_ms: i64) -> Effects<Response> {
        self.poll(now_ms)
    }
    fn unload(&mut self) -> Effects<Response> {
        self.unload()
    }
    fn next_deadline(&self) -> Option<i64> {
        self.next_deadline()
    }
    fn transaction_version(&mut self, level: i16) {
        self.set_version(level);
    }
    /// Transactions began at a time of the wall clock, which the log keeps: they end by it too, as in Kafka.
    fn clock_set(&mut self, _: i64) {}
    fn marked(&mut self, now_ms: i64, markers: &Markers) -> Effects<Response> {
        self.marked(now_ms, &Marked::from(markers))
    }
    fn wants_id(&self) -> bool {
        self.wants_id()
    }
    fn give_id(&mut self, producer_id: i64) {
        self.give_id(producer_id);
    }
}

/// A producer and the transactional id it acts under.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub transactional_id: String,
    pub producer_id: i64,
    pub epoch: i16,
}

/// What a broker asks of the coordinator before it appends a batch that opens a transaction in a partition
/// (`TransactionSupportedOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The client announced the partition: look whether it did. Clients before KIP-890 know INVALID_TXN_STATE...
    VerifyOld,
    /// ...later ones TRANSACTION_ABORTABLE.
    Verify,
    /// The client relies on the broker to add it: its epoch rises with every transaction.
    Add,
}

impl Opening {
    /// Whether the epoch rises with every transaction.
    pub(crate) fn rises(self) -> bool {
        self == Self::Add
    }
}

/// The coordinator.
pub(crate) struct Transactions {
    shards: Coordinator<Shard>,
    /// `add.partitions.to.txn.retry.backoff.max.ms`: how long a broker waits for a transaction that is about to end before
    /// the next one begins.
    patience: Duration,
}

/// The first pause while a transaction ends; it doubles. (Kafka: `add.partitions.to.txn.retry.backoff.ms`, 20 ms each.)
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);

impl Transactions {
    pub(crate) fn new(server: &Server) -> Self {
        let options = Options {
            timeout_max_ms: server.number("transaction.max.timeout.ms") as i32,
            expiration_ms: server.number("transactional.id.expiration.ms"),
            retry_ms: server.number("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
        };
        let patience = server.number("add.partitions.to.txn.retry.backoff.max.ms").max(0) as u64;
        Self {
            shards: Coordinator::new(move || Shard::new(options.clone())),
            patience: Duration::from_millis(patience),
        }
    }

    /// Has the shard of an id do something and waits for its answer.
    pub(crate) async fn ask(
        &self,
        broker: &Arc<Broker>,
        id: &str,
        ask: impl FnOnce(&mut Shard, i64, Token) -> Effects<Response> + Send + 'static,
    ) -> Result<Response, ErrorCode> {
        self.shards.ask(broker, &*topic(broker)?, id, ask).await
    }

    /// Reads from the shard of an id.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        broker: &Arc<Broker>,
        id: &str,
        look: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        self.shards.look(broker, &*topic(broker)?, id, look).await
    }

    /// Reads from every shard that holds something.
    pub(crate) async fn look_at_all<T: Send + 'static>(
        &self,
        broker: &Arc<Broker>,
        look: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        self.shards.look_at_all(broker, look).await
    }

    /// Starts the loops of partitions that hold something: what was prepared goes on to its end, what lasts too long is
    /// aborted.
    pub(crate) async fn resume(&self, broker: &Arc<Broker>) {
        self.shards.resume(broker).await;
    }

    /// Adds partitions to a transaction; one answer for all.
    pub(crate) async fn add(
        &self,
        broker: &Arc<Broker>,
        member: Member,
        partitions: Partitions,
        version: i16,
    ) -> ErrorCode {
        let id = member.transactional_id.clone();
        let ask = move |shard: &mut Shard, now_ms, token| {
            let who = (&*member.transactional_id, member.producer_id, member.epoch);
            shard.add_partitions(now_ms, token, who, &partitions, version)
        };
        match self.ask(broker, &id, ask).await {
            Ok(Response::AddPartitions(code)) | Err(code) => code,
            Ok(_) => ErrorCode::UnknownServerError,
        }
    }

    /// Looks whether partitions are in a transaction: an answer for each.
    pub(crate) async fn verify(
        &self,
        broker: &Arc<Broker>,
        member: Member,
        partitions: Partitions,
    ) -> Vec<(String, i32, ErrorCode)> {
        let (id, asked) = (member.transactional_id.clone(), partitions.clone());
        let look = move |shard: &Shard| {
            shard.verify((&*member.transactional_id, member.producer_id, member.epoch), &asked)
        };
        match self.look(broker, &id, look).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(code)) | Err(code) => for_each(&partitions, code),
        }
    }

    /// What a broker asks before it appends what opens a transaction, with the errors that producers know. While a
    /// transaction of the producer ends, it waits a little for that.
    pub(crate) async fn open(
        &self,
        broker: &Arc<Broker>,
        member: &Member,
        partitions: &Partitions,
        opening: Opening,
    ) -> Vec<(String, i32, ErrorCode)> {
        let (deadline, mut pause) = (tokio::time::Instant::now() + self.patience, PAUSE);
        let mut answers = loop {
            let answers = match opening {
                Opening::Add => {
                    let version = coordinators::transactions::VERSION;
                    let code = self.add(broker, member.clone(), partitions.clone(), version).await;
                    for_each(partitions, code)
                }
                _ => self.verify(broker, member.clone(), partitions.clone()).await,
            };
            let ending = answers.iter().any(|(.., code)| *code == ErrorCode::ConcurrentTransactions);
            if !ending || tokio::time::Instant::now() >= deadline {
                break answers;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        };
        for (.., code) in &mut answers {
            *code = match *code {
                ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
                ErrorCode::TransactionAbortable if opening == Opening::VerifyOld => {
                    ErrorCode::InvalidTxnState
                }
                code => code,
            };
        }
        broker.metrics.verified(answers.iter().filter(|(.., code)| !code.is_ok()).count() as u64);
        answers
    }
}

fn for_each(partitions: &Partitions, code: ErrorCode) -> Vec<(String, i32, ErrorCode)> {
    let each = |(topic, all): (&String, &std::collections::BTreeSet<i32>)| {
        all.iter().map(|partition| (topic.clone(), *partition, code)).collect::<Vec<_>>()
    };
    partitions.iter().flat_map(each).collect()
}

/// The topic of transactions; clients look for their coordinator first, and that makes it.
fn topic(broker: &Broker) -> Result<Arc<Topic>, ErrorCode> {
    broker.catalog.topic(names::TRANSACTIONS).ok_or(ErrorCode::NotCoordinator)
}
