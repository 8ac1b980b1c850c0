//! The thread that owns the state: applies committed entries, answers, publishes, and keeps the state's durable copy near.
//!
//! ```text
//! batch ─▶ one transaction: mvcc::apply + applied index ─▶ commit ─▶ publish to watchers ─▶ replies
//! about 100 ms after the first write that is not durable in the state: durable commit, then the log's prefix goes
//! nothing else to do and something was compacted: sweep a little
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use base::clock::SharedClock;
use commitlog::wal::WalFrame;
use commitlog::{Log, Offset};
use mvcc::alarm::{AlarmKind, alarms, is_about_alarms};
use mvcc::watch::Hub;
use mvcc::{Applied, Entry, StateError, read};
use parking_lot::Mutex;
// Simulated time in simulations.
use tokio::time::Instant;

use crate::LogIndex;
use crate::auth::Auth;
use crate::db::{self, AppliedIndex, Db};
use crate::health::Health;
use crate::leases::Leases;
use crate::proposer::{Batch, answer, refuse};
use crate::replicator::NODE;

/// How far the durable copy of the state may lag behind: bounds what a start after a crash replays.
pub(crate) const DURABLE_EVERY: Duration = Duration::from_millis(100);
/// Under load a durable commit takes tens of milliseconds in which nothing is applied. It comes so much later than the
/// last one took, so that it takes at most about a tenth of the time ...
const DURABLE_SHARE: u32 = 10;
/// ... and no earlier than this when so many entries wait for it: most of a page's changes then come before it is written.
const DURABLE_EVERY_LOADED: Duration = Duration::from_millis(500);
const LOADED_ENTRIES: usize = 1000;
/// ... but no later than this.
const DURABLE_EVERY_MAX: Duration = Duration::from_secs(1);
/// A handful of entries waits longer: replaying them costs nothing, a durable commit of the state writes a hundred KiB or
/// more, and an idle cluster renews a lease every ten seconds.
const LAZY_EVERY: Duration = Duration::from_secs(300);
/// What a handful is.
const LAZY_ENTRIES: usize = 64;
/// How often it is looked whether a durable commit is on the disk, when there is nothing else to do.
const SYNCED_LOOK: Duration = Duration::from_millis(20);
/// Entries applied in one transaction at most, when batches have queued up: a commit costs as much as several entries.
const APPLY_ENTRIES: usize = 512;
/// A load: memory is given back when one is over.
const SWOLLEN_ENTRIES: usize = 1000;
/// Entries that the log's thread applies itself.
const INLINE_ENTRIES: usize = 4;
/// Events that one step of cleaning up after a compaction looks at: a millisecond or so, for which a lone writer may have
/// to wait; while there are writes, after each batch of them.
const SWEEP_EVENTS: usize = 64;

pub(crate) struct Applier {
    pub db: Arc<Db>,
    pub hub: Arc<Hub>,
    pub leases: Arc<Leases>,
    pub auth: Arc<Auth>,
    pub clock: SharedClock,
    pub log: Arc<Log<WalFrame>>,
    pub health: Arc<Health>,
    /// Whose alarms concern this state; None for a member that runs alone, whom all concern.
    pub me: Option<u64>,
    pub applied: AppliedIndex,
    /// When the first commit since the last durable one was made.
    pub dirty: Option<Instant>,
    /// The last entry of a durable commit that may not be on the disk yet, while the log is ours to shorten.
    pub unsynced: Option<LogIndex>,
    /// Entries applied since the last durable commit.
    pub pending: usize,
    /// How long after the first of many entries the next durable commit is due.
    pub durable_every: Duration,
    /// Whether there may be something to clean up after a compaction.
    pub sweeping: bool,
    /// Much was applied since memory was given back.
    pub swollen: bool,
    /// When the thread looks what is due, unless somebody wakes it; None when it does not.
    pub wakes: Option<Instant>,
    /// Consensus removes the log's front, because followers may need what the state does not.
    pub keeps_log: bool,
}

/// What the thread is told.
pub(crate) enum Work {
    Apply(Batch),
    /// Something was applied elsewhere: look what is due when.
    Look,
}

