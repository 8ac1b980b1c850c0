//! DescribeConfigs and ListConfigResources.

use kafka_wire::ErrorCode;
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::messages::list_config_resources_response::ConfigResource;
use kafka_wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::Connection;
use crate::catalog::{Refusal, Topic};
use crate::config::{self, Def, Kind, Mode, Scope, Server, Values};
use crate::names;
use crate::resources::Kind as ResourceKind;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Where a value comes from (`ConfigSource` of DescribeConfigsResponse.java).
mod source {
    pub(super) const TOPIC: i8 = 1;
    pub(super) const DYNAMIC_BROKER: i8 = 2;
    pub(super) const DYNAMIC_DEFAULT_BROKER: i8 = 3;
    pub(super) const STATIC_BROKER: i8 = 4;
    pub(super) const DEFAULT: i8 = 5;
    pub(super) const CLIENT_METRICS: i8 = 7;
    pub(super) const GROUP: i8 = 8;
}

/// Answers DescribeConfigs.
pub(crate) fn describe(c: &Connection, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let tell = Tell { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    if request.resources.iter().any(|resource| !known.contains(&resource.resource_type)) {
        return refused(request);
    }
    let results = request.resources.into_iter().map(|resource| {
        let configs = described(c, &resource, &tell);
        DescribeConfigsResult {
            error_code: configs.as_ref().err().map_or(0, |refusal| refusal.code.code()),
            // Where there is nothing to say Kafka says nothing, not null.
            error_message: Some(configs.as_ref().err().map_or(String::new(), |refusal| refusal.text.clone())),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: configs.unwrap_or_default(),
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

/// A kind that nobody knows fails the whole request, in Kafka's general words.
fn refused(request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| DescribeConfigsResult {
        error_code: ErrorCode::InvalidRequest.code(),
        error_message: Some(ErrorCode::InvalidRequest.message().to_owned()),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: Vec::new(),
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

struct Tell {
    synonyms: bool,
    documentation: bool,
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, text))
}

fn described(
    c: &Connection,
    resource: &DescribeConfigsResource,
    tell: &Tell,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let asked = |name: &str| keys.is_none_or(|keys| keys.iter().any(|key| key == name));
    let (server, name) = (&c.broker.server, &*resource.resource_name);
    let mut configs = match resource.resource_type {
        TOPIC => topic_configs(server, &find_topic(c, name)?.record.configs, tell),
        BROKER if name.is_empty() => default_broker_configs(server, tell),
        BROKER => {
            check_node(c, name, "Unexpected broker id, expected {} or empty string, but received ")?;
            broker_configs(server, tell)
        }
        BROKER_LOGGER if name.is_empty() => return invalid("Broker id must not be empty"),
        // Kafka lists its Java loggers here; there are none.
        BROKER_LOGGER => {
            check_node(c, name, "Unexpected broker id, expected {} but received ")?;
            Vec::new()
        }
        CLIENT_METRICS if name.is_empty() => {
            return invalid("Client metrics subscription name must not be empty");
        }
        CLIENT_METRICS => {
            let own = c.broker.resources.values(ResourceKind::ClientMetrics, name);
            scoped_configs(server, Scope::ClientMetrics, source::CLIENT_METRICS, &own, tell)
        }
        GROUP if name.is_empty() => return invalid("Group name must not be empty"),
        GROUP => {
            let own = c.broker.resources.values(ResourceKind::Groups, name);
            scoped_configs(server, Scope::Group, source::GROUP, &own, tell)
        }
        other => return invalid(format!("Unexpected resource type {other} for resource {name}")),
    };
    configs.retain(|config| asked(&config.name));
    Ok(configs)
}

fn find_topic(c: &Connection, name: &str) -> Result<std::sync::Arc<Topic>, Refusal> {
    names::check(name).map_err(|text| Refusal::new(ErrorCode::InvalidTopicException, text))?;
    let unknown = || Refusal::new(ErrorCode::UnknownTopicOrPartition, "");
    c.broker.catalog.topic(name).ok_or_else(unknown)
}

fn check_node(c: &Connection, name: &str, text: &str) -> Result<(), Refusal> {
    match name.parse::<i32>() {
        Ok(id) if id == c.broker.broker_id => Ok(()),
        Ok(_) => invalid(format!("{}{name}", text.replace("{}", &c.broker.broker_id.to_string()))),
        Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
    }
}

/// The values a topic has, with where each comes from.
pub(super) fn topic_configs_plain(server: &Server, own: &Values) -> Vec<DescribeConfigsResourceResult> {
    topic_configs(server, own, &Tell { synonyms: false, documentation: false })
}

fn topic_configs(server: &Server, own: &Values, tell: &Tell) -> Vec<DescribeConfigsResourceResult> {
    let shown = config::keys(Scope::Topic).iter().filter(|def| !def.internal || own.contains_key(def.name));
    let one = |def: &'static Def| {
        let value = server.topic_text(own, def.name);
        let mut synonyms = match def.synonyms.first() {
            Some(first) => broker_synonyms(server, first, &def.synonyms, false),
            None => Vec::new(),
        };
        if own.contains_key(def.name) {
            synonyms.insert(0, synonym(def.name, Some(value.clone()), source::TOPIC));
        }
        result(def, Some(value), synonyms, false, tell)
    };
    shown.map(one).collect()
}

fn scoped_configs(
    server: &Server,
    scope: Scope,
    own_source: i8,
    own: &Values,
    tell: &Tell,
) -> Vec<DescribeConfigsResourceResult> {
    let one = |def: &'static Def| {
        let mut synonyms = match (def.synonyms.first(), scope) {
            (Some(first), _) => broker_synonyms(server, first, &def.synonyms, false),
            (None, Scope::Group) => def
                .default
                .map(|value| synonym(def.name, Some(value.to_owned()), source::DEFAULT))
                .into_iter()
                .collect(),
            (None, _) => Vec::new(),
        };
        let broker = def.synonyms.first().and_then(|name| server.text(name));
        let value = own.get(def.name).cloned().or(broker).or(def.default.map(str::to_owned));
        if own.contains_key(def.name) {
            synonyms.insert(0, synonym(def.name, value.clone(), own_source));
        }
        result(def, value, synonyms, false, tell)
    };
    config::keys(scope).iter().map(one).collect()
}

fn broker_configs(server: &Server, tell: &Tell) -> Vec<DescribeConfigsResourceResult> {
    let dynamic = server.dynamic();
    let given = |name: &str| {
        [&dynamic.broker, &dynamic.default, server.statics()].iter().any(|level| level.contains_key(name))
    };
    let shown = config::keys(Scope::Broker).iter().filter(|def| !def.internal || given(def.name));
    let one = |def: &'static Def| {
        let sensitive = def.kind == Kind::Password;
        let names = if def.synonyms.is_empty() { vec![def.name] } else { def.synonyms.clone() };
        let synonyms = broker_synonyms(server, def.name, &names, sensitive);
        let value = server.text(def.name).filter(|_| !sensitive);
        result(def, value, synonyms, def.mode == Mode::ReadOnly, tell)
    };
    let mut all: Vec<_> = shown.map(one).collect();
    // Names nobody knows may be set, as for a plug-in; their values are kept to ourselves.
    let mut unknown: Vec<&String> = dynamic.broker.keys().chain(dynamic.default.keys()).collect();
    unknown.retain(|name| config::find(Scope::Broker, name).is_none());
    unknown.sort_unstable();
    unknown.dedup();
    all.extend(unknown.into_iter().map(|name| unknown_config(server, name, true, tell)));
    all
}

/// What all brokers were told while they run, and nothing else.
fn default_broker_configs(server: &Server, tell: &Tell) -> Vec<DescribeConfigsResourceResult> {
    let dynamic = server.dynamic();
    let one = |(name, value): (&String, &String)| match config::find(Scope::Broker, name) {
        None => unknown_config(server, name, false, tell),
        Some(def) => {
            let value = (def.kind != Kind::Password).then(|| value.clone());
            let synonyms = vec![synonym(def.name, value.clone(), source::DYNAMIC_DEFAULT_BROKER)];
            result(def, value, synonyms, def.mode == Mode::ReadOnly, tell)
        }
    };
    dynamic.default.iter().map(one).collect()
}

fn unknown_config(
    server: &Server,
    name: &str,
    per_broker: bool,
    tell: &Tell,
) -> DescribeConfigsResourceResult {
    let mut synonyms = broker_synonyms(server, name, &[name], true);
    synonyms.retain(|synonym| per_broker || synonym.source == source::DYNAMIC_DEFAULT_BROKER);
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: None,
        read_only: true,
        config_source: synonyms.first().map_or(source::DEFAULT, |first| first.source),
        is_sensitive: true,
        synonyms: if tell.synonyms { synonyms } else { Vec::new() },
        config_type: 0,
        documentation: None,
    }
}

/// All values of a broker's key and its synonyms, level by level, from the first that has the key's own name on.
fn broker_synonyms(
    server: &Server,
    name: &str,
    names: &[&str],
    sensitive: bool,
) -> Vec<DescribeConfigsSynonym> {
    let dynamic = server.dynamic();
    let levels = [
        (&dynamic.broker, source::DYNAMIC_BROKER),
        (&dynamic.default, source::DYNAMIC_DEFAULT_BROKER),
        (server.statics(), source::STATIC_BROKER),
    ];
    let hide = |value: &str| (!sensitive).then(|| value.to_owned());
    let mut all = Vec::new();
    for (level, from) in levels {
        let given = names.iter().filter_map(|name| Some(synonym(name, hide(level.get(*name)?), from)));
        all.extend(given);
    }
    let default = |name: &&str| config::find(Scope::Broker, name)?.default;
    all.extend(names.iter().filter_map(|name| Some(synonym(name, hide(default(name)?), source::DEFAULT))));
    all.into_iter().skip_while(|synonym| synonym.name != name).collect()
}

fn synonym(name: &str, value: Option<String>, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value, source }
}

