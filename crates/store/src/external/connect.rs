//! Channels to the endpoints of a cluster.

use std::error::Error as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use pki::Leaf;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A silent peer is asked whether it lives, and has so long to say.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text is no URL of an endpoint.
    #[error("{endpoint}: {what}")]
    Endpoint { endpoint: String, what: String },
    /// No endpoint was given.
    #[error("no endpoint of etcd was given")]
    NoEndpoint,
    /// The cluster does not answer, or not as it should.
    #[error("etcd does not answer: {0}")]
    Refused(#[source] store_api::Error),
    /// A certificate or key cannot be used.
    #[error("{path}: {what}")]
    Certificate { path: String, what: String },
}

/// Whom to trust and what to show, as files in PEM.
#[derive(Debug, Clone, Copy)]
pub struct RootsAndKey<'a> {
    pub ca: &'a Path,
    /// The client's certificate and its key.
    pub client: Option<(&'a Path, &'a Path)>,
}

impl RootsAndKey<'_> {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or does not hold what it should.
    pub fn config(self) -> Result<Arc<rustls::ClientConfig>, ConnectError> {
        let wrong =
            |path: &Path, what: String| ConnectError::Certificate { path: path.display().to_string(), what };
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(|error| wrong(path, error.to_string()));
        let ca_pem = read(self.ca)?;
        let client = match self.client {
            Some((certificate, key)) => {
                Some(Leaf { certificate_pem: read(certificate)?, key_pem: read(key)? })
            }
            None => None,
        };
        let config = pki::tls::client(&ca_pem, client.as_ref());
        config.map(Arc::new).map_err(|error| wrong(self.ca, error.to_string()))
    }
}

/// One channel an endpoint; calls go to one of them until it fails.
#[derive(Debug)]
pub struct Pool {
    channels: Vec<Channel>,
    at: AtomicUsize,
}

impl Pool {
    /// Channels that connect when they are first used.
    ///
    /// # Errors
    /// When an endpoint is no URL, or https without TLS being set up.
    pub fn new(endpoints: &[String], tls: Option<Arc<rustls::ClientConfig>>) -> Result<Self, ConnectError> {
        if endpoints.is_empty() {
            return Err(ConnectError::NoEndpoint);
        }
        let channels: Result<_, _> =
            endpoints.iter().map(|endpoint| channel(endpoint, tls.as_ref())).collect();
        Ok(Self { channels: channels?, at: AtomicUsize::new(0) })
    }

    /// The channel to use, and its place.
    #[must_use]
    pub fn channel(&self) -> (usize, Channel) {
        let place = self.at.load(Ordering::Acquire) % self.channels.len();
        (place, self.channels[place].clone())
    }

    /// Goes on to the next endpoint, unless somebody else did already.
    pub fn failed(&self, place: usize) {
        let next = (place + 1) % self.channels.len();
        // Lost races are fine: another caller moved on.
        let _ = self.at.compare_exchange(place, next, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }
}

fn channel(endpoint: &str, tls: Option<&Arc<rustls::ClientConfig>>) -> Result<Channel, ConnectError> {
    let wrong = |what: String| ConnectError::Endpoint { endpoint: endpoint.to_owned(), what };
    let uri: Uri = endpoint.parse().map_err(|error| wrong(format!("no URL: {error}")))?;
    let tls = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => Some(tls.ok_or_else(|| wrong("https needs --store-cacert".to_owned()))?.clone()),
        _ => return Err(wrong("begins with neither http:// nor https://".to_owned())),
    };
    let host = uri.host().ok_or_else(|| wrong("names no host".to_owned()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(2379);
    let name = ServerName::try_from(host.clone()).map_err(|error| wrong(error.to_string()))?;
    // TLS is the connector's; tonic would refuse the scheme it has not made itself.
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let plain =
        Endpoint::from_shared(format!("http://{authority}")).map_err(|error| wrong(error.to_string()))?;
    let plain = plain
        .connect_timeout(CONNECT_PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(false);
    Ok(plain.connect_with_connector_lazy(Connector { host: host.into(), port, name, tls }))
}

/// The connection could not be made, so nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotConnected(#[source] std::io::Error);

/// Whether a call failed before anything of it left.
pub(super) fn is_unsent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<NotConnected>() {
            return true;
        }
        cause = error.source();
    }
    false
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[derive(Clone)]
struct Connector {
    host: Arc<str>,
    port: u16,
    name: ServerName<'static>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Connector {
    async fn connect(self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        match self.tls {
            None => Ok(Box::new(stream)),
            Some(config) => Ok(Box::new(TlsConnector::from(config).connect(self.name, stream).await?)),
        }
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<Box<dyn Stream>>, NotConnected>> + Send>>;

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = NotConnected;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let this = self.clone();
        Box::pin(async move {
            let made = tokio::time::timeout(CONNECT_PATIENCE, this.connect()).await;
            let made = made.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            made.map(TokioIo::new).map_err(NotConnected)
        })
    }
}
