//! A batch without the records that go.
//!
//! Base offset, last offset delta, producer, epoch, sequence, leader epoch and codec stay as they were, so that offsets
//! and sequences keep their meaning; the base timestamp becomes the first kept record's, or the delete horizon
//! (`MemoryRecords.filterTo`, KIP-534).

use kafka_wire::record::{Batch, Compression, Record};

use crate::kafka::{BATCH_HEADER_BYTES, BatchHeader, KafkaBatch};

/// A stored body was checked when it was appended; this only bounds what a damaged one may ask for.
const BODY_BYTES_MAX: usize = 1 << 30;
const DELETE_HORIZON: i16 = 64;

/// Records that stay, with everything behind their timestamps encoded already.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Timestamp, offset delta, and where its rest lies in `rest`.
    records: Vec<(i64, i32, usize, usize)>,
    rest: Vec<u8>,
    /// A record of them deletes its key.
    pub tombstones: bool,
    /// Records that go.
    pub dropped: u32,
}

impl Kept {
    /// Sorts the records of a batch; None when it cannot be read.
    pub(super) fn of(batch: &[u8], mut keep: impl FnMut(&Record<'_>) -> bool) -> Option<Self> {
        let (batch, _) = Batch::split(batch).ok()?;
        let mut kept = Self::default();
        let mut records = batch.records(BODY_BYTES_MAX).ok()?;
        while let Some(record) = records.next() {
            let record = record.ok()?;
            if keep(&record) {
                kept.push(&record);
            } else {
                kept.dropped += 1;
            }
        }
        Some(kept)
    }

    fn push(&mut self, record: &Record<'_>) {
        let from = self.rest.len();
        nullable(&mut self.rest, record.key);
        nullable(&mut self.rest, record.value);
        varlong(&mut self.rest, record.headers.clone().count() as i64);
        for header in record.headers.clone() {
            nullable(&mut self.rest, Some(header.key));
            nullable(&mut self.rest, header.value);
        }
        self.tombstones |= record.value.is_none();
        self.records.push((record.timestamp, record.offset_delta, from, self.rest.len()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The batch with the kept records; `horizon` is its delete horizon, new or as it was. None when it cannot be
    /// compressed.
    pub(super) fn batch(
        &self,
        header: &BatchHeader,
        original: &[u8],
        horizon: Option<i64>,
    ) -> Option<Vec<u8>> {
        let first = self.records.first().map_or(header.base_timestamp_ms, |r| r.0);
        let base = horizon.unwrap_or(first);
        let mut body = Vec::with_capacity(self.rest.len() + self.records.len() * 12);
        let mut head = Vec::with_capacity(16);
        for &(timestamp, delta, from, to) in &self.records {
            head.clear();
            head.push(0);
            varlong(&mut head, timestamp.wrapping_sub(base));
            varlong(&mut head, i64::from(delta));
            varlong(&mut body, (head.len() + to - from) as i64);
            body.extend_from_slice(&head);
            body.extend_from_slice(&self.rest[from..to]);
        }
        let codec = Batch::split(original).ok()?.0.compression().ok()?;
        let body = if codec == Compression::None { body } else { codec.compress(&body).ok()? };
        let newest = self.records.iter().map(|r| r.0).max().unwrap_or(header.max_timestamp_ms);
        let max = if header.is_log_append_time() { header.max_timestamp_ms } else { newest };
        let attributes = header.attributes & !DELETE_HORIZON | horizon.map_or(0, |_| DELETE_HORIZON);
        let mut batch = original[..BATCH_HEADER_BYTES].to_vec();
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[27..35].copy_from_slice(&base.to_be_bytes());
        batch[57..61].copy_from_slice(&(self.records.len() as i32).to_be_bytes());
        batch.extend_from_slice(&body);
        Some(finish(batch, max))
    }
}

/// The batch without any record, kept for its producer's sequence or epoch.
pub(super) fn empty(header: &BatchHeader, original: &[u8]) -> Vec<u8> {
    // No codec: there is nothing to compress.
    let attributes = header.attributes & !(DELETE_HORIZON | 7);
    let mut batch = original[..BATCH_HEADER_BYTES].to_vec();
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[27..35].copy_from_slice(&(-1i64).to_be_bytes());
    batch[57..61].copy_from_slice(&0i32.to_be_bytes());
    finish(batch, header.max_timestamp_ms)
}

fn finish(mut batch: Vec<u8>, max_timestamp_ms: i64) -> Vec<u8> {
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    KafkaBatch::set_max_timestamp(&mut batch, max_timestamp_ms);
    batch
}

fn nullable(out: &mut Vec<u8>, value: Option<&[u8]>) {
    varlong(out, value.map_or(-1, |v| v.len() as i64));
    out.extend_from_slice(value.unwrap_or_default());
}

/// A zigzag number; small ones are the same for 32 and 64 bits.
fn varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = (value << 1) as u64 ^ (value >> 63) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}
