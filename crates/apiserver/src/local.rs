//! A client in the same process: the same path as over the wire, without the wire.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use identity::UserInfo;

use crate::http::body::Body;
use crate::http::server::receive;
use crate::server::{Caller, Server};

/// A tower service that acts as one user. Watches stream; nothing is buffered but what a frame holds.
#[derive(Clone)]
pub struct LocalService {
    server: Arc<Server>,
    caller: Caller,
}

impl LocalService {
    pub(crate) fn new(server: Arc<Server>, user: UserInfo) -> Self {
        Self { server, caller: Caller::local(user) }
    }
}

impl<B> tower::Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, caller) = (self.server.clone(), self.caller.clone());
        Box::pin(async move { Ok(receive(&server, caller, request).await) })
    }
}
