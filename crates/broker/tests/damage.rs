//! Files that somebody removes or cuts under a running broker. Damage in old segments is told to who reads it (see
//! `upkeep.rs`); a partition whose last segment is not what was written is offline; the rest is served.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Raw, Served, append, batch, code, create};
use kafka_wire::ErrorCode;
use kafka_wire::messages::*;

const PATIENCE: Duration = Duration::from_secs(30);

async fn fetched(raw: &mut Raw, topic: &str, offset: i64) -> (ErrorCode, usize) {
    let response: FetchResponse = raw.call(12, &common::fetch(topic, offset, 0, 0)).await;
    let partition = &response.responses[0].partitions[0];
    (code(partition.error_code), partition.records.as_ref().map_or(0, |records| records.len()))
}

async fn leader(raw: &mut Raw, topic: &str) -> i32 {
    let wanted = metadata_request::MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![wanted]), ..Default::default() };
    let response: MetadataResponse = raw.call(9, &request).await;
    response.topics[0].partitions[0].leader_id
}

async fn goes_offline(raw: &mut Raw, topic: &str) {
    let told = async {
        while leader(raw, topic).await != -1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the partition goes offline");
}

/// A broker with two topics of several segments each.
async fn served(dir: &Path) -> (Served, Raw) {
    let served = Served::start(dir).await;
    let mut raw = served.raw().await;
    for topic in ["bad", "good"] {
        assert_eq!(create(&mut raw, topic, &[("internal.segment.bytes", "300")]).await, ErrorCode::None);
        for n in 0..6 {
            assert_eq!(append(&mut raw, topic, batch(10, None)).await, (ErrorCode::None, 10 * n));
        }
    }
    (served, raw)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir.join("bad-0")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    assert!(logs.len() > 3, "{logs:?}");
    logs
}

fn cut(path: &Path, to: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(to).unwrap();
}

/// Spoils a file, does something that meets it, and looks that only this partition is offline, also after a restart or
/// served again with what is left.
async fn check(spoil: impl FnOnce(&Path), meet: impl AsyncFnOnce(&mut Raw) -> ErrorCode) {
    let dir = tempfile::tempdir().unwrap();
    let (served, mut raw) = served(dir.path()).await;
    spoil(dir.path());
    assert_eq!(meet(&mut raw).await, ErrorCode::KafkaStorageError);
    goes_offline(&mut raw, "bad").await;
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    assert_eq!(append(&mut raw, "good", batch(1, None)).await, (ErrorCode::None, 60));
    assert!(fetched(&mut raw, "good", 0).await.1 > 0);
    assert_eq!(served.tasks.failure(), None);
    let store = served.store.clone();
    served.stop().await;
    let served = Served::with(common::options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "good", batch(1, None)).await, (ErrorCode::None, 61));
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await.0, ErrorCode::None, "what is left is served");
    served.stop().await;
}

#[tokio::test]
async fn the_segment_that_is_written_was_removed() {
    let spoil = |dir: &Path| std::fs::remove_file(segments(dir).last().unwrap()).unwrap();
    check(spoil, async |raw| append(raw, "bad", batch(1, None)).await.0).await;
}

#[tokio::test]
async fn the_segment_that_is_written_was_cut() {
    let spoil = |dir: &Path| cut(segments(dir).last().unwrap(), 20);
    check(spoil, async |raw| append(raw, "bad", batch(1, None)).await.0).await;
}

#[tokio::test]
async fn a_directory_that_was_removed() {
    let spoil = |dir: &Path| std::fs::remove_dir_all(dir.join("bad-0")).unwrap();
    check(spoil, async |raw| append(raw, "bad", batch(1, None)).await.0).await;
}

#[tokio::test]
async fn indexes_that_were_removed_or_cut_are_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (served, mut raw) = served(dir.path()).await;
    for (n, log) in segments(dir.path()).into_iter().enumerate() {
        for extension in ["index", "timeindex"] {
            let path = log.with_extension(extension);
            match path.exists() {
                true if n % 2 == 0 => std::fs::remove_file(path).unwrap(),
                true => cut(&path, 1),
                false => {}
            }
        }
    }
    for offset in 0..60 {
        assert_eq!(fetched(&mut raw, "bad", offset).await.0, ErrorCode::None, "{offset}");
        let partition =
            list_offsets_request::ListOffsetsPartition { timestamp: offset, ..Default::default() };
        let topic =
            list_offsets_request::ListOffsetsTopic { name: "bad".into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let response: ListOffsetsResponse = raw.call(7, &request).await;
        assert_eq!(response.topics[0].partitions[0].offset, 0);
    }
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await, (ErrorCode::None, 60));
    let store = served.store.clone();
    served.stop().await;
    let served = Served::with(common::options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await, (ErrorCode::None, 61));
    assert!(fetched(&mut raw, "bad", 33).await.1 > 0);
    served.stop().await;
}
