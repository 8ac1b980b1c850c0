//! Those who use the cluster, and write down what it answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::random::Random;
use bytes::Bytes;
use store::Handle;
use store_api::{
    Compare, CompareResult, CompareTarget, Error, KeyRange, Op, OpResponse, RangeRequest, Revision, Store,
    Txn, WatchMessage, WatchRequest,
};
use testkit::history::{Call, Found, Reply, Seen, SeenEvent};

use crate::world::{Flaw, Shared};

/// Keys written: few, so that clients meet.
pub const KEYS: u64 = 5;
/// A client gives a request up after this.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
/// Of so many messages to a watch one is lost, where that is the planted bug.
const SKIPPED: u64 = 20;

/// Asks for things, one after the other, and writes down what was answered.
pub async fn client(world: Shared, n: u32, mut random: Random, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5 + random.below(120))).await;
        let (picked, recorder, serial) = {
            let mut world = world.lock();
            world.serial += 1;
            (world.pick(), world.recorder.clone(), world.serial)
        };
        let Some((handle, killed)) = picked else { continue };
        let key = Bytes::from(format!("k{}", random.below(KEYS)));
        let value = Bytes::from(format!("{serial}{}", "x".repeat(random.below(300) as usize)));
        let call = match random.below(8) {
            0..=2 => Call::Get { key },
            3..=5 => Call::Put { key, value },
            6 => Call::Delete { key },
            _ => {
                let expect = found(&handle, &key).await.map_or(Revision(0), |found| found.mod_revision);
                Call::Cas { key, expect, value }
            }
        };
        let id = recorder.call(n, call.clone());
        let answered = tokio::select! {
            biased;
            () = killed.cancelled() => None,
            answered = tokio::time::timeout(CLIENT_PATIENCE, perform(&handle, call)) => answered.ok().flatten(),
        };
        if let Some(reply) = answered {
            recorder.reply(id, reply);
        }
    }
}

/// What the member itself has; only to have something to expect.
async fn found(handle: &Handle, key: &Bytes) -> Option<Found> {
    let request = RangeRequest { serializable: true, ..RangeRequest::key(key.clone()) };
    let kv = handle.range(request).await.ok()?.kvs.pop()?;
    Some(Found { value: kv.value, mod_revision: kv.mod_revision })
}

fn shown(kv: store_api::KeyValue) -> Found {
    Found { value: kv.value, mod_revision: kv.mod_revision }
}

/// The answer; None when it is unknown what happened.
pub async fn perform(handle: &Handle, call: Call) -> Option<Reply> {
    if let Call::Get { key } = call {
        // A read that fails has no effect.
        let Ok(mut read) = handle.range(RangeRequest::key(key)).await else { return Some(Reply::Failed) };
        return Some(Reply::Get { revision: read.revision, found: read.kvs.pop().map(shown) });
    }
    let done = match handle.txn(transaction(&call)).await {
        Ok(done) => done,
        // Refused before anything was written.
        Err(Error::NoSpace) => return Some(Reply::Failed),
        Err(_) => return None,
    };
    let (revision, succeeded) = (done.revision, done.succeeded);
    let response = done.responses.into_iter().next_back();
    match (call, response) {
        (Call::Put { .. }, _) => Some(Reply::Put { revision }),
        (Call::Delete { .. }, Some(OpResponse::DeleteRange { mut prev_kvs, .. })) => {
            Some(Reply::Delete { revision, previous: prev_kvs.pop().map(shown) })
        }
        (Call::Cas { .. }, _) if succeeded => Some(Reply::Cas { revision, outcome: Ok(()) }),
        (Call::Cas { .. }, Some(OpResponse::Range(mut read))) => {
            Some(Reply::Cas { revision, outcome: Err(read.kvs.pop().map(shown)) })
        }
        _ => None,
    }
}

fn transaction(call: &Call) -> Txn {
    match call {
        Call::Get { key } => {
            Txn { success: vec![Op::Range(RangeRequest::key(key.clone()))], ..Txn::default() }
        }
        Call::Put { key, value } => {
            Txn { success: vec![Op::put(key.clone(), value.clone())], ..Txn::default() }
        }
        Call::Delete { key } => {
            let op = Op::DeleteRange { range: KeyRange::One(key.clone()), prev_kv: true };
            Txn { success: vec![op], ..Txn::default() }
        }
        Call::Cas { key, expect, value } => {
            let compare = Compare {
                range: KeyRange::One(key.clone()),
                target: CompareTarget::ModRevision(*expect),
                result: CompareResult::Equal,
            };
            let failure = vec![Op::Range(RangeRequest::key(key.clone()))];
            Txn { compare: vec![compare], success: vec![Op::put(key.clone(), value.clone())], failure }
        }
    }
}

/// Watches all keys from the first revision on, at another member whenever one is gone.
pub async fn watcher(world: Shared, over: Arc<AtomicBool>) -> Vec<Seen> {
    let (mut seen, mut next, mut messages) = (Vec::new(), Revision(1), 0);
    let skips = world.lock().flaw == Some(Flaw::EventSkipped);
    loop {
        let picked = world.lock().pick();
        let ending = over.load(Ordering::Relaxed);
        let Some((handle, killed)) = picked else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let request =
            WatchRequest { range: KeyRange::prefix("k"), start_revision: Some(next), prev_kv: false };
        let Ok(mut watch) = handle.watch(request).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        loop {
            let message = tokio::select! {
                biased;
                () = killed.cancelled() => break,
                message = tokio::time::timeout(Duration::from_millis(400), watch.messages.recv()) => message,
            };
            match message {
                Ok(Some(WatchMessage::Events { revision, events })) => {
                    next = revision.next();
                    world.lock().watched = revision;
                    messages += 1;
                    if !(skips && messages % SKIPPED == 0) {
                        seen.push(Seen::Events(events.into_iter().map(event).collect()));
                    }
                }
                Ok(Some(WatchMessage::Progress { .. })) => {}
                // Quiet for long: another member is as good, and the end is noticed.
                Err(_) if ending => return seen,
                Ok(Some(WatchMessage::Cancelled { .. }) | None) | Err(_) => break,
            }
        }
    }
}

fn event(event: store_api::Event) -> SeenEvent {
    let value = (event.kind == store_api::EventKind::Put).then_some(event.kv.value);
    SeenEvent { key: event.kv.key, value, revision: event.kv.mod_revision }
}
