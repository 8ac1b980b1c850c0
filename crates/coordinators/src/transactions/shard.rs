//! A shard: the transactional ids of one partition of `__transaction_state`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire::messages::{EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse};
use kafka_wire::{DecodeError, ErrorCode};

use super::VERSION;
use super::log::{read, record, tombstone};
use super::state::{NO_EPOCH, NO_ID, Partitions, State, Transaction, is_exhausted};
use crate::desk::{Batch, Effects, LogRecord, Token, Write, WriteId, append_error};

/// Settings, named as Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `transaction.max.timeout.ms`.
    pub timeout_max_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: how long an end of this coordinator's own that could
    /// not be written waits until it is tried again.
    pub retry_ms: i64,
}

impl Default for Options {
    /// Kafka's defaults.
    fn default() -> Self {
        Self { timeout_max_ms: 900_000, expiration_ms: 7 * 24 * 3_600_000, retry_ms: 10_000 }
    }
}

/// An answer. `throttle_time_ms` is the caller's to set.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To [`Shard::init_producer_id`].
    InitProducerId(InitProducerIdResponse),
    /// To [`Shard::add_partitions`]: the same for all of them.
    AddPartitions(ErrorCode),
    /// To [`Shard::end`].
    EndTxn(EndTxnResponse),
}

/// All markers of a transaction are durable: whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// As the markers said.
    pub transactional_id: String,
    /// As the markers said.
    pub producer_id: i64,
    /// As the markers said.
    pub epoch: i16,
}

impl From<&crate::desk::Markers> for Marked {
    fn from(markers: &crate::desk::Markers) -> Self {
        Self {
            transactional_id: markers.transactional_id.clone(),
            producer_id: markers.producer_id,
            epoch: markers.epoch,
        }
    }
}

/// A longest id: its length takes two bytes in the log.
const ID_BYTES_MAX: usize = i16::MAX as usize - 64;

#[derive(Debug)]
pub(super) struct Entry {
    pub now: Transaction,
    /// A transition that is being written.
    pub pending: Option<WriteId>,
    /// The markers of a prepared end are durable.
    marked: bool,
    deadline: Option<i64>,
}

impl Entry {
    pub fn new(now: Transaction) -> Self {
        Self { now, pending: None, marked: false, deadline: None }
    }

    /// A transition is being written.
    fn is_writing(&self) -> bool {
        self.pending.is_some()
    }

    /// Nothing else may begin.
    pub fn is_busy(&self) -> bool {
        self.is_writing() || self.now.state.is_prepared()
    }
}

/// What happens when a transition is in force, or could not be written.
#[derive(Debug)]
pub(super) enum Then {
    /// The reply.
    Reply(Token, Response),
    /// A prepared end: markers, and the reply.
    Prepared(Option<(Token, Response)>),
    /// The transaction is over.
    Completed,
    /// The id is gone.
    Expired,
}

#[derive(Debug)]
struct Transition {
    id: String,
    next: Option<Transaction>,
    then: Then,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) now_ms: i64,
    options: Options,
    /// The cluster's transaction version: how the log is written, and what this coordinator's own ends are.
    level: i16,
    transitions: BTreeMap<WriteId, Transition>,
    next_write: WriteId,
    deadlines: BTreeSet<(i64, String)>,
    /// A producer id that is to be handed out next.
    stock: Option<i64>,
    out: Effects<Response>,
}

