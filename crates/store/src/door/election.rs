//! The Election service: one leader of a name at a time, whose value everybody can watch.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use etcd_wire::v3electionpb::{self as electionpb, election_server};
use futures::Stream;
use store_api::{
    Compare, CompareResult, CompareTarget, Error, EventKind, KeyRange, KeyValue, LeaseId, Op, Revision,
    Store as _, Txn, Watch, WatchMessage, WatchRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Door, convert, queue};
use crate::auth::Acting;

const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";
const NO_KEY: &str = "\"leader\" field must be provided";
/// Leaders that may wait for a slow observer.
const OBSERVED: usize = 16;

/// The service.
pub(crate) struct Election(pub Arc<Door>);

type Outcome<T> = Result<Response<T>, Status>;

/// The leader's key as it was when it won.
fn still(key: Bytes, created: Revision) -> Compare {
    Compare {
        range: KeyRange::One(key),
        target: CompareTarget::CreateRevision(created),
        result: CompareResult::Equal,
    }
}

fn given(leader: Option<electionpb::LeaderKey>) -> Result<electionpb::LeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown(NO_KEY))
}

/// A new value under the leader's key; the revision.
async fn proclaim(
    store: &Acting,
    key: Bytes,
    created: Revision,
    lease: LeaseId,
    value: Bytes,
) -> Result<Revision, Status> {
    let txn = Txn {
        compare: vec![still(key.clone(), created)],
        success: vec![Op::Put { key, value, lease, prev_kv: false }],
        ..Txn::default()
    };
    let response = store.txn(txn).await.map_err(queue::refused)?;
    if response.succeeded { Ok(response.revision) } else { Err(Status::unknown(NOT_LEADER)) }
}

