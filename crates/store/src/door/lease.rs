//! The Lease service (facts: server/etcdserver/api/v3rpc/lease.go, v3_server.go).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::lease_server;
use futures::Stream;
use http::Extensions;
use store_api::{Error, LeaseId, Store as _};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::{Door, error};

/// The service.
pub(crate) struct Lease(pub Arc<Door>);

type Outcome<T> = Result<Response<T>, Status>;

fn refused(error: Error) -> Status {
    error::status(&error)
}

/// Whole seconds, as etcd counts what is left of a lease.
fn seconds(left: Duration) -> i64 {
    i64::try_from(left.as_secs()).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl lease_server::Lease for Lease {
    async fn lease_grant(&self, request: Request<pb::LeaseGrantRequest>) -> Outcome<pb::LeaseGrantResponse> {
        let store = self.0.acting(&request).await?;
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        let status = store.lease_grant(LeaseId(id), ttl).await.map_err(refused)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: Some(self.0.header(None)),
            id: status.id.get(),
            ttl: status.granted_ttl_s,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Outcome<pb::LeaseRevokeResponse> {
        let store = self.0.acting(&request).await?;
        store.lease_revoke(LeaseId(request.into_inner().id)).await.map_err(refused)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(self.0.header(None)) }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Outcome<Self::LeaseKeepAliveStream> {
        let needs_leader = super::needs_leader(request.metadata().as_ref());
        let (metadata, extensions) = (request.metadata().clone(), request.extensions().clone());
        let door = self.0.clone();
        let renewals = KeepAlive { door, metadata, extensions, needs_leader, requests: request.into_inner() };
        Ok(Response::new(Box::pin(futures::stream::unfold(renewals, KeepAlive::next))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Outcome<pb::LeaseTimeToLiveResponse> {
        let store = self.0.acting(&request).await?;
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        store.permit_lease_keys(&[LeaseId(id)]).map_err(refused)?;
        let status = store.lease_status(LeaseId(id)).await.map_err(refused)?;
        let header = Some(self.0.header(None));
        let left = self.0.store.lease_left(LeaseId(id)).filter(|left| !left.is_zero());
        let Some(left) = left.filter(|_| status.ttl_s >= 0) else {
            return Ok(Response::new(pb::LeaseTimeToLiveResponse {
                header,
                id,
                ttl: -1,
                ..pb::LeaseTimeToLiveResponse::default()
            }));
        };
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header,
            id,
            ttl: seconds(left),
            granted_ttl: status.granted_ttl_s,
            keys: if keys { status.keys } else { Vec::new() },
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Outcome<pb::LeaseLeasesResponse> {
        let store = self.0.acting(&request).await?;
        let leases = self.0.store.lease_list().map_err(refused)?;
        store.permit_lease_keys(&leases).map_err(refused)?;
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id: id.get() }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: Some(self.0.header(None)), leases }))
    }
}

/// One stream of renewals: each is answered before the next is read.
struct KeepAlive {
    door: Arc<Door>,
    metadata: MetadataMap,
    extensions: Extensions,
    needs_leader: bool,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
}

impl KeepAlive {
    async fn next(mut self) -> Option<(Result<pb::LeaseKeepAliveResponse, Status>, Self)> {
        let token = self.door.token.clone();
        let request = tokio::select! {
            request = self.requests.message() => request,
            status = self.door.leader_lost(), if self.needs_leader => return Some((Err(status), self)),
            () = token.cancelled() => return None,
        };
        let answer = match request {
            Ok(Some(request)) => self.renew(request.id).await,
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        Some((answer, self))
    }

    /// The head is made before the lease is renewed: a revision it names is never later than the renewal.
    async fn renew(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let header = Some(self.door.header(None));
        let store = self.door.acting_as(&self.metadata, &self.extensions).await?;
        let ttl = match store.lease_keep_alive(LeaseId(id)).await {
            Ok(status) => status.granted_ttl_s,
            Err(Error::LeaseNotFound) => 0,
            Err(error) => return Err(refused(error)),
        };
        Ok(pb::LeaseKeepAliveResponse { header, id, ttl })
    }
}