impl Shard {
    /// A shard that has replayed nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            entries: BTreeMap::new(),
            now_ms: 0,
            options,
            level: VERSION,
            transitions: BTreeMap::new(),
            next_write: WriteId(1),
            deadlines: BTreeSet::new(),
            stock: None,
            out: Effects::default(),
        }
    }

    /// Whether a producer id is wanted: whoever needs one that is not there is told to come again.
    #[must_use]
    pub fn wants_id(&self) -> bool {
        self.stock.is_none()
    }

    /// A producer id that was never handed out.
    pub fn give_id(&mut self, producer_id: i64) {
        self.stock = Some(producer_id);
    }

    pub(super) fn take_id(&mut self) -> Result<i64, ErrorCode> {
        self.stock.take().ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// Takes over what a record of the log says.
    ///
    /// # Errors
    /// A record that cannot be read; it is as if it were not there.
    pub fn replay(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), DecodeError> {
        match read(key, value)? {
            Some((id, Some(found))) => drop(self.entries.insert(id, Entry::new(found))),
            Some((id, None)) => drop(self.entries.remove(&id)),
            None => {}
        }
        Ok(())
    }

    /// All records were replayed: what was prepared goes on to its end.
    pub fn loaded(&mut self, now_ms: i64) -> Effects<Response> {
        self.now_ms = now_ms;
        let ids: Vec<String> = self.entries.keys().cloned().collect();
        for id in &ids {
            if self.entries[id].now.state.is_prepared() {
                self.send_markers(id);
            }
            self.reschedule(id);
        }
        self.take()
    }

    /// The partition is given up: everybody who waits is sent to the next coordinator.
    pub fn unload(&mut self) -> Effects<Response> {
        for transition in std::mem::take(&mut self.transitions).into_values() {
            if let Then::Reply(token, response) | Then::Prepared(Some((token, response))) = transition.then {
                self.out.replies.push((token, failed(&response, ErrorCode::NotCoordinator)));
            }
        }
        self.take()
    }

    /// InitProducerId with a transactional id. A transaction that is open is aborted, and the client told to come again.
    pub fn init_producer_id(
        &mut self,
        now_ms: i64,
        token: Token,
        request: &InitProducerIdRequest,
    ) -> Effects<Response> {
        self.now_ms = now_ms;
        let id = request.transactional_id.as_deref().unwrap_or_default();
        let refused = |code: ErrorCode| Response::InitProducerId(init_refused(code));
        match self.next_session(id, request) {
            Err(code) => self.out.replies.push((token, refused(code))),
            Ok(None) => self.fence(id, Some((token, refused(ErrorCode::ConcurrentTransactions)))),
            Ok(Some(next)) => {
                let response = InitProducerIdResponse {
                    producer_id: next.producer_id,
                    producer_epoch: next.epoch,
                    ..Default::default()
                };
                self.write(id, next, Then::Reply(token, Response::InitProducerId(response)));
            }
        }
        self.take()
    }

    /// The producer's next session; None where a transaction must be aborted first.
    fn next_session(
        &mut self,
        id: &str,
        request: &InitProducerIdRequest,
    ) -> Result<Option<Transaction>, ErrorCode> {
        let timeout_ms = request.transaction_timeout_ms;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        if timeout_ms <= 0 || timeout_ms > self.options.timeout_max_ms {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        if !self.entries.contains_key(id) {
            let fresh = Transaction::new(self.take_id()?, timeout_ms, self.now_ms);
            self.entries.insert(id.to_owned(), Entry::new(fresh));
        }
        let entry = &self.entries[id];
        let now = entry.now.clone();
        let expected =
            (request.producer_id != NO_ID).then_some((request.producer_id, request.producer_epoch));
        let may_go_on = |(producer_id, epoch): (i64, i16)| {
            now.epoch == NO_EPOCH
                || producer_id == now.producer_id
                // It may not have heard that it has another id now.
                || producer_id == now.previous_producer_id && is_exhausted(epoch)
        };
        if entry.is_busy() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if !expected.is_none_or(may_go_on) {
            return Err(ErrorCode::ProducerFenced);
        }
        if now.state == State::Ongoing {
            return Ok(None);
        }
        let session = if is_exhausted(now.epoch) && expected.is_none_or(|(_, epoch)| epoch == now.epoch) {
            let last = if expected.is_some() { now.epoch } else { NO_EPOCH };
            (self.take_id()?, 0, last)
        } else {
            let epoch = next_epoch(&now, expected.map(|(_, epoch)| epoch))?;
            (now.producer_id, epoch.0, epoch.1)
        };
        Ok(Some(now.renewed(session, timeout_ms, self.now_ms)))
    }

    /// AddPartitionsToTxn, or one of its kind: `version` is the transaction version that the request tells of.
    pub fn add_partitions(
        &mut self,
        now_ms: i64,
        token: Token,
        (id, producer_id, epoch): (&str, i64, i16),
        partitions: &Partitions,
        version: i16,
    ) -> Effects<Response> {
        self.now_ms = now_ms;
        match self.check_add((id, producer_id, epoch), partitions) {
            Err(code) => self.out.replies.push((token, Response::AddPartitions(code))),
            Ok(()) => {
                let next = self.entries[id].now.with_partitions(partitions, version, now_ms);
                self.write(id, next, Then::Reply(token, Response::AddPartitions(ErrorCode::None)));
            }
        }
        self.take()
    }

    /// Ok where they must be written; else the answer.
    fn check_add(&self, who: (&str, i64, i16), partitions: &Partitions) -> Result<(), ErrorCode> {
        let entry = self.known(who)?;
        match entry.now.state {
            _ if entry.is_busy() => Err(ErrorCode::ConcurrentTransactions),
            State::Ongoing if entry.now.holds(partitions) => Err(ErrorCode::None),
            _ => Ok(()),
        }
    }

    /// The id, if this is its producer.
    pub(super) fn known(&self, (id, producer_id, epoch): (&str, i64, i16)) -> Result<&Entry, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let entry = self.entries.get(id).filter(|entry| entry.now.producer_id == producer_id);
        match entry.ok_or(ErrorCode::InvalidProducerIdMapping)? {
            entry if entry.now.epoch != epoch => Err(ErrorCode::ProducerFenced),
            entry => Ok(entry),
        }
    }

    /// Sets the cluster's transaction version, which is [`VERSION`] at first.
    pub fn set_version(&mut self, level: i16) {
        self.level = level;
    }

    /// Aborts an open transaction over its producer's head, whose epoch is over with it.
    pub(super) fn fence(&mut self, id: &str, reply: Option<(Token, Response)>) {
        match self.prepare(id, false, self.level).map(Transaction::fenced) {
            Ok(next) => self.write(id, next, Then::Prepared(reply)),
            Err(code) => {
                self.out.replies.extend(reply.map(|(token, response)| (token, failed(&response, code))));
                self.reschedule_from(id, self.now_ms.saturating_add(self.options.retry_ms.max(1)));
            }
        }
    }

    /// The id's transaction as it is once it has ended. Where that uses the last epoch up, another producer id follows.
    pub(super) fn prepare(&mut self, id: &str, commit: bool, version: i16) -> Result<Transaction, ErrorCode> {
        let exhausted = version >= VERSION && is_exhausted(self.entries[id].now.epoch);
        let fresh_id = if exhausted { Some(self.take_id()?) } else { None };
        Ok(self.entries[id].now.prepared(commit, version, fresh_id, self.now_ms))
    }

    /// Writes a transition.
    pub(super) fn write(&mut self, id: &str, next: Transaction, then: Then) {
        let record = record(id, &next, self.level);
        self.put(id, record, Some(next), then);
    }

    fn put(&mut self, id: &str, record: LogRecord, next: Option<Transaction>, then: Then) {
        let write = self.next_write;
        self.next_write = write.next();
        self.transitions.insert(write, Transition { id: id.to_owned(), next, then });
        self.out.writes.push(Write { id: write, records: vec![record], batch: Batch::Plain });
        if let Some(entry) = self.entries.get_mut(id) {
            entry.pending = Some(write);
        }
        self.reschedule(id);
    }

    /// A write is durable, or failed with an error as an append gives it. Unknown ids do nothing.
    pub fn complete(
        &mut self,
        now_ms: i64,
        write: WriteId,
        result: Result<(), ErrorCode>,
    ) -> Effects<Response> {
        self.now_ms = now_ms;
        let Some(Transition { id, next, then }) = self.transitions.remove(&write) else { return self.take() };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.pending = None;
            if let (Ok(()), Some(next)) = (result, next) {
                entry.now = next;
            }
        }
        match result {
            Ok(()) => self.in_force(&id, then),
            Err(error) => self.taken_back(&id, then, append_error(error)),
        }
        self.take()
    }

    fn in_force(&mut self, id: &str, then: Then) {
        match then {
            Then::Reply(token, response) => self.out.replies.push((token, response)),
            Then::Prepared(reply) => {
                self.out.replies.extend(reply);
                self.send_markers(id);
            }
            Then::Completed => {}
            Then::Expired => drop(self.entries.remove(id)),
        }
        self.reschedule(id);
    }

    fn taken_back(&mut self, id: &str, then: Then, error: ErrorCode) {
        match then {
            Then::Reply(token, response) => self.out.replies.push((token, failed(&response, error))),
            Then::Prepared(Some((token, response))) => {
                self.out.replies.push((token, failed(&response, error)));
            }
            Then::Prepared(None) | Then::Completed | Then::Expired => {}
        }
        self.reschedule_from(id, self.now_ms.saturating_add(self.options.retry_ms.max(1)));
    }

    /// Has the markers of a prepared end written; where there are none to write, it is complete at once.
    fn send_markers(&mut self, id: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.marked = entry.now.partitions.is_empty();
        let now = &entry.now;
        if now.partitions.is_empty() {
            return self.finish(id);
        }
        self.out.markers.push(crate::desk::Markers {
            transactional_id: id.to_owned(),
            producer_id: now.producer_id,
            epoch: now.epoch,
            commit: now.state == State::PrepareCommit,
            version: now.version,
            partitions: now.partitions.clone(),
        });
    }

    /// All markers that were asked for are durable. Anything else that is said to be does nothing.
    pub fn marked(&mut self, now_ms: i64, marked: &Marked) -> Effects<Response> {
        self.now_ms = now_ms;
        let (id, of) = (&marked.transactional_id, (marked.producer_id, marked.epoch));
        let due = |entry: &Entry| {
            entry.now.state.is_prepared()
                && of == (entry.now.producer_id, entry.now.epoch)
                && !entry.is_writing()
        };
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| due(entry)) {
            entry.marked = true;
            self.finish(id);
        }
        self.take()
    }

    fn finish(&mut self, id: &str) {
        let next = self.entries[id].now.completed(self.now_ms);
        self.write(id, next, Then::Completed);
    }

    /// Does what is due. Call it when [`Shard::next_deadline`] has passed; calling it earlier does nothing.
    pub fn poll(&mut self, now_ms: i64) -> Effects<Response> {
        self.now_ms = now_ms;
        while let Some((_, id)) = self.deadlines.first().filter(|(at, _)| *at <= now_ms).cloned() {
            self.due(&id);
        }
        self.take()
    }

    fn due(&mut self, id: &str) {
        self.clear_deadline(id);
        let Some(entry) = self.entries.get(id) else { return };
        match entry.now.state {
            _ if entry.is_writing() => {}
            State::Ongoing => self.fence(id, None),
            state if state.is_prepared() && entry.marked => self.finish(id),
            state if state.is_idle() => self.put(id, tombstone(id), None, Then::Expired),
            _ => {}
        }
    }

    /// When to call [`Shard::poll`], milliseconds on the clock of `now_ms`; None while nothing can become due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn clear_deadline(&mut self, id: &str) {
        if let Some(at) = self.entries.get_mut(id).and_then(|entry| entry.deadline.take()) {
            self.deadlines.remove(&(at, id.to_owned()));
        }
    }

    fn reschedule(&mut self, id: &str) {
        self.reschedule_from(id, i64::MIN);
    }

    /// Sets the deadline that goes with the state, not before `least`.
    fn reschedule_from(&mut self, id: &str, least: i64) {
        self.clear_deadline(id);
        let Some(entry) = self.entries.get_mut(id).filter(|entry| !entry.is_writing()) else { return };
        let now = &entry.now;
        let at = match now.state {
            // As Kafka compares: one more than the timeout.
            State::Ongoing => now.started_ms.saturating_add(i64::from(now.timeout_ms)).saturating_add(1),
            state if state.is_prepared() && entry.marked => self.now_ms,
            state if state.is_idle() => now.updated_ms.saturating_add(self.options.expiration_ms),
            _ => return,
        };
        let at = at.max(least);
        entry.deadline = Some(at);
        self.deadlines.insert((at, id.to_owned()));
    }

    pub(super) fn reply(&mut self, token: Token, response: Response) {
        self.out.replies.push((token, response));
    }

    pub(super) fn take(&mut self) -> Effects<Response> {
        std::mem::take(&mut self.out)
    }
}

