//! A member of a cluster: proposals and reads on their way to the leader, and what the leader does for others.
//!
//! ```text
//!  queue ─▶ [store-propose] ── leader: into the log │ else: over the Forward lane to the leader's log
//!                 └─ the caller is parked here until this member applies its entry
//!  linearizable read ─▶ [store-reads]: one question "how far?" for all that wait ─▶ applied so far? ─▶ read here
//!  other members ─▶ Handler::handle ─▶ consensus, or `serve` when this is the leader
//!  [store-duties]: tells who leads; while leading: learners that have caught up vote, leases are checkpointed
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::clock::SharedClock;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{LinearizerOption, Raft};
use parking_lot::Mutex;
use store_api::{Error, LeaseId};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::error::{PeerError, encode_answer};
use super::machine::{LEADER_FAILED, Machine, Shared, SnapshotData, meta_of, receiving};
use super::net::Line;
use super::peers::Moving;
use super::transfer::Incoming;
use super::transport::{Handler, Lane, Transport};
use super::types::{self, Command, MemberNode, Origin, Snapshot, TypeConfig};
use super::wire::{self, Change, Request};
use crate::leases::Leases;
use crate::proposer::{Proposal, Request as Queued, answer};

/// Entries proposed in one message.
const BATCH_ENTRIES: usize = 512;
/// Bytes proposed in one message; an entry may be larger alone.
const BATCH_BYTES: usize = 1024 * 1024;
/// Messages with proposals on their way at once.
const BATCHES: usize = 64;
/// How long a request looks for a leader.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the leader may take for one forwarded request.
const FORWARD_PATIENCE: Duration = Duration::from_secs(8);
/// A read that waits longer until it may be served is slow: etcd asks again after so long.
const READ_SLOW: Duration = Duration::from_millis(500);
/// How long to wait before asking again when the leader of a moment ago is none.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// Reads that may wait for the answer to "how far?".
pub(crate) const READS: usize = 16 * 1024;
/// Snapshots received at once: there is one leader, and it may have changed.
const INCOMING_MAX: usize = 2;

pub(crate) type Consensus = Raft<TypeConfig, Machine>;
/// Who waits to be allowed a read.
pub(crate) type ReadWaiter = oneshot::Sender<Result<(), Error>>;

/// See the module.
pub(crate) struct Member {
    pub me: u64,
    pub raft: Consensus,
    pub shared: Arc<Shared>,
    pub transport: Arc<dyn Transport>,
    pub leases: Arc<Leases>,
    pub clock: SharedClock,
    pub leader: watch::Sender<Option<u64>>,
    /// Another leads: wakes the members' own waits, in their order.
    pub news: Notify,
    pub reads: mpsc::Sender<ReadWaiter>,
    /// Until then no vote is given: a member that has just started may have promised a leader to wait.
    pub votes_from: Instant,
    pub incoming: Mutex<HashMap<(u64, u64), (Incoming, Moving)>>,
    /// How long a leader counts as one without hearing from a majority.
    pub lease: Duration,
    /// Where its numbers for parked callers begin: other than in its last run.
    pub numbers: std::sync::atomic::AtomicU64,
    /// It leads, and refused something because its disk is full.
    pub refused_for_space: std::sync::atomic::AtomicBool,
}

impl Member {
    /// The members as this one knows them.
    pub(crate) fn members(&self) -> types::Members {
        self.raft.metrics().borrow_watched().membership_config.membership().clone()
    }

    pub(crate) fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    pub(super) fn line(&self, target: u64) -> Option<Line> {
        let urls = self.members().get_node(&target)?.peer_urls.clone();
        Some(Line { target, urls, transport: self.transport.clone() })
    }

    /// Has the leader do something, wherever it is. What may be done twice is tried again when no answer comes.
    pub(crate) async fn lead(&self, request: Request) -> Result<Bytes, PeerError> {
        self.lead_telling(request, &|_| {}).await
    }

