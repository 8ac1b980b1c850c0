//! Where entries become durable and get their order: the seam behind which consensus will stand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use commitlog::wal::{WalFrame, WalMeta};
use commitlog::{Frame, Log, Offset};

use crate::backend::is_full;
use crate::stats::Stats;

base::id_type!(
    /// The number of an entry in the replicated log; the first is 1.
    pub struct LogIndex(i64);
);

/// Entries that will never be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Index of the first; the others follow without a gap.
    pub first: LogIndex,
    /// The term they were committed in.
    pub term: u64,
}

/// Why entries were not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// The disk is full; nothing was written. Works again when there is space.
    #[error("the disk is full")]
    NoSpace,
    /// The log failed; whether the entries survive is unknown, and nothing can be proposed any more.
    #[error("{0}")]
    Failed(String),
}

/// Makes entries durable on enough members, in one order for all.
pub trait Replicator: Send + 'static {
    /// Proposes entries and blocks until they are committed. Called by one thread.
    ///
    /// # Errors
    /// As [`ProposeError`] says.
    fn propose(&mut self, entries: &[Vec<u8>]) -> Result<Committed, ProposeError>;
}

/// Frames hold an encoded `mvcc::Entry`. Consensus will add kinds of its own.
pub(crate) const KIND_ENTRY: u8 = 1;
/// There are no elections with one member.
pub(crate) const TERM: u64 = 1;
pub(crate) const NODE: u64 = 1;
/// Writes are refused while the disk has less space than this: what redb may still have to write for entries that were
/// accepted already, and a segment of the log.
pub(crate) const SPACE_RESERVE_BYTES: u64 = 24 * 1024 * 1024;

/// The only member: committed is what its own log holds durably.
pub(crate) struct Single {
    log: Arc<Log<WalFrame>>,
    dir: PathBuf,
    buffer: Vec<u8>,
    stats: Arc<Stats>,
}

impl Single {
    pub(crate) fn new(log: Arc<Log<WalFrame>>, stats: Arc<Stats>) -> Self {
        let dir = log.dir().to_path_buf();
        Self { log, dir, buffer: Vec::new(), stats }
    }

    fn append(&mut self, entries: &[Vec<u8>]) -> Result<Offset, ProposeError> {
        let first = self.log.end();
        let mut index = first;
        self.buffer.clear();
        for entry in entries {
            let meta = WalMeta { kind: KIND_ENTRY, term: TERM, node: NODE, index };
            WalFrame::encode(&mut self.buffer, &meta, entry);
            index = index.next();
        }
        let frame =
            Frame { len: self.buffer.len(), first, last: Offset(index.get() - 1), max_timestamp_ms: -1 };
        let began = Instant::now();
        self.log.append(&self.buffer, &frame, false).map_err(|e| refusal(&e))?;
        self.stats.wrote(began, self.buffer.len());
        Ok(first)
    }

    /// Makes the append durable. When there was no space for it after all, takes it back.
    fn flush(&self) -> Result<(), ProposeError> {
        let began = Instant::now();
        let flushed = self.log.flush();
        self.stats.syncs.observe(began.elapsed());
        let Err(error) = flushed else { return Ok(()) };
        let refused = refusal(&error);
        match refused {
            ProposeError::NoSpace => {
                self.log.cut_unflushed().map_err(|e| ProposeError::Failed(e.to_string()))?
            }
            ProposeError::Failed(_) => {}
        }
        Err(refused)
    }
}

impl Replicator for Single {
    fn propose(&mut self, entries: &[Vec<u8>]) -> Result<Committed, ProposeError> {
        if is_short_of_space(&self.dir) {
            return Err(ProposeError::NoSpace);
        }
        let first = self.append(entries)?;
        self.flush()?;
        Ok(Committed { first: LogIndex(first.get()), term: TERM })
    }
}

fn refusal(error: &commitlog::Error) -> ProposeError {
    match error {
        commitlog::Error::Io { source, .. } if is_full(source) => ProposeError::NoSpace,
        other => ProposeError::Failed(other.to_string()),
    }
}

/// Whether the file system of `dir` has too little space for writes to be accepted.
pub(crate) fn is_short_of_space(dir: &Path) -> bool {
    space_left(dir).is_some_and(|left| left < SPACE_RESERVE_BYTES)
}

/// Bytes free to us on the file system of `dir`; None where that cannot be told (a simulated disk).
fn space_left(dir: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
