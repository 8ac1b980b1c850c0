//! The store's contract: a revisioned key-value space with transactions, watches and leases, in etcd v3's terms.
//!
//! One trait, no implementation. `store` implements it over its own log and over an external etcd; `testkit`
//! implements it in memory. Callers hold an `Arc<dyn Store>`.
//!
//! Semantics are etcd 3.6's: a single revision counter for the whole store, a transaction is one revision however many
//! keys it writes, a delete of nothing and a read move no revision, a watch from revision R sees every event with
//! `mod_revision >= R` in order and without a gap, and a write's reply means durable.

mod auth;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use auth::AuthError;

base::id_type!(
    /// A point in the store's history. 1 is an empty store; the first write is revision 2.
    pub struct Revision(i64);
);
base::id_type!(
    /// Identity of a lease; 0 means none.
    pub struct LeaseId(i64);
);

/// A key's current state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of the write that made the key (this time).
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
    /// Writes since creation, 1 for a fresh key.
    pub version: i64,
    pub lease: LeaseId,
}

/// Which keys: one key, or a half-open range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRange {
    One(Bytes),
    /// `start <= key < end`; an empty `end` means no upper bound (etcd's `\0`).
    Span {
        start: Bytes,
        end: Bytes,
    },
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let end = prefix_end(&start);
        Self::Span { start, end }
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Span { start, end } => key >= &start[..] && (end.is_empty() || key < &end[..]),
        }
    }
}

/// The first key after all keys with this prefix; empty (no bound) when the prefix is all 0xff.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let keep = prefix.iter().rposition(|&b| b != 0xff);
    keep.map_or_else(Bytes::new, |last| {
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        end.into()
    })
}

/// What the keys of an answer are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

/// Which way. `None` is the store's own order, which is ascending by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// Keeps keys written within these revisions (inclusive) in the answer; 0 is no bound. `count` is not touched by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevisionBounds {
    pub min_mod: Revision,
    pub max_mod: Revision,
    pub min_create: Revision,
    pub max_create: Revision,
}

/// A read.
#[derive(Debug, Clone)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// Most keys to return; 0 for all.
    pub limit: usize,
    /// Read at this revision; None for now.
    pub revision: Option<Revision>,
    pub keys_only: bool,
    pub count_only: bool,
    /// False: linearizable. True: whatever this member has.
    pub serializable: bool,
    pub sort_target: SortTarget,
    pub sort_order: SortOrder,
    pub bounds: RevisionBounds,
}

impl RangeRequest {
    /// A linearizable read of one key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::of(KeyRange::One(key.into()))
    }
    /// A linearizable read of all keys with a prefix.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self::of(KeyRange::prefix(prefix))
    }
    /// A linearizable read of a range.
    #[must_use]
    pub fn of(range: KeyRange) -> Self {
        Self {
            range,
            limit: 0,
            revision: None,
            keys_only: false,
            count_only: false,
            serializable: false,
            sort_target: SortTarget::Key,
            sort_order: SortOrder::None,
            bounds: RevisionBounds::default(),
        }
    }
}

/// Answer to a read. Keys are in the order asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision when the read was served (not the revision asked for).
    pub revision: Revision,
    pub kvs: Vec<KeyValue>,
    /// Keys in the range at that revision, regardless of the limit.
    pub count: usize,
    /// Whether the limit cut the answer.
    pub more: bool,
}

/// What a comparison looks at. A missing key compares as zero, with an empty value that equals nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

/// How it must relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareResult {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// One condition of a transaction. Over a range it must hold for every key in it.
#[derive(Debug, Clone)]
pub struct Compare {
    pub range: KeyRange,
    pub target: CompareTarget,
    pub result: CompareResult,
}

impl Compare {
    /// The key does not exist.
    #[must_use]
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self {
            range: KeyRange::One(key.into()),
            target: CompareTarget::ModRevision(Revision(0)),
            result: CompareResult::Equal,
        }
    }
    /// The key was last written at `revision`.
    #[must_use]
    pub fn unchanged(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self {
            range: KeyRange::One(key.into()),
            target: CompareTarget::ModRevision(revision),
            result: CompareResult::Equal,
        }
    }
}

/// One step of a transaction.
#[derive(Debug, Clone)]
pub enum Op {
    Range(RangeRequest),
    Put {
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
        prev_kv: bool,
    },
    /// A put on a key that must exist, which keeps its value, its lease, or both: what is None (etcd's `ignore_value` and
    /// `ignore_lease`).
    Update {
        key: Bytes,
        value: Option<Bytes>,
        lease: Option<LeaseId>,
        prev_kv: bool,
    },
    DeleteRange {
        range: KeyRange,
        prev_kv: bool,
    },
    Txn(Txn),
}

impl Op {
    /// A plain put.
    #[must_use]
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: LeaseId(0), prev_kv: false }
    }
    /// A plain delete of one key.
    #[must_use]
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::DeleteRange { range: KeyRange::One(key.into()), prev_kv: false }
    }
}

/// If all of `compare` hold then `success`, else `failure`; all of it at one revision, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

