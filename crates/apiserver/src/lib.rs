//! The HTTPS door of the orchestrator: the Kubernetes API.
//!
//! ```text
//! kubectl, helm ──TLS──▶ http::server ─┐                    ┌─ cache: lists and watches, fed by the store's watch
//! controllers, kubelet ─ LocalService ─┴▶ server ─▶ handlers┼─ admission, allocators
//!                                         authn, authz      └─ Store::txn
//! logs, exec ─────────────────────────────▶ kubelet (TLS)
//! ```
//!
//! Every kind goes through the same pipeline; what differs between kinds is data in `kube_types::registry`.
//! No controller lives here: whatever happens after a write is done by somebody who watches.

mod admission;
mod allocators;
mod auth;
mod bootstrap;
mod cache;
mod discovery;
mod endpoints;
mod handlers;
mod http;
mod kubelet;
mod local;
mod objects;
mod paths;
mod protobuf;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base::clock::SharedClock;
use base::random::Random;
use base::task::{TaskKind, Tasks};
use identity::UserInfo;
use identity::token::Signer;
use store_api::Store;
use tokio::net::TcpListener;

pub use crate::allocators::Cidr;
pub use crate::http::body::{Body, BodyError};
pub use crate::local::LocalService;
pub use crate::paths::GIT_VERSION;

use crate::server::{Assembly, Server};

/// What the API server is started with.
pub struct Options {
    /// Addresses to listen on; port 0 picks a free one. May be empty: then only in-process clients are served.
    pub listen: Vec<SocketAddr>,
    /// Serving certificate and client authority: `pki::Pki::server_config`.
    pub tls: rustls::ServerConfig,
    /// What is shown to kubelets: `pki::Pki::client_config` with the kubelet client's certificate.
    pub kubelet_tls: rustls::ClientConfig,
    /// Key that signs service-account tokens, PKCS#8: `pki::Pki::service_account_key_der`.
    pub service_account_key: Vec<u8>,
    /// Issuer of those tokens: `identity::token::DEFAULT_ISSUER`.
    pub issuer: String,
    /// Addresses of Services; the first one is `default/kubernetes`.
    pub service_cidr: Cidr,
    /// The address among `listen` at which pods reach this server; None when there are no pods.
    pub advertise: Option<IpAddr>,
    /// Others write to the store too: what is newest is asked of it, and several servers are listed under
    /// `default/kubernetes`.
    pub shared_store: bool,
    pub clock: SharedClock,
    pub random: Random,
}

/// Why the API server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the service account key cannot be used: {0}")]
    Key(#[from] identity::token::Error),
    #[error("the first objects cannot be written: {0}")]
    Bootstrap(String),
}

/// What stays fixed while the server runs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) issuer: String,
    pub(crate) service_cidr: Cidr,
    /// Port of the first listener; 443 when there is none.
    pub(crate) port: u16,
    /// Others write to the store too.
    pub(crate) shared_store: bool,
}

/// The API server, to be started.
pub struct Service;

impl Service {
    /// Binds the listeners, writes the objects every cluster has, and serves until the tasks are cancelled.
    ///
    /// # Errors
    /// When an address is taken, the key is unusable, or the store refuses.
    pub async fn start(options: Options, store: Arc<dyn Store>, tasks: &Tasks) -> Result<Handle, Error> {
        let mut listeners = Vec::new();
        let mut addrs = Vec::new();
        for address in options.listen {
            let bound = TcpListener::bind(address).await;
            let listener = bound.map_err(|source| Error::Listen { address, source })?;
            addrs.push(listener.local_addr().map_err(|source| Error::Listen { address, source })?);
            listeners.push(listener);
        }
        let port = addrs.first().map_or(443, SocketAddr::port);
        let settings = Settings {
            issuer: options.issuer,
            service_cidr: options.service_cidr,
            port,
            shared_store: options.shared_store,
        };
        let server = Arc::new(Server::new(Assembly {
            caches: cache::Caches::new(store.clone(), tasks.clone()),
            store,
            settings,
            kubelet: kubelet::Client::new(options.kubelet_tls, tasks.clone()),
            clock: options.clock,
            random: options.random,
            signer: Signer::from_pkcs8(&options.service_account_key)?,
            tasks: tasks.clone(),
        }));
        let endpoint = options.advertise.map(|ip| {
            let listening = addrs.iter().find(|a| a.ip() == ip);
            SocketAddr::new(ip, listening.map_or(port, SocketAddr::port))
        });
        let refused = |status: kube_types::status::Status| Error::Bootstrap(status.to_string());
        bootstrap::run(&server).await.map_err(refused)?;
        if let Some(endpoint) = endpoint {
            endpoints::keep(&server, endpoint, tasks).await.map_err(refused)?;
        }
        let tls = Arc::new(options.tls);
        for listener in listeners {
            let serving = http::server::listen(server.clone(), listener, tls.clone(), tasks.clone());
            tasks.spawn(TaskKind::Critical, "api listener", serving);
        }
        Ok(Handle { server, addrs: addrs.into() })
    }
}

/// A running API server.
#[derive(Clone)]
pub struct Handle {
    server: Arc<Server>,
    addrs: Arc<[SocketAddr]>,
}

impl Handle {
    /// A client inside this process that acts as `user`: a tower service, without a socket.
    #[must_use]
    pub fn local(&self, user: UserInfo) -> LocalService {
        LocalService::new(self.server.clone(), user)
    }

    /// Where it listens, in the order of the options.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The first address; None when it listens nowhere.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addrs.first().copied()
    }

    /// Returns once requests are authorized by what is stored now: `/readyz` is true from the start.
    pub async fn ready(&self) {
        self.server.rbac().ready(self.server.revision()).await;
    }
}
