//! Key by key, what the broker answers: each error code and edge has its request here.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod configs;
mod fetching;
mod groups;
mod network;
mod producing;
mod strangers;
mod telemetry;
mod topics;

use kafka_wire::ApiKey;
use kafka_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// Where requests of every key are sent.
const SOURCES: &[&str] = &[
    include_str!("../protocol.rs"),
    include_str!("../quotas.rs"),
    include_str!("../transactions.rs"),
    include_str!("../common/mod.rs"),
    include_str!("admin.rs"),
    include_str!("configs.rs"),
    include_str!("fetching.rs"),
    include_str!("groups.rs"),
    include_str!("network.rs"),
    include_str!("producing.rs"),
    include_str!("strangers.rs"),
    include_str!("telemetry.rs"),
    include_str!("topics.rs"),
];

#[tokio::test]
async fn every_key_that_is_announced_has_a_test() {
    let dir = tempfile::tempdir().unwrap();
    let served = common::Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let request =
        ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    let response: ApiVersionsResponse = raw.call(4, &request).await;
    assert!(response.api_keys.len() > 30);
    for announced in response.api_keys {
        let key = ApiKey::from_i16(announced.api_key).unwrap();
        let answer = format!("{}Response =", key.name());
        assert!(SOURCES.iter().any(|source| source.contains(&answer)), "no test reads a {}", key.name());
    }
    served.stop().await;
}
