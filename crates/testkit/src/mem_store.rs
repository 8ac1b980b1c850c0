//! The store in memory: the same brain as the real one over a map, for tests of rooms that need a `Store`.
//!
//! Every call is served under one lock and is done when it returns. Leases end by a timer that runs only while there are
//! leases, on the clock given, or on tokio's (so that `tokio::time::pause` works).

use std::sync::{Arc, Weak};
use std::time::Duration;

use base::clock::{Clock, SharedClock};
use mvcc::read::{self, History};
use mvcc::watch::{Hub, Source};
use mvcc::{Applied, Entry, Lessor, MemState, Reply};
use parking_lot::Mutex;
use store_api::{
    Error, Future_, KeyRange, LeaseId, LeaseStatus, RangeRequest, RangeResponse, Revision, Store, Txn,
    TxnResponse, Watch, WatchRequest,
};
use tokio::sync::Notify;

/// Looks at the leases this often at least, when a clock other than tokio's may have been moved.
const LEASE_LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Inner {
    state: MemState,
    lessor: Lessor,
    next_lease: i64,
    expiring: bool,
}

/// A store in memory. See [`MemStore::shared`].
pub struct MemStore {
    inner: Mutex<Inner>,
    hub: Arc<Hub>,
    clock: Option<SharedClock>,
    start: tokio::time::Instant,
    leases: Notify,
    me: Weak<Self>,
}

impl std::fmt::Debug for MemStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemStore").field("revision", &self.hub.revision()).finish_non_exhaustive()
    }
}

impl MemStore {
    /// An empty store whose leases run on tokio's clock.
    #[must_use]
    pub fn shared() -> Arc<dyn Store> {
        Self::new(None)
    }

    /// An empty store whose leases run on `clock`.
    #[must_use]
    pub fn with_clock(clock: SharedClock) -> Arc<dyn Store> {
        Self::new(Some(clock))
    }

    fn new(clock: Option<SharedClock>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            inner: Mutex::default(),
            hub: Arc::new(Hub::new(Revision(1))),
            clock,
            start: tokio::time::Instant::now(),
            leases: Notify::new(),
            me: me.clone(),
        })
    }

    fn now(&self) -> Duration {
        self.clock.as_ref().map_or_else(|| self.start.elapsed(), |clock| Clock::monotonic(&**clock))
    }

    fn apply(&self, entry: Entry) -> Result<Reply, Error> {
        let now = self.now();
        let mut inner = self.inner.lock();
        let Applied { revision, mut replies, events, leases, .. } = mvcc::apply(&mut inner.state, &[entry])?;
        for change in leases {
            inner.lessor.apply(change, now);
        }
        // Under the lock, so that events of two writers are published in order.
        self.hub.publish(revision, &events);
        drop(inner);
        replies.pop().unwrap_or_else(|| Err(Error::Corrupt("no reply".to_owned())))
    }

    fn grant(&self, id: LeaseId, ttl_s: i64) -> Result<LeaseStatus, Error> {
        let id = if id.get() == 0 { self.free_lease()? } else { id };
        let reply = self.apply(Entry::LeaseGrant { id, ttl_s })?;
        self.expire_in_background();
        match reply {
            Reply::LeaseGranted(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    fn free_lease(&self) -> Result<LeaseId, Error> {
        let mut inner = self.inner.lock();
        loop {
            inner.next_lease += 1;
            let id = LeaseId(inner.next_lease);
            if read::lease(&inner.state, id)?.is_none() {
                return Ok(id);
            }
        }
    }

    fn status(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let now = self.now();
        let inner = self.inner.lock();
        let Some(granted_ttl_s) = read::lease(&inner.state, id)? else {
            return Ok(LeaseStatus { id, granted_ttl_s: 0, ttl_s: -1, keys: Vec::new() });
        };
        let left = inner.lessor.left(id, now).unwrap_or_default();
        let keys = read::lease_keys(&inner.state, id)?;
        Ok(LeaseStatus { id, granted_ttl_s, ttl_s: left.as_secs_f64().ceil() as i64, keys })
    }

    fn keep_alive(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let now = self.now();
        if !self.inner.lock().lessor.renew(id, now) {
            return Err(Error::LeaseNotFound);
        }
        self.status(id)
    }

    /// Starts the timer unless it runs. It ends with the last lease, or with the store.
    fn expire_in_background(&self) {
        self.leases.notify_one();
        if std::mem::replace(&mut self.inner.lock().expiring, true) {
            return;
        }
        let me = self.me.clone();
        tokio::spawn(async move {
            while let Some(store) = me.upgrade() {
                let Some(wait) = store.expire() else { break };
                let wait = if store.clock.is_some() { wait.min(LEASE_LOOK) } else { wait };
                // An upper bound lets the store be dropped while a long lease runs.
                let wait = wait.min(Duration::from_secs(1));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = store.leases.notified() => {}
                }
            }
        });
    }

    /// Ends leases that are over; how long until the next, None without leases.
    fn expire(&self) -> Option<Duration> {
        let now = self.now();
        let expired = self.inner.lock().lessor.expired(now);
        for id in expired {
            // Revoked by someone else meanwhile: done as well.
            let _ = self.apply(Entry::LeaseRevoke { id });
        }
        let mut inner = self.inner.lock();
        let next = inner.lessor.next_deadline();
        inner.expiring = next.is_some();
        next.map(|deadline| deadline.saturating_sub(now))
    }

    fn compact_now(&self, revision: Revision) -> Result<(), Error> {
        self.apply(Entry::Compact { revision })?;
        let mut inner = self.inner.lock();
        while mvcc::sweep(&mut inner.state, usize::MAX)? {}
        Ok(())
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Corrupt(format!("unexpected reply {reply:?}"))
}

fn ready<'a, T: Send + 'a>(result: Result<T, Error>) -> Future_<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Source for MemStore {
    fn history(&self, range: &KeyRange, from: Revision, max: usize) -> Result<History, Error> {
        Ok(read::history(&self.inner.lock().state, range, from, max)?)
    }
}

impl Store for MemStore {
    fn range(&self, request: RangeRequest) -> Future_<'_, RangeResponse> {
        ready(read::range(&self.inner.lock().state, &request).map_err(Into::into))
    }

    fn txn(&self, txn: Txn) -> Future_<'_, TxnResponse> {
        ready(self.apply(Entry::Txn(txn)).and_then(|reply| match reply {
            Reply::Txn(response) => Ok(response),
            other => Err(unexpected(&other)),
        }))
    }

    fn watch(&self, request: WatchRequest) -> Future_<'_, Watch> {
        let Some(me) = self.me.upgrade() else { return ready(Err(Error::ShuttingDown)) };
        let (watch, follow) = self.hub.open(me, request);
        tokio::spawn(follow);
        ready(Ok(watch))
    }

    fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Future_<'_, LeaseStatus> {
        ready(self.grant(id, ttl_s))
    }

    fn lease_revoke(&self, id: LeaseId) -> Future_<'_, ()> {
        ready(self.apply(Entry::LeaseRevoke { id }).map(drop))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        ready(self.keep_alive(id))
    }

    fn lease_status(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        ready(self.status(id))
    }

    fn compact(&self, revision: Revision) -> Future_<'_, ()> {
        ready(self.compact_now(revision))
    }

    fn revision(&self) -> Revision {
        self.hub.revision()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        crate::store_contract::run(|| async { MemStore::shared() }).await;
    }
}
