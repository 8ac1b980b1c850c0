//! JoinGroup and the join phase of a rebalance.

use kafka_wire::ErrorCode;
use kafka_wire::messages::{JoinGroupRequest, JoinGroupResponse};

use crate::desk::{Desk, Effects, Response, Then, Token};
use crate::group::{Group, Member, Protocol, Revert, State, Terms, join_error};
use crate::log::NAME_BYTES_MAX;
use crate::shard::{Client, Shard};

/// First version whose clients must join with an id that the coordinator gave (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// First version whose clients understand `skip_assignment` (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// How long a group without joined members waits at least before it looks again, whatever its members asked for.
const WAIT_FOR_STATIC_MIN_MS: i32 = 1_000;

/// A JoinGroup request on its way through.
pub(crate) struct Join<'a> {
    pub client: &'a Client,
    pub version: i16,
    pub request: &'a JoinGroupRequest,
    pub token: Token,
}

impl Join<'_> {
    fn terms(&self) -> Terms {
        let r = self.request;
        Terms {
            // Version 0 has one timeout for both.
            rebalance_timeout_ms: if self.version == 0 {
                r.session_timeout_ms
            } else {
                r.rebalance_timeout_ms
            },
            session_timeout_ms: r.session_timeout_ms,
            protocols: Protocol::copied(&r.protocols),
        }
    }

    fn fail(&self, desk: &mut Desk, member: &str, error: ErrorCode) {
        desk.reply(self.token, join_error(member, error));
    }
}

impl Shard {
    /// JoinGroup, versions 0 to 9. The answer comes when the rebalance that it starts or joins is complete.
    pub fn join(
        &mut self,
        now_ms: i64,
        token: Token,
        client: &Client,
        version: i16,
        request: &JoinGroupRequest,
    ) -> Effects {
        self.desk.now_ms = now_ms;
        let join = Join { client, version, request, token };
        if let Err(error) = self.check_join(client, request) {
            join.fail(&mut self.desk, &request.member_id, error);
            return self.desk.take();
        }
        let is_new_group = !self.groups.contains_key(&request.group_id);
        let (group, desk) = self.group_or_new(&request.group_id);
        group.join(desk, &join);
        if is_new_group && !desk.has_writes() {
            // The log learns of the group, so that its tombstone has something to end.
            let record = group.empty_record();
            desk.write(vec![record], Then::Nothing);
        }
        self.desk.take()
    }

    fn check_join(&self, client: &Client, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
        let options = &self.desk.options;
        let timeouts = options.session_timeout_min_ms..=options.session_timeout_max_ms;
        let mut names = request.protocols.iter().map(|p| &p.name).chain(&request.group_instance_id);
        let client_fits = client.id.len() <= NAME_BYTES_MAX && client.host.len() <= NAME_BYTES_MAX;
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            Err(ErrorCode::InvalidGroupId)
        } else if names.any(|n| n.len() > NAME_BYTES_MAX)
            || request.protocol_type.len() > NAME_BYTES_MAX
            || !client_fits
        {
            Err(ErrorCode::InvalidRequest)
        } else if !timeouts.contains(&request.session_timeout_ms) {
            Err(ErrorCode::InvalidSessionTimeout)
        } else if !request.member_id.is_empty() && !self.groups.contains_key(&request.group_id) {
            Err(ErrorCode::UnknownMemberId)
        } else {
            Ok(())
        }
    }
}

impl Group {
    fn join(&mut self, desk: &mut Desk, join: &Join<'_>) {
        let member = &join.request.member_id;
        if !self.has_room_for(desk, member) {
            self.remove(member);
            desk.timers.cancel(&self.session_timer(member));
            join.fail(desk, "", ErrorCode::GroupMaxSizeReached);
        } else if self.state == State::Dead {
            join.fail(desk, member, ErrorCode::CoordinatorNotAvailable);
        } else if !self.supports(&join.request.protocol_type, &join.request.protocols) {
            join.fail(desk, member, ErrorCode::InconsistentGroupProtocol);
        } else if member.is_empty() {
            self.join_new(desk, join);
        } else if self.pending_join.contains(member) {
            self.add_joining(desk, join, member);
        } else if let Err(error) = self.validate(member, join.request.group_instance_id.as_deref()) {
            join.fail(desk, member, error);
        } else {
            self.join_again(desk, join);
        }
    }