    /// Like [`Member::lead`]; `asking` is told the term of each leader that is asked.
    async fn lead_telling(
        &self,
        request: Request,
        asking: &(dyn Fn(u64) + Sync),
    ) -> Result<Bytes, PeerError> {
        let again = !matches!(request, Request::Propose(_) | Request::Change(_));
        let deadline = Instant::now() + LEADER_PATIENCE;
        loop {
            // Made before the look: see `Notify`.
            let news = self.news.notified();
            let known = *self.leader.borrow();
            let done = match known {
                None => Err(PeerError::NotLeader),
                Some(id) if id == self.me => {
                    asking(self.term());
                    self.serve(request.clone()).await.map(Bytes::from)
                }
                Some(id) => {
                    asking(self.term());
                    self.forward(id, &request).await
                }
            };
            match done {
                Err(PeerError::NotLeader | PeerError::Busy(_)) => {}
                Err(PeerError::Unknown(_)) if again => {}
                done => return done,
            }
            if Instant::now() >= deadline {
                return done.map_err(|error| match error {
                    PeerError::NotLeader => PeerError::Busy("etcdserver: no leader".to_owned()),
                    other => other,
                });
            }
            // A new leader, or the same one a little later.
            let patience = if known.is_some() { RETRY_AFTER } else { deadline - Instant::now() };
            let _ = tokio::time::timeout(patience, news).await;
        }
    }

    async fn forward(&self, leader: u64, request: &Request) -> Result<Bytes, PeerError> {
        let line = self.line(leader).ok_or(PeerError::NotLeader)?;
        let answer = tokio::select! {
            biased;
            answer = line.ask(Lane::Forward, request, FORWARD_PATIENCE) => answer,
            // One that leads no more may be stopped, or behind a broken line: its answer may never come.
            () = self.leader_is(|known| known.is_some_and(|id| id != leader)) => {
                return match request {
                    // What it took is in the new leader's log or lost, and that shows (see `Parked::reached`).
                    Request::Propose(_) => Ok(Bytes::new()),
                    Request::Change(change) => match self.shows(change) {
                        Some(id) => Ok(Bytes::copy_from_slice(&id.to_be_bytes())),
                        None => Err(PeerError::Unknown(LEADER_FAILED.to_owned())),
                    },
                    _ => Err(PeerError::NotLeader),
                };
            }
        };
        answer.unwrap_or_else(|error| Err(PeerError::Unknown(format!("the leader did not answer: {error}"))))
    }

    /// What a leader that leads no more would have answered to a change that ends its leadership, where it can be seen
    /// that the change was made.
    fn shows(&self, change: &Change) -> Option<u64> {
        match change {
            Change::MoveLeader { id } if *self.leader.borrow() == Some(*id) => Some(*id),
            Change::Remove { id } if self.members().get_node(id).is_none() => Some(*id),
            _ => None,
        }
    }

    /// Does as the leader what was asked here or elsewhere.
    pub(crate) async fn serve(&self, request: Request) -> Result<Vec<u8>, PeerError> {
        match request {
            Request::Propose(commands) => self.append(commands).await.map(|()| Vec::new()),
            Request::ReadIndex => self.read_index().await.map(|index| index.to_be_bytes().to_vec()),
            Request::KeepAlive { lease } => self.keep_alive(LeaseId(lease)).await,
            Request::TimeLeft { lease } => self.time_left(LeaseId(lease)),
            Request::Change(change) => self.change(change).await.map(|id| id.to_be_bytes().to_vec()),
            other => Err(PeerError::Unknown(format!("not for a leader: {other:?}"))),
        }
    }

    /// Puts commands into the log and waits until they are applied.
    pub(super) async fn append(&self, commands: Vec<Command>) -> Result<(), PeerError> {
        if self.shared.is_short_of_space() {
            self.refused_for_space.store(true, std::sync::atomic::Ordering::Relaxed);
            return Err(PeerError::NoSpace);
        }
        self.shared.health.check().map_err(|error| PeerError::Unknown(error.to_string()))?;
        let stopped = |_| PeerError::Unknown("etcdserver: server stopped".to_owned());
        let mut results = self.raft.client_write_many(commands).await.map_err(stopped)?;
        while let Some(result) = results.next().await {
            match result.map_err(stopped)? {
                Ok(_) => {}
                Err(ClientWriteError::ForwardToLeader(_)) => return Err(PeerError::NotLeader),
                Err(other) => return Err(PeerError::Unknown(other.to_string())),
            }
        }
        Ok(())
    }

