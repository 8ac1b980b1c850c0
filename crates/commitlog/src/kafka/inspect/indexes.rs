//! The three indexes of a segment: order by themselves, then entry by entry against the batches of the log.
//!
//! An offset entry is right when it points at the beginning of a batch and all batches before it are below its offset;
//! a time entry when a batch with its offset has its time as the largest and nothing before is later. That is what a
//! search relies on; the entries that Kafka and Ketch make are so, of all their versions.

use std::io;
use std::path::{Path, PathBuf};

use super::{Complaint, Item, Kind, Run, beside, complaint, read_whole, too_large};
use crate::Offset;
use crate::index::{MaxTimestamp, OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::kafka::BatchHeader;
use crate::kafka::aborted::{AbortedTxn, ENTRY_BYTES};

/// Complaints told of one index; of a wrong file nearly every entry is wrong.
const COMPLAINTS_MAX: usize = 100;

/// One index file.
#[derive(Debug)]
struct Index {
    kind: Kind,
    path: PathBuf,
    bytes: u64,
    complaints: Vec<Complaint>,
}

impl Index {
    fn complain(&mut self, complaint: Complaint) {
        match self.complaints.len() {
            told if told < COMPLAINTS_MAX => self.complaints.push(complaint),
            COMPLAINTS_MAX => {
                self.complaints.push(super::complaint(complaint.position, "and more from here on"))
            }
            _ => {}
        }
    }
}

/// The indexes of a segment and how far the log has come along them.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    files: Vec<Index>,
    offsets: Vec<(Offset, u64)>,
    times: Vec<MaxTimestamp>,
    aborted: Vec<AbortedTxn>,
    /// Entries that were looked at.
    offsets_at: usize,
    times_at: usize,
    /// Largest timestamp of the batches so far.
    latest: i64,
}

impl Indexes {
    /// Those of `kinds` that the segment has.
    pub(super) fn read(dir: &Path, base: Offset, kinds: &[Kind]) -> io::Result<Self> {
        let mut all = Self { latest: i64::MIN, ..Self::default() };
        for kind in kinds {
            let path = beside(dir, base, *kind);
            if !path.is_file() {
                continue;
            }
            let (bytes, content) = read_whole(&path)?;
            let mut index = Index { kind: *kind, path, bytes, complaints: Vec::new() };
            match (content, kind) {
                (None, _) => index.complain(too_large()),
                (Some(content), Kind::Index) => all.offsets = offsets(&mut index, base, &content),
                (Some(content), Kind::TimeIndex) => all.times = times(&mut index, base, &content),
                (Some(content), _) => all.aborted = aborted(&mut index, &content),
            }
            all.files.push(index);
        }
        Ok(all)
    }

    fn complain(&mut self, kind: Kind, entry: usize, what: String) {
        let size = match kind {
            Kind::TimeIndex => TIME_ENTRY_BYTES,
            Kind::TxnIndex => ENTRY_BYTES as u64,
            _ => OFFSET_ENTRY_BYTES,
        };
        if let Some(index) = self.files.iter_mut().find(|index| index.kind == kind) {
            index.complain(complaint(entry as u64 * size, what));
        }
    }

    /// The next batch of the log.
    pub(super) fn meet(&mut self, header: &BatchHeader, position: u64) {
        let end = position.saturating_add(header.len as u64);
        while let Some(&(offset, at)) = self.offsets.get(self.offsets_at).filter(|(_, at)| *at < end) {
            if at != position {
                let what = format!("the entry of offset {offset} points to byte {at}, where no batch begins");
                self.complain(Kind::Index, self.offsets_at, what);
            } else if offset < header.base_offset {
                let what = format!(
                    "the entry of offset {offset} points to byte {at}, where the batch of {} begins",
                    header.base_offset
                );
                self.complain(Kind::Index, self.offsets_at, what);
            }
            self.offsets_at += 1;
        }
        while let Some(&time) = self.times.get(self.times_at).filter(|t| t.offset <= header.last_offset()) {
            if let Some(what) = self.time_wrong(time, header) {
                self.complain(Kind::TimeIndex, self.times_at, what);
            }
            self.times_at += 1;
        }
        self.latest = self.latest.max(header.max_timestamp_ms);
    }

    fn time_wrong(&self, time: MaxTimestamp, header: &BatchHeader) -> Option<String> {
        let MaxTimestamp { timestamp_ms, offset } = time;
        if offset < header.base_offset {
            Some(format!("the entry of time {timestamp_ms} names offset {offset}, which no batch holds"))
        } else if header.max_timestamp_ms != timestamp_ms {
            Some(format!(
                "the entry of offset {offset} has time {timestamp_ms}, its batch {}",
                header.max_timestamp_ms
            ))
        } else if self.latest > timestamp_ms {
            Some(format!(
                "the entry of offset {offset} has time {timestamp_ms}, a batch before it {}",
                self.latest
            ))
        } else {
            None
        }
    }

