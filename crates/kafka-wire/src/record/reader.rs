//! Records of a batch, one after the other.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! | key length varint, key | value length varint, value | header count varint | per header: key, value
//! ```
//!
//! An uncompressed body is read where it lies; a compressed one is decompressed as a stream into one record's buffer,
//! so the bound on the decompressed size also bounds the memory.

use std::io::Read;

use super::{Batch, Compression, RecordError};

/// A record's longest length prefix: a varint of 32 bits.
const VARINT_BYTES_MAX: usize = 5;

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'r> {
    /// Its name, UTF-8 by convention.
    pub key: &'r [u8],
    /// Its value, or null.
    pub value: Option<&'r [u8]>,
}

/// The headers of a record, parsed as they are asked for; they were checked when the record was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers<'r> {
    rest: &'r [u8],
    left: usize,
}

impl<'r> Iterator for Headers<'r> {
    type Item = Header<'r>;

    fn next(&mut self) -> Option<Header<'r>> {
        self.left = self.left.checked_sub(1)?;
        header(&mut self.rest)
    }
}

/// A record where it lies, in the batch or in the reader's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'r> {
    /// Its offset.
    pub offset: i64,
    /// Its offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since 1970, or -1; the broker's time when the batch says so.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<&'r [u8]>,
    /// The value, or null.
    pub value: Option<&'r [u8]>,
    /// The headers.
    pub headers: Headers<'r>,
}

enum Source<'a> {
    Slice(&'a [u8]),
    Stream { stream: Box<dyn Read + 'a>, codec: Compression, left: usize, limit: usize, record: Vec<u8> },
}

/// Reads the records of one batch.
pub struct RecordReader<'a> {
    batch: Batch<'a>,
    source: Source<'a>,
    done: i32,
}

impl<'a> RecordReader<'a> {
    pub(super) fn open(batch: Batch<'a>, limit: usize) -> Result<Self, RecordError> {
        let source = match batch.compression()? {
            Compression::None => Source::Slice(batch.body()),
            codec => {
                let stream = codec.stream(batch.body(), limit)?;
                Source::Stream { stream, codec, left: limit, limit, record: Vec::new() }
            }
        };
        Ok(Self { batch, source, done: 0 })
    }

    /// The next record, None after as many as the header counts. The bytes after the last must be none.
    #[allow(clippy::should_implement_trait)] // the record borrows the reader, which an Iterator cannot say
    pub fn next(&mut self) -> Option<Result<Record<'_>, RecordError>> {
        if self.done >= self.batch.count() {
            return self.check_end().err().map(Err);
        }
        let index = self.done;
        self.done += 1;
        let batch = self.batch;
        let parsed = self.source.next(index).and_then(|raw| {
            let mut rest = raw;
            let record = parse(&mut rest, batch).filter(|_| rest.is_empty());
            record.ok_or(RecordError::Malformed(index))
        });
        if parsed.is_err() {
            // Nothing after a broken record can be trusted.
            self.done = i32::MAX;
        }
        Some(parsed)
    }

    /// Calls `each` with every record until the end or an error.
    pub fn for_each(mut self, mut each: impl FnMut(Record<'_>)) -> Result<(), RecordError> {
        while let Some(record) = self.next() {
            each(record?);
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), RecordError> {
        // Once: what is told of the end is not told again.
        let told = std::mem::replace(&mut self.done, i32::MAX) == i32::MAX;
        if told || self.source.at_end()? {
            Ok(())
        } else {
            Err(RecordError::Invalid("bytes follow the last record of the batch"))
        }
    }
}

impl Source<'_> {
    /// The bytes of the next record after its length.
    fn next(&mut self, index: i32) -> Result<&[u8], RecordError> {
        match self {
            Self::Slice(rest) => {
                if rest.len() >= VARINT_BYTES_MAX
                    && rest[..VARINT_BYTES_MAX].iter().all(|byte| byte & 0x80 != 0)
                {
                    return Err(RecordError::Endless(index));
                }
                let length = varint(rest).and_then(|l| usize::try_from(l).ok());
                let length = length.ok_or(RecordError::Malformed(index))?;
                let (record, after) = rest.split_at_checked(length).ok_or(RecordError::Malformed(index))?;
                *rest = after;
                Ok(record)
            }
            Self::Stream { stream, codec, left, limit, record } => {
                let length = stream_varint(stream, *codec, index)?;
                if length > *left {
                    return Err(RecordError::TooLarge(*limit));
                }
                *left -= length;
                record.clear();
                let read = stream.by_ref().take(length as u64).read_to_end(record);
                let read = read.map_err(|_| RecordError::Decompress(codec.name()))?;
                if read == length { Ok(record) } else { Err(RecordError::Malformed(index)) }
            }
        }
    }

    fn at_end(&mut self) -> Result<bool, RecordError> {
        match self {
            Self::Slice(rest) => Ok(rest.is_empty()),
            Self::Stream { stream, codec, .. } => {
                let read = stream.read(&mut [0]).map_err(|_| RecordError::Decompress(codec.name()))?;
                Ok(read == 0)
            }
        }
    }
}

