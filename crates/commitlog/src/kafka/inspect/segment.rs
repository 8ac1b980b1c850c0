//! A segment's log, walked from its first byte to its last.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use kafka_wire::record::Batch;

use super::indexes::Indexes;
use super::{Item, Kind, Run, at, complaint};
use crate::kafka::{BATCH_HEADER_BYTES, BatchHeader, EndTxnMarker, KafkaBatch, batch};
use crate::{Framing, Offset};

/// Bytes read at a time; a batch is read whole besides.
const READ_BYTES: usize = 256 * 1024;
/// What the body of a compressed batch may grow to: many times the largest that brokers take.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// How far the offsets of a partition have come, over its segments.
#[derive(Debug)]
pub(super) struct Course {
    next: Option<Offset>,
    epoch: i32,
    gaps_allowed: bool,
}

impl Course {
    pub(super) fn new(gaps_allowed: bool) -> Self {
        Self { next: None, epoch: -1, gaps_allowed }
    }
}

/// A log that is being read.
struct Reader<'p> {
    path: &'p Path,
    file: BufReader<File>,
    position: u64,
    /// Its length when it was opened; what is appended meanwhile is not looked at.
    len: u64,
}

impl<'p> Reader<'p> {
    fn open(path: &'p Path) -> io::Result<Self> {
        let file = File::open(path).map_err(|e| at(path, &e))?;
        let len = file.metadata().map_err(|e| at(path, &e))?.len();
        Ok(Self { path, file: BufReader::with_capacity(READ_BYTES, file), position: 0, len })
    }

    /// Adds up to `count` bytes to `out`: fewer where the file ends.
    fn more(&mut self, count: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let count = count.min(self.len - self.position);
        let read = self.file.by_ref().take(count).read_to_end(out).map_err(|e| at(self.path, &e))?;
        self.position += read as u64;
        Ok(())
    }

    /// Bytes of zero from here on, and where the first other byte is.
    fn zeros(&mut self) -> io::Result<(u64, Option<u64>)> {
        let (from, mut bytes) = (self.position, Vec::new());
        loop {
            let start = self.position;
            bytes.clear();
            self.more(READ_BYTES as u64, &mut bytes)?;
            if let Some(n) = bytes.iter().position(|b| *b != 0) {
                return Ok((start + n as u64 - from, Some(start + n as u64)));
            }
            if bytes.is_empty() {
                return Ok((start - from, None));
            }
        }
    }
}