    /// The log has ended: its batches lie in `base..next`.
    pub(super) fn end(&mut self, base: Offset, next: Offset) {
        for n in self.offsets_at..self.offsets.len() {
            let (offset, at) = self.offsets[n];
            let what =
                format!("the entry of offset {offset} points to byte {at}, beyond the log's last batch");
            self.complain(Kind::Index, n, what);
        }
        for n in self.times_at..self.times.len() {
            let offset = self.times[n].offset;
            self.complain(
                Kind::TimeIndex,
                n,
                format!("offset {offset} is not in the log, which ends at {next}"),
            );
        }
        let late = self.offsets.iter().take(self.offsets_at).position(|(offset, _)| *offset >= next);
        if let Some(n) = late {
            let offset = self.offsets[n].0;
            self.complain(Kind::Index, n, format!("offset {offset} is not in the log, which ends at {next}"));
        }
        for n in 0..self.aborted.len() {
            let AbortedTxn { producer_id, last, .. } = self.aborted[n];
            if !(base..next).contains(&last) {
                let what = format!(
                    "the transaction of producer {producer_id} ends at {last}, outside of the segment's {base}..{next}"
                );
                self.complain(Kind::TxnIndex, n, what);
            }
        }
    }
}

impl Run<'_> {
    pub(super) fn tell_indexes(&mut self, indexes: &Indexes) -> io::Result<()> {
        for index in &indexes.files {
            self.tell(Item::File { path: &index.path, bytes: index.bytes })?;
            match index.kind {
                Kind::Index => {
                    self.tell(Item::Entries(indexes.offsets.len()))?;
                    for &(offset, position) in indexes.offsets.iter().filter(|_| self.options.entries) {
                        (self.each)(Item::IndexEntry { offset, position })?;
                    }
                }
                Kind::TimeIndex => {
                    self.tell(Item::Entries(indexes.times.len()))?;
                    for time in indexes.times.iter().filter(|_| self.options.entries) {
                        (self.each)(Item::TimeEntry(*time))?;
                    }
                }
                // Few, and each of them matters.
                _ => {
                    self.tell(Item::Entries(indexes.aborted.len()))?;
                    for aborted in &indexes.aborted {
                        self.tell(Item::Aborted(aborted))?;
                    }
                }
            }
            for complaint in &index.complaints {
                self.damage(&index.path, complaint)?;
            }
        }
        Ok(())
    }
}

/// Whole entries of a file without the zeros that follow them: brokers make the files of a segment that they write as
/// large as these may become.
fn entries<'c, const N: usize>(index: &mut Index, content: &'c [u8]) -> &'c [[u8; N]] {
    let (entries, rest) = content.as_chunks::<N>();
    if rest.iter().any(|b| *b != 0) {
        let position = (entries.len() * N) as u64;
        index.complain(complaint(position, format!("{} bytes are left over, an entry has {N}", rest.len())));
    }
    let used = entries.iter().rposition(|entry| entry.iter().any(|b| *b != 0)).map_or(0, |last| last + 1);
    &entries[..used]
}

fn offsets(index: &mut Index, base: Offset, content: &[u8]) -> Vec<(Offset, u64)> {
    let mut all: Vec<(Offset, u64)> = Vec::new();
    for (n, entry) in entries::<8>(index, content).iter().enumerate() {
        let [a, b, c, d, position @ ..] = *entry;
        let next = (absolute(base, [a, b, c, d]), u64::from(u32::from_be_bytes(position)));
        if let Some(last) = all.last().filter(|last| last.0 >= next.0 || last.1 >= next.1) {
            let what = format!("offset {} at byte {} comes after {} at {}", next.0, next.1, last.0, last.1);
            index.complain(complaint((n * entry.len()) as u64, what));
            // What follows cannot be searched.
            break;
        }
        all.push(next);
    }
    all
}

fn times(index: &mut Index, base: Offset, content: &[u8]) -> Vec<MaxTimestamp> {
    let mut all: Vec<MaxTimestamp> = Vec::new();
    for (n, entry) in entries::<12>(index, content).iter().enumerate() {
        let [time @ .., a, b, c, d] = *entry;
        let next =
            MaxTimestamp { timestamp_ms: i64::from_be_bytes(time), offset: absolute(base, [a, b, c, d]) };
        let falls = |last: &&MaxTimestamp| last.timestamp_ms > next.timestamp_ms || last.offset > next.offset;
        if let Some(last) = all.last().filter(falls) {
            let what = format!(
                "time {} of offset {} comes after {} of {}",
                next.timestamp_ms, next.offset, last.timestamp_ms, last.offset
            );
            index.complain(complaint((n * entry.len()) as u64, what));
            break;
        }
        all.push(next);
    }
    all
}

fn aborted(index: &mut Index, content: &[u8]) -> Vec<AbortedTxn> {
    let mut all: Vec<AbortedTxn> = Vec::new();
    for (n, entry) in content.chunks(ENTRY_BYTES).enumerate() {
        let position = (n * ENTRY_BYTES) as u64;
        let Some(next) = AbortedTxn::parse(entry) else {
            index.complain(complaint(position, "no entry of an aborted transaction"));
            break;
        };
        if next.first > next.last || all.last().is_some_and(|last| last.last >= next.last) {
            let what = format!("offsets {}..={} are out of order", next.first, next.last);
            index.complain(complaint(position, what));
            break;
        }
        all.push(next);
    }
    all
}

fn absolute(base: Offset, relative: [u8; 4]) -> Offset {
    Offset(base.get().saturating_add(i64::from(u32::from_be_bytes(relative))))
}
