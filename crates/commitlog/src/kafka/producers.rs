//! What a partition remembers of idempotent producers, and its snapshots (ProducerStateManager.java, KIP-98).
//!
//! ```text
//! .snapshot: version i16 = 1 | CRC-32C u32 of the rest | count i32 | entries of 46 bytes:
//!   producer id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32 | timestamp i64
//!   | coordinator epoch i32 | first offset of the open transaction i64
//! ```

use std::collections::{BTreeMap, VecDeque};

use base::checksum::crc32c;

use crate::Offset;
use crate::kafka::BatchHeader;

/// Batches remembered a producer: as many as a client may have in flight, so that any retry is recognized.
const BATCHES_MAX: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_ENTRY_BYTES: usize = 46;

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// A batch is missing before this one, or the first of a new epoch is not 0.
    #[error("sequence {got} of producer {producer_id} does not follow {last}")]
    OutOfOrderSequence { producer_id: i64, got: i32, last: i32 },
    /// A newer instance of the producer has taken over.
    #[error("producer {producer_id} has epoch {current}, not {got}")]
    InvalidEpoch { producer_id: i64, got: i16, current: i16 },
}

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub last_sequence: i32,
    pub last_offset: Offset,
    pub offset_delta: i32,
    pub timestamp_ms: i64,
}

impl Remembered {
    /// The batch's first offset: what a duplicate is answered with.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        Offset(self.last_offset.get() - i64::from(self.offset_delta))
    }

    fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

#[derive(Debug, Clone)]
struct Entry {
    epoch: i16,
    batches: VecDeque<Remembered>,
    coordinator_epoch: i32,
    transaction_first_offset: i64,
}

/// All producers of a partition.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    entries: BTreeMap<i64, Entry>,
}

impl Producers {
    /// The batch this one repeats, if it is a retry of one of the last five; else whether it may be appended.
    ///
    /// # Errors
    /// A sequence with a gap or an old epoch. A producer nobody remembers may begin anywhere.
    pub fn check(&self, batch: &BatchHeader) -> Result<Option<Remembered>, ProducerError> {
        let Some(entry) = self.entries.get(&batch.producer_id) else { return Ok(None) };
        let producer_id = batch.producer_id;
        if batch.producer_epoch < entry.epoch {
            return Err(ProducerError::InvalidEpoch {
                producer_id,
                got: batch.producer_epoch,
                current: entry.epoch,
            });
        }
        let got = batch.base_sequence;
        let Some(newest) = entry.batches.back() else { return Ok(None) };
        if batch.producer_epoch > entry.epoch {
            let last = newest.last_sequence;
            let fresh = got == 0;
            return if fresh {
                Ok(None)
            } else {
                Err(ProducerError::OutOfOrderSequence { producer_id, got, last })
            };
        }
        let same = |b: &&Remembered| b.first_sequence() == got && b.last_sequence == batch.last_sequence();
        if let Some(repeated) = entry.batches.iter().find(same) {
            return Ok(Some(*repeated));
        }
        let last = newest.last_sequence;
        if got == last.wrapping_add(1) & i32::MAX {
            Ok(None)
        } else {
            Err(ProducerError::OutOfOrderSequence { producer_id, got, last })
        }
    }

    /// Notes an appended batch (offsets assigned).
    pub fn note(&mut self, batch: &BatchHeader) {
        if !batch.has_producer() || batch.is_control() {
            return;
        }
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| Entry {
            epoch: batch.producer_epoch,
            batches: VecDeque::with_capacity(1),
            coordinator_epoch: -1,
            transaction_first_offset: -1,
        });
        if entry.epoch != batch.producer_epoch {
            entry.epoch = batch.producer_epoch;
            entry.batches.clear();
        }
        if entry.batches.len() == BATCHES_MAX {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Remembered {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
            timestamp_ms: batch.max_timestamp_ms,
        });
    }

    /// Forgets producers whose last batch is older than `before_ms` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, before_ms: i64) {
        self.entries.retain(|_, entry| entry.batches.back().is_some_and(|b| b.timestamp_ms >= before_ms));
    }

    /// Producers remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A snapshot file's content.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.entries.len() * SNAPSHOT_ENTRY_BYTES);
        body.extend_from_slice(&(self.entries.len() as i32).to_be_bytes());
        for (producer_id, entry) in &self.entries {
            let none =
                Remembered { last_sequence: -1, last_offset: Offset(-1), offset_delta: 0, timestamp_ms: -1 };
            let last = entry.batches.back().copied().unwrap_or(none);
            body.extend_from_slice(&producer_id.to_be_bytes());
            body.extend_from_slice(&entry.epoch.to_be_bytes());
            body.extend_from_slice(&last.last_sequence.to_be_bytes());
            body.extend_from_slice(&last.last_offset.get().to_be_bytes());
            body.extend_from_slice(&last.offset_delta.to_be_bytes());
            body.extend_from_slice(&last.timestamp_ms.to_be_bytes());
            body.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            body.extend_from_slice(&entry.transaction_first_offset.to_be_bytes());
        }
        let mut bytes = Vec::with_capacity(6 + body.len());
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a snapshot; None when it is damaged.
    #[must_use]
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let (head, body) = bytes.split_at_checked(6)?;
        let version = i16::from_be_bytes(head[..2].try_into().ok()?);
        let crc = u32::from_be_bytes(head[2..].try_into().ok()?);
        let (count, entries) = body.split_at_checked(4)?;
        let count = usize::try_from(i32::from_be_bytes(count.try_into().ok()?)).ok()?;
        let sound = version == SNAPSHOT_VERSION && crc == crc32c(body);
        if !sound || entries.len() != count.checked_mul(SNAPSHOT_ENTRY_BYTES)? {
            return None;
        }
        let entries =
            entries.chunks_exact(SNAPSHOT_ENTRY_BYTES).map(snapshot_entry).collect::<Option<_>>()?;
        Some(Self { entries })
    }
}

