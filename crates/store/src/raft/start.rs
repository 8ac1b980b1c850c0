//! Starting a member of a cluster: open the directory, or make a member of what is in it, and set all going.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use base::disk::Disk;
use base::task::{TaskKind, Tasks};
use commitlog::wal::WalFrame;
use commitlog::{Flusher, Log, LogOptions, Offset, OpenFrom};
use mvcc::read;
use mvcc::watch::Hub;
use openraft::{Config, Membership, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::hands::Hands;
use super::log::{Kept, Outside, RaftLog, Syncing, write_purged, write_vote};
use super::machine::{Machine, Parked, Shared, applied_id};
use super::member::{Member, PeerDoor, READS};
use super::net::Networks;
use super::transport::{Listener, Tcp, Transport};
use super::types::{self, LogId, MemberNode, Members, Stored, Vote};
use super::{Begin, ClusterOptions, NetworkOptions, Sizes, Timing};
use crate::applier::{Applier, DURABLE_EVERY};
use crate::db::{self, Db};
use crate::handle::{Handle, Inner, QUEUE_BYTES, QUEUE_ENTRIES, Reads};
use crate::health::Health;
use crate::identity::Identity;
use crate::leases::Leases;
use crate::replicator::{NODE, TERM};
use crate::service::{ZERO_FILL_BYTES, unreadable};
use crate::stats::Stats;
use crate::{Error, Options, format};

/// Entries in one message to a follower, and in one write.
const MESSAGE_ENTRIES: u64 = 512;

/// A directory, opened.
struct Opened {
    identity: Identity,
    dir: PathBuf,
    raft_dir: PathBuf,
    db: Arc<Db>,
    log: Arc<Log<WalFrame>>,
    raft_log: RaftLog,
    members: Stored,
    voted: bool,
    /// It led when it stopped.
    led: bool,
    health: Arc<Health>,
}

/// Starts a member of a cluster. See [`crate::Service::start_member`].
pub(crate) async fn start(options: Options, cluster: ClusterOptions, tasks: &Tasks) -> Result<Handle, Error> {
    let opened = open(&options, &cluster, tasks)?;
    let identity = opened.identity;
    let ClusterOptions { name, client_urls, timing, sizes, network, hands, .. } = cluster;
    let applier = applier(&options, &opened)?;
    applier.heed_alarms().map_err(|e| Error::corrupt(&opened.dir, e))?;
    let shared = shared(&options, &opened, hands, applier);
    let (raft_log, raft_dir) = (opened.raft_log, opened.raft_dir);
    let (voted, led) = (opened.voted, opened.led);
    let door = Arc::new(PeerDoor::default());
    let (transport, listening) = connect(network, identity, door.clone(), tasks, &raft_dir, &shared.stats)?;
    let hears_within = timing.heartbeat * 2;
    let networks = Networks { transport: transport.clone(), shared: shared.clone(), hears_within };
    let machine = Machine { shared: shared.clone() };
    let config = Arc::new(config(timing, sizes).map_err(|error| Error::corrupt(&raft_dir, error))?);
    let built = Raft::build(identity.member_id, config, networks, raft_log, machine).await;
    let raft = built.map_err(|error| Error::corrupt(&raft_dir, error))?;
    let (reads, read_queue) = mpsc::channel(READS);
    let (leases, hub, health, db, log, auth) = {
        let applier = shared.applier.lock();
        let (leases, hub, health) = (applier.leases.clone(), applier.hub.clone(), applier.health.clone());
        (leases, hub, health, applier.db.clone(), applier.log.clone(), applier.auth.clone())
    };
    let promised = if voted { timing.election_max } else { std::time::Duration::ZERO };
    let member = Arc::new(Member {
        me: identity.member_id,
        raft,
        shared,
        transport,
        leases: leases.clone(),
        clock: options.clock.clone(),
        leader: watch::Sender::new(None),
        news: Notify::new(),
        reads,
        votes_from: Instant::now() + promised,
        incoming: Mutex::new(HashMap::new()),
        lease: timing.election_max,
        numbers: AtomicU64::new(options.random.clone().next_u64()),
        refused_for_space: AtomicBool::new(false),
    });
    // The door was made a moment ago and is empty.
    let _ = door.member.set(member.clone());
    member.raft.run();
    if led && let Err(error) = member.raft.trigger().elect(false).await {
        // It asks again when its time comes.
        tracing::debug!(%error, "not elected at once");
    }
    if let Some((listener, serve)) = listening {
        serve.serve(listener, tasks);
    }
    let (requests, queue) = mpsc::channel(QUEUE_ENTRIES);
    let (done, closed) = watch::channel(false);
    let inner = Inner {
        reads: Arc::new(Reads { db, health: health.clone() }),
        hub,
        leases,
        health,
        clock: options.clock,
        requests,
        room: Arc::new(Semaphore::new(QUEUE_BYTES)),
        random: Mutex::new(options.random),
        tasks: tasks.clone(),
        closed,
        identity,
        log,
        leader: member.leader.clone(),
        auth,
        member: Some(member.clone()),
    };
    let handle = Handle { inner: Arc::new(inner) };
    spawn(&member, queue, read_queue, done, (name, client_urls), tasks);
    crate::service::spawn_tasks(&handle, tasks);
    Ok(handle)
}

fn config(timing: Timing, sizes: Sizes) -> Result<Config, openraft::ConfigError> {
    let ms = |time: std::time::Duration| time.as_millis() as u64;
    Config {
        cluster_name: "ketch".to_owned(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        enable_pre_vote: Some(true),
        max_payload_entries: MESSAGE_ENTRIES,
        max_append_entries: Some(MESSAGE_ENTRIES),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(sizes.snapshot_entries),
        max_in_snapshot_log_to_keep: sizes.keep_entries,
        replication_lag_threshold: sizes.keep_entries + sizes.snapshot_entries,
        purge_batch_size: 1024,
        install_snapshot_timeout: 120_000,
        // A member sends entries while it syncs them: a leader that lost some with the power, and led on in the same term,
        // would give their numbers to others. It must be elected anew.
        enable_leader_restore: Some(false),
        // Never long: a follower that comes back is needed at once.
        backoff: "20ms 40ms 80ms ...150ms".to_owned(),
        ..Config::default()
    }
    .validate()
}

fn open(options: &Options, cluster: &ClusterOptions, tasks: &Tasks) -> Result<Opened, Error> {
    let (disk, dir) = (&*options.disk, options.dir.clone());
    let raft_dir = dir.join("raft");
    disk.create_dir_all(&dir).map_err(Error::io(&dir))?;
    disk.create_dir_all(&raft_dir).map_err(Error::io(&raft_dir))?;
    format::check(disk, &dir)?;
    let db = Arc::new(Db::open(&options.disk, &dir, options.cache_bytes)?);
    db.settle(options);
    let mut kept = Kept::read(disk, &raft_dir)?;
    // A name whose sync failed is there until the power goes; what is read counts as durable from here on.
    disk.sync_dir(&raft_dir).map_err(Error::io(&raft_dir))?;
    let identity = match (&kept.purged, &cluster.begin) {
        (Some(_), _) | (None, Begin::Alone) => {
            Identity::read_or_make(disk, &dir, &mut options.random.clone())?
        }
        (None, Begin::Together { cluster_id, member_id, .. } | Begin::Join { cluster_id, member_id }) => {
            let given = Identity { cluster_id: *cluster_id, member_id: *member_id };
            given.write(disk, &dir)?;
            given
        }
    };
    let voted = kept.vote.is_some();
    let led = kept.vote.is_some_and(|vote| vote.committed && vote.leader_id.node_id == identity.member_id);
    let log = open_log(options, &kept, cluster.sizes)?;
    if kept.purged.is_none() {
        become_member(options, cluster, identity, &db, &log, &mut kept)?;
    }
    let purged = kept.purged.unwrap_or(types::origin_log_id());
    let (log, disk) = (Arc::new(log), options.disk.clone());
    let health = Arc::<Health>::default();
    let outside = Outside {
        hands: cluster.hands.clone(),
        health: health.clone(),
        closing: tasks.token(),
        stats: db.stats.clone(),
        cache_bytes: cluster.sizes.cache_bytes,
    };
    let syncing = if outside.hands.are_threads() {
        Syncing::Thread(Flusher::start("store-sync").map_err(Error::io(&raft_dir))?)
    } else {
        // Nobody else can make space while the only thread waits for it.
        db.give_up();
        Syncing::task(log.clone(), outside.clone(), tasks)
    };
    let raft_log = RaftLog::new(log.clone(), disk, &raft_dir, kept.vote, purged, syncing, outside)
        .map_err(|error| Error::corrupt(&raft_dir, error))?;
    let state = |e: mvcc::StateError| Error::corrupt(&dir.join("state.redb"), e);
    let view = db.view().map_err(|e| Error::corrupt(&dir, e))?;
    let members = db::members(&view).map_err(state)?;
    let members = members.map(|mut bytes| types::take_stored(&mut bytes)).transpose();
    let members = members.map_err(|error| Error::corrupt(&dir, error))?.unwrap_or_default();
    drop(view);
    Ok(Opened { identity, dir, raft_dir, db, log, raft_log, members, voted, led, health })
}

/// Opens the log; all of it counts, also what the state has applied: followers may need it.
fn open_log(options: &Options, kept: &Kept, sizes: Sizes) -> Result<Log<WalFrame>, Error> {
    let dir = options.dir.join("wal");
    let start = Offset(kept.purged.map_or(1, |purged| purged.index.cast_signed() + 1));
    let zero_fill_bytes = ZERO_FILL_BYTES.min(sizes.segment_bytes / 4);
    let layout = LogOptions { segment_bytes: sizes.segment_bytes, zero_fill_bytes, ..LogOptions::default() };
    let from = OpenFrom::RecoveryPoint(start);
    let (log, recovery) =
        Log::<WalFrame>::open(options.disk.clone(), &dir, layout, from, start, &mut |_, _| {})
            .map_err(|e| unreadable(&dir, e))?;
    if recovery.cut_bytes > 0 {
        tracing::info!(bytes = recovery.cut_bytes, "cut the unfinished end of the log");
    }
    log.flush().map_err(|e| Error::corrupt(&dir, e))?;
    Ok(log)
}

/// Makes a member of a directory that is empty, or was a member's that ran alone.
fn become_member(
    options: &Options,
    cluster: &ClusterOptions,
    identity: Identity,
    db: &Arc<Db>,
    log: &Log<WalFrame>,
    kept: &mut Kept,
) -> Result<(), Error> {
    let (disk, raft_dir) = (&*options.disk, options.dir.join("raft"));
    let state = |e: mvcc::StateError| Error::corrupt(&options.dir.join("state.redb"), e);
    let applied = db::applied(&db.view().map_err(|e| Error::corrupt(&options.dir, e))?).map_err(state)?;
    let lone = applied.index.get() > 0 || log.end().get() > 1;
    if lone && !matches!(cluster.begin, Begin::Alone) {
        let text =
            "the directory holds the data of another member; a member that joins begins with an empty one";
        return Err(Error::corrupt(&options.dir, text));
    }
    if log.end() <= Offset(applied.index.get()) {
        // A restored state comes without a log.
        log.reset(Offset(applied.index.get() + 1)).map_err(|e| Error::corrupt(&raft_dir, e))?;
    }
    // What one member had written is in every log that follows it, below the first election.
    let last = log.end().get() - 1;
    let lone_id = |index: i64| match index {
        0 => types::origin_log_id(),
        index => types::log_id(TERM, NODE, index.unsigned_abs()),
    };
    if let Some(members) = first_members(cluster, identity) {
        let mut encoded = Vec::new();
        types::put_stored(&mut encoded, &Stored::new(Some(applied_id(applied)), members));
        // On the disk before the directory is a member's.
        let done = db.update(true, |state| state.set_members(&encoded)).and_then(|()| db.wait_synced());
        done.map_err(state)?;
    }
    if last > 0 || applied.index.get() > 0 {
        let vote = Vote::new(TERM, identity.member_id);
        write_vote(disk, &raft_dir, &vote).map_err(Error::io(&raft_dir))?;
        kept.vote = Some(vote);
    }
    let purged: LogId = lone_id((log.start().get() - 1).max(0));
    // Last: what makes a member of the directory.
    write_purged(disk, &raft_dir, &purged).map_err(Error::io(&raft_dir))?;
    kept.purged = Some(purged);
    Ok(())
}

/// Whom a new cluster begins with; None where others tell.
fn first_members(cluster: &ClusterOptions, identity: Identity) -> Option<Members> {
    let members: Vec<(u64, MemberNode)> = match &cluster.begin {
        Begin::Join { .. } => return None,
        Begin::Together { members, .. } => members.clone(),
        Begin::Alone => {
            let node = MemberNode {
                name: cluster.name.clone(),
                peer_urls: cluster.peer_urls.clone(),
                client_urls: cluster.client_urls.clone(),
                joining: false,
            };
            vec![(identity.member_id, node)]
        }
    };
    let voters: BTreeSet<u64> = members.iter().map(|(id, _)| *id).collect();
    let nodes: BTreeMap<u64, MemberNode> = members.into_iter().collect();
    Some(Membership::new(vec![voters], nodes).expect("every voter has its node"))
}

fn applier(options: &Options, opened: &Opened) -> Result<Applier, Error> {
    let path = opened.dir.join("state.redb");
    let state = |e: mvcc::StateError| Error::corrupt(&path, e);
    let view = opened.db.view().map_err(|e| Error::corrupt(&path, e))?;
    let auth = Arc::new(crate::auth::Auth::new(&options.auth, options.clock.clone())?);
    auth.reset(mvcc::auth::status(&view).map_err(state)?);
    let leases = Arc::new(Leases::default());
    leases.reset(&read::leases(&view).map_err(state)?, options.clock.monotonic());
    leases.note(&read::leases_noted(&view).map_err(state)?, options.clock.monotonic());
    Ok(Applier {
        applied: db::applied(&view).map_err(state)?,
        hub: Arc::new(Hub::new(read::revision(&view).map_err(state)?)),
        db: opened.db.clone(),
        leases,
        clock: options.clock.clone(),
        log: opened.log.clone(),
        health: opened.health.clone(),
        me: Some(opened.identity.member_id),
        dirty: None,
        unsynced: None,
        swollen: false,
        wakes: None,
        pending: 0,
        durable_every: DURABLE_EVERY,
        sweeping: true,
        keeps_log: true,
        auth,
    })
}

fn shared(options: &Options, opened: &Opened, hands: Hands, applier: Applier) -> Arc<Shared> {
    Arc::new(Shared {
        me: opened.identity.member_id,
        dir: opened.dir.clone(),
        disk: options.disk.clone(),
        hands,
        parked: Parked::default(),
        members: Mutex::new(opened.members.clone()),
        snapshot: Mutex::new(None),
        applied: watch::Sender::new(applier.applied.index.get().unsigned_abs()),
        dirty: Notify::new(),
        term: AtomicU64::new(applier.applied.term),
        health: applier.health.clone(),
        stats: opened.db.stats.clone(),
        applier: Arc::new(Mutex::new(applier)),
    })
}

type Listening = Option<(tokio::net::TcpListener, Listener)>;

fn connect(
    network: NetworkOptions,
    identity: Identity,
    door: Arc<PeerDoor>,
    tasks: &Tasks,
    dir: &Path,
    stats: &Arc<Stats>,
) -> Result<(Arc<dyn Transport>, Listening), Error> {
    let Identity { cluster_id, member_id } = identity;
    match network {
        NetworkOptions::Given(make) => Ok((make(cluster_id, member_id, door), None)),
        NetworkOptions::Listen { listener, tls, joining } => {
            listener.set_nonblocking(true).map_err(Error::io(dir))?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::io(dir))?;
            let transport = Tcp::new(cluster_id, member_id, tls.clone(), tasks.clone(), stats.clone());
            let stats = stats.clone();
            let serve = Listener { cluster_id, me: member_id, tls, handler: door, joining, stats };
            Ok((transport, Some((listener, serve))))
        }
    }
}

fn spawn(
    member: &Arc<Member>,
    queue: mpsc::Receiver<crate::proposer::Request>,
    reads: mpsc::Receiver<super::member::ReadWaiter>,
    done: watch::Sender<bool>,
    (name, client_urls): (String, Vec<String>),
    tasks: &Tasks,
) {
    let go = |name, work: futures::future::BoxFuture<'static, ()>| {
        tasks.spawn(TaskKind::Service, name, async move {
            work.await;
            Ok::<_, std::convert::Infallible>(())
        });
    };
    let token = tasks.token();
    let stop = |work: futures::future::BoxFuture<'static, ()>| {
        let token = token.clone();
        Box::pin(async move {
            tokio::select! { biased; () = token.cancelled() => {}, () = work => {} }
        })
    };
    go("store-duties", stop(Box::pin(member.clone().duties())));
    go("store-reads", stop(Box::pin(member.clone().admit_reads(reads))));
    go("store-compare", stop(Box::pin(member.clone().compare_now_and_then())));
    let damaged = Arc::new(Notify::new());
    member.shared.health.tell(damaged.clone());
    go("store-damage", stop(Box::pin(member.clone().accuse_itself(damaged))));
    go("store-durable", stop(Box::pin(keep_durable(member.shared.clone()))));
    let publishing = member.clone();
    go("store-publish", stop(Box::pin(async move { publishing.publish(name, client_urls).await })));
    let member = member.clone();
    go(
        "store-propose",
        Box::pin(async move {
            member.clone().propose(queue).await;
            finish(&member).await;
            done.send_replace(true);
        }),
    );
}

