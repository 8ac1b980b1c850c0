//! The door of the room in process: [`Store`] over the queue and the state.

use std::sync::Arc;
use std::time::Duration;

use base::clock::SharedClock;
use base::random::Random;
use base::task::{TaskKind, Tasks};
use commitlog::Log;
use commitlog::wal::WalFrame;
use mvcc::alarm::is_about_alarms;
use mvcc::auth::Caller;
use mvcc::read::{self, History};
use mvcc::watch::{Hub, Source};
use mvcc::{Entry, Reply};
use parking_lot::Mutex;
use store_api::{
    Error, Future_, KeyRange, LeaseId, LeaseStatus, Op, RangeRequest, RangeResponse, Revision, Store, Txn,
    TxnResponse, Watch, WatchRequest,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::auth::Auth;
use crate::db::{self, Db, View};
use crate::health::Health;
use crate::identity::Identity;
use crate::leases::Leases;
use crate::proposer::{Proposal, Request};
use crate::raft::member::Member;
use crate::raft::wire::{Change, Request as Asked};
use crate::raft::{self, ClusterError, MemberInfo, MemberNode, PeerError};
use crate::replicator::TERM;
use crate::status::{Header, MemberStatus};

/// Entries that may wait at once.
pub(crate) const QUEUE_ENTRIES: usize = 4096;
/// Bytes of entries that may wait at once: what a stalled disk can make us hold.
pub(crate) const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// How long a write waits for room in the queue before it is refused.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a write waits to become durable. etcd's request timeout is 7 s with its defaults.
const REPLY_PATIENCE: Duration = Duration::from_secs(10);

/// What reads stand on: the committed state.
pub(crate) struct Reads {
    pub db: Arc<Db>,
    pub health: Arc<Health>,
}

impl Reads {
    /// A view to serve from.
    pub(crate) fn view(&self) -> Result<View, Error> {
        self.health.check_state()?;
        self.db.view()
    }

    /// Reads a range; None asks as the process itself.
    fn range(&self, who: Option<&Caller>, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let view = self.view()?;
        if let Some(caller) = who {
            mvcc::auth::permit_range(&view, caller, &request.range)?;
        }
        self.health.look(read::range(&view, request).map_err(Error::from))
    }

    fn txn(&self, who: Option<&Caller>, txn: &Txn) -> Result<TxnResponse, Error> {
        let view = self.view()?;
        if let Some(caller) = who {
            mvcc::auth::permit_txn(&view, caller, txn)?;
        }
        self.health.look(read::read_txn(&view, txn).map_err(Error::from))
    }
}

impl Source for Reads {
    fn history(&self, range: &KeyRange, from: Revision, max: usize) -> Result<History, Error> {
        self.health.look(read::history(&self.view()?, range, from, max).map_err(Error::from))
    }

    fn serves(&self) -> Result<(), Error> {
        self.health.check_state()
    }
}

pub(crate) struct Inner {
    pub reads: Arc<Reads>,
    pub hub: Arc<Hub>,
    pub leases: Arc<Leases>,
    pub auth: Arc<Auth>,
    pub health: Arc<Health>,
    pub clock: SharedClock,
    pub requests: mpsc::Sender<Request>,
    pub room: Arc<Semaphore>,
    pub random: Mutex<Random>,
    pub tasks: Tasks,
    /// True once the threads are done and the files closed.
    pub closed: watch::Receiver<bool>,
    pub identity: Identity,
    pub log: Arc<Log<WalFrame>>,
    pub leader: watch::Sender<Option<u64>>,
    /// Consensus, where there may be several members.
    pub member: Option<Arc<Member>>,
}

/// A running member. Clones are the same member.
#[derive(Clone)]
pub struct Handle {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("revision", &self.inner.hub.revision()).finish_non_exhaustive()
    }
}

impl Handle {
    /// The member as rooms take it.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    /// The head of an answer: who answers, and where it stands now.
    #[must_use]
    pub fn header(&self) -> Header {
        let Identity { cluster_id, member_id } = self.inner.identity;
        Header { cluster_id, member_id, revision: self.inner.hub.revision(), raft_term: self.term() }
    }