/// The applier between its thread and the one of the log, which applies what is little itself: for a lone writer a wake-up
/// of another thread takes as long as the work.
pub(crate) struct Applying {
    applier: Mutex<Applier>,
    /// Batches on their way to the thread, or under its hands.
    behind: AtomicUsize,
}

impl Applying {
    pub(crate) fn new(applier: Applier) -> Self {
        Self { applier: Mutex::new(applier), behind: AtomicUsize::new(0) }
    }

    /// Applies a batch, here if it is little and its turn, else on the thread.
    ///
    /// # Errors
    /// The batch, when the thread is gone.
    pub(crate) fn apply(&self, batch: Batch, thread: &SyncSender<Work>) -> Result<(), Batch> {
        if batch.entries.len() <= INLINE_ENTRIES
            && self.behind.load(Ordering::Acquire) == 0
            && let Some(mut applier) = self.applier.try_lock()
            && !applier.has_duties()
        {
            if let Err(error) = applier.step(Some(batch)) {
                applier.halt(&error);
            } else if applier.must_wake() {
                // A thread that has no room for this is awake.
                let _ = thread.try_send(Work::Look);
            }
            return Ok(());
        }
        self.behind.fetch_add(1, Ordering::AcqRel);
        thread.send(Work::Apply(batch)).map_err(|unsent| match unsent.0 {
            Work::Apply(batch) => batch,
            Work::Look => unreachable!("a batch was sent"),
        })
    }

    /// The thread: runs until the proposer is gone; then leaves everything durable and the log empty.
    pub(crate) fn run(&self, works: &Receiver<Work>) {
        while let Some(batch) = self.next(works) {
            let (batch, count) = match batch {
                Some(batch) => merge(batch, works),
                None => (None, 0),
            };
            let done = self.applier.lock().step(batch);
            self.behind.fetch_sub(count, Ordering::AcqRel);
            if let Err(error) = done {
                return self.fail(&error, works);
            }
        }
        if let Err(error) = self.applier.lock().finish() {
            tracing::error!(%error, "the state was not made durable; the log will be replayed");
        }
    }

