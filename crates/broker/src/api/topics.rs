//! CreateTopics, DeleteTopics, CreatePartitions, and topics made on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire::messages::create_topics_request::CreatableTopic;
use kafka_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::messages::delete_topics_request::DeleteTopicState;
use kafka_wire::messages::delete_topics_response::DeletableTopicResult;
use kafka_wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse,
};
use kafka_wire::{ErrorCode, Uuid};

use super::admin::check_replicas;
use super::{Broker, Connection, configs};
use crate::catalog::{PARTITIONS_MAX, Refusal, Topic, TopicRecord};
use crate::config::{self, Values};
use crate::names;
use crate::quotas::Mutations;

/// What a client is told when `cordoned.log.dirs` leaves no directory for new partitions (`StripedReplicaPlacer`).
const ALL_CORDONED: &str = "All brokers are currently fenced, or have all their log directories cordoned.";

/// Makes a topic that a client asked for without having made it, with the broker's defaults. It counts as what the client
/// changed.
pub(crate) async fn create_automatically(
    broker: &Broker,
    name: &str,
    mutations: &mut Mutations,
) -> Result<Arc<Topic>, Refusal> {
    let key = match name {
        names::OFFSETS => "offsets.topic.num.partitions",
        names::TRANSACTIONS => "transaction.state.log.num.partitions",
        _ => "num.partitions",
    };
    let partitions = broker.server.number(key) as i32;
    check_name(broker, name)?;
    check_count(partitions)?;
    if !broker.catalog.root.takes_partitions() {
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, ALL_CORDONED));
    }
    mutations.take(partitions as usize, broker.passed_ms())?;
    match broker.catalog.create(name, partitions, broker.server.internal_topic(name)).await {
        // Somebody else was faster: theirs will do, once it is here.
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => broker
            .catalog
            .topic(name)
            .ok_or_else(|| Refusal::new(ErrorCode::LeaderNotAvailable, refusal.text)),
        made => made,
    }
}

fn check_name(broker: &Broker, name: &str) -> Result<(), Refusal> {
    names::check(name).map_err(|text| Refusal::new(ErrorCode::InvalidTopicException, text))?;
    let snapshot = broker.catalog.snapshot();
    if snapshot.by_name.contains_key(name) {
        let text = format!("Topic '{name}' already exists.");
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, text));
    }
    if let Some(other) = snapshot.by_name.keys().find(|other| names::collide(other, name)) {
        let text = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(Refusal::new(ErrorCode::InvalidTopicException, text));
    }
    Ok(())
}

fn check_count(partitions: i32) -> Result<(), Refusal> {
    if partitions > PARTITIONS_MAX {
        let text = format!("Number of partitions must not be larger than {PARTITIONS_MAX}.");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, text));
    }
    Ok(())
}

/// Answers CreateTopics.
pub(crate) async fn create(
    c: &Connection,
    request: CreateTopicsRequest,
    mut mutations: Mutations,
) -> CreateTopicsResponse {
    let mut names = BTreeSet::new();
    let twice: BTreeSet<String> =
        request.topics.iter().filter(|t| !names.insert(&t.name)).map(|t| t.name.clone()).collect();
    let mut response = CreateTopicsResponse::default();
    let mut answered = BTreeSet::new();
    for wanted in request.topics {
        if !answered.insert(wanted.name.clone()) {
            continue;
        }
        let made = match twice.contains(&wanted.name) {
            true => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            false => create_one(c, &wanted, request.validate_only, &mut mutations).await,
        };
        response.topics.push(made.unwrap_or_else(|refusal| CreatableTopicResult {
            name: wanted.name.clone(),
            error_code: refusal.code.code(),
            error_message: Some(refusal.text),
            configs: Some(Vec::new()),
            ..Default::default()
        }));
    }
    response.throttle_time_ms = pause(c, &mutations);
    response
}

/// How long a client is to pause that changed too much; its connection is not read meanwhile.
fn pause(c: &Connection, mutations: &Mutations) -> i32 {
    let pause_ms = mutations.pause_ms(c.broker.passed_ms());
    c.mute(pause_ms);
    i32::try_from(pause_ms).unwrap_or(i32::MAX)
}