fn stream_varint(stream: &mut dyn Read, codec: Compression, index: i32) -> Result<usize, RecordError> {
    let mut raw = [0u8; VARINT_BYTES_MAX];
    for at in 0..VARINT_BYTES_MAX {
        match stream.read(&mut raw[at..=at]) {
            Ok(1..) => {}
            // What was compressed ends here: a record is missing, the compression is sound.
            Ok(0) => return Err(RecordError::Malformed(index)),
            Err(_) => return Err(RecordError::Decompress(codec.name())),
        }
        if raw[at] & 0x80 == 0 {
            let length = varint(&mut &raw[..=at]).and_then(|l| usize::try_from(l).ok());
            return length.ok_or(RecordError::Malformed(index));
        }
    }
    Err(RecordError::Endless(index))
}

fn parse<'r>(rest: &mut &'r [u8], batch: Batch<'_>) -> Option<Record<'r>> {
    let _attributes = take(rest, 1)?;
    let timestamp_delta = varlong(rest)?;
    let offset_delta = varint(rest)?;
    let timestamp = match batch.is_log_append_time() {
        true => batch.max_timestamp(),
        false => batch.base_timestamp().wrapping_add(timestamp_delta),
    };
    let (key, value) = (nullable(rest)?, nullable(rest)?);
    let left = usize::try_from(varint(rest)?).ok()?;
    let headers = Headers { rest, left };
    for _ in 0..left {
        header(rest)?;
    }
    let offset = batch.base_offset().saturating_add(i64::from(offset_delta));
    Some(Record { offset, offset_delta, timestamp, key, value, headers })
}

fn header<'r>(rest: &mut &'r [u8]) -> Option<Header<'r>> {
    let key = nullable(rest)??;
    Some(Header { key, value: nullable(rest)? })
}

fn take<'r>(rest: &mut &'r [u8], count: usize) -> Option<&'r [u8]> {
    let (head, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(head)
}

/// Bytes behind a varint length; -1 is null.
#[allow(clippy::option_option)]
fn nullable<'r>(rest: &mut &'r [u8]) -> Option<Option<&'r [u8]>> {
    match varint(rest)? {
        -1 => Some(None),
        length => take(rest, usize::try_from(length).ok()?).map(Some),
    }
}

/// A zigzag number of at most 32 bits.
fn varint(rest: &mut &[u8]) -> Option<i32> {
    let raw = uvarlong(rest, VARINT_BYTES_MAX)?;
    let raw = u32::try_from(raw).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// A zigzag number of at most 64 bits.
fn varlong(rest: &mut &[u8]) -> Option<i64> {
    let raw = uvarlong(rest, 10)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn uvarlong(rest: &mut &[u8], bytes_max: usize) -> Option<u64> {
    let mut value = 0u64;
    for (at, byte) in rest.iter().take(bytes_max).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Some(value);
        }
    }
    None
}