    /// The entry a read that begins now must have seen: by the lease while it holds, else by asking a majority.
    async fn read_index(&self) -> Result<u64, PeerError> {
        match self.raft.get_read_linearizer(LinearizerOption::new(None, true)).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(PeerError::NotLeader),
            Err(other) => Err(PeerError::Busy(other.to_string())),
        }
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Vec<u8>, PeerError> {
        self.must_lead()?;
        if !self.leases.renew(id, self.clock.monotonic()) {
            return Err(PeerError::LeaseNotFound);
        }
        if self.leases.is_noted(id) {
            // The next leader must not count from what was noted before.
            let mut encoded = Vec::new();
            mvcc::Entry::LeaseCheckpoint { remaining: vec![(id, 0)] }.encode(&mut encoded);
            self.append(vec![Command::new(Origin { member: 0, number: 0 }, &encoded)]).await?;
        }
        Ok(Vec::new())
    }

    fn time_left(&self, id: LeaseId) -> Result<Vec<u8>, PeerError> {
        self.must_lead()?;
        let left = self.leases.left(id, self.clock.monotonic()).ok_or(PeerError::LeaseNotFound)?;
        Ok((left.as_millis() as u64).to_be_bytes().to_vec())
    }

    /// A leader that has not heard from a majority does not know whether it still is one.
    fn must_lead(&self) -> Result<(), PeerError> {
        if self.leader.borrow().is_some_and(|id| id == self.me) { Ok(()) } else { Err(PeerError::NotLeader) }
    }

