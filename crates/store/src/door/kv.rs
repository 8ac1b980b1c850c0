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

impl Kv {
    /// Runs one operation as a transaction of its own.
    pub(super) async fn write(store: &Acting, op: Op) -> Result<(Revision, OpResponse), Status> {
        let txn = Txn { success: vec![op], ..Txn::default() };
        let TxnResponse { revision, mut responses, .. } = store.run_txn(txn).await.map_err(refused)?;
        let response = responses.pop().ok_or_else(|| missing("a step's answer"))?;
        Ok((revision, response))
    }
}

pub(super) fn missing(what: &str) -> Status {
    refused(Error::Corrupt(format!("{what} is missing")))
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
        let store = self.0.acting(&request).await;
        let request = request.into_inner();
        let fits = convert::check_size(&request);
        let op = convert::put(request)?;
        fits?;
        let (revision, response) = Self::write(&store?, op).await?;
        let OpResponse::Put { prev_kv } = response else { return Err(missing("a put's answer")) };
        let header = Some(self.0.header(Some(revision)));
        Ok(Response::new(pb::PutResponse { header, prev_kv: prev_kv.map(convert::key_value) }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Outcome<pb::DeleteRangeResponse> {
        let store = self.0.acting(&request).await;
        let request = request.into_inner();
        let fits = convert::check_size(&request);
        let op = convert::delete_range(request)?;
        fits?;
        let (revision, response) = Self::write(&store?, op).await?;
        let OpResponse::DeleteRange { deleted, prev_kvs } = response else {
            return Err(missing("a delete's answer"));
        };
        let header = self.0.header(Some(revision));
        Ok(Response::new(convert::deleted_response(deleted, prev_kvs, header)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Outcome<pb::TxnResponse> {
        let store = self.0.acting(&request).await;
        let request = request.into_inner();
        let fits = convert::check_size(&request);
        let txn = convert::txn(request)?;
        if !mvcc::is_read_only(&txn) {
            fits?;
        }
        let response = store?.txn(txn).await.map_err(refused)?;
        let header = self.0.header(Some(response.revision));
        Ok(Response::new(convert::txn_response(response, header)))
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
