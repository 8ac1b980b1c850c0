//! Consensus' own messages over a [`Transport`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::base::{BoxFuture, BoxStream};
use openraft::entry::RaftEntry as _;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
// Simulated time in simulations.
use tokio::time::Instant;

use super::error::{PeerError, decode_answer};
use super::machine::{Shared, SnapshotData};
use super::peers::Peer;
use super::runtime::draw;
use super::transfer::Outgoing;
use super::transport::{Lane, Transport};
use super::types::{LogId, Malformed, MemberNode, Snapshot, TypeConfig, Vote};
use super::wire::{self, Request};

/// Messages with entries on their way to one follower at most.
const PIPELINE: usize = 16;
/// How long a follower may take for one chunk of a snapshot, and for making it its own.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);
const INSTALL_PATIENCE: Duration = Duration::from_secs(120);

type Failed = RPCError<TypeConfig>;

/// Makes a [`Network`] for each member.
pub(crate) struct Networks {
    pub transport: Arc<dyn Transport>,
    pub shared: Arc<Shared>,
    /// A follower is to hear from its leader so often at least; twice a heartbeat's time, as etcd has it.
    pub hears_within: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Networks {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> Network {
        Network {
            line: Line { target, urls: node.peer_urls.clone(), transport: self.transport.clone() },
            shared: self.shared.clone(),
            peer: self.shared.stats.peers.of(target),
            hears_within: self.hears_within,
        }
    }
}

/// The way to one member.
#[derive(Clone)]
pub(crate) struct Line {
    pub target: u64,
    pub urls: Vec<String>,
    pub transport: Arc<dyn Transport>,
}

impl Line {
    /// Sends a request, in order; its answer.
    pub(crate) fn ask(
        &self,
        lane: Lane,
        request: &Request,
        patience: Duration,
    ) -> impl Future<Output = io::Result<Result<Bytes, PeerError>>> + Send + use<> {
        let answer = self.transport.call(self.target, &self.urls, lane, request.encode());
        async move {
            let answer = tokio::time::timeout(patience, answer).await;
            Ok(decode_answer(answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)?)
        }
    }
}

impl Line {
    /// Sends entries, or a heartbeat, which is timed: the other side writes nothing before it answers.
    fn append(
        &self,
        peer: &Arc<Peer>,
        request: AppendEntriesRequest<TypeConfig>,
        patience: Duration,
    ) -> impl Future<Output = io::Result<Result<Bytes, PeerError>>> + Send + use<> {
        let beats = request.entries.is_empty().then(|| peer.clone());
        let asked = Instant::now();
        let answer = self.ask(Lane::Raft, &Request::Append(request), patience);
        async move {
            let answer = answer.await;
            if let Some(peer) = beats.filter(|_| answer.is_ok()) {
                peer.answered(asked.elapsed());
            }
            answer
        }
    }
}

/// Consensus' messages to one member.
pub(crate) struct Network {
    line: Line,
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    hears_within: Duration,
}

/// Counts a message of a leader that comes late.
fn note_late(
    shared: &Shared,
    peer: &Peer,
    request: &AppendEntriesRequest<TypeConfig>,
    hears_within: Duration,
) {
    if !peer.tell(request.vote.leader_id().term, Instant::now(), hears_within) {
        shared.stats.late_heartbeats.fetch_add(1, Ordering::Relaxed);
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> Failed {
    RPCError::Unreachable(Unreachable::new(error))
}

fn read<T>(
    answer: io::Result<Result<Bytes, PeerError>>,
    take: impl FnOnce(&mut Bytes) -> Result<T, Malformed>,
) -> Result<T, Failed> {
    let mut body = answer.map_err(|e| unreachable(&e))?.map_err(|e| unreachable(&e))?;
    take(&mut body).map_err(|e| unreachable(&e))
}

/// What an answered message means for a stream of them, and whether the next one still makes sense.
fn stream_result(
    answer: AppendEntriesResponse<TypeConfig>,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> (StreamAppendResult<TypeConfig>, bool) {
    let partial = matches!(&answer, AppendEntriesResponse::PartialSuccess(upto) if *upto != last);
    let result = answer.into_stream_result(prev, last);
    let more = result.is_ok() && !partial;
    (result, more)
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failed> {
        note_late(&self.shared, &self.peer, &request, self.hears_within);
        let answer = self.line.append(&self.peer, request, option.soft_ttl()).await;
        read(answer, wire::take_append_answer)
    }

    /// Messages follow each other without waiting for answers; answers come in the same order.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failed>>, Failed>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + openraft::OptionalSend + Unpin + 'static,
    {
        let (line, peer, patience) = (self.line.clone(), self.peer.clone(), option.soft_ttl());
        let (shared, hears_within) = (self.shared.clone(), self.hears_within);
        let answers = input.map(move |request| {
            note_late(&shared, &peer, &request, hears_within);
            let prev = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id()).or(prev);
            let answer = line.append(&peer, request, patience);
            async move {
                let answer = read(answer.await, wire::take_append_answer)?;
                // A conflict is with the entry before these: there always is one, the origin at least.
                Ok::<_, Failed>(stream_result(answer, prev, last))
            }
        });
        let results = answers.buffered(PIPELINE).scan(true, |open, answer| {
            let item = std::mem::replace(open, matches!(&answer, Ok((_, true))))
                .then(|| answer.map(|(result, _)| result));
            futures::future::ready(item)
        });
        Box::pin(async move {
            let results: BoxStream<'s, _> = Box::pin(results);
            Ok(results)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let answer = self.line.ask(Lane::Raft, &Request::Vote(request), option.soft_ttl()).await;
        read(answer, wire::take_vote_answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let answer = self.line.ask(Lane::Raft, &Request::PreVote(request), option.soft_ttl()).await;
        read(answer, wire::take_vote_answer)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<Result<(), TransferLeaderError<TypeConfig>>, Failed> {
        let answer = self.line.ask(Lane::Raft, &Request::Transfer(request), option.soft_ttl()).await;
        // A refusal is worth another try, as is a lost message.
        read(answer, |_| Ok(Ok(())))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: Snapshot<SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let moving = self.peer.sends.begin();
        let sending = send_snapshot(self.line.clone(), self.shared.clone(), vote);
        let done = tokio::select! {
            biased;
            done = sending => done.map_err(|e| StreamingError::Unreachable(Unreachable::new(&e)))?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        moving.arrived();
        Ok(done)
    }
}

/// Sends the state as it is now, which is at least as new as the snapshot asked for.
async fn send_snapshot(
    line: Line,
    shared: Arc<Shared>,
    vote: Vote,
) -> io::Result<SnapshotResponse<TypeConfig>> {
    // Unlike in two runs of a member.
    let id = draw();
    let ask = async |request: Request, patience| -> io::Result<Bytes> {
        line.ask(Lane::Bulk, &request, patience).await?.map_err(io::Error::other)
    };
    let hands = shared.hands.clone();
    let db = shared.applier.lock().db.clone();
    let mut outgoing = Outgoing::new(db.view().map_err(io::Error::other)?);
    ask(Request::SnapshotBegin { id }, CHUNK_PATIENCE).await?;
    let mut chunks = 0;
    loop {
        let (back, chunk) = hands
            .run(move || {
                let chunk = outgoing.chunk()?;
                Ok((outgoing, chunk))
            })
            .await?;
        outgoing = back;
        let Some(chunk) = chunk else { break };
        ask(Request::SnapshotChunk { id, number: chunks, chunk: chunk.into() }, CHUNK_PATIENCE).await?;
        chunks += 1;
    }
    let mut answer = ask(Request::SnapshotEnd { id, chunks, vote }, INSTALL_PATIENCE).await?;
    tracing::info!(member = line.target, chunks, "sent the state");
    Ok(wire::take_snapshot_answer(&mut answer)?)
}
