//! What every handler writes on: time, chance, deadlines, replies, and writes with what is parked behind them.

use std::collections::BTreeMap;

use base::random::Random;
use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::messages::{
    HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, OffsetCommitResponse, OffsetDeleteResponse,
    SyncGroupResponse, TxnOffsetCommitResponse, delete_groups_response::DeletableGroupResult,
};

use crate::Options;
use crate::group::Revert;
use crate::timers::{Timer, Timers};

base::id_type!(
    /// The caller's name for a request that waits for its answer.
    pub struct Token(u64);
);

base::id_type!(
    /// A write of this shard; later writes have larger ids.
    pub struct WriteId(u64);
);

/// An answer to one of the handlers' requests. `throttle_time_ms` is the caller's to set.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To [`Shard::join`](crate::Shard::join).
    JoinGroup(JoinGroupResponse),
    /// To [`Shard::sync`](crate::Shard::sync).
    SyncGroup(SyncGroupResponse),
    /// To [`Shard::heartbeat`](crate::Shard::heartbeat).
    Heartbeat(HeartbeatResponse),
    /// To [`Shard::leave`](crate::Shard::leave).
    LeaveGroup(LeaveGroupResponse),
    /// To [`Shard::commit_offsets`](crate::Shard::commit_offsets).
    OffsetCommit(OffsetCommitResponse),
    /// To [`Shard::delete_offsets`](crate::Shard::delete_offsets).
    OffsetDelete(OffsetDeleteResponse),
    /// To [`Shard::delete_groups`](crate::Shard::delete_groups): a result per group that was named.
    DeleteGroups(Vec<DeletableGroupResult>),
    /// To [`Shard::commit_in_transaction`](crate::Shard::commit_in_transaction).
    TxnOffsetCommit(TxnOffsetCommitResponse),
    /// To [`Shard::end_transaction`](crate::Shard::end_transaction): the append's own word.
    EndTransaction(ErrorCode),
}

impl Response {
    /// The same response when its write failed.
    fn failed(self, error: ErrorCode) -> Self {
        let code = error.code();
        match self {
            Self::OffsetCommit(mut r) => {
                r.topics.iter_mut().flat_map(|t| &mut t.partitions).for_each(|p| p.error_code = code);
                Self::OffsetCommit(r)
            }
            Self::TxnOffsetCommit(mut r) => {
                r.topics.iter_mut().flat_map(|t| &mut t.partitions).for_each(|p| p.error_code = code);
                Self::TxnOffsetCommit(r)
            }
            Self::EndTransaction(_) => Self::EndTransaction(error),
            Self::OffsetDelete(_) => {
                Self::OffsetDelete(OffsetDeleteResponse { error_code: code, ..Default::default() })
            }
            Self::DeleteGroups(mut results) => {
                results.iter_mut().for_each(|r| r.error_code = code);
                Self::DeleteGroups(results)
            }
            Self::LeaveGroup(_) => {
                Self::LeaveGroup(LeaveGroupResponse { error_code: code, ..Default::default() })
            }
            other => other,
        }
    }
}

/// A record of `__consumer_offsets`; a value of None is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Record type and key.
    pub key: Bytes,
    /// Version and value.
    pub value: Option<Bytes>,
}

/// The producer on whose behalf a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// What kind of batch a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Records of the coordinator's own.
    Plain,
    /// Records that count when the author's transaction is committed. `guard` is what the caller gave when it had verified
    /// the transaction.
    Transactional {
        /// Whose transaction.
        author: Author,
        /// The caller's word.
        guard: Option<u64>,
    },
    /// The end of the author's transaction; there are no records.
    Marker {
        /// Whose transaction.
        author: Author,
        /// Committed, else aborted.
        commit: bool,
        /// Which coordinator says so.
        coordinator_epoch: i32,
        /// The version of the transaction.
        version: i16,
    },
}

/// Records to be appended as one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// To be handed back to [`Shard::complete`](crate::Shard::complete).
    pub id: WriteId,
    /// At least one, but for a marker.
    pub records: Vec<LogRecord>,
    /// What they are.
    pub batch: Batch,
}

/// Markers to be written for a transaction that has ended, until all are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Whose.
    pub transactional_id: String,
    /// Its producer.
    pub producer_id: i64,
    /// The epoch that the markers carry.
    pub epoch: i16,
    /// Committed, else aborted.
    pub commit: bool,
    /// The version of the transaction.
    pub version: i16,
    /// Where to.
    pub partitions: crate::transactions::Partitions,
}