    /// Who leads, as far as this member can know: nobody while it leads without a majority.
    fn known_leader(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let alone = metrics.membership_config.membership().voter_ids().count() <= 1;
        if metrics.current_leader == Some(self.me) && !alone {
            let heard = metrics.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < self.lease * 2);
            return heard.then_some(self.me);
        }
        metrics.current_leader
    }

    pub(super) fn tell_leader(&self, leader: Option<u64>) {
        if self.leader.send_if_modified(|known| std::mem::replace(known, leader) != leader) {
            self.news.notify_waiters();
        }
    }

    /// Waits until this holds for who is known to lead.
    pub(super) async fn leader_is(&self, holds: impl Fn(Option<u64>) -> bool) {
        loop {
            let news = self.news.notified();
            if holds(*self.leader.borrow()) {
                return;
            }
            news.await;
        }
    }

    /// Tells who leads as soon as that changes, and looks after what only the leader does.
    pub(crate) async fn duties(self: Arc<Self>) {
        let mut metrics = self.raft.server_metrics();
        let mut led = None;
        loop {
            let leader = self.known_leader();
            self.tell_leader(leader);
            if leader == Some(self.me) {
                if led != Some(self.term()) {
                    led = Some(self.term());
                    // Holders may have renewed with the leader before, who is gone.
                    self.leases.promote(self.clock.monotonic(), self.lease * 2);
                }
                self.seat_joiners().await;
                self.step_aside().await;
            } else {
                led = None;
            }
            let changed = tokio::time::timeout(self.lease / 2, metrics.changed()).await;
            if changed.is_ok_and(|changed| changed.is_err()) {
                self.tell_leader(None);
                return;
            }
        }
    }

    /// Has another lead, where this member cannot do it well: its state is not the others', or its disk is full.
    async fn step_aside(&self) {
        let full = self.refused_for_space.swap(false, std::sync::atomic::Ordering::Relaxed);
        if !(full || self.shared.health.differs()) {
            return;
        }
        let members = self.members();
        let others: Vec<u64> =
            members.voter_ids().filter(|id| *id != self.me && self.is_reachable(*id)).collect();
        // One after the other: the next may be no better.
        let next = others.iter().find(|id| **id > self.me).or_else(|| others.first());
        let Some(next) = next.copied() else { return };
        tracing::warn!(full, next, "another member is to lead");
        if let Err(error) = self.raft.trigger().transfer_leader(next).await {
            tracing::debug!(%error, "the leader stays");
        }
    }

    /// Lets reads pass that began before everything up to now was known to be applied here.
    pub(crate) async fn admit_reads(self: Arc<Self>, mut waiting: mpsc::Receiver<ReadWaiter>) {
        while let Some(first) = waiting.recv().await {
            let mut round = vec![first];
            while round.len() < READS
                && let Ok(next) = waiting.try_recv()
            {
                round.push(next);
            }
            let began = Instant::now();
            let allowed = self.catch_up_for_read().await;
            if began.elapsed() > READ_SLOW {
                self.shared.stats.slow_read_indexes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            if allowed.is_err() {
                self.shared.stats.read_indexes_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            round.into_iter().for_each(|waiter| drop(waiter.send(allowed.clone())));
        }
    }

    async fn catch_up_for_read(&self) -> Result<(), Error> {
        let mut answer = self.lead(Request::ReadIndex).await?;
        let index = types::take_u64(&mut answer).map_err(|e| Error::Unavailable(e.to_string()))?;
        let mut applied = self.shared.applied.subscribe();
        let caught_up = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout(FORWARD_PATIENCE, caught_up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::ShuttingDown),
            Err(_) => Err(Error::Unavailable("this member has not caught up".to_owned())),
        }
    }

    /// Waits until a linearizable read may be served from this member's state.
    pub(crate) async fn read_barrier(&self) -> Result<(), Error> {
        let (allow, allowed) = oneshot::channel();
        self.reads.send(allow).await.map_err(|_| Error::ShuttingDown)?;
        allowed.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Takes proposals from the queue until it is asked to close.
    pub(crate) async fn propose(self: Arc<Self>, mut queue: mpsc::Receiver<Queued>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                next = queue.recv(), if under_way.len() < BATCHES => {
                    let Some(Queued::Propose(first)) = next else { break };
                    let (batch, closing) = gather(first, &mut queue);
                    under_way.push(self.submit(batch));
                    if closing {
                        break;
                    }
                }
            }
        }
        queue.close();
        while let Some(Queued::Propose(proposal)) = queue.recv().await {
            answer(proposal.reply, Err(Error::ShuttingDown));
        }
        while under_way.next().await.is_some() {}
    }

    async fn submit(&self, batch: Vec<Proposal>) {
        self.shared.parked.prune();
        let mut numbers = Vec::with_capacity(batch.len());
        let mut commands = Vec::with_capacity(batch.len());
        for Proposal { encoded, reply, room, .. } in batch {
            let number = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            commands.push(Command::new(Origin { member: self.me, number }, &encoded));
            self.shared.parked.park(number, reply, room);
            numbers.push(number);
        }
        // On success they are answered when this member applies them.
        let asking = |term| self.shared.parked.asked(&numbers, term);
        if let Err(error) = self.lead_telling(Request::Propose(commands), &asking).await {
            let error = Error::from(error);
            let waiting = numbers.into_iter().filter_map(|number| self.shared.parked.take(number));
            waiting.for_each(|reply| answer(reply, Err(error.clone())));
        }
    }

    async fn answer_peer(self: Arc<Self>, from: u64, request: Bytes) -> Result<Vec<u8>, PeerError> {
        let request = Request::decode(request).map_err(|error| PeerError::Unknown(error.to_string()))?;
        let stopped = |error: &dyn std::fmt::Display| PeerError::Busy(error.to_string());
        let mut out = Vec::new();
        match request {
            Request::Append(request) => {
                if !request.entries.is_empty() && self.shared.is_short_of_space() {
                    return Err(PeerError::NoSpace);
                }
                let answer = self.raft.append_entries(request).await.map_err(|e| stopped(&e))?;
                wire::put_append_answer(&mut out, &answer);
            }
            Request::Vote(request) => {
                self.may_vote()?;
                wire::put_vote_answer(&mut out, &self.raft.vote(request).await.map_err(|e| stopped(&e))?);
            }
            Request::PreVote(request) => {
                self.may_vote()?;
                wire::put_vote_answer(&mut out, &self.raft.pre_vote(request).await.map_err(|e| stopped(&e))?);
            }
            Request::Transfer(request) => {
                let done = self.raft.handle_transfer_leader(request).await.map_err(|e| stopped(&e))?;
                done.map_err(|error| PeerError::Busy(error.to_string()))?;
            }
            Request::SnapshotBegin { id } => self.begin_snapshot(from, id).await?,
            Request::SnapshotChunk { id, number, chunk } => self.add_chunk(from, id, number, chunk).await?,
            Request::SnapshotEnd { id, chunks, vote } => {
                let installed = self.end_snapshot(from, id, chunks, vote).await?;
                types::put_vote(&mut out, &installed);
            }
            Request::Hash { revision } => {
                let found = self.fingerprint(store_api::Revision(revision)).await?;
                out.extend_from_slice(&found.hash.to_be_bytes());
                out.extend_from_slice(&found.compacted.to_be_bytes());
            }
            for_leader => {
                self.must_lead()?;
                out = self.serve(for_leader).await?;
            }
        }
        Ok(out)
    }

    fn may_vote(&self) -> Result<(), PeerError> {
        if Instant::now() >= self.votes_from {
            Ok(())
        } else {
            Err(PeerError::Busy("just started".to_owned()))
        }
    }

    async fn begin_snapshot(&self, from: u64, id: u64) -> Result<(), PeerError> {
        if self.shared.is_short_of_space() {
            return Err(PeerError::NoSpace);
        }
        {
            // One file is received into: what another leader began ends here.
            let mut incoming = self.incoming.lock();
            incoming.clear();
            debug_assert!(incoming.len() < INCOMING_MAX);
        }
        let (disk, path) = (self.shared.disk.clone(), receiving(&self.shared.dir));
        let patient = self.shared.hands.are_threads();
        let begun = self.shared.hands.run(move || Incoming::begin(&disk, &path, patient)).await;
        let begun = begun.map_err(|error| PeerError::Busy(error.to_string()))?;
        let moving = self.shared.stats.peers.of(from).receives.begin();
        self.incoming.lock().insert((from, id), (begun, moving));
        Ok(())
    }

    fn take_incoming(&self, from: u64, id: u64) -> Result<(Incoming, Moving), PeerError> {
        let found = self.incoming.lock().remove(&(from, id));
        found.ok_or_else(|| PeerError::Busy("no such snapshot".to_owned()))
    }

    async fn add_chunk(&self, from: u64, id: u64, number: u64, chunk: Bytes) -> Result<(), PeerError> {
        let (mut incoming, moving) = self.take_incoming(from, id)?;
        let added = self.shared.hands.run(move || {
            incoming.add(number, chunk)?;
            Ok(incoming)
        });
        let incoming = added.await.map_err(|error| PeerError::Busy(error.to_string()))?;
        self.incoming.lock().insert((from, id), (incoming, moving));
        Ok(())
    }

    async fn end_snapshot(
        &self,
        from: u64,
        id: u64,
        chunks: u64,
        vote: types::Vote,
    ) -> Result<types::Vote, PeerError> {
        let (incoming, moving) = self.take_incoming(from, id)?;
        let failed = |error: &dyn std::fmt::Display| PeerError::Busy(error.to_string());
        let received = self.shared.hands.run(move || {
            let received = incoming.end(chunks)?;
            let meta = meta_of(&received.db.view().map_err(std::io::Error::other)?)?;
            Ok((received, meta))
        });
        let (received, meta) = received.await.map_err(|e| failed(&e))?;
        tracing::info!(from, upto = ?meta.last_log_id, "received a whole state");
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(Box::new(received)) };
        let done = self.raft.install_full_snapshot(vote, snapshot).await.map_err(|e| failed(&e))?;
        moving.arrived();
        Ok(done.vote)
    }
}

