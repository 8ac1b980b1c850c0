//! The Kafka door: connections, partitions, topics, groups, transactions.
//!
//! ```text
//! door ──accept──▶ connection (one task each)
//!                    reader: frame ─▶ api::dispatch ─▶ Reply ─▶ bounded queue ─▶ writer: resolves in order, writes
//!                       produce appends here            └ Later: a fetch that waits, a flush under way, a parked join
//! catalog ◀─watch── store (topics)          flusher thread: fdatasync rounds ──▶ high watermarks ──▶ waiters
//! upkeep: checkpoints, writeback, retention, compaction; all of it sleeps while nothing happens
//! ```
//!
//! Deliberately absent: a second consensus (topics are keys in the store), background polling.

mod api;
mod catalog;
mod config;
mod coordinator;
mod door;
mod entries;
pub mod exchange;
mod features;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod keystore;
mod listeners;
mod log_dir;
mod markers;
mod memory;
mod metrics;
mod names;
mod otlp;
mod partition;
mod place;
mod quotas;
mod resources;
mod root;
mod service;
mod slices;
mod stream;
mod telemetry;
mod transactions;
mod upkeep;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base::clock::{SharedClock, SystemClock};
use base::disk::{Disk, RealDisk};

pub use metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub use service::{Handle, Service};

/// What `acks=all` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// fdatasync, by group commit: what was acknowledged survives a power cut.
    #[default]
    Fsync,
    /// The page cache: what was acknowledged survives the end of the process.
    PageCache,
}

/// How a broker is set up.
#[derive(Clone)]
pub struct Options {
    /// Addresses to listen on; port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Host and port told to clients that came in by the listener with the same index, where it differs from the
    /// address they dialled (a published port). Shorter than `listen` is fine.
    pub advertised: Vec<Option<(String, u16)>>,
    /// Where logs are kept, unless the properties `log.dirs` or `log.dir` name directories: Kafka's own layout.
    pub dir: PathBuf,
    pub durability: Durability,
    pub broker_id: i32,
    /// The cluster's id for a fresh directory; None makes one.
    pub cluster_id: Option<String>,
    /// Kafka's own configuration keys (`auto.create.topics.enable`, `num.partitions`, `log.retention.hours`, ...).
    pub properties: BTreeMap<String, String>,
    pub clock: SharedClock,
    pub disk: Arc<dyn Disk>,
}

impl Options {
    /// Broker 1 with Kafka's defaults, durable by fsync.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, listen: Vec<SocketAddr>) -> Self {
        Self {
            listen,
            advertised: Vec::new(),
            dir: dir.into(),
            durability: Durability::Fsync,
            broker_id: 1,
            cluster_id: None,
            properties: BTreeMap::new(),
            clock: SystemClock::shared(),
            disk: RealDisk::shared(),
        }
    }
}

/// Why a broker did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is wrong: change it.
    #[error("{0}")]
    Config(String),
    /// Another process uses the directory.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The directory belongs to another broker or cluster.
    #[error("{0}")]
    WrongOwner(String),
    /// No log directory works: mend or replace the disks and start again.
    #[error("all log directories have failed: {0}")]
    NoLogDirs(String),
    /// The disk or the network refused.
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Log(#[from] commitlog::Error),
    #[error(transparent)]
    Store(#[from] store_api::Error),
}

impl Error {
    fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Io { what, source }
    }
}
