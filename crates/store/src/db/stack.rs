//! What a state is read from, the newest first, and how changes get from memory into the tree.
//!
//! ```text
//! commit ─▶ active layer ── frozen layer ── tree
//!                    └─ freeze ─┘    └─ carry ─┘   a thread's, in a running member; meanwhile all three are read
//! ```
//! A commit adds to the active layer. A durable one freezes it and carries it into the tree in one transaction of redb that
//! is durable; so does one that finds the layer full, without durability. The tree is always the state as of some commit,
//! so whatever is durable in it stands with its applied index, and the log has the rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mvcc::StateError;
use parking_lot::{Condvar, Mutex, RwLock};
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, TableError};

use super::layer::{Batch, Layer, Place};
use super::transaction::View;
use super::{Raw, TABLE, io, storage};
use crate::backend::Spill;
use crate::values::{Ledger, Segments, Values};

/// A layer takes at most about so much memory; beside it there may be a frozen one.
const LAYER_BYTES: usize = if cfg!(test) { 64 * 1024 } else { 2 * 1024 * 1024 };
/// Records that a layer removes at most: whoever scans the tree steps over them.
const LAYER_REMOVED: usize = if cfg!(test) { 512 } else { 2048 };
/// A commit waits for the layer that is being carried when the next one is so many times full.
const OVERFULL: usize = 2;

/// The layers over a tree, as of a commit.
#[derive(Clone)]
pub(super) struct Stack {
    /// None once closed.
    tree: Option<Arc<ReadOnlyTable<Raw, Raw>>>,
    /// On its way into the tree; empty where nothing is.
    frozen: Arc<Layer>,
    active: Arc<Layer>,
    pub(super) segments: Arc<Segments>,
    commit: u64,
    /// Shared by all copies: whether there are others is whether somebody reads as of an earlier commit.
    readers: Arc<()>,
}

impl Stack {
    pub(super) fn table(&self) -> Result<&ReadOnlyTable<Raw, Raw>, StateError> {
        self.tree.as_deref().ok_or_else(closed)
    }

    /// What the tree is to have at a key.
    pub(super) fn raw<R>(
        &self,
        key: &[u8],
        mut read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, StateError> {
        for layer in [&self.active, &self.frozen] {
            read = match layer.get(key, self.commit, read) {
                Ok(found) => return Ok(found),
                Err(read) => read,
            };
        }
        let found = self.table()?.get(key).map_err(storage)?;
        Ok(read(found.as_ref().map(|raw| raw.value())))
    }

    pub(super) fn places(&self) -> [Place<'_>; 2] {
        [Place::Layer(&self.active, self.commit), Place::Layer(&self.frozen, self.commit)]
    }
}

fn closed() -> StateError {
    StateError::Io("closed".to_owned())
}

/// The tree, what is not in it yet, and the values apart from it. Views hold it, so that another one can take its place.
pub(super) struct Live {
    /// None once closed, so that a reader that lives longer cannot reach the file.
    database: RwLock<Option<Database>>,
    pub(super) values: Arc<Values>,
    pub(super) spill: Arc<Spill>,
    stack: RwLock<Stack>,
    carrying: Mutex<Carrying>,
    /// A layer is in the tree, or will never be.
    carried: Condvar,
}

#[derive(Default)]
struct Carrying {
    running: bool,
    took: Duration,
    failed: Option<StateError>,
}

impl Live {
    pub(super) fn new(
        database: Database,
        values: Arc<Values>,
        spill: Arc<Spill>,
    ) -> Result<Self, StateError> {
        // Opening the table makes it, which readers rely on.
        if matches!(open(&database), Err(TableError::TableDoesNotExist(_))) {
            let mut transaction = database.begin_write().map_err(io)?;
            transaction.set_durability(Durability::None).map_err(io)?;
            transaction.open_table(TABLE).map_err(io)?;
            transaction.commit().map_err(io)?;
        }
        let stack = Stack {
            tree: Some(Arc::new(open(&database).map_err(io)?)),
            frozen: Arc::default(),
            active: Arc::default(),
            segments: values.segments(),
            commit: 0,
            readers: Arc::default(),
        };
        Ok(Self {
            database: RwLock::new(Some(database)),
            values,
            spill,
            stack: RwLock::new(stack),
            carrying: Mutex::default(),
            carried: Condvar::new(),
        })
    }

