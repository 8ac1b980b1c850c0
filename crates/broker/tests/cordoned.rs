//! `cordoned.log.dirs` (KIP-1066): what Kafka's own CordonedLogDirsIntegrationTest asks of a broker with two directories.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::path::Path;

use common::{Raw, Served, code, create, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_wire::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::messages::*;

const BROKER: i8 = 4;

fn two(root: &Path, cordoned: Option<&str>) -> (broker::Options, [String; 2]) {
    let dirs = ["one", "two"].map(|name| root.join(name).to_string_lossy().into_owned());
    let mut options = options(root);
    options.properties.insert("log.dirs".into(), dirs.join(","));
    options.properties.extend(cordoned.map(|value| ("cordoned.log.dirs".to_owned(), value.to_owned())));
    (options, dirs)
}

async fn cordon(raw: &mut Raw, broker: &str, value: &str) -> (ErrorCode, String) {
    let config = AlterableConfig {
        name: "cordoned.log.dirs".into(),
        config_operation: 0,
        value: Some(value.to_owned()),
    };
    let resource =
        AlterConfigsResource { resource_type: BROKER, resource_name: broker.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response: IncrementalAlterConfigsResponse = raw.call(1, &request).await;
    let told = &response.responses[0];
    (code(told.error_code), told.error_message.clone().unwrap_or_default())
}

/// Which directories say that they are cordoned, and how many partitions each has.
async fn described(raw: &mut Raw) -> Vec<(String, bool, usize)> {
    let response: DescribeLogDirsResponse = raw.call(5, &DescribeLogDirsRequest { topics: None }).await;
    let count = |r: &describe_log_dirs_response::DescribeLogDirsResult| {
        r.topics.iter().map(|topic| topic.partitions.len()).sum()
    };
    response.results.iter().map(|r| (r.log_dir.clone(), r.is_cordoned, count(r))).collect()
}

async fn grow(raw: &mut Raw, name: &str, count: i32) -> ErrorCode {
    let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    let response: CreatePartitionsResponse = raw.call(3, &request).await;
    code(response.results[0].error_code)
}

#[tokio::test]
async fn nothing_new_goes_to_a_cordoned_directory() {
    let root = tempfile::tempdir().unwrap();
    let (options, [one, other]) = two(root.path(), None);
    let store = testkit::MemStore::shared();
    let served = Served::with(options.clone(), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "before", &[]).await, ErrorCode::None);
    assert!(described(&mut raw).await.iter().all(|(_, cordoned, _)| !cordoned));
    let fine = (ErrorCode::None, String::new());
    assert_eq!(cordon(&mut raw, "1", &other).await, fine);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(create(&mut raw, name, &[]).await, ErrorCode::None);
    }
    let mut found = described(&mut raw).await;
    found.sort();
    assert_eq!((found[0].1, found[1].1), (false, true));
    assert_eq!(found[0].2 + found[1].2, 5);
    assert!(found[1].2 <= 1, "at most the one from before: {found:?}");
    // Nothing moves there.
    let topic = AlterReplicaLogDirTopic { name: "a".into(), partitions: vec![0] };
    let dir = AlterReplicaLogDir { path: other.clone(), topics: vec![topic] };
    let request = AlterReplicaLogDirsRequest { dirs: vec![dir] };
    let response: AlterReplicaLogDirsResponse = raw.call(2, &request).await;
    assert_eq!(code(response.results[0].partitions[0].error_code), ErrorCode::InvalidReplicaAssignment);
    // With all of them cordoned nothing is made, also after a restart.
    assert_eq!(cordon(&mut raw, "1", &format!("{one},{other}")).await, fine);
    served.stop().await;
    let served = Served::with(options, store).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "e", &[]).await, ErrorCode::InvalidReplicationFactor);
    assert_eq!(grow(&mut raw, "a", 2).await, ErrorCode::InvalidReplicationFactor);
    // What is there is served.
    let (error, _) = common::append(&mut raw, "a", common::batch(1, None)).await;
    assert_eq!(error, ErrorCode::None);
    assert_eq!(cordon(&mut raw, "1", "").await, fine);
    assert_eq!(create(&mut raw, "e", &[]).await, ErrorCode::None);
    assert_eq!(grow(&mut raw, "a", 2).await, ErrorCode::None);
    served.stop().await;
}

#[tokio::test]
async fn what_may_be_cordoned() {
    let root = tempfile::tempdir().unwrap();
    let (options, [one, _]) = two(root.path(), Some("*"));
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    assert!(described(&mut raw).await.iter().all(|(_, cordoned, _)| *cordoned));
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::InvalidReplicationFactor);
    let refused = cordon(&mut raw, "1", &format!("*,{one}")).await;
    let text = "requirement failed: When cordoned.log.dirs is set to *, it must not contain other values";
    assert_eq!(refused, (ErrorCode::InvalidRequest, text.into()));
    let refused = cordon(&mut raw, "1", "/elsewhere").await;
    let text = "requirement failed: All entries in cordoned.log.dirs must be present in log.dirs or log.dir. \
                Missing entries : /elsewhere";
    assert_eq!(refused, (ErrorCode::InvalidRequest, text.into()));
    assert_eq!(cordon(&mut raw, "", &one).await.0, ErrorCode::InvalidRequest, "each broker has its own");
    assert_eq!(cordon(&mut raw, "1", &one).await.0, ErrorCode::None);
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::None);
    served.stop().await;

    let (options, _) = two(tempfile::tempdir().unwrap().path(), Some("/elsewhere"));
    let tasks = base::task::Tasks::new();
    let started = broker::Service::start(options, testkit::MemStore::shared(), &tasks).await;
    assert!(started.is_err_and(|error| error.to_string().contains("Missing entries : /elsewhere")));
}
