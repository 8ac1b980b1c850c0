//! Values apart from the tree: written once, appended to files beside it, wherever their version moves to in the tree.
//!
//! ```text
//! <store>/values/<id, 8 hex digits>      entries, one after the other
//! entry     CRC-32C of the rest of this line 4 | key length 4 | record length 4 | key
//!           record: 1 | create 8 | mod 8 | version 8 | lease 8 | value       (as `mvcc::layout` has it for `o`)
//!
//! in the tree, in place of a record whose value is 128 bytes or more
//! k, o      0xff | 1 | create 8 | mod 8 | version 8 | lease 8
//!           | segment 4 | offset of the entry 4 | key length 4 | record length 4 | CRC-32C of the record 4
//! 0 segment <id 4>   live bytes 8 | bytes of entries 8                        the segments there are
//! ```
//! Entries are gathered in memory and written in large pieces. A durable commit of the tree follows the values it points to
//! onto the disk: all of ours are two-phase commits of redb, whose first sync comes before the commit can be found, and
//! that sync begins with [`Values::make_durable`] (see `backend`). What a segment has behind the end that the tree knows is
//! of commits that are lost, which the log makes again; it is cut off at the opening, and files that the tree does not
//! know are removed.
//!
//! What is live is counted in the same transactions that change it. A segment with nothing live leaves the tree, and its
//! file goes when that is durable; one that is mostly dead has the rest of its entries appended anew first (see
//! `reclaim`). A view holds the segments that it may read, so a file without a name is still read.

mod cursor;
mod reclaim;
mod record;
mod segment;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base::checksum::Crc32c;
use base::disk::Disk;
use mvcc::StateError;
use parking_lot::{Mutex, RwLock};

pub(crate) use cursor::{Cursor, Segments, read};
pub(crate) use record::{
    APART_MIN, HEAD_BYTES, Physical, Pointer, encode, is_versioned, parse, pointer_at, skipped,
};
use segment::{EntryHead, Segment};

use crate::Error;
use crate::backend::is_full;

/// A segment gets no more entries from this length on. Reclaiming one takes as long as reading so much; a state of 2 GiB,
/// the default quota, has some 60 open.
pub(crate) const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;

/// Keys of the tree that say what segments there are; the number follows.
pub(crate) const ROWS: &[u8] = b"\0segment";

/// What the tree says of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Row {
    /// Bytes of entries that something in the tree points to.
    pub live: u64,
    /// Bytes of all entries.
    pub end: u64,
}

impl Row {
    pub(crate) fn key(id: u32) -> Vec<u8> {
        [ROWS, &id.to_be_bytes()].concat()
    }

    pub(crate) fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.live.to_be_bytes());
        out[8..].copy_from_slice(&self.end.to_be_bytes());
        out
    }

    /// The segment and what is said of it.
    pub(crate) fn parse(key: &[u8], row: &[u8]) -> Option<(u32, Self)> {
        let id = key.strip_prefix(ROWS)?.try_into().ok().map(u32::from_be_bytes)?;
        let (live, end) = row.split_first_chunk::<8>()?;
        let end = end.try_into().ok().map(u64::from_be_bytes)?;
        Some((id, Self { live: u64::from_be_bytes(*live), end }))
    }
}

/// What a transaction does to the segments.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Bytes of entries that came to life, or ceased to be pointed to.
    live: BTreeMap<u32, i64>,
    /// Segments that leave the tree.
    dropped: BTreeSet<u32>,
    rows: Vec<(u32, Row)>,
}

impl Ledger {
    pub(crate) fn add(&mut self, pointer: &Pointer) {
        *self.live.entry(pointer.segment).or_default() += bytes_of(pointer).cast_signed();
    }

    pub(crate) fn remove(&mut self, pointer: &Pointer) {
        *self.live.entry(pointer.segment).or_default() -= bytes_of(pointer).cast_signed();
    }

    /// The segment has nothing live, and its row is gone.
    pub(crate) fn forget(&mut self, id: u32) {
        self.dropped.insert(id);
    }
}

/// Bytes of the entry that is pointed to.
fn bytes_of(pointer: &Pointer) -> u64 {
    EntryHead { crc: 0, key_len: pointer.key_len, record_len: pointer.record_len }.bytes()
}

