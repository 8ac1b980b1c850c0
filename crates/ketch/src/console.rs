//! The port for metrics: plain HTTP with `/metrics` (Prometheus text) and `/healthz`, nothing else yet.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Scrapers served at once; each holds a text of some kilobytes.
const CONNECTIONS_MAX: usize = 32;
/// A header that takes longer belongs to nobody who scrapes.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept: the process is out of descriptors and waits for some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the text comes from; None leaves the broker's part out.
#[derive(Clone)]
pub struct Console {
    pub broker: Option<broker::Handle>,
}

impl Console {
    /// Listens, and serves until the tasks end; the address bound.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(self, listen: SocketAddr, tasks: &Tasks) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(listen).await?;
        let bound = listener.local_addr()?;
        let serving = self.accept(listener, tasks.clone());
        tasks.spawn(TaskKind::Service, "console", serving);
        Ok(bound)
    }

    async fn accept(self, listener: TcpListener, tasks: Tasks) -> io::Result<()> {
        let stop = tasks.token();
        let seats = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // More than there are seats for: closed at once.
            let Ok(seat) = seats.clone().try_acquire_owned() else { continue };
            let (console, stop) = (self.clone(), stop.clone());
            tasks.spawn(TaskKind::Connection, "console-connection", async move {
                let _seat = seat;
                tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    served = console.serve(stream) => served,
                }
            });
        }
    }

    async fn serve(self, stream: TcpStream) -> Result<(), hyper::Error> {
        let service = service_fn(move |request| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/metrics" => {
                let text = self.broker.as_ref().map(broker::Handle::metrics).unwrap_or_default();
                let mut response = Response::new(Full::from(text));
                let kind = HeaderValue::from_static(broker::METRICS_CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
