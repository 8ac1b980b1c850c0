//! SyncGroup and Heartbeat: the leader's assignment reaches everybody, and everybody shows that it is there.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::messages::{HeartbeatRequest, HeartbeatResponse, SyncGroupRequest, SyncGroupResponse};

use crate::desk::{Desk, Effects, Response, Then, Token, append_error};
use crate::group::{Group, State};
use crate::shard::Shard;

impl Shard {
    /// SyncGroup, versions 0 to 5. The answer comes when the leader's assignment is durable.
    pub fn sync(&mut self, now_ms: i64, token: Token, request: &SyncGroupRequest) -> Effects {
        self.desk.now_ms = now_ms;
        let answer = match self.groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => Err(ErrorCode::InvalidGroupId),
            None => Err(ErrorCode::UnknownMemberId),
            Some(group) => group.sync(&mut self.desk, token, request),
        };
        if let Err(error) = answer {
            self.desk.reply(token, sync_error(error));
        }
        self.desk.take()
    }

    /// Heartbeat, versions 0 to 4.
    pub fn heartbeat(&mut self, now_ms: i64, token: Token, request: &HeartbeatRequest) -> Effects {
        self.desk.now_ms = now_ms;
        let result = match self.groups.get(&request.group_id) {
            _ if request.group_id.is_empty() => Err(ErrorCode::InvalidGroupId),
            None => Err(ErrorCode::UnknownMemberId),
            Some(group) => group.heartbeat(&mut self.desk, request),
        };
        let error_code = result.err().unwrap_or_default().code();
        self.desk.reply(token, Response::Heartbeat(HeartbeatResponse { error_code, ..Default::default() }));
        self.desk.take()
    }
}

impl Group {
    fn heartbeat(&self, desk: &mut Desk, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_session(desk, &request.member_id);
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            _ => self.validate(&request.member_id, request.group_instance_id.as_deref())?,
        }
        let differs = |theirs: &Option<String>, ours: &Option<String>| theirs.is_some() && theirs != ours;
        if request.generation_id != self.generation {
            Err(ErrorCode::IllegalGeneration)
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else {
            Ok(())
        }
    }

    fn sync(&mut self, desk: &mut Desk, token: Token, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.check_sync(request)?;
        let id = &request.member_id;
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::Stable => {
                self.synced(desk, id);
                let response = self.sync_response(id);
                desk.reply(token, response);
                Ok(())
            }
            _ => {
                // One that the member parked before, on a connection it gave up, ends.
                let before = self.members.get_mut(id).and_then(|m| m.awaiting_sync.replace(token));
                if let Some(before) = before {
                    desk.reply(before, sync_error(ErrorCode::RebalanceInProgress));
                }
                self.synced(desk, id);
                if self.is_leader(id) {
                    self.store_assignment(desk, request);
                }
                Ok(())
            }
        }
    }

    /// A member has sent its SyncGroup; when all have, nobody is waited for.
    fn synced(&mut self, desk: &mut Desk, id: &str) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            desk.timers.cancel(&self.sync_timer());
        }
    }

    fn store_assignment(&mut self, desk: &mut Desk, request: &SyncGroupRequest) {
        let mut assignment: BTreeMap<String, Bytes> =
            self.members.keys().map(|id| (id.clone(), Bytes::new())).collect();
        for given in &request.assignments {
            if let Some(slot) = assignment.get_mut(&given.member_id) {
                *slot = Bytes::copy_from_slice(&given.assignment);
            }
        }
        let record = self.record(&assignment);
        let then = Then::Assign { group: self.id.clone(), generation: self.generation, assignment };
        desk.write(vec![record], then);
    }

    /// The assignment is durable, or could not be written. A rebalance may have begun meanwhile.
    pub fn assigned(
        &mut self,
        desk: &mut Desk,
        generation: i32,
        assignment: &BTreeMap<String, Bytes>,
        result: Result<(), ErrorCode>,
    ) {
        if self.state != State::CompletingRebalance || generation != self.generation {
            return;
        }
        if let Err(error) = result {
            self.fail_sync(desk, append_error(error));
            return self.rebalance_or_complete(desk);
        }
        for member in self.members.values_mut() {
            member.assignment = assignment.get(&member.id).cloned().unwrap_or_default();
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.sync_response(&id);
            self.answer_sync(desk, &id, response);
        }
        self.transition(desk, State::Stable);
    }

    /// Tells everybody who waits for an assignment that there is none.
    pub fn fail_sync(&mut self, desk: &mut Desk, error: ErrorCode) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = Bytes::new();
            }
            self.answer_sync_error(desk, &id, error);
        }
    }

    pub fn answer_sync_error(&mut self, desk: &mut Desk, member: &str, error: ErrorCode) {
        self.answer_sync(desk, member, sync_error(error));
    }

    /// Answers a parked SyncGroup, if any. Its session begins anew: while it was parked, nothing ended it.
    fn answer_sync(&mut self, desk: &mut Desk, member: &str, response: Response) {
        if let Some(token) = self.members.get_mut(member).and_then(|m| m.awaiting_sync.take()) {
            desk.reply(token, response);
            self.renew_session(desk, member);
        }
    }

    fn sync_response(&self, member: &str) -> Response {
        Response::SyncGroup(SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self.members.get(member).map(|m| m.assignment.clone()).unwrap_or_default(),
            ..Default::default()
        })
    }

    /// Members that never asked for their assignment are gone.
    pub fn sync_timed_out(&mut self, desk: &mut Desk) {
        let waiting = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !waiting || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.dismiss(desk, &id);
        }
        self.prepare_rebalance(desk);
    }
}

fn sync_error(error: ErrorCode) -> Response {
    Response::SyncGroup(SyncGroupResponse { error_code: error.code(), ..Default::default() })
}
