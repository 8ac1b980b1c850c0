//! What a leader checks before it appends a producer's batch, as `LogValidator` does: a walk over every record.

use super::{Batch, NO_TIMESTAMP, Record, RecordError};

/// The topic's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Every record needs a key (`cleanup.policy` contains `compact`).
    pub keys_required: bool,
    /// Timestamps are the broker's, so those of the records are not checked.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`: how far behind now a timestamp may be.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far ahead of now a timestamp may be.
    pub timestamp_after_max_ms: i64,
    /// How large a compressed body may grow.
    pub decompressed_max_bytes: usize,
}

/// Larger bodies than this are not worth a broker's time: 64 times the usual largest batch.
pub const DECOMPRESSED_MAX_BYTES: usize = 64 << 20;

impl Default for Rules {
    /// Kafka's defaults: no limit behind, an hour ahead.
    fn default() -> Self {
        Self {
            keys_required: false,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            decompressed_max_bytes: DECOMPRESSED_MAX_BYTES,
        }
    }
}

/// What the walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The largest timestamp of the records, -1 when none has one.
    pub max_timestamp: i64,
    /// Which record has it first.
    pub max_timestamp_delta: i32,
    /// How many records there are.
    pub count: i32,
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no key, and the topic is compacted.
    NoKey,
    /// Its timestamp is too far from now.
    Timestamp {
        /// Milliseconds since 1970.
        timestamp: i64,
        /// Its offset in the batch.
        offset: i64,
    },
    /// The producer claims the broker's time.
    AppendTime {
        /// Milliseconds since 1970.
        timestamp: i64,
        /// Its offset in the batch.
        offset: i64,
        /// Bytes of key and value.
        sizes: (usize, usize),
    },
}

impl Fault {
    /// Whether it concerns the record's time.
    #[must_use]
    pub fn is_time(&self) -> bool {
        !matches!(self, Self::NoKey)
    }
}

/// The records at fault, by their place in the batch.
pub type Faults = Vec<(i32, Fault)>;

/// The most faults that are told of one batch.
const FAULTS_MAX: usize = 10_000;

impl Batch<'_> {
    /// Checks a batch that a client produced: checksum, header, every record. Nothing is copied or kept.
    ///
    /// When the summary's largest timestamp differs from the header's, and timestamps are the producer's, the leader
    /// corrects the header with [`patch_max_timestamp`](super::patch_max_timestamp). Offsets that are not consecutive
    /// are refused; Kafka rewrites such batches, which no client sends.
    pub fn validate(&self, rules: &Rules, now_ms: i64) -> Result<Summary, RecordError> {
        self.verify()?;
        self.validate_header()?;
        let mut summary = Summary { max_timestamp: NO_TIMESTAMP, max_timestamp_delta: 0, count: 0 };
        let mut faults = Faults::new();
        let mut records = self.records(rules.decompressed_max_bytes)?;
        while let Some(record) = records.next() {
            let record = record?;
            if record.offset_delta != summary.count {
                return Err(RecordError::Invalid("the offsets of the batch are not consecutive"));
            }
            if let Some(fault) = rules.fault(*self, &record, now_ms)
                && faults.len() < FAULTS_MAX
            {
                faults.push((summary.count, fault));
            }
            if record.timestamp > summary.max_timestamp {
                summary.max_timestamp = record.timestamp;
                summary.max_timestamp_delta = record.offset_delta;
            }
            summary.count += 1;
        }
        if faults.is_empty() { Ok(summary) } else { Err(RecordError::Faults(faults)) }
    }

    fn validate_header(&self) -> Result<(), RecordError> {
        let count = self.count();
        let wrong = if self.base_offset() != 0 {
            "the base offset of a produced batch is 0"
        } else if count <= 0 {
            "the batch says it has no records"
        } else if self.last_offset_delta() != count - 1 {
            "the batch's offsets and count disagree"
        } else if self.is_control() {
            "clients may not write control records"
        } else if self.has_producer_id() && self.base_sequence() < 0 {
            "a producer id needs a sequence"
        } else {
            return Ok(());
        };
        Err(RecordError::Invalid(wrong))
    }
}

impl Rules {
    fn fault(&self, batch: Batch<'_>, record: &Record<'_>, now_ms: i64) -> Option<Fault> {
        if self.keys_required && record.key.is_none() {
            return Some(Fault::NoKey);
        }
        let (timestamp, offset) = (record.timestamp, i64::from(record.offset_delta));
        if !self.log_append_time && timestamp != NO_TIMESTAMP {
            let behind = now_ms.saturating_sub(timestamp) > self.timestamp_before_max_ms;
            let ahead = timestamp.saturating_sub(now_ms) > self.timestamp_after_max_ms;
            return (behind || ahead).then_some(Fault::Timestamp { timestamp, offset });
        }
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let sizes = (length(record.key), length(record.value));
        batch.is_log_append_time().then_some(Fault::AppendTime { timestamp, offset, sizes })
    }
}
