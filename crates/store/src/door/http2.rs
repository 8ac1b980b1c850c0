//! An HTTP/2 connection: one task reads its frames, runs its calls and writes their answers.
//!
//! ```text
//!             ┌──────────── one task ─────────────┐
//! frames ──▶ accept ──▶ calls (futures) ──▶ answers ──▶ frames
//!             │  hot::Call: bytes to bytes          │
//!             └─ all others: Services, body piped ──┘
//! ```
//! A batch that becomes durable wakes the task once, and its answers leave in one write. What takes long (scans, hashing)
//! runs on threads of its own, so calls do not hold each other up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::Peer;
use super::grpc::Services;
use super::hot;
use super::pings::{Manners, Seen, Watched};
use super::server::PREFACE;

/// Requests and streams in flight on one connection. etcd's default has no bound; a client waits for room beyond it.
const STREAMS_MAX: u32 = 1 << 20;
/// Streams that a client may have reset while they wait to be served (clients cancel many watches at once).
const RESETS_MAX: usize = 4096;
/// Streams ended for errors of the peer before the connection is.
const ERRORS_MAX: usize = 1024;
/// What a peer may send ahead on one stream, and on all streams of a connection together.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What one stream may have waiting to be sent.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// Largest frame taken: fewer frames for large values.
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// Most bytes of all headers together (Go's default for HTTP servers).
const HEADER_BYTES_MAX: u32 = 1 << 20;
/// A stranger has so long to shake hands.
const PATIENCE: Duration = Duration::from_secs(30);
/// etcd's `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`: a peer is asked whether it lives.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2 * 3600);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long calls may go on at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Calls = FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Serves until the peer is gone, or the door closes and what was begun is done.
pub(super) async fn serve<S>(
    services: Arc<Services>,
    peer: Peer,
    stream: S,
    token: CancellationToken,
) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, seen) = Watched::new(stream, PREFACE.len());
    let mut connection = tokio::time::timeout(PATIENCE, builder().handshake(stream)).await??;
    let pings = connection.ping_pong().map(Pings::new);
    let manners = Manners::new(seen.clone());
    let mut serving = Serving { services, peer, connection, calls: Calls::new(), pings, seen, manners };
    tokio::select! {
        ended = std::future::poll_fn(|cx| serving.poll(cx)) => return ended,
        () = token.cancelled() => serving.connection.graceful_shutdown(),
    }
    tokio::time::timeout(DRAIN, std::future::poll_fn(|cx| serving.poll(cx))).await?
}

fn builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    builder
}

struct Serving<S> {
    services: Arc<Services>,
    peer: Peer,
    connection: Connection<Watched<S>, Bytes>,
    calls: Calls,
    pings: Option<Pings>,
    seen: Arc<Seen>,
    manners: Manners,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serving<S> {
    /// Calls first, as far as they go, so that all their answers are written together.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let Some(pings) = &mut self.pings
            && pings.poll(cx).is_ready()
        {
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        loop {
            while let Poll::Ready(Some(())) = self.calls.poll_next_unpin(cx) {}
            let mut more = false;
            loop {
                match self.connection.poll_accept(cx) {
                    Poll::Ready(Some(accepted)) => {
                        let (request, respond) = accepted?;
                        more = true;
                        self.calls.push(Box::pin(call(
                            self.services.clone(),
                            self.peer.clone(),
                            request,
                            respond,
                        )));
                    }
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => break,
                }
            }
            if !self.manners.may_ping(!self.calls.is_empty()) {
                // What the library says then goes out in gRPC's words, see `pings`; the next look finds the end.
                self.seen.send_away();
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                more = true;
            }
            if !more {
                return Poll::Pending;
            }
        }
    }
}

/// Asks the peer whether it lives.
struct Pings {
    pings: PingPong,
    /// When the next question is due, or the answer to the last one.
    due: Pin<Box<Sleep>>,
    asked: bool,
}

impl Pings {
    fn new(pings: PingPong) -> Self {
        Self { pings, due: Box::pin(tokio::time::sleep(KEEPALIVE_EVERY)), asked: false }
    }

    /// Ready when the peer did not answer in time.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked {
                // An error means that the connection is over, which is seen elsewhere.
                let pong = self.pings.poll_pong(cx);
                if matches!(pong, Poll::Ready(Ok(_))) {
                    (self.asked, self.due) = (false, Box::pin(tokio::time::sleep(KEEPALIVE_EVERY)));
                    continue;
                }
            }
            ready!(self.due.as_mut().poll(cx));
            if self.asked || self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            (self.asked, self.due) = (true, Box::pin(tokio::time::sleep(KEEPALIVE_TIMEOUT)));
        }
    }
}

/// One call, from its head to the end of its answer, unless the client resets it.
async fn call(
    services: Arc<Services>,
    peer: Peer,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let mut body = Received::new(body);
    if let Some(method) = hot::Method::of(&head) {
        let call = hot::call(&services, method, &head, &peer, &mut body);
        match until_reset(&mut respond, call).await {
            Some(Some(answer)) => return answer.send(respond).await,
            // Something about it is unusual: the long way knows what to say.
            Some(None) => {}
            None => return,
        }
    }
    // Apart, so that what every call takes up is small.
    Box::pin(call_at_length(services, peer, head, body, respond)).await;
}