    /// Where the member stands.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn status(&self) -> Result<MemberStatus, Error> {
        let applied = db::applied(&self.inner.reads.db.view()?)?;
        Ok(MemberStatus {
            header: self.header(),
            leader: *self.inner.leader.borrow(),
            raft_index: (self.inner.log.end().get() - 1).max(0).unsigned_abs(),
            raft_term: self.term(),
            raft_applied_index: applied.index.get().unsigned_abs(),
            db_size_bytes: self.inner.reads.db.file_bytes(),
            is_learner: self.is_learner(),
            errors: self.troubles(),
        })
    }

    /// Why the member does not serve as it should.
    fn troubles(&self) -> Vec<String> {
        let health = &self.inner.health;
        let difference = health.difference().filter(|_| self.inner.member.is_some());
        health.reason().into_iter().chain(difference).map(str::to_owned).collect()
    }

    fn term(&self) -> u64 {
        self.inner.member.as_ref().map_or(TERM, |member| member.term())
    }

    fn is_learner(&self) -> bool {
        let Some(member) = &self.inner.member else { return false };
        !member.members().voter_ids().any(|voter| voter == member.me)
    }

    /// The members in order of their ids.
    #[must_use]
    pub fn members(&self) -> Vec<MemberInfo> {
        let Some(member) = &self.inner.member else {
            let id = self.inner.identity.member_id;
            let (name, none) = ("default".to_owned(), Vec::new);
            return vec![MemberInfo { id, name, peer_urls: none(), client_urls: none(), is_learner: false }];
        };
        raft::cluster::list(&member.members())
    }

    async fn change_members(&self, change: Change) -> Result<u64, PeerError> {
        match &self.inner.member {
            Some(member) => member.ask_change(change).await,
            None => Err(self.refused_alone(&change).into()),
        }
    }

    /// Why a member that runs alone refuses: as a cluster of one would, or else because it cannot have others.
    fn refused_alone(&self, change: &Change) -> ClusterError {
        let own = self.inner.identity.member_id;
        match change {
            Change::Add { node, .. } => {
                raft::cluster::check_urls(&node.peer_urls).err().unwrap_or(ClusterError::Alone)
            }
            Change::Remove { id } | Change::Promote { id } | Change::Update { id, .. } if *id != own => {
                ClusterError::MemberNotFound
            }
            _ => ClusterError::Alone,
        }
    }

    /// Adds a member, which is not started yet; its id. It votes once it has caught up, unless it is to be a `learner`.
    ///
    /// # Errors
    /// As [`PeerError`] says.
    pub async fn add_member(&self, peer_urls: Vec<String>, learner: bool) -> Result<u64, PeerError> {
        let node = MemberNode { peer_urls, ..MemberNode::default() };
        self.change_members(Change::Add { node, learner }).await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// As [`PeerError`] says.
    pub async fn remove_member(&self, id: u64) -> Result<(), PeerError> {
        self.change_members(Change::Remove { id }).await.map(drop)
    }

    /// Changes where other members reach a member.
    ///
    /// # Errors
    /// As [`PeerError`] says.
    pub async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<(), PeerError> {
        self.change_members(Change::Update { id, peer_urls }).await.map(drop)
    }

    /// Makes a learner that has caught up vote.
    ///
    /// # Errors
    /// As [`PeerError`] says.
    pub async fn promote_member(&self, id: u64) -> Result<(), PeerError> {
        self.change_members(Change::Promote { id }).await.map(drop)
    }

    /// Has another voting member lead.
    ///
    /// # Errors
    /// As [`PeerError`] says.
    pub async fn move_leader(&self, id: u64) -> Result<(), PeerError> {
        if self.inner.member.is_none() {
            return Err(ClusterError::BadTransferee.into());
        }
        self.change_members(Change::MoveLeader { id }).await.map(drop)
    }

    /// Waits until what this member holds is at least as new as the moment this was called.
    ///
    /// # Errors
    /// When no leader confirms it in time.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        match &self.inner.member {
            Some(member) => member.read_barrier().await,
            None => Ok(()),
        }
    }

    /// Whether leases end by this member's clock.
    fn keeps_leases(&self) -> bool {
        self.inner.member.is_none() || *self.inner.leader.borrow() == Some(self.inner.identity.member_id)
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        if let Some(member) = &self.inner.member {
            member.lead(Asked::KeepAlive { lease: id.get() }).await?;
            let view = self.inner.reads.db.view()?;
            let granted_ttl_s = read::lease(&view, id)?.ok_or(Error::LeaseNotFound)?;
            return Ok(LeaseStatus { id, granted_ttl_s, ttl_s: granted_ttl_s, keys: Vec::new() });
        }
        if !self.inner.leases.renew(id, self.inner.clock.monotonic()) {
            return Err(Error::LeaseNotFound);
        }
        if self.inner.leases.is_noted(id) {
            self.propose(Entry::LeaseCheckpoint { remaining: vec![(id, 0)] }).await?;
        }
        self.lease_status_now(id)
    }

    async fn lease_status_asked(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let mut status = self.lease_status_now(id)?;
        if let Some(member) = &self.inner.member
            && status.ttl_s >= 0
        {
            let mut left = member.lead(Asked::TimeLeft { lease: id.get() }).await?;
            let left_ms = raft::types::take_u64(&mut left).map_err(|e| Error::Unavailable(e.to_string()))?;
            status.ttl_s = left_ms.div_ceil(1000).cast_signed();
        }
        Ok(status)
    }

    /// The leader as this member knows it, and every change of it; None while there is none.
    #[must_use]
    pub fn leader_changes(&self) -> watch::Receiver<Option<u64>> {
        self.inner.leader.subscribe()
    }

    /// Time left of a lease; None when there is no such lease.
    pub(crate) fn lease_left(&self, id: LeaseId) -> Option<Duration> {
        self.inner.leases.left(id, self.inner.clock.monotonic())
    }

    /// All leases, those that end first first.
    pub(crate) fn lease_list(&self) -> Result<Vec<LeaseId>, Error> {
        let leases = read::leases(&self.inner.reads.db.view()?)?;
        let mut leases: Vec<_> = leases.into_iter().map(|(id, _)| (self.lease_left(id), id)).collect();
        leases.sort_unstable();
        Ok(leases.into_iter().map(|(_, id)| id).collect())
    }

    /// Who is told what happens.
    pub(crate) fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// Where one reads what has happened.
    pub(crate) fn source(&self) -> &Reads {
        &self.inner.reads
    }

    /// Whether what a compaction at `revision` made unreachable has been removed.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn swept(&self, revision: Revision) -> Result<bool, Error> {
        Ok(read::swept(&self.inner.reads.db.view()?)? >= revision)
    }

    /// Takes no more requests, makes the state durable and closes the files; returns when that is done. What was
    /// accepted before is finished. Also happens when the tasks given at the start are shut down.
    pub async fn close(&self) {
        // The queue is gone when it is closed already.
        let _ = self.inner.requests.send(Request::Close).await;
        self.inner.hub.close();
        // A state that waits for space is left to the log, which has it all.
        self.inner.reads.db.give_up();
        let mut closed = self.inner.closed.clone();
        // An error means that the sender is gone, which it is only when all is done.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Ends leases that are over, for as long as the member runs.
    pub(crate) async fn expire_leases(self) {
        let token = self.inner.tasks.token();
        let mut leader = self.inner.leader.subscribe();
        loop {
            let now = self.inner.clock.monotonic();
            let expired = if self.keeps_leases() { self.inner.leases.expired(now) } else { Vec::new() };
            for id in expired {
                match self.propose(Entry::LeaseRevoke { id }).await {
                    Ok(_) => {
                        let expired = &self.inner.leases.counts.expired;
                        expired.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    Err(Error::LeaseNotFound) => {}
                    Err(Error::ShuttingDown) => return,
                    Err(error) => {
                        tracing::warn!(%id, %error, "an expired lease stays for now");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            self.checkpoint_leases().await;
            let leading = self.keeps_leases();
            tokio::select! {
                biased;
                () = self.inner.leases.wait(self.inner.clock.monotonic()), if leading => {}
                _ = leader.changed(), if self.inner.member.is_some() => {}
                () = token.cancelled() => return,
            }
        }
    }

    /// Notes what is left of long leases, when it is time.
    async fn checkpoint_leases(&self) {
        if !self.keeps_leases() {
            return;
        }
        let remaining = self.inner.leases.checkpoint(self.inner.clock.monotonic());
        if !remaining.is_empty()
            && let Err(error) = self.propose(Entry::LeaseCheckpoint { remaining }).await
        {
            tracing::warn!(%error, "what is left of leases is not noted");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(crate) async fn propose(&self, entry: Entry) -> Result<Reply, Error> {
        let stats = self.inner.reads.db.stats.clone();
        let _pending = stats.proposing();
        let result = self.propose_now(entry).await;
        stats.proposed(&result);
        result
    }

    async fn propose_now(&self, entry: Entry) -> Result<Reply, Error> {
        self.inner.health.check()?;
        if !is_about_alarms(&entry) {
            self.inner.health.check_state()?;
        }
        let mut encoded = Vec::with_capacity(entry.bytes_about());
        entry.encode(&mut encoded);
        self.check_quota(&entry, encoded.len()).await?;
        let (reply, replied) = oneshot::channel();
        let enqueued = tokio::time::timeout(QUEUE_PATIENCE, self.enqueue(entry, encoded, reply)).await;
        enqueued.map_err(|_| Error::TooManyRequests)??;
        let answer = tokio::time::timeout(REPLY_PATIENCE, replied).await;
        let answer = answer.map_err(|_| Error::Unavailable("the log did not answer in time".to_owned()))?;
        answer.unwrap_or(Err(Error::ShuttingDown))
    }

    async fn enqueue(
        &self,
        entry: Entry,
        encoded: Vec<u8>,
        reply: oneshot::Sender<Result<Reply, Error>>,
    ) -> Result<(), Error> {
        let bytes = encoded.len().min(QUEUE_BYTES) as u32;
        let room =
            self.inner.room.clone().acquire_many_owned(bytes).await.map_err(|_| Error::ShuttingDown)?;
        let proposal = Request::Propose(Proposal { entry, encoded, reply, room });
        self.inner.requests.send(proposal).await.map_err(|_| Error::ShuttingDown)
    }

    async fn run_txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        mvcc::validate(&txn)?;
        if mvcc::is_read_only(&txn) {
            return self.read_txn(None, txn).await;
        }
        match self.propose(Entry::Txn(txn)).await? {
            Reply::Txn(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn read_txn(&self, who: Option<Caller>, txn: Txn) -> Result<TxnResponse, Error> {
        self.read_barrier().await?;
        let reads = self.inner.reads.clone();
        if is_short(&txn) {
            return reads.txn(who.as_ref(), &txn);
        }
        blocking(move || reads.txn(who.as_ref(), &txn)).await
    }

    pub(crate) async fn run_range(
        &self,
        who: Option<Caller>,
        request: RangeRequest,
    ) -> Result<RangeResponse, Error> {
        if !request.serializable {
            self.read_barrier().await?;
        }
        let reads = self.inner.reads.clone();
        if matches!(request.range, KeyRange::One(_)) {
            return reads.range(who.as_ref(), &request);
        }
        // A scan may be long, and may wait for the disk: not on a thread that serves connections.
        blocking(move || reads.range(who.as_ref(), &request)).await
    }

    async fn grant(&self, id: LeaseId, ttl_s: i64) -> Result<LeaseStatus, Error> {
        loop {
            let chosen = if id.get() == 0 { self.random_lease() } else { id };
            match self.propose(Entry::LeaseGrant { id: chosen, ttl_s }).await {
                Ok(Reply::LeaseGranted(status)) => return Ok(status),
                Ok(other) => return Err(unexpected(&other)),
                Err(Error::LeaseExists) if id.get() == 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn random_lease(&self) -> LeaseId {
        let number = self.inner.random.lock().next_u64() >> 1;
        LeaseId(number.cast_signed().max(1))
    }

    fn lease_status_now(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let now = self.inner.clock.monotonic();
        let view = self.inner.reads.db.view()?;
        let Some(granted_ttl_s) = read::lease(&view, id)? else {
            return Ok(LeaseStatus { id, granted_ttl_s: 0, ttl_s: -1, keys: Vec::new() });
        };
        let left = self.inner.leases.left(id, now).unwrap_or_default();
        let keys = read::lease_keys(&view, id)?;
        Ok(LeaseStatus { id, granted_ttl_s, ttl_s: left.as_secs_f64().ceil() as i64, keys })
    }

    fn open_watch(&self, request: WatchRequest) -> Result<Watch, Error> {
        if *self.inner.closed.borrow() {
            return Err(Error::ShuttingDown);
        }
        let (watch, follow) = self.inner.hub.open(self.inner.reads.clone(), request);
        self.inner.tasks.spawn(TaskKind::Connection, "store-watch", async move {
            follow.await;
            Ok::<_, std::convert::Infallible>(())
        });
        Ok(watch)
    }
}

/// Whether a transaction that only reads looks at single keys.
fn is_short(txn: &Txn) -> bool {
    let compares = txn.compare.iter().all(|compare| matches!(compare.range, KeyRange::One(_)));
    let ops = txn.success.iter().chain(&txn.failure);
    compares && ops.into_iter().all(|op| matches!(op, Op::Range(r) if matches!(r.range, KeyRange::One(_))))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|join| Err(Error::Unavailable(format!("the read was not finished: {join}"))))
}

fn unexpected(reply: &Reply) -> Error {
    Error::Corrupt(format!("unexpected reply {reply:?}"))
}

impl Store for Handle {
    fn range(&self, request: RangeRequest) -> Future_<'_, RangeResponse> {
        Box::pin(self.run_range(None, request))
    }

    fn txn(&self, txn: Txn) -> Future_<'_, TxnResponse> {
        Box::pin(self.run_txn(txn))
    }

    fn watch(&self, request: WatchRequest) -> Future_<'_, Watch> {
        Box::pin(async move { self.open_watch(request) })
    }

    fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Future_<'_, LeaseStatus> {
        Box::pin(self.grant(id, ttl_s))
    }

    fn lease_revoke(&self, id: LeaseId) -> Future_<'_, ()> {
        Box::pin(async move { self.propose(Entry::LeaseRevoke { id }).await.map(drop) })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        Box::pin(self.keep_alive(id))
    }

    fn lease_status(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        Box::pin(self.lease_status_asked(id))
    }

    fn compact(&self, revision: Revision) -> Future_<'_, ()> {
        Box::pin(async move { self.propose(Entry::Compact { revision }).await.map(drop) })
    }

    fn revision(&self) -> Revision {
        self.inner.hub.revision()
    }
}
