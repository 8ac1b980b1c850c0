//! The Watch service: many watches on one stream (facts: server/etcdserver/api/v3rpc/watch.go, server/storage/mvcc).
//!
//! ```text
//!  client ──create, cancel, progress──▶ Session (one task a stream) ──bytes──▶ body of the answer ──▶ client
//!                                         ▲            │ a watch behind: reads history
//!            queue::Queue (bounded) ──────┘            ▼
//!                 ▲ offer                            Reads
//!                Hub: one membership for each range of a stream, however many watches it has
//! ```
//! A client that does not read stops its own session; its queue fills, its ranges fall out of step at the hub, and it
//! catches up from history when it reads again. Nobody else waits.

mod counts;
mod queue;
mod session;
mod wire;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::task::TaskKind;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Status, Streaming};

use super::{Door, MESSAGE_BYTES_MAX};
use session::Session;
use wire::Requests;

/// Batches of answers that wait for the client; a batch holds what one step of the session made.
const BATCHES: usize = 2;

/// The service.
#[derive(Clone)]
pub(crate) struct WatchServer(pub Arc<Door>);

impl NamedService for WatchServer {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl WatchServer {
    fn watch(self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (out, batches) = mpsc::channel(BATCHES);
        let needs_leader = super::needs_leader(&head.headers);
        let caller = (MetadataMap::from_headers(head.headers), head.extensions);
        let session = Session::new(self.0.clone(), caller, needs_leader, out);
        let requests = Streaming::new_request(Requests, body, None, Some(MESSAGE_BYTES_MAX));
        self.0.tasks.spawn(TaskKind::Connection, "etcd watch", async move {
            session.run(requests).await;
            Ok::<_, Infallible>(())
        });
        let mut response = Response::new(Body::new(Answers { batches, ended: false }));
        let content = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, content);
        response
    }
}

impl tower::Service<Request<Body>> for WatchServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let known = request.uri().path() == "/etcdserverpb.Watch/Watch";
        ready(Ok(if known { self.clone().watch(request) } else { Status::unimplemented("").into_http() }))
    }
}

/// What a session sends: answers as bytes, or the end of the stream.
type Batch = Result<Bytes, Status>;

/// The body of the answer: what the session sends, and a status at the end.
struct Answers {
    batches: mpsc::Receiver<Batch>,
    ended: bool,
}

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match std::task::ready!(self.batches.poll_recv(cx)) {
            Some(Ok(batch)) => return Poll::Ready(Some(Ok(Frame::data(batch)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
