//! Who the members of a cluster are and how they fare: etcd's Cluster and Maintenance services as a client.

use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::cluster_client::ClusterClient;
use etcd_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::Status;
use tonic::transport::Channel;

use super::Pool;
use crate::raft::MemberInfo;

/// The cluster refused, or did not answer; its own text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(if status.message().is_empty() { status.to_string() } else { status.message().to_owned() })
    }
}

/// The members of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberList {
    pub cluster_id: u64,
    pub members: Vec<MemberInfo>,
}

/// A change of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    Add { peer_urls: Vec<String>, learner: bool },
    Remove { id: u64 },
    Promote { id: u64 },
    Update { id: u64, peer_urls: Vec<String> },
}

/// How one member fares, as etcd's Maintenance service says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    pub member_id: u64,
    pub version: String,
    pub storage_version: String,
    pub db_bytes: u64,
    pub db_bytes_in_use: u64,
    pub quota_bytes: u64,
    pub is_leader: bool,
    pub is_learner: bool,
    pub raft_term: u64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    pub errors: Vec<String>,
    pub downgrade_target: String,
    pub downgrade: bool,
}

impl Pool {
    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel().1)
    }

    /// The members, as a majority knows them now.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn members(&self) -> Result<MemberList, Refused> {
        let asked = pb::MemberListRequest { linearizable: true };
        let answer = self.cluster().member_list(asked).await?.into_inner();
        let cluster_id = answer.header.map_or(0, |header| header.cluster_id);
        Ok(MemberList { cluster_id, members: answer.members.into_iter().map(info).collect() })
    }

    /// Changes the members: the cluster, and the member that it was about.
    ///
    /// # Errors
    /// As [`Pool::members`].
    pub async fn change_members(&self, change: MemberChange) -> Result<(u64, u64), Refused> {
        let mut client = self.cluster();
        let (header, id) = match change {
            MemberChange::Add { peer_urls, learner } => {
                let asked = pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner: learner };
                let answer = client.member_add(asked).await?.into_inner();
                (answer.header, answer.member.map_or(0, |member| member.id))
            }
            MemberChange::Remove { id } => {
                let answer = client.member_remove(pb::MemberRemoveRequest { id }).await?.into_inner();
                (answer.header, id)
            }
            MemberChange::Promote { id } => {
                let answer = client.member_promote(pb::MemberPromoteRequest { id }).await?.into_inner();
                (answer.header, id)
            }
            MemberChange::Update { id, peer_urls } => {
                let asked = pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls };
                (client.member_update(asked).await?.into_inner().header, id)
            }
        };
        Ok((header.map_or(0, |header| header.cluster_id), id))
    }

    /// How the member at the endpoint fares.
    ///
    /// # Errors
    /// As [`Pool::members`].
    pub async fn endpoint_status(&self) -> Result<EndpointStatus, Refused> {
        let mut client = MaintenanceClient::new(self.channel().1);
        let answer = client.status(pb::StatusRequest {}).await?.into_inner();
        let member_id = answer.header.map_or(0, |header| header.member_id);
        let downgrade = answer.downgrade_info.unwrap_or_default();
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        Ok(EndpointStatus {
            member_id,
            version: answer.version,
            storage_version: answer.storage_version,
            db_bytes: bytes(answer.db_size),
            db_bytes_in_use: bytes(answer.db_size_in_use),
            quota_bytes: bytes(answer.db_size_quota),
            is_leader: answer.leader == member_id,
            is_learner: answer.is_learner,
            raft_term: answer.raft_term,
            raft_index: answer.raft_index,
            raft_applied_index: answer.raft_applied_index,
            errors: answer.errors,
            downgrade_target: downgrade.target_version,
            downgrade: downgrade.enabled,
        })
    }
}

fn info(member: pb::Member) -> MemberInfo {
    MemberInfo {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_ur_ls,
        client_urls: member.client_ur_ls,
        is_learner: member.is_learner,
    }
}
