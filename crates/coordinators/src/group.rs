//! A classic group: its members, its state, and the questions asked about both.
//!
//! ```text
//!            first member joins               all joined, or time is up          leader's assignment is durable
//! Empty --------------------> PreparingRebalance ----------> CompletingRebalance ----------> Stable
//!   ^                            |    ^    ^                        |                           |
//!   '---- nobody is left --------'    |    '------ a member joins, leaves, fails ---------------'
//!                                     '-------------------------- (also from CompletingRebalance)
//! Dead: its tombstone is on its way to the log.
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use kafka_wire::messages::JoinGroupResponse;
use kafka_wire::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::messages::join_group_response::JoinGroupResponseMember;
use kafka_wire::records::ConsumerProtocolSubscription;
use kafka_wire::{ErrorCode, Message, Reader};

use crate::desk::{Desk, Response, Token};
use crate::timers::Timer;

/// The protocol type of Kafka's own consumers, whose metadata the coordinator can read.
const CONSUMER: &str = "consumer";

/// The state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No members; offsets may be kept.
    Empty,
    /// Waiting for members to join the next generation.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Being deleted.
    Dead,
}

impl State {
    /// Kafka's name of it, as tools show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name of a protocol (an assignor) and the member's metadata for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

impl Protocol {
    /// Copies, so that a member does not keep a whole request in memory.
    pub fn copied(from: &[JoinGroupRequestProtocol]) -> Vec<Self> {
        let one = |p: &JoinGroupRequestProtocol| Self {
            name: p.name.clone(),
            metadata: Bytes::copy_from_slice(&p.metadata),
        };
        from.iter().map(one).collect()
    }
}

/// What a member asks for when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub terms: Terms,
    pub assignment: Bytes,
    /// Joined for the first time in the current rebalance.
    pub is_new: bool,
    pub awaiting_join: Option<Token>,
    pub awaiting_sync: Option<Token>,
}

impl Member {
    /// Whether it need not send heartbeats now: its parked request shows that it is there. A new member is not
    /// believed forever, it may have gone while it waits.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.terms.protocols.iter().find(|p| p.name == protocol).map(|p| &p.metadata)
    }
}

