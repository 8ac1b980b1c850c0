//! Starting a member: open, replay, and set the threads going.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use base::task::{TaskKind, Tasks};
use commitlog::wal::{WalFrame, WalMeta};
use commitlog::{Log, LogOptions, Offset, OpenFrom};
use mvcc::watch::Hub;
use mvcc::{Entry, LeaseChange, read};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::applier::{Applier, Applying, DURABLE_EVERY};
use crate::auth::Auth;
use crate::db::{self, AppliedIndex, Db};
use crate::handle::{Handle, Inner, QUEUE_BYTES, QUEUE_ENTRIES, Reads};
use crate::identity::Identity;
use crate::leases::Leases;
use crate::proposer::{Proposer, Request};
use crate::replicator::{KIND_ENTRY, Single};
use crate::{Error, LogIndex, Options, format, raft};

/// A segment of the log. A start after a crash reads at most about one and a half of them.
pub(crate) const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Zeros written ahead of the log's end, so that most syncs change no metadata of the file system.
pub(crate) const ZERO_FILL_BYTES: u64 = 256 * 1024;
/// Entries replayed in one transaction.
const REPLAY_ENTRIES: usize = 1024;
/// Batches that may wait to be applied: one under way, one ready.
const BATCHES: usize = 2;

/// The room. See [`Service::start`].
#[derive(Debug)]
pub struct Service;

impl Service {
    /// Starts a member: opens its files, replays its log, and serves. Blocks for as long as that takes (milliseconds,
    /// unless much was written just before a crash). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn start(options: Options, tasks: &Tasks) -> Result<Handle, Error> {
        let disk = &*options.disk;
        disk.create_dir_all(&options.dir).map_err(Error::io(&options.dir))?;
        format::check(disk, &options.dir)?;
        if raft::start::is_member(disk, &options.dir) {
            return Err(Error::Member { dir: options.dir });
        }
        let db = Arc::new(Db::open(&options.disk, &options.dir, options.cache_bytes)?);
        db.settle(&options);
        let identity = Identity::read_or_make(disk, &options.dir, &mut options.random.clone())?;
        let (applier, tail) = open_log(&options, db)?;
        let applier = replay(applier, tail, &options.dir)?;
        launch(options, identity, applier, tasks)
    }

    /// Starts a member of a cluster: a new one, one that joins, or what ran alone in the directory so far. Serves what
    /// needs no leader at once; [`Handle::leader_changes`] tells when there is one.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn start_member(
        options: Options,
        cluster: raft::ClusterOptions,
        tasks: &Tasks,
    ) -> Result<Handle, Error> {
        raft::start::start(options, cluster, tasks).await
    }
}

/// Entries of the log that the state has not seen.
type Tail = Vec<(WalMeta, bytes::Bytes)>;

fn open_log(options: &Options, db: Arc<Db>) -> Result<(Applier, Tail), Error> {
    let dir = options.dir.join("wal");
    let state_path = options.dir.join("state.redb");
    let view = db.view().map_err(|e| Error::corrupt(&state_path, e))?;
    let state = |e: mvcc::StateError| Error::corrupt(&state_path, e);
    let applied = db::applied(&view).map_err(state)?;
    let hub = Arc::new(Hub::new(read::revision(&view).map_err(state)?));
    let leases = Arc::new(Leases::default());
    let granted: Vec<_> = read::leases(&view).map_err(state)?;
    let granted: Vec<_> = granted.into_iter().map(|(id, ttl_s)| LeaseChange::Granted { id, ttl_s }).collect();
    leases.apply(&granted, options.clock.monotonic());
    leases.note(&read::leases_noted(&view).map_err(state)?, options.clock.monotonic());
    let auth = Arc::new(Auth::new(&options.auth, options.clock.clone())?);
    auth.reset(mvcc::auth::status(&view).map_err(state)?);
    drop(view);
    let next = Offset(applied.index.get() + 1);
    let layout = LogOptions {
        segment_bytes: SEGMENT_BYTES,
        zero_fill_bytes: ZERO_FILL_BYTES,
        ..LogOptions::default()
    };
    let mut tail = Tail::new();
    let (log, recovery) = Log::<WalFrame>::open(
        options.disk.clone(),
        &dir,
        layout,
        OpenFrom::RecoveryPoint(next),
        next,
        &mut |f, bytes| {
            if f.first >= next {
                tail.extend(WalFrame::decode(bytes));
            }
        },
    )
    .map_err(|e| unreadable(&dir, e))?;
    if recovery.cut_bytes > 0 {
        tracing::info!(bytes = recovery.cut_bytes, "cut the unfinished end of the log");
    }
    check_tail(&log, &tail, next, &dir)?;
    // What was found may be in the page cache only: nobody may see it before it is durable.
    log.flush().map_err(|e| Error::corrupt(&dir, e))?;
    let applier = Applier {
        db,
        hub,
        leases,
        auth,
        clock: options.clock.clone(),
        log: Arc::new(log),
        health: Arc::default(),
        me: None,
        applied,
        dirty: None,
        unsynced: None,
        swollen: false,
        wakes: None,
        pending: 0,
        durable_every: DURABLE_EVERY,
        sweeping: true,
        keeps_log: false,
    };
    Ok((applier, tail))
}

