//! `grpc.health.v1.Health`: whether the member serves.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::Door;
use super::grpc::Answer;

#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct CheckResponse {
    /// 1 serving, 2 not serving, 3 unknown service.
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

type Codec = ProstCodec<CheckResponse, CheckRequest>;
type Statuses = Pin<Box<dyn Stream<Item = Result<CheckResponse, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub(crate) struct HealthServer(pub Arc<Door>);

impl NamedService for HealthServer {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl HealthServer {
    /// The member as a whole is the one service known, by the empty name (as in etcd).
    fn status(&self, service: &str) -> Option<CheckResponse> {
        let serves = !self.0.token.is_cancelled();
        service.is_empty().then_some(CheckResponse { status: if serves { SERVING } else { NOT_SERVING } })
    }

    async fn check(self, request: tonic::Request<CheckRequest>) -> Outcome<CheckResponse> {
        let status = self.status(&request.get_ref().service);
        status.map(tonic::Response::new).ok_or_else(|| Status::not_found("unknown service"))
    }

    /// The status now, and that the member stops serving when it does.
    async fn watch(self, request: tonic::Request<CheckRequest>) -> Outcome<Statuses> {
        let now = self.status(&request.get_ref().service);
        let now = now.unwrap_or(CheckResponse { status: SERVICE_UNKNOWN });
        let token = self.0.token.clone();
        let stopping = async move {
            token.cancelled().await;
            Ok(CheckResponse { status: NOT_SERVING })
        };
        let (first, last) = (futures::stream::iter([Ok(now)]), futures::stream::once(stopping));
        Ok(tonic::Response::new(Box::pin(futures::StreamExt::chain(first, last))))
    }
}

type Outcome<T> = Result<tonic::Response<T>, Status>;

impl tower::Service<Request<Body>> for HealthServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        let answer: Answer = match request.uri().path() {
            "/grpc.health.v1.Health/Check" => Box::pin(async move {
                let method = tower::service_fn(move |request| this.clone().check(request));
                Grpc::new(Codec::default()).unary(method, request).await
            }),
            "/grpc.health.v1.Health/Watch" => Box::pin(async move {
                let method = tower::service_fn(move |request| this.clone().watch(request));
                Grpc::new(Codec::default()).server_streaming(method, request).await
            }),
            _ => Box::pin(async { Status::new(Code::Unimplemented, "").into_http() }),
        };
        Box::pin(async move { Ok(answer.await) })
    }
}