    /// All there is now.
    ///
    /// # Errors
    /// When it is closed.
    pub(super) fn stack(&self) -> Result<Stack, StateError> {
        let stack = self.stack.read();
        stack.table()?;
        Ok(stack.clone())
    }

    pub(super) fn view(self: &Arc<Self>) -> Result<View, store_api::Error> {
        let stack = self.stack().map_err(|_| store_api::Error::ShuttingDown)?;
        Ok(View { stack, _live: self.clone() })
    }

    /// Memory that the layers take, about.
    pub(super) fn layer_bytes(&self) -> usize {
        let stack = self.stack.read();
        stack.active.bytes() + stack.frozen.bytes()
    }

    /// Makes what a transaction changed visible.
    pub(super) fn publish(&self, batch: Batch, ledger: Ledger) {
        let (active, commit, alone) = {
            let stack = self.stack.read();
            (stack.active.clone(), stack.commit + 1, Arc::strong_count(&stack.readers) == 1)
        };
        active.add(batch, commit, alone);
        self.values.committed(ledger);
        let mut stack = self.stack.write();
        stack.segments = self.values.segments();
        stack.commit = commit;
    }

    /// Carries the active layer into the tree when it is full; waits when that comes too fast.
    ///
    /// # Errors
    /// When a layer was not carried.
    pub(super) fn relieve(self: &Arc<Self>) -> Result<(), StateError> {
        let (bytes, removed) = {
            let active = &self.stack.read().active;
            (active.bytes(), active.removed())
        };
        let is_over = |times: usize| bytes >= times * LAYER_BYTES || removed >= times * LAYER_REMOVED;
        if is_over(1) && !self.begin_carry(false)? && is_over(OVERFULL) {
            self.rest()?;
            self.begin_carry(false)?;
        }
        Ok(())
    }

    /// Carries all there is into the tree: on a thread where syncs are a thread's, too. False while another layer is on
    /// its way.
    ///
    /// # Errors
    /// When a layer was not carried; nothing more is then.
    pub(super) fn begin_carry(self: &Arc<Self>, durable: bool) -> Result<bool, StateError> {
        if !self.claim()? {
            return Ok(false);
        }
        let layer = self.freeze();
        if !self.spill.is_lazy() {
            return self.carry_whole(&layer, durable).map(|()| true);
        }
        let live = self.clone();
        // What fails is told to the next who asks.
        let carry = move || drop(live.carry_whole(&layer, durable));
        let thread = std::thread::Builder::new().name("store-carry".to_owned());
        thread.spawn(carry).map(|_| true).map_err(|error| {
            let error = StateError::Io(error.to_string());
            self.end_carry(Duration::ZERO, Err(error.clone()));
            error
        })
    }

    /// Carries all there is into the tree, durably, here and to the end.
    ///
    /// # Errors
    /// As [`Live::begin_carry`].
    pub(super) fn carry_now(&self) -> Result<(), StateError> {
        while !self.claim()? {
            self.rest()?;
        }
        self.carry_whole(&self.freeze(), true)
    }

    /// Whether the next layer is the caller's to carry.
    fn claim(&self) -> Result<bool, StateError> {
        let mut carrying = self.carrying.lock();
        carrying.check()?;
        Ok(!std::mem::replace(&mut carrying.running, true))
    }

    /// Whether a layer is on its way into the tree.
    ///
    /// # Errors
    /// When one was not carried.
    pub(super) fn is_carrying(&self) -> Result<bool, StateError> {
        let carrying = self.carrying.lock();
        carrying.check()?;
        Ok(carrying.running)
    }

