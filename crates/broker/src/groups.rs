//! The group coordinator: shards of `__consumer_offsets`, driven by the loops of [`crate::coordinator`]. The topic itself is
//! made with the first group.

use std::sync::Arc;

use base::random::Random;
use bytes::Bytes;
use coordinators::{Effects, Markers, Response, Shard, Token, WriteId};
use kafka_wire::{DecodeError, ErrorCode};
use parking_lot::Mutex;

use crate::api::Broker;
use crate::api::create_automatically;
use crate::catalog::Topic;
use crate::config::Server;
use crate::coordinator::{Coordinator, Machine};
use crate::names;
use crate::quotas::Mutations;

impl Machine for Shard {
    type Response = Response;
    const TOPIC: &'static str = names::OFFSETS;
    const TASK: &'static str = "kafka-groups";
    const UNAVAILABLE: ErrorCode = ErrorCode::CoordinatorNotAvailable;

    fn replay(&mut self, of: Option<i64>, key: &Bytes, value: Option<&Bytes>) -> Result<(), DecodeError> {
        match of {
            None => self.replay(key, value),
            Some(producer_id) => self.replay_in_transaction(producer_id, key, value),
        }
    }
    fn replay_end(&mut self, producer_id: i64, commit: bool) {
        self.replay_end(producer_id, commit);
    }
    fn loaded(&mut self, now_ms: i64) -> Effects {
        self.loaded(now_ms)
    }
    fn complete(&mut self, now_ms: i64, id: WriteId, result: Result<(), ErrorCode>) -> Effects {
        self.complete(now_ms, id, result)
    }
    fn poll(&mut self, now_ms: i64) -> Effects {
        self.poll(now_ms)
    }
    fn unload(&mut self) -> Effects {
        self.unload()
    }
    fn next_deadline(&self) -> Option<i64> {
        self.next_deadline()
    }
    fn clock_set(&mut self, by_ms: i64) {
        self.clock_set(by_ms);
    }
    /// Groups end no transactions of their own.
    fn marked(&mut self, _: i64, _: &Markers) -> Effects {
        Effects::default()
    }
    fn wants_id(&self) -> bool {
        false
    }
    fn give_id(&mut self, _: i64) {}
}

/// The coordinator.
pub(crate) struct Groups(Coordinator<Shard>);

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
        let seeds = Mutex::new(Random::from_entropy());
        Self(Coordinator::new(move || Shard::new(options.clone(), seeds.lock().next_u64())))
    }

    /// Has the shard of `group` do something and waits for its answer.
    pub(crate) async fn ask(
        &self,
        broker: &Arc<Broker>,
        group: &str,
        ask: impl FnOnce(&mut Shard, i64, Token) -> Effects + Send + 'static,
    ) -> Result<Response, ErrorCode> {
        let topic = offsets_topic(broker).await?;
        self.0.ask(broker, &topic, group, ask).await
    }

    /// The same for the shard of a partition that is there.
    pub(crate) async fn ask_at(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        index: i32,
        ask: impl FnOnce(&mut Shard, i64, Token) -> Effects + Send + 'static,
    ) -> Result<Response, ErrorCode> {
        self.0.ask_at(broker, topic, index, ask).await
    }

    /// Has every shard that holds something do the same and waits until all have answered.
    pub(crate) async fn ask_all(
        &self,
        broker: &Arc<Broker>,
        ask: impl FnOnce(&mut Shard, i64, Token) -> Effects + Clone + Send + 'static,
    ) -> Result<(), ErrorCode> {
        self.0.ask_all(broker, ask).await
    }

    /// Reads from the shard of `group`; where no group was ever made, from an empty one.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        broker: &Arc<Broker>,
        group: &str,
        look: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let Some(topic) = broker.catalog.topic(names::OFFSETS) else { return Ok(look(&self.0.fresh())) };
        self.0.look(broker, &topic, group, look).await
    }

    /// Reads from every shard that holds something.
    pub(crate) async fn look_at_all<T: Send + 'static>(
        &self,
        broker: &Arc<Broker>,
        look: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, ErrorCode> {
        self.0.look_at_all(broker, look).await
    }

    /// Starts the loops of partitions that hold something, so that offsets expire also where nobody asks.
    pub(crate) async fn resume(&self, broker: &Arc<Broker>) {
        self.0.resume(broker).await;
    }
}

/// The topic of offsets, made when it is not there.
pub(crate) async fn offsets_topic(broker: &Broker) -> Result<Arc<Topic>, ErrorCode> {
    internal_topic(broker, names::OFFSETS).await
}

/// An internal topic, made when it is not there.
pub(crate) async fn internal_topic(broker: &Broker, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    if let Some(topic) = broker.catalog.topic(name) {
        return Ok(topic);
    }
    create_automatically(broker, name, &mut Mutations::unlimited()).await.map_err(|refusal| {
        tracing::warn!(error = refusal.text, topic = name, "an internal topic cannot be made");
        ErrorCode::CoordinatorNotAvailable
    })
}
