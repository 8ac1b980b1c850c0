//! Runs the controllers and the scheduler: caches wake them, brains decide, this room executes.
//!
//! ```text
//! Informers ─▶ Watched (cache + own writes) ─wake─▶ WorkQueue ─▶ worker: reconcile(snapshot) ─▶ Executor ─▶ API server
//!     ▲                                                                                            │
//!     └────────────────────────────────── watch ◀────────────────────────────────────────────────┘
//! ```
//! A cache's task first takes in what the watch brought, then wakes the queues: a woken worker always sees the change
//! that woke it. Nothing polls; a controller that waits for time to pass asks to be woken.

mod cache;
mod collector;
mod discovery;
mod execute;
mod namespaces;
mod nodes;
mod runner;
mod scheduling;
mod services;
mod workloads;

use api_client::Informers;
use base::clock::SharedClock;
use base::task::{TaskKind, Tasks};
use cache::Watched;
use execute::{Caches, Executor};
use kube::ResourceExt as _;

/// The identities this room acts as.
#[derive(Clone)]
pub struct Clients {
    /// `system:kube-controller-manager`.
    pub manager: kube::Client,
    /// `system:kube-scheduler`.
    pub scheduler: kube::Client,
}

/// What the room needs to know.
#[derive(Clone)]
pub struct Options {
    /// The cluster authority's certificate, published in every namespace as `kube-root-ca.crt`.
    pub ca_pem: String,
    pub clock: SharedClock,
}

/// The room.
#[derive(Debug)]
pub struct Service;

impl Service {
    /// Starts every loop on `tasks`.
    pub fn start(options: Options, clients: Clients, informers: Informers, tasks: &Tasks) {
        let (settings, client) = (options.clone(), clients.manager);
        let (caches, all) = (informers.clone(), tasks.clone());
        tasks.spawn(TaskKind::Service, "controllers", async move {
            let token = all.token();
            tokio::select! {
                () = token.cancelled() => {}
                () = synced(&caches) => start_controllers(&settings, client, &caches, &all),
            }
            Ok::<(), std::convert::Infallible>(())
        });
        let scheduling = scheduling::run(clients.scheduler, informers, options.clock, tasks.clone());
        tasks.spawn(TaskKind::Service, "scheduler", scheduling);
    }
}

/// Waits for every cache: a controller that sees sets but not yet their pods would make the pods again.
async fn synced(informers: &Informers) {
    tokio::join!(
        informers.pods().synced(),
        informers.nodes().synced(),
        informers.node_leases().synced(),
        informers.services().synced(),
        informers.endpoints().synced(),
        informers.endpoint_slices().synced(),
        informers.namespaces().synced(),
        informers.deployments().synced(),
        informers.replica_sets().synced(),
        informers.service_accounts().synced(),
        informers.root_cas().synced(),
    );
}

/// Every controller, and the caches that wake several of them.
fn start_controllers(options: &Options, client: kube::Client, informers: &Informers, tasks: &Tasks) {
    let caches = Caches {
        pods: Watched::new(informers.pods()),
        replica_sets: Watched::new(informers.replica_sets()),
        slices: Watched::new(informers.endpoint_slices()),
        endpoints: Watched::new(informers.endpoints()),
    };
    let deployments = Watched::new(informers.deployments());
    let services = Watched::new(informers.services());
    let (namespaces, nodes) = (Watched::new(informers.namespaces()), Watched::new(informers.nodes()));
    let executor = Executor::new(client, caches.clone(), &options.clock, tasks);

    let workloads = workloads::Queues::default();
    let endpoints = services::Queues::default();
    let (ends, lost) = (namespaces::Queues::default(), nodes::Queues::default());
    workloads::start(&executor, &workloads, &deployments, &options.clock, tasks);
    services::start(&executor, informers, &services, &endpoints, tasks);
    namespaces::start(&executor, informers, &namespaces, &ends, (&options.ca_pem, &options.clock), tasks);
    nodes::start(&executor, informers, &nodes, &lost, &options.clock, tasks);
    let collector = collector::run(executor, tasks.clone());
    tasks.spawn(TaskKind::Service, "garbage-collector", collector);

    let queue = workloads.deployments.clone();
    deployments.watch(tasks, "deployments", move |one| queue.add(api_client::Key::of(one)));
    let (queue, all) = (workloads.clone(), deployments);
    caches.replica_sets.watch(tasks, "replica-sets", move |set| queue.set_changed(&all, set));
    let queue = endpoints.0.clone();
    services.watch(tasks, "services", move |one| queue.add(api_client::Key::of(one)));
    let queue = endpoints.clone();
    caches.slices.watch(tasks, "endpoint-slices", move |slice| queue.slice_changed(slice));
    let queue = endpoints.clone();
    caches.endpoints.watch(tasks, "endpoints", move |one| queue.endpoints_changed(one));
    let known = caches.clone();
    caches.pods.watch(tasks, "pods", move |pod| {
        tracing::trace!(pod = pod.name_any(), "changed");
        workloads.pod_changed(&known, pod);
        endpoints.pod_changed(&services, &known.slices, pod);
        ends.pod_changed(&namespaces, pod);
        lost.pod_changed(&nodes, pod);
    });
}
