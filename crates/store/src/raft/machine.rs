//! The state machine: committed entries go to the applier, replies to who waits for them on this member.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::disk::Disk;
use futures::{Stream, StreamExt as _};
use mvcc::{Entry, StateError};
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::hands::Hands;
use super::transfer::Received;
use super::types::{self, LogEntry, LogId, Origin, Snapshot, SnapshotMeta, Stored, TypeConfig};
use crate::LogIndex;
use crate::applier::Applier;
use crate::db::{self, AppliedIndex, View};
use crate::health::Health;
use crate::proposer::{ReplyTo, answer};
use crate::replicator;
use crate::stats::Stats;

/// Entries applied in one transaction at most.
const APPLY_ENTRIES: usize = 512;
/// A caller has long given up by then (see `handle::REPLY_PATIENCE`).
const PARKED_MAX: Duration = Duration::from_secs(15);

/// What a caller is told whose entry was lost with its leader, or may have been: etcd's text.
pub(crate) const LEADER_FAILED: &str =
    "etcdserver: request timed out, possibly due to previous leader failure";

/// A caller that waits.
struct Waiting {
    reply: ReplyTo,
    /// What its entry takes up in the queue.
    _room: OwnedSemaphorePermit,
    since: Instant,
    /// The term of the leader that was last asked to take its entry.
    term: Option<u64>,
}

/// Callers that wait on this member, by the numbers their entries carry.
#[derive(Default)]
pub(crate) struct Parked {
    waiting: Mutex<BTreeMap<u64, Waiting>>,
}

impl Parked {
    pub(crate) fn park(&self, number: u64, reply: ReplyTo, room: OwnedSemaphorePermit) {
        let waiting = Waiting { reply, _room: room, since: Instant::now(), term: None };
        self.waiting.lock().insert(number, waiting);
    }

    pub(crate) fn take(&self, number: u64) -> Option<ReplyTo> {
        self.waiting.lock().remove(&number).map(|waiting| waiting.reply)
    }

    /// The leader of this term is asked to take their entries.
    pub(crate) fn asked(&self, numbers: &[u64], term: u64) {
        let mut all = self.waiting.lock();
        for number in numbers {
            if let Some(waiting) = all.get_mut(number) {
                waiting.term = Some(term);
            }
        }
    }

    /// Entries up to one of `term` are applied: an entry that an earlier leader took and that is not among them never
    /// will be. Who waits for it waits no longer.
    pub(crate) fn reached(&self, term: u64) {
        let lost: Vec<Waiting> = {
            let mut all = self.waiting.lock();
            let is_lost = |waiting: &Waiting| waiting.term.is_some_and(|asked| asked < term);
            let numbers: Vec<u64> = all.iter().filter(|(_, w)| is_lost(w)).map(|(n, _)| *n).collect();
            numbers.iter().filter_map(|number| all.remove(number)).collect()
        };
        for waiting in lost {
            answer(waiting.reply, Err(store_api::Error::Unavailable(LEADER_FAILED.to_owned())));
        }
    }

    /// Forgets callers whose entries were lost with a leader.
    pub(crate) fn prune(&self) {
        self.waiting.lock().retain(|_, w| !w.reply.is_closed() && w.since.elapsed() < PARKED_MAX);
    }

    pub(crate) fn refuse_all(&self, error: &store_api::Error) {
        let all = std::mem::take(&mut *self.waiting.lock());
        all.into_values().for_each(|waiting| answer(waiting.reply, Err(error.clone())));
    }
}

/// What the state machine and the member around it share.
pub(crate) struct Shared {
    pub me: u64,
    pub dir: PathBuf,
    pub disk: Arc<dyn Disk>,
    pub hands: Hands,
    pub applier: Arc<Mutex<Applier>>,
    pub parked: Parked,
    pub members: Mutex<Stored>,
    /// The last snapshot's end; its content is the state itself, read when somebody asks for it.
    pub snapshot: Mutex<Option<SnapshotMeta>>,
    /// Index of the last entry applied.
    pub applied: watch::Sender<u64>,
    /// Something was applied: the durable commit comes later.
    pub dirty: Notify,
    pub health: Arc<Health>,
    pub stats: Arc<Stats>,
    /// The term of the last entry applied.
    pub term: AtomicU64,
}

/// The last entry of a state, as consensus names it.
pub(crate) fn applied_id(applied: AppliedIndex) -> LogId {
    if applied.index.get() == 0 {
        return types::origin_log_id();
    }
    types::log_id(applied.term, applied.node, applied.index.get().unsigned_abs())
}

/// What a snapshot of this view holds.
pub(crate) fn meta_of(view: &View) -> io::Result<SnapshotMeta> {
    let applied = db::applied(view).map_err(io::Error::other)?;
    let members = db::members(view).map_err(io::Error::other)?;
    let last_membership = members.map(|mut members| types::take_stored(&mut members)).transpose()?;
    Ok(SnapshotMeta {
        last_log_id: Some(applied_id(applied)),
        last_membership: last_membership.unwrap_or_default(),
    })
}

/// Entries taken from the log, ready to be applied together.
#[derive(Default)]
struct Taken {
    entries: Vec<Entry>,
    origins: Vec<Option<Origin>>,
    members: Option<Stored>,
    last: Option<LogId>,
}

