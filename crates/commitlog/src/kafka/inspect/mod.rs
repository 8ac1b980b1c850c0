//! Reads a broker's files as strangers' and says what is in them and what is wrong, without changing anything.
//!
//! ```text
//! inspect(path) ─▶ directory of partitions ─▶ partition ─▶ segment: log, indexes checked against it ─┐
//!                  one file ────────────────────────────────────────────────────────────────────────┤
//!                                                                  Item ◀── one after the other ─────┘
//! ```
//! Indexes are read before their log, so that those of a partition that is being written are never ahead of it.

mod indexes;
mod segment;
mod small;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base::disk::RealDisk;
use kafka_wire::record::Record;

use crate::Offset;
use crate::index::{MaxTimestamp, file_name};
use crate::kafka::{
    AbortedTxn, ActiveProducer, BatchHeader, EndTxnMarker, EpochEntry, checkpoints, directory,
};

/// Largest of the files that are read whole (indexes, snapshots, checkpoints): many times what a broker makes of them.
const WHOLE_FILE_BYTES_MAX: u64 = 256 << 20;
/// Digits of a base offset in a file's name.
const NAME_DIGITS: usize = 20;

/// What to tell besides batches and damage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Every record; a batch whose records do not parse is damage then.
    pub records: bool,
    /// Every entry of the indexes, not their number alone. Those of an index that was named alone are told always.
    pub entries: bool,
    /// Gaps between offsets are no damage. Not needed where `cleaner-offset-checkpoint` names the partition.
    pub compacted: bool,
}