    /// Waits until no layer is on its way.
    ///
    /// # Errors
    /// As [`Live::is_carrying`].
    pub(super) fn rest(&self) -> Result<(), StateError> {
        let mut carrying = self.carrying.lock();
        self.carried.wait_while(&mut carrying, |carrying| carrying.running);
        carrying.check()
    }

    /// How long the last layer was on its way.
    pub(super) fn carry_took(&self) -> Duration {
        self.carrying.lock().took
    }

    fn freeze(&self) -> Arc<Layer> {
        self.values.freeze();
        let mut stack = self.stack.write();
        let layer = std::mem::take(&mut stack.active);
        stack.frozen = layer.clone();
        layer
    }

    fn carry_whole(&self, layer: &Layer, durable: bool) -> Result<(), StateError> {
        let began = Instant::now();
        // A panic is a failure, too: somebody waits for the end.
        let carry = std::panic::AssertUnwindSafe(|| self.carry(layer, durable));
        let done = std::panic::catch_unwind(carry);
        let done = done.unwrap_or_else(|_| Err(StateError::Io("the state was not written".to_owned())));
        self.end_carry(began.elapsed(), done.clone());
        done
    }

    fn end_carry(&self, took: Duration, done: Result<(), StateError>) {
        let mut carrying = self.carrying.lock();
        (carrying.running, carrying.took, carrying.failed) = (false, took, done.err());
        self.carried.notify_all();
    }

    fn carry(&self, layer: &Layer, durable: bool) -> Result<(), StateError> {
        let database = self.database.read();
        let database = database.as_ref().ok_or_else(closed)?;
        let mut transaction = database.begin_write().map_err(io)?;
        let durability = if durable { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability).map_err(io)?;
        // The allocator's state is saved with a durable commit, so that a start after a crash does not walk the tree. Such a
        // commit has two phases, which the values rely on.
        transaction.set_quick_repair(durable);
        {
            let mut table = transaction.open_table(TABLE).map_err(io)?;
            layer.newest(|key, record| match record {
                Some(record) => table.insert(key, record).map(drop).map_err(storage),
                None => table.remove(key).map(drop).map_err(storage),
            })?;
        }
        transaction.commit().map_err(io)?;
        let tree = Arc::new(open(database).map_err(io)?);
        let before = {
            let mut stack = self.stack.write();
            (stack.tree.replace(tree), std::mem::take(&mut stack.frozen))
        };
        drop(before);
        self.values.carried(durable);
        if durable {
            self.spill.let_go(&self.values);
        }
        Ok(())
    }

    /// Moves what is at the file's end into the holes before it. Nobody else has it yet.
    pub(super) fn squeeze(&self) -> Result<(), String> {
        let mut database = self.database.write();
        let Some(database) = database.as_mut() else { return Ok(()) };
        // Not while something is read.
        self.stack.write().tree = None;
        let compacted = database.compact().map(drop).map_err(|error| error.to_string());
        let tree = open(database).map_err(|error| error.to_string())?;
        self.stack.write().tree = Some(Arc::new(tree));
        compacted
    }

    /// Closes the files, also when handles on this remain.
    pub(super) fn close(&self) {
        // What failed was told.
        let _ = self.rest();
        self.stack.write().tree = None;
        drop(self.database.write().take());
    }
}

impl Carrying {
    fn check(&self) -> Result<(), StateError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

fn open(database: &Database) -> Result<ReadOnlyTable<Raw, Raw>, TableError> {
    // A transaction that does not begin is an error of the storage's.
    let transaction = database.begin_read().map_err(|error| match error {
        redb::TransactionError::Storage(error) => TableError::Storage(error),
        other => TableError::Storage(redb::StorageError::Io(std::io::Error::other(other.to_string()))),
    })?;
    transaction.open_table(TABLE)
}
