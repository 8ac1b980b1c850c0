//! One cache for each kind, shared by everyone in the process.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use base::task::{TaskKind, Tasks};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

/// Changes a slow listener may fall behind before it is told to look at everything ([`Change::All`]).
const CHANGES_MAX: usize = 1024;

/// Name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of<K: ResourceExt>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Where to look. The cache already holds the new state when this arrives.
#[derive(Debug, Clone)]
pub enum Change<K> {
    /// This object was created, changed or deleted; its last known state comes along.
    One(Arc<K>),
    /// The cache was filled anew, or the listener fell behind: look at everything.
    All,
}

/// A kind's cache and its changes.
pub struct Shared<K>
where
    K: Resource + 'static,
    K::DynamicType: Hash + Eq,
{
    store: Store<K>,
    changes: broadcast::Sender<Change<K>>,
}

impl<K> Clone for Shared<K>
where
    K: Resource + 'static,
    K::DynamicType: Hash + Eq,
{
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), changes: self.changes.clone() }
    }
}

/// A listener to a kind's changes.
#[derive(Debug)]
pub struct Changes<K>(broadcast::Receiver<Change<K>>);

impl<K: Clone> Changes<K> {
    /// The next place to look; None when the cache has ended.
    pub async fn next(&mut self) -> Option<Change<K>> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::All),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl<K> Shared<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// The cache.
    #[must_use]
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// One object, if it is there.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        let reference = kube::runtime::reflector::ObjectRef::new(&key.name);
        let reference = if key.namespace.is_empty() { reference } else { reference.within(&key.namespace) };
        self.store.get(&reference)
    }

    /// All objects, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// Listens from now on. Subscribe before reading the cache, so that nothing falls between.
    #[must_use]
    pub fn changes(&self) -> Changes<K> {
        Changes(self.changes.subscribe())
    }

    /// Waits until the cache has been filled for the first time. False when it ended before.
    pub async fn synced(&self) -> bool {
        self.store.wait_until_ready().await.is_ok()
    }

    fn start(api: Api<K>, selector: Option<&str>, tasks: &Tasks) -> Self {
        let (reader, mut writer) = store();
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let (token, sender) = (tasks.token(), changes.clone());
        let config = selector.map_or_else(watcher::Config::default, |s| watcher::Config::default().fields(s));
        tasks.spawn(TaskKind::Service, "informer", async move {
            let events = watcher(api, config).map_ok(|event| event.modify(trim)).default_backoff();
            let mut events = std::pin::pin!(events);
            loop {
                let event = tokio::select! {
                    () = token.cancelled() => return Ok::<(), std::convert::Infallible>(()),
                    event = events.next() => event,
                };
                match event {
                    Some(Ok(event)) => {
                        writer.apply_watcher_event(&event);
                        announce(&sender, event);
                    }
                    Some(Err(error)) => {
                        tracing::debug!(kind = %K::kind(&()), %error, "watch ended; starting again")
                    }
                    None => return Ok(()),
                }
            }
        });
        Self { store: reader, changes }
    }
}

fn announce<K>(sender: &broadcast::Sender<Change<K>>, event: watcher::Event<K>) {
    // Nobody listening is fine.
    let _ = match event {
        watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
            sender.send(Change::One(Arc::new(object)))
        }
        watcher::Event::InitDone => sender.send(Change::All),
        watcher::Event::Init | watcher::Event::InitApply(_) => return,
    };
}

/// Field ownership is a third of an object's size and nobody here reads it.
fn trim<K: ResourceExt>(object: &mut K) {
    // None rather than an empty list, which a later PUT of the object would carry as a wish to clear them.
    object.meta_mut().managed_fields = None;
}

/// The caches of this process, each started when it is first asked for.
#[derive(Clone)]
pub struct Informers {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    tasks: Tasks,
    pods: OnceLock<Shared<Pod>>,
    nodes: OnceLock<Shared<Node>>,
    services: OnceLock<Shared<Service>>,
    endpoints: OnceLock<Shared<Endpoints>>,
    endpoint_slices: OnceLock<Shared<EndpointSlice>>,
    namespaces: OnceLock<Shared<Namespace>>,
    deployments: OnceLock<Shared<Deployment>>,
    replica_sets: OnceLock<Shared<ReplicaSet>>,
    service_accounts: OnceLock<Shared<ServiceAccount>>,
    root_cas: OnceLock<Shared<ConfigMap>>,
    node_leases: OnceLock<Shared<Lease>>,
}

/// One accessor: the kind's cache, started on first use.
macro_rules! cache {
    ($(#[$meta:meta])* $name:ident, $kind:ty) => {
        cache!($(#[$meta])* $name, $kind, None);
    };
    ($(#[$meta:meta])* $name:ident, $kind:ty, $selector:expr) => {
        $(#[$meta])*
        #[must_use]
        pub fn $name(&self) -> &Shared<$kind> {
            let inner = &self.inner;
            inner.$name.get_or_init(|| Shared::start(Api::all(inner.client.clone()), $selector, &inner.tasks))
        }
    };
}

impl Informers {
    /// No cache yet; they run on `tasks` and read through `client`.
    ///
    /// Accessors that start a cache must be called inside a tokio runtime.
    #[must_use]
    pub fn start(client: Client, tasks: &Tasks) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                tasks: tasks.clone(),
                pods: OnceLock::new(),
                nodes: OnceLock::new(),
                services: OnceLock::new(),
                endpoints: OnceLock::new(),
                endpoint_slices: OnceLock::new(),
                namespaces: OnceLock::new(),
                deployments: OnceLock::new(),
                replica_sets: OnceLock::new(),
                service_accounts: OnceLock::new(),
                root_cas: OnceLock::new(),
                node_leases: OnceLock::new(),
            }),
        }
    }

    /// The client the caches read through.
    #[must_use]
    pub fn client(&self) -> Client {
        self.inner.client.clone()
    }

    cache!(/// Pods.
        pods, Pod);
    cache!(/// Nodes.
        nodes, Node);
    cache!(/// Services.
        services, Service);
    cache!(/// Endpoints, the older form.
        endpoints, Endpoints);
    cache!(/// EndpointSlices.
        endpoint_slices, EndpointSlice);
    cache!(/// Namespaces.
        namespaces, Namespace);
    cache!(/// Deployments.
        deployments, Deployment);
    cache!(/// ReplicaSets.
        replica_sets, ReplicaSet);
    cache!(/// ServiceAccounts.
        service_accounts, ServiceAccount);
    cache!(/// The ConfigMap `kube-root-ca.crt` of every namespace, and no other ConfigMap.
        root_cas, ConfigMap, Some("metadata.name=kube-root-ca.crt"));
    cache!(/// The Leases by which nodes show that they live.
        node_leases, Lease, Some("metadata.namespace=kube-node-lease"));
}
