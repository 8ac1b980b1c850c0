//! `ketch topic`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use kafka_wire::ErrorCode;
use kafka_wire::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_wire::messages::metadata_response::MetadataResponseTopic;
use kafka_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use serde_json::json;

use super::client::{Client, check};
use super::output::line;
use super::{TopicCommand, pair};

const CREATE_TOPICS: i16 = 5;
const CREATE_PARTITIONS: i16 = 2;
const DELETE_TOPICS: i16 = 5;
const ALTER_CONFIGS: i16 = 1;
const DESCRIBE_CONFIGS: i16 = 2;
const LIST_OFFSETS: i16 = 4;
/// How long the broker may take to make or remove a topic.
const TIMEOUT_MS: i32 = 30_000;
/// The type of a topic among configuration resources, and the source of a value set on the topic itself.
const TOPIC: i8 = 2;
const SET_ON_TOPIC: i8 = 1;
const SET: i8 = 0;
const DELETE: i8 = 1;
/// Timestamps that ask for the first and the next offset.
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;

pub async fn run(client: &mut Client, command: TopicCommand) -> Result<()> {
    match command {
        TopicCommand::Create { name, partitions, config, if_not_exists } => {
            create(client, name, partitions, &config, if_not_exists).await
        }
        TopicCommand::List { internal, json } => list(client, internal, json).await,
        TopicCommand::Describe { names, json } => describe(client, &names, json).await,
        TopicCommand::Alter { name, partitions, config, unset } => {
            alter(client, &name, partitions, &config, &unset).await
        }
        TopicCommand::Delete { names } => delete(client, names).await,
    }
}

