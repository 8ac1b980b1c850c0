//! Describing and altering configurations of every kind of resource.

use kafka_wire::messages::alter_configs_request as replace;
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};
use kafka_wire::{ErrorCode, Message};

use crate::common::{Raw, Served, append, batch, code, create, options};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const METRICS: i8 = 16;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// One change of one resource; code and text.
async fn alter(
    raw: &mut Raw,
    (kind, name): (i8, &str),
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> (ErrorCode, String) {
    let change = |(name, op, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: (*name).into(),
        config_operation: *op,
        value: value.map(str::to_owned),
    };
    let configs = changes.iter().map(change).collect();
    let resource = AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let response: IncrementalAlterConfigsResponse = raw.call(1, &request).await;
    let result = &response.responses[0];
    (code(result.error_code), result.error_message.clone().unwrap_or_default())
}

async fn set(raw: &mut Raw, resource: (i8, &str), name: &str, value: &str) -> (ErrorCode, String) {
    alter(raw, resource, &[(name, SET, Some(value))], false).await
}

async fn describe(
    raw: &mut Raw,
    (kind, name): (i8, &str),
) -> (ErrorCode, Vec<DescribeConfigsResourceResult>) {
    let resource =
        DescribeConfigsResource { resource_type: kind, resource_name: name.into(), configuration_keys: None };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let response: DescribeConfigsResponse = raw.call(4, &request).await;
    let result = response.results.into_iter().next().unwrap();
    (code(result.error_code), result.configs)
}

/// A key's value, source, and synonyms as `source:name=value`.
async fn one(raw: &mut Raw, resource: (i8, &str), key: &str) -> (Option<String>, i8, Vec<String>) {
    let (_, configs) = describe(raw, resource).await;
    let found = configs.into_iter().find(|config| config.name == key).unwrap_or_else(|| panic!("{key}"));
    let synonyms = found
        .synonyms
        .iter()
        .map(|s| format!("{}:{}={}", s.source, s.name, s.value.as_deref().unwrap_or("null")));
    (found.value, found.config_source, synonyms.collect())
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test]
async fn all_keys_are_described_with_their_sources() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.properties.insert("log.retention.hours".into(), "2".into());
    options.properties.insert("message.max.bytes".into(), "2000".into());
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[("segment.bytes", "2000000")]).await;
    let (_, configs) = describe(&mut raw, (TOPIC, "t")).await;
    assert_eq!(configs.len(), 33);
    assert!(configs.iter().all(|config| config.documentation.as_ref().is_some_and(|doc| doc.len() > 10)));
    let (_, configs) = describe(&mut raw, (BROKER, "1")).await;
    assert_eq!(configs.len(), 340);
    let sensitive = configs.iter().find(|config| config.name == "ssl.key.password").unwrap();
    assert!(sensitive.is_sensitive && sensitive.value.is_none() && sensitive.config_type == 9);
    assert_eq!(
        one(&mut raw, (TOPIC, "t"), "segment.bytes").await,
        (text("2000000"), 1, vec!["1:segment.bytes=2000000".into(), "5:log.segment.bytes=1073741824".into()],)
    );
    let max = vec!["4:message.max.bytes=2000".to_owned(), "5:message.max.bytes=1048588".into()];
    assert_eq!(one(&mut raw, (TOPIC, "t"), "max.message.bytes").await, (text("2000"), 4, max));
    // As Kafka tells it: the hours give the value, and are no synonym of the milliseconds.
    assert_eq!(one(&mut raw, (TOPIC, "t"), "retention.ms").await, (text("7200000"), 5, vec![]));
    assert_eq!(one(&mut raw, (BROKER, "1"), "log.retention.ms").await, (None, 5, vec![]));
    let hours = vec!["4:log.retention.hours=2".to_owned(), "5:log.retention.hours=168".into()];
    assert_eq!(one(&mut raw, (BROKER, "1"), "log.retention.hours").await, (text("2"), 4, hours));
    assert_eq!(describe(&mut raw, (BROKER, "")).await, (ErrorCode::None, vec![]));
    assert_eq!(describe(&mut raw, (BROKER, "7")).await.0, ErrorCode::InvalidRequest);
    assert_eq!(describe(&mut raw, (BROKER, "x")).await.0, ErrorCode::InvalidRequest);
    assert_eq!(describe(&mut raw, (TOPIC, "none")).await.0, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(describe(&mut raw, (TOPIC, "a b")).await.0, ErrorCode::InvalidTopicException);
    assert_eq!(describe(&mut raw, (METRICS, "")).await.0, ErrorCode::InvalidRequest);
    assert_eq!(describe(&mut raw, (GROUP, "")).await.0, ErrorCode::InvalidRequest);
    assert_eq!(describe(&mut raw, (99, "x")).await.0, ErrorCode::InvalidRequest);
    let interval = one(&mut raw, (METRICS, "any"), "interval.ms").await;
    assert_eq!(interval, (text("300000"), 5, vec![]));
    let session = one(&mut raw, (GROUP, "any"), "consumer.session.timeout.ms").await;
    assert_eq!(session, (text("45000"), 5, vec!["5:group.consumer.session.timeout.ms=45000".into()]));
    served.stop().await;
}

