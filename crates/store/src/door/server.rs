//! Connections: TLS where it is on, then HTTP/2 or HTTP/1.1, each request to [`Services::serve`].
//!
//! ```text
//! listener ──accept──▶ TLS (client certificate → Peer) ──▶ hyper ──▶ Services
//!     └── on shutdown: stop accepting, ask connections to finish, give them a little time
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

use super::Peer;
use super::grpc::Services;

/// Most bytes of all headers together (Go's default for HTTP servers).
const HEADER_BYTES_MAX: u32 = 1 << 20;
/// Requests and streams in flight on one connection. etcd's default has no bound; a client waits for room beyond it.
const STREAMS_MAX: u32 = 1 << 20;
/// Streams that a client may have reset while they wait to be served (clients cancel many watches at once).
const RESETS_MAX: usize = 4096;
/// What a peer may send ahead on one stream, and on all streams of a connection together.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What one stream may have waiting to be sent.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// Largest frame taken: fewer frames for large values.
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// A stranger has so long to shake hands or send headers.
const PATIENCE: Duration = Duration::from_secs(30);
/// etcd's `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`: a silent peer is asked whether it lives.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2 * 3600);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Open connections; beyond it new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 10_000;
/// How long connections may finish what they do at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Accepts until the tasks are cancelled.
pub(crate) async fn listen(
    services: Arc<Services>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    tasks: Tasks,
) -> Result<(), std::io::Error> {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let token = tasks.token();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
        let accepted = tokio::select! {
            () = token.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(services.clone(), acceptor.clone(), stream, tasks.clone());
                tasks.spawn(TaskKind::Connection, "etcd connection", async move {
                    let _slot = slot;
                    connection.await
                });
            }
            // Out of descriptors, or the peer is gone already: both pass.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(
    services: Arc<Services>,
    acceptor: Option<TlsAcceptor>,
    stream: TcpStream,
    tasks: Tasks,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = acceptor else { return speak(services, Peer::default(), stream, tasks).await };
    let tls = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??;
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|der| identity::x509::principal(der).ok());
    let peer = Peer { common_name: user.map(|user| user.name.into()) };
    speak(services, peer, tls, tasks).await
}

async fn speak<S>(services: Arc<Services>, peer: Peer, stream: S, tasks: Tasks) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let services = services.clone();
        request.extensions_mut().insert(peer.clone());
        async move { Ok::<_, Infallible>(services.serve(request.map(Body::new)).await) }
    });
    let builder = builder();
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let token = tasks.token();
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = token.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(DRAIN, connection).await?
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
