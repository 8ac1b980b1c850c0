//! Taking turns on a prefix: what locks and elections have in common.
//!
//! ```text
//! <name>/<lease, hexadecimal>   made once, with the lease; who made the oldest of a name has the turn
//! ```
//! Whoever waits watches the key made just before its own, so that the end of one turn wakes one waiter
//! (facts: client/v3/concurrency key.go, mutex.go, election.go).

use bytes::Bytes;
use store_api::{
    Compare, CompareResult, CompareTarget, Error, EventKind, KeyRange, KeyValue, LeaseId, Op, OpResponse,
    RangeRequest, Revision, RevisionBounds, SortOrder, SortTarget, Store as _, Txn, WatchMessage,
    WatchRequest,
};
use tonic::Status;

use crate::auth::Acting;

/// The lease of a caller who brought none, seconds.
const SESSION_TTL_S: i64 = 60;

/// A refusal as these services give it: they are clients of the store in the same process, and the text is all that a
/// client's error keeps.
pub(super) fn refused(error: Error) -> Status {
    Status::unknown(super::error::status(&error).message())
}

/// A caller's place in a queue.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub key: Bytes,
    pub lease: LeaseId,
    /// When the key was made.
    pub created: Revision,
    /// The store's revision when that was found out.
    pub seen: Revision,
    /// What was there already, if something was.
    pub found: Option<KeyValue>,
}

/// The prefix of a queue's keys.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The caller's lease, made if there is none.
pub(super) async fn session(store: &Acting, lease: i64) -> Result<LeaseId, Error> {
    match lease {
        0 => Ok(store.lease_grant(LeaseId(0), SESSION_TTL_S).await?.id),
        given => Ok(LeaseId(given)),
    }
}

/// Takes a place, or the one that was taken with the lease before.
pub(super) async fn join(store: &Acting, name: &[u8], lease: LeaseId, value: Bytes) -> Result<Place, Error> {
    let mut key = prefix(name).to_vec();
    // A negative lease shows as Go shows it.
    let sign = if lease.get() < 0 { "-" } else { "" };
    key.extend_from_slice(format!("{sign}{:x}", lease.get().unsigned_abs()).as_bytes());
    let key = Bytes::from(key);
    let absent = Compare {
        range: KeyRange::One(key.clone()),
        target: CompareTarget::CreateRevision(Revision(0)),
        result: CompareResult::Equal,
    };
    let txn = Txn {
        compare: vec![absent],
        success: vec![Op::Put { key: key.clone(), value, lease, prev_kv: false }],
        failure: vec![Op::Range(RangeRequest::key(key.clone()))],
    };
    let response = store.txn(txn).await?;
    let seen = response.revision;
    let found = match response.responses.into_iter().next() {
        Some(OpResponse::Range(range)) => range.kvs.into_iter().next(),
        _ => None,
    };
    let created = found.as_ref().map_or(seen, |kv| kv.create_revision);
    Ok(Place { key, lease, created, seen, found })
}

/// Waits until nothing older than `created` is left in the queue.
pub(super) async fn wait(store: &Acting, name: &[u8], created: Revision) -> Result<(), Error> {
    loop {
        let request = RangeRequest {
            limit: 1,
            sort_target: SortTarget::CreateRevision,
            sort_order: SortOrder::Descend,
            bounds: RevisionBounds { max_create: Revision(created.get() - 1), ..RevisionBounds::default() },
            ..RangeRequest::prefix(prefix(name))
        };
        let response = store.range(request).await?;
        let Some(before) = response.kvs.into_iter().next() else { return Ok(()) };
        until_deleted(store, before.key, response.revision).await?;
    }
}

async fn until_deleted(store: &Acting, key: Bytes, from: Revision) -> Result<(), Error> {
    let request = WatchRequest { range: KeyRange::One(key), start_revision: Some(from), prev_kv: false };
    let mut watch = store.watch(request).await?;
    while let Some(message) = watch.messages.recv().await {
        match message {
            WatchMessage::Events { events, .. } => {
                if events.iter().any(|event| event.kind == EventKind::Delete) {
                    return Ok(());
                }
            }
            WatchMessage::Progress { .. } => {}
            WatchMessage::Cancelled { error } => return Err(error),
        }
    }
    Err(Error::ShuttingDown)
}

/// Who has the turn: the oldest of the queue.
pub(super) async fn first(store: &Acting, name: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
    let request = RangeRequest {
        limit: 1,
        sort_target: SortTarget::CreateRevision,
        sort_order: SortOrder::Ascend,
        ..RangeRequest::prefix(prefix(name))
    };
    let response = store.range(request).await?;
    Ok((response.kvs.into_iter().next(), response.revision))
}

/// Gives a place up when whoever waits for it goes away before its turn.
pub(super) struct GiveUp {
    store: Acting,
    key: Option<Bytes>,
}

impl GiveUp {
    pub(super) fn new(store: &Acting, place: &Place) -> Self {
        Self { store: store.clone(), key: Some(place.key.clone()) }
    }

    /// The turn came.
    pub(super) fn keep(mut self) {
        self.key = None;
    }
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let store = self.store.clone();
        self.store.spawn("store-place-given-up", async move {
            let txn = Txn { success: vec![Op::delete(key)], ..Txn::default() };
            if let Err(error) = store.txn(txn).await {
                tracing::debug!(%error, "a place in a queue stays until its lease ends");
            }
        });
    }
}
