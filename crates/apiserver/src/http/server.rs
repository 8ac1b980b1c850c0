//! Connections: TLS, then HTTP/2 or HTTP/1.1 (with upgrades), each request to [`Server::serve`].
//!
//! ```text
//! listener ──accept──▶ TLS (client certificate → user) ──▶ hyper ──▶ collect the body ──▶ Server::serve
//!     └── on shutdown: stop accepting, ask connections to finish, give them a little time
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use identity::UserInfo;
use kube_types::status::Status;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::body::Body;
use super::respond;
use crate::server::{Caller, Server};

/// Most bytes of a request body (upstream's limit for objects).
pub(crate) const BODY_BYTES_MAX: usize = 3 << 20;
/// A body over the limit is read so far, and thrown away, for its sender to listen to the answer.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// Most bytes of all headers together, and of the request line.
const HEADER_BYTES_MAX: usize = 1 << 20;
/// Requests in flight on one HTTP/2 connection; client-go puts everything on one.
const STREAMS_MAX: u32 = 250;
/// A stranger has so long to shake hands, send headers or send a body.
const PATIENCE: Duration = Duration::from_secs(32);
/// Open connections; beyond it new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 10_000;
/// How long connections may finish what they do at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Accepts until the tasks are cancelled.
pub(crate) async fn listen(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    tasks: Tasks,
) -> Result<(), std::io::Error> {
    let acceptor = TlsAcceptor::from(tls);
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
                let connection = connection(server.clone(), acceptor.clone(), stream, tasks.clone());
                tasks.spawn(TaskKind::Connection, "api connection", async move {
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

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    tasks: Tasks,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let tls = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??;
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|der| identity::x509::principal(der).ok());
    let caller = Caller { certificate: user, trusted: None };
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (server, caller) = (server.clone(), caller.clone());
        async move { Ok::<_, Infallible>(receive(&server, caller, request).await) }
    });
    let builder = builder();
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(tls), service));
    let token = tasks.token();
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = token.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(DRAIN, connection).await?
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    builder
}

/// Reads the body and serves.
pub(crate) async fn receive<B>(server: &Arc<Server>, caller: Caller, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let body = match parts.method {
        Method::GET | Method::HEAD => Ok(Bytes::new()),
        _ => collect(body).await,
    };
    match body {
        Ok(body) => server.serve(caller, parts, body).await,
        Err(status) => respond::status(&status),
    }
}

async fn collect<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let reading = async {
        let (mut collected, mut length) = (BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|e| Status::bad_request(format!("cannot read the request's body: {}", e.into())))?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len();
            if length <= BODY_BYTES_MAX {
                collected.extend_from_slice(&data);
            } else if length > DRAIN_BYTES_MAX {
                break;
            }
        }
        let too_large = || Status::too_large(&format!("limit is {BODY_BYTES_MAX}"));
        if length > BODY_BYTES_MAX { Err(too_large()) } else { Ok(collected.freeze()) }
    };
    let late = || Status::timeout("request did not complete within the allotted timeout", 1);
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| Err(late()))
}

impl Caller {
    /// A part of this process, whose identity needs no proof.
    pub(crate) fn local(user: UserInfo) -> Self {
        Self { certificate: None, trusted: Some(user) }
    }
}