async fn create(
    client: &mut Client,
    name: String,
    num_partitions: i32,
    configs: &[String],
    if_not_exists: bool,
) -> Result<()> {
    let config = |text: &String| {
        let (name, value) = pair(text)?;
        Ok(CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
    };
    let configs = configs.iter().map(config).collect::<Result<_>>()?;
    let topic = CreatableTopic {
        name: name.clone(),
        num_partitions,
        replication_factor: -1,
        configs,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..Default::default() };
    let answer: CreateTopicsResponse = client.call(&request, CREATE_TOPICS).await?;
    let made = answer.topics.first().context("the broker did not answer about the topic")?;
    if if_not_exists && made.error_code == ErrorCode::TopicAlreadyExists.code() {
        line(format_args!("topic '{name}' exists"))?;
        return Ok(());
    }
    check(made.error_code, made.error_message.as_deref())?;
    line(format_args!("created topic '{name}' with {} partition(s)", made.num_partitions))?;
    Ok(())
}

async fn topics(client: &mut Client, internal: bool) -> Result<Vec<MetadataResponseTopic>> {
    let mut topics = client.metadata(None, false).await?.topics;
    topics.retain(|topic| internal || !topic.is_internal);
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics.iter_mut().for_each(|topic| topic.partitions.sort_by_key(|p| p.partition_index));
    Ok(topics)
}

async fn list(client: &mut Client, internal: bool, json: bool) -> Result<()> {
    let topics = topics(client, internal).await?;
    let names: Vec<&str> = topics.iter().filter_map(|topic| topic.name.as_deref()).collect();
    match json {
        true => line(json!(names)),
        false => names.iter().try_for_each(line),
    }
}

async fn describe(client: &mut Client, names: &[String], json: bool) -> Result<()> {
    let mut found = topics(client, true).await?;
    if let Some(missing) = names.iter().find(|name| !found.iter().any(|t| t.name.as_ref() == Some(name))) {
        bail!("there is no topic '{missing}'");
    }
    found.retain(|topic| match names.is_empty() {
        true => !topic.is_internal,
        false => topic.name.as_ref().is_some_and(|name| names.contains(name)),
    });
    let mut shown = Vec::new();
    for topic in &found {
        shown.push(describe_one(client, topic, json).await?);
    }
    if json {
        line(json!(shown))?;
    }
    Ok(())
}

async fn describe_one(
    client: &mut Client,
    topic: &MetadataResponseTopic,
    json: bool,
) -> Result<serde_json::Value> {
    let name = topic.name.as_deref().unwrap_or_default();
    // A partition without a leader has nobody who could tell its offsets.
    let led: Vec<i32> =
        topic.partitions.iter().filter(|p| p.leader_id >= 0).map(|p| p.partition_index).collect();
    let starts = known_offsets(client, name, &led, EARLIEST).await?;
    let ends = known_offsets(client, name, &led, LATEST).await?;
    let configs = configs(client, name).await?;
    let shown: Vec<_> = configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !json {
        line(format_args!("{name}  partitions {}  {}", topic.partitions.len(), shown.join(" ")))?;
    }
    let mut partitions = Vec::new();
    for partition in &topic.partitions {
        let index = partition.partition_index;
        let leader = (partition.leader_id >= 0).then_some(partition.leader_id);
        let (start, end) = (starts.get(&index), ends.get(&index));
        let (replicas, isr) = (&partition.replica_nodes, &partition.isr_nodes);
        if !json {
            let leader = leader.map_or("none".to_owned(), |leader| leader.to_string());
            let offsets = match (start, end) {
                (Some(start), Some(end)) => format!("{start}..{end}"),
                _ => "unknown".to_owned(),
            };
            line(format_args!(
                "  {index:<4} leader {leader}  replicas {replicas:?}  isr {isr:?}  offsets {offsets}"
            ))?;
        }
        partitions.push(json!({"partition": index, "leader": leader, "replicas": replicas, "isr": isr, "start": start, "end": end}));
    }
    let configs: serde_json::Map<_, _> =
        configs.into_iter().map(|(key, value)| (key, value.into())).collect();
    Ok(json!({"name": name, "configs": configs, "partitions": partitions}))
}

/// The offsets at a timestamp of those partitions that tell them: one may have gone offline meanwhile.
async fn known_offsets(
    client: &mut Client,
    topic: &str,
    indexes: &[i32],
    timestamp: i64,
) -> Result<BTreeMap<i32, i64>> {
    let answered = list_offsets(client, topic, indexes, timestamp).await?;
    let known = answered.iter().filter(|partition| partition.error_code == 0);
    Ok(known.map(|partition| (partition.partition_index, partition.offset)).collect())
}

/// The offsets of partitions at a timestamp; those of partitions without one are the end's -1.
pub async fn offsets(client: &mut Client, topic: &str, indexes: &[i32], timestamp: i64) -> Result<Vec<i64>> {
    let answered = list_offsets(client, topic, indexes, timestamp).await?;
    let find = |index: &i32| {
        let partition = answered.iter().find(|partition| partition.partition_index == *index);
        let partition = partition.with_context(|| format!("no offset of partition {index}"))?;
        check(partition.error_code, None).with_context(|| format!("partition {index}"))?;
        Ok(partition.offset)
    };
    indexes.iter().map(find).collect()
}

async fn list_offsets(
    client: &mut Client,
    topic: &str,
    indexes: &[i32],
    timestamp: i64,
) -> Result<Vec<ListOffsetsPartitionResponse>> {
    if indexes.is_empty() {
        return Ok(Vec::new());
    }
    let wanted =
        |index: &i32| ListOffsetsPartition { partition_index: *index, current_leader_epoch: -1, timestamp };
    let topics =
        vec![ListOffsetsTopic { name: topic.into(), partitions: indexes.iter().map(wanted).collect() }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let answer: ListOffsetsResponse = client.call(&request, LIST_OFFSETS).await?;
    Ok(answer.topics.into_iter().flat_map(|topic| topic.partitions).collect())
}

/// The configurations set on the topic itself.
async fn configs(client: &mut Client, topic: &str) -> Result<Vec<(String, String)>> {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer: DescribeConfigsResponse = client.call(&request, DESCRIBE_CONFIGS).await?;
    let found = answer.results.into_iter().next().context("the broker did not answer about the topic")?;
    check(found.error_code, found.error_message.as_deref())?;
    let set = found.configs.into_iter().filter(|config| config.config_source == SET_ON_TOPIC);
    Ok(set.map(|config| (config.name, config.value.unwrap_or_default())).collect())
}

async fn alter(
    client: &mut Client,
    name: &str,
    partitions: Option<i32>,
    configs: &[String],
    unset: &[String],
) -> Result<()> {
    if partitions.is_none() && configs.is_empty() && unset.is_empty() {
        bail!("nothing to change: give --partitions, --config or --unset");
    }
    let set = configs.iter().map(|text| {
        let (name, value) = pair(text)?;
        Ok(AlterableConfig { name: name.into(), config_operation: SET, value: Some(value.into()) })
    });
    let unset = unset
        .iter()
        .map(|name| Ok(AlterableConfig { name: name.clone(), config_operation: DELETE, value: None }));
    let changes = set.chain(unset).collect::<Result<Vec<_>>>()?;
    if !changes.is_empty() {
        let resource =
            AlterConfigsResource { resource_type: TOPIC, resource_name: name.into(), configs: changes };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer: IncrementalAlterConfigsResponse = client.call(&request, ALTER_CONFIGS).await?;
        for changed in &answer.responses {
            check(changed.error_code, changed.error_message.as_deref())?;
        }
    }
    if let Some(count) = partitions {
        let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
        let request =
            CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: false };
        let answer: CreatePartitionsResponse = client.call(&request, CREATE_PARTITIONS).await?;
        for changed in &answer.results {
            check(changed.error_code, changed.error_message.as_deref())?;
        }
    }
    line(format_args!("altered topic '{name}'"))?;
    Ok(())
}

async fn delete(client: &mut Client, topic_names: Vec<String>) -> Result<()> {
    let request = DeleteTopicsRequest { topic_names, timeout_ms: TIMEOUT_MS, ..Default::default() };
    let answer: DeleteTopicsResponse = client.call(&request, DELETE_TOPICS).await?;
    for deleted in &answer.responses {
        let name = deleted.name.as_deref().unwrap_or_default();
        check(deleted.error_code, deleted.error_message.as_deref())
            .with_context(|| format!("topic '{name}'"))?;
        line(format_args!("deleted topic '{name}'"))?;
    }
    Ok(())
}
