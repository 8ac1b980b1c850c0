//! The store's contract over an etcd cluster somebody else runs.
//!
//! ```text
//! External ─▶ convert ─▶ Pool: one lazy HTTP/2 channel an endpoint, mutual TLS ─▶ etcd
//!    │                     a failed one is left for the next; what may not have been carried out once is not sent twice
//!    └─ watch: a task and a stream each; after a break it goes on behind the last revision it delivered
//! ```
//! Reads are linearizable on etcd's side. `revision()` is the highest revision any answer has shown so far.

mod admin;
mod connect;
mod convert;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::task::Tasks;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_client::KvClient;
use etcd_wire::etcdserverpb::lease_client::LeaseClient;
use store_api::{
    Error, Future_, LeaseId, LeaseStatus, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse,
    Watch, WatchRequest,
};
use tonic::Status;
use tonic::transport::Channel;

pub use admin::{EndpointStatus, MemberChange, MemberList, Refused};
pub use connect::{ConnectError, Pool, RootsAndKey};

/// How long one request may take, retries included. etcd's own is 7 s with its defaults.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts when no endpoint answers.
const RETRY: Duration = Duration::from_millis(100);
/// Answers may be as large as etcd's client takes them.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// `https://host:port` or `http://host:port`, one or more; tried in this order.
    pub endpoints: Vec<String>,
    /// For https: whom to trust and what to show.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// A cluster as a [`Store`]. Clones are the same.
#[derive(Debug, Clone)]
pub struct External {
    pool: Arc<Pool>,
    seen: Arc<Seen>,
    tasks: Tasks,
}

/// The highest revision an answer has shown.
#[derive(Debug, Default)]
struct Seen(AtomicI64);

impl Seen {
    fn note(&self, header: Option<&pb::ResponseHeader>) -> Revision {
        let revision = header.map_or(0, |header| header.revision);
        self.0.fetch_max(revision, Ordering::AcqRel);
        Revision(revision)
    }
}

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Safe,
    /// Only while it has not left.
    Unsent,
}

impl External {
    /// Sets the channels up and asks the cluster for its revision.
    ///
    /// # Errors
    /// An endpoint that is no URL; a cluster that does not answer.
    pub async fn connect(options: &Options, tasks: &Tasks) -> Result<Self, ConnectError> {
        let pool = Arc::new(Pool::new(&options.endpoints, options.tls.clone())?);
        let external = Self { pool, seen: Arc::default(), tasks: tasks.clone() };
        let probe = RangeRequest { count_only: true, ..RangeRequest::key("\0") };
        external.read(probe).await.map_err(ConnectError::Refused)?;
        Ok(external)
    }