#[tokio::test]
async fn altered_topics() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let t = (TOPIC, "t");
    let ok = (ErrorCode::None, String::new());
    assert_eq!(append(&mut raw, "t", batch(50, None)).await.0, ErrorCode::None);
    assert_eq!(set(&mut raw, t, "max.message.bytes", "200").await, ok);
    assert_eq!(append(&mut raw, "t", batch(50, None)).await.0, ErrorCode::MessageTooLarge);
    assert_eq!(alter(&mut raw, t, &[("max.message.bytes", DELETE, None)], true).await, ok);
    assert_eq!(append(&mut raw, "t", batch(50, None)).await.0, ErrorCode::MessageTooLarge);
    assert_eq!(alter(&mut raw, t, &[("max.message.bytes", DELETE, None)], false).await, ok);
    assert_eq!(append(&mut raw, "t", batch(50, None)).await.0, ErrorCode::None);
    let throttled = "leader.replication.throttled.replicas";
    assert_eq!(alter(&mut raw, t, &[(throttled, APPEND, Some("0:1"))], false).await, ok);
    assert_eq!(alter(&mut raw, t, &[(throttled, APPEND, Some("1:1,0:1"))], false).await, ok);
    assert_eq!(one(&mut raw, t, throttled).await.0, text("0:1,1:1"));
    assert_eq!(alter(&mut raw, t, &[(throttled, SUBTRACT, Some("0:1"))], false).await, ok);
    assert_eq!(one(&mut raw, t, throttled).await.0, text("1:1"));
    let refused = alter(&mut raw, t, &[("retention.ms", APPEND, Some("1"))], false).await;
    let why = "Can't APPEND to key retention.ms because its type is not LIST.";
    assert_eq!(refused, (ErrorCode::InvalidConfig, why.into()));
    let refused = set(&mut raw, t, "retention.ms", "x").await;
    let why = "Invalid value x for configuration retention.ms: Not a number of type LONG";
    assert_eq!(refused, (ErrorCode::InvalidConfig, why.into()));
    let refused = alter(&mut raw, t, &[("retention.ms", SET, None)], false).await;
    assert_eq!(refused, (ErrorCode::InvalidRequest, "Null value not supported for : retention.ms".into()));
    let twice = [("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))];
    let refused = alter(&mut raw, t, &twice, false).await;
    assert_eq!(refused, (ErrorCode::InvalidRequest, "Error due to duplicate config keys".into()));
    assert_eq!(
        set(&mut raw, (TOPIC, "none"), "retention.ms", "1").await.0,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(set(&mut raw, (77, "t"), "retention.ms", "1").await.0, ErrorCode::InvalidRequest);
    // The older request replaces everything; one resource may be named once.
    let config = replace::AlterableConfig { name: "retention.ms".into(), value: text("5") };
    let resource = replace::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![config],
    };
    let request = AlterConfigsRequest { resources: vec![resource.clone()], validate_only: false };
    let response: AlterConfigsResponse = raw.call(2, &request).await;
    assert_eq!(code(response.responses[0].error_code), ErrorCode::None);
    assert_eq!(one(&mut raw, t, throttled).await.0, text(""));
    assert_eq!(one(&mut raw, t, "retention.ms").await.0, text("5"));
    let twice = AlterConfigsRequest { resources: vec![resource.clone(), resource], validate_only: false };
    let response: AlterConfigsResponse = raw.call(2, &twice).await;
    assert!(response.responses.iter().all(|one| code(one.error_code) == ErrorCode::InvalidRequest));
    served.stop().await;
}

#[tokio::test]
async fn brokers_change_while_they_run_and_remember() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let ok = (ErrorCode::None, String::new());
    assert_eq!(set(&mut raw, (BROKER, ""), "message.max.bytes", "200").await, ok);
    assert_eq!(append(&mut raw, "t", batch(50, None)).await.0, ErrorCode::MessageTooLarge);
    assert_eq!(set(&mut raw, (BROKER, "1"), "message.max.bytes", "20000").await, ok);
    assert_eq!(append(&mut raw, "t", batch(50, None)).await.0, ErrorCode::None);
    let levels = vec![
        "2:message.max.bytes=20000".to_owned(),
        "3:message.max.bytes=200".into(),
        "5:message.max.bytes=1048588".into(),
    ];
    assert_eq!(one(&mut raw, (BROKER, "1"), "message.max.bytes").await, (text("20000"), 2, levels.clone()));
    assert_eq!(one(&mut raw, (TOPIC, "t"), "max.message.bytes").await, (text("20000"), 2, levels));
    let all = vec!["3:message.max.bytes=200".to_owned()];
    assert_eq!(one(&mut raw, (BROKER, ""), "message.max.bytes").await, (text("200"), 3, all));
    let refused = set(&mut raw, (BROKER, "1"), "broker.id", "5").await;
    assert_eq!(
        refused,
        (ErrorCode::InvalidRequest, "Cannot update these configs dynamically: [broker.id]".into())
    );
    let refused = set(&mut raw, (BROKER, "9"), "message.max.bytes", "5").await;
    assert_eq!(
        refused,
        (ErrorCode::InvalidRequest, "Unexpected broker id, expected 1, but received 9".into())
    );
    let refused = set(&mut raw, (LOGGER, "1"), "kafka.server", "DEBUG").await;
    assert_eq!(refused, (ErrorCode::InvalidConfig, "Logger kafka.server does not exist!".into()));
    let store = served.store.clone();
    served.stop().await;
    let served = Served::with(options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert_eq!(one(&mut raw, (BROKER, "1"), "message.max.bytes").await.0, text("20000"));
    assert_eq!(alter(&mut raw, (BROKER, "1"), &[("message.max.bytes", DELETE, None)], false).await, ok);
    assert_eq!(append(&mut raw, "t", batch(50, None)).await.0, ErrorCode::MessageTooLarge);
    served.stop().await;
}

#[tokio::test]
async fn groups_and_subscriptions() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let ok = (ErrorCode::None, String::new());
    assert_eq!(set(&mut raw, (GROUP, "g"), "consumer.session.timeout.ms", "50000").await, ok);
    let refused = set(&mut raw, (GROUP, "g"), "consumer.session.timeout.ms", "100").await;
    let why =
        "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms";
    assert_eq!(refused, (ErrorCode::InvalidConfig, why.into()));
    let refused = set(&mut raw, (GROUP, "g"), "nope", "100").await;
    assert_eq!(refused, (ErrorCode::InvalidConfig, "Unknown group config name: nope".into()));
    assert_eq!(set(&mut raw, (METRICS, "s"), "metrics", "*").await, ok);
    let refused = set(&mut raw, (METRICS, "s"), "interval.ms", "99").await;
    let why = "Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)";
    assert_eq!(refused, (ErrorCode::InvalidRequest, why.into()));
    let refused = set(&mut raw, (METRICS, "s"), "match", "foo=b").await;
    assert_eq!(refused, (ErrorCode::InvalidConfig, "Illegal client matching pattern: foo=b".into()));
    let refused = set(&mut raw, (METRICS, ""), "metrics", "*").await;
    assert_eq!(refused, (ErrorCode::InvalidRequest, "Subscription name can't be empty".into()));
    let listed = async |raw: &mut Raw, version: i16, kinds: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: kinds.to_vec() };
        assert_eq!(ListConfigResourcesRequest::KEY, 74);
        let response: ListConfigResourcesResponse = raw.call(version, &request).await;
        let names =
            response.config_resources.iter().map(|r| format!("{}:{}", r.resource_type, r.resource_name));
        (code(response.error_code), names.collect::<Vec<_>>())
    };
    assert_eq!(listed(&mut raw, 1, &[METRICS, GROUP]).await.1, ["16:s", "32:g"]);
    let refused = listed(&mut raw, 1, &[5]).await.0;
    assert_eq!(refused, ErrorCode::UnsupportedVersion);
    assert_eq!(alter(&mut raw, (METRICS, "s"), &[("metrics", DELETE, None)], false).await, ok);
    assert_eq!(
        alter(&mut raw, (GROUP, "g"), &[("consumer.session.timeout.ms", DELETE, None)], false).await,
        ok
    );
    assert_eq!(listed(&mut raw, 1, &[METRICS, GROUP]).await.1, [""; 0]);
    assert_eq!(set(&mut raw, (METRICS, "again"), "metrics", "*").await, ok);
    assert_eq!(listed(&mut raw, 0, &[]).await.1, ["16:again"]);
    served.stop().await;
}