/// How to undo the replacement of a static member.
#[derive(Debug)]
pub(crate) struct Revert {
    pub instance_id: String,
    pub old_id: String,
    pub new_id: String,
    pub old_terms: Terms,
    pub old_leader: String,
    pub token: Token,
    /// Whether the client understands `skip_assignment`.
    pub can_skip: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Group {
    pub id: String,
    pub state: State,
    pub previous: State,
    /// When the state was entered, milliseconds; None where an old record did not say.
    pub since_ms: Option<i64>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member>,
    /// Member ids by instance id.
    pub statics: BTreeMap<String, String>,
    /// Ids given out with MEMBER_ID_REQUIRED that have not joined.
    pub pending_join: BTreeSet<String>,
    /// Members that have not sent SyncGroup in this generation.
    pub pending_sync: BTreeSet<String>,
    /// A member was added while the initial rebalance waits.
    pub new_member_added: bool,
    /// The initial rebalance: the delay that runs, and how much may be added to it.
    pub initial: Option<(i32, i32)>,
    /// None where the members' metadata is not a consumer's.
    pub subscribed: Option<BTreeSet<String>>,
}

impl Group {
    /// A group without members.
    pub fn empty(id: &str, now_ms: i64) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            previous: State::Empty,
            since_ms: Some(now_ms),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            new_member_added: false,
            initial: None,
            subscribed: None,
        }
    }

    pub fn transition(&mut self, desk: &Desk, state: State) {
        self.previous = self.state;
        self.state = state;
        self.since_ms = Some(desk.now_ms);
    }

    pub fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    pub fn can_rebalance(&self) -> bool {
        matches!(self.state, State::Stable | State::CompletingRebalance | State::Empty)
    }

    pub fn awaiting_join_count(&self) -> usize {
        self.members.values().filter(|m| m.awaiting_join.is_some()).count()
    }

    pub fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.members.values().all(|m| m.awaiting_join.is_some())
    }

    /// The longest time any member may take to join again.
    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|m| m.terms.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Whether a member with these protocols could be in the group: some protocol is everybody's.
    pub fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.members.values().all(|m| m.metadata(&p.name).is_some()))
    }

    /// Whether the member exists, and is the one that its instance id names.
    pub fn validate(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        match instance.map(|i| self.statics.get(i)) {
            Some(None) => return Err(ErrorCode::UnknownMemberId),
            Some(Some(existing)) if existing != member => return Err(ErrorCode::FencedInstanceId),
            _ => {}
        }
        self.members.contains_key(member).then_some(()).ok_or(ErrorCode::UnknownMemberId)
    }

    /// Adds a member; the first one decides the group's protocol type and leads.
    pub fn add(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if let Some(instance) = &member.instance_id {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_join.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Forgets a member, pending ones too; another one leads then.
    pub fn remove(&mut self, member: &str) {
        if let Some(instance) = self.members.remove(member).and_then(|m| m.instance_id) {
            self.statics.remove(&instance);
        }
        self.pending_join.remove(member);
        self.pending_sync.remove(member);
        if self.is_leader(member) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Makes a member that joined lead; false when nobody joined.
    pub fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|m| m.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let Some(next) = self.members.keys().find(|id| joined(id)).cloned() else { return false };
        self.leader = Some(next);
        true
    }

    /// The protocol with the most votes among those that all members support; of equals the first by name.
    pub fn select_protocol(&self) -> Option<String> {
        let common = |name: &str| self.members.values().all(|m| m.metadata(name).is_some());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.terms.protocols.iter().find(|p| common(&p.name)) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let best = votes.values().max()?;
        votes.iter().find(|(_, count)| *count == best).map(|(name, _)| (*name).to_owned())
    }

    /// Begins the next generation with the members that are left.
    pub fn next_generation(&mut self, desk: &Desk) {
        self.generation += 1;
        let (protocol, state) = match self.members.is_empty() {
            true => (None, State::Empty),
            false => (self.select_protocol(), State::CompletingRebalance),
        };
        self.protocol = protocol;
        self.subscribed = self.compute_subscribed();
        self.transition(desk, state);
        self.pending_sync.clear();
    }

    /// The topics of all members, where their metadata is a consumer's.
    pub fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription(member.metadata(protocol)?)?);
        }
        Some(topics)
    }

    /// Whether offsets of the topic are in use. A consumer group of unknown subscriptions may use any.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.is_consumer(), |topics| topics.contains(topic))
    }

    pub fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// The answer that tells a member about the current generation.
    pub fn join_response(&self, member: &str) -> JoinGroupResponse {
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member.to_owned(),
            members: if self.is_leader(member) { self.roster() } else { Vec::new() },
            ..Default::default()
        }
    }

    /// All members with their metadata, for the leader.
    pub fn roster(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let one = |m: &Member| JoinGroupResponseMember {
            member_id: m.id.clone(),
            group_instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol).cloned().unwrap_or_default(),
        };
        self.members.values().map(one).collect()
    }

    /// Answers a member's parked JoinGroup, if any.
    pub fn answer_join(&mut self, desk: &mut Desk, member: &str, response: JoinGroupResponse) {
        if let Some(token) = self.members.get_mut(member).and_then(|m| m.awaiting_join.take()) {
            desk.reply(token, Response::JoinGroup(response));
        }
    }

    /// Expects to hear of the member within its session timeout.
    pub fn renew_session(&self, desk: &mut Desk, member: &str) {
        if let Some(member) = self.members.get(member) {
            desk.after(self.session_timer(&member.id), member.terms.session_timeout_ms);
        }
    }

    pub fn session_timer(&self, member: &str) -> Timer {
        Timer::Session(self.id.clone(), member.to_owned())
    }

    pub fn join_timer(&self) -> Timer {
        Timer::Join(self.id.clone())
    }

    pub fn sync_timer(&self) -> Timer {
        Timer::Sync(self.id.clone())
    }
}

/// A JoinGroup response that says only what went wrong.
pub(crate) fn join_error(member: &str, error: ErrorCode) -> Response {
    Response::JoinGroup(JoinGroupResponse {
        error_code: error.code(),
        member_id: member.to_owned(),
        generation_id: -1,
        ..Default::default()
    })
}

/// The topics in a consumer's metadata, which begins with its version; every version begins like version 0.
fn subscription(metadata: &Bytes) -> Option<Vec<String>> {
    let mut r = Reader::new(metadata.clone());
    let version = r.i16().ok()?;
    (version >= 0).then_some(())?;
    ConsumerProtocolSubscription::read(&mut r, 0).ok().map(|s| s.topics)
}