/// Commits durably a while after something was applied.
async fn keep_durable(shared: Arc<Shared>) {
    loop {
        let work = shared.clone();
        let due = match shared.hands.run(move || work.settle()).await {
            Ok(due) => due,
            Err(error) => return tracing::error!(%error, "the state is not made durable any more"),
        };
        let applied = shared.dirty.notified();
        match due {
            None => applied.await,
            // More may come, and bring the time closer; how often that is looked at is bounded.
            Some(due) if due > DURABLE_EVERY => {
                let _ = tokio::time::timeout(due, applied).await;
                tokio::time::sleep(DURABLE_EVERY).await;
            }
            Some(due) => tokio::time::sleep(due).await,
        }
    }
}

/// Stops consensus and closes the files.
async fn finish(member: &Member) {
    if let Err(error) = member.raft.shutdown().await {
        tracing::debug!(%error, "consensus ended");
    }
    member.tell_leader(None);
    member.shared.parked.refuse_all(&store_api::Error::ShuttingDown);
    let shared = member.shared.clone();
    let closed = member.shared.hands.run(move || {
        let mut applier = shared.applier.lock();
        let finished = applier.finish().map_err(std::io::Error::other);
        applier.hub.close();
        applier.db.close();
        finished
    });
    if let Err(error) = closed.await {
        tracing::error!(%error, "the state was not made durable; the log will be replayed");
    }
}

/// Whether the directory is a cluster member's.
pub(crate) fn is_member(disk: &dyn Disk, dir: &Path) -> bool {
    disk.exists(&dir.join("raft").join("PURGED"))
}
