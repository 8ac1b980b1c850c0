//! The Cluster service.

use std::sync::Arc;

use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::cluster_server;
use tonic::{Request, Response, Status};

use super::{Door, error};
use crate::raft::{ClusterError, MemberInfo, PeerError};

/// The service.
pub(crate) struct Cluster(pub Arc<Door>);

type Outcome<T> = Result<Response<T>, Status>;

/// A refused change in etcd's terms; one whose outcome is unknown has timed out.
pub(crate) fn refused(failure: PeerError) -> Status {
    match failure {
        PeerError::Cluster(ClusterError::Alone) => {
            Status::failed_precondition(ClusterError::Alone.to_string())
        }
        // Not in the table of texts that clients map.
        PeerError::Cluster(ClusterError::TransferTimeout) => {
            Status::unavailable(ClusterError::TransferTimeout.to_string())
        }
        PeerError::Cluster(known) => error::text(known.to_string()),
        PeerError::NotLeader => error::text("etcdserver: no leader"),
        PeerError::Busy(text) if text == "etcdserver: no leader" => error::text(text),
        other => error::status(&other.into()),
    }
}

impl Cluster {
    /// etcd leaves the revision out of the Cluster service's answers.
    fn header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: 0, ..self.0.header(None) }
    }

    fn members(&self) -> Vec<pb::Member> {
        let mine = self.0.store.header().member_id;
        let shown = |member: MemberInfo| self.shown(member, mine);
        self.0.store.members().into_iter().map(shown).collect()
    }

    fn shown(&self, member: MemberInfo, mine: u64) -> pb::Member {
        // A member that runs alone has told nobody where it listens.
        let mut client_urls = member.client_urls;
        if client_urls.is_empty() && member.id == mine {
            client_urls.clone_from(&self.0.advertise);
        }
        pb::Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: client_urls,
            is_learner: member.is_learner,
        }
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn member_add(&self, request: Request<pb::MemberAddRequest>) -> Outcome<pb::MemberAddResponse> {
        self.0.require_admin(&request).await?;
        let pb::MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let id = self.0.store.add_member(peer_ur_ls, is_learner).await.map_err(refused)?;
        // What is listed must have the member in it, also on a follower.
        self.0.store.read_barrier().await.map_err(|e| error::status(&e))?;
        let members = self.members();
        let member = members.iter().find(|member| member.id == id).cloned();
        Ok(Response::new(pb::MemberAddResponse { header: Some(self.header()), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Outcome<pb::MemberRemoveResponse> {
        self.0.require_admin(&request).await?;
        self.0.store.remove_member(request.into_inner().id).await.map_err(refused)?;
        let (header, members) = (Some(self.header()), self.members());
        Ok(Response::new(pb::MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Outcome<pb::MemberUpdateResponse> {
        self.0.require_admin(&request).await?;
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        self.0.store.update_member(id, peer_ur_ls).await.map_err(refused)?;
        self.0.store.read_barrier().await.map_err(|e| error::status(&e))?;
        let (header, members) = (Some(self.header()), self.members());
        Ok(Response::new(pb::MemberUpdateResponse { header, members }))
    }

    async fn member_list(&self, request: Request<pb::MemberListRequest>) -> Outcome<pb::MemberListResponse> {
        self.0.require_user(&request).await?;
        if request.into_inner().linearizable {
            self.0.store.read_barrier().await.map_err(|e| error::status(&e))?;
        }
        let (header, members) = (Some(self.header()), self.members());
        Ok(Response::new(pb::MemberListResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Outcome<pb::MemberPromoteResponse> {
        self.0.require_admin(&request).await?;
        self.0.store.promote_member(request.into_inner().id).await.map_err(refused)?;
        self.0.store.read_barrier().await.map_err(|e| error::status(&e))?;
        let (header, members) = (Some(self.header()), self.members());
        Ok(Response::new(pb::MemberPromoteResponse { header, members }))
    }
}
