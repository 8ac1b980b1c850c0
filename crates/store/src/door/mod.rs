//! The etcd v3 API on a port: the only part of the store that knows protobuf.
//!
//! ```text
//! server: listener ─▶ TLS (client certificate → Peer) ─▶ HTTP/1.1: hyper ─┐
//!                                              └─▶ http2: one task ───────┤ grpc::Services, by service name
//!                                                    │ hot: KV's calls    ▼
//!                                                    │      kv, watch, lease, ... over Arc<Door> ─▶ convert ─▶ Handle
//!                                                    └─▶ bytes ─▶ Handle (the store) ─▶ bytes
//! ```
//! A service is a small struct over `Arc<Door>`; [`services`] lists them all.

mod auth;
pub(crate) mod cluster;
mod convert;
mod election;
mod error;
mod gateway;
mod grpc;
mod health;
mod hot;
mod http;
mod http2;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod metrics;
mod pings;
mod queue;
mod range;
mod reflection;
mod server;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::random::Random;
use base::task::{TaskKind, Tasks};
use etcd_wire::{etcdserverpb as pb, v3electionpb, v3lockpb};
use parking_lot::Mutex;
use store_api::Revision;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::Error;

/// Most bytes of one request's message: etcd's request limit and its allowance for what surrounds a request.
pub(crate) const MESSAGE_BYTES_MAX: usize = store_api::MAX_REQUEST_BYTES + 512 * 1024;
/// etcd's `--experimental-watch-progress-notify-interval` default.
const PROGRESS_EVERY: Duration = Duration::from_secs(600);

const NO_LEADER: &str = "etcdserver: no leader";
/// Streams that need a leader are ended when there is none for so long: three of etcd's default election timeouts.
const LEADERLESS_FOR: Duration = Duration::from_secs(3);

/// How the door is set up.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// TLS; who must show a certificate is decided there. None serves in the clear.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The URLs clients are told to use; those listened on when empty.
    pub advertise: Vec<String>,
    /// How often a quiet watch that asked for it is told how far it is.
    pub progress_every: Duration,
    /// Origins whose pages may read what is served besides gRPC (etcd's `--cors`); `*` for all.
    pub cors: Vec<String>,
}

impl Options {
    /// A door on these addresses.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self { listen, tls, advertise: Vec::new(), progress_every: PROGRESS_EVERY, cors: Vec::new() }
    }
}

/// The door. See [`Service::start`].
#[derive(Debug)]
pub struct Service;

impl Service {
    /// Listens and serves until `tasks` are cancelled.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(options: Options, store: crate::Handle, tasks: &Tasks) -> Result<Handle, Error> {
        let mut listeners = Vec::new();
        for address in &options.listen {
            let bound = tokio::net::TcpListener::bind(address).await;
            listeners.push(bound.map_err(|source| Error::Listen { address: *address, source })?);
        }
        let addrs: Result<Vec<_>, _> = listeners.iter().map(tokio::net::TcpListener::local_addr).collect();
        let addrs = addrs.map_err(|source| Error::Listen { address: options.listen[0], source })?;
        let door = Arc::new(Door::new(&options, store, &addrs, tasks));
        let services = Arc::new(services(&door));
        for listener in listeners {
            let (services, tls, tasks_) = (services.clone(), options.tls.clone(), tasks.clone());
            tasks.spawn(TaskKind::Service, "etcd listener", server::listen(services, listener, tls, tasks_));
        }
        Ok(Handle { addrs: addrs.into() })
    }
}

/// A door that is open.
#[derive(Debug, Clone)]
pub struct Handle {
    addrs: Arc<[SocketAddr]>,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

/// Who is at the other end of a connection; in every request's extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    /// The common name of the client certificate that TLS verified.
    pub common_name: Option<Arc<str>>,
}

/// Whether a call says that it wants to fail while there is no leader.
pub(crate) fn needs_leader(headers: &::http::HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value.as_bytes() == b"true")
}

/// What every service stands on.
pub(crate) struct Door {
    pub store: crate::Handle,
    /// The URLs clients are told to use.
    pub advertise: Vec<String>,
    pub progress_every: Duration,
    /// Origins whose pages may read answers.
    pub cors: Vec<String>,
    /// Cancelled when the door closes: streams end.
    pub token: CancellationToken,
    pub metrics: Arc<metrics::Metrics>,
    pub tasks: Tasks,
    pub random: Mutex<Random>,
}

impl Door {
    fn new(options: &Options, store: crate::Handle, addrs: &[SocketAddr], tasks: &Tasks) -> Self {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let advertise = match options.advertise.is_empty() {
            true => addrs.iter().map(|address| format!("{scheme}://{address}")).collect(),
            false => options.advertise.clone(),
        };
        Self {
            store,
            advertise,
            progress_every: options.progress_every,
            cors: options.cors.clone(),
            token: tasks.token(),
            metrics: Arc::default(),
            tasks: tasks.clone(),
            random: Mutex::new(Random::from_entropy()),
        }
    }

    /// The compacted revision.
    pub(crate) fn compacted(&self) -> Result<Revision, store_api::Error> {
        Ok(mvcc::read::compacted(&self.store.inner.reads.db.view()?)?)
    }

    /// The refusal of a call that needs a leader while there is none.
    pub(crate) fn check_leader(&self) -> Result<(), Status> {
        let known = self.store.leader_changes().borrow().is_some();
        if known { Ok(()) } else { Err(error::text(NO_LEADER)) }
    }

    /// Ends when there has been no leader for a while, with the refusal for who needs one.
    pub(crate) async fn leader_lost(&self) -> Status {
        let mut leader = self.store.leader_changes();
        // An error means that the member is gone, and the leader with it.
        while leader.wait_for(Option::is_none).await.is_ok() {
            let back = tokio::time::timeout(LEADERLESS_FOR, leader.wait_for(Option::is_some)).await;
            if !matches!(back, Ok(Ok(_))) {
                break;
            }
        }
        error::text(NO_LEADER)
    }

    /// The head of an answer; at the store's revision now unless one is given.
    pub(crate) fn header(&self, revision: Option<Revision>) -> pb::ResponseHeader {
        let header = self.store.header();
        pb::ResponseHeader {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: revision.unwrap_or(header.revision).get(),
            raft_term: header.raft_term,
        }
    }
}

/// Everything that is served.
fn services(door: &Arc<Door>) -> grpc::Services {
    grpc::Services::new(door)
        .add(range::KvService::new(door))
        .add(pb::cluster_server::ClusterServer::new(cluster::Cluster(door.clone())))
        .add(pb::maintenance_server::MaintenanceServer::new(maintenance::Maintenance(door.clone())))
        .add(pb::auth_server::AuthServer::new(auth::Auth(door.clone())))
        .add(v3lockpb::lock_server::LockServer::new(lock::Lock(door.clone())))
        .add(v3electionpb::election_server::ElectionServer::new(election::Election(door.clone())))
        .add(pb::lease_server::LeaseServer::new(lease::Lease(door.clone())))
        .add(watch::WatchServer(door.clone()))
        .add(reflection::V1)
        .add(reflection::V1Alpha)
        .add(health::HealthServer(door.clone()))
}
