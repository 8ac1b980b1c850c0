//! The Watch service: many watches on one stream (facts: server/etcdserver/api/v3rpc/watch.go, server/storage/mvcc).
//!
//! ```text
//!  client ──create, cancel, progress──▶ Session (one task a stream) ──wires──▶ body of the answer ──▶ client
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
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base::task::TaskKind;
use etcd_wire::etcdserverpb as pb;
use futures::Stream;
use http::{Request, Response};
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Status, Streaming};

use super::Door;
use session::Session;
use wire::{Codec, Wire};

/// Batches of answers that wait for the client; a batch holds what one step of the session made.
const BATCHES: usize = 2;

/// The service.
#[derive(Clone)]
pub(crate) struct WatchServer(pub Arc<Door>);

impl NamedService for WatchServer {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl WatchServer {
    async fn watch(
        self,
        request: tonic::Request<Streaming<pb::WatchRequest>>,
    ) -> Result<tonic::Response<Wires>, Status> {
        let (out, batches) = mpsc::channel(BATCHES);
        let needs_leader = super::needs_leader(request.metadata().as_ref());
        let caller = (request.metadata().clone(), request.extensions().clone());
        let session = Session::new(self.0.clone(), caller, needs_leader, out);
        let requests = request.into_inner();
        self.0.tasks.spawn(TaskKind::Connection, "etcd watch", async move {
            session.run(requests).await;
            Ok::<_, Infallible>(())
        });
        Ok(tonic::Response::new(Wires { batches, now: Vec::new().into_iter() }))
    }
}

impl tower::Service<Request<Body>> for WatchServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/etcdserverpb.Watch/Watch" {
                return Ok(Status::unimplemented("").into_http());
            }
            let method = tower::service_fn(move |request| this.clone().watch(request));
            Ok(Grpc::new(Codec).streaming(method, request).await)
        })
    }
}

/// What a session sends: answers, or the end of the stream.
type Batch = Result<Vec<Wire>, Status>;

/// The answers of a stream, one by one.
struct Wires {
    batches: mpsc::Receiver<Batch>,
    now: std::vec::IntoIter<Wire>,
}

impl Stream for Wires {
    type Item = Result<Wire, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(wire) = self.now.next() {
                return Poll::Ready(Some(Ok(wire)));
            }
            match ready!(self.batches.poll_recv(cx)) {
                Some(Ok(batch)) => self.now = batch.into_iter(),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
    }
}
