//! The room's door: starts the node agent and hands every pod of this node to its worker.

use crate::context::{Context, Machine};
use crate::events::Recorder;
use crate::inotify::Watch;
use crate::runtime::{self, Runtime, ShimCommand};
use crate::volumes::Objects;
use crate::worker::Worker;
use crate::{node, ops, server};
use api_client::{Change, Informers};
use base::clock::SharedClock;
use base::task::{TaskKind, Tasks};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use pod_core::PodNetwork;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_rustls::rustls::ServerConfig;

/// Ended workers that wait to be forgotten.
const ENDED_MAX: usize = 256;

/// How the node agent is to run.
#[derive(Clone)]
pub struct Options {
    /// `metadata.name` of the Node.
    pub node_name: String,
    /// The node's InternalIP.
    pub node_ip: IpAddr,
    /// `<data dir>/node`.
    pub dir: PathBuf,
    /// Where the HTTPS server listens; port 0 picks one.
    pub listen: Vec<SocketAddr>,
    /// The server's certificate and the authority of its clients (`pki::tls::server(leaf, Some(ca))`).
    pub tls: Arc<ServerConfig>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The node's pod range, for `spec.podCIDR`.
    pub pod_cidr: Option<String>,
    /// `v1.36.x`, reported as kubeletVersion.
    pub version: String,
    /// How to start a shim; [`ShimCommand::default`] for the `ketch` binary.
    pub shim: ShimCommand,
    /// The time.
    pub clock: SharedClock,
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node directory or a listening address is not usable.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The API server refused the Node.
    #[error("the node cannot be registered: {0}")]
    Register(#[source] Box<kube::Error>),
}

/// The node agent.
pub struct Service;

/// A running node agent.
#[derive(Clone)]
pub struct Handle {
    context: Arc<Context>,
    addresses: Arc<Vec<SocketAddr>>,
}

impl Service {
    /// Starts the agent: listens, registers the node, adopts what runs, follows the pods of this node.
    ///
    /// Returns when the Node is registered and Ready.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(
        options: Options,
        client: Client,
        informers: Informers,
        network: Arc<dyn PodNetwork>,
        tasks: &Tasks,
    ) -> Result<Handle, Error> {
        let io = |what: String| move |source| Error::Io { what, source };
        std::fs::create_dir_all(&options.dir).map_err(io(options.dir.display().to_string()))?;
        let id = runtime::directory_id(&options.dir);
        let runtime = Runtime::open(&options.dir, &id, options.shim.clone())
            .map_err(io(options.dir.display().to_string()))?;
        let machine = Machine::read();
        let context = Arc::new(Context {
            events: Recorder::start(client.clone(), &options.node_name, tasks),
            objects: Objects::new(client.clone(), informers.clone()),
            starts: Arc::new(Semaphore::new(machine.starts())),
            tasks: tasks.clone(),
            options,
            client,
            informers,
            network,
            runtime,
            machine,
            images: AtomicU64::new(0),
        });
        let addresses = server::start(&context).await.map_err(io("the kubelet's port".to_owned()))?;
        let port = addresses.first().map_or(0, SocketAddr::port);
        node::start(&context, port).await.map_err(|error| Error::Register(Box::new(error)))?;
        // Started now, needed by the first container.
        let _ = context.informers.root_cas();
        dispatch(&context);
        Ok(Handle { context, addresses: Arc::new(addresses) })
    }
}

impl Handle {
    /// Where the HTTPS server listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many containers run now.
    #[must_use]
    pub fn running_containers(&self) -> usize {
        let running = |found: &crate::runtime::Found| {
            found.state.as_ref().is_some_and(|state| state.phase == crate::shim::protocol::ShimPhase::Running)
        };
        self.context.runtime.containers().iter().filter(|found| running(found)).count()
    }
}

