//! Starting, upkeep and stopping.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use commitlog::Flusher;
use commitlog::kafka::directory::{self, MetaProperties};
use store_api::{Op, Store, Txn};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use crate::api::{Broker, Parts};
use crate::catalog::{Catalog, LastStop};
use crate::config::Server;
use crate::features::Features;
use crate::follow::follow;
use crate::listeners::{self, Listener};
use crate::log_dir::{LogDir, Troubles};
use crate::partition::Partition;
use crate::quotas::Quotas;
use crate::resources::{Following, Resources};
use crate::root::Root;
use crate::{Error, Options, door, exchange, names, upkeep};

/// Key of the cluster's id in the store.
pub(crate) const CLUSTER_ID: &str = "/ketch/kafka/cluster-id";
/// Key of the ids of the directories that this broker uses, in the store.
const DIRECTORIES: &str = "/ketch/kafka/directories/";
/// How long a stop waits for connections to take their answers.
const DRAIN: Duration = Duration::from_secs(3);

/// The broker.
#[derive(Debug)]
pub struct Service;

/// A running broker.
#[derive(Clone)]
pub struct Handle {
    addrs: Vec<SocketAddr>,
    stop: Arc<Stop>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

struct Stop {
    broker: Arc<Broker>,
    connections: Tasks,
    closed: Mutex<bool>,
    done: watch::Sender<bool>,
}

impl Handle {
    /// The first address listened on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }
    /// All addresses listened on, in the order of the options.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
    /// Resolves when the broker answers: at once, because `start` returns only then.
    pub async fn ready(&self) {}

    /// The Prometheus text of now, in the names of the JMX exporter's usual Kafka mapping.
    #[must_use]
    pub fn metrics(&self) -> String {
        crate::metrics::text(&self.stop.broker)
    }

    /// Resolves when the broker has stopped and everything is closed.
    pub async fn stopped(&self) {
        let mut done = self.stop.done.subscribe();
        // The sender lives as long as this handle.
        let _ = done.wait_for(|done| *done).await;
    }

    /// Stops: answers what is under way, flushes and closes every log, leaves the marks of a clean stop. The same
    /// happens by itself when the tasks given to `start` are shut down; calling it twice is fine.
    pub async fn shutdown(&self) {
        let mut closed = self.stop.closed.lock().await;
        if *closed {
            return;
        }
        self.stop.connections.shutdown(DRAIN).await;
        let broker = self.stop.broker.clone();
        let result = tokio::task::spawn_blocking(move || close(&broker)).await;
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the broker was not closed cleanly"),
            Err(error) => tracing::error!(%error, "closing the broker panicked"),
        }
        self.stop.broker.catalog.root.dirs.iter().for_each(|dir| dir.release());
        *closed = true;
        self.stop.done.send_replace(true);
    }
}

/// Closes every log and leaves the marks of a clean stop in every directory that is closed cleanly.
fn close(broker: &Broker) -> Result<(), Error> {
    let mut result = Ok(());
    for dir in broker.catalog.root.online() {
        result = result.and(close_dir(broker, dir));
    }
    result
}

fn close_dir(broker: &Broker, dir: &Arc<LogDir>) -> Result<(), Error> {
    let partitions = broker.catalog.partitions();
    let mine: Vec<_> =
        partitions.into_iter().filter(|partition| Arc::ptr_eq(&partition.dir(), dir)).collect();
    close_all(&mine)?;
    let futures = broker.catalog.partitions().into_iter().filter_map(|partition| partition.future());
    for future in futures.filter(|future| Arc::ptr_eq(&future.dir, dir)) {
        future.log.close()?;
    }
    dir.sync_new_directories().map_err(Error::io(dir.path.display()))?;
    broker.catalog.write_checkpoints_of(dir).map_err(Error::io("offset checkpoints"))?;
    if !broker.catalog.is_whole(dir) {
        // Nobody knows how the logs that could not be opened end: the mark would vouch for them.
        return Ok(());
    }
    directory::mark_clean(&*dir.disk, &dir.path).map_err(Error::io("clean-shutdown marker"))
}

/// Threads that close logs: their syncs share the disk's journal.
const CLOSERS: usize = 8;