#[tonic::async_trait]
impl election_server::Election for Election {
    /// Answers when the caller leads.
    async fn campaign(
        &self,
        request: Request<electionpb::CampaignRequest>,
    ) -> Outcome<electionpb::CampaignResponse> {
        let store = self.0.acting(&request).await?;
        let electionpb::CampaignRequest { name, lease, value } = request.into_inner();
        let lease = queue::session(&store, lease).await.map_err(queue::refused)?;
        let place = queue::join(&store, &name, lease, value.clone()).await.map_err(queue::refused)?;
        let give_up = queue::GiveUp::new(&store, &place);
        if place.found.as_ref().is_some_and(|found| found.value != value) {
            proclaim(&store, place.key.clone(), place.created, lease, value).await?;
        }
        queue::wait(&store, &name, place.created).await.map_err(queue::refused)?;
        give_up.keep();
        let leader = electionpb::LeaderKey {
            name,
            key: place.key,
            rev: place.created.get(),
            lease: place.lease.get(),
        };
        Ok(Response::new(electionpb::CampaignResponse {
            header: Some(self.0.header(Some(place.seen))),
            leader: Some(leader),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<electionpb::ProclaimRequest>,
    ) -> Outcome<electionpb::ProclaimResponse> {
        let store = self.0.acting(&request).await?;
        let electionpb::ProclaimRequest { leader, value } = request.into_inner();
        let leader = given(leader)?;
        let lease = queue::session(&store, leader.lease).await.map_err(queue::refused)?;
        let revision = proclaim(&store, leader.key, Revision(leader.rev), lease, value).await?;
        Ok(Response::new(electionpb::ProclaimResponse { header: Some(self.0.header(Some(revision))) }))
    }

    async fn leader(
        &self,
        request: Request<electionpb::LeaderRequest>,
    ) -> Outcome<electionpb::LeaderResponse> {
        let store = self.0.acting(&request).await?;
        let found = queue::first(&store, &request.get_ref().name).await;
        let (leader, revision) = found.map_err(queue::refused)?;
        let kv = leader.ok_or_else(|| Status::unknown(NO_LEADER))?;
        Ok(Response::new(self.answer(kv, revision)))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<electionpb::LeaderResponse, Status>> + Send>>;

    async fn observe(&self, request: Request<electionpb::LeaderRequest>) -> Outcome<Self::ObserveStream> {
        let store = self.0.acting(&request).await?;
        let (out, observed) = mpsc::channel(OBSERVED);
        let observer = Observer {
            service: Self(self.0.clone()),
            store: store.clone(),
            name: request.into_inner().name,
            out,
        };
        let closing = self.0.token.clone();
        store.spawn("store-election-observer", async move {
            tokio::select! {
                // Its end is told by the end of the stream, as etcd tells it.
                _ended = observer.run() => {}
                () = closing.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(observed))))
    }

    async fn resign(
        &self,
        request: Request<electionpb::ResignRequest>,
    ) -> Outcome<electionpb::ResignResponse> {
        let store = self.0.acting(&request).await?;
        let leader = given(request.into_inner().leader)?;
        queue::session(&store, leader.lease).await.map_err(queue::refused)?;
        let txn = Txn {
            compare: vec![still(leader.key.clone(), Revision(leader.rev))],
            success: vec![Op::delete(leader.key)],
            ..Txn::default()
        };
        let response = store.txn(txn).await.map_err(queue::refused)?;
        let header = Some(self.0.header(Some(response.revision)));
        Ok(Response::new(electionpb::ResignResponse { header }))
    }
}

impl Election {
    fn answer(&self, kv: KeyValue, revision: Revision) -> electionpb::LeaderResponse {
        let header = Some(self.0.header(Some(revision)));
        electionpb::LeaderResponse { header, kv: Some(convert::key_value(kv)) }
    }
}

/// Why an observer ended.
enum End {
    /// Nobody listens any more.
    Gone,
    Refused(#[allow(dead_code, reason = "etcd ends the stream without a word")] Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Follows one election: the leader's value, its changes, then the next leader.
struct Observer {
    service: Election,
    store: Acting,
    name: Bytes,
    out: mpsc::Sender<Result<electionpb::LeaderResponse, Status>>,
}

impl Observer {
    async fn run(self) -> Result<(), End> {
        loop {
            let (leader, revision) = queue::first(&self.store, &self.name).await?;
            let (leader, revision) = match leader {
                Some(leader) => (leader, revision),
                None => self.next_put(revision).await?,
            };
            let key = leader.key.clone();
            self.send(leader, revision).await?;
            self.follow(key, revision).await?;
        }
    }

    async fn send(&self, kv: KeyValue, revision: Revision) -> Result<(), End> {
        self.out.send(Ok(self.service.answer(kv, revision))).await.map_err(|_| End::Gone)
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Watch, End> {
        let request = WatchRequest { range, start_revision: Some(from), prev_kv: false };
        Ok(self.store.watch(request).await?)
    }

    /// The next change a watch sees.
    async fn events(&self, watch: &mut Watch) -> Result<Vec<store_api::Event>, End> {
        loop {
            let message = tokio::select! {
                message = watch.messages.recv() => message,
                () = self.out.closed() => return Err(End::Gone),
            };
            match message {
                Some(WatchMessage::Events { events, .. }) => return Ok(events),
                Some(WatchMessage::Progress { .. }) => {}
                Some(WatchMessage::Cancelled { error }) => return Err(error.into()),
                None => return Err(End::Gone),
            }
        }
    }

    /// The first to stand for an empty election.
    async fn next_put(&self, from: Revision) -> Result<(KeyValue, Revision), End> {
        let mut watch = self.watch(KeyRange::prefix(queue::prefix(&self.name)), from).await?;
        loop {
            let events = self.events(&mut watch).await?;
            if let Some(event) = events.into_iter().find(|event| event.kind == EventKind::Put) {
                let revision = event.kv.mod_revision;
                return Ok((event.kv, revision));
            }
        }
    }

    /// Every value of one leader, until its key is gone.
    async fn follow(&self, key: Bytes, seen: Revision) -> Result<(), End> {
        let mut watch = self.watch(KeyRange::One(key), seen.next()).await?;
        loop {
            for event in self.events(&mut watch).await? {
                if event.kind == EventKind::Delete {
                    return Ok(());
                }
                let revision = event.kv.mod_revision;
                self.send(event.kv, revision).await?;
            }
        }
    }
}
