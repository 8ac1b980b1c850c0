//! The way from a room to the API server: a client over any tower service, one set of shared caches, a work queue.
//!
//! ```text
//! Handle::local(user) ──▶ client() ──▶ kube::Client
//!                                         │ list + watch, one a kind, started on first use
//!                                         ▼
//!                                    Informers ──▶ Shared<K>: store(), changes(), synced()
//!                                                                     │ "look", never "what"
//!                                                                     ▼
//!                                                                  WorkQueue ──▶ a reconciler
//! ```
//! [`Election`] says which of several processes acts.

mod elect;
pub mod events;
mod informer;
mod queue;

pub use elect::Election;
pub use informer::{Change, Informers, Key, Shared};
pub use queue::{Backoff, WorkQueue};

use bytes::Bytes;
use http::{Request, Response};
use tower::{BoxError, Service};

/// A `kube::Client` over a tower service, such as the API server's local handle.
///
/// The service is called for each request; nothing is retried or limited here.
pub fn client<S, B>(service: S) -> kube::Client
where
    S: Service<Request<kube::client::Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(service, "default")
}

/// What a failed call asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else wrote first: read again, then decide again.
    Conflict,
    /// It is not there (any more).
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// It will never succeed as it is.
    Refused,
    /// Try again later.
    Retry,
}

/// Sorts an error by what to do about it.
#[must_use]
pub fn classify(error: &kube::Error) -> Failure {
    let kube::Error::Api(status) = error else { return Failure::Retry };
    match (status.code, status.reason.as_str()) {
        (404, _) => Failure::NotFound,
        (409, "AlreadyExists") => Failure::AlreadyExists,
        (409, _) => Failure::Conflict,
        (400 | 403 | 405 | 415 | 422, _) => Failure::Refused,
        _ => Failure::Retry,
    }
}