impl Run<'_> {
    /// A log with the indexes beside it.
    pub(super) fn segment(&mut self, path: &Path, base: Offset, course: &mut Course) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let mut indexes = Indexes::read(dir, base, &[Kind::Index, Kind::TimeIndex, Kind::TxnIndex])?;
        self.log(path, base, course, &mut indexes)?;
        self.tell_indexes(&indexes)
    }

    /// An index that was named alone: checked against the log where that is beside it.
    pub(super) fn index_alone(&mut self, dir: &Path, base: Offset, kind: Kind) -> io::Result<()> {
        let mut indexes = Indexes::read(dir, base, &[kind])?;
        let log = super::beside(dir, base, Kind::Log);
        if log.is_file() {
            self.quiet = true;
            let read = self.log(&log, base, &mut Course::new(true), &mut indexes);
            self.quiet = false;
            read?;
        }
        self.tell_indexes(&indexes)
    }

    /// Walks a log and shows each batch to the indexes.
    pub(super) fn log(
        &mut self,
        path: &Path,
        base: Offset,
        course: &mut Course,
        indexes: &mut Indexes,
    ) -> io::Result<()> {
        let mut reader = Reader::open(path)?;
        self.tell(Item::File { path, bytes: reader.len })?;
        // The first segment of a partition begins where retention left it.
        course.next.get_or_insert(base);
        let (mut batches, mut zero_bytes, mut last) = (0, 0, None);
        let mut bytes = Vec::new();
        while reader.position < reader.len {
            let position = reader.position;
            bytes.clear();
            reader.more(BATCH_HEADER_BYTES as u64, &mut bytes)?;
            if bytes.iter().all(|b| *b == 0) {
                let (more, other) = reader.zeros()?;
                zero_bytes = bytes.len() as u64 + more;
                if let Some(other) = other {
                    let what =
                        format!("bytes follow the zeros from byte {position} on; no batch there is read");
                    self.damage(path, &complaint(other, what))?;
                }
                break;
            }
            let Some(header) = BatchHeader::parse(&bytes) else {
                let what = format!("{}; nothing after it is read", refused(&bytes));
                self.damage(path, &complaint(position, what))?;
                break;
            };
            reader.more((header.len - BATCH_HEADER_BYTES) as u64, &mut bytes)?;
            if bytes.len() < header.len {
                let what = format!(
                    "the batch of {} bytes is cut short: {} are there; nothing after it is read",
                    header.len,
                    bytes.len()
                );
                self.damage(path, &complaint(position, what))?;
                break;
            }
            batches += 1;
            last = Some(header.last_offset().next());
            self.batch(path, base, position, &header, &bytes, course)?;
            indexes.meet(&header, position);
        }
        indexes.end(base, last.unwrap_or(base));
        self.tell(Item::LogEnd { batches, next: last, zero_bytes })
    }

    fn batch(
        &mut self,
        path: &Path,
        base: Offset,
        position: u64,
        header: &BatchHeader,
        bytes: &[u8],
        course: &mut Course,
    ) -> io::Result<()> {
        let expect = course.next.unwrap_or(base);
        let gap = header.base_offset > expect;
        if gap && course.gaps_allowed {
            self.tell(Item::Gap { from: expect, to: header.base_offset })?;
        }
        let crc_ok = KafkaBatch::verify(bytes);
        let marker = if header.is_control() { EndTxnMarker::parse(bytes) } else { None };
        self.tell(Item::Batch { header, position, crc_ok, marker })?;
        if !crc_ok {
            let actual = base::checksum::crc32c(&bytes[batch::CRC_FROM..]);
            let what =
                format!("the batch's checksum is {actual:#010x}, its header says {:#010x}", header.crc);
            self.damage(path, &complaint(position, what))?;
        } else if self.options.records && !self.quiet {
            self.records(path, position, bytes)?;
        }
        if gap && !course.gaps_allowed {
            let what = format!("offsets {expect}..{} are missing", header.base_offset);
            self.damage(path, &complaint(position, what))?;
        }
        for what in contradictions(base, header, expect, course.epoch) {
            self.damage(path, &complaint(position, what))?;
        }
        // From what this batch says on: one that is wrong is told of twice, not as often as batches follow.
        course.next = Some(header.last_offset().next());
        course.epoch = if header.leader_epoch >= 0 { header.leader_epoch } else { course.epoch };
        Ok(())
    }

    fn records(&mut self, path: &Path, position: u64, bytes: &[u8]) -> io::Result<()> {
        let read = Batch::split(bytes).and_then(|(batch, _)| batch.records(UNPACKED_BYTES_MAX));
        let mut records = match read {
            Ok(records) => records,
            Err(error) => return self.damage(path, &complaint(position, error.to_string())),
        };
        while let Some(record) = records.next() {
            match record {
                Ok(record) => self.tell(Item::Record(&record))?,
                Err(error) => self.damage(path, &complaint(position, error.to_string()))?,
            }
        }
        Ok(())
    }
}

/// What in a header cannot be, given what came before.
fn contradictions(base: Offset, header: &BatchHeader, expect: Offset, epoch: i32) -> Vec<String> {
    let mut found = Vec::new();
    let (first, last) = (header.base_offset, header.last_offset());
    if first < base {
        found.push(format!("offset {first} is below the segment's {base}"));
    } else if first < expect {
        found.push(format!("offset {first} is not above those before it, which end at {expect}"));
    }
    let relative = last.get().saturating_sub(base.get());
    if relative > i64::from(i32::MAX) {
        found.push(format!("offset {last} is further from the segment's than an index can say"));
    }
    if !(0..=i64::from(header.last_offset_delta) + 1).contains(&i64::from(header.count)) {
        found.push(format!("{} records in offsets {first}..={last}", header.count));
    }
    // -1 is an epoch that nobody knows.
    if header.leader_epoch >= 0 && header.leader_epoch < epoch {
        found.push(format!("the leader epoch falls from {epoch} to {}", header.leader_epoch));
    }
    found
}

/// Why bytes are no header of a batch.
fn refused(bytes: &[u8]) -> String {
    let Some(header) = bytes.get(..BATCH_HEADER_BYTES) else {
        return format!("the header of a batch is cut short: {} bytes are there", bytes.len());
    };
    match header[16] as i8 {
        2 => "the lengths or offsets of the batch's header make no sense".to_owned(),
        magic @ (0 | 1) => format!("no batch: magic {magic}, the message format before Kafka 0.11"),
        magic => format!("no batch: magic {magic}"),
    }
}
