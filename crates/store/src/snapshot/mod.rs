//! Snapshots in etcd's own form: a bbolt file with etcd's buckets, and its SHA-256 behind it.
//!
//! ```text
//! redb view ─▶ write: an unlinked file in the store's directory ─▶ streamed (door/maintenance.rs) ─▶ <file> | SHA-256
//! <file> of etcd or Ketch ─▶ restore: a directory beside the new store ─▶ renamed to its name
//!
//! bucket     key                                       value
//! key        main revision 8 '_' sub 8 ['t': deleted]  mvccpb.KeyValue, in the order it happened
//! lease      id 8                                      leasepb.Lease
//! meta       consistent_index, term                    8 bytes each
//!            confState, storageVersion                 JSON, "3.6.0"
//!            scheduledCompactRev, finishedCompactRev   a revision as in `key`, once compacted
//! members    id, 16 hex digits                         JSON
//! cluster    clusterVersion, downgrade                 "3.6.0", JSON
//! auth, authUsers, authRoles, alarm                    see `side`
//! ```
//! Numbers in keys and of `meta` are big-endian. The view is read once, front to back, so a slow receiver holds a file
//! and not the state's old pages.

mod fetch;
mod handle;
mod objects;
mod restore;
mod revive;
mod schedule;
mod side;
mod sorted;
mod status;
mod write;

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use store_api::Revision;

pub use fetch::{Saved, save};
pub use objects::Objects;
pub use restore::{RestoreOptions, Restored, restore};
pub use revive::revive;
pub use schedule::{Schedule, Target};
pub use status::{SnapshotStatus, status};
pub(crate) use write::{About, write};

/// What etcd 3.6 writes as the version of its storage.
pub const STORAGE_VERSION: &str = "3.6.0";
/// Bytes of the SHA-256 behind a snapshot.
pub const HASH_BYTES: u64 = 32;
/// bbolt files are whole sectors: what is left over tells that there is a hash.
const SECTOR_BYTES: u64 = 512;

const KEY: &[u8] = b"key";
const META: &[u8] = b"meta";
const LEASE: &[u8] = b"lease";
const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";
const STORAGE_VERSION_KEY: &[u8] = b"storageVersion";
const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
const TOMBSTONE: u8 = b't';

/// Why a snapshot was not made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what it should be, or not readable.
    #[error(transparent)]
    File(#[from] bolt::Error),
    /// The store's state failed.
    #[error(transparent)]
    State(#[from] mvcc::StateError),
    /// The new store cannot be made.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// The disk refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// What was asked does not fit what is there; the text says what to do.
    #[error("{0}")]
    Refused(String),
}

impl From<SnapshotError> for store_api::Error {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::State(error) => error.into(),
            SnapshotError::Io(error) if crate::backend::is_full(&error) => Self::NoSpace,
            SnapshotError::File(bolt::Error::Io(error)) if crate::backend::is_full(&error) => Self::NoSpace,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// The view of a state that is being made is closed by nobody; another refusal is the disk's.
fn mvcc_error(error: store_api::Error) -> SnapshotError {
    SnapshotError::State(mvcc::StateError::Io(error.to_string()))
}

/// A finished snapshot, in a file without a name.
#[derive(Debug)]
pub struct Snapshot {
    /// Stands at its beginning.
    pub file: File,
    /// Bytes of the file; its hash is not among them.
    pub bytes: u64,
}

/// leasepb.Lease, which is not part of etcd's API.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

/// A key of the bucket `key`: when a version was made, or a key deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    revision: Revision,
    sub: u32,
    deleted: bool,
}

impl Place {
    fn of(revision: Revision) -> Self {
        Self { revision, sub: 0, deleted: false }
    }

    fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(18);
        out.extend_from_slice(&self.revision.get().to_be_bytes());
        out.push(b'_');
        out.extend_from_slice(&u64::from(self.sub).to_be_bytes());
        if self.deleted {
            out.push(TOMBSTONE);
        }
        out
    }

    fn decode(raw: &[u8]) -> Option<Self> {
        let (revision, rest) = raw.split_first_chunk::<8>()?;
        let (sub, rest) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        let deleted = match rest {
            [] => false,
            [TOMBSTONE] => true,
            _ => return None,
        };
        let sub = u32::try_from(u64::from_be_bytes(*sub)).ok()?;
        let revision = Revision(i64::from_be_bytes(*revision));
        (revision.get() >= 0).then_some(Self { revision, sub, deleted })
    }
}

/// A file that has no name any more: gone when it is closed, however the process ends.
fn scratch(dir: &Path) -> std::io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("snapshot-{}-{number}.tmp", std::process::id()));
    // One of this name can only be a leftover of a process that is gone.
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
