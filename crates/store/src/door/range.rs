//! Range, past the generated service: the answer is written straight from the scan.
//!
//! ```text
//! scan ──key, record──▶ bytes of RangeResponse, and where values go (see `answer`) ──▶ pieces of a frame
//! ```
//! A list of a hundred thousand keys so costs no value of its own for each key, and is sent while it is read. Reads of single keys, of the past, and
//! those that are sorted or bounded go the ordinary way.

mod answer;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_server::{Kv as _, KvServer};
use http::{Request, Response};
use mvcc::{StateError, read};
use prost::Message as _;
use prost::encoding::message;
use store_api::{Error, KeyRange, RangeRequest};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};

pub(super) use answer::Answer;
use answer::{Plan, put_number};

use super::grpc::HEAD_BYTES;
use super::kv::Kv;
use super::{Door, convert, error};
use crate::auth::Acting;
use crate::db::View;

/// Keys of fields of `RangeResponse`: number << 3 | kind.
const HEADER: u32 = 1;
const MORE_KEY: u8 = 3 << 3;
const COUNT_KEY: u8 = 4 << 3;
/// Keys that are read before others help.
const ALONE_KEYS: usize = 4096;
/// Threads that read one range at most.
const SCANS_MAX: usize = 4;
/// What is made of an answer before it is sent; of most there is no more. And what is made of it while as much is sent.
const STEP_BYTES: usize = 1 << 20;

/// The KV service with its own Range.
#[derive(Clone)]
pub(crate) struct KvService {
    door: Arc<Door>,
    rest: KvServer<Kv>,
}

impl NamedService for KvService {
    const NAME: &'static str = "etcdserverpb.KV";
}

impl KvService {
    pub(crate) fn new(door: &Arc<Door>) -> Self {
        Self { door: door.clone(), rest: KvServer::new(Kv(door.clone())) }
    }

    async fn range(
        self,
        request: tonic::Request<pb::RangeRequest>,
    ) -> Result<tonic::Response<Bytes>, Status> {
        let store = self.door.acting(&request).await;
        let asked = convert::range(request.get_ref().clone())?;
        if matches!(asked.range, KeyRange::One(_)) || !read::is_of_now(&asked) {
            let answer = Kv(self.door.clone()).range(request).await?;
            return Ok(answer.map(|answer| answer.encode_to_vec().into()));
        }
        let refused = |refusal| error::status(&refusal);
        let Written { mut pieces, mut rest } = write(&self.door, &store?, asked).await.map_err(refused)?;
        while let Some(answer) = rest.take().filter(|answer| answer.left() > 0) {
            let (more, answer) = next(&self.door, answer).await.map_err(refused)?;
            pieces.extend(more);
            rest = Some(answer);
        }
        // tonic makes the head itself.
        Ok(tonic::Response::new(Bytes::from(pieces.concat()).slice(HEAD_BYTES..)))
    }
}

impl tower::Service<Request<Body>> for KvService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != "/etcdserverpb.KV/Range" {
            return tower::Service::call(&mut self.rest, request);
        }
        let this = self.clone();
        Box::pin(async move {
            let metrics = this.door.metrics.clone();
            let method = tower::service_fn(move |request| {
                let (this, metrics) = (this.clone(), metrics.clone());
                async move { metrics.ranged(this.range(request)).await }
            });
            Ok(Grpc::new(Codec).unary(method, request).await)
        })
    }
}

/// The beginning of an answer, and what makes the rest where there is more.
pub(super) struct Written {
    pub pieces: Vec<Bytes>,
    pub rest: Option<Box<Answer>>,
}

/// Serves a read that may be long.
pub(super) async fn write(door: &Arc<Door>, store: &Acting, request: RangeRequest) -> Result<Written, Error> {
    let view = store.view(&request.range, request.serializable).await?;
    let door = door.clone();
    // A scan may be long, and may wait for the disk: not on a thread that serves connections.
    apart(move || write_framed(&door, &view, &request)).await
}

async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|join| Err(Error::Unavailable(format!("the read was not finished: {join}"))))
}

/// Makes the next pieces of an answer; none at its end.
pub(super) async fn next(
    door: &Arc<Door>,
    mut answer: Box<Answer>,
) -> Result<(Vec<Bytes>, Box<Answer>), Error> {
    let door = door.clone();
    apart(move || {
        let pieces = door.store.inner.health.look(answer.next(STEP_BYTES).map_err(Error::from))?;
        Ok((pieces, answer))
    })
    .await
}

