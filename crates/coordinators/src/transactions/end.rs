//! EndTxn, and what each state answers to it.

use kafka_wire::ErrorCode;
use kafka_wire::messages::{EndTxnRequest, EndTxnResponse};

use super::shard::{Response, Shard, Then};
use super::state::{NO_EPOCH, NO_ID, State};
use super::{VERSION, VERSION_OLD};
use crate::desk::{Effects, Token};

/// The first version of EndTxn whose clients know that the epoch rises with it.
const RISES_FROM: i16 = 5;

/// What an end comes to.
enum End {
    /// It is to be written.
    Prepare,
    /// It was asked for before, and is so.
    Repeated,
}

impl Shard {
    /// EndTxn. The answer comes when the end is durable; markers follow.
    pub fn end(
        &mut self,
        now_ms: i64,
        token: Token,
        version: i16,
        request: &EndTxnRequest,
    ) -> Effects<Response> {
        self.now_ms = now_ms;
        let id = &request.transactional_id;
        let rises = version >= RISES_FROM;
        let next = match self.check_end(request, rises) {
            Err(code) => Err(refused(code)),
            Ok(End::Repeated) => {
                let now = &self.entries[id].now;
                Err(answer(rises.then_some((now.producer_id, now.epoch))))
            }
            Ok(End::Prepare) => {
                let version = if rises { VERSION } else { VERSION_OLD };
                self.prepare(id, request.committed, version).map_err(refused)
            }
        };
        match next {
            Err(response) => self.reply(token, Response::EndTxn(response)),
            Ok(next) => {
                let response = Response::EndTxn(answer(rises.then(|| next.afterwards())));
                self.write(id, next, Then::Prepared(Some((token, response))));
            }
        }
        self.take()
    }

    fn check_end(&self, request: &EndTxnRequest, rises: bool) -> Result<End, ErrorCode> {
        let id = request.transactional_id.as_str();
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let entry = self.entries.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let (now, epoch) = (&entry.now, request.producer_epoch);
        // The client did not hear that its epoch has risen, or that its id has changed with that.
        let risen = rises && epoch.checked_add(1) == Some(now.epoch);
        let changed = rises
            && now.previous_producer_id == request.producer_id
            && epoch == i16::MAX - 1
            && now.epoch == 0
            && now.producer_id != request.producer_id;
        if now.producer_id != request.producer_id && !changed {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        let valid = match now.state {
            _ if !rises => epoch == now.epoch,
            state if state.is_prepared() => risen,
            State::CompleteCommit | State::CompleteAbort => risen || changed || epoch == now.epoch,
            _ => epoch == now.epoch,
        };
        if !valid {
            return Err(ErrorCode::ProducerFenced);
        }
        if entry.is_busy() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        match rises {
            true => end_of_2(now.state, request.committed, risen || changed),
            false => end_of_0(now.state, request.committed),
        }
    }
}

/// In version 0 an end may be repeated, and nothing else.
fn end_of_0(state: State, commit: bool) -> Result<End, ErrorCode> {
    match (state, commit) {
        (State::Ongoing, _) => Ok(End::Prepare),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(End::Repeated),
        (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ErrorCode::ConcurrentTransactions),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// In version 2 the epoch tells a repeated end from the next one, and what has no partitions can be aborted.
fn end_of_2(state: State, commit: bool, repeated: bool) -> Result<End, ErrorCode> {
    match (state, commit) {
        (State::Ongoing, _) => Ok(End::Prepare),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) if repeated => Ok(End::Repeated),
        (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ErrorCode::ConcurrentTransactions),
        (State::Empty | State::CompleteCommit | State::CompleteAbort, false) if !repeated => Ok(End::Prepare),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

fn answer(producer: Option<(i64, i16)>) -> EndTxnResponse {
    let (producer_id, producer_epoch) = producer.unwrap_or((NO_ID, NO_EPOCH));
    EndTxnResponse { producer_id, producer_epoch, ..Default::default() }
}

pub(super) fn refused(code: ErrorCode) -> EndTxnResponse {
    EndTxnResponse { error_code: code.code(), ..answer(None) }
}