async fn create_one(
    c: &Connection,
    wanted: &CreatableTopic,
    validate_only: bool,
    mutations: &mut Mutations,
) -> Result<CreatableTopicResult, Refusal> {
    let broker = &c.broker;
    check_name(broker, &wanted.name)?;
    let configs = configs_of(wanted)?;
    let partitions = partitions_of(broker, wanted)?;
    check_count(partitions)?;
    // What is only checked counts as well, as in Kafka.
    mutations.take(partitions as usize, broker.passed_ms())?;
    let id = match validate_only {
        // Kafka's controller makes up an id in any case.
        true => names::random_id(),
        false => broker.catalog.create(&wanted.name, partitions, configs.clone()).await?.record.id,
    };
    Ok(CreatableTopicResult {
        name: wanted.name.clone(),
        topic_id: id,
        error_code: 0,
        error_message: None,
        topic_config_error_code: 0,
        num_partitions: partitions,
        replication_factor: 1,
        configs: Some(told_configs(broker, &configs)),
    })
}

/// The number of partitions asked for: by count, or by an assignment of replicas to brokers.
fn partitions_of(broker: &Broker, wanted: &CreatableTopic) -> Result<i32, Refusal> {
    let invalid = |text: &str| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, text));
    if wanted.assignments.is_empty() {
        let factor = wanted.replication_factor;
        if factor != -1 && factor < 1 {
            let text = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, text));
        }
        if wanted.num_partitions != -1 && wanted.num_partitions < 1 {
            let text = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ErrorCode::InvalidPartitions, text));
        }
        if !broker.catalog.root.takes_partitions() {
            let text = format!("Unable to replicate the partition {} time(s): {ALL_CORDONED}", factor.max(1));
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, text));
        }
        if factor > 1 {
            // One broker holds one replica.
            let text = format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} \
                 cannot be reached because only 1 broker(s) are registered or some brokers have all their log \
                 directories cordoned."
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, text));
        }
        let default = broker.server.number("num.partitions") as i32;
        return Ok(if wanted.num_partitions == -1 { default } else { wanted.num_partitions });
    }
    if wanted.replication_factor != -1 {
        let text = "A manual partition assignment was specified, but replication factor was not set to -1.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, text));
    }
    if wanted.num_partitions != -1 {
        let text = "A manual partition assignment was specified, but numPartitions was not set to -1.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, text));
    }
    let mut indexes = BTreeSet::new();
    for assignment in &wanted.assignments {
        let index = assignment.partition_index;
        if !indexes.insert(index) {
            return invalid(&format!("Found multiple manual partition assignments for partition {index}"));
        }
        let before = (indexes.len() > 1).then_some(1);
        check_replicas(broker, &assignment.broker_ids, before)?;
    }
    let count = wanted.assignments.len() as i32;
    if indexes.into_iter().ne(0..count) {
        return invalid("partitions should be a consecutive 0-based integer sequence");
    }
    Ok(count)
}

fn configs_of(wanted: &CreatableTopic) -> Result<Values, Refusal> {
    let invalid = |text: String| Refusal::new(ErrorCode::InvalidConfig, text);
    let mut configs = Values::new();
    for config in &wanted.configs {
        let Some(value) = &config.value else {
            return Err(invalid(format!("Null value not supported for topic configs: {}", config.name)));
        };
        if configs.insert(config.name.clone(), value.clone()).is_some() {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("Duplicate config {}", config.name)));
        }
    }
    config::check_topic(&configs).map_err(invalid)?;
    Ok(configs)
}

fn told_configs(broker: &Broker, own: &Values) -> Vec<CreatableTopicConfigs> {
    let tell = |config: DescribeConfigsResourceResult| CreatableTopicConfigs {
        name: config.name,
        value: config.value,
        read_only: config.read_only,
        config_source: config.config_source,
        is_sensitive: config.is_sensitive,
    };
    configs::topic_configs_plain(&broker.server, own).into_iter().map(tell).collect()
}