/// The first appends of a topic show its `preallocate` and `index.interval.bytes` on the disk.
#[tokio::test]
async fn space_set_aside_and_the_interval_of_indexes() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let configs = [("preallocate", "true"), ("segment.bytes", "2097152"), ("index.interval.bytes", "0")];
    assert_eq!(create(&mut raw, "t", &configs).await, ErrorCode::None);
    assert_eq!(create(&mut raw, "plain", &[]).await, ErrorCode::None);
    for _ in 0..5 {
        for topic in ["t", "plain"] {
            assert_eq!(append(&mut raw, topic, batch(1, None)).await.0, ErrorCode::None);
        }
    }
    let segment = |topic: &str, extension: &str| {
        std::fs::metadata(dir.path().join(format!("{topic}-0/{:020}.{extension}", 0)))
    };
    let (own, plain) = (segment("t", "log").unwrap(), segment("plain", "log").unwrap());
    assert_eq!(own.len(), plain.len());
    // A file system that sets nothing aside shows no difference.
    let held = own.blocks() * 512;
    assert!(held >= 2 << 20 || held == plain.blocks() * 512, "{held}");
    served.stop().await;
    // Every batch but the first has an entry, against none in four kilobytes.
    assert_eq!(segment("t", "index").unwrap().len(), 4 * 8);
    assert_eq!(segment("plain", "index").unwrap().len(), 0);
    assert!(segment("t", "log").unwrap().blocks() * 512 < 64 << 10);
}
