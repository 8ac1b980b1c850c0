//! `ketch group`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kafka_wire::messages::offset_fetch_request::OffsetFetchRequest;
use kafka_wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse, OffsetFetchResponse,
};

use super::GroupCommand;
use super::client::{Client, check};
use super::output::line;
use super::topic::{LATEST, offsets};

const LIST: i16 = 4;
const DESCRIBE: i16 = 5;
const DELETE: i16 = 2;
const OFFSET_FETCH: i16 = 5;

pub async fn run(client: &mut Client, command: GroupCommand) -> Result<()> {
    match command {
        GroupCommand::List => list(client).await,
        GroupCommand::Describe { name } => describe(client, &name).await,
        GroupCommand::Delete { names } => delete(client, names).await,
    }
}

async fn list(client: &mut Client) -> Result<()> {
    let mut answer: ListGroupsResponse = client.call(&ListGroupsRequest::default(), LIST).await?;
    check(answer.error_code, None)?;
    answer.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    for group in answer.groups {
        line(format_args!("{}  {}", group.group_id, group.group_state))?;
    }
    Ok(())
}

async fn describe(client: &mut Client, name: &str) -> Result<()> {
    let request = DescribeGroupsRequest { groups: vec![name.into()], ..Default::default() };
    let answer: DescribeGroupsResponse = client.call(&request, DESCRIBE).await?;
    let group = answer.groups.first().context("the broker did not answer about the group")?;
    check(group.error_code, None)?;
    line(format_args!("{name}  {}  members {}", group.group_state, group.members.len()))?;
    for member in &group.members {
        line(format_args!("  {}  {}  {}", member.member_id, member.client_id, member.client_host))?;
    }
    let request = OffsetFetchRequest { group_id: name.into(), topics: None, ..Default::default() };
    let answer: OffsetFetchResponse = client.call(&request, OFFSET_FETCH).await?;
    check(answer.error_code, None)?;
    for topic in answer.topics {
        let committed: BTreeMap<i32, i64> =
            topic.partitions.iter().map(|p| (p.partition_index, p.committed_offset)).collect();
        let indexes: Vec<i32> = committed.keys().copied().collect();
        let ends = offsets(client, &topic.name, &indexes, LATEST).await?;
        for ((index, at), end) in committed.iter().zip(ends) {
            line(format_args!(
                "  {} {index}  committed {at}  end {end}  lag {}",
                topic.name,
                (end - at).max(0)
            ))?;
        }
    }
    Ok(())
}

async fn delete(client: &mut Client, groups_names: Vec<String>) -> Result<()> {
    let request = DeleteGroupsRequest { groups_names };
    let answer: DeleteGroupsResponse = client.call(&request, DELETE).await?;
    for deleted in &answer.results {
        check(deleted.error_code, None).with_context(|| format!("group '{}'", deleted.group_id))?;
        line(format_args!("deleted group '{}'", deleted.group_id))?;
    }
    Ok(())
}
