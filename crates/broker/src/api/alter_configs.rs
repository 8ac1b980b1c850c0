//! AlterConfigs and IncrementalAlterConfigs: checked as a whole, stored, in force when answered.

use std::collections::{BTreeSet, HashMap};

use kafka_wire::ErrorCode;
use kafka_wire::messages::alter_configs_response::AlterConfigsResourceResponse as ReplaceResult;
use kafka_wire::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as AlterResult;
use kafka_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::Connection;
use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::catalog::{Refusal, TopicRecord};
use crate::config::{self, Kind, Scope, Server, Values};
use crate::names;
use crate::resources::{Kind as ResourceKind, Resource};
use crate::telemetry;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Tries again when a topic changed meanwhile.
const TRIES: usize = 5;

/// What is asked of one resource.
struct Asked {
    kind: i8,
    name: String,
    changes: Vec<AlterableConfig>,
    /// What is not named goes back to its default.
    replace: bool,
}

/// Answers IncrementalAlterConfigs.
pub(crate) async fn alter(
    c: &Connection,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.into_iter().map(|resource| Asked {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: resource.configs,
        replace: false,
    });
    let responses = alter_all(c, asked.collect(), request.validate_only).await;
    let result = |(asked, done): (Asked, Result<(), Refusal>)| AlterResult {
        error_code: done.as_ref().err().map_or(0, |refusal| refusal.code.code()),
        error_message: done.err().and_then(Refusal::told),
        resource_type: asked.kind,
        resource_name: asked.name,
    };
    IncrementalAlterConfigsResponse {
        responses: responses.into_iter().map(result).collect(),
        ..Default::default()
    }
}

/// Answers AlterConfigs: what is not named goes back to its default.
pub(crate) async fn replace(c: &Connection, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let asked =
        request.resources.into_iter().map(|resource| {
            let set = |config: kafka_wire::messages::alter_configs_request::AlterableConfig| {
                AlterableConfig { name: config.name, config_operation: SET, value: config.value }
            };
            let changes = resource.configs.into_iter().map(set).collect();
            Asked { kind: resource.resource_type, name: resource.resource_name, changes, replace: true }
        });
    let responses = alter_all(c, asked.collect(), request.validate_only).await;
    let result = |(asked, done): (Asked, Result<(), Refusal>)| ReplaceResult {
        error_code: done.as_ref().err().map_or(0, |refusal| refusal.code.code()),
        error_message: done.err().and_then(Refusal::told),
        resource_type: asked.kind,
        resource_name: asked.name,
    };
    AlterConfigsResponse { responses: responses.into_iter().map(result).collect(), ..Default::default() }
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, text))
}

fn bad_config<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidConfig, text))
}

async fn alter_all(
    c: &Connection,
    all: Vec<Asked>,
    validate_only: bool,
) -> Vec<(Asked, Result<(), Refusal>)> {
    let mut seen: HashMap<(i8, String), usize> = HashMap::new();
    for asked in &all {
        *seen.entry((asked.kind, asked.name.clone())).or_default() += 1;
    }
    let mut results = Vec::with_capacity(all.len());
    for asked in all {
        let done = match seen.get(&(asked.kind, asked.name.clone())) {
            Some(1) => alter_one(c, &asked, validate_only).await,
            _ => invalid("Each resource must appear at most once."),
        };
        results.push((asked, done));
    }
    results
}

async fn alter_one(c: &Connection, asked: &Asked, validate_only: bool) -> Result<(), Refusal> {
    check_shape(asked)?;
    match asked.kind {
        TOPIC => alter_topic(c, asked, validate_only).await,
        BROKER => {
            if !asked.name.is_empty() {
                check_node(c, &asked.name)?;
            }
            alter_resource(c, (ResourceKind::Brokers, asked.name.clone()), asked, validate_only).await
        }
        BROKER_LOGGER if !asked.replace => {
            check_node(c, &asked.name)?;
            match asked.changes.first() {
                Some(change) => bad_config(format!("Logger {} does not exist!", change.name)),
                None => Ok(()),
            }
        }
        CLIENT_METRICS => {
            alter_resource(c, (ResourceKind::ClientMetrics, asked.name.clone()), asked, validate_only).await
        }
        GROUP => alter_resource(c, (ResourceKind::Groups, asked.name.clone()), asked, validate_only).await,
        other => invalid(format!("Unknown resource type {other}")),
    }
}

fn check_shape(asked: &Asked) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    if !asked.changes.iter().all(|change| names.insert(&change.name)) {
        return invalid("Error due to duplicate config keys");
    }
    let null = |change: &&AlterableConfig| change.config_operation != DELETE && change.value.is_none();
    let nulls: Vec<&str> = asked.changes.iter().filter(null).map(|change| &*change.name).collect();
    match nulls.is_empty() {
        true => Ok(()),
        false => invalid(format!("Null value not supported for : {}", nulls.join(", "))),
    }
}

fn check_node(c: &Connection, name: &str) -> Result<(), Refusal> {
    match name.parse::<i32>() {
        Ok(id) if id == c.broker.broker_id => Ok(()),
        Ok(_) => {
            invalid(format!("Unexpected broker id, expected {}, but received {name}", c.broker.broker_id))
        }
        Err(_) => invalid(format!("Node id must be an integer, but it is: {name}")),
    }
}

