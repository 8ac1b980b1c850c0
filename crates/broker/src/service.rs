//! Starting, upkeep and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use commitlog::Flusher;
use commitlog::kafka::checkpoints;
use commitlog::kafka::directory::{self, DirectoryLock, MetaProperties};
use store_api::{Op, Store, Txn};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use crate::api::{Broker, Parts};
use crate::catalog::{Catalog, LastStop};
use crate::config::Server;
use crate::listeners::{self, Listener};
use crate::partition::Partition;
use crate::resources::Resources;
use crate::root::Root;
use crate::{Error, Options, door, exchange, names, upkeep};

/// Key of the cluster's id in the store.
pub(crate) const CLUSTER_ID: &str = "/ketch/kafka/cluster-id";
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
    /// Given back when everything is closed.
    lock: Mutex<Option<DirectoryLock>>,
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
        self.stop.lock.lock().await.take();
        *closed = true;
        self.stop.done.send_replace(true);
    }
}

/// Closes every log and leaves the marks of a clean stop.
fn close(broker: &Broker) -> Result<(), Error> {
    let root = &broker.catalog.root;
    close_all(&broker.catalog.partitions())?;
    root.sync_new_directories().map_err(Error::io(root.dir.display()))?;
    broker.catalog.write_checkpoints().map_err(Error::io("offset checkpoints"))?;
    if !broker.catalog.is_whole() {
        // Nobody knows how the logs that could not be opened end: the mark would vouch for them.
        return Ok(());
    }
    directory::mark_clean(&*root.disk, &root.dir).map_err(Error::io("clean-shutdown marker"))
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
        let opened = Opened::open(&options)?;
        let mut server = Server::new(options.properties.clone()).map_err(Error::Config)?;
        let mut listeners = listeners::of(&options, &server)?;
        let bound = bind(&mut listeners).await?;
        let addrs = bound.iter().map(|(_, addr)| *addr).collect::<Vec<_>>();
        let cluster_id = cluster_id(&options, &opened, &*store).await?;
        opened.claim(&options, &cluster_id)?;
        tell_server(&mut server, &options, &listeners);
        let server = Arc::new(server);
        let flusher = Flusher::start("kafka-flush").map_err(Error::io("flusher thread"))?;
        let from = exchange::Source { disk: &*options.disk, dir: &options.dir, clean: opened.last.clean };
        exchange::resume(from, &*store, options.broker_id).await?;
        let Opened { lock, last, .. } = opened;
        let root = Root::new(
            options.disk.clone(),
            options.clock.clone(),
            options.dir.clone(),
            flusher,
            options.durability,
        );
        let resources = Resources::new(store.clone(), server.clone(), options.broker_id);
        let configured = resources.load().await?;
        let catalog = Arc::new(Catalog::new(root, store.clone(), server.clone(), last));
        let revision = catalog.load().await?;
        catalog.finish_boot().map_err(Error::io(options.dir.display()))?;
        catalog.settle().await;
        let connections = tasks.child();
        let parts =
            Parts { catalog: catalog.clone(), server, resources: resources.clone(), listeners, store };
        let broker = Broker::new(&options, cluster_id, parts, connections.clone());
        let follow = catalog.clone().follow(revision, tasks.token());
        tasks.spawn(TaskKind::Critical, "kafka-catalog", follow);
        let follow = resources.follow(catalog, configured, tasks.token());
        tasks.spawn(TaskKind::Critical, "kafka-configs", follow);
        upkeep::start(&broker, tasks);
        let resuming = broker.clone();
        connections.spawn(TaskKind::Service, "kafka-resume", async move {
            resuming.groups.resume(&resuming).await;
            Ok::<_, Error>(())
        });
        for (index, (listener, _)) in bound.into_iter().enumerate() {
            let accept = door::accept(listener, index, broker.clone(), connections.clone());
            connections.spawn(TaskKind::Critical, "kafka-accept", accept);
        }
        let (done, _) = watch::channel(false);
        let stop = Arc::new(Stop {
            broker,
            connections,
            closed: Mutex::new(false),
            done,
            lock: Mutex::new(Some(lock)),
        });
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

/// A directory taken into possession.
struct Opened {
    lock: DirectoryLock,
    meta: Option<MetaProperties>,
    last: LastStop,
}

impl Opened {
    fn open(options: &Options) -> Result<Self, Error> {
        let (disk, dir) = (&*options.disk, &options.dir);
        disk.create_dir_all(dir).map_err(Error::io(dir.display()))?;
        let lock = DirectoryLock::take(disk, dir).map_err(|_| Error::InUse(dir.clone()))?;
        let meta = MetaProperties::read(disk, dir).map_err(Error::io("meta.properties"))?;
        if let Some(meta) = meta.as_ref().filter(|meta| meta.node_id != options.broker_id) {
            let (dir, is, want) = (dir.display(), meta.node_id, options.broker_id);
            return Err(Error::WrongOwner(format!("{dir} belongs to broker {is}, not {want}")));
        }
        let clean = directory::take_clean_mark(disk, dir).map_err(Error::io("clean-shutdown marker"))?;
        let read = |name| checkpoints::read(disk, &dir.join(name));
        let last = LastStop {
            clean,
            recovery_points: read(checkpoints::RECOVERY_POINT),
            log_starts: read(checkpoints::LOG_START),
            directories: disk.list(dir).map_err(Error::io(dir.display()))?.into_iter().collect(),
        };
        Ok(Self { lock, meta, last })
    }

    /// Writes `meta.properties` into a fresh directory.
    fn claim(&self, options: &Options, cluster_id: &str) -> Result<(), Error> {
        if self.meta.is_some() {
            return Ok(());
        }
        let directory_id = names::base64url(&names::random_id());
        let meta =
            MetaProperties { cluster_id: cluster_id.to_owned(), node_id: options.broker_id, directory_id };
        meta.write(&*options.disk, &options.dir, options.clock.unix_ms())
            .map_err(Error::io("meta.properties"))
    }
}

/// The cluster's id: the store's, else the directory's, else the options', else a new one; the store keeps it.
async fn cluster_id(options: &Options, opened: &Opened, store: &dyn Store) -> Result<String, Error> {
    let on_disk = opened.meta.as_ref().map(|meta| meta.cluster_id.clone());
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
            let dir = options.dir.display();
            Err(Error::WrongOwner(format!("{dir} belongs to cluster {disk}, the store to {kept}")))
        }
        _ => Ok(kept),
    }
}

/// What is known once listeners are bound.
fn tell_server(server: &mut Server, options: &Options, listeners: &[Listener]) {
    let text = |listener: &Listener| {
        let (host, port) = &listener.bind;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{}://{host}:{port}", listener.name)
    };
    server.set("listeners", listeners.iter().map(text).collect::<Vec<_>>().join(","));
    server.set("log.dirs", options.dir.display().to_string());
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
