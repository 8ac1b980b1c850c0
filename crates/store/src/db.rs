//! The applied state in redb: mvcc's map in one table, and the applied index beside it in the same transaction.
//!
//! Key `0x00 "applied"` holds index 8 | term 8 | node 8, big-endian (a state of the first release has no node: 1), and
//! `0x00 "members"` who the members are, where there are several; `0x00 "segment"` what files of values there are (see
//! `values`), which is how a state is stored and not part of it; every other key is `mvcc::layout`'s.

mod layer;
mod stack;
mod transaction;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base::disk::{Disk, DiskFile};
use bytes::Bytes;
use mvcc::{Reader, State as _, StateError};
use parking_lot::{Mutex, RwLock};
use redb::{
    Builder, Database, ReadableDatabase, ReadableTableMetadata as _, StorageError, TableDefinition,
    TableError,
};
use stack::Live;
pub(crate) use transaction::{Change, Current, View};

use crate::backend::{Backend, Spill};
use crate::replicator::NODE;
use crate::stats::Stats;
use crate::values::{ROWS, Row, Values};
use crate::{Error, LogIndex, Options, doubt};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("state");
/// Keys and values are bytes.
type Raw = &'static [u8];
const APPLIED: &[u8] = b"\0applied";
/// Who the members are, where there are several.
pub(crate) const MEMBERS: &[u8] = b"\0members";
/// What `stat` counts in.
const STAT_BLOCK_BYTES: u64 = 512;
/// A count of the bytes in use serves so long, and so many times what it took: at most a hundredth of the time.
const USED_EVERY: Duration = Duration::from_secs(10);
const USED_SHARE: u32 = 100;
/// Bytes copied in one transaction.
const COPY_BYTES: usize = 8 * 1024 * 1024;
/// No record's key begins with this.
const COPY_END: &[u8] = &[0xff];

/// The last entry the state has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AppliedIndex {
    pub index: LogIndex,
    pub term: u64,
    /// The leader that made the entry.
    pub node: u64,
}

/// The state.
pub(crate) struct Db {
    live: RwLock<Arc<Live>>,
    file: Mutex<Arc<dyn DiskFile>>,
    /// Held by whoever writes, so that a write never goes to a database that is being replaced.
    writing: Mutex<()>,
    home: OnceLock<Home>,
    used: Mutex<Option<Used>>,
    /// Bytes of the file after the last commit: what writes are measured by, without a look at the disk for each.
    bytes: AtomicU64,
    pub stats: Arc<Stats>,
}

/// What a running member's state was opened with.
struct Home {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    cache_bytes: usize,
    quota_bytes: Option<u64>,
    value_segment_bytes: u64,
}

/// How much of the file was in use when it was last counted.
#[derive(Clone, Copy)]
struct Used {
    bytes: u64,
    at: Instant,
    took: Duration,
}