/// The values of one state.
#[derive(Debug)]
pub(crate) struct Values {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: RwLock<Arc<Segments>>,
    inner: Mutex<Inner>,
    /// Bytes of all files.
    bytes: AtomicU64,
    /// The state is one that is opened again: files outlive this.
    kept: AtomicBool,
    segment_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where entries are appended.
    current: Option<Arc<Segment>>,
    /// The highest number there ever was.
    last_id: u32,
    /// As of the last commit.
    rows: BTreeMap<u32, Row>,
    /// What a sync must look at.
    unsynced: Vec<Arc<Segment>>,
    /// Bytes appended, ever, and how many of them are durable.
    appended: u64,
    synced: u64,
    /// Files made, ever, and how many of their names are durable.
    created: u64,
    created_synced: u64,
    /// A sync failed: what the disk holds is unknown.
    failed: Option<String>,
    /// Segments that left the state in a commit that is not in the tree yet ...
    dropped: Vec<Arc<Segment>>,
    /// ... or is on its way there, or there without being durable ...
    frozen: Vec<Arc<Segment>>,
    /// ... or in one of which the sync may still be under way.
    leaving: Vec<Arc<Segment>>,
    /// The segment whose entries are being moved, and how far that has come.
    victim: Option<(u32, u64)>,
    /// Segments that are left alone: damaged where nothing points to.
    spared: BTreeSet<u32>,
}

impl Inner {
    fn check(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |text| Err(io::Error::other(text.clone())))
    }
}

/// Numbers are given under this: two states may be made in one directory at once.
static NAMING: Mutex<()> = Mutex::new(());

impl Values {
    /// Those of a state in the directory `store` that has none yet.
    pub(crate) fn new(disk: &Arc<dyn Disk>, store: &Path) -> Self {
        Self {
            disk: disk.clone(),
            dir: store.join("values"),
            segments: RwLock::default(),
            inner: Mutex::default(),
            bytes: AtomicU64::new(0),
            kept: AtomicBool::new(false),
            segment_bytes: AtomicU64::new(SEGMENT_BYTES),
        }
    }