fn close_all(partitions: &[Arc<Partition>]) -> Result<(), Error> {
    let (next, failed) = (AtomicUsize::new(0), parking_lot::Mutex::new(None));
    let work = || {
        while let Some(partition) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = partition.log().close() {
                failed.lock().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..CLOSERS.min(partitions.len()) {
            // Without a thread to spare, this one does all of it.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    failed.into_inner().map_or(Ok(()), |error| Err(error.into()))
}

impl Service {
    /// Starts the broker: when this returns, clients are served. Tasks end with `tasks`.
    ///
    /// # Errors
    /// Wrong options, a directory in use or of another owner, an address in use, a disk or store that fails.
    pub async fn start(options: Options, store: Arc<dyn Store>, tasks: &Tasks) -> Result<Handle, Error> {
        let mut server = Server::new(options.properties.clone()).map_err(Error::Config)?;
        let mut opened = Opened::open(&options, &server)?;
        let mut listeners = listeners::of(&options, &server)?;
        let bound = bind(&mut listeners).await?;
        let addrs = bound.iter().map(|(_, addr)| *addr).collect::<Vec<_>>();
        let cluster_id = cluster_id(&options, &opened, &*store).await?;
        opened.claim(&options, &cluster_id)?;
        opened.last.missing = opened.missing(&options, &*store).await?;
        tell_server(&mut server, &options, &opened.dirs, &listeners);
        server.check_cordoned(server.statics()).map_err(Error::Config)?;
        let server = Arc::new(server);
        let flusher = Flusher::start("kafka-flush").map_err(Error::io("flusher thread"))?;
        let from: Vec<_> =
            opened.last.dirs.iter().map(|(dir, stop)| exchange::Source::of(dir, stop)).collect();
        exchange::resume(&from, &*store, options.broker_id).await?;
        drop(from);
        let Opened { dirs, troubles, last, .. } = opened;
        let missing = last.missing.clone();
        let root = Root::new(dirs, troubles, options.clock.clone(), flusher, options.durability);
        let resources = Resources::new(store.clone(), server.clone(), options.broker_id);
        let configured = resources.load().await?;
        let quotas = Quotas::new(store.clone(), &server);
        let limited = quotas.load().await?;
        let features = Features::new(store.clone());
        let leveled = features.load().await?;
        let catalog = Arc::new(Catalog::new(root, store.clone(), server.clone(), last));
        catalog.survey().await?;
        let revision = catalog.load().await?;
        catalog.upgrade().await;
        catalog.finish_boot();
        catalog.settle().await;
        note_directories(&options, &catalog, &missing, &*store).await?;
        let connections = tasks.child();
        let parts = Parts {
            catalog: catalog.clone(),
            server,
            resources: resources.clone(),
            quotas: quotas.clone(),
            features: features.clone(),
            listeners,
            store: store.clone(),
        };
        let broker = Broker::new(&options, cluster_id, parts, connections.clone());
        let topics = follow(store.clone(), catalog.clone(), revision, tasks.token());
        tasks.spawn(TaskKind::Critical, "kafka-catalog", topics);
        let following = Arc::new(Following { resources, catalog });
        let configs = follow(store.clone(), following, configured, tasks.token());
        tasks.spawn(TaskKind::Critical, "kafka-configs", configs);
        let limits = follow(store.clone(), quotas, limited, tasks.token());
        tasks.spawn(TaskKind::Critical, "kafka-quotas", limits);
        let levels = follow(store, features, leveled, tasks.token());
        tasks.spawn(TaskKind::Critical, "kafka-features", levels);
        upkeep::start(&broker, tasks);
        let resuming = broker.clone();
        connections.spawn(TaskKind::Service, "kafka-resume", async move {
            resuming.groups.resume(&resuming).await;
            resuming.transactions.resume(&resuming).await;
            Ok::<_, Error>(())
        });
        for (index, (listener, _)) in bound.into_iter().enumerate() {
            let accept = door::accept(listener, index, broker.clone(), connections.clone());
            connections.spawn(TaskKind::Critical, "kafka-accept", accept);
        }
        let (done, _) = watch::channel(false);
        let stop = Arc::new(Stop { broker, connections, closed: Mutex::new(false), done });
        let handle = Handle { addrs, stop };
        let (closing, token) = (handle.clone(), tasks.token());
        tasks.spawn(TaskKind::Service, "kafka-close", async move {
            token.cancelled().await;
            closing.shutdown().await;
            Ok::<_, Error>(())
        });
        Ok(handle)
    }
}

/// The directories taken into possession.
struct Opened {
    dirs: Vec<Arc<LogDir>>,
    /// By directory, for those that could be read.
    metas: Vec<Option<MetaProperties>>,
    troubles: Arc<Troubles>,
    last: LastStop,
}

/// The directories that `log.dirs` names, else `log.dir`, else the options, as absolute paths.
fn log_dirs(options: &Options, server: &Server) -> Result<Vec<PathBuf>, Error> {
    let named = ["log.dirs", "log.dir"].iter().find_map(|name| server.statics().get(*name));
    let paths: Vec<PathBuf> = match named {
        Some(list) => {
            list.split(',').map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect()
        }
        None => vec![options.dir.clone()],
    };
    let mut dirs = Vec::new();
    for path in paths {
        let path = std::path::absolute(&path).map_err(Error::io(path.display()))?;
        if !dirs.contains(&path) {
            dirs.push(path);
        }
    }
    match dirs.is_empty() {
        true => {
            Err(Error::Config("At least one log directory must be defined via log.dirs or log.dir.".into()))
        }
        false => Ok(dirs),
    }
}

impl Opened {
    fn open(options: &Options, server: &Server) -> Result<Self, Error> {
        let troubles = Arc::<Troubles>::default();
        let (mut last, mut metas, mut dirs) = (LastStop::default(), Vec::new(), Vec::new());
        for path in log_dirs(options, server)? {
            let dir = LogDir::new(path, options.disk.clone(), &troubles);
            let (meta, stop) = dir.open(options)?.unzip();
            last.dirs.extend(stop.map(|stop| (dir.clone(), stop)));
            metas.push(meta.flatten());
            dirs.push(dir);
        }
        let opened = Self { dirs, metas, troubles, last };
        opened.check()?;
        Ok(opened)
    }

    /// Directories must belong together.
    fn check(&self) -> Result<(), Error> {
        let known: Vec<_> =
            self.dirs.iter().zip(&self.metas).filter_map(|(dir, m)| Some((dir, m.as_ref()?))).collect();
        for (n, (dir, meta)) in known.iter().enumerate() {
            for (other, before) in &known[..n] {
                let (dir, other) = (dir.path.display(), other.path.display());
                if meta.cluster_id != before.cluster_id {
                    let (one, two) = (&meta.cluster_id, &before.cluster_id);
                    return Err(Error::WrongOwner(format!(
                        "{dir} belongs to cluster {one}, {other} to {two}"
                    )));
                }
                if !meta.directory_id.is_empty() && meta.directory_id == before.directory_id {
                    let id = &meta.directory_id;
                    return Err(Error::WrongOwner(format!(
                        "{dir} and {other} both have the directory.id {id}"
                    )));
                }
            }
        }
        self.check_online()
    }

    fn check_online(&self) -> Result<(), Error> {
        match self.dirs.iter().any(|dir| dir.is_online()) {
            true => Ok(()),
            false => Err(Error::NoLogDirs(failures(&self.dirs))),
        }
    }

    /// The cluster's id that the directories have.
    fn cluster_id(&self) -> Option<String> {
        self.metas.iter().flatten().map(|meta| meta.cluster_id.clone()).next()
    }

    /// Writes `meta.properties` into fresh directories.
    fn claim(&mut self, options: &Options, cluster_id: &str) -> Result<(), Error> {
        let metas = std::mem::take(&mut self.metas);
        for (dir, meta) in self.dirs.iter().zip(metas).filter(|(dir, _)| dir.is_online()) {
            dir.claim(options, cluster_id, meta)?;
        }
        self.check_online()
    }

    /// Ids of directories that this broker used and that are not there, though others are.
    async fn missing(&self, options: &Options, store: &dyn Store) -> Result<Vec<String>, Error> {
        let key = format!("{DIRECTORIES}{}", options.broker_id);
        let found = store.range(store_api::RangeRequest::key(key)).await?;
        let text =
            found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default();
        let here: Vec<&str> = self.dirs.iter().filter_map(|dir| dir.id()).collect();
        let (present, missing): (Vec<&str>, Vec<&str>) =
            text.split(',').filter(|id| !id.is_empty()).partition(|id| here.contains(id));
        // With none of them this is a new machine, or a store that was restored elsewhere.
        if present.is_empty() { Ok(Vec::new()) } else { Ok(missing.into_iter().map(str::to_owned).collect()) }
    }
}

/// The directories that failed, with why.
pub(crate) fn failures(dirs: &[Arc<LogDir>]) -> String {
    let one = |dir: &Arc<LogDir>| Some(format!("{} ({})", dir.path.display(), dir.failure()?));
    dirs.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// Tells the store which directories this broker uses. One that is not there is remembered while a partition that may be
/// in it is offline.
async fn note_directories(
    options: &Options,
    catalog: &Catalog,
    missing: &[String],
    store: &dyn Store,
) -> Result<(), Error> {
    let ids = catalog.root.dirs.iter().filter_map(|dir| dir.id().map(str::to_owned));
    let kept = if catalog.all_served() { &[][..] } else { missing };
    let mut ids: Vec<String> = ids.chain(kept.iter().cloned()).collect();
    ids.sort_unstable();
    let (key, value) = (format!("{DIRECTORIES}{}", options.broker_id), ids.join(","));
    let found = store.range(store_api::RangeRequest::key(key.clone())).await?;
    if found.kvs.first().is_none_or(|kv| *kv.value != *value.as_bytes()) {
        store.txn(Txn { success: vec![Op::put(key, value)], ..Txn::default() }).await?;
    }
    Ok(())
}

/// The cluster's id: the store's, else the directory's, else the options', else a new one; the store keeps it.
async fn cluster_id(options: &Options, opened: &Opened, store: &dyn Store) -> Result<String, Error> {
    let on_disk = opened.cluster_id();
    let fresh = || names::base64url(&names::random_id());
    let proposed = on_disk.clone().or_else(|| options.cluster_id.clone()).unwrap_or_else(fresh);
    let txn = Txn {
        compare: vec![store_api::Compare::absent(CLUSTER_ID)],
        success: vec![Op::put(CLUSTER_ID, proposed.clone())],
        failure: vec![Op::Range(store_api::RangeRequest::key(CLUSTER_ID))],
    };
    let answer = store.txn(txn).await?;
    let Some(store_api::OpResponse::Range(found)) = answer.responses.first() else { return Ok(proposed) };
    let kept =
        found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or(proposed);
    match on_disk {
        Some(disk) if disk != kept => {
            let dirs: Vec<_> = opened.dirs.iter().map(|dir| dir.path.display().to_string()).collect();
            let dir = dirs.join(", ");
            Err(Error::WrongOwner(format!("{dir} belongs to cluster {disk}, the store to {kept}")))
        }
        _ => Ok(kept),
    }
}

/// What is known once listeners are bound.
fn tell_server(server: &mut Server, options: &Options, dirs: &[Arc<LogDir>], listeners: &[Listener]) {
    let text = |listener: &Listener| {
        let (host, port) = &listener.bind;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{}://{host}:{port}", listener.name)
    };
    server.set("listeners", listeners.iter().map(text).collect::<Vec<_>>().join(","));
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.path.display().to_string()).collect();
    server.set("log.dirs", dirs.join(","));
    for name in ["broker.id", "node.id"] {
        server.set(name, options.broker_id.to_string());
    }
}

/// Binds every listener, and notes the ports that were picked.
async fn bind(listeners: &mut [Listener]) -> Result<Vec<(TcpListener, SocketAddr)>, Error> {
    let mut bound = Vec::new();
    for listener in listeners {
        let at = (&*listener.bind.0, listener.bind.1);
        let shown = format!("{}:{}", at.0, at.1);
        let socket = TcpListener::bind(at).await.map_err(Error::io(&shown))?;
        let addr = socket.local_addr().map_err(Error::io(&shown))?;
        listener.bind.1 = addr.port();
        bound.push((socket, addr));
    }
    Ok(bound)
}
