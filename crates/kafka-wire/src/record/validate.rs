//! What a leader checks before it appends a producer's batch, as `LogValidator` does: a walk over every record.

use super::{Batch, NO_TIMESTAMP, RecordError};

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
        let mut records = self.records(rules.decompressed_max_bytes)?;
        while let Some(record) = records.next() {
            let record = record?;
            if record.offset_delta != summary.count {
                return Err(RecordError::Invalid("the offsets of the batch are not consecutive"));
            }
            if rules.keys_required && record.key.is_none() {
                return Err(RecordError::NoKey(summary.count));
            }
            rules.check_time(summary.count, record.timestamp, now_ms)?;
            if record.timestamp > summary.max_timestamp {
                summary.max_timestamp = record.timestamp;
                summary.max_timestamp_delta = record.offset_delta;
            }
            summary.count += 1;
        }
        Ok(summary)
    }

    fn validate_header(&self) -> Result<(), RecordError> {
        let count = self.count();
        let wrong = if count <= 0 {
            "the batch says it has no records"
        } else if self.last_offset_delta() != count - 1 {
            "the batch's offsets and count disagree"
        } else if self.is_control() {
            "clients may not write control records"
        } else if self.has_producer_id() && self.base_sequence() < 0 {
            "a producer id needs a sequence"
        } else if self.is_log_append_time() {
            return Err(RecordError::Timestamp { record: 0, timestamp: self.max_timestamp() });
        } else {
            return Ok(());
        };
        Err(RecordError::Invalid(wrong))
    }
}

impl Rules {
    fn check_time(&self, record: i32, timestamp: i64, now_ms: i64) -> Result<(), RecordError> {
        let behind = now_ms.saturating_sub(timestamp) > self.timestamp_before_max_ms;
        let ahead = timestamp.saturating_sub(now_ms) > self.timestamp_after_max_ms;
        match !self.log_append_time && timestamp != NO_TIMESTAMP && (behind || ahead) {
            true => Err(RecordError::Timestamp { record, timestamp }),
            false => Ok(()),
        }
    }
}
