//! Fetches of any size give what the files hold, whole batch by whole batch.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::path::Path;

use bytes::Bytes;
use common::{Raw, Served, append, create};
use kafka_wire::ErrorCode;
use kafka_wire::messages::FetchResponse;
use kafka_wire::record::Builder;

/// A batch of one record of so many bytes.
fn large(bytes: usize) -> Bytes {
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let mut builder = Builder::new();
    builder.append(now_ms, None, Some(&vec![b'v'; bytes]));
    builder.build().unwrap()
}

/// What the segments hold, in order.
fn content(dir: &Path) -> Vec<u8> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths.iter().flat_map(|path| std::fs::read(path).unwrap()).collect()
}

/// All that is fetched by so much, and the size of the largest answer. What is there of a batch that did not fit any more
/// is what the files hold, too.
async fn read(raw: &mut Raw, max_bytes: i32, expected: &[u8]) -> (Vec<u8>, usize) {
    let (mut all, mut offset, mut largest) = (Vec::new(), 0, 0);
    loop {
        let mut request = common::fetch("large", offset, 0, 0);
        request.max_bytes = max_bytes;
        request.topics[0].partitions[0].partition_max_bytes = max_bytes;
        let response: FetchResponse = raw.call(12, &request).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let records = partition.records.clone().unwrap_or_default();
        if records.is_empty() {
            assert_eq!(offset, partition.high_watermark);
            return (all, largest);
        }
        let mut rest = &records[..];
        while let Ok((batch, after)) = kafka_wire::record::Batch::split(rest) {
            assert_eq!(batch.base_offset(), offset);
            batch.verify().expect("its checksum");
            offset = batch.base_offset() + i64::from(batch.last_offset_delta()) + 1;
            rest = after;
        }
        largest = largest.max(records.len());
        all.extend_from_slice(&records[..records.len() - rest.len()]);
        assert!(expected[all.len()..].starts_with(rest), "a cut batch at {offset}");
    }
}

#[tokio::test]
async fn fetches_of_any_size_give_what_the_files_hold() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    let configs = [("segment.bytes", "1048576"), ("max.message.bytes", "900000")];
    assert_eq!(create(&mut raw, "large", &configs).await, ErrorCode::None);
    let sizes = [10, 70_000, 300, 1, 800_000, 33_000, 200_000, 5_000, 600_000, 20, 31_000, 32_700, 32_800];
    for (n, size) in sizes.iter().cycle().take(40).enumerate() {
        assert_eq!(append(&mut raw, "large", large(*size)).await, (ErrorCode::None, n as i64));
    }
    let expected = content(&dir.path().join("large-0"));
    for max_bytes in [1, 1000, 33_000, 100_000, 1 << 20, 50 << 20] {
        let (found, largest) = read(&mut raw, max_bytes, &expected).await;
        assert!(found == expected, "{} of {} bytes by {max_bytes}", found.len(), expected.len());
        // A batch larger than what was asked for still comes.
        assert!(largest <= (max_bytes as usize).max(801_000), "{largest}");
    }
    served.stop().await;
}