/// The answer behind its message's head.
pub(super) fn write_framed(door: &Door, view: &View, request: &RangeRequest) -> Result<Written, Error> {
    door.store.inner.health.look(try_write_framed(door, view, request))
}

fn try_write_framed(door: &Door, view: &View, request: &RangeRequest) -> Result<Written, Error> {
    let mut first = Plan::default();
    first.bytes.put_bytes(0, HEAD_BYTES);
    message::encode(HEADER, &door.header(Some(read::revision(view)?)), &mut first.bytes);
    let mut plans = VecDeque::from([first]);
    let count = match &request.range {
        KeyRange::Span { start, end } if request.limit == 0 => {
            plan_span(view, (start, end), request.keys_only, &mut plans)?;
            None
        }
        range => Some(plan_first(view, range, request, &mut plans[0])?),
    };
    let written = plans.iter().map(|plan| plan.count).sum();
    let count = count.unwrap_or(written);
    if let Some(last) = plans.back_mut() {
        put_number(&mut last.bytes, MORE_KEY, i64::from(written < count));
        put_number(&mut last.bytes, COUNT_KEY, i64::try_from(count).unwrap_or(i64::MAX));
    }
    let too_large = || Error::Unavailable("the answer is too large".to_owned());
    let mut answer = Answer::new(plans, view.segments()).ok_or_else(too_large)?;
    let pieces = answer.next(STEP_BYTES)?;
    Ok(Written { pieces, rest: (answer.left() > 0).then(|| Box::new(answer)) })
}

/// Plans as many keys of a range as are asked for; how many there are.
fn plan_first(
    view: &View,
    range: &KeyRange,
    request: &RangeRequest,
    out: &mut Plan,
) -> Result<usize, StateError> {
    let (mut count, limit) = (0, if request.limit == 0 { usize::MAX } else { request.limit });
    view.currents(range, &mut |current| {
        if count < limit {
            out.add(&current, request.keys_only)?;
        }
        count += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// Plans all keys of a span. A long one is read by several threads, each a part: what takes time is reading the state's
/// pages.
fn plan_span(
    view: &View,
    (start, end): (&Bytes, &Bytes),
    keys_only: bool,
    plans: &mut VecDeque<Plan>,
) -> Result<(), StateError> {
    let span = KeyRange::Span { start: start.clone(), end: end.clone() };
    let Some(next) = plan_part(view, &span, ALONE_KEYS, keys_only, &mut plans[0])? else { return Ok(()) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(SCANS_MAX);
    let parts = read::cut(view, &next, end, cores as u64)?;
    let scan = |part: &KeyRange| {
        let mut out = Plan::default();
        plan_part(view, part, usize::MAX, keys_only, &mut out).map(|_| out)
    };
    let (mine, others) = parts.split_first().unwrap_or((&span, &[]));
    std::thread::scope(|scope| {
        let spawn = |part| {
            std::thread::Builder::new().name("store-scan".into()).spawn_scoped(scope, move || scan(part))
        };
        let others: Vec<_> = others.iter().map(|part| (part, spawn(part))).collect();
        plans.push_back(scan(mine)?);
        for (part, thread) in others {
            // Without a thread to spare, or from one that panicked, the part is read here.
            plans.push_back(thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| scan(part))?);
        }
        Ok(())
    })
}

/// Plans at most `max` keys of a range; where to go on.
fn plan_part(
    view: &View,
    range: &KeyRange,
    max: usize,
    keys_only: bool,
    out: &mut Plan,
) -> Result<Option<Bytes>, StateError> {
    let (mut count, mut next) = (0, None);
    view.currents(range, &mut |current| {
        if count == max {
            next = Some(Bytes::copy_from_slice(current.key));
            return Ok(ControlFlow::Break(()));
        }
        count += 1;
        out.add(&current, keys_only)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(next)
}

/// Requests in, answers out that are bytes already.
#[derive(Clone, Copy)]
struct Codec;

impl tonic::codec::Codec for Codec {
    type Encode = Bytes;
    type Decode = pb::RangeRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Codec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.len());
        out.put(item);
        Ok(())
    }
}

impl Decoder for Codec {
    type Item = pb::RangeRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<pb::RangeRequest>, Status> {
        let request = pb::RangeRequest::decode(bytes);
        request.map(Some).map_err(|e| Status::internal(format!("grpc: error unmarshalling request: {e}")))
    }
}
