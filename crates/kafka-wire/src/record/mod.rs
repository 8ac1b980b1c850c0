//! Record batches of magic 2, read and patched where they lie.
//!
//! ```text
//! 0  base offset i64       21 attributes i16            43 producer id i64
//! 8  length i32            23 last offset delta i32     51 producer epoch i16
//! 12 leader epoch i32      27 base timestamp i64        53 base sequence i32
//! 16 magic i8 = 2          35 max timestamp i64         57 count i32
//! 17 crc u32                                            61 records, one blob when compressed
//! ```
//!
//! `length` counts what follows it. The CRC-32C covers all from offset 21, so base offset and leader epoch are
//! patched without touching it. Attributes: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete
//! horizon. Source: `DefaultRecordBatch.java`, `DefaultRecord.java`; KIP-98, KIP-534.

mod builder;
mod compress;
mod reader;
mod recompress;
#[cfg(test)]
mod tests;
mod validate;

pub use builder::{Builder, Producer};
pub use compress::Compression;
pub use reader::{Header, Headers, Record, RecordReader};
pub use recompress::recompress;
pub use validate::{Fault, Faults, Rules, Summary};

use base::checksum::crc32c;

use crate::error::ErrorCode;

/// Size of a batch's header: where its records begin.
pub const HEADER_SIZE: usize = 61;
/// Size of base offset and length: what must be read to know a batch's size.
pub const LOG_OVERHEAD: usize = 12;
/// "No timestamp".
pub const NO_TIMESTAMP: i64 = -1;
/// "No producer".
pub const NO_PRODUCER_ID: i64 = -1;
/// "No sequence".
pub const NO_SEQUENCE: i32 = -1;

const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_DELTA_AT: usize = 23;
const BASE_TIME_AT: usize = 27;
const MAX_TIME_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// What is wrong with a batch; [`RecordError::code`] is what a producer is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than the header or the length say.
    #[error("the batch is cut short")]
    Truncated,
    /// A magic other than 2.
    #[error("magic {0} is not supported, only 2 is")]
    Magic(i8),
    /// The checksum does not match.
    #[error("the checksum is {actual:#010x}, the batch says {stored:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// A codec number that is not known.
    #[error("compression codec {0} is unknown")]
    Codec(i16),
    /// A body that does not decompress.
    #[error("the {0} body does not decompress")]
    Decompress(&'static str),
    /// A body that grows beyond the bound.
    #[error("the body decompresses to more than {0} bytes")]
    TooLarge(usize),
    /// A record that does not parse.
    #[error("record {0} is malformed")]
    Malformed(i32),
    /// A record whose length is a number that does not end: Kafka fails on it rather than calling the record invalid.
    #[error("the length of record {0} does not end")]
    Endless(i32),
    /// Counts, deltas, attributes that contradict each other or are not for clients.
    #[error("{0}")]
    Invalid(&'static str),
    /// Records that the topic's rules refuse.
    #[error("{} records are refused", .0.len())]
    Faults(Faults),
}

impl RecordError {
    /// The protocol's code, as `LogValidator` and `ProduceRequest.validateRecords` give it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Checksum { .. } => ErrorCode::CorruptMessage,
            Self::Decompress(_) | Self::Endless(_) => ErrorCode::UnknownServerError,
            Self::TooLarge(_) => ErrorCode::MessageTooLarge,
            Self::Codec(_) => ErrorCode::UnsupportedCompressionType,
            Self::Faults(faults) if faults.iter().any(|(_, fault)| fault.is_time()) => {
                ErrorCode::InvalidTimestamp
            }
            Self::Truncated | Self::Magic(_) | Self::Malformed(_) | Self::Invalid(_) | Self::Faults(_) => {
                ErrorCode::InvalidRecord
            }
        }
    }
}

/// The size of the batch whose first [`LOG_OVERHEAD`] bytes these are, None when they are fewer or make no sense.
#[must_use]
pub fn batch_size(start: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(start.get(LENGTH_AT..LOG_OVERHEAD)?.try_into().ok()?);
    let size = usize::try_from(length).ok()? + LOG_OVERHEAD;
    (size >= HEADER_SIZE).then_some(size)
}

