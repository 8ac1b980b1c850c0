//! A classic group from its first member to its end.

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::messages::leave_group_request::MemberIdentity;
use kafka_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::messages::*;

use crate::common::{Raw, Served, code, create, join};

async fn heartbeat(raw: &mut Raw, member: &str, generation_id: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id,
        member_id: member.into(),
        ..Default::default()
    };
    let response: HeartbeatResponse = raw.call(4, &request).await;
    code(response.error_code)
}

#[tokio::test]
async fn members_come_work_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let find =
        FindCoordinatorRequest { key_type: 0, coordinator_keys: vec!["g".into()], ..Default::default() };
    let response: FindCoordinatorResponse = raw.call(4, &find).await;
    assert_eq!((response.coordinators[0].node_id, response.coordinators[0].error_code), (1, 0));
    let response: JoinGroupResponse = raw.call(9, &join("", 10_000)).await;
    assert_eq!(code(response.error_code), ErrorCode::MemberIdRequired);
    let member = response.member_id;
    let joined: JoinGroupResponse = raw.call(9, &join(&member, 10_000)).await;
    assert_eq!((joined.error_code, joined.generation_id, &joined.leader), (0, 1, &member));
    let assignment =
        SyncGroupRequestAssignment { member_id: member.clone(), assignment: Bytes::from_static(b"a") };
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: member.clone(),
        assignments: vec![assignment],
        ..Default::default()
    };
    let response: SyncGroupResponse = raw.call(5, &sync).await;
    assert_eq!((response.error_code, &response.assignment[..]), (0, &b"a"[..]));
    assert_eq!(heartbeat(&mut raw, &member, 1).await, ErrorCode::None);
    assert_eq!(heartbeat(&mut raw, &member, 7).await, ErrorCode::IllegalGeneration);
    assert_eq!(heartbeat(&mut raw, "nobody", 1).await, ErrorCode::UnknownMemberId);
    let partition = OffsetCommitRequestPartition { committed_offset: 3, ..Default::default() };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 1,
        member_id: member.clone(),
        topics: vec![topic],
        ..Default::default()
    };
    let response: OffsetCommitResponse = raw.call(8, &commit).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    let describe = DescribeGroupsRequest { groups: vec!["g".into(), "none".into()], ..Default::default() };
    let response: DescribeGroupsResponse = raw.call(6, &describe).await;
    assert_eq!((&*response.groups[0].group_state, response.groups[0].members.len()), ("Stable", 1));
    assert_eq!(code(response.groups[1].error_code), ErrorCode::GroupIdNotFound);
    let response: ListGroupsResponse = raw.call(5, &ListGroupsRequest::default()).await;
    assert_eq!(response.groups.iter().map(|g| &*g.group_id).collect::<Vec<_>>(), ["g"]);
    let delete = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    let response: DeleteGroupsResponse = raw.call(2, &delete).await;
    assert_eq!(code(response.results[0].error_code), ErrorCode::NonEmptyGroup);
    let leaving = MemberIdentity { member_id: member, ..Default::default() };
    let leave = LeaveGroupRequest { group_id: "g".into(), members: vec![leaving], ..Default::default() };
    let response: LeaveGroupResponse = raw.call(5, &leave).await;
    assert_eq!((response.error_code, response.members[0].error_code), (0, 0));
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic { name: "t".into(), partitions }];
    let forget = OffsetDeleteRequest { group_id: "g".into(), topics };
    let response: OffsetDeleteResponse = raw.call(0, &forget).await;
    assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (0, 0));
    let response: DeleteGroupsResponse = raw.call(2, &delete).await;
    assert!(matches!(code(response.results[0].error_code), ErrorCode::None | ErrorCode::GroupIdNotFound));
    served.stop().await;
}