    /// Whether a member may join, new or not; while a rebalance is prepared, those that wait count.
    fn has_room_for(&self, desk: &Desk, member: &str) -> bool {
        let limit = desk.options.group_size_max;
        let existing = self.members.get(member);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                existing.is_some_and(|m| m.awaiting_join.is_some()) || self.awaiting_join_count() < limit
            }
            State::CompletingRebalance | State::Stable => existing.is_some() || self.members.len() < limit,
        }
    }

    fn join_new(&mut self, desk: &mut Desk, join: &Join<'_>) {
        let instance = join.request.group_instance_id.as_deref();
        let id = desk.member_id(instance.unwrap_or(&join.client.id));
        match instance.map(|i| (i, self.statics.get(i).cloned())) {
            Some((instance, Some(old))) => self.replace_static(desk, join, instance, &old, &id),
            Some((_, None)) => self.add_joining(desk, join, &id),
            None if join.version >= MEMBER_ID_REQUIRED_FROM => {
                desk.after(self.session_timer(&id), join.request.session_timeout_ms);
                join.fail(desk, &id, ErrorCode::MemberIdRequired);
                self.pending_join.insert(id);
            }
            None => self.add_joining(desk, join, &id),
        }
    }

    fn add_joining(&mut self, desk: &mut Desk, join: &Join<'_>, id: &str) {
        let member = Member {
            id: id.to_owned(),
            instance_id: join.request.group_instance_id.clone(),
            client_id: join.client.id.clone(),
            client_host: join.client.host.clone(),
            terms: join.terms(),
            assignment: Default::default(),
            is_new: true,
            awaiting_join: Some(join.token),
            awaiting_sync: None,
        };
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.new_member_added = true;
        }
        self.add(member, &join.request.protocol_type);
        // It cannot send heartbeats before it knows its id, and a parked socket does not show that it has gone.
        desk.after(self.session_timer(id), desk.options.new_member_join_timeout_ms);
        self.rebalance_or_complete(desk);
    }

    fn join_again(&mut self, desk: &mut Desk, join: &Join<'_>) {
        let id = &join.request.member_id;
        let same = self.members.get(id).is_some_and(|m| m.terms.protocols == join.terms().protocols);
        match self.state {
            // With the same metadata it only lost the answer, or learns of the generation.
            State::CompletingRebalance if same => {
                let response = self.join_response(id);
                desk.reply(join.token, Response::JoinGroup(response));
            }
            // The leader joins again to have topics reassigned that its metadata does not show.
            State::Stable if same && !self.is_leader(id) => {
                let response = JoinGroupResponse { members: Vec::new(), ..self.join_response(id) };
                desk.reply(join.token, Response::JoinGroup(response));
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.park_join(desk, join, id);
                self.rebalance_or_complete(desk);
            }
            State::Empty | State::Dead => join.fail(desk, id, ErrorCode::UnknownMemberId),
        }
    }

    /// Parks the request; one that the member parked before, on a connection it gave up, ends.
    fn park_join(&mut self, desk: &mut Desk, join: &Join<'_>, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.terms = join.terms();
        if let Some(before) = member.awaiting_join.replace(join.token) {
            desk.reply(before, join_error(id, ErrorCode::RebalanceInProgress));
        }
    }

    pub fn rebalance_or_complete(&mut self, desk: &mut Desk) {
        match self.can_rebalance() {
            true => self.prepare_rebalance(desk),
            false => self.try_complete_join(desk),
        }
    }

    /// Ends the join phase when everybody joined; the first one of an empty group ends by its timer alone.
    pub fn try_complete_join(&mut self, desk: &mut Desk) {
        if self.state == State::PreparingRebalance && self.previous != State::Empty && self.all_joined() {
            self.complete_join(desk);
        }
    }

    pub fn prepare_rebalance(&mut self, desk: &mut Desk) {
        if self.state == State::CompletingRebalance {
            self.fail_sync(desk, ErrorCode::RebalanceInProgress);
        }
        self.pending_sync.clear();
        desk.timers.cancel(&self.sync_timer());
        let is_initial = self.state == State::Empty;
        self.transition(desk, State::PreparingRebalance);
        self.initial = None;
        if is_initial {
            let delay = desk.options.initial_rebalance_delay_ms;
            self.initial = Some((delay, (self.rebalance_timeout_ms() - delay).max(0)));
            desk.after(self.join_timer(), delay);
        } else if self.all_joined() {
            self.complete_join(desk);
        } else {
            desk.after(self.join_timer(), self.rebalance_timeout_ms());
        }
    }

    /// The join phase's time is up.
    pub fn join_timed_out(&mut self, desk: &mut Desk) {
        match self.initial {
            // Somebody came while we waited: wait again, for more to come.
            Some((delay, remaining)) if self.new_member_added && remaining != 0 => {
                self.new_member_added = false;
                let next = desk.options.initial_rebalance_delay_ms.min(remaining);
                self.initial = Some((next, (remaining - delay).max(0)));
                desk.after(self.join_timer(), next);
            }
            _ => self.complete_join(desk),
        }
    }

    /// Begins the next generation without those that did not join; static members may be late.
    pub fn complete_join(&mut self, desk: &mut Desk) {
        if self.state != State::PreparingRebalance {
            return;
        }
        desk.timers.cancel(&self.join_timer());
        let late = |m: &&Member| m.awaiting_join.is_none() && m.instance_id.is_none();
        let gone: Vec<String> = self.members.values().filter(late).map(|m| m.id.clone()).collect();
        for id in gone {
            self.remove(&id);
            desk.timers.cancel(&self.session_timer(&id));
        }
        self.initial = None;
        self.new_member_added = false;
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left and none is here: wait until they join or their sessions end.
            desk.after(self.join_timer(), self.rebalance_timeout_ms().max(WAIT_FOR_STATIC_MIN_MS));
            return;
        }
        self.next_generation(desk);
        match self.state {
            State::Empty => {
                let record = self.record(&Default::default());
                desk.write(vec![record], Then::Nothing);
            }
            _ => self.announce_generation(desk),
        }
    }

    fn announce_generation(&mut self, desk: &mut Desk) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.join_response(&id);
            self.answer_join(desk, &id, response);
            self.renew_session(desk, &id);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.pending_sync.insert(id);
        }
        desk.after(self.sync_timer(), self.rebalance_timeout_ms());
    }

    /// A static member came back without its id: it gets a new one, and the old one is fenced (KIP-345).
    fn replace_static(&mut self, desk: &mut Desk, join: &Join<'_>, instance: &str, old: &str, new: &str) {
        let old_leader = self.leader.clone().unwrap_or_default();
        let Some(old_terms) = self.members.get(old).map(|m| m.terms.clone()) else { return };
        self.rename_static(desk, instance, old, new);
        self.renew_session(desk, new);
        self.park_join(desk, join, new);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                let revert = Revert {
                    instance_id: instance.to_owned(),
                    old_id: old.to_owned(),
                    new_id: new.to_owned(),
                    old_terms,
                    old_leader,
                    token: join.token,
                    can_skip: join.version >= SKIP_ASSIGNMENT_FROM,
                };
                let record = self.record(&self.assignments());
                desk.write(vec![record], Then::Rejoined { group: self.id.clone(), revert });
            }
            State::Stable => self.rebalance_or_complete(desk),
            // The leader may already assign to the old id, so it has to begin anew.
            State::CompletingRebalance => self.prepare_rebalance(desk),
            _ => self.try_complete_join(desk),
        }
    }

    /// Gives a static member another id; whoever waits under the old one is fenced.
    fn rename_static(&mut self, desk: &mut Desk, instance: &str, old: &str, new: &str) {
        self.answer_join(desk, old, fenced(old));
        self.answer_sync_error(desk, old, ErrorCode::FencedInstanceId);
        let Some(mut member) = self.members.remove(old) else { return };
        desk.timers.cancel(&self.session_timer(old));
        member.id = new.to_owned();
        self.statics.insert(instance.to_owned(), new.to_owned());
        self.members.insert(new.to_owned(), member);
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.to_owned());
        }
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
    }

    /// The record that tells of a static member's new id is durable, or could not be written.
    pub fn static_rejoined(&mut self, desk: &mut Desk, revert: &Revert, result: Result<(), ErrorCode>) {
        if self.members.get(&revert.new_id).is_none_or(|m| m.awaiting_join != Some(revert.token)) {
            return;
        }
        let Err(error) = result else {
            let is_leader = self.is_leader(&revert.new_id);
            let mut response = self.join_response(&revert.new_id);
            match revert.can_skip {
                true => response.skip_assignment = is_leader,
                // An old client must not assign again: it is told that another member leads.
                false => (response.leader, response.members) = (revert.old_leader.clone(), Vec::new()),
            }
            return self.answer_join(desk, &revert.new_id, response);
        };
        if let Some(member) = self.members.get_mut(&revert.new_id) {
            member.awaiting_join = None;
            member.terms = revert.old_terms.clone();
        }
        self.rename_static(desk, &revert.instance_id, &revert.new_id, &revert.old_id);
        self.renew_session(desk, &revert.old_id);
        desk.reply(revert.token, join_error("", crate::desk::append_error(error)));
    }
}

fn fenced(member: &str) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: ErrorCode::FencedInstanceId.code(),
        member_id: member.to_owned(),
        generation_id: -1,
        ..Default::default()
    }
}
