//! What a member says of itself, in etcd's terms.

use store_api::Revision;

/// The head of every answer on the etcd port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub cluster_id: u64,
    pub member_id: u64,
    /// The store's revision as this member has applied it.
    pub revision: Revision,
    pub raft_term: u64,
}

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    pub header: Header,
    /// The leader as this member knows it; None while there is none.
    pub leader: Option<u64>,
    /// The last entry in this member's log.
    pub raft_index: u64,
    pub raft_term: u64,
    /// The last entry this member has applied.
    pub raft_applied_index: u64,
    /// Bytes of the state's file.
    pub db_size_bytes: u64,
    /// Receives entries and does not vote.
    pub is_learner: bool,
    /// Why the member takes no writes, in words; empty when all is well.
    pub errors: Vec<String>,
}
