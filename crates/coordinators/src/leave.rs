//! LeaveGroup, and sessions that end.

use kafka_wire::ErrorCode;
use kafka_wire::messages::leave_group_request::MemberIdentity;
use kafka_wire::messages::leave_group_response::MemberResponse;
use kafka_wire::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::desk::{Desk, Effects, Response, Token};
use crate::group::{Group, State, join_error};
use crate::shard::Shard;

/// First version that names several members and tells of each how it went.
const BATCHED_FROM: i16 = 3;

impl Shard {
    /// LeaveGroup, versions 0 to 5.
    pub fn leave(&mut self, now_ms: i64, token: Token, version: i16, request: &LeaveGroupRequest) -> Effects {
        self.desk.now_ms = now_ms;
        let alone = [MemberIdentity { member_id: request.member_id.clone(), ..Default::default() }];
        let leaving = if version < BATCHED_FROM { &alone[..] } else { &request.members };
        let answer = match self.groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => Err(ErrorCode::InvalidGroupId),
            Some(group) if group.state == State::Dead => Err(ErrorCode::CoordinatorNotAvailable),
            Some(group) => Ok(group.leave(&mut self.desk, leaving)),
            None => Ok(leaving.iter().map(|m| left(m, Err(ErrorCode::UnknownMemberId))).collect()),
        };
        let response = response(version, answer);
        self.desk.reply(token, Response::LeaveGroup(response));
        self.desk.take()
    }
}

fn response(version: i16, answer: Result<Vec<MemberResponse>, ErrorCode>) -> LeaveGroupResponse {
    let (error_code, members) = match answer {
        Err(error) => (error.code(), Vec::new()),
        // Older versions have only the one error.
        Ok(members) if version < BATCHED_FROM => (members.first().map_or(0, |m| m.error_code), Vec::new()),
        Ok(members) => (0, members),
    };
    LeaveGroupResponse { error_code, members, ..Default::default() }
}

fn left(who: &MemberIdentity, result: Result<(), ErrorCode>) -> MemberResponse {
    MemberResponse {
        member_id: who.member_id.clone(),
        group_instance_id: who.group_instance_id.clone(),
        error_code: result.err().unwrap_or_default().code(),
    }
}

impl Group {
    fn leave(&mut self, desk: &mut Desk, leaving: &[MemberIdentity]) -> Vec<MemberResponse> {
        let answers: Vec<MemberResponse> =
            leaving.iter().map(|who| left(who, self.leave_one(desk, who))).collect();
        if answers.iter().any(|a| a.error_code == 0) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(desk),
                _ => self.try_complete_join(desk),
            }
        }
        answers
    }

    fn leave_one(&mut self, desk: &mut Desk, who: &MemberIdentity) -> Result<(), ErrorCode> {
        let instance = who.group_instance_id.as_deref();
        let id = match who.member_id.is_empty() {
            // An administrator may name a static member by its instance alone.
            true => instance.and_then(|i| self.statics.get(i)).ok_or(ErrorCode::UnknownMemberId)?.clone(),
            false => who.member_id.clone(),
        };
        if !self.pending_join.contains(&id) && !who.member_id.is_empty() {
            self.validate(&id, instance)?;
        }
        desk.timers.cancel(&self.session_timer(&id));
        self.dismiss(desk, &id);
        Ok(())
    }

    /// Removes a member; if it waits to join it is told to begin anew.
    pub fn dismiss(&mut self, desk: &mut Desk, id: &str) {
        if let Some(token) = self.members.get_mut(id).and_then(|m| m.awaiting_join.take()) {
            desk.reply(token, join_error("", ErrorCode::UnknownMemberId));
        }
        self.answer_sync_error(desk, id, ErrorCode::UnknownMemberId);
        desk.timers.cancel(&self.session_timer(id));
        self.remove(id);
    }

    /// A member was not heard of in time.
    pub fn session_ended(&mut self, desk: &mut Desk, id: &str) {
        if self.state == State::Dead {
            return;
        }
        let was_member = self.members.contains_key(id);
        if self.pending_join.contains(id) {
            self.remove(id);
        } else if self.members.get(id).is_some_and(|m| !m.is_excused()) {
            self.dismiss(desk, id);
        } else {
            return;
        }
        match self.state {
            State::Stable | State::CompletingRebalance if was_member => self.prepare_rebalance(desk),
            State::PreparingRebalance if self.all_joined() => self.complete_join(desk),
            _ => {}
        }
    }
}