/// What one step answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResponse {
    Range(RangeResponse),
    Put { prev_kv: Option<KeyValue> },
    DeleteRange { deleted: usize, prev_kvs: Vec<KeyValue> },
    Txn(TxnResponse),
}

/// Answer to a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// The store's revision after the transaction: its own if it wrote.
    pub revision: Revision,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

/// A subscription to changes.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// First revision to see; None for everything after now.
    pub start_revision: Option<Revision>,
    /// Whether events carry the value before the change.
    pub prev_kv: bool,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change. For a delete, `kv` has only key and mod_revision (that of the delete).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub kv: KeyValue,
    pub prev_kv: Option<KeyValue>,
}

/// What a watch delivers. Events of one revision are never split over two messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// Changes in revision order; `revision` is the last of them.
    Events { revision: Revision, events: Vec<Event> },
    /// Everything up to `revision` has been delivered (answer to [`Watch::request_progress`]).
    Progress { revision: Revision },
    /// The watch ended: its start was compacted, or it fell too far behind, or the store closed.
    Cancelled { error: Error },
}

/// An open watch; dropping it ends it. The first revision it can see is `created_revision + 1` unless a start was given.
#[derive(Debug)]
pub struct Watch {
    /// The store's revision when the watch was made.
    pub created_revision: Revision,
    pub messages: mpsc::Receiver<WatchMessage>,
    /// Wakes the store to send one Progress message.
    pub progress: mpsc::Sender<()>,
}

impl Watch {
    /// Asks for one [`WatchMessage::Progress`] after all events so far.
    pub fn request_progress(&self) {
        // A full queue already holds an unanswered request, which will do.
        let _ = self.progress.try_send(());
    }
}

/// A lease's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    pub id: LeaseId,
    /// Seconds as granted.
    pub granted_ttl_s: i64,
    /// Seconds left; -1 when it does not exist.
    pub ttl_s: i64,
    pub keys: Vec<Bytes>,
}

/// Why the store refused. The kind says what the caller should do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Read again from a newer revision. etcd: "required revision has been compacted".
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { compact_revision: Revision },
    /// The revision asked for has not happened yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision { current: Revision },
    /// The request can never succeed as it is.
    #[error("{0}")]
    Invalid(String),
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// Too much in flight: retry later.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// The disk or the quota is full: reads go on, writes are refused until space returns.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// A watcher that did not read fast enough; re-list and watch again.
    #[error("watch fell behind and was ended")]
    SlowWatcher,
    /// The store is closing: do not retry here.
    #[error("etcdserver: server stopped")]
    ShuttingDown,
    /// No answer in time, or the log failed; whether the write happened is unknown.
    #[error("etcdserver: request timed out: {0}")]
    Unavailable(String),
    /// The data on disk is not what was written. Nothing of it is served.
    #[error("etcdserver: corrupt: {0}")]
    Corrupt(String),
    /// The caller may not, or is not who it says; or users and roles cannot be changed so.
    #[error("{0}")]
    Auth(#[from] AuthError),
}

/// A boxed future, so that the contract stays object safe.
pub type Future_<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The store.
pub trait Store: Send + Sync + 'static {
    /// Reads a range.
    fn range(&self, request: RangeRequest) -> Future_<'_, RangeResponse>;
    /// Runs a transaction. The reply means durable. At most [`MAX_TXN_OPS`] steps and [`MAX_REQUEST_BYTES`].
    fn txn(&self, txn: Txn) -> Future_<'_, TxnResponse>;
    /// Opens a watch.
    fn watch(&self, request: WatchRequest) -> Future_<'_, Watch>;
    /// Makes a lease of `ttl_s` seconds; `id` 0 lets the store choose.
    fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Future_<'_, LeaseStatus>;
    /// Ends a lease and deletes its keys.
    fn lease_revoke(&self, id: LeaseId) -> Future_<'_, ()>;
    /// Renews a lease.
    fn lease_keep_alive(&self, id: LeaseId) -> Future_<'_, LeaseStatus>;
    /// A lease's time left and keys.
    fn lease_status(&self, id: LeaseId) -> Future_<'_, LeaseStatus>;
    /// Forgets history before `revision`.
    fn compact(&self, revision: Revision) -> Future_<'_, ()>;
    /// The latest applied revision, without waiting.
    fn revision(&self) -> Revision;
}

/// etcd's `--max-txn-ops` default.
pub const MAX_TXN_OPS: usize = 128;
/// etcd's `--max-request-bytes` default: 1.5 MiB.
pub const MAX_REQUEST_BYTES: usize = 1_572_864;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends_where_the_prefix_does() {
        assert_eq!(&prefix_end(b"/registry/pods/")[..], b"/registry/pods0");
        assert_eq!(&prefix_end(b"a\xff")[..], b"b");
        assert!(prefix_end(b"\xff\xff").is_empty());
        assert!(KeyRange::prefix("a/").contains(b"a/x"));
        assert!(!KeyRange::prefix("a/").contains(b"a0"));
    }
}
