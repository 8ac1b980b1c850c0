//! What a log must know of the frames it holds.

use crate::Offset;

/// One frame, as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the whole frame, header included.
    pub len: usize,
    /// First offset in the frame.
    pub first: Offset,
    /// Last offset in the frame, at least `first`.
    pub last: Offset,
    /// Largest timestamp in the frame, milliseconds since 1970; -1 when frames carry none.
    pub max_timestamp_ms: i64,
}

/// What stands at a position of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The header of a frame.
    Frame(Frame),
    /// Nothing was ever written here (zero fill): the log ends.
    End,
    /// Bytes that are no header: a torn write or corruption.
    Torn,
}

/// A format of frames.
pub trait Framing: Send + Sync + 'static {
    /// Extension of the segments' files, without the dot.
    const EXTENSION: &'static str;
    /// Bytes [`Framing::parse`] needs.
    const HEADER_BYTES: usize;
    /// Whether segments have Kafka's `.index` and `.timeindex` beside them (else a read of a sealed segment scans).
    const INDEXED: bool;
    /// Whether a mark beside the segments says how far the log was certainly durable, so that damage below it is an error
    /// and not cut as a torn end. Only where offsets follow each other without a gap.
    const MARKED: bool = false;
    /// Whether a segment's file is written over what an earlier segment left in it (see `log::reuse`): frames of
    /// lower offsets, and parts of them, end the log as zeros do.
    const REUSED: bool = false;

    /// Reads a header. `header` holds at least [`Framing::HEADER_BYTES`]; a length smaller than the header is `Torn`.
    fn parse(header: &[u8]) -> Parsed;
    /// Whether a whole frame's checksum is right.
    fn verify(frame: &[u8]) -> bool;
}
