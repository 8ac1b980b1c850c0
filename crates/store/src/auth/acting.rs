//! The store as one caller sees it.

use std::future::Future;

use base::task::TaskKind;
use mvcc::auth::{self, Caller};
use mvcc::{Entry, Reply};
use store_api::{
    Error, Future_, KeyRange, LeaseId, LeaseStatus, RangeRequest, RangeResponse, Revision, Store, Txn,
    TxnResponse, Watch, WatchRequest,
};

use crate::Handle;
use crate::db::View;

/// A member, used by one caller. What the caller may not is refused: writes where they are applied, reads on the view
/// they read.
#[derive(Debug, Clone)]
pub struct Acting {
    pub(super) handle: Handle,
    pub(super) caller: Caller,
}

impl Acting {
    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Runs `work` for as long as the member runs: what must still be done for a caller who is gone.
    pub(crate) fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.inner.tasks.spawn(TaskKind::Connection, name, async move {
            work.await;
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// None while nobody is asked who it is: reads need no check then.
    fn who(&self) -> Option<&Caller> {
        self.handle.auth_status().enabled.then_some(&self.caller)
    }

    async fn propose(&self, entry: Entry) -> Result<Reply, Error> {
        self.handle.propose(Entry::As { caller: self.caller.clone(), entry: Box::new(entry) }).await
    }

    pub(crate) async fn run_txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        mvcc::validate(&txn)?;
        if mvcc::is_read_only(&txn) {
            return self.handle.read_txn(self.who().cloned(), txn).await;
        }
        match self.propose(Entry::Txn(txn)).await? {
            Reply::Txn(response) => Ok(response),
            other => Err(Error::Corrupt(format!("unexpected reply {other:?}"))),
        }
    }

    /// A view on which the caller may read this range; of everything acknowledged before unless `serializable`.
    pub(crate) async fn view(&self, range: &KeyRange, serializable: bool) -> Result<View, Error> {
        if !serializable {
            self.handle.read_barrier().await?;
        }
        let view = self.handle.inner.reads.view()?;
        if let Some(caller) = self.who() {
            auth::permit_range(&view, caller, range)?;
        }
        Ok(view)
    }

    /// Whether the caller may read a range: what a watch asks for each key range it is made for.
    ///
    /// # Errors
    /// `Auth` says why not.
    pub fn permit_range(&self, range: &KeyRange) -> Result<(), Error> {
        let Some(caller) = self.who() else { return Ok(()) };
        Ok(auth::permit_range(&self.handle.inner.reads.db.view()?, caller, range)?)
    }

    /// Whether the caller may see the keys of these leases.
    ///
    /// # Errors
    /// `Auth` says why not.
    pub fn permit_lease_keys(&self, ids: &[LeaseId]) -> Result<(), Error> {
        let Some(caller) = self.who() else { return Ok(()) };
        Ok(auth::permit_lease_read(&self.handle.inner.reads.db.view()?, caller, ids)?)
    }
}

impl Store for Acting {
    fn range(&self, request: RangeRequest) -> Future_<'_, RangeResponse> {
        Box::pin(self.handle.run_range(self.who().cloned(), request))
    }

    fn txn(&self, txn: Txn) -> Future_<'_, TxnResponse> {
        Box::pin(self.run_txn(txn))
    }

    fn watch(&self, request: WatchRequest) -> Future_<'_, Watch> {
        Box::pin(async move {
            self.permit_range(&request.range)?;
            self.handle.watch(request).await
        })
    }

    fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Future_<'_, LeaseStatus> {
        Box::pin(async move {
            self.require_user()?;
            self.handle.lease_grant(id, ttl_s).await
        })
    }

    fn lease_revoke(&self, id: LeaseId) -> Future_<'_, ()> {
        Box::pin(async move { self.propose(Entry::LeaseRevoke { id }).await.map(drop) })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        Box::pin(async move {
            if let Some(caller) = self.who() {
                auth::permit_lease_write(&self.handle.inner.reads.db.view()?, caller, id)?;
            }
            self.handle.lease_keep_alive(id).await
        })
    }

    /// The keys are for whoever passes [`Acting::permit_lease_keys`].
    fn lease_status(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        Box::pin(async move {
            self.require_user()?;
            self.handle.lease_status(id).await
        })
    }

    fn compact(&self, revision: Revision) -> Future_<'_, ()> {
        Box::pin(async move {
            self.permit_admin()?;
            self.handle.compact(revision).await
        })
    }

    fn revision(&self) -> Revision {
        self.handle.revision()
    }
}
