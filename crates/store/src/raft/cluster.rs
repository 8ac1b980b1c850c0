//! Who the members are, and how that changes: etcd's Cluster service in terms of consensus.
//!
//! A member that is added to vote receives the log first, as a learner, and votes as soon as it is close: the quorum does
//! not grow by a member that cannot vote yet. Lists show it as etcd does, as a voting member that has not started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant as _};
use tokio::time::Instant;

use super::error::{ClusterError, PeerError};
use super::member::{Member, node};
use super::transport::host_and_port;
use super::types::{self, MEMBERS_MAX, MemberNode};
use super::wire::{Change, Request};

/// etcd's `--max-learners` default.
const LEARNERS_MAX: usize = 1;
/// A learner is ready when it has this share of the leader's log: etcd's figure.
const READY_PERCENT: u64 = 90;
/// How long a change of members may take.
const CHANGE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a move of the leader may take, and how often to look.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(5);

/// A member, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    pub id: u64,
    /// Empty until the member has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// The members in order of their ids.
pub(crate) fn list(members: &types::Members) -> Vec<MemberInfo> {
    let voters: BTreeSet<u64> = members.voter_ids().collect();
    let info = |(id, node): (&u64, &MemberNode)| MemberInfo {
        id: *id,
        name: node.name.clone(),
        peer_urls: node.peer_urls.clone(),
        client_urls: node.client_urls.clone(),
        is_learner: !voters.contains(id) && !node.joining,
    };
    members.nodes().map(info).collect()
}

type Changed = Result<(), PeerError>;

impl Member {
    /// Changes the members as the leader; the id of the member it was about.
    pub(crate) async fn change(&self, change: Change) -> Result<u64, PeerError> {
        match change {
            Change::Add { node, learner } => self.add(node, learner).await,
            Change::Remove { id } => self.remove(id).await.map(|()| id),
            Change::Update { id, peer_urls } => self.update(id, peer_urls).await.map(|()| id),
            Change::Promote { id } => {
                let promoted = self.promote(id).await;
                self.count_promotion(&promoted);
                promoted.map(|()| id)
            }
            Change::Publish { id, name, client_urls } => {
                self.publish_node(id, name, client_urls).await.map(|()| id)
            }
            Change::MoveLeader { id } => self.hand_over(id).await.map(|()| id),
        }
    }

    async fn add(&self, mut node: MemberNode, learner: bool) -> Result<u64, PeerError> {
        check_urls(&node.peer_urls)?;
        let members = self.members();
        let taken = |url: &String| members.nodes().any(|(_, node)| node.peer_urls.contains(url));
        if node.peer_urls.iter().any(taken) {
            return Err(ClusterError::PeerUrlExists.into());
        }
        let learners = list(&members).iter().filter(|member| member.is_learner).count();
        if (learner && learners >= LEARNERS_MAX) || members.nodes().count() >= MEMBERS_MAX {
            return Err(ClusterError::TooManyLearners.into());
        }
        node.joining = !learner;
        let id = self.fresh_id(&members);
        self.apply_change(ChangeMembers::AddNodes(BTreeMap::from([(id, node)])), true).await?;
        Ok(id)
    }

    fn fresh_id(&self, members: &types::Members) -> u64 {
        loop {
            let id = super::runtime::draw();
            if id != 0 && members.get_node(&id).is_none() {
                return id;
            }
        }
    }

    async fn remove(&self, id: u64) -> Changed {
        let members = self.members();
        node(&members, id).ok_or(ClusterError::MemberNotFound)?;
        let voters: BTreeSet<u64> = members.voter_ids().collect();
        if !voters.contains(&id) {
            return self.apply_change(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await;
        }
        // etcd: the members that are left and reachable must be a majority of what remains.
        let reachable = voters.iter().filter(|voter| **voter != id && self.is_reachable(**voter)).count();
        if voters.len() == 1 || reachable < (voters.len() - 1) / 2 + 1 {
            return Err(ClusterError::NotEnoughStarted.into());
        }
        self.apply_change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false).await
    }