fn snapshot_entry(bytes: &[u8]) -> Option<(i64, Entry)> {
    let i64_at = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let i32_at = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let epoch = i16::from_be_bytes(bytes.get(8..10)?.try_into().ok()?);
    let last = Remembered {
        last_sequence: i32_at(10)?,
        last_offset: Offset(i64_at(14)?),
        offset_delta: i32_at(22)?,
        timestamp_ms: i64_at(26)?,
    };
    let batches = if last.last_offset.get() < 0 { VecDeque::new() } else { VecDeque::from([last]) };
    let entry =
        Entry { epoch, batches, coordinator_epoch: i32_at(34)?, transaction_first_offset: i64_at(38)? };
    Some((i64_at(0)?, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_id: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(offset),
            len: 61,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp_ms: 1000,
            max_timestamp_ms: 1000 + offset,
            producer_id,
            producer_epoch: epoch,
            base_sequence: sequence,
            count,
        }
    }

    /// Appends batches of producer 7 and says what the last one is answered.
    #[track_caller]
    fn check(appended: &[(i16, i32, i32)], last: (i16, i32, i32), expect: &str) {
        let (mut producers, mut offset) = (Producers::default(), 0);
        for &(epoch, sequence, count) in appended {
            let batch = batch(7, epoch, sequence, count, offset);
            assert_eq!(producers.check(&batch), Ok(None));
            producers.note(&batch);
            offset += i64::from(count);
        }
        let got = match producers.check(&batch(7, last.0, last.1, last.2, offset)) {
            Ok(None) => "append".to_owned(),
            Ok(Some(repeated)) => format!("duplicate of {}", repeated.first_offset()),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expect);
    }

    #[test]
    fn sequences() {
        let max = i32::MAX;
        check(&[], (0, 17, 1), "append");
        check(&[(0, 0, 3)], (0, 3, 1), "append");
        check(&[(0, 0, 3)], (0, 0, 3), "duplicate of 0");
        check(&[(0, 0, 3)], (0, 4, 1), "sequence 4 of producer 7 does not follow 2");
        check(&[(0, 0, 3)], (0, 0, 2), "sequence 0 of producer 7 does not follow 2");
        check(&[(1, 0, 3)], (0, 3, 1), "producer 7 has epoch 1, not 0");
        check(&[(0, 0, 3)], (1, 0, 1), "append");
        check(&[(0, 0, 3)], (1, 3, 1), "sequence 3 of producer 7 does not follow 2");
        check(&[(0, max - 1, 2)], (0, 0, 1), "append");
        check(&[(0, max - 1, 3)], (0, 1, 1), "append");
        check(&[(0, max - 1, 3)], (0, max - 1, 3), "duplicate of 0");
        let six = [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)];
        check(&six, (0, 1, 1), "duplicate of 1");
        check(&six, (0, 0, 1), "sequence 0 of producer 7 does not follow 5");
    }

    #[test]
    fn snapshots_come_back_and_damage_is_seen() {
        let mut producers = Producers::default();
        producers.note(&batch(9, 2, 0, 5, 100));
        producers.note(&batch(3, 0, 10, 1, 105));
        let bytes = producers.snapshot();
        assert_eq!(bytes.len(), 6 + 4 + 2 * 46);
        let back = Producers::from_snapshot(&bytes).unwrap();
        assert_eq!(back.snapshot(), bytes);
        assert_eq!(back.check(&batch(9, 2, 0, 5, 0)).unwrap().unwrap().first_offset(), Offset(100));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Producers::from_snapshot(&bad).is_none(), "byte {at}");
            assert!(Producers::from_snapshot(&bytes[..at]).is_none());
        }
        producers.expire(1105);
        assert_eq!(producers.len(), 1);
    }
}
