//! The thread that owns the state: applies committed entries, answers, publishes, and keeps the state's durable copy near.
//!
//! ```text
//! batch ─▶ one redb transaction: mvcc::apply + applied index ─▶ commit ─▶ publish to watchers ─▶ replies
//! about 100 ms after the first write that is not durable in the state: durable commit, then the log's prefix goes
//! nothing else to do and something was compacted: sweep a little
//! ```

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use base::clock::SharedClock;
use commitlog::wal::WalFrame;
use commitlog::{Log, Offset};
use mvcc::watch::Hub;
use mvcc::{Applied, Entry, StateError, read};

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
/// ... but no later than this.
const DURABLE_EVERY_MAX: Duration = Duration::from_secs(1);
/// A handful of entries waits longer: replaying them costs nothing, a durable commit of the state writes a hundred KiB or
/// more, and an idle cluster renews a lease every ten seconds.
const LAZY_EVERY: Duration = Duration::from_secs(300);
/// What a handful is.
const LAZY_ENTRIES: usize = 64;
/// Entries applied in one transaction at most, when batches have queued up: a commit costs as much as several entries.
const APPLY_ENTRIES: usize = 512;
/// Events that one step of cleaning up after a compaction looks at: a few milliseconds.
const SWEEP_EVENTS: usize = 256;
/// The same while there are writes, after each batch of them.
const SWEEP_EVENTS_LOADED: usize = 64;

pub(crate) struct Applier {
    pub db: Arc<Db>,
    pub hub: Arc<Hub>,
    pub leases: Arc<Leases>,
    pub auth: Arc<Auth>,
    pub clock: SharedClock,
    pub log: Arc<Log<WalFrame>>,
    pub health: Arc<Health>,
    pub applied: AppliedIndex,
    /// When the first commit since the last durable one was made.
    pub dirty: Option<Instant>,
    /// Entries applied since the last durable commit.
    pub pending: usize,
    /// How long after the first of many entries the next durable commit is due.
    pub durable_every: Duration,
    /// Whether there may be something to clean up after a compaction.
    pub sweeping: bool,
    /// Consensus removes the log's front, because followers may need what the state does not.
    pub keeps_log: bool,
}

impl Applier {
    /// Runs until the proposer is gone; then leaves everything durable and the log empty.
    pub(crate) fn run(mut self, batches: &Receiver<Batch>) {
        while let Some(batch) = self.next(batches) {
            let batch = batch.map(|batch| merge(batch, batches));
            if let Err(error) = self.step(batch) {
                return self.fail(&error, batches);
            }
        }
        if let Err(error) = self.finish() {
            tracing::error!(%error, "the state was not made durable; the log will be replayed");
        }
    }

    /// The next batch (None inside when it is time for something else); None when there will be no more.
    fn next(&self, batches: &Receiver<Batch>) -> Option<Option<Batch>> {
        let Some(patience) = self.due() else { return batches.recv().ok().map(Some) };
        match batches.recv_timeout(patience) {
            Ok(batch) => Some(Some(batch)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// When it is time for [`Applier::step`] without a batch: never while nothing is to be done.
    pub(crate) fn due(&self) -> Option<Duration> {
        if self.sweeping {
            return Some(Duration::ZERO);
        }
        self.dirty.map(|since| self.lag_max().saturating_sub(since.elapsed()))
    }

    /// Makes everything applied so far durable.
    pub(crate) fn make_durable(&mut self) -> Result<(), StateError> {
        if self.dirty.is_some() {
            self.db.update(true, |_| Ok(()))?;
            self.became_durable();
        }
        Ok(())
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
        Ok(())
    }

    pub(crate) fn step(&mut self, batch: Option<Batch>) -> Result<(), StateError> {
        let durable = self.wants_durable();
        let began = Instant::now();
        match batch {
            Some(batch) => {
                self.apply_batch(batch, durable)?;
                // Under load there is no idle time: a little is swept after every batch, so that it ends at all.
                if self.sweeping && !durable {
                    self.sweep_events(SWEEP_EVENTS_LOADED)?;
                }
            }
            None if durable => self.db.update(true, |_| Ok(()))?,
            None => return self.sweep(),
        }
        if durable {
            self.durable_every = (began.elapsed() * DURABLE_SHARE).clamp(DURABLE_EVERY, DURABLE_EVERY_MAX);
            self.became_durable();
        }
        Ok(())
    }

    /// How far the durable copy may lag behind now.
    fn lag_max(&self) -> Duration {
        // With more than one segment a durable commit sets free what the log takes.
        let few = self.pending <= LAZY_ENTRIES && self.log.segments().len() <= 1;
        if few { LAZY_EVERY } else { self.durable_every }
    }

    fn apply_batch(&mut self, batch: Batch, durable: bool) -> Result<(), StateError> {
        let Batch { committed, entries, waiting } = batch;
        let last = LogIndex(committed.first.get() + entries.len() as i64 - 1);
        let applied = AppliedIndex { index: last, term: committed.term, node: NODE };
        match self.apply(&entries, applied, None, durable) {
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
        durable: bool,
    ) -> Result<Vec<Result<mvcc::Reply, store_api::Error>>, StateError> {
        let done = self.db.update(durable, |state| {
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
        self.db.stats.applied(entries, &events);
        self.hub.publish(revision, &events);
        Ok(replies)
    }

    fn sweep(&mut self) -> Result<(), StateError> {
        self.sweep_events(SWEEP_EVENTS)
    }

    fn sweep_events(&mut self, events: usize) -> Result<(), StateError> {
        if self.sweeping {
            self.sweeping = self.db.update(false, |state| mvcc::sweep(state, events))?;
            self.dirty.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// A commit was durable.
    pub(crate) fn settle(&mut self) {
        self.became_durable();
    }

    /// The log below the durable state is not needed any more.
    fn became_durable(&mut self) {
        self.dirty = None;
        self.pending = 0;
        if !self.keeps_log
            && self.log.segments().len() > 1
            && let Err(error) = self.log.remove_prefix(Offset(self.applied.index.get() + 1), "")
        {
            tracing::warn!(%error, "old segments of the log stay");
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), StateError> {
        if self.health.check().is_err() {
            return Ok(());
        }
        if self.dirty.is_some() {
            self.db.update(true, |_| Ok(()))?;
        }
        if self.keeps_log {
            self.pending = 0;
            return Ok(());
        }
        // An empty log makes the next start short.
        let emptied = self.log.roll().and_then(|_| self.log.flush());
        if let Err(error) = emptied {
            tracing::debug!(%error, "the log keeps its last segment");
        }
        self.became_durable();
        Ok(())
    }

    /// The state failed: nothing can be applied any more, so nothing may be accepted.
    fn fail(self, error: &StateError, batches: &Receiver<Batch>) {
        self.health.fence(&error.to_string());
        let refusal = store_api::Error::from(error.clone());
        while let Ok(batch) = batches.recv() {
            refuse(batch.waiting, &refusal);
        }
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

/// A batch together with those that wait behind it.
fn merge(mut batch: Batch, batches: &Receiver<Batch>) -> Batch {
    while batch.entries.len() < APPLY_ENTRIES
        && let Ok(more) = batches.try_recv()
    {
        // The index of the first is enough: they follow each other without a gap.
        batch.committed.term = more.committed.term;
        batch.entries.extend(more.entries);
        batch.waiting.extend(more.waiting);
    }
    batch
}
