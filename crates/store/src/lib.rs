//! One member of the store: a write-ahead log, the applied state, watches and leases around the brain `mvcc`.
//!
//! ```text
//!  txn ─▶ validate, encode ─▶ bounded queue ─▶ [proposer thread] ── Replicator: log append + one fdatasync a batch
//!                                                   │ committed batches, in order
//!                                                   ▼
//!                                            [apply thread] ── mvcc::apply in one redb transaction, with the index
//!                                                   │
//!                          replies ◀── commit ──────┴──▶ watch hub ──▶ watchers
//!  range ─▶ redb read transaction (sees every committed transaction)
//!  lease timer (only while there are leases) ─▶ proposes what has expired
//! ```
//! A reply means that the entry is durable in the log. The state is committed without a sync, and durably about every
//! 100 ms while there are writes, under load twice a second, its pages and syncs by a thread of their own (see `backend`);
//! after a crash the log is replayed from the state's applied index. Segments of the log below the last *durable* applied
//! index are removed. Nothing runs and nothing is written while nobody writes.
//!
//! On disk, under `Options::dir`: `FORMAT` (version, refused when newer), `MEMBER` (cluster and member id), `state.redb`,
//! `values/<8 hex digits>` (values apart from the tree, see `values`),
//! `wal/<20 digits>.wal`, `wal/DURABLE` (how far the log was durable: damage below is told, not cut as a torn end).
//!
//! The [`Replicator`] is where consensus will stand; the one here is for a single member.

mod alarm;
mod applier;
pub mod auth;
mod backend;
mod compactor;
mod db;
pub mod door;
mod doubt;
pub mod external;
mod format;
mod handle;
mod hash;
mod health;
mod identity;
mod leases;
mod line;
mod proposer;
mod quota;
pub mod raft;
mod replicator;
mod service;
pub mod snapshot;
mod stats;
mod status;
mod values;

use std::path::PathBuf;
use std::sync::Arc;

use base::clock::{SharedClock, SystemClock};
use base::disk::{Disk, RealDisk};
use base::random::Random;

pub use compactor::Retention;
pub use handle::Handle;
pub use replicator::{Committed, LogIndex, ProposeError, Replicator};
pub use service::Service;
pub use status::{Header, MemberStatus};

/// redb's page cache unless told otherwise. Its own default is 1 GiB.
pub const DEFAULT_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// etcd's `--quota-backend-bytes` default: 2 GiB.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// How a member is set up.
#[derive(Clone)]
pub struct Options {
    /// Where the member's files are; made when absent.
    pub dir: PathBuf,
    /// Page cache of the state, bytes.
    pub cache_bytes: usize,
    /// Bytes of the state at which additions are refused until somebody ends the alarm; None without a bound.
    pub quota_bytes: Option<u64>,
    /// Bytes of a file of values from which on the next one is begun (see `values`).
    pub value_segment_bytes: u64,
    /// What leases run on.
    pub clock: SharedClock,
    /// What the files are on.
    pub disk: Arc<dyn Disk>,
    /// What ids are drawn from.
    pub random: Random,
    /// Passwords and tokens.
    pub auth: auth::Options,
}

impl Options {
    /// A member in `dir` on the machine's clock and file system.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: DEFAULT_CACHE_BYTES,
            quota_bytes: Some(DEFAULT_QUOTA_BYTES),
            value_segment_bytes: values::SEGMENT_BYTES,
            clock: SystemClock::shared(),
            disk: RealDisk::shared(),
            random: Random::from_entropy(),
            auth: auth::Options::default(),
        }
    }
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A newer program wrote the directory: use that one.
    #[error(
        "{dir}: store format {found} is newer than format {known}, the newest this program knows; use a newer ketch"
    )]
    NewerFormat { dir: PathBuf, found: u32, known: u32 },
    /// The directory is a cluster member's: start it as one.
    #[error("{dir}: this is the store of a member of a cluster; start it with `ketch server`")]
    Member { dir: PathBuf },
    /// What is there is not what was written: restore from a snapshot.
    #[error("{path}: {what}")]
    Corrupt { path: PathBuf, what: String },
    /// The options for tokens cannot be used: change them.
    #[error("{0}")]
    Auth(String),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The disk or the system refused.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// A small file that is not what was written.
    pub(crate) fn damaged(path: &std::path::Path, content: &[u8]) -> Self {
        let text = format!(
            "damaged: '{}'. Nothing was changed. Where other members run, remove this member and let it join anew with \
             an empty directory; else restore a snapshot into another directory",
            content.escape_ascii()
        );
        Self::corrupt(path, text)
    }

    pub(crate) fn corrupt(path: &std::path::Path, what: impl std::fmt::Display) -> Self {
        Self::Corrupt { path: path.to_path_buf(), what: what.to_string() }
    }
}