    /// The next batch (None inside when it is time for something else); None when there will be no more.
    fn next(&self, works: &Receiver<Work>) -> Option<Option<Batch>> {
        let (patience, swollen) = {
            let mut applier = self.applier.lock();
            let due = applier.due();
            applier.wakes = due.map(|due| Instant::now() + due);
            (due, due.is_none() && std::mem::take(&mut applier.swollen))
        };
        if swollen {
            give_back_memory();
        }
        let work = match patience {
            None => works.recv().ok()?,
            Some(patience) => match works.recv_timeout(patience) {
                Ok(work) => work,
                Err(RecvTimeoutError::Timeout) => return Some(None),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        match work {
            Work::Apply(batch) => Some(Some(batch)),
            Work::Look => Some(None),
        }
    }

    /// The state failed: nothing can be applied any more, so nothing may be accepted.
    fn fail(&self, error: &StateError, works: &Receiver<Work>) {
        self.applier.lock().halt(error);
        let refusal = store_api::Error::from(error.clone());
        while let Ok(work) = works.recv() {
            if let Work::Apply(batch) = work {
                refuse(batch.waiting, &refusal);
            }
        }
    }
}

impl Applier {
    /// Whether the thread has something to do that others should not wait for.
    fn has_duties(&self) -> bool {
        self.sweeping || self.wants_durable() || self.health.check().is_err()
    }

    /// Whether the thread sleeps longer than it should now.
    fn must_wake(&mut self) -> bool {
        let Some(due) = self.due().map(|due| Instant::now() + due) else { return false };
        let late = self.wakes.is_none_or(|wakes| due < wakes);
        if late {
            self.wakes = Some(due);
        }
        late
    }

    /// The state failed: nothing more is done with it.
    fn halt(&mut self, error: &StateError) {
        self.health.fence(&error.to_string());
        (self.dirty, self.unsynced, self.sweeping) = (None, None, false);
    }

    /// When it is time for [`Applier::step`] without a batch: never while nothing is to be done.
    pub(crate) fn due(&self) -> Option<Duration> {
        if self.sweeping {
            return Some(Duration::ZERO);
        }
        let commit = self.dirty.map(|since| self.lag_max().saturating_sub(since.elapsed()));
        // One that cannot begin yet.
        let commit = commit.map(|due| if due.is_zero() && self.db.is_carrying() { SYNCED_LOOK } else { due });
        let synced = self.unsynced.map(|_| SYNCED_LOOK);
        commit.into_iter().chain(synced).min()
    }

    /// Makes everything applied so far durable.
    pub(crate) fn make_durable(&mut self) -> Result<(), StateError> {
        if self.dirty.is_some() {
            self.db.update(true, |_| Ok(()))?;
            self.became_durable();
        }
        self.db.wait_synced()
    }

    /// Whether it is time for a durable commit.
    pub(crate) fn wants_durable(&self) -> bool {
        self.dirty.is_some_and(|since| since.elapsed() >= self.lag_max())
    }

    /// Goes on with the state of a snapshot, which is durable: watchers catch up from its history, leases are its own.
    pub(crate) fn take_over(&mut self) -> Result<(), StateError> {
        let view = self.db.view().map_err(|error| StateError::Io(error.to_string()))?;
        self.applied = db::applied(&view)?;
        self.dirty = None;
        self.pending = 0;
        self.sweeping = true;
        let granted = read::leases(&view)?;
        self.leases.reset(&granted, self.clock.monotonic());
        self.leases.note(&read::leases_noted(&view)?, self.clock.monotonic());
        self.auth.reset(mvcc::auth::status(&view)?);
        self.hub.jump(read::revision(&view)?);
        drop(view);
        self.heed_alarms()
    }

    /// Serves nothing of the state while an alarm says that it is not the others'.
    pub(crate) fn heed_alarms(&self) -> Result<(), StateError> {
        let view = self.db.view().map_err(|error| StateError::Io(error.to_string()))?;
        let concerns = |member: u64| self.me.is_none_or(|me| me == member);
        let raised = alarms(&view)?;
        let differs = raised.iter().any(|a| a.kind == AlarmKind::Corrupt && concerns(a.member));
        if self.health.set_differs(differs) {
            // Watches that are in step read the history next, and are refused there.
            self.hub.jump(read::revision(&view)?);
        }
        Ok(())
    }

    pub(crate) fn step(&mut self, batch: Option<Batch>) -> Result<(), StateError> {
        if let Some(batch) = batch {
            self.apply_batch(batch)?;
        }
        // Under load there is no idle time: a little is swept after every batch, so that it ends at all.
        self.sweep()?;
        self.commit_durably()?;
        self.release_log()
    }

    /// Begins a durable commit when it is time for one.
    pub(crate) fn commit_durably(&mut self) -> Result<(), StateError> {
        let began = Instant::now();
        if self.wants_durable() && self.db.begin_durable()? {
            // That of the commit before, where it goes on behind our back.
            let took = began.elapsed() + self.db.sync_took();
            self.durable_every = (took * DURABLE_SHARE).clamp(DURABLE_EVERY, DURABLE_EVERY_MAX);
            self.became_durable();
        }
        Ok(())
    }

    /// How far the durable copy may lag behind now.
    fn lag_max(&self) -> Duration {
        // With more than one segment a durable commit sets free what the log takes, and after a compaction values.
        let few = self.pending <= LAZY_ENTRIES && self.log.segments().len() <= 1 && !self.db.would_free();
        let loaded = self.pending >= LOADED_ENTRIES;
        match (few, loaded) {
            (true, _) => LAZY_EVERY,
            (false, false) => self.durable_every,
            (false, true) => self.durable_every.max(DURABLE_EVERY_LOADED),
        }
    }

    fn apply_batch(&mut self, batch: Batch) -> Result<(), StateError> {
        let Batch { committed, entries, waiting } = batch;
        let last = LogIndex(committed.first.get() + entries.len() as i64 - 1);
        let applied = AppliedIndex { index: last, term: committed.term, node: NODE };
        match self.apply(&entries, applied, None) {
            Ok(replies) => {
                for ((reply, _room), result) in waiting.into_iter().zip(replies) {
                    answer(reply, result);
                }
                Ok(())
            }
            Err(error) => {
                refuse(waiting, &store_api::Error::from(error.clone()));
                Err(error)
            }
        }
    }

    /// Applies entries of which `applied` is the last, and who the members are from there on; their replies.
    pub(crate) fn apply(
        &mut self,
        entries: &[Entry],
        applied: AppliedIndex,
        members: Option<&[u8]>,
    ) -> Result<Vec<Result<mvcc::Reply, store_api::Error>>, StateError> {
        let began = Instant::now();
        let done = self.db.update(false, |state| {
            let done = mvcc::apply(state, entries)?;
            state.set_applied(applied)?;
            members.map_or(Ok(()), |members| state.set_members(members))?;
            Ok(done)
        })?;
        self.applied = applied;
        self.pending += entries.len();
        self.dirty.get_or_insert_with(Instant::now);
        self.sweeping |= entries.iter().any(compacts);
        let Applied { revision, replies, events, leases, auth } = done;
        self.auth.apply(auth, applied.index.get().unsigned_abs());
        self.leases.apply(&leases, self.clock.monotonic());
        self.db.stats.took(entries, &replies, began.elapsed());
        self.db.stats.applied(entries, &events);
        self.hub.publish(revision, &events);
        if entries.iter().any(is_about_alarms) {
            self.heed_alarms()?;
        }
        Ok(replies)
    }

    fn sweep(&mut self) -> Result<(), StateError> {
        if self.sweeping {
            let began = Instant::now();
            let swept = self.db.update(false, |state| {
                let swept = mvcc::sweep_counted(state, SWEEP_EVENTS)?;
                if swept.is_none_or(|swept| !swept.more) {
                    state.reclaim(SWEEP_EVENTS)?;
                }
                Ok(swept)
            })?;
            if let Some(swept) = swept {
                self.db.stats.compactions.stepped(began, swept, self.clock.unix_ms());
            }
            let more = swept.is_some_and(|swept| swept.more);
            // What was swept away leaves values that nothing points to.
            self.sweeping = more || self.db.wants_reclaim();
            self.dirty.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn became_durable(&mut self) {
        self.swollen |= self.pending >= SWOLLEN_ENTRIES;
        self.dirty = None;
        self.pending = 0;
        if !self.keeps_log {
            self.unsynced = Some(self.applied.index);
        }
    }

    /// The log below the durable state is not needed any more, once that is on the disk.
    fn release_log(&mut self) -> Result<(), StateError> {
        let Some(index) = self.unsynced else { return Ok(()) };
        if !self.db.is_synced()? {
            return Ok(());
        }
        self.unsynced = None;
        if self.log.segments().len() > 1
            && let Err(error) = self.log.remove_prefix(Offset(index.get() + 1), "")
        {
            tracing::warn!(%error, "old segments of the log stay");
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), StateError> {
        if self.health.check().is_err() {
            return Ok(());
        }
        if self.dirty.is_some() {
            self.db.update(true, |_| Ok(()))?;
        }
        self.db.wait_synced()?;
        if self.keeps_log {
            self.pending = 0;
            return Ok(());
        }
        // An empty log makes the next start short: one in a file of its own.
        let emptied = self.log.drop_spares().and_then(|()| self.log.roll()).and_then(|_| self.log.flush());
        if let Err(error) = emptied {
            tracing::debug!(%error, "the log keeps its last segment");
        }
        self.became_durable();
        self.release_log()?;
        if let Err(error) = self.log.drop_spares() {
            tracing::debug!(%error, "files of the log stay until the next start");
        }
        Ok(())
    }
}

/// Gives memory that a load has left behind back to the system: the allocator keeps what lies between pages in use.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and has no condition.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether there is something to clean up after an entry, whoever asked for it.
fn compacts(entry: &Entry) -> bool {
    match entry {
        Entry::Compact { .. } => true,
        Entry::As { entry, .. } => compacts(entry),
        _ => false,
    }
}

/// A batch together with those that wait behind it, and how many it was.
fn merge(mut batch: Batch, works: &Receiver<Work>) -> (Option<Batch>, usize) {
    let mut count = 1;
    while batch.entries.len() < APPLY_ENTRIES
        && let Ok(work) = works.try_recv()
    {
        let Work::Apply(more) = work else { continue };
        // The index of the first is enough: they follow each other without a gap.
        batch.committed.term = more.committed.term;
        batch.entries.extend(more.entries);
        batch.waiting.extend(more.waiting);
        count += 1;
    }
    (Some(batch), count)
}