/// A batch where it lies: exactly its bytes, at least a header, magic 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the start of `bytes` and what follows it.
    pub fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), RecordError> {
        if let Some(magic) = bytes.get(MAGIC_AT).map(|m| *m as i8).filter(|m| *m != 2) {
            return Err(RecordError::Magic(magic));
        }
        let size = batch_size(bytes).filter(|size| *size <= bytes.len()).ok_or(RecordError::Truncated)?;
        let (own, rest) = bytes.split_at(size);
        Ok((Self { bytes: own }, rest))
    }

    /// The only batch in `bytes`, as a produce request must have it.
    pub fn single(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (batch, rest) = Self::split(bytes)?;
        match rest.is_empty() {
            true => Ok(batch),
            false => Err(RecordError::Invalid("a produce request has exactly one batch per partition")),
        }
    }

    fn at<const N: usize>(&self, position: usize) -> [u8; N] {
        let raw = &self.bytes[position..position + N];
        raw.try_into().expect("the header is whole")
    }

    /// All bytes of the batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, compressed or not.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_SIZE..]
    }

    /// The offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.at(0))
    }

    /// The offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()))
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The epoch of the leader that appended it.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.at(EPOCH_AT))
    }

    /// The checksum that the header says.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.at(CRC_AT))
    }

    /// The attribute bits.
    #[must_use]
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.at(ATTRIBUTES_AT))
    }

    /// How the body is compressed.
    pub fn compression(&self) -> Result<Compression, RecordError> {
        Compression::from_attributes(self.attributes() & CODEC_MASK)
    }

    /// Whether timestamps are the broker's (else the producer's).
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    /// Whether it belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether it holds control records, such as a transaction's end.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// Whether the base timestamp is the time after which tombstones may go (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON != 0
    }

    /// Last offset minus base offset.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.at(LAST_DELTA_AT))
    }

    /// The timestamp that record deltas count from, milliseconds.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.at(BASE_TIME_AT))
    }

    /// The largest timestamp, milliseconds.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.at(MAX_TIME_AT))
    }

    /// The idempotent producer, -1 for none.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.at(PRODUCER_ID_AT))
    }

    /// The producer's epoch, -1 for none.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.at(PRODUCER_EPOCH_AT))
    }

    /// The sequence number of the first record, -1 for none.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.at(SEQUENCE_AT))
    }

    /// The sequence number of the last record; sequences wrap from 2^31-1 to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            NO_SEQUENCE => NO_SEQUENCE,
            base => base.wrapping_add(self.last_offset_delta()) & i32::MAX,
        }
    }

    /// How many records the header says there are.
    #[must_use]
    pub fn count(&self) -> i32 {
        i32::from_be_bytes(self.at(COUNT_AT))
    }

    /// Whether it comes from an idempotent producer.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > NO_PRODUCER_ID
    }

    /// Compares the checksum with the bytes.
    pub fn verify(&self) -> Result<(), RecordError> {
        let (stored, actual) = (self.crc(), crc32c(&self.bytes[ATTRIBUTES_AT..]));
        if stored == actual { Ok(()) } else { Err(RecordError::Checksum { stored, actual }) }
    }

    /// The records, read one after the other; a compressed body may grow to at most `limit` bytes.
    pub fn records(&self, limit: usize) -> Result<RecordReader<'a>, RecordError> {
        RecordReader::open(*self, limit)
    }
}

/// The batches in `bytes`, one after the other, until the end or the first error.
pub fn batches(bytes: &[u8]) -> impl Iterator<Item = Result<Batch<'_>, RecordError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = Batch::split(rest);
        rest = next.as_ref().map_or(&[][..], |(_, after)| *after);
        Some(next.map(|(batch, _)| batch))
    })
}

/// Gives a batch its place in the log. The checksum does not cover these fields.
///
/// # Panics
/// When `batch` is shorter than a header; pass the bytes of a [`Batch`].
pub fn patch_base(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes `now_ms` the time of all records of the batch (`message.timestamp.type=LogAppendTime`) and renews the checksum.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn patch_log_append_time(batch: &mut [u8], now_ms: i64) {
    batch[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME as u8;
    patch_max_timestamp(batch, now_ms);
}

/// Makes the times of the batch's records the producer's, corrects the largest, and renews the checksum.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn patch_create_time(batch: &mut [u8], max_ms: i64) {
    batch[ATTRIBUTES_AT + 1] &= !(LOG_APPEND_TIME as u8);
    patch_max_timestamp(batch, max_ms);
}

/// Corrects the header's largest timestamp and renews the checksum.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn patch_max_timestamp(batch: &mut [u8], max_ms: i64) {
    batch[MAX_TIME_AT..PRODUCER_ID_AT].copy_from_slice(&max_ms.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}
