//! Connections: TLS where it is on, then HTTP/2 or HTTP/1.1, each request to [`Services::serve`] or past it.
//!
//! ```text
//! listener ──accept──▶ TLS (client certificate → Peer) ──preface──▶ http2 ──▶ hot calls, Services
//!     │                                                  └─ else ──▶ hyper: HTTP/1.1, WebSockets ──▶ Services
//!     └── on shutdown: stop accepting, ask connections to finish, give them a little time
//! ```

use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

use super::grpc::Services;
use super::{Peer, http2};

/// A stranger has so long to shake hands or send headers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Open connections; beyond it new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 10_000;
/// How long connections may finish what they do at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// A connection's place among those that may be open; in every request's extensions over HTTP/1.1, for what it becomes.
pub(super) type Slot = Arc<OwnedSemaphorePermit>;

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
                let slot = Slot::new(slot);
                let connection = connection(services.clone(), acceptor.clone(), stream, slot, tasks.clone());
                tasks.spawn(TaskKind::Connection, "etcd connection", connection);
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
    slot: Slot,
    tasks: Tasks,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = acceptor else {
        return speak(services, Peer::default(), stream, slot, tasks).await;
    };
    let tls = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??;
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|der| identity::x509::principal(der).ok());
    let peer = Peer { common_name: user.map(|user| user.name.into()) };
    speak(services, peer, tls, slot, tasks).await
}

async fn speak<S>(
    services: Arc<Services>,
    peer: Peer,
    stream: S,
    slot: Slot,
    tasks: Tasks,
) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let token = tasks.token();
    let (is_http2, stream) = tokio::time::timeout(PATIENCE, Begun::read(stream)).await??;
    if is_http2 {
        return http2::serve(services, peer, stream, token).await;
    }
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let services = services.clone();
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(slot.clone());
        async move { Ok::<_, Infallible>(services.serve(request.map(Body::new)).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = token.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(tokio::time::timeout(DRAIN, connection).await??)
}

/// What a client of HTTP/2 says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were looked at; they are read again.
struct Begun<S> {
    first: Vec<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> Begun<S> {
    /// Reads as much as it takes to know whether the client speaks HTTP/2.
    async fn read(mut stream: S) -> std::io::Result<(bool, Self)> {
        let mut first = Vec::with_capacity(PREFACE.len());
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            let mut rest = (&mut stream).take((PREFACE.len() - first.len()) as u64);
            if rest.read_buf(&mut first).await? == 0 {
                break;
            }
        }
        Ok((first == PREFACE, Self { first, stream }))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let len = self.first.len().min(out.remaining());
        out.put_slice(&self.first[..len]);
        self.first.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
