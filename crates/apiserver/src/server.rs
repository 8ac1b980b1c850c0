//! The hub: what every request passes and what every handler may use.
//!
//! ```text
//! http::server ─┐                                                        ┌▶ paths (health, version, discovery, OpenAPI)
//! Handle::local ┴▶ Server::serve: limit → authenticate → impersonate → authorize ┴▶ handlers (one pipeline for all kinds)
//! ```

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use base::clock::SharedClock;
use base::random::Random;
use base::task::{TaskKind, Tasks};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use identity::UserInfo;
use identity::token::{Signer, Verifier};
use kube_types::registry::{Registry, Resource};
use kube_types::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use store_api::{LeaseId, RangeRequest, Store};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::auth::rbac::Rbac;
use crate::auth::{Attributes, authn, node};
use crate::cache::{Cache, Caches};
use crate::http::body::Body;
use crate::http::negotiate::{self, Accepted};
use crate::http::query::Query;
use crate::http::respond::{self, Answer};
use crate::http::target::{self, Asked, Target};
use crate::objects::{self, Stored};
use crate::{Settings, handlers, kubelet, paths};

/// Requests that may be in flight at once (upstream's defaults); watches, logs and execs do not count.
const READS_MAX: usize = 400;
const WRITES_MAX: usize = 200;
/// Longest path and query; just below what the HTTP library can hold at all (65,534).
const URI_BYTES_MAX: usize = 60 << 10;

/// Where a request came from.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The principal of the client certificate.
    pub(crate) certificate: Option<UserInfo>,
    /// The identity of a part of this process.
    pub(crate) trusted: Option<UserInfo>,
}

/// A request that may.
pub(crate) struct Request {
    pub(crate) user: UserInfo,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    /// Texts for `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

impl Request {
    /// A header's text; empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The shape and format of the answer.
    pub(crate) fn accepted(&self) -> Result<Accepted, Status> {
        const SPOKEN: [&str; 2] = ["application/json", "application/yaml"];
        negotiate::objects(self.header("accept")).ok_or_else(|| Status::not_acceptable(&SPOKEN))
    }
}

/// The API server's state.
pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: &'static Registry,
    pub(crate) settings: Settings,
    pub(crate) kubelet: kubelet::Client,
    caches: Caches,
    clock: SharedClock,
    random: Mutex<Random>,
    signer: Signer,
    verifier: Verifier,
    rbac: Rbac,
    reads: Semaphore,
    writes: Semaphore,
    tasks: Tasks,
    token: CancellationToken,
    /// The index of `/openapi/v3`: hashing every document takes a while, and what is served does not change.
    openapi_index: OnceLock<Value>,
    /// The lease of recent events, and when it was made.
    event_lease: tokio::sync::Mutex<(LeaseId, i64)>,
}

/// What a server is made of.
pub(crate) struct Assembly {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settings: Settings,
    pub(crate) kubelet: kubelet::Client,
    pub(crate) caches: Caches,
    pub(crate) clock: SharedClock,
    pub(crate) random: Random,
    pub(crate) signer: Signer,
    pub(crate) tasks: Tasks,
}

