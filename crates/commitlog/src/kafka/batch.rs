//! Record batches of magic 2 as frames (DefaultRecordBatch.java).
//!
//! ```text
//!  0 base offset i64 | 8 length i32 (bytes after this field) | 12 leader epoch i32 | 16 magic i8 = 2
//! 17 CRC-32C u32 of everything from 21 on | 21 attributes i16 | 23 last offset delta i32
//! 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16
//! 53 base sequence i32 | 57 record count i32 | 61 records
//! ```

use crate::{Frame, Framing, Offset, Parsed};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of a batch that its length field does not count.
const LENGTH_OVERHEAD: usize = 12;
pub(super) const CRC_FROM: usize = 21;

/// The framing of the broker's partitions.
#[derive(Debug, Clone, Copy)]
pub struct KafkaBatch;

/// A batch's header, read without touching the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub len: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

impl BatchHeader {
    /// The header at the start of `bytes`; None when it is short, of another magic, or of impossible lengths.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..BATCH_HEADER_BYTES)?;
        let length = i32_at(header, 8);
        let len = usize::try_from(length).ok()? + LENGTH_OVERHEAD;
        let parsed = Self {
            base_offset: Offset(i64_at(header, 0)),
            len,
            leader_epoch: i32_at(header, 12),
            crc: i32_at(header, 17) as u32,
            attributes: i16_at(header, 21),
            last_offset_delta: i32_at(header, 23),
            base_timestamp_ms: i64_at(header, 27),
            max_timestamp_ms: i64_at(header, 35),
            producer_id: i64_at(header, 43),
            producer_epoch: i16_at(header, 51),
            base_sequence: i32_at(header, 53),
            count: i32_at(header, 57),
        };
        // The two offsets after the last are numbers too: no caller needs to think of the largest.
        let next = parsed.base_offset.get().checked_add(i64::from(parsed.last_offset_delta) + 2);
        let lengths = len >= BATCH_HEADER_BYTES && parsed.last_offset_delta >= 0;
        let sound = header[16] == 2 && lengths && next.is_some();
        (sound && parsed.base_offset.get() >= 0).then_some(parsed)
    }

    /// The batch's last offset.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.get().saturating_add(i64::from(self.last_offset_delta)))
    }
    /// Compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    #[must_use]
    pub fn codec(&self) -> i16 {
        self.attributes & 7
    }
    /// Whether the timestamps are the broker's.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 8 != 0
    }
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & 16 != 0
    }
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & 32 != 0
    }
    /// Whether the base timestamp is the time from which on tombstones and markers may go (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & 64 != 0
    }
    /// Whether an idempotent or transactional producer wrote it.
    #[must_use]
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
    /// Sequence of the last record; sequences wrap from 2^31-1 to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            -1
        } else {
            self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
        }
    }
    /// The same as a frame.
    #[must_use]
    pub fn frame(&self) -> Frame {
        Frame {
            len: self.len,
            first: self.base_offset,
            last: self.last_offset(),
            max_timestamp_ms: self.max_timestamp_ms,
        }
    }
}

/// What a control batch of the transaction coordinator says (EndTransactionMarker.java).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Committed, else aborted.
    pub commit: bool,
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// The marker in a whole control batch; None when it is another control record (a leader change, a snapshot's head)
    /// or no sound one.
    #[must_use]
    pub fn parse(batch: &[u8]) -> Option<Self> {
        // A marker is two short numbers a key and two a value: it is never worth more than this.
        const RECORD_BYTES_MAX: usize = 1024;
        let (batch, _) = kafka_wire::record::Batch::split(batch).ok()?;
        let mut records = batch.records(RECORD_BYTES_MAX).ok()?;
        let record = records.next()?.ok()?;
        let (key, value) = (record.key?, record.value?);
        let kind = i16::from_be_bytes(key.get(2..4)?.try_into().ok()?);
        let commit = match kind {
            0 => false,
            1 => true,
            _ => return None,
        };
        let coordinator_epoch = i32::from_be_bytes(value.get(2..6)?.try_into().ok()?);
        Some(Self { commit, coordinator_epoch })
    }

    /// Key and value of the marker's record, as the coordinator writes them.
    #[must_use]
    pub fn record(&self) -> ([u8; 4], [u8; 6]) {
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        ([0, 0, 0, u8::from(self.commit)], value)
    }
}

impl KafkaBatch {
    /// Assigns offset and epoch; both lie outside the checksum.
    pub fn assign(batch: &mut [u8], base: Offset, leader_epoch: i32) {
        batch[0..8].copy_from_slice(&base.get().to_be_bytes());
        batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    }

    /// Stamps the batch with the broker's time (`message.timestamp.type=LogAppendTime`) and makes the checksum anew.
    pub fn stamp(batch: &mut [u8], now_ms: i64) {
        batch[22] |= 8;
        Self::set_max_timestamp(batch, now_ms);
    }

    /// Corrects the header's largest timestamp and makes the checksum anew.
    pub fn set_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
        batch[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
        let crc = base::checksum::crc32c(&batch[CRC_FROM..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

impl Framing for KafkaBatch {
    const EXTENSION: &'static str = "log";
    const HEADER_BYTES: usize = BATCH_HEADER_BYTES;
    const INDEXED: bool = true;

    fn parse(header: &[u8]) -> Parsed {
        match BatchHeader::parse(header) {
            Some(batch) => Parsed::Frame(batch.frame()),
            // Space that Kafka makes ahead with `preallocate=true`; a header has a magic.
            None if header[..BATCH_HEADER_BYTES].iter().all(|&b| b == 0) => Parsed::End,
            None => Parsed::Torn,
        }
    }

    fn verify(frame: &[u8]) -> bool {
        frame.len() >= BATCH_HEADER_BYTES
            && base::checksum::crc32c(&frame[CRC_FROM..]) == i32_at(frame, 17) as u32
    }
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}
fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}
fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