/// Something that was found.
#[derive(Debug)]
pub enum Item<'a> {
    /// A partition's directory; its files follow.
    Partition { dir: &'a Path, topic: &'a str, partition: i32 },
    /// A file; what is in it follows.
    File { path: &'a Path, bytes: u64 },
    /// A batch at a byte of a log. `marker` is what a control batch of a transaction says.
    Batch { header: &'a BatchHeader, position: u64, crc_ok: bool, marker: Option<EndTxnMarker> },
    /// A record of the last batch.
    Record(&'a Record<'a>),
    /// Offsets that compaction took away: from the first, up to the second.
    Gap { from: Offset, to: Offset },
    /// A log ends: what was in it and the offset after the last.
    LogEnd { batches: u64, next: Option<Offset>, zero_bytes: u64 },
    /// How many entries an index holds.
    Entries(usize),
    /// An entry of an offset index.
    IndexEntry { offset: Offset, position: u64 },
    /// An entry of a time index.
    TimeEntry(MaxTimestamp),
    /// An entry of a transaction index.
    Aborted(&'a AbortedTxn),
    /// A producer of a snapshot.
    Producer(&'a ActiveProducer),
    /// An entry of `leader-epoch-checkpoint`.
    Epoch(&'a EpochEntry),
    /// An entry of a checkpoint of offsets.
    Checkpoint { topic: &'a str, partition: i32, offset: Offset },
    /// `partition.metadata` or `meta.properties`: a name and its value.
    Property { name: &'a str, value: &'a str },
    /// Something is wrong at a byte of a file.
    Damage { path: &'a Path, position: u64, what: &'a str },
}

/// Who is told; an error ends the inspection.
pub type Each<'a> = &'a mut dyn FnMut(Item<'_>) -> io::Result<()>;

/// Reads a partition's directory, a directory of partitions or one file of either. Returns in how many places there is
/// damage.
///
/// # Errors
/// The disk's, those of `each`, and `InvalidInput` for what is no file of a broker.
pub fn inspect(path: &Path, options: Options, each: Each<'_>) -> io::Result<u64> {
    let mut run = Run { options, each, damaged: 0, quiet: false };
    if fs::metadata(path).map_err(|e| at(path, &e))?.is_dir() {
        run.directory(path)?;
    } else {
        run.options.entries = true;
        run.file(path)?;
    }
    Ok(run.damaged)
}

/// Kinds of a segment's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Index,
    TimeIndex,
    TxnIndex,
    Snapshot,
}

/// What is wrong at a byte of a file.
#[derive(Debug)]
struct Complaint {
    position: u64,
    what: String,
}

fn complaint(position: u64, what: impl Into<String>) -> Complaint {
    Complaint { position, what: what.into() }
}

/// One inspection.
struct Run<'a> {
    options: Options,
    each: Each<'a>,
    damaged: u64,
    /// Nothing is told while a log is read only to check an index.
    quiet: bool,
}

impl Run<'_> {
    fn tell(&mut self, item: Item<'_>) -> io::Result<()> {
        if self.quiet { Ok(()) } else { (self.each)(item) }
    }

    fn damage(&mut self, path: &Path, complaint: &Complaint) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        self.damaged += 1;
        (self.each)(Item::Damage { path, position: complaint.position, what: &complaint.what })
    }

    fn directory(&mut self, dir: &Path) -> io::Result<()> {
        let names = names(dir)?;
        if is_partition(&names) {
            return self.partition(dir, &names);
        }
        let inner = dir.join("kafka");
        let partitions: Vec<_> =
            names.iter().filter(|n| directory::parse_partition_dir(n).is_some()).collect();
        let own: Vec<_> = names.iter().filter(|n| small::is_of_directory(n)).collect();
        if partitions.is_empty() && own.is_empty() {
            // The directory that `ketch up` was given holds the broker's.
            if inner.is_dir() {
                return self.directory(&inner);
            }
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} holds no files of a broker", dir.display()),
            ));
        }
        for name in own {
            self.listed(&dir.join(name), Self::small)?;
        }
        for partition in partitions {
            let path = dir.join(partition);
            if path.is_dir() {
                let names = self::names(&path)?;
                self.partition(&path, &names)?;
            }
        }
        Ok(())
    }

    fn partition(&mut self, dir: &Path, names: &[String]) -> io::Result<()> {
        let own = dir_name(dir);
        let (topic, partition) = directory::parse_partition_dir(&own).unwrap_or((own.as_str(), -1));
        self.tell(Item::Partition { dir, topic, partition })?;
        for name in names.iter().filter(|name| small::is_of_partition(name)) {
            self.listed(&dir.join(name), Self::small)?;
        }
        let mut course = segment::Course::new(self.options.compacted || is_compacted(dir));
        for base in bases(names, Kind::Log) {
            self.listed(&file_name(dir, base, "log"), |run, path| run.segment(path, base, &mut course))?;
        }
        for base in bases(names, Kind::Snapshot) {
            self.listed(&file_name(dir, base, "snapshot"), |run, path| run.snapshot(path, base))?;
        }
        Ok(())
    }

    /// A file that was listed may be gone by now: retention and compaction go on.
    fn listed(
        &mut self,
        path: &Path,
        read: impl FnOnce(&mut Self, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        if path.is_file() { read(self, path) } else { Ok(()) }
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let name = dir_name(path);
        let known = segment_file(&name);
        let regular = fs::metadata(path).map_err(|e| at(path, &e))?.is_file();
        if !regular || (known.is_none() && !small::is_of_partition(&name) && !small::is_of_directory(&name)) {
            let text = format!("{} is no file that a broker keeps", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let dir = path.parent().unwrap_or(Path::new(""));
        match known {
            None => self.small(path),
            Some((base, Kind::Log)) => {
                let compacted = self.options.compacted || is_compacted(dir);
                self.log(path, base, &mut segment::Course::new(compacted), &mut indexes::Indexes::default())
            }
            Some((base, Kind::Snapshot)) => self.snapshot(path, base),
            Some((base, kind)) => self.index_alone(dir, base, kind),
        }
    }

    fn small(&mut self, path: &Path) -> io::Result<()> {
        let Some(content) = self.whole(path)? else { return Ok(()) };
        let complaints = small::read(path, &content, &mut |item| self.tell(item))?;
        complaints.iter().try_for_each(|complaint| self.damage(path, complaint))
    }

    fn snapshot(&mut self, path: &Path, offset: Offset) -> io::Result<()> {
        let Some(content) = self.whole(path)? else { return Ok(()) };
        let complaints = small::snapshot(&content, offset, &mut |item| self.tell(item))?;
        complaints.iter().try_for_each(|complaint| self.damage(path, complaint))
    }

    /// Announces a file and reads all of it; one that is too large to be what its name says is damage.
    fn whole(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let (bytes, content) = read_whole(path)?;
        self.tell(Item::File { path, bytes })?;
        if content.is_none() {
            self.damage(path, &too_large())?;
        }
        Ok(content)
    }
}

fn too_large() -> Complaint {
    complaint(WHOLE_FILE_BYTES_MAX, "larger than such a file ever gets; not read")
}

/// Length and content of a file, None when it is too large.
fn read_whole(path: &Path) -> io::Result<(u64, Option<Vec<u8>>)> {
    use std::io::Read;
    let file = fs::File::open(path).map_err(|e| at(path, &e))?;
    let mut content = Vec::new();
    file.take(WHOLE_FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(|e| at(path, &e))?;
    if content.len() as u64 > WHOLE_FILE_BYTES_MAX {
        return Ok((fs::metadata(path).map_err(|e| at(path, &e))?.len(), None));
    }
    Ok((content.len() as u64, Some(content)))
}

/// Names of a directory's entries, sorted.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    use base::disk::Disk;
    RealDisk.list(dir).map_err(|e| at(dir, &e))
}

fn is_partition(names: &[String]) -> bool {
    names.iter().any(|n| small::is_of_partition(n) || matches!(segment_file(n), Some((_, Kind::Log))))
}

/// Offsets in the names of the files of a kind, ascending as the names are.
fn bases(names: &[String], kind: Kind) -> Vec<Offset> {
    names
        .iter()
        .filter_map(|name| segment_file(name))
        .filter(|(_, k)| *k == kind)
        .map(|(base, _)| base)
        .collect()
}

/// Offset and kind of `<20 digits>.<extension>`.
fn segment_file(name: &str) -> Option<(Offset, Kind)> {
    let (digits, extension) = name.split_once('.')?;
    let kind = match extension {
        "log" => Kind::Log,
        "index" => Kind::Index,
        "timeindex" => Kind::TimeIndex,
        "txnindex" => Kind::TxnIndex,
        "snapshot" => Kind::Snapshot,
        _ => return None,
    };
    let plain = digits.len() == NAME_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    Some((Offset(plain.then(|| digits.parse().ok()).flatten()?), kind))
}

/// Whether the broker has compacted this partition: then its offsets may have gaps.
fn is_compacted(dir: &Path) -> bool {
    // Of a relative path such as `.` neither name nor parent can be seen.
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let name = dir_name(&dir);
    let Some((topic, partition)) = directory::parse_partition_dir(&name) else { return false };
    let Some(parent) = dir.parent() else { return false };
    let path = parent.join(checkpoints::CLEANER);
    path.is_file() && checkpoints::read(&RealDisk, &path).contains_key(&(topic.to_owned(), partition))
}

/// The last part of a path, also of `.`.
fn dir_name(path: &Path) -> String {
    let named = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let whole = || fs::canonicalize(path).ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
    named.or_else(whole).unwrap_or_default()
}

/// An error with the file that it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The path of a segment's other file.
fn beside(dir: &Path, base: Offset, kind: Kind) -> PathBuf {
    let extension = match kind {
        Kind::Log => "log",
        Kind::Index => "index",
        Kind::TimeIndex => "timeindex",
        Kind::TxnIndex => "txnindex",
        Kind::Snapshot => "snapshot",
    };
    file_name(dir, base, extension)
}