    /// Opens what the tree knows of.
    pub(crate) fn load(&self, rows: &[(u32, Row)]) -> Result<(), Error> {
        let mut segments = Segments::new();
        for (id, row) in rows {
            let path = self.path(*id);
            let file = self.disk.open(&path, false).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    Error::corrupt(&path, "values that the state points to are not there")
                }
                _ => Error::io(&path)(error),
            })?;
            let len = file.len().map_err(Error::io(&path))?;
            if len < row.end {
                let what = format!("has {len} bytes, but the state points to {} of them", row.end);
                return Err(Error::corrupt(&path, what));
            }
            if len > row.end {
                // Of commits that are lost.
                file.set_len(row.end).map_err(Error::io(&path))?;
            }
            segments.insert(*id, Arc::new(Segment::new(*id, path, file, row.end)));
        }
        let mut inner = self.inner.lock();
        inner.current = segments.last_key_value().map(|(_, segment)| segment.clone());
        inner.last_id = segments.last_key_value().map_or(0, |(id, _)| *id);
        inner.rows = rows.iter().copied().collect();
        self.bytes.store(rows.iter().map(|(_, row)| row.end).sum(), Ordering::Relaxed);
        *self.segments.write() = Arc::new(segments);
        Ok(())
    }

    /// Removes files that the tree does not know, of which no other state is being made.
    pub(crate) fn clean(&self) -> Result<(), Error> {
        if !self.disk.exists(&self.dir) {
            return Ok(());
        }
        let known = self.segments();
        for name in self.disk.list(&self.dir).map_err(Error::io(&self.dir))? {
            // Nobody else's.
            if number(&name).is_some_and(|id| !known.contains_key(&id)) {
                let path = self.dir.join(&name);
                self.disk.remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    fn path(&self, id: u32) -> PathBuf {
        self.dir.join(format!("{id:08x}"))
    }

    /// Whether files outlive this.
    pub(crate) fn keep(&self, kept: bool) {
        self.kept.store(kept, Ordering::Release);
    }

    /// The segments as they are now.
    pub(crate) fn segments(&self) -> Arc<Segments> {
        self.segments.read().clone()
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of entries that something points to.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.inner.lock().rows.values().map(|row| row.live).sum()
    }

    /// Appends the record of a key.
    pub(crate) fn append(&self, key: &[u8], record: &[&[u8]]) -> Result<Pointer, StateError> {
        let record_len = record.iter().map(|part| part.len()).sum::<usize>();
        let record_len =
            u32::try_from(record_len).map_err(|_| StateError::Io("a value is too large".to_owned()))?;
        let head = EntryHead::of(key, record_len);
        let mut crc = Crc32c::default();
        record.iter().for_each(|part| crc.update(part));
        let mut inner = self.inner.lock();
        let segment = self.room(&mut inner, head.bytes())?;
        let encoded = head.encode();
        let mut parts = Vec::with_capacity(2 + record.len());
        parts.extend([&encoded[..], key]);
        parts.extend(record);
        let offset = segment.append(&parts).map_err(|error| failed(&segment.path, &error))?;
        inner.appended += head.bytes();
        if !inner.unsynced.iter().any(|other| other.id == segment.id) {
            inner.unsynced.push(segment.clone());
        }
        self.bytes.fetch_add(head.bytes(), Ordering::Relaxed);
        let offset =
            u32::try_from(offset).map_err(|_| StateError::Io("a segment of values is full".to_owned()))?;
        Ok(Pointer { segment: segment.id, offset, key_len: head.key_len, record_len, crc: crc.finish() })
    }

    /// The segment that has room for an entry.
    fn room(&self, inner: &mut Inner, bytes: u64) -> Result<Arc<Segment>, StateError> {
        let current = inner.current.clone();
        if let Some(segment) = &current {
            let end = segment.end();
            if end == 0 || end + bytes <= self.segment_bytes.load(Ordering::Relaxed) {
                return Ok(segment.clone());
            }
        }
        match (self.create(inner), current) {
            (Ok(segment), _) => Ok(segment),
            // A file that is there already is as good until there is space.
            (Err(error), Some(segment)) if is_full(&error) => Ok(segment),
            (Err(error), _) => Err(failed(&self.dir, &error)),
        }
    }

    fn create(&self, inner: &mut Inner) -> io::Result<Arc<Segment>> {
        let segment = {
            let _naming = NAMING.lock();
            self.disk.create_dir_all(&self.dir)?;
            let names = self.disk.list(&self.dir)?;
            let taken = names.iter().filter_map(|name| number(name)).max().unwrap_or_default();
            let id = taken.max(inner.last_id) + 1;
            let path = self.path(id);
            let file = self.disk.open(&path, true)?;
            inner.last_id = id;
            Arc::new(Segment::new(id, path, file, 0))
        };
        inner.created += 1;
        inner.current = Some(segment.clone());
        Arc::make_mut(&mut *self.segments.write()).insert(segment.id, segment.clone());
        Ok(segment)
    }

    /// What the tree is to say of the segments once the transaction of this ledger is committed.
    pub(crate) fn rows(&self, ledger: &mut Ledger) -> Result<Vec<(u32, Row)>, StateError> {
        let (inner, segments) = (self.inner.lock(), self.segments());
        let mut rows = Vec::new();
        for (id, delta) in ledger.live.iter().filter(|(id, _)| !ledger.dropped.contains(id)) {
            let row = inner.rows.get(id).copied().unwrap_or_default();
            let end = segments.get(id).map_or(row.end, |segment| segment.end());
            // What is dead only is removed: the count must be right.
            let live = row.live.checked_add_signed(*delta).filter(|live| *live <= end);
            let live = live.ok_or_else(|| {
                StateError::Corrupt(format!("segment {id:08x} of values has {row:?} and {delta} bytes more"))
            })?;
            rows.push((*id, Row { live, end }));
        }
        ledger.rows.clone_from(&rows);
        Ok(rows)
    }

    /// The transaction of this ledger is committed.
    pub(crate) fn committed(&self, ledger: Ledger) {
        if ledger.rows.is_empty() && ledger.dropped.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        inner.rows.extend(ledger.rows);
        if !ledger.dropped.is_empty() {
            let mut segments = self.segments.write();
            let segments = Arc::make_mut(&mut *segments);
            for id in ledger.dropped {
                inner.rows.remove(&id);
                inner.unsynced.retain(|segment| segment.id != id);
                inner.dropped.extend(segments.remove(&id));
            }
        }
    }

    /// What is committed so far is on its way into the tree.
    pub(crate) fn freeze(&self) {
        let mut inner = self.inner.lock();
        let gone = std::mem::take(&mut inner.dropped);
        inner.frozen.extend(gone);
    }

    /// It is there.
    pub(crate) fn carried(&self, durable: bool) {
        if durable {
            let mut inner = self.inner.lock();
            let gone = std::mem::take(&mut inner.frozen);
            inner.leaving.extend(gone);
        }
    }

    /// Segments whose files may go when a durable commit has been made.
    pub(crate) fn has_dropped(&self) -> bool {
        let inner = self.inner.lock();
        !inner.dropped.is_empty() || !inner.frozen.is_empty()
    }

    /// Segments that may go now that every durable commit so far is on the disk.
    pub(crate) fn take_leaving(&self) -> Vec<Arc<Segment>> {
        std::mem::take(&mut self.inner.lock().leaving)
    }

    /// Removes files.
    pub(crate) fn remove(&self, leaving: &[Arc<Segment>]) {
        for segment in leaving {
            if let Err(error) = self.disk.remove_file(&segment.path) {
                // The next start removes it.
                tracing::debug!(%error, path = %segment.path.display(), "values that are not needed stay");
            }
            self.bytes.fetch_sub(segment.end(), Ordering::Relaxed);
        }
    }

    /// Another state has taken this one's place.
    pub(crate) fn abandon(&self) {
        let mut leaving: Vec<_> = self.segments().values().cloned().collect();
        let mut inner = self.inner.lock();
        leaving.append(&mut inner.dropped);
        leaving.append(&mut inner.frozen);
        leaving.append(&mut inner.leaving);
        drop(inner);
        self.remove(&leaving);
    }

    /// Whether all that was appended is durable.
    fn is_durable(inner: &Inner) -> bool {
        inner.synced == inner.appended && inner.created_synced == inner.created
    }

    /// Makes all that was appended durable. `again` says whether to try a write that failed once more.
    ///
    /// # Errors
    /// When the disk refuses; a sync that failed fails for ever.
    pub(crate) fn make_durable(&self, again: impl Fn(&io::Error) -> bool) -> io::Result<()> {
        let (unsynced, appended, created, names) = {
            let inner = self.inner.lock();
            inner.check()?;
            if Self::is_durable(&inner) {
                return Ok(());
            }
            let names = inner.created_synced != inner.created;
            (inner.unsynced.clone(), inner.appended, inner.created, names)
        };
        let mut ends = Vec::with_capacity(unsynced.len());
        for segment in &unsynced {
            while let Err(error) = segment.flush() {
                if !again(&error) {
                    return Err(error);
                }
            }
            ends.push((segment.id, segment.written()));
        }
        let synced = self.sync(&unsynced, names);
        let mut inner = self.inner.lock();
        if let Err(error) = synced {
            inner.failed = Some(error.to_string());
            return Err(error);
        }
        (inner.synced, inner.created_synced) = (appended, created);
        // Where nothing was appended meanwhile, no later sync need look.
        inner.unsynced.retain(|segment| !ends.contains(&(segment.id, segment.end())));
        Ok(())
    }

    fn sync(&self, unsynced: &[Arc<Segment>], names: bool) -> io::Result<()> {
        unsynced.iter().try_for_each(|segment| segment.sync())?;
        if names {
            self.disk.sync_dir(&self.dir)?;
            // The directory's own name.
            self.dir.parent().map_or(Ok(()), |store| self.disk.sync_dir(store))?;
        }
        Ok(())
    }

    /// Notes that a sync of the state, or of its values, failed: the next start is not to believe what it reads.
    pub(crate) fn note_doubt(&self) {
        if let Some(store) = self.dir.parent() {
            crate::doubt::note(&*self.disk, store);
        }
    }

    /// How long segments get.
    pub(crate) fn set_segment_bytes(&self, bytes: u64) {
        self.segment_bytes.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            self.abandon();
        }
    }
}

/// The number in a file's name.
fn number(name: &str) -> Option<u32> {
    (name.len() == 8).then(|| u32::from_str_radix(name, 16).ok()).flatten()
}

fn failed(path: &Path, error: &io::Error) -> StateError {
    StateError::Io(format!("{}: {error}", path.display()))
}