fn result(
    def: &Def,
    value: Option<String>,
    synonyms: Vec<DescribeConfigsSynonym>,
    read_only: bool,
    tell: &Tell,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: def.name.to_owned(),
        value,
        read_only,
        config_source: synonyms.first().map_or(source::DEFAULT, |first| first.source),
        is_sensitive: def.kind == Kind::Password,
        synonyms: if tell.synonyms { synonyms } else { Vec::new() },
        config_type: def.kind as i8,
        documentation: tell.documentation.then(|| def.documentation()),
    }
}

/// Answers ListConfigResources (KIP-1142); version 0 asks for client-metrics subscriptions only.
pub(crate) fn list(
    c: &Connection,
    request: ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let wanted = match version {
        0 => vec![CLIENT_METRICS],
        _ if request.resource_types.is_empty() => known.to_vec(),
        _ => request.resource_types,
    };
    if wanted.iter().any(|kind| !known.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let names = |kind: i8| -> Vec<String> {
        match kind {
            TOPIC => c.broker.catalog.snapshot().by_name.keys().map(ToString::to_string).collect(),
            CLIENT_METRICS => c.broker.resources.names(ResourceKind::ClientMetrics),
            GROUP => c.broker.resources.names(ResourceKind::Groups),
            _ => vec![c.broker.broker_id.to_string()],
        }
    };
    let one = |kind: i8| {
        names(kind)
            .into_iter()
            .map(move |resource_name| ConfigResource { resource_name, resource_type: kind })
    };
    let config_resources = known.into_iter().filter(|kind| wanted.contains(kind)).flat_map(one).collect();
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