/// Why a log cannot be opened, and what to do.
pub(crate) fn unreadable(dir: &Path, error: commitlog::Error) -> Error {
    let commitlog::Error::Damaged { path, position, first, durable } = error else {
        return Error::corrupt(dir, error);
    };
    let text = format!(
        "damaged at byte {position}: entry {first} cannot be read, but entries below {durable} were durable. Nothing was \
         changed. Restore a snapshot into another directory, or, where other members run, remove this member and let it \
         join anew with an empty directory. To go on without the entries from {first} on, which may have been \
         acknowledged (never while other members run): remove the file DURABLE beside this one"
    );
    Error::corrupt(&path, text)
}

/// The log must go on where the state stands.
fn check_tail(log: &Log<WalFrame>, tail: &Tail, next: Offset, dir: &Path) -> Result<(), Error> {
    let gap = tail.iter().zip(next.get()..).find(|((meta, _), expect)| meta.index.get() != *expect);
    if let Some(((meta, _), expect)) = gap {
        return Err(Error::corrupt(dir, format!("entry {} stands where {expect} should", meta.index)));
    }
    if log.end() < next {
        let text = format!("the log ends before entry {}, but the state has seen it", next.get() - 1);
        return Err(Error::corrupt(dir, text));
    }
    Ok(())
}

fn replay(mut applier: Applier, tail: Tail, dir: &Path) -> Result<Applier, Error> {
    let wal = dir.join("wal");
    for chunk in tail.chunks(REPLAY_ENTRIES) {
        let mut entries = Vec::with_capacity(chunk.len());
        for (meta, payload) in chunk {
            if meta.kind != KIND_ENTRY {
                return Err(Error::corrupt(
                    &wal,
                    format!("entry {} is of unknown kind {}", meta.index, meta.kind),
                ));
            }
            entries.push(Entry::decode(payload.clone()).map_err(|e| Error::corrupt(&wal, e))?);
        }
        let Some((last, _)) = chunk.last() else { break };
        let applied = AppliedIndex { index: LogIndex(last.index.get()), term: last.term, node: last.node };
        // Refusals were answered before the crash, or nobody waits for them any more.
        applier.apply(&entries, applied, None).map_err(|e| Error::corrupt(dir, e))?;
    }
    if !tail.is_empty() {
        tracing::info!(entries = tail.len(), "replayed the log");
    }
    applier.heed_alarms().map_err(|e| Error::corrupt(dir, e))?;
    Ok(applier)
}

fn launch(options: Options, identity: Identity, applier: Applier, tasks: &Tasks) -> Result<Handle, Error> {
    let (requests, queue) = mpsc::channel(QUEUE_ENTRIES);
    let (done, closed) = watch::channel(false);
    let inner = Inner {
        reads: Arc::new(Reads { db: applier.db.clone(), health: applier.health.clone() }),
        hub: applier.hub.clone(),
        leases: applier.leases.clone(),
        auth: applier.auth.clone(),
        health: applier.health.clone(),
        clock: options.clock,
        requests,
        room: Arc::new(Semaphore::new(QUEUE_BYTES)),
        random: Mutex::new(options.random),
        tasks: tasks.clone(),
        closed,
        identity,
        log: applier.log.clone(),
        leader: watch::Sender::new(Some(identity.member_id)),
        member: None,
    };
    spawn_threads(&options.dir, queue, applier, done)?;
    let handle = Handle { inner: Arc::new(inner) };
    spawn_tasks(&handle, tasks);
    Ok(handle)
}

fn spawn_threads(
    dir: &Path,
    requests: mpsc::Receiver<Request>,
    applier: Applier,
    done: watch::Sender<bool>,
) -> Result<(), Error> {
    let (out, works) = sync_channel(BATCHES);
    let (db, hub) = (applier.db.clone(), applier.hub.clone());
    let (log, health) = (applier.log.clone(), applier.health.clone());
    let replicator = Box::new(Single::new(log, db.stats.clone()));
    let applying = Arc::new(Applying::new(applier));
    let proposer = Proposer { requests, replicator, applying: applying.clone(), out, health };
    thread(dir, "store-log", move || proposer.run())?;
    thread(dir, "store-apply", move || {
        applying.run(&works);
        hub.close();
        db.close();
        done.send_replace(true);
    })?;
    Ok(())
}

fn thread(dir: &Path, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::io(dir))
}

pub(crate) fn spawn_tasks(handle: &Handle, tasks: &Tasks) {
    let (stats, mut leader) = (handle.inner.reads.db.stats.clone(), handle.leader_changes());
    let token = tasks.token();
    tasks.spawn(TaskKind::Service, "store-leaders", async move {
        let mut last = None;
        loop {
            let led = *leader.borrow_and_update();
            if led.is_some() && led != last {
                last = led;
                stats.leader_changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            tokio::select! {
                // An error means that the member is gone.
                changed = leader.changed() => if changed.is_err() { return Ok::<_, std::convert::Infallible>(()) },
                () = token.cancelled() => return Ok(()),
            }
        }
    });
    let expiring = handle.clone();
    tasks.spawn(TaskKind::Service, "store-leases", async move {
        expiring.expire_leases().await;
        Ok::<_, std::convert::Infallible>(())
    });
    let (closing, token) = (handle.clone(), tasks.token());
    tasks.spawn(TaskKind::Service, "store-close", async move {
        token.cancelled().await;
        closing.close().await;
        Ok::<_, std::convert::Infallible>(())
    });
}
