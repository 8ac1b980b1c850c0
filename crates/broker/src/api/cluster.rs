//! DescribeCluster and DescribeLogDirs.

use std::collections::BTreeSet;

use kafka_wire::ErrorCode;
use kafka_wire::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};

use super::Connection;
use super::metadata::CLUSTER_OPERATIONS;

/// Asks for brokers.
const BROKERS: i8 = 1;
/// Asks for controllers, which have no listener here.
const CONTROLLERS: i8 = 2;

/// Answers DescribeCluster (KIP-700, KIP-919).
pub(crate) fn describe(c: &Connection, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    if !matches!(request.endpoint_type, BROKERS | CONTROLLERS) {
        return DescribeClusterResponse {
            error_code: ErrorCode::UnsupportedEndpointType.code(),
            error_message: Some(format!("Unsupported endpoint type {}", request.endpoint_type)),
            ..Default::default()
        };
    }
    if request.endpoint_type == CONTROLLERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType.code(),
            error_message: Some("The request was sent to an endpoint of the wrong type.".to_owned()),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let (host, port) = c.endpoint();
    DescribeClusterResponse {
        cluster_id: c.broker.cluster_id.clone(),
        controller_id: c.broker.broker_id,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        brokers: vec![DescribeClusterBroker {
            broker_id: c.broker.broker_id,
            host,
            port,
            rack: None,
            is_fenced: false,
        }],
        ..Default::default()
    }
}

/// Answers DescribeLogDirs: the one directory and the sizes of partitions in it.
pub(crate) fn log_dirs(c: &Connection, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted: Option<BTreeSet<(String, i32)>> = request.topics.map(|topics| {
        let pairs = |t: kafka_wire::messages::describe_log_dirs_request::DescribableLogDirTopic| {
            t.partitions.into_iter().map(move |partition| (t.topic.clone(), partition)).collect::<Vec<_>>()
        };
        topics.into_iter().flat_map(pairs).collect()
    });
    let mut topics = Vec::new();
    for topic in c.broker.catalog.snapshot().by_name.values() {
        let asked =
            |index| wanted.as_ref().is_none_or(|wanted| wanted.contains(&(topic.name.to_string(), index)));
        let partitions: Vec<_> = topic
            .served()
            .filter(|partition| asked(partition.index))
            .map(|partition| DescribeLogDirsPartition {
                partition_index: partition.index,
                partition_size: partition.log().log().bytes() as i64,
                offset_lag: 0,
                is_future_key: false,
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic { name: topic.name.to_string(), partitions });
        }
    }
    let dir = &c.broker.catalog.root.dir;
    let (total_bytes, usable_bytes) = space(dir);
    let log_dir = dir.display().to_string();
    let result = DescribeLogDirsResult { log_dir, topics, total_bytes, usable_bytes, ..Default::default() };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}

/// Bytes of the file system under `dir`, in all and to be had; -1 where it does not say.
fn space(dir: &std::path::Path) -> (i64, i64) {
    let Ok(found) = nix::sys::statvfs::statvfs(dir) else { return (-1, -1) };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(found.fragment_size())).unwrap_or(i64::MAX);
    (bytes(found.blocks()), bytes(found.blocks_available()))
}