impl Taken {
    fn add(&mut self, entry: &LogEntry) -> io::Result<()> {
        let id = entry.log_id();
        self.last = Some(id);
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.members = Some(Stored::new(Some(id), membership.clone()));
            }
            EntryPayload::Normal(command) => {
                let (origin, entry) = command.split()?;
                self.entries.push(Entry::decode(entry).map_err(io::Error::other)?);
                self.origins.push(origin);
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Applies what was taken, in one transaction, and answers who waits here.
    fn apply(&self, taken: &Taken) -> io::Result<()> {
        let Some(last) = taken.last else { return Ok(()) };
        let applied = AppliedIndex {
            index: LogIndex(last.index.cast_signed()),
            term: last.leader_id.term,
            node: last.leader_id.node_id,
        };
        let mut encoded = Vec::new();
        if let Some(members) = &taken.members {
            types::put_stored(&mut encoded, members);
        }
        let members = taken.members.as_ref().map(|_| &encoded[..]);
        let mut applier = self.applier.lock();
        let done = applier.apply(&taken.entries, applied, members);
        let replies = done.map_err(|error| self.fence(&error))?;
        applier.commit_durably().map_err(|error| self.fence(&error))?;
        if let Some(members) = &taken.members {
            *self.members.lock() = members.clone();
        }
        drop(applier);
        for (origin, reply) in taken.origins.iter().zip(replies) {
            let mine = origin.filter(|origin| origin.member == self.me);
            if let Some(waiting) = mine.and_then(|origin| self.parked.take(origin.number)) {
                answer(waiting, reply);
            }
        }
        self.reached(last.leader_id.term);
        self.applied.send_replace(last.index);
        self.dirty.notify_one();
        Ok(())
    }

    /// An entry of this term is applied.
    fn reached(&self, term: u64) {
        if self.term.swap(term, Ordering::AcqRel) < term {
            self.parked.reached(term);
        }
    }

    /// Whether the disk has too little space for more to be accepted.
    pub(crate) fn is_short_of_space(&self) -> bool {
        match self.disk.free_bytes(&self.dir) {
            Some(free) => free < replicator::SPACE_RESERVE_BYTES,
            None => replicator::is_short_of_space(&self.dir),
        }
    }

    fn fence(&self, error: &StateError) -> io::Error {
        self.health.fence(&error.to_string());
        io::Error::other(error.to_string())
    }

    fn install(&self, received: Received) -> io::Result<()> {
        let mut applier = self.applier.lock();
        let Received { db, path } = received;
        applier.db.replace(&*self.disk, &self.dir, &path, db).map_err(io::Error::other)?;
        applier.take_over().map_err(|error| self.fence(&error))?;
        let meta = meta_of(&applier.db.view().map_err(io::Error::other)?)?;
        *self.members.lock() = meta.last_membership.clone();
        if !self.hands.are_threads() {
            applier.db.give_up();
        }
        self.reached(applier.applied.term);
        self.applied.send_replace(applier.applied.index.get().unsigned_abs());
        *self.snapshot.lock() = Some(meta);
        Ok(())
    }

    /// Keeps the durable copy of the state near; called again after the time it returns, or when something is applied.
    pub(crate) fn settle(&self) -> io::Result<Option<Duration>> {
        let mut applier = self.applier.lock();
        if applier.due() == Some(Duration::ZERO) {
            applier.step(None).map_err(|error| self.fence(&error))?;
        }
        Ok(applier.due())
    }
}

/// A snapshot on this side: the state itself when it is to be sent, a received one when it is to be installed.
pub(crate) enum SnapshotData {
    Current,
    Received(Box<Received>),
}

/// The state machine as consensus drives it.
#[derive(Clone)]
pub(crate) struct Machine {
    pub shared: Arc<Shared>,
}

impl Machine {
    async fn flush(&self, taken: &mut Taken) -> io::Result<()> {
        if taken.last.is_none() {
            return Ok(());
        }
        let (shared, taken) = (self.shared.clone(), std::mem::take(taken));
        self.shared.hands.run(move || shared.apply(&taken)).await
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Stored), io::Error> {
        let applied = self.shared.applier.lock().applied;
        Ok((Some(applied_id(applied)), self.shared.members.lock().clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries;
        let mut taken = Taken::default();
        let mut responders = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            taken.add(&entry)?;
            responders.extend(responder);
            if taken.entries.len() >= APPLY_ENTRIES {
                self.flush(&mut taken).await?;
            }
        }
        self.flush(&mut taken).await?;
        responders.into_iter().for_each(|responder| responder.send(()));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        let SnapshotData::Received(received) = data else {
            // What is built here is the state itself: there is nothing to install.
            return Ok(());
        };
        let (shared, stats) = (self.shared.clone(), self.shared.stats.clone());
        stats.installing.fetch_add(1, Ordering::Relaxed);
        let done = self.shared.hands.run(move || shared.install(*received)).await;
        stats.installing.fetch_sub(1, Ordering::Relaxed);
        done
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<SnapshotData>>, io::Error> {
        let meta = self.shared.snapshot.lock().clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: SnapshotData::Current }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;

    /// The state made durable: after this the log up to its last entry may go.
    async fn build_snapshot(&mut self) -> Result<Snapshot<SnapshotData>, io::Error> {
        let shared = self.shared.clone();
        let meta = self.shared.hands.run(move || {
            let mut applier = shared.applier.lock();
            applier.make_durable().map_err(|error| shared.fence(&error))?;
            let meta = meta_of(&applier.db.view().map_err(io::Error::other)?)?;
            *shared.snapshot.lock() = Some(meta.clone());
            Ok(meta)
        });
        Ok(Snapshot { meta: meta.await?, snapshot: SnapshotData::Current })
    }
}

/// The name a state is received under.
pub(crate) fn receiving(dir: &Path) -> PathBuf {
    dir.join("state.redb.received")
}
