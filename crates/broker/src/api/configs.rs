//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.

use kafka_wire::ErrorCode;
use kafka_wire::messages::alter_configs_response::AlterConfigsResourceResponse as ReplaceResult;
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as AlterResult;
use kafka_wire::messages::list_config_resources_response::ConfigResource;
use kafka_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};

use super::{Connection, config_source};
use crate::catalog::{Refusal, Topic, TopicRecord};
use crate::config::{self, Def, Kind, Server, Values};
use crate::names;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const STATIC_BROKER_SOURCE: i8 = 4;
const DEFAULT_SOURCE: i8 = 5;
const TOPIC_SOURCE: i8 = 1;

/// Answers DescribeConfigs.
pub(crate) fn describe(c: &Connection, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let tell = Tell { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.into_iter().map(|resource| {
        let configs = described(c, &resource, &tell);
        DescribeConfigsResult {
            error_code: configs.as_ref().err().map_or(0, |refusal| refusal.code.code()),
            error_message: configs.as_ref().err().map(|refusal| refusal.text.clone()),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: configs.unwrap_or_default(),
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

struct Tell {
    synonyms: bool,
    documentation: bool,
}

fn described(
    c: &Connection,
    resource: &DescribeConfigsResource,
    tell: &Tell,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let asked = |def: &&'static Def| keys.is_none_or(|keys| keys.iter().any(|key| key == def.name));
    let server = &c.broker.server;
    match resource.resource_type {
        TOPIC => {
            let topic = find_topic(c, &resource.resource_name)?;
            let own = shown(&topic);
            Ok(config::TOPIC.iter().filter(asked).map(|def| topic_config(server, &own, def, tell)).collect())
        }
        BROKER => {
            check_broker(c, &resource.resource_name)?;
            let mut configs: Vec<_> = config::BROKER
                .iter()
                .filter(asked)
                .map(|def| broker_config(server, def.name, def, tell))
                .collect();
            let topics = config::TOPIC.iter().filter(|def| !def.synonym.is_empty());
            let topics =
                topics.filter(|def| keys.is_none_or(|keys| keys.iter().any(|key| key == def.synonym)));
            configs.extend(topics.map(|def| broker_config(server, def.synonym, def, tell)));
            configs.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(configs)
        }
        // No logger, client-metrics or group configurations exist here: the resource is known and empty.
        BROKER_LOGGER | CLIENT_METRICS | GROUP => Ok(Vec::new()),
        other => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

/// What the topic's own configurations are; those of the topic of offsets are built in.
fn shown(topic: &Topic) -> Values {
    let mut own = topic.record.configs.clone();
    if &*topic.name == names::OFFSETS {
        own.insert("cleanup.policy".into(), "compact".into());
        own.insert("segment.bytes".into(), topic.settings.segment_bytes.to_string());
    }
    own
}

fn find_topic(c: &Connection, name: &str) -> Result<std::sync::Arc<Topic>, Refusal> {
    names::check(name).map_err(|text| Refusal::new(ErrorCode::InvalidTopicException, text))?;
    let unknown = ErrorCode::UnknownTopicOrPartition;
    c.broker
        .catalog
        .topic(name)
        .ok_or_else(|| Refusal::new(unknown, format!("The topic '{name}' does not exist.")))
}

fn check_broker(c: &Connection, name: &str) -> Result<(), Refusal> {
    // The empty name stands for the defaults of all brokers.
    if name.is_empty() || name == c.broker.broker_id.to_string() {
        return Ok(());
    }
    let text =
        format!("Unexpected broker id, expected {} or empty string, but received {name}", c.broker.broker_id);
    Err(Refusal::new(ErrorCode::InvalidRequest, text))
}

fn topic_config(
    server: &Server,
    own: &Values,
    def: &'static Def,
    tell: &Tell,
) -> DescribeConfigsResourceResult {
    let mut synonyms = Vec::new();
    if tell.synonyms {
        if let Some(value) = own.get(def.name) {
            synonyms.push(synonym(def.name, value, TOPIC_SOURCE));
        }
        synonyms.extend(broker_synonyms(server, def.synonym, def));
    }
    result(
        def.name,
        server.topic_text(own, def.name),
        config_source(server, own, def),
        def,
        synonyms,
        false,
        tell,
    )
}

fn broker_config(
    server: &Server,
    name: &'static str,
    def: &'static Def,
    tell: &Tell,
) -> DescribeConfigsResourceResult {
    let given = server.given(name);
    let source = if given.is_some() { STATIC_BROKER_SOURCE } else { DEFAULT_SOURCE };
    let synonyms = if tell.synonyms { broker_synonyms(server, name, def) } else { Vec::new() };
    // What is given at start stays until the next start.
    result(name, given.unwrap_or(def.default), source, def, synonyms, true, tell)
}

fn broker_synonyms(server: &Server, name: &'static str, def: &'static Def) -> Vec<DescribeConfigsSynonym> {
    if name.is_empty() {
        return Vec::new();
    }
    let given = server.given(name).map(|value| synonym(name, value, STATIC_BROKER_SOURCE));
    given.into_iter().chain([synonym(name, def.default, DEFAULT_SOURCE)]).collect()
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value: Some(value.to_owned()), source }
}

fn result(
    name: &str,
    value: &str,
    config_source: i8,
    def: &Def,
    synonyms: Vec<DescribeConfigsSynonym>,
    read_only: bool,
    tell: &Tell,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        read_only,
        config_source,
        is_sensitive: false,
        synonyms,
        config_type: def.kind as i8,
        documentation: tell.documentation.then(|| def.doc.to_owned()),
    }
}

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Answers IncrementalAlterConfigs: topics' configurations change and take effect; the broker's are given at start.
pub(crate) async fn alter(
    c: &Connection,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in request.resources {
        let done = match alterable(c, resource.resource_type, &resource.resource_name) {
            Ok(topic) => match altered(&c.broker.server, &topic, &resource.configs) {
                Ok(configs) => store(c, &topic, configs, request.validate_only).await,
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        response.responses.push(AlterResult {
            error_code: done.as_ref().err().map_or(0, |refusal| refusal.code.code()),
            error_message: done.err().map(|refusal| refusal.text),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        });
    }
    response
}

/// Answers AlterConfigs: what is not named goes back to its default.
pub(crate) async fn replace(c: &Connection, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut response = AlterConfigsResponse::default();
    for resource in request.resources {
        let configs = resource.configs.into_iter().filter_map(|config| Some((config.name, config.value?)));
        let configs: Values = configs.collect();
        let done = match alterable(c, resource.resource_type, &resource.resource_name) {
            Ok(topic) => store(c, &topic, configs, request.validate_only).await,
            Err(refusal) => Err(refusal),
        };
        response.responses.push(ReplaceResult {
            error_code: done.as_ref().err().map_or(0, |refusal| refusal.code.code()),
            error_message: done.err().map(|refusal| refusal.text),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        });
    }
    response
}

fn alterable(c: &Connection, kind: i8, name: &str) -> Result<std::sync::Arc<Topic>, Refusal> {
    if kind != TOPIC {
        let text = "Only configurations of topics can be altered while this broker runs.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, text));
    }
    let topic = find_topic(c, name)?;
    if topic.is_internal() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, format!("The topic '{name}' is internal.")));
    }
    Ok(topic)
}

fn altered(server: &Server, topic: &Topic, changes: &[AlterableConfig]) -> Result<Values, Refusal> {
    let mut configs = topic.record.configs.clone();
    for change in changes {
        let name = &change.name;
        let invalid = |text: String| Refusal::new(ErrorCode::InvalidConfig, text);
        let def =
            config::topic_def(name).ok_or_else(|| invalid(format!("Unknown topic config name: {name}")))?;
        let value = || {
            let text = format!("Null value not supported for : {name}");
            change.value.as_deref().ok_or_else(|| Refusal::new(ErrorCode::InvalidRequest, text))
        };
        match change.config_operation {
            SET => configs.insert(name.clone(), value()?.to_owned()),
            DELETE => configs.remove(name),
            APPEND | SUBTRACT if def.kind == Kind::List => {
                let now = server.topic_text(&configs, name).to_owned();
                let list = edit_list(&now, value()?, change.config_operation == APPEND);
                configs.insert(name.clone(), list)
            }
            APPEND | SUBTRACT => {
                return Err(invalid(format!("Config value append is not allowed for config key: {name}")));
            }
            other => {
                return Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unknown operation {other}")));
            }
        };
    }
    Ok(configs)
}

fn edit_list(now: &str, words: &str, append: bool) -> String {
    let words: Vec<_> = words.split(',').filter(|word| !word.is_empty()).collect();
    let mut list: Vec<_> = now.split(',').filter(|word| !word.is_empty() && !words.contains(word)).collect();
    if append {
        list.extend(words);
    }
    list.join(",")
}

async fn store(c: &Connection, topic: &Topic, configs: Values, validate_only: bool) -> Result<(), Refusal> {
    config::check_topic(&configs).map_err(|text| Refusal::new(ErrorCode::InvalidConfig, text))?;
    if !validate_only && configs != topic.record.configs {
        c.broker.catalog.alter(topic, TopicRecord { configs, ..topic.record.clone() }).await?;
    }
    Ok(())
}

/// Answers ListConfigResources (KIP-1142): topics and the broker; version 0 asks for client metrics, of which there are none.
pub(crate) fn list(
    c: &Connection,
    request: ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    let mut wanted = request.resource_types;
    if version == 0 {
        wanted = vec![CLIENT_METRICS];
    } else if wanted.is_empty() {
        wanted = vec![TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    }
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    if wanted.iter().any(|kind| !known.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let mut config_resources = Vec::new();
    if wanted.contains(&TOPIC) {
        let names = c.broker.catalog.snapshot().by_name.keys().map(ToString::to_string).collect::<Vec<_>>();
        config_resources.extend(
            names.into_iter().map(|resource_name| ConfigResource { resource_name, resource_type: TOPIC }),
        );
    }
    for kind in [BROKER, BROKER_LOGGER].into_iter().filter(|kind| wanted.contains(kind)) {
        config_resources
            .push(ConfigResource { resource_name: c.broker.broker_id.to_string(), resource_type: kind });
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
