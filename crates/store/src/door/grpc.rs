//! gRPC by service name, with the answers grpc-go gives to what it does not know or take.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};

use super::metrics::{self, Metrics};
use super::{Door, MESSAGE_BYTES_MAX};

/// What a service answers in.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Takes a request to one service.
trait Route: Send + Sync {
    fn call(&self, request: Request<Body>) -> Answer;
}

impl<S> Route for S
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn call(&self, request: Request<Body>) -> Answer {
        let answer = tower::Service::call(&mut self.clone(), request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}

/// The services by name.
pub(crate) struct Services {
    door: Arc<Door>,
    routes: HashMap<&'static str, Box<dyn Route>>,
}

impl Services {
    /// None yet.
    pub(crate) fn new(door: &Arc<Door>) -> Self {
        Self { door: door.clone(), routes: HashMap::new() }
    }

    /// With this service too.
    pub(crate) fn add<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.routes.insert(S::NAME, Box::new(service));
        self
    }

    /// What the services stand on.
    pub(super) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Serves one request of a connection, whatever it is.
    pub(crate) async fn serve(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        if !is_grpc(&request) {
            return super::http::serve(self, &self.door, request).await;
        }
        if request.method() != Method::POST {
            let text = format!("invalid gRPC request method {:?}\n", request.method().as_str());
            return plain(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        let (metrics, messages) = (self.door.metrics.clone(), Arc::<Messages>::default());
        let counted = messages.clone();
        let mut request = request.map(|body| Body::new(Limited::new(body, metrics, counted)));
        request.extensions_mut().insert(messages);
        self.call(request).await
    }

    /// Serves a gRPC request.
    pub(super) async fn call(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') else {
            return unimplemented(format!("malformed method name: {path:?}"));
        };
        let Some(route) = self.routes.get(service) else {
            return unimplemented(format!("unknown service {service}"));
        };
        if let Some(encoding) = unknown_encoding(&request) {
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}");
            return unimplemented(text);
        }
        if super::needs_leader(request.headers())
            && let Err(status) = self.door.check_leader()
        {
            return status.into_http();
        }
        // A service answers a method it does not have without a text, which tells it from one that refuses.
        let names = format!("unknown method {method} for service {service}");
        let path = path.to_owned();
        let messages = request.extensions().get::<Arc<Messages>>().cloned().unwrap_or_default();
        let kind = metrics::kind(service, method);
        self.door.metrics.asked(request.headers(), if kind == "unary" { kind } else { "stream" });
        let response = route.call(request).await;
        let headers = response.headers();
        let code = headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
        match code {
            Some(Code::Unimplemented) if !headers.contains_key(Status::GRPC_MESSAGE) => unimplemented(names),
            _ => self.door.metrics.follow(&path, response, messages),
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE);
    request.version() == http::Version::HTTP_2
        && content.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn unknown_encoding<B>(request: &Request<B>) -> Option<String> {
    let encoding = request.headers().get("grpc-encoding")?;
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    (encoding != "identity").then(|| encoding.into_owned())
}

fn unimplemented(text: String) -> Response<Body> {
    Status::unimplemented(text).into_http()
}

pub(super) fn not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

pub(super) fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// Length of a message's head: a flag and the length.
pub(in crate::door) const HEAD_BYTES: usize = 5;

/// Messages that came in a request's body so far.
#[derive(Debug, Default)]
pub(in crate::door) struct Messages(AtomicU64);

impl Messages {
    /// How many came since the last time.
    pub(in crate::door) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Finds the heads of messages in a body.
#[derive(Debug, Default)]
pub(in crate::door) struct Heads {
    head: [u8; HEAD_BYTES],
    head_len: usize,
    /// Bytes of the message under way that are still to come.
    left: usize,
}

impl Heads {
    /// Follows the messages through `data`; `each` is told the length of every one that begins.
    pub(in crate::door) fn follow<E>(
        &mut self,
        mut data: &[u8],
        mut each: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        while data.has_remaining() {
            if self.left > 0 {
                let step = self.left.min(data.len());
                (self.left, data) = (self.left - step, &data[step..]);
                continue;
            }
            let step = (HEAD_BYTES - self.head_len).min(data.len());
            self.head[self.head_len..self.head_len + step].copy_from_slice(&data[..step]);
            (self.head_len, data) = (self.head_len + step, &data[step..]);
            if self.head_len == HEAD_BYTES {
                let [_, length @ ..] = self.head;
                (self.head_len, self.left) = (0, u32::from_be_bytes(length) as usize);
                each(self.left)?;
            }
        }
        Ok(())
    }
}

/// A request's body that fails, before it is read, at a message larger than the limit.
struct Limited {
    body: Body,
    metrics: Arc<Metrics>,
    messages: Arc<Messages>,
    heads: Heads,
}

impl Limited {
    fn new(body: Body, metrics: Arc<Metrics>, messages: Arc<Messages>) -> Self {
        Self { body, metrics, messages, heads: Heads::default() }
    }

    fn follow(&mut self, data: &[u8]) -> Result<(), Status> {
        let messages = &self.messages;
        self.heads.follow(data, |len| {
            if len > MESSAGE_BYTES_MAX {
                return Err(Status::resource_exhausted(format!(
                    "grpc: received message larger than max ({len} vs. {MESSAGE_BYTES_MAX})"
                )));
            }
            messages.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.metrics.received(data.len());
            if let Err(status) = self.follow(data) {
                return Poll::Ready(Some(Err(status)));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_message_is_refused_at_its_head_however_it_is_cut() {
        let head = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
        let bytes = [head(3), b"abc".to_vec(), head(0), head(MESSAGE_BYTES_MAX as u32 + 1)].concat();
        for cut in 1..bytes.len() {
            let mut limited = Limited::new(Body::empty(), Arc::default(), Arc::default());
            let results: Vec<_> = bytes.chunks(cut).map(|chunk| limited.follow(chunk)).collect();
            let (last, before) = results.split_last().unwrap();
            assert!(before.iter().all(Result::is_ok));
            let status = last.as_ref().unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(limited.messages.take(), 2);
            assert_eq!(status.message(), "grpc: received message larger than max (2097153 vs. 2097152)");
        }
    }
}