/// What the caller has to do, in this order or at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects<R = Response> {
    /// Answers to be sent now.
    pub replies: Vec<(Token, R)>,
    /// Batches to be appended, in this order.
    pub writes: Vec<Write>,
    /// Markers to be written (by transactions' coordinators alone).
    pub markers: Vec<Markers>,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Self { replies: Vec::new(), writes: Vec::new(), markers: Vec::new() }
    }
}

/// What happens when a write is complete.
#[derive(Debug)]
pub(crate) enum Then {
    /// The reply is released, or turned into an error.
    Reply(Token, Response),
    /// The leader's assignment takes effect (group, generation, assignment by member).
    Assign { group: String, generation: i32, assignment: BTreeMap<String, Bytes> },
    /// A static member's new id takes effect, or is taken back.
    Rejoined { group: String, revert: Revert },
    /// These groups are gone, or alive again; then the reply.
    Deleted { groups: Vec<String>, reply: Option<(Token, Response)> },
    /// Nobody waits.
    Nothing,
}

/// A write that is not complete.
#[derive(Debug)]
pub(crate) struct Pending {
    pub records: Vec<LogRecord>,
    pub batch: Batch,
    pub then: Then,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    pub now_ms: i64,
    pub options: Options,
    pub timers: Timers,
    random: Random,
    pending: BTreeMap<WriteId, Pending>,
    next_write: WriteId,
    out: Effects,
}

impl Desk {
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            now_ms: 0,
            options,
            timers: Timers::default(),
            random: Random::from_seed(seed),
            pending: BTreeMap::new(),
            next_write: WriteId(1),
            out: Effects::default(),
        }
    }

    /// What has gathered since the last call.
    pub fn take(&mut self) -> Effects {
        std::mem::take(&mut self.out)
    }

    pub fn reply(&mut self, token: Token, response: Response) {
        self.out.replies.push((token, response));
    }

    /// Releases a parked reply as its write ended.
    pub fn release(&mut self, token: Token, response: Response, result: Result<(), ErrorCode>) {
        match result {
            Ok(()) => self.reply(token, response),
            // Who writes markers knows what an append's errors mean.
            Err(error) if matches!(response, Response::EndTransaction(_)) => {
                self.reply(token, response.failed(error));
            }
            Err(error) => self.reply(token, response.failed(append_error(error))),
        }
    }

    pub fn write(&mut self, records: Vec<LogRecord>, then: Then) {
        self.write_as(Batch::Plain, records, then);
    }

    /// Writes a batch of any kind.
    pub fn write_as(&mut self, batch: Batch, records: Vec<LogRecord>, then: Then) {
        let id = self.next_write;
        self.next_write = id.next();
        self.pending.insert(id, Pending { records: records.clone(), batch, then });
        self.out.writes.push(Write { id, records, batch });
    }

    /// Whether the current call wrote anything yet.
    pub fn has_writes(&self) -> bool {
        !self.out.writes.is_empty()
    }

    pub fn take_pending(&mut self, id: WriteId) -> Option<Pending> {
        self.pending.remove(&id)
    }

    pub fn take_all_pending(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.pending).into_values().collect()
    }

    /// Keys of all records that are on their way to the log.
    pub fn pending_keys(&self) -> impl Iterator<Item = &Bytes> {
        self.pending.values().flat_map(|p| &p.records).map(|r| &r.key)
    }

    pub fn after(&mut self, timer: Timer, delay_ms: i32) {
        // Never now: a deadline that sets itself anew must not hold up the others.
        let at = self.now_ms.saturating_add(i64::from(delay_ms.max(1)));
        self.timers.schedule(timer, at);
    }

    /// `prefix-` and a random UUID.
    pub fn member_id(&mut self, prefix: &str) -> String {
        let mut raw = [0u8; 16];
        self.random.fill(&mut raw);
        raw[6] = raw[6] & 0x0f | 0x40;
        raw[8] = raw[8] & 0x3f | 0x80;
        format!("{prefix}-{}", kafka_wire::Uuid::from_bytes(raw))
    }
}

/// What a client is told when a write failed with an append's error.
pub(crate) fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}