    pub(super) fn is_reachable(&self, id: u64) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id)?.as_ref());
        id == self.me || heard.is_some_and(|at| at.elapsed() < self.lease * 2)
    }

    async fn update(&self, id: u64, peer_urls: Vec<String>) -> Changed {
        check_urls(&peer_urls)?;
        let members = self.members();
        let mut changed = node(&members, id).ok_or(ClusterError::MemberNotFound)?;
        let taken =
            |url: &String| members.nodes().any(|(of, node)| *of != id && node.peer_urls.contains(url));
        if peer_urls.iter().any(taken) {
            return Err(ClusterError::PeerUrlExists.into());
        }
        changed.peer_urls = peer_urls;
        self.apply_change(ChangeMembers::SetNodes(BTreeMap::from([(id, changed)])), true).await
    }

    async fn publish_node(&self, id: u64, name: String, client_urls: Vec<String>) -> Changed {
        let mut changed = node(&self.members(), id).ok_or(ClusterError::MemberNotFound)?;
        changed.name = name;
        changed.client_urls = client_urls;
        self.apply_change(ChangeMembers::SetNodes(BTreeMap::from([(id, changed)])), true).await
    }

    async fn promote(&self, id: u64) -> Changed {
        let members = self.members();
        node(&members, id).ok_or(ClusterError::MemberNotFound)?;
        if members.voter_ids().any(|voter| voter == id) {
            return Err(ClusterError::NotLearner.into());
        }
        if !self.has_caught_up(id) {
            return Err(ClusterError::LearnerNotReady.into());
        }
        self.seat(id).await
    }

    /// Counts what became of a promotion, by etcd's reasons.
    fn count_promotion(&self, promoted: &Changed) {
        let stats = &self.shared.stats;
        let Err(error) = promoted else {
            stats.promotions.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let reason = match error {
            PeerError::Cluster(ClusterError::MemberNotFound) => "membership: ID not found".to_owned(),
            PeerError::Cluster(ClusterError::NotLearner) => {
                "membership: can only promote a learner member".to_owned()
            }
            PeerError::Cluster(other) => other.to_string(),
            // Their texts may say anything: a label has few values.
            _ => "etcdserver: request failed".to_owned(),
        };
        *stats.promotions_failed.lock().entry(reason).or_default() += 1;
    }

    /// Makes a learner vote.
    async fn seat(&self, id: u64) -> Changed {
        let mut seated = node(&self.members(), id).ok_or(ClusterError::MemberNotFound)?;
        seated.joining = false;
        let nodes = ChangeMembers::SetNodes(BTreeMap::from([(id, seated)]));
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        self.apply_change(ChangeMembers::Batch(vec![nodes, voters]), true).await
    }

    /// Makes those vote that were added to vote and have caught up.
    pub(crate) async fn seat_joiners(&self) {
        let members = self.members();
        let voters: BTreeSet<u64> = members.voter_ids().collect();
        let joining = members.nodes().filter(|(id, node)| node.joining && !voters.contains(id));
        for (id, _) in joining.filter(|(id, _)| self.has_caught_up(**id)) {
            match self.seat(*id).await {
                Ok(()) => tracing::info!(member = *id, "a member has caught up and votes"),
                Err(error) => tracing::debug!(member = *id, %error, "a member does not vote yet"),
            }
        }
    }

    fn has_caught_up(&self, id: u64) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref().and_then(|all| all.get(&id).copied().flatten());
        let (Some(matched), Some(last)) = (matched, metrics.last_log_index) else { return false };
        // The origin is what every member has: nothing has been received yet.
        matched.index > 0 && self.is_reachable(id) && matched.index * 100 >= last * READY_PERCENT
    }

    async fn hand_over(&self, to: u64) -> Changed {
        if !self.members().voter_ids().any(|voter| voter == to) {
            return Err(ClusterError::BadTransferee.into());
        }
        let deadline = Instant::now() + TRANSFER_PATIENCE;
        let stopped = |_| PeerError::Unknown("etcdserver: server stopped".to_owned());
        self.raft.trigger().transfer_leader(to).await.map_err(stopped)?;
        let moved = self.leader_is(|leader| leader == Some(to));
        match tokio::time::timeout_at(deadline, moved).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ClusterError::TransferTimeout.into()),
        }
    }

    async fn apply_change(&self, change: ChangeMembers<u64, MemberNode>, retain: bool) -> Changed {
        let done = tokio::time::timeout(CHANGE_PATIENCE, self.raft.change_membership(change, retain)).await;
        match done {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(PeerError::NotLeader),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(PeerError::Busy(error.to_string()))
            }
            Ok(Err(other)) => Err(PeerError::Unknown(other.to_string())),
            Err(_) => Err(ClusterError::Unhealthy.into()),
        }
    }

    /// Asks the leader for a change; the id of the member it was about.
    pub(crate) async fn ask_change(&self, change: Change) -> Result<u64, PeerError> {
        let mut answer = self.lead(Request::Change(change)).await?;
        types::take_u64(&mut answer).map_err(|error| PeerError::Unknown(error.to_string()))
    }

    /// Tells the others this member's name and client URLs, once there is a leader, when they do not know them yet.
    pub(crate) async fn publish(&self, name: String, client_urls: Vec<String>) {
        loop {
            let known = node(&self.members(), self.me);
            if known.is_some_and(|node| node.name == name && node.client_urls == client_urls) {
                return;
            }
            self.leader_is(|leader| leader.is_some()).await;
            let change =
                Change::Publish { id: self.me, name: name.clone(), client_urls: client_urls.clone() };
            match self.ask_change(change).await {
                Ok(_) => return,
                Err(PeerError::Cluster(ClusterError::MemberNotFound)) => {}
                Err(error) => tracing::debug!(%error, "this member's name is not published yet"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

pub(crate) fn check_urls(urls: &[String]) -> Result<(), ClusterError> {
    let sound = !urls.is_empty() && urls.iter().all(|url| host_and_port(url).is_some());
    if sound { Ok(()) } else { Err(ClusterError::BadUrls) }
}