/// Follows the cache of pods and keeps one worker for each pod of this node.
fn dispatch(context: &Arc<Context>) {
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.spawn(TaskKind::Service, "pods", async move {
        let mut changes = context.informers.pods().changes();
        if !context.informers.pods().synced().await || !context.informers.services().synced().await {
            return Ok::<(), Infallible>(());
        }
        let (ended, mut endings) = mpsc::channel(ENDED_MAX);
        let mut dispatcher = Dispatcher { context: context.clone(), workers: HashMap::new(), ended };
        dispatcher.look_at_all();
        dispatcher.remove_orphans();
        let images = Watch::new(&context.runtime.dir().join("images")).ok();
        let token = context.tasks.token();
        loop {
            tokio::select! {
                // First, lest workers that end with the agent are started again.
                biased;
                () = token.cancelled() => return Ok(()),
                () = changed(images.as_ref()) => dispatcher.images_changed(),
                change = changes.next() => match change {
                    Some(Change::One(pod)) => dispatcher.look_at(&pod),
                    Some(Change::All) => dispatcher.look_at_all(),
                    None => return Ok(()),
                },
                Some(uid) = endings.recv() => dispatcher.forget(&uid),
            }
        }
    });
}

/// Waits for a change of the image store; for ever where it cannot be watched (retries still come by back-off).
async fn changed(images: Option<&Watch>) {
    if let Some(images) = images
        && images.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

struct Dispatcher {
    context: Arc<Context>,
    workers: HashMap<String, Arc<Notify>>,
    ended: mpsc::Sender<String>,
}

impl Dispatcher {
    fn is_ours(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node == Some(self.context.options.node_name.as_str())
    }

    fn look_at_all(&mut self) {
        for pod in self.context.informers.pods().all() {
            self.look_at(&pod);
        }
        // Workers of pods that are gone look for themselves.
        for look in self.workers.values() {
            look.notify_one();
        }
    }

    fn look_at(&mut self, pod: &Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if let Some(look) = self.workers.get(&uid) {
            look.notify_one();
        } else if self.is_ours(pod) && self.wants_worker(pod) {
            self.start(uid, pod.clone());
        }
    }

    /// Whether the cache still has the pod; a deletion's last state does not bring it back.
    fn wants_worker(&self, pod: &Pod) -> bool {
        let current = self.context.informers.pods().get(&api_client::Key::of(pod));
        if current.is_none_or(|current| current.metadata.uid != pod.metadata.uid) {
            return false;
        }
        // A finished pod has nothing to run, unless something of it is left on this machine.
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("");
        let finished = matches!(phase, "Succeeded" | "Failed") && pod.metadata.deletion_timestamp.is_none();
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        !finished || self.context.runtime.pod_dir(uid).exists()
    }

    fn start(&mut self, uid: String, pod: Arc<Pod>) {
        let look = Arc::new(Notify::new());
        self.workers.insert(uid.clone(), look.clone());
        let worker = Worker::new(self.context.clone(), pod, look);
        let ended = self.ended.clone();
        self.context.tasks.spawn(TaskKind::Service, "pod", async move {
            worker.run().await?;
            let _ = ended.send(uid).await;
            Ok::<(), Infallible>(())
        });
    }

    fn images_changed(&self) {
        self.context.images.fetch_add(1, Ordering::Relaxed);
        for look in self.workers.values() {
            look.notify_one();
        }
    }

    /// A worker ended; the name may already belong to a new pod.
    fn forget(&mut self, uid: &str) {
        self.workers.remove(uid);
        let again = self
            .context
            .informers
            .pods()
            .all()
            .into_iter()
            .find(|pod| pod.metadata.uid.as_deref() == Some(uid));
        if let Some(pod) = again.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            self.look_at(&pod);
        }
    }

    /// Ends pods that were deleted while no agent ran.
    fn remove_orphans(&self) {
        let known: Vec<String> =
            self.context.informers.pods().all().iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        self.context.runtime.sweep(&known);
        for record in self.context.runtime.records() {
            if known.contains(&record.pod.uid) {
                continue;
            }
            let context = self.context.clone();
            self.context.tasks.spawn(TaskKind::Service, "remove orphan", async move {
                tracing::info!(pod = %record.pod, "removing what is left of a deleted pod");
                ops::remove_sandbox(&context, &record.pod).await;
                ops::forget(&context, &record.pod).await;
                Ok::<(), Infallible>(())
            });
        }
    }
}
