//! The Lock service: a mutual exclusion that lives as long as a lease.

use std::sync::Arc;

use bytes::Bytes;
use etcd_wire::v3lockpb::{self as lockpb, lock_server};
use store_api::{Op, RangeRequest, Store as _, Txn};
use tonic::{Request, Response, Status};

use super::{Door, queue};

/// The service.
pub(crate) struct Lock(pub Arc<Door>);

#[tonic::async_trait]
impl lock_server::Lock for Lock {
    /// Answers when the lock is the caller's.
    async fn lock(
        &self,
        request: Request<lockpb::LockRequest>,
    ) -> Result<Response<lockpb::LockResponse>, Status> {
        let store = self.0.acting(&request).await?;
        let lockpb::LockRequest { name, lease } = request.into_inner();
        let lease = queue::session(&store, lease).await.map_err(queue::refused)?;
        let place = queue::join(&store, &name, lease, Bytes::new()).await.map_err(queue::refused)?;
        let (owner, _) = queue::first(&store, &name).await.map_err(queue::refused)?;
        let mut revision = place.seen;
        if owner.is_some_and(|owner| owner.create_revision != place.created) {
            let give_up = queue::GiveUp::new(&store, &place);
            queue::wait(&store, &name, place.created).await.map_err(queue::refused)?;
            let own = store.range(RangeRequest::key(place.key.clone())).await.map_err(queue::refused)?;
            if own.kvs.is_empty() {
                return Err(Status::unknown("mutex: session is expired"));
            }
            revision = own.revision;
            give_up.keep();
        }
        let header = Some(self.0.header(Some(revision)));
        Ok(Response::new(lockpb::LockResponse { header, key: place.key }))
    }

    async fn unlock(
        &self,
        request: Request<lockpb::UnlockRequest>,
    ) -> Result<Response<lockpb::UnlockResponse>, Status> {
        let store = self.0.acting(&request).await?;
        let key = request.into_inner().key;
        let txn = Txn { success: vec![Op::delete(key)], ..Txn::default() };
        let response = store.txn(txn).await.map_err(queue::refused)?;
        Ok(Response::new(lockpb::UnlockResponse { header: Some(self.0.header(Some(response.revision))) }))
    }
}
