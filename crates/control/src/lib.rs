//! Runs the controllers and the scheduler: caches wake them, brains decide, this room executes.

mod scheduling;

use api_client::Informers;
use base::clock::SharedClock;
use base::task::{TaskKind, Tasks};

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
        let scheduling = scheduling::run(clients.scheduler, informers, options.clock, tasks.clone());
        tasks.spawn(TaskKind::Service, "scheduler", scheduling);
    }
}
