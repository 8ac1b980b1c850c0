//! Makes batches: internal topics, control records, tests, `ketch produce`.

use base::checksum::crc32c;
use bytes::Bytes;

use super::{
    ATTRIBUTES_AT, CONTROL, CRC_AT, Compression, HEADER_SIZE, LENGTH_AT, LOG_OVERHEAD, NO_PRODUCER_ID,
    NO_SEQUENCE, RecordError, TRANSACTIONAL,
};

/// Who wrote a batch, for idempotence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
}

/// Collects records into one batch whose offsets are consecutive from `base_offset`.
#[derive(Clone, Debug)]
pub struct Builder {
    base_offset: i64,
    leader_epoch: i32,
    compression: Compression,
    producer: Producer,
    flags: i16,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    body: Vec<u8>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty batch at offset 0, uncompressed, of no producer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: -1,
            compression: Compression::None,
            producer: Producer { id: NO_PRODUCER_ID, epoch: -1, base_sequence: NO_SEQUENCE },
            flags: 0,
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            body: Vec::new(),
        }
    }

    /// Sets the offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.base_offset = offset;
        self
    }

    /// Sets the epoch of the partition's leader.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Sets the codec.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the producer.
    #[must_use]
    pub fn producer(mut self, producer: Producer) -> Self {
        self.producer = producer;
        self
    }

    /// Makes it a part of the producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.flags |= TRANSACTIONAL;
        self
    }

    /// Makes its records control records.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.flags |= CONTROL;
        self
    }

    /// How many records it has.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// How many bytes its records take before compression.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// Adds a record without headers.
    pub fn append(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> &mut Self {
        self.append_with_headers(timestamp_ms, key, value, &[])
    }

    /// Adds a record.
    pub fn append_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> &mut Self {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let mut record = vec![0u8];
        varlong(&mut record, timestamp_ms.wrapping_sub(self.base_timestamp));
        varlong(&mut record, i64::from(self.count));
        nullable(&mut record, key);
        nullable(&mut record, value);
        varlong(&mut record, headers.len() as i64);
        for (name, value) in headers {
            nullable(&mut record, Some(name.as_bytes()));
            nullable(&mut record, *value);
        }
        varlong(&mut self.body, record.len() as i64);
        self.body.extend_from_slice(&record);
        self.count += 1;
        self
    }

    /// The finished batch.
    pub fn build(&self) -> Result<Bytes, RecordError> {
        let body = match self.compression {
            Compression::None => self.body.clone(),
            codec => codec.compress(&self.body)?,
        };
        let mut out = Vec::with_capacity(HEADER_SIZE + body.len());
        self.header(&mut out);
        out.extend_from_slice(&body);
        let length = (out.len() - LOG_OVERHEAD) as i32;
        out[LENGTH_AT..LOG_OVERHEAD].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c(&out[ATTRIBUTES_AT..]);
        out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        Ok(Bytes::from(out))
    }

    /// The header with length and checksum still 0.
    fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(&[2, 0, 0, 0, 0]);
        out.extend_from_slice(&(self.flags | self.compression.number()).to_be_bytes());
        out.extend_from_slice(&(self.count - 1).to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer.id.to_be_bytes());
        out.extend_from_slice(&self.producer.epoch.to_be_bytes());
        out.extend_from_slice(&self.producer.base_sequence.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
    }
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
