//! Saving a snapshot of a running cluster, Ketch's or etcd's, over its etcd port.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::maintenance_client::MaintenanceClient;

use super::{HASH_BYTES, SECTOR_BYTES, SnapshotError};
use crate::external::Pool;

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of the file, its hash among them.
    pub bytes: u64,
    /// Version of the server's storage; empty from a server before 3.6.
    pub version: String,
}

/// Streams a snapshot into a file, which appears whole and durable or not at all. `progress` is told the bytes that are
/// there and those to come.
///
/// # Errors
/// When the server or the disk refuses, or the stream ends early.
pub async fn save(
    pool: &Pool,
    path: &Path,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Saved, SnapshotError> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let named = |error: std::io::Error| SnapshotError::Refused(format!("{}: {error}", part.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(named)?;
    let saved = stream(pool, &mut file, progress).await;
    let kept = saved.and_then(|saved| {
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        Ok(saved)
    });
    if kept.is_err() {
        // Half a snapshot is of no use; that it may stay changes nothing about the error.
        let _ = std::fs::remove_file(&part);
    }
    kept
}

async fn stream(
    pool: &Pool,
    file: &mut std::fs::File,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Saved, SnapshotError> {
    let refused = |status: tonic::Status| {
        let text = if status.message().is_empty() { status.to_string() } else { status.message().to_owned() };
        SnapshotError::Refused(text)
    };
    let (_, channel) = pool.channel();
    let mut client = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut pieces = client.snapshot(pb::SnapshotRequest {}).await.map_err(refused)?.into_inner();
    let mut saved = Saved { bytes: 0, version: String::new() };
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        // Small pieces into the page cache: not worth a thread of its own.
        file.write_all(&piece.blob)?;
        saved.bytes += piece.blob.len() as u64;
        saved.version = piece.version;
        progress(saved.bytes, piece.remaining_bytes);
    }
    if saved.bytes % SECTOR_BYTES != HASH_BYTES {
        let text = format!("sha256 checksum not found [bytes: {}]", saved.bytes);
        return Err(SnapshotError::Refused(text));
    }
    Ok(saved)
}