impl Db {
    /// Opens the state, making an empty one under another name first, so that a crash leaves none or a whole one.
    pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let (path, fresh) = (dir.join("state.redb"), dir.join("state.redb.new"));
        if disk.exists(&fresh) {
            disk.remove_file(&fresh).map_err(Error::io(&fresh))?;
        }
        if disk.exists(&path) {
            let doubted = doubt::settle(disk, dir)?;
            let db = Self::open_checked(disk, &path, cache_bytes, doubted)?;
            db.settle_values()?;
            if doubted {
                doubt::forget(&**disk, dir)?;
            }
            return Ok(db);
        }
        let db = Self::open_file(disk, &fresh, cache_bytes)?;
        db.settle_values()?;
        db.update(true, |_| Ok(())).map_err(|e| Error::corrupt(&fresh, e))?;
        disk.rename(&fresh, &path).map_err(Error::io(&path))?;
        disk.sync_dir(dir).map_err(Error::io(dir))?;
        Ok(db)
    }

    fn open_file(disk: &Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_checked(disk, path, cache_bytes, false)
    }

    /// The same; with `check` all pages are read, and must be what was written.
    fn open_checked(
        disk: &Arc<dyn Disk>,
        path: &Path,
        cache_bytes: usize,
        check: bool,
    ) -> Result<Self, Error> {
        let file = disk.open(path, true).map_err(Error::io(path))?;
        let spill = Arc::new(Spill::default());
        let values = Arc::new(Values::new(disk, path.parent().unwrap_or(path)));
        let backend = Backend::new(file.clone(), spill.clone(), values.clone());
        let opened = Builder::new().set_cache_size(cache_bytes).create_with_backend(backend);
        let mut database = opened.map_err(|e| Error::corrupt(path, e))?;
        if check && !database.check_integrity().map_err(|e| Error::corrupt(path, e))? {
            tracing::warn!("the state was mended: it goes on from an earlier commit");
        }
        let rows = rows(&database).map_err(|e| Error::corrupt(path, e))?;
        if let Err(error) = values.load(&rows) {
            // Nothing of what cannot be opened is removed.
            values.keep(true);
            return Err(error);
        }
        let live = Live::new(database, values, spill).map_err(|e| Error::corrupt(path, e))?;
        Ok(Self {
            live: RwLock::new(Arc::new(live)),
            file: Mutex::new(file),
            writing: Mutex::default(),
            stats: Arc::default(),
            home: OnceLock::new(),
            used: Mutex::default(),
            bytes: AtomicU64::new(0),
        })
    }

    /// The files of values are this state's and nobody else's: what it does not know is a leftover.
    fn settle_values(&self) -> Result<(), Error> {
        let values = self.values();
        values.keep(true);
        values.clean()
    }

    pub(crate) fn values(&self) -> Arc<Values> {
        self.live.read().values.clone()
    }

    fn live(&self) -> Arc<Live> {
        self.live.read().clone()
    }

    /// Tells a running member's state what it was opened with; once.
    pub(crate) fn settle(&self, options: &Options) {
        self.home.get_or_init(|| Home {
            disk: options.disk.clone(),
            dir: options.dir.clone(),
            cache_bytes: options.cache_bytes,
            quota_bytes: options.quota_bytes,
            value_segment_bytes: options.value_segment_bytes,
        });
        self.run();
    }

    /// The file is that of a running member from now on.
    fn run(&self) {
        // A simulated disk has its own time.
        if self.file.lock().fd().is_some() {
            self.live().spill.make_lazy(&self.stats);
        }
        if let Some(home) = self.home.get() {
            self.values().set_segment_bytes(home.value_segment_bytes);
        }
        self.bytes.store(self.file_bytes(), Ordering::Relaxed);
    }

    /// Whether what was committed durably is on the disk: in a running member that goes on when the commit is done.
    ///
    /// # Errors
    /// When a layer was not carried into the tree, or the tree not synced: what the disk holds is unknown.
    pub(crate) fn is_synced(&self) -> Result<bool, StateError> {
        let live = self.live();
        Ok(!live.is_carrying()?
            && live.spill.is_synced().map_err(|error| StateError::Io(error.to_string()))?)
    }

    /// Waits until what was committed durably is on the disk.
    ///
    /// # Errors
    /// As [`Db::is_synced`].
    pub(crate) fn wait_synced(&self) -> Result<(), StateError> {
        let live = self.live();
        live.rest()?;
        live.spill.wait().map_err(|error| StateError::Io(error.to_string()))
    }

    /// How long the last durable commit took behind everybody's back.
    pub(crate) fn sync_took(&self) -> Duration {
        let live = self.live();
        live.carry_took() + live.spill.sync_took()
    }

    /// Bytes the file may have; None without a bound.
    pub(crate) fn quota_bytes(&self) -> Option<u64> {
        self.home.get().and_then(|home| home.quota_bytes)
    }

    /// A consistent view; ShuttingDown once closed.
    pub(crate) fn view(&self) -> Result<View, store_api::Error> {
        self.live().view()
    }

    /// Runs `change` in a transaction and commits it; a durable commit makes all earlier ones durable too, unless the
    /// member runs: see [`Db::wait_synced`].
    pub(crate) fn update<R>(
        &self,
        durable: bool,
        change: impl FnOnce(&mut Change<'_>) -> Result<R, StateError>,
    ) -> Result<R, StateError> {
        let _writing = self.writing.lock();
        let live = self.live();
        live.is_carrying()?;
        let mut state = Change::new(live.stack()?, &live.values);
        let result = change(&mut state)?;
        let (batch, ledger) = state.finish()?;
        live.publish(batch, ledger);
        if durable {
            live.carry_now()?;
            self.count_commit(&live);
        } else {
            live.relieve()?;
        }
        self.bytes.store(self.file_bytes(), Ordering::Relaxed);
        Ok(result)
    }

    /// Begins to make all commits so far durable, see [`Db::is_synced`]. False when it cannot begin yet.
    ///
    /// # Errors
    /// As [`Db::is_synced`].
    pub(crate) fn begin_durable(&self) -> Result<bool, StateError> {
        let _writing = self.writing.lock();
        let live = self.live();
        let begun = live.begin_carry(true)?;
        if begun {
            self.count_commit(&live);
        }
        Ok(begun)
    }

    /// A durable commit is done; one that a thread syncs is counted there, when it is on the disk.
    fn count_commit(&self, live: &Live) {
        if !live.spill.is_lazy() {
            self.stats.commits.observe(live.carry_took());
        }
    }

    /// Whether changes are on their way into the tree; a failure is told by others.
    pub(crate) fn is_carrying(&self) -> bool {
        self.live().is_carrying().unwrap_or(false)
    }

    /// Whether something can be done for space in the values; see [`Change::reclaim`].
    pub(crate) fn wants_reclaim(&self) -> bool {
        self.values().wants_reclaim()
    }

    /// Whether a durable commit would set space free.
    pub(crate) fn would_free(&self) -> bool {
        self.values().has_dropped()
    }

    /// Bytes the files take on the disk (redb makes its longer than that, with holes), with what is on its way there; 0 when
    /// the disk does not say.
    pub(crate) fn file_bytes(&self) -> u64 {
        let file = self.file.lock().clone();
        let len = file.len().unwrap_or(0);
        let stat = file.fd().and_then(|fd| nix::sys::stat::fstat(fd).ok());
        let tree = stat.map_or(len, |stat| len.min(stat.st_blocks.unsigned_abs() * STAT_BLOCK_BYTES));
        let live = self.live();
        tree + live.values.bytes() + live.layer_bytes() as u64
    }

    /// [`Db::file_bytes`] after the last commit.
    pub(crate) fn committed_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the files that hold something, with what is on its way there; the files are counted anew when the last count
    /// is old. Reads all pages then.
    pub(crate) fn used_bytes(&self) -> Result<u64, store_api::Error> {
        let on_its_way = self.live().layer_bytes() as u64;
        let mut used = self.used.lock();
        let fresh = |used: &Used| used.at.elapsed() < USED_EVERY.max(used.took * USED_SHARE);
        if let Some(used) = used.filter(fresh) {
            return Ok(used.bytes + on_its_way);
        }
        let began = Instant::now();
        let stats = self.view()?.stack.table()?.stats().map_err(storage)?;
        let tree = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        let bytes = tree + self.values().live_bytes();
        *used = Some(Used { bytes, at: Instant::now(), took: began.elapsed() });
        Ok(bytes + on_its_way)
    }

    /// Writes the state anew into a file that is as small as it can be, and goes on with that. Writes wait meanwhile;
    /// reads go on.
    pub(crate) fn rewrite(&self) -> Result<(), Error> {
        let Some(home) = self.home.get() else { return Ok(()) };
        let path = home.dir.join("state.redb.new");
        let _writing = self.writing.lock();
        let fresh = Self::receive(&home.disk, &path, home.cache_bytes)?;
        let copied = self
            .view()
            .map_err(|e| e.to_string())
            .and_then(|view| copy(&view, &fresh).map_err(|e| e.to_string()));
        let compacted = copied.and_then(|()| fresh.live().squeeze());
        if let Err(error) = compacted {
            fresh.close();
            // The next attempt and the next start remove it, too.
            let _ = home.disk.remove_file(&path);
            return Err(Error::corrupt(&path, error));
        }
        self.swap(&*home.disk, &home.dir, &path, fresh)?;
        self.used.lock().take();
        Ok(())
    }

    /// Lets a sync that waits for space fail.
    pub(crate) fn give_up(&self) {
        self.live().spill.give_up();
    }

    /// An empty state under a name of its own, for a snapshot to be received into.
    /// Its values are removed when it is dropped before it [replaces](Db::replace) another.
    pub(crate) fn receive(disk: &Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        if disk.exists(path) {
            disk.remove_file(path).map_err(Error::io(path))?;
        }
        Self::open_file(disk, path, cache_bytes)
    }

    /// Goes on with another, durable state, whose file takes this one's name. Views of the old one stay as they are.
    pub(crate) fn replace(&self, disk: &dyn Disk, dir: &Path, from: &Path, with: Self) -> Result<(), Error> {
        let _writing = self.writing.lock();
        self.swap(disk, dir, from, with)
    }

    fn swap(&self, disk: &dyn Disk, dir: &Path, from: &Path, with: Self) -> Result<(), Error> {
        let path = dir.join("state.redb");
        // A layer that is not carried is not needed any more.
        let _ = self.live().rest();
        let values = with.values();
        // Its files are named from the moment the tree has the name.
        values.keep(true);
        if let Err(error) = disk.rename(from, &path) {
            values.keep(false);
            return Err(Error::io(&path)(error));
        }
        disk.sync_dir(dir).map_err(Error::io(dir))?;
        let before = std::mem::replace(&mut *self.live.write(), with.live.into_inner());
        *self.file.lock() = with.file.into_inner();
        // Who reads it goes on.
        before.values.abandon();
        drop(before);
        if self.home.get().is_some() {
            self.run();
        }
        Ok(())
    }

    /// Closes the files, also when handles on this remain.
    pub(crate) fn close(&self) {
        self.live().close();
    }
}