async fn alter_topic(c: &Connection, asked: &Asked, validate_only: bool) -> Result<(), Refusal> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        let topic = c.broker.catalog.topic(&asked.name);
        let own = topic.as_ref().map(|topic| topic.record.configs.clone()).unwrap_or_default();
        let default = |name: &str| c.broker.server.topic_text(&Values::new(), name);
        // The controller works the values out before it looks at the topic's name, and at whether there is such a topic
        // last of all.
        let configs = changed(Scope::Topic, &own, asked, default)?;
        if asked.name.is_empty() {
            return invalid("Default topic resources are not allowed.");
        }
        names::check(&asked.name).map_err(|text| Refusal::new(ErrorCode::InvalidTopicException, text))?;
        config::check_topic(&configs).or_else(bad_config)?;
        let Some(topic) = topic else {
            let text = format!("The topic '{}' does not exist.", asked.name);
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, text));
        };
        if validate_only || configs == topic.record.configs {
            return Ok(());
        }
        last = match c.broker.catalog.alter(&topic, TopicRecord { configs, ..topic.record.clone() }).await {
            // It changed meanwhile: look again.
            Err(refusal) if refusal.code == ErrorCode::RequestTimedOut => Err(refusal),
            done => return done.map(drop),
        };
    }
    last
}

async fn alter_resource(
    c: &Connection,
    resource: Resource,
    asked: &Asked,
    validate_only: bool,
) -> Result<(), Refusal> {
    let (server, kind) = (&c.broker.server, resource.0);
    let change = |old: &Values| {
        let scope = match kind {
            ResourceKind::Brokers => Scope::Broker,
            ResourceKind::Groups => Scope::Group,
            ResourceKind::ClientMetrics => Scope::ClientMetrics,
        };
        let default = |name: &str| {
            let def = config::find(scope, name).and_then(|def| def.default);
            server
                .text(name)
                .filter(|_| scope == Scope::Broker)
                .or(def.map(str::to_owned))
                .unwrap_or_default()
        };
        let new = changed(scope, old, asked, default)?;
        match kind {
            ResourceKind::Brokers => {
                config::check_dynamic(&new, !asked.name.is_empty()).or_else(invalid)?;
                server.check_cordoned(&new).or_else(invalid)?;
            }
            ResourceKind::Groups => check_group(server, &asked.name, &new)?,
            ResourceKind::ClientMetrics => telemetry::check_subscription(&asked.name, &new)?,
        }
        Ok(new)
    };
    c.broker.resources.alter(&c.broker.catalog, resource.clone(), change, validate_only).await
}

/// The configurations after the changes.
fn changed(
    scope: Scope,
    old: &Values,
    asked: &Asked,
    default: impl Fn(&str) -> String,
) -> Result<Values, Refusal> {
    let mut configs = if asked.replace { Values::new() } else { old.clone() };
    for change in &asked.changes {
        let (name, value) = (&change.name, change.value.clone().unwrap_or_default());
        match change.config_operation {
            SET => drop(configs.insert(name.clone(), value)),
            DELETE => drop(configs.remove(name)),
            op @ (APPEND | SUBTRACT) => {
                if config::find(scope, name).is_none_or(|def| def.kind != Kind::List) {
                    let word = if op == APPEND { "APPEND" } else { "SUBTRACT" };
                    return bad_config(format!("Can't {word} to key {name} because its type is not LIST."));
                }
                let now = configs.get(name).cloned().unwrap_or_else(|| default(name));
                configs.insert(name.clone(), edit_list(&now, &value, op == APPEND));
            }
            other if scope == Scope::Broker => return invalid(format!("Unknown operations type {other}")),
            // Kafka's controller fails on these.
            _ => return Err(Refusal::new(ErrorCode::UnknownServerError, "")),
        }
    }
    Ok(configs)
}

fn edit_list(now: &str, words: &str, append: bool) -> String {
    let mut list: Vec<&str> = now.split(',').filter(|word| !word.is_empty()).collect();
    for word in words.split(',') {
        match (append, list.iter().position(|known| *known == word)) {
            (true, None) => list.push(word),
            (false, Some(at)) => drop(list.remove(at)),
            _ => {}
        }
    }
    list.join(",")
}

/// What `GroupConfig.validate` checks: names, types, and the bounds that the broker's configurations set.
fn check_group(server: &Server, group: &str, values: &Values) -> Result<(), Refusal> {
    if group.is_empty() {
        return invalid("Default group resources are not allowed.");
    }
    if let Some(name) = values.keys().find(|name| config::find(Scope::Group, name).is_none()) {
        return bad_config(format!("Unknown group config name: {name}"));
    }
    for (name, value) in values {
        config::find(Scope::Group, name).map_or(Ok(()), |def| def.check(value)).or_else(bad_config)?;
        let Ok(number) = value.trim().parse::<i64>() else { continue };
        let Some((family, rest)) = name.split_once('.') else { continue };
        let bound = |word: &str| {
            let rest = rest.strip_prefix("num.").unwrap_or(rest);
            let key = format!("group.{family}.{word}.{rest}");
            config::find(Scope::Broker, &key).map(|def| (server.number(def.name), key))
        };
        if let Some((_, key)) = bound("min").filter(|(least, _)| number < *least) {
            return bad_config(format!("{name} must be greater than or equal to {key}"));
        }
        if let Some((_, key)) = bound("max").filter(|(most, _)| number > *most) {
            return bad_config(format!("{name} must be less than or equal to {key}"));
        }
    }
    for family in ["consumer", "share", "streams"] {
        let (session, heartbeat) =
            (format!("{family}.session.timeout.ms"), format!("{family}.heartbeat.interval.ms"));
        let in_force = |name: &str| match values.get(name) {
            Some(value) => value.trim().parse().unwrap_or_default(),
            None => server.number(&format!("group.{name}")),
        };
        if in_force(&session) <= in_force(&heartbeat) {
            return bad_config(format!("{session} must be greater than {heartbeat}"));
        }
    }
    Ok(())
}
