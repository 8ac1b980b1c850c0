//! DescribeLogDirs and AlterReplicaLogDirs: which directory holds what, and moving partitions between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kafka_wire::ErrorCode;
use kafka_wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};

use super::{Broker, Connection, find};
use crate::catalog::Catalog;
use crate::log_dir::LogDir;
use crate::partition::Partition;

/// Answers DescribeLogDirs: every directory with the logs in it, or that it has failed.
pub(crate) fn describe(c: &Connection, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let pairs = |t: DescribableLogDirTopic| {
        t.partitions.into_iter().map(move |partition| (t.topic.clone(), partition)).collect::<Vec<_>>()
    };
    let wanted: Option<BTreeSet<(String, i32)>> =
        request.topics.map(|topics| topics.into_iter().flat_map(pairs).collect());
    let snapshot = c.broker.catalog.snapshot();
    // Those that sleep are opened: their sizes are asked for.
    let served = snapshot.by_name.values().flat_map(|topic| topic.served());
    let asked: Vec<_> = served
        .filter(|p| wanted.as_ref().is_none_or(|wanted| wanted.contains(&(p.topic.to_string(), p.index))))
        .collect();
    let results = c.broker.catalog.root.dirs.iter().map(|dir| describe_dir(dir, &asked));
    DescribeLogDirsResponse { results: results.collect(), ..Default::default() }
}

fn describe_dir(dir: &Arc<LogDir>, asked: &[&Arc<Partition>]) -> DescribeLogDirsResult {
    let log_dir = dir.path.display().to_string();
    if !dir.is_online() {
        let error_code = ErrorCode::KafkaStorageError.code();
        return DescribeLogDirsResult { error_code, log_dir, ..Default::default() };
    }
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in asked {
        let (home, future) = (partition.home(), partition.future());
        if let Some(future) = future.filter(|future| Arc::ptr_eq(&future.dir, dir)) {
            topics.entry(partition.topic.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: partition.index,
                partition_size: future.log.log().bytes() as i64,
                offset_lag: home.log.log().end().get() - future.log.log().end().get(),
                is_future_key: true,
            });
        }
        if Arc::ptr_eq(&home.dir, dir) {
            topics.entry(partition.topic.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: partition.index,
                partition_size: home.log.log().bytes() as i64,
                offset_lag: (partition.high_watermark().get() - home.log.log().end().get()).max(0),
                is_future_key: false,
            });
        }
    }
    let topic =
        |(name, partitions): (Arc<str>, _)| DescribeLogDirsTopic { name: name.to_string(), partitions };
    let (total_bytes, usable_bytes) = dir.space();
    let topics = topics.into_iter().map(topic).collect();
    let is_cordoned = dir.is_cordoned();
    DescribeLogDirsResult { log_dir, topics, total_bytes, usable_bytes, is_cordoned, ..Default::default() }
}

/// Answers AlterReplicaLogDirs.
pub(crate) fn alter(c: &Connection, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let mut results = Vec::new();
    for dir in request.dirs {
        for topic in dir.topics {
            let partitions = topic.partitions.into_iter().map(|partition_index| {
                let done = alter_one(&c.broker, Path::new(&dir.path), &topic.name, partition_index);
                let error_code = done.err().map_or(0, ErrorCode::code);
                AlterReplicaLogDirPartitionResult { partition_index, error_code }
            });
            let partitions = partitions.collect();
            results.push(AlterReplicaLogDirTopicResult { topic_name: topic.name, partitions });
        }
    }
    AlterReplicaLogDirsResponse { results, ..Default::default() }
}

/// In the order of Kafka's checks.
fn alter_one(broker: &Broker, to: &Path, topic: &str, index: i32) -> Result<(), ErrorCode> {
    let catalog = &broker.catalog;
    Catalog::future_name(topic, index)?;
    let dir = catalog.root.dir(to).ok_or(ErrorCode::LogDirNotFound)?;
    if !dir.is_online() {
        return Err(ErrorCode::KafkaStorageError);
    }
    if dir.is_cordoned() {
        return Err(ErrorCode::InvalidReplicaAssignment);
    }
    let found = catalog.topic(topic);
    let partition = find(found.as_ref(), index, ErrorCode::UnknownTopicOrPartition).inspect_err(|code| {
        if *code == ErrorCode::UnknownTopicOrPartition {
            catalog.root.prefer(topic, index, to);
        }
    })?;
    let topic = found.expect("its partition was found");
    catalog.move_to(&topic, &partition, dir)
}
