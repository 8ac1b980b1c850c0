//! What tools ask: describe, list, delete.

use kafka_wire::ErrorCode;
use kafka_wire::messages::delete_groups_response::DeletableGroupResult;
use kafka_wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_wire::messages::list_groups_response::ListedGroup;

use crate::desk::{Effects, Response, Then, Token};
use crate::group::{Group, Member, State};
use crate::log::{group_tombstone, offset_record};
use crate::shard::Shard;

/// First version of DescribeGroups that has an error for groups that do not exist (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;
/// The type of all groups here, as ListGroups version 5 names it.
const CLASSIC: &str = "classic";

impl Shard {
    /// One group of DescribeGroups, versions 0 to 6. `authorized_operations` is the caller's to set.
    #[must_use]
    pub fn describe(&self, version: i16, group: &str) -> DescribedGroup {
        match self.groups.get(group).filter(|g| g.state != State::Dead) {
            Some(found) => found.described(),
            None if version >= NOT_FOUND_FROM => DescribedGroup {
                error_code: ErrorCode::GroupIdNotFound.code(),
                error_message: Some(format!("Group {group} not found.")),
                ..dead(group)
            },
            None => dead(group),
        }
    }

    /// The groups of this shard in order of their ids, in any of the states and of any of the types (lower or upper
    /// case); no filter means all.
    #[must_use]
    pub fn list(&self, states: &[String], types: &[String]) -> Vec<ListedGroup> {
        let named = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(name))
        };
        let shown = |g: &&Group| named(states, g.state.name()) && named(types, CLASSIC);
        self.groups.values().filter(shown).map(Group::listed).collect()
    }

    /// DeleteGroups. The answer has a result per name and comes when the tombstones are durable.
    pub fn delete_groups(&mut self, now_ms: i64, token: Token, groups: &[String]) -> Effects {
        self.desk.now_ms = now_ms;
        let (mut results, mut records, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for id in groups {
            let checked = self.check_delete_group(id);
            if checked.is_ok() {
                for (topic, partitions) in self.offsets.get(id).into_iter().flatten() {
                    records.extend(partitions.keys().map(|p| offset_record(id, topic, *p, None)));
                }
                // What waits for the end of a transaction must not outlive the group.
                let kept = |topic: &str, p: &i32| {
                    self.offsets
                        .get(id)
                        .and_then(|topics| topics.get(topic))
                        .is_some_and(|o| o.contains_key(p))
                };
                let only_waiting = self.waiting.of_group(id).filter(|(topic, p)| !kept(topic, p));
                records.extend(only_waiting.map(|(topic, p)| offset_record(id, topic, p, None)));
                records.push(group_tombstone(id));
                deleted.push(id.clone());
            }
            let error_code = checked.err().unwrap_or_default().code();
            results.push(DeletableGroupResult { group_id: id.clone(), error_code });
        }
        let reply = Response::DeleteGroups(results);
        match records.is_empty() {
            true => self.desk.reply(token, reply),
            false => {
                let then = Then::Deleted { groups: deleted, reply: Some((token, reply)) };
                self.desk.write(records, then);
            }
        }
        self.desk.take()
    }

    /// From here on the group takes no more members: its tombstone must not outrun them.
    fn check_delete_group(&mut self, id: &str) -> Result<(), ErrorCode> {
        let busy = self.busy_groups().contains(id);
        let group = self.groups.get_mut(id).ok_or(ErrorCode::GroupIdNotFound)?;
        match group.state {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            // A commit that is on its way would come after the tombstones and outlive the group.
            State::Empty if busy => Err(ErrorCode::NonEmptyGroup),
            State::Empty => {
                group.transition(&self.desk, State::Dead);
                Ok(())
            }
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }
}

fn dead(group: &str) -> DescribedGroup {
    DescribedGroup {
        group_id: group.to_owned(),
        group_state: State::Dead.name().to_owned(),
        ..Default::default()
    }
}

impl Group {
    fn described(&self) -> DescribedGroup {
        // Before the group is stable, metadata and assignments belong to no generation.
        let stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable).unwrap_or_default();
        let member = |m: &Member| DescribedGroupMember {
            member_id: m.id.clone(),
            group_instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            member_metadata: m.metadata(protocol).cloned().filter(|_| stable).unwrap_or_default(),
            member_assignment: if stable { m.assignment.clone() } else { Default::default() },
        };
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: self.state.name().to_owned(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: protocol.to_owned(),
            members: self.members.values().map(member).collect(),
            ..Default::default()
        }
    }

    fn listed(&self) -> ListedGroup {
        ListedGroup {
            group_id: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            group_state: self.state.name().to_owned(),
            group_type: CLASSIC.to_owned(),
        }
    }
}
