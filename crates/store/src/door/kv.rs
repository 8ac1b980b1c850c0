//! The KV service.

use std::sync::Arc;
use std::time::Duration;

use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_server;
use store_api::{Error, Op, OpResponse, Revision, Store as _, Txn, TxnResponse};
use tonic::{Request, Response, Status};

use super::{Door, convert, error};
use crate::auth::Acting;

/// How often a compaction that is to be waited for is looked at.
const COMPACTED_LOOK: Duration = Duration::from_millis(5);

/// The service.
pub(crate) struct Kv(pub Arc<Door>);

type Outcome<T> = Result<Response<T>, Status>;

pub(super) fn refused(error: Error) -> Status {
    error::status(&error)
}

/// Runs one operation as a transaction of its own.
async fn write(store: &Acting, op: Op) -> Result<(Revision, OpResponse), Status> {
    let txn = Txn { success: vec![op], ..Txn::default() };
    let TxnResponse { revision, mut responses, .. } = store.run_txn(txn).await.map_err(refused)?;
    let response = responses.pop().ok_or_else(|| missing("a step's answer"))?;
    Ok((revision, response))
}

fn missing(what: &str) -> Status {
    refused(Error::Corrupt(format!("{what} is missing")))
}

/// Puts a key for whoever acts. What is wrong with the request is told before what is wrong with them.
pub(super) async fn put(
    door: &Door,
    acting: Result<Acting, Status>,
    request: pb::PutRequest,
) -> Result<pb::PutResponse, Status> {
    let fits = convert::check_size(&request);
    let op = convert::put(request)?;
    fits?;
    let (revision, response) = write(&acting?, op).await?;
    let OpResponse::Put { prev_kv } = response else { return Err(missing("a put's answer")) };
    let header = Some(door.header(Some(revision)));
    Ok(pb::PutResponse { header, prev_kv: prev_kv.map(convert::key_value) })
}

/// Deletes keys; as [`put`].
pub(super) async fn delete_range(
    door: &Door,
    acting: Result<Acting, Status>,
    request: pb::DeleteRangeRequest,
) -> Result<pb::DeleteRangeResponse, Status> {
    let fits = convert::check_size(&request);
    let op = convert::delete_range(request)?;
    fits?;
    let (revision, response) = write(&acting?, op).await?;
    let OpResponse::DeleteRange { deleted, prev_kvs } = response else {
        return Err(missing("a delete's answer"));
    };
    Ok(convert::deleted_response(deleted, prev_kvs, door.header(Some(revision))))
}

/// Runs a transaction; as [`put`].
pub(super) async fn txn(
    door: &Door,
    acting: Result<Acting, Status>,
    request: pb::TxnRequest,
) -> Result<pb::TxnResponse, Status> {
    let fits = convert::check_size(&request);
    let txn = convert::txn(request)?;
    if !mvcc::is_read_only(&txn) {
        fits?;
    }
    let response = acting?.run_txn(txn).await.map_err(refused)?;
    let header = door.header(Some(response.revision));
    Ok(convert::txn_response(response, header))
}

#[tonic::async_trait]
impl kv_server::Kv for Kv {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Outcome<pb::RangeResponse> {
        let store = self.0.acting(&request).await;
        let request = convert::range(request.into_inner())?;
        let response = store?.range(request).await.map_err(refused)?;
        let header = self.0.header(Some(response.revision));
        Ok(Response::new(convert::range_response(response, header)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Outcome<pb::PutResponse> {
        let acting = self.0.acting(&request).await;
        put(&self.0, acting, request.into_inner()).await.map(Response::new)
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Outcome<pb::DeleteRangeResponse> {
        let acting = self.0.acting(&request).await;
        delete_range(&self.0, acting, request.into_inner()).await.map(Response::new)
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Outcome<pb::TxnResponse> {
        let acting = self.0.acting(&request).await;
        txn(&self.0, acting, request.into_inner()).await.map(Response::new)
    }

    async fn compact(&self, request: Request<pb::CompactionRequest>) -> Outcome<pb::CompactionResponse> {
        let store = self.0.acting(&request).await?;
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        store.compact(Revision(revision)).await.map_err(refused)?;
        while physical && !self.0.store.swept(Revision(revision)).map_err(refused)? {
            tokio::time::sleep(COMPACTED_LOOK).await;
        }
        Ok(Response::new(pb::CompactionResponse { header: Some(self.0.header(None)) }))
    }
}