/// A call by way of the services.
async fn call_at_length(
    services: Arc<Services>,
    peer: Peer,
    mut head: Parts,
    body: Received,
    mut respond: SendResponse<Bytes>,
) {
    head.extensions.insert(peer);
    let request = Request::from_parts(head, Body::new(body));
    let Some(response) = until_reset(&mut respond, services.serve(request)).await else { return };
    let (mut head, body) = response.into_parts();
    let ended = body.is_end_stream();
    if let Some(len) = body.size_hint().exact().filter(|_| !ended) {
        head.headers.entry(CONTENT_LENGTH).or_insert(len.into());
    }
    // An error means that the stream is over: there is nobody left to tell.
    if let Ok(out) = respond.send_response(Response::from_parts(head, ()), ended)
        && !ended
    {
        Pipe { body, out, waiting: None }.await;
    }
}

/// What the work comes to; None when the client does not want it any more.
async fn until_reset<T>(respond: &mut SendResponse<Bytes>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    })
    .await
}

/// A request's body.
pub(super) struct Received {
    /// What was taken from the stream already and is to be seen first.
    again: Option<Bytes>,
    stream: RecvStream,
    data_ended: bool,
}

impl Received {
    fn new(stream: RecvStream) -> Self {
        Self { again: None, stream, data_ended: false }
    }

    /// The whole body if it comes to at most `max` bytes. What was read is kept, and seen again when the body goes on
    /// elsewhere.
    pub(super) async fn whole(&mut self, max: usize) -> Option<Bytes> {
        // Most come in one piece, which is not copied; many small ones are copied once each.
        let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
        let mut failed = false;
        while !self.data_ended && first.len().max(joined.len()) <= max {
            match std::future::poll_fn(|cx| self.poll_data(cx)).await {
                Some(Ok(piece)) if first.is_empty() => first = piece,
                Some(Ok(piece)) => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&piece);
                }
                Some(Err(_)) => failed = true,
                None => self.data_ended = true,
            }
            if failed || self.stream.is_end_stream() {
                break;
            }
        }
        let whole = !failed && (self.data_ended || self.stream.is_end_stream());
        let all = if joined.is_empty() { first } else { joined.freeze() };
        self.again = Some(all.clone());
        (whole && all.len() <= max).then_some(all)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if self.data_ended {
            return Poll::Ready(None);
        }
        let piece = match ready!(self.stream.poll_data(cx)) {
            Some(Ok(piece)) => piece,
            // A client that gives up ends its body.
            Some(Err(error)) => {
                self.data_ended = true;
                let given_up = matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL));
                return Poll::Ready((!given_up).then_some(Err(error)));
            }
            None => return Poll::Ready(None),
        };
        // An error means that the stream is over.
        let _ = self.stream.flow_control().release_capacity(piece.len());
        Poll::Ready(Some(Ok(piece)))
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(again) = self.again.take().filter(|again| !again.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(again))));
        }
        if let Some(piece) = ready!(self.poll_data(cx)) {
            return Poll::Ready(Some(piece.map(Frame::data)));
        }
        self.data_ended = true;
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_none() && self.stream.is_end_stream()
    }
}

/// Waits until the client has room for more of an answer.
///
/// # Errors
/// When it will have none.
pub(super) async fn room(out: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    out.reserve_capacity(1);
    while out.capacity() == 0 {
        match std::future::poll_fn(|cx| out.poll_capacity(cx)).await {
            Some(capacity) => capacity?,
            None => return Err(Reason::STREAM_CLOSED.into()),
        };
    }
    Ok(())
}

/// Sends an answer's body as the client has room for it.
struct Pipe {
    body: Body,
    out: SendStream<Bytes>,
    /// A piece that waits for room.
    waiting: Option<Bytes>,
}

impl Pipe {
    /// Ready when the client has room for the piece that waits; false when it will have none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while self.out.capacity() == 0 {
            match ready!(self.out.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                _ => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    }
}

impl Future for Pipe {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.out.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.waiting.is_some() {
                let room = ready!(self.poll_room(cx));
                let Some(piece) = self.waiting.take().filter(|_| room) else { return Poll::Ready(()) };
                let ended = self.body.is_end_stream();
                if self.out.send_data(piece, ended).is_err() || ended {
                    return Poll::Ready(());
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) => {
                    // Room is asked for once there is something to send, so that none is held without use.
                    self.out.reserve_capacity(usize::from(!piece.is_empty()));
                    if !piece.is_empty() {
                        self.waiting = Some(piece);
                    }
                }
                Some(Ok(Err(other))) => {
                    if let Ok(trailers) = other.into_trailers() {
                        self.out.reserve_capacity(0);
                        // An error means that the stream is over.
                        let _ = self.out.send_trailers(trailers);
                        return Poll::Ready(());
                    }
                }
                Some(Err(_)) => {
                    self.out.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                None => {
                    let _ = self.out.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
            }
        }
    }
}