    /// The cluster as rooms take it.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    /// Calls an endpoint; when it does not answer, the next, until one does or patience ends.
    async fn call<T, F>(&self, repeat: Repeat, request: impl Fn(Channel) -> F + Send) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let attempts = async {
            let mut tried = 0;
            loop {
                let (place, channel) = self.pool.channel();
                let status = match request(channel).await {
                    Ok(answer) => return Ok(answer),
                    Err(status) => status,
                };
                let unsent = connect::is_unsent(&status);
                if status.code() != tonic::Code::Unavailable || !(unsent || repeat == Repeat::Safe) {
                    return Err(status);
                }
                self.pool.failed(place);
                tried += 1;
                if tried % self.pool.len() == 0 {
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, attempts).await;
        answer.unwrap_or_else(|_| Err(Status::unavailable("no endpoint answered in time")))
    }

    async fn read(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let wire = convert::range(&request);
        let answer = self.call(Repeat::Safe, |channel| {
            let wire = wire.clone();
            async move { kv(channel).range(wire).await }
        });
        match answer.await {
            Ok(answer) => {
                let answer = answer.into_inner();
                self.seen.note(answer.header.as_ref());
                Ok(convert::range_response(answer))
            }
            Err(status) => Err(self.refusal(&status).await),
        }
    }

    async fn write(&self, txn: Txn) -> Result<TxnResponse, Error> {
        mvcc::validate(&txn)?;
        let repeat = if mvcc::is_read_only(&txn) { Repeat::Safe } else { Repeat::Unsent };
        let wire = convert::txn(&txn);
        let answer = self.call(repeat, |channel| {
            let wire = wire.clone();
            async move { kv(channel).txn(wire).await }
        });
        match answer.await {
            Ok(answer) => {
                let answer = answer.into_inner();
                self.seen.note(answer.header.as_ref());
                convert::txn_response(answer)
            }
            Err(status) => Err(self.refusal(&status).await),
        }
    }

    /// What etcd refused, with the numbers that its text does not carry asked for.
    async fn refusal(&self, status: &Status) -> Error {
        match convert::refusal(status) {
            Error::Compacted { .. } => {
                let compact_revision = watch::compact_revision(&self.pool).await;
                Error::Compacted { compact_revision: compact_revision.unwrap_or_default() }
            }
            Error::FutureRevision { .. } => {
                let probe = convert::range(&RangeRequest { count_only: true, ..RangeRequest::key("\0") });
                let (_, channel) = self.pool.channel();
                if let Ok(answer) = kv(channel).range(probe).await {
                    self.seen.note(answer.into_inner().header.as_ref());
                }
                Error::FutureRevision { current: self.revision() }
            }
            other => other,
        }
    }

    async fn grant(&self, id: LeaseId, ttl: i64) -> Result<LeaseStatus, Error> {
        let request = pb::LeaseGrantRequest { ttl, id: id.get() };
        let answer =
            self.call(Repeat::Unsent, |channel| async move { lease(channel).lease_grant(request).await });
        let answer = answer.await.map_err(|status| convert::refusal(&status))?.into_inner();
        self.seen.note(answer.header.as_ref());
        Ok(LeaseStatus {
            id: LeaseId(answer.id),
            granted_ttl_s: answer.ttl,
            ttl_s: answer.ttl,
            keys: Vec::new(),
        })
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        let request = pb::LeaseRevokeRequest { id: id.get() };
        let answer =
            self.call(Repeat::Unsent, |channel| async move { lease(channel).lease_revoke(request).await });
        let answer = answer.await.map_err(|status| convert::refusal(&status))?.into_inner();
        self.seen.note(answer.header.as_ref());
        Ok(())
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let request = pb::LeaseKeepAliveRequest { id: id.get() };
        let answer = self.call(Repeat::Safe, |channel| async move {
            let mut answers =
                lease(channel).lease_keep_alive(tokio_stream::once(request)).await?.into_inner();
            let answer = answers.message().await?;
            answer.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
        });
        let answer = answer.await.map_err(|status| convert::refusal(&status))?;
        self.seen.note(answer.header.as_ref());
        if answer.ttl <= 0 {
            return Err(Error::LeaseNotFound);
        }
        Ok(LeaseStatus { id, granted_ttl_s: answer.ttl, ttl_s: answer.ttl, keys: Vec::new() })
    }

    async fn time_to_live(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let request = pb::LeaseTimeToLiveRequest { id: id.get(), keys: true };
        let answer = self
            .call(Repeat::Safe, |channel| async move { lease(channel).lease_time_to_live(request).await });
        let answer = answer.await.map_err(|status| convert::refusal(&status))?.into_inner();
        self.seen.note(answer.header.as_ref());
        // etcd gives them in no order.
        let mut keys = answer.keys;
        keys.sort();
        Ok(LeaseStatus { id, granted_ttl_s: answer.granted_ttl, ttl_s: answer.ttl, keys })
    }

    async fn forget(&self, revision: Revision) -> Result<(), Error> {
        let request = pb::CompactionRequest { revision: revision.get(), physical: false };
        let answer = self.call(Repeat::Unsent, |channel| async move { kv(channel).compact(request).await });
        match answer.await {
            Ok(answer) => {
                self.seen.note(answer.into_inner().header.as_ref());
                Ok(())
            }
            Err(status) => Err(self.refusal(&status).await),
        }
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

impl Store for External {
    fn range(&self, request: RangeRequest) -> Future_<'_, RangeResponse> {
        Box::pin(self.read(request))
    }

    fn txn(&self, txn: Txn) -> Future_<'_, TxnResponse> {
        Box::pin(self.write(txn))
    }

    fn watch(&self, request: WatchRequest) -> Future_<'_, Watch> {
        Box::pin(watch::open(self, request))
    }

    fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Future_<'_, LeaseStatus> {
        Box::pin(self.grant(id, ttl_s))
    }

    fn lease_revoke(&self, id: LeaseId) -> Future_<'_, ()> {
        Box::pin(self.revoke(id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        Box::pin(self.keep_alive(id))
    }

    fn lease_status(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        Box::pin(self.time_to_live(id))
    }

    fn compact(&self, revision: Revision) -> Future_<'_, ()> {
        Box::pin(self.forget(revision))
    }

    fn revision(&self) -> Revision {
        Revision(self.seen.0.load(Ordering::Acquire).max(1))
    }
}