/// All that waits, up to the bounds; and whether a close was among it.
fn gather(first: Proposal, queue: &mut mpsc::Receiver<Queued>) -> (Vec<Proposal>, bool) {
    let mut bytes = first.encoded.len();
    let mut batch = vec![first];
    while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
        match queue.try_recv() {
            Ok(Queued::Propose(proposal)) => {
                bytes += proposal.encoded.len();
                batch.push(proposal);
            }
            Ok(Queued::Close) => return (batch, true),
            Err(_) => break,
        }
    }
    (batch, false)
}

/// The door other members knock on, from before the member stands behind it.
#[derive(Default)]
pub(crate) struct PeerDoor {
    pub member: std::sync::OnceLock<Arc<Member>>,
}

impl Handler for PeerDoor {
    fn handle(&self, from: u64, request: Bytes) -> BoxFuture<'static, Bytes> {
        let Some(member) = self.member.get().cloned() else {
            return Box::pin(async { encode_answer(Err(PeerError::Busy("starting".to_owned()))) });
        };
        Box::pin(async move { encode_answer(member.answer_peer(from, request).await) })
    }
}

/// A member's node in the membership, by id.
pub(crate) fn node(members: &types::Members, id: u64) -> Option<MemberNode> {
    members.get_node(&id).cloned()
}