/// Answers DeleteTopics.
pub(crate) async fn delete(
    c: &Connection,
    request: DeleteTopicsRequest,
    version: i16,
    mut mutations: Mutations,
) -> DeleteTopicsResponse {
    let wanted = match version {
        6.. => request.topics,
        _ => {
            let by_name = |name| DeleteTopicState { name: Some(name), topic_id: Uuid::nil() };
            request.topic_names.into_iter().map(by_name).collect()
        }
    };
    let mut response = DeleteTopicsResponse::default();
    for one in wanted {
        let topic = match &one.name {
            Some(name) => c.broker.catalog.topic(name),
            None => c.broker.catalog.topic_by_id(&one.topic_id),
        };
        let done = delete_one(c, &one, topic.as_ref(), &mut mutations).await;
        let name = topic.as_ref().map(|topic| topic.name.to_string()).or(one.name);
        response.responses.push(DeletableTopicResult {
            name,
            topic_id: topic.map_or(one.topic_id, |topic| topic.record.id),
            error_code: done.as_ref().err().map_or(0, |refusal| refusal.code.code()),
            error_message: done.err().map(|refusal| refusal.text),
        });
    }
    response.throttle_time_ms = pause(c, &mutations);
    response
}

async fn delete_one(
    c: &Connection,
    wanted: &DeleteTopicState,
    topic: Option<&Arc<Topic>>,
    mutations: &mut Mutations,
) -> Result<(), Refusal> {
    if !c.broker.server.is("delete.topic.enable") {
        return Err(Refusal::new(
            ErrorCode::TopicDeletionDisabled,
            ErrorCode::TopicDeletionDisabled.message(),
        ));
    }
    let code =
        if wanted.name.is_some() { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::UnknownTopicId };
    let topic = topic.ok_or_else(|| Refusal::new(code, code.message()))?;
    mutations.take(topic.partitions.len(), c.broker.passed_ms())?;
    c.broker.catalog.delete(topic).await?;
    super::groups::forget_topic(&c.broker, &topic.name).await;
    Ok(())
}

/// Answers CreatePartitions.
pub(crate) async fn create_partitions(
    c: &Connection,
    request: CreatePartitionsRequest,
    mut mutations: Mutations,
) -> CreatePartitionsResponse {
    let mut response = CreatePartitionsResponse::default();
    for wanted in request.topics {
        let done = grow(c, &wanted, request.validate_only, &mut mutations).await;
        response.results.push(CreatePartitionsTopicResult {
            name: wanted.name,
            error_code: done.as_ref().err().map_or(0, |refusal| refusal.code.code()),
            error_message: done.err().and_then(Refusal::told),
        });
    }
    response.throttle_time_ms = pause(c, &mutations);
    response
}

async fn grow(
    c: &Connection,
    wanted: &CreatePartitionsTopic,
    validate_only: bool,
    mutations: &mut Mutations,
) -> Result<(), Refusal> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let topic = c.broker.catalog.topic(&wanted.name).ok_or_else(|| Refusal::new(unknown, ""))?;
    let (now, count) = (topic.record.partitions, wanted.count);
    let invalid = |text: String| Err(Refusal::new(ErrorCode::InvalidPartitions, text));
    if count == now {
        return invalid(format!("Topic already has {now} partition(s)."));
    }
    if count < now {
        return invalid(format!(
            "The topic {} currently has {now} partition(s); {count} would not be an increase.",
            wanted.name
        ));
    }
    if count > PARTITIONS_MAX {
        return invalid(format!("Number of partitions must not be larger than {PARTITIONS_MAX}."));
    }
    let additional = (count - now) as usize;
    if let Some(assignments) = wanted.assignments.as_ref().filter(|given| given.len() != additional) {
        let text = format!(
            "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, text));
    }
    mutations.take(additional, c.broker.passed_ms())?;
    if let Some(assignments) = &wanted.assignments {
        assignments.iter().try_for_each(|a| check_replicas(&c.broker, &a.broker_ids, Some(1)))?;
    } else if !c.broker.catalog.root.takes_partitions() {
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, ALL_CORDONED));
    }
    if !validate_only {
        c.broker.catalog.alter(&topic, TopicRecord { partitions: count, ..topic.record.clone() }).await?;
    }
    Ok(())
}