/// What the tree says of the files of values.
fn rows(database: &Database) -> Result<Vec<(u32, Row)>, StateError> {
    let transaction = database.begin_read().map_err(io)?;
    let table = match transaction.open_table(TABLE) {
        // A state that is just being made.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(io)?,
    };
    let mut rows = Vec::new();
    for entry in table.range::<&[u8]>(ROWS..).map_err(storage)? {
        let (key, row) = entry.map_err(storage)?;
        if !key.value().starts_with(ROWS) {
            break;
        }
        let wrong = || StateError::Corrupt("what segments of values there are cannot be read".to_owned());
        rows.push(Row::parse(key.value(), row.value()).ok_or_else(wrong)?);
    }
    Ok(rows)
}

/// Copies all records, in order.
fn copy(from: &View, to: &Db) -> Result<(), StateError> {
    let mut step: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let write = |step: &mut Vec<(Vec<u8>, Vec<u8>)>| {
        to.update(true, |state| step.drain(..).try_for_each(|(key, value)| state.put(&key, &[&value])))
    };
    from.scan(&[], COPY_END, false, &mut |key, stored| {
        let value = stored.whole()?;
        step.push((key.to_vec(), value.to_vec()));
        bytes += key.len() + value.len();
        if bytes >= COPY_BYTES {
            bytes = 0;
            write(&mut step)?;
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    write(&mut step)
}

fn io(error: impl Into<redb::Error>) -> StateError {
    match error.into() {
        redb::Error::Corrupted(text) => StateError::Corrupt(text),
        other => StateError::Io(other.to_string()),
    }
}

fn storage(error: StorageError) -> StateError {
    io(error)
}

/// The last entry applied; zeros in an empty state.
pub(crate) fn applied(state: &impl Reader) -> Result<AppliedIndex, StateError> {
    let Some(record) = state.get(APPLIED)? else { return Ok(AppliedIndex::default()) };
    let (index, term) = record.split_first_chunk::<8>().ok_or_else(|| not_applied(&record))?;
    let (term, node) = term.split_first_chunk::<8>().ok_or_else(|| not_applied(&record))?;
    let node = node.first_chunk::<8>().map_or(NODE, |node| u64::from_be_bytes(*node));
    Ok(AppliedIndex { index: LogIndex(i64::from_be_bytes(*index)), term: u64::from_be_bytes(*term), node })
}

/// Who the members are, as last applied.
pub(crate) fn members(state: &impl Reader) -> Result<Option<Bytes>, StateError> {
    state.get(MEMBERS)
}

fn not_applied(record: &[u8]) -> StateError {
    StateError::Corrupt(format!("not an applied index: {}", record.escape_ascii()))
}
