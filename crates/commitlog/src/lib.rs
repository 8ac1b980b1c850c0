//! Segmented logs and the one thread that makes them durable.
//!
//! ```text
//!   writer ──append──▶ Log<F> ──pwrite──▶ 00000000000000000000.log (page cache)
//!      │                 ▲
//!      └─request(log)─▶ Flusher (one thread): takes all requests that wait, one fdatasync a file,
//!                        then calls every `done`; requests that come meanwhile share the next round
//!   reader ──read────▶ Log<F> ──pread──▶ whole frames
//! ```
//!
//! A [`Log`] is generic over a [`Framing`], which says how long the frame at a position is, which offsets it
//! holds and whether its checksum is right. [`kafka::KafkaBatch`] frames the broker's partitions (files are byte for
//! byte Kafka's), [`wal::WalFrame`] the store's write-ahead log. Offsets only grow along a log and a frame is never split over two segments.
//!
//! Deliberately absent: topics, consensus, tokio. Everything here blocks; `append` and `read` are short (page cache),
//! `flush` is not and belongs on the flusher's thread.

pub mod flusher;
pub mod framing;
pub mod index;
pub mod kafka;
mod log;
mod scan;
pub mod wal;

use std::io;
use std::path::PathBuf;

pub use flusher::{Flush, FlushError, Flusher};
pub use framing::{Frame, Framing, Parsed};
pub use log::{ActiveSegment, Appended, Chunk, Found, Log, LogOptions, OpenFrom, Recovery, Slice};

base::id_type!(
    /// The number of an entry in a log: Kafka's offset, the write-ahead log's index.
    pub struct Offset(i64);
);

/// Why a log refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The offset is below the log's start or above its end: ask for another.
    #[error("offset {offset} is outside of {start}..={end}")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },
    /// The caller broke the contract of `append`: offsets must grow, and a frame must fit a segment.
    #[error("refused append: {0}")]
    Refused(String),
    /// A flush failed earlier, so what the disk holds is unknown: reopen the log.
    #[error("the log is fenced after a failed flush")]
    Fenced,
    /// Bytes that were written as whole frames are not frames any more.
    #[error("corrupt frame in {path} at byte {position}")]
    Corrupt { path: PathBuf, position: u64 },
    /// Frames that were durable cannot be read any more, found at opening. Nothing was changed.
    #[error(
        "{path} is damaged at byte {position}: entry {first} is not there, but entries below {durable} were durable"
    )]
    Damaged { path: PathBuf, position: u64, first: Offset, durable: Offset },
    /// The disk refused; appends may work again when there is space.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }
}

/// What log calls return.
pub type Result<T> = std::result::Result<T, Error>;