impl Server {
    pub(crate) fn new(parts: Assembly) -> Self {
        let verifier = Verifier::new(parts.settings.issuer.clone(), vec![parts.signer.public().clone()]);
        let rbac = Rbac::new(&parts.caches);
        Self {
            store: parts.store,
            registry: Registry::builtin(),
            settings: parts.settings,
            kubelet: parts.kubelet,
            caches: parts.caches,
            clock: parts.clock,
            random: Mutex::new(parts.random),
            signer: parts.signer,
            verifier,
            rbac,
            reads: Semaphore::new(READS_MAX),
            writes: Semaphore::new(WRITES_MAX),
            token: parts.tasks.token(),
            tasks: parts.tasks,
            openapi_index: OnceLock::new(),
            event_lease: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn rbac(&self) -> &Rbac {
        &self.rbac
    }
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.verifier
    }
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }
    pub(crate) fn issuer(&self) -> &str {
        &self.settings.issuer
    }
    /// Cancelled when the server stops: watches end.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
    /// Wall clock, milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.unix_ms()
    }
    /// Wall clock, microseconds.
    pub(crate) fn now_micros(&self) -> i64 {
        self.clock.unix_ms() * 1000
    }
    pub(crate) fn random(&self) -> u64 {
        self.random.lock().next_u64()
    }
    /// `len` characters of the alphabet of generated names.
    pub(crate) fn random_suffix(&self, len: usize) -> String {
        self.random.lock().text(b"bcdfghjklmnpqrstvwxz2456789", len)
    }
    /// A fresh random uid (UUID version 4).
    pub(crate) fn uid(&self) -> String {
        let mut bytes = [0; 16];
        self.random.lock().fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
    /// The index of the OpenAPI documents.
    pub(crate) fn openapi_index(&self) -> &Value {
        self.openapi_index.get_or_init(|| kube_types::openapi::v3_index(self.registry))
    }
    /// The store's revision now.
    pub(crate) fn revision(&self) -> i64 {
        self.store.revision().get()
    }

    /// The revision that a read which must see everything so far has to reach. Where others write too, this process may
    /// not have heard of all of it.
    pub(crate) async fn newest(&self) -> Result<i64, Status> {
        if !self.settings.shared_store {
            return Ok(self.revision());
        }
        let probe = RangeRequest { count_only: true, ..RangeRequest::key("\0") };
        Ok(self.read_range(probe).await?.revision.get())
    }

    /// The watch cache of a resource.
    pub(crate) fn cache(&self, resource: &Resource) -> Arc<Cache> {
        self.caches.of(&resource.storage_prefix, objects::selectable(self.registry, resource))
    }

    /// The object under a key, read from the store.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Stored>, Status> {
        let read = self.store.range(RangeRequest::key(key.to_owned())).await;
        let read = read.map_err(|e| objects::store_status(&e))?;
        Ok(read.kvs.into_iter().next().and_then(Stored::new))
    }

    /// A range of the store.
    pub(crate) async fn read_range(&self, request: RangeRequest) -> Result<store_api::RangeResponse, Status> {
        self.store.range(request).await.map_err(|e| objects::store_status(&e))
    }

    /// Runs a stream of this server's until it ends by itself; it looks at the token.
    pub(crate) fn spawn_stream(&self, stream: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(TaskKind::Connection, "watch", async move {
            stream.await;
            Ok::<_, Infallible>(())
        });
    }

    /// The lease for an event written now: events live an hour, and those of one minute share a lease.
    pub(crate) async fn event_lease(&self) -> Result<LeaseId, Status> {
        const SHARED_MS: i64 = 60_000;
        const TTL_S: i64 = 3600 + SHARED_MS / 1000;
        let mut current = self.event_lease.lock().await;
        let now_ms = self.now_ms();
        if current.0.get() == 0 || now_ms - current.1 > SHARED_MS {
            let granted = self.store.lease_grant(LeaseId(0), TTL_S).await;
            *current = (granted.map_err(|e| objects::store_status(&e))?.id, now_ms);
        }
        Ok(current.0)
    }

    /// Serves one request, whatever comes out.
    pub(crate) async fn serve(self: &Arc<Self>, caller: Caller, parts: Parts, body: Bytes) -> Response<Body> {
        let head = parts.method == Method::HEAD;
        let headers = parts.headers.clone();
        let answer = self.answer(caller, parts, body).await;
        let mut response = answer.unwrap_or_else(|status| respond::status(&status));
        // One per request, for people who compare logs.
        if let Ok(id) = HeaderValue::from_str(&self.uid()) {
            response.headers_mut().insert("audit-id", id);
        }
        if head {
            *response.body_mut() = Body::empty();
        }
        respond::compress(&headers, response)
    }

    async fn answer(self: &Arc<Self>, caller: Caller, parts: Parts, body: Bytes) -> Answer {
        if parts.uri.path_and_query().is_some_and(|p| p.as_str().len() > URI_BYTES_MAX) {
            return Err(Status::failure(414, kube_types::status::Reason::Unknown, "request URI is too long"));
        }
        let query = Query::parse(parts.uri.query());
        let asked = target::parse(&parts.method, parts.uri.path(), &query);
        let user = authn::authenticate(self, &caller, &parts.headers).await?;
        let user = match user {
            Some(user) => authn::impersonate(self, user, &parts.headers).await?,
            None if paths::is_public(parts.uri.path()) => UserInfo::anonymous(),
            None => return Err(Status::unauthorized()),
        };
        self.authorize(&user, &asked, &parts, &query).await?;
        let _permit = self.admit(&caller, &asked, &parts).await?;
        match asked {
            Asked::Path => paths::serve(self, &parts, &query).await,
            Asked::Resource(target) => {
                let mut request = Request { user, target: *target, query, parts, body, warnings: Vec::new() };
                let mut answer = handlers::dispatch(self, &mut request).await;
                if let Ok(response) = &mut answer {
                    respond::warn(response, &request.warnings);
                }
                answer
            }
        }
    }

    async fn authorize(
        self: &Arc<Self>,
        user: &UserInfo,
        asked: &Asked,
        parts: &Parts,
        query: &Query,
    ) -> Result<(), Status> {
        let method = parts.method.as_str().to_ascii_lowercase();
        let wanted = match asked {
            Asked::Resource(target) => Attributes::of(target),
            Asked::Path => Attributes::path(&method, parts.uri.path()),
        };
        if self.rbac.allows(user, &wanted, self.revision()).await {
            return Ok(());
        }
        match asked {
            Asked::Resource(target) if node::may_read(self, user, target, query).await => Ok(()),
            _ => Err(wanted.forbidden(user)),
        }
    }

    /// A place among the requests in flight. Strangers are told to come back, parts of this process wait.
    async fn admit(
        &self,
        caller: &Caller,
        asked: &Asked,
        parts: &Parts,
    ) -> Result<Option<SemaphorePermit<'_>>, Status> {
        if is_long(asked) {
            return Ok(None);
        }
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let slots = if reads { &self.reads } else { &self.writes };
        let permit = match caller.trusted {
            Some(_) => slots.acquire().await.ok(),
            None => slots.try_acquire().ok(),
        };
        let busy = || Status::too_many_requests("Too many requests, please try again later.", 1);
        permit.map(Some).ok_or_else(busy)
    }
}

fn is_long(asked: &Asked) -> bool {
    let Asked::Resource(target) = asked else { return false };
    let streams = ["log", "exec", "attach", "portforward", "proxy"];
    target.verb == "watch" || streams.contains(&target.subresource.as_str())
}