/// The producer's next epoch and the one it says it had (KIP-360).
fn next_epoch(now: &Transaction, expected: Option<i16>) -> Result<(i16, i16), ErrorCode> {
    // Exhausted, and the producer's own epoch is another one: nothing goes on from there.
    let next = now.epoch.checked_add(1).filter(|_| !is_exhausted(now.epoch)).ok_or(ErrorCode::ProducerFenced);
    match expected {
        None => Ok((next?, NO_EPOCH)),
        Some(epoch) if now.epoch == NO_EPOCH || epoch == now.epoch => Ok((next?, now.epoch)),
        // It did not hear the answer.
        Some(epoch) if epoch == now.last_epoch => Ok((now.epoch, now.last_epoch)),
        Some(_) => Err(ErrorCode::ProducerFenced),
    }
}

pub(super) fn init_refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: NO_ID,
        producer_epoch: NO_EPOCH,
        ..Default::default()
    }
}

/// The same response when its write failed.
fn failed(response: &Response, error: ErrorCode) -> Response {
    match response {
        Response::InitProducerId(_) => Response::InitProducerId(init_refused(error)),
        Response::AddPartitions(_) => Response::AddPartitions(error),
        Response::EndTxn(_) => Response::EndTxn(super::end::refused(error)),
    }
}
