//! From frames to answers: which keys are served, and who serves them.

mod admin;
mod alter_configs;
mod client_quotas;
mod cluster;
mod configs;
mod fetch;
mod fetch_sessions;
mod groups;
mod list_offsets;
mod log_dirs;
mod metadata;
mod produce;
mod producer_ids;
mod records;
mod topics;
mod transactions;
mod versions;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use base::task::Tasks;
use bytes::Bytes;
use kafka_wire::frame::{self, RequestHead};
use kafka_wire::messages as m;
use kafka_wire::{ApiKey, ErrorCode, Message, Reader};
use parking_lot::Mutex;
use store_api::Store;

use crate::Options;
use crate::catalog::{Catalog, Topic};
use crate::config::Server;
use crate::door::{Answer, Close, Pace, Peer, Reply, Seats};
use crate::features::Features;
use crate::groups::Groups;
use crate::listeners::Listener;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::quotas::{Mutations, Quotas, throttle};
use crate::resources::Resources;
use crate::telemetry::{Client, Telemetry};
use crate::transactions::Transactions;

pub(crate) use producer_ids::{NEXT as PRODUCER_IDS, ProducerIds};
pub(crate) use topics::create_automatically;

/// How old a fetch session must be before another may take its place (`ServerConfigs` of Kafka has it fixed).
const SESSION_EVICTION_MS: i64 = 120_000;
/// No client pauses longer than a month, which is as good as for ever.
const MUTED_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// What all connections share.
pub(crate) struct Broker {
    pub catalog: Arc<Catalog>,
    pub server: Arc<Server>,
    pub cluster_id: String,
    pub broker_id: i32,
    /// Connections open now.
    pub connections: Arc<Seats>,
    /// How fast new ones may come.
    pub pace: Pace,
    /// Bounds the bytes that requests and answers hold.
    pub memory: Memory,
    pub listeners: Vec<Listener>,
    /// Ends when the broker stops serving.
    pub tasks: Tasks,
    pub groups: Groups,
    pub transactions: Transactions,
    pub metrics: Metrics,
    pub producer_ids: ProducerIds,
    pub sessions: fetch_sessions::Sessions,
    pub resources: Arc<Resources>,
    pub quotas: Arc<Quotas>,
    pub features: Arc<Features>,
    pub telemetry: Telemetry,
}

/// What a broker is put together from.
pub(crate) struct Parts {
    pub catalog: Arc<Catalog>,
    pub server: Arc<Server>,
    pub resources: Arc<Resources>,
    pub quotas: Arc<Quotas>,
    pub features: Arc<Features>,
    pub listeners: Vec<Listener>,
    pub store: Arc<dyn Store>,
}

impl Broker {
    pub(crate) fn new(options: &Options, cluster_id: String, parts: Parts, tasks: Tasks) -> Arc<Self> {
        let Parts { catalog, server, resources, quotas, features, listeners, store } = parts;
        Arc::new(Self {
            groups: Groups::new(&server),
            transactions: Transactions::new(&server),
            memory: Memory::new(
                server.number("queued.max.request.bytes"),
                server.number("socket.request.max.bytes"),
            ),
            sessions: fetch_sessions::Sessions::new(
                server.number("max.incremental.fetch.session.cache.slots") as usize,
                SESSION_EVICTION_MS,
            ),
            catalog,
            server,
            cluster_id,
            broker_id: options.broker_id,
            connections: Arc::default(),
            pace: Pace::default(),
            metrics: Metrics::new(),
            tasks,
            listeners,
            producer_ids: ProducerIds::new(store),
            resources,
            quotas,
            features,
            telemetry: Telemetry::default(),
        })
    }

    /// A clock that nobody sets, milliseconds from an arbitrary start.
    pub(crate) fn passed_ms(&self) -> i64 {
        i64::try_from(self.catalog.root.clock.monotonic().as_millis()).unwrap_or(i64::MAX)
    }

    /// The wall clock, milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.catalog.root.clock.unix_ms()
    }
}

/// A connection, as handlers see it.
#[derive(Clone)]
pub(crate) struct Connection {
    pub broker: Arc<Broker>,
    pub peer: Arc<Peer>,
    /// What the client's software calls itself and its version, once ApiVersions told.
    pub software: Arc<Mutex<Option<(String, String)>>>,
    /// Until when the client must pause.
    muted: Arc<Mutex<Option<Instant>>>,
    /// Produces whose records are to be appended later: those behind them wait for their turn.
    pub deferred: Arc<AtomicUsize>,
}

impl Connection {
    pub(crate) fn new(broker: Arc<Broker>, peer: Peer) -> Self {
        Self {
            broker,
            peer: Arc::new(peer),
            software: Arc::default(),
            muted: Arc::default(),
            deferred: Arc::default(),
        }
    }

    /// Has nothing more read from the client for so long.
    pub(crate) fn mute(&self, for_ms: i64) {
        let Ok(for_ms) = u64::try_from(for_ms) else { return };
        if for_ms > 0 {
            let until = Instant::now() + Duration::from_millis(for_ms.min(MUTED_MS_MAX));
            let mut muted = self.muted.lock();
            *muted = Some(muted.map_or(until, |before| before.max(until)));
        }
    }

    /// Until when nothing is to be read; None where the client need not pause.
    pub(crate) fn muted(&self) -> Option<Instant> {
        let mut muted = self.muted.lock();
        *muted = muted.filter(|until| *until > Instant::now());
        *muted
    }

    /// Who asks, for telemetry.
    fn client(&self, head: &RequestHead) -> Client {
        let unknown = || ("unknown".to_owned(), "unknown".to_owned());
        Client {
            id: head.client_id.clone().unwrap_or_default(),
            software: self.software.lock().clone().unwrap_or_else(unknown),
            remote: self.peer.remote,
        }
    }

    /// The name of the listener it came in by.
    pub(crate) fn listener_name(&self) -> String {
        self.broker.listeners[self.peer.listener].name.clone()
    }

    /// Where this client reaches the broker: what is advertised for the listener, else the address it dialled.
    pub(crate) fn endpoint(&self) -> (String, i32) {
        match self.broker.listeners[self.peer.listener].advertised.clone() {
            Some((host, port)) => (host, i32::from(port)),
            None => (self.peer.local.ip().to_canonical().to_string(), i32::from(self.peer.local.port())),
        }
    }
}

/// Every key that is served. ApiVersions announces these, in the ranges of Kafka 4.3.
pub(crate) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::UnregisterBroker,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
];

/// Serves one request. Whatever it is malformed in, or a key or version nobody announced, closes the connection, as Kafka
/// does; only an unknown version of ApiVersions is answered (in version 0, so that any client can read it).
pub(crate) async fn dispatch(connection: &Connection, frame: Bytes) -> Result<Reply, Close> {
    let (head, mut body) = RequestHead::read(&frame)?;
    let size = frame.len();
    drop(frame);
    let known = ApiKey::from_i16(head.key).filter(|key| SERVED.contains(key));
    let Some(key) = known else { return Err(Close::Refused(format!("unknown key {}", head.key))) };
    let (versions, v) = (key.versions(), head.version);
    if v < versions.min || v > versions.stable_max {
        if key == ApiKey::ApiVersions {
            return now(&RequestHead { version: 0, ..head }, &versions::unsupported());
        }
        return Err(Close::Refused(format!("unsupported version {v} of {}", key.name())));
    }
    tracing::trace!(key = key.name(), version = v, remote = %connection.peer.remote, "request");
    if !connection.broker.quotas.limits_clients() {
        return serve(connection, key, head, &mut body).await;
    }
    let who = throttle::who(head.client_id.as_deref());
    throttle::count(connection, (key, v), who, size, serve(connection, key, head, &mut body)).await
}

async fn serve(c: &Connection, key: ApiKey, head: RequestHead, body: &mut Reader) -> Result<Reply, Close> {
    let v = head.version;
    if let Some(reply) = serve_groups(c, key, &head, body)? {
        return Ok(reply);
    }
    if let Some(reply) = serve_transactions(c, key, &head, body)? {
        return Ok(reply);
    }
    if let Some(reply) = serve_admin(c, key, &head, body).await? {
        return Ok(reply);
    }
    match key {
        ApiKey::Produce => {
            let request = m::ProduceRequest::read(body, v)?;
            // The records are then the only holders of the frame and can be changed where they lie.
            *body = Reader::new(Bytes::new());
            produce::handle(c, head, request)
        }
        ApiKey::Fetch => Ok(fetch::handle(c, head, m::FetchRequest::read(body, v)?)),
        ApiKey::ListOffsets => now(&head, &list_offsets::handle(c, m::ListOffsetsRequest::read(body, v)?, v)),
        ApiKey::Metadata => {
            let (request, mut mutations) = (m::MetadataRequest::read(body, v)?, mutations(c, &head, 0));
            now(&head, &metadata::handle(c, request, v, &mut mutations).await)
        }
        ApiKey::ApiVersions => now(&head, &versions::handle(c, m::ApiVersionsRequest::read(body, v)?, v)),
        ApiKey::CreateTopics => {
            let (request, mutations) = (m::CreateTopicsRequest::read(body, v)?, mutations(c, &head, 6));
            now(&head, &topics::create(c, request, mutations).await)
        }
        ApiKey::DeleteTopics => {
            let (request, mutations) = (m::DeleteTopicsRequest::read(body, v)?, mutations(c, &head, 5));
            now(&head, &topics::delete(c, request, v, mutations).await)
        }
        ApiKey::DeleteRecords => {
            now(&head, &records::delete(c, m::DeleteRecordsRequest::read(body, v)?).await)
        }
        ApiKey::OffsetForLeaderEpoch => {
            now(&head, &list_offsets::epochs(c, m::OffsetForLeaderEpochRequest::read(body, v)?))
        }
        ApiKey::DescribeConfigs => {
            now(&head, &configs::describe(c, m::DescribeConfigsRequest::read(body, v)?))
        }
        ApiKey::AlterConfigs => {
            now(&head, &alter_configs::replace(c, m::AlterConfigsRequest::read(body, v)?).await)
        }
        ApiKey::IncrementalAlterConfigs => {
            now(&head, &alter_configs::alter(c, m::IncrementalAlterConfigsRequest::read(body, v)?).await)
        }
        ApiKey::ListConfigResources => {
            now(&head, &configs::list(c, m::ListConfigResourcesRequest::read(body, v)?, v))
        }
        ApiKey::DescribeLogDirs => {
            now(&head, &log_dirs::describe(c, m::DescribeLogDirsRequest::read(body, v)?))
        }
        ApiKey::CreatePartitions => {
            let (request, mutations) = (m::CreatePartitionsRequest::read(body, v)?, mutations(c, &head, 3));
            now(&head, &topics::create_partitions(c, request, mutations).await)
        }
        ApiKey::DescribeCluster => {
            now(&head, &cluster::describe(c, &m::DescribeClusterRequest::read(body, v)?))
        }
        ApiKey::DescribeTopicPartitions => {
            now(&head, &metadata::describe_partitions(c, m::DescribeTopicPartitionsRequest::read(body, v)?))
        }
        other => Err(Close::Refused(format!("{} is not served", other.name()))),
    }
}

/// What a request may change of partitions; from version `strict_from` on its client knows the error that refuses.
fn mutations(c: &Connection, head: &RequestHead, strict_from: i16) -> Mutations {
    let who = || throttle::who(head.client_id.as_deref());
    c.broker.quotas.mutations(who, head.version >= strict_from)
}

/// Serves the admin's keys and telemetry; None for any other key.
async fn serve_admin(
    c: &Connection,
    key: ApiKey,
    head: &RequestHead,
    body: &mut Reader,
) -> Result<Option<Reply>, Close> {
    let v = head.version;
    let reply = match key {
        ApiKey::AlterReplicaLogDirs => {
            now(head, &log_dirs::alter(c, m::AlterReplicaLogDirsRequest::read(body, v)?))
        }
        ApiKey::ElectLeaders => now(head, &admin::elect(c, m::ElectLeadersRequest::read(body, v)?)),
        ApiKey::AlterPartitionReassignments => {
            now(head, &admin::reassign(c, m::AlterPartitionReassignmentsRequest::read(body, v)?))
        }
        ApiKey::ListPartitionReassignments => {
            m::ListPartitionReassignmentsRequest::read(body, v)?;
            now(head, &admin::reassignments())
        }
        ApiKey::DescribeQuorum => {
            now(head, &admin::quorum(c, m::DescribeQuorumRequest::read(body, v)?).await)
        }
        ApiKey::UpdateFeatures => {
            now(head, &admin::update_features(c, m::UpdateFeaturesRequest::read(body, v)?, v).await)
        }
        ApiKey::DescribeProducers => {
            now(head, &admin::producers(c, m::DescribeProducersRequest::read(body, v)?))
        }
        ApiKey::DescribeClientQuotas => {
            now(head, &client_quotas::describe(c, &m::DescribeClientQuotasRequest::read(body, v)?))
        }
        ApiKey::AlterClientQuotas => {
            now(head, &client_quotas::alter(c, m::AlterClientQuotasRequest::read(body, v)?).await)
        }
        ApiKey::UnregisterBroker => {
            now(head, &admin::unregister(c, &m::UnregisterBrokerRequest::read(body, v)?))
        }
        ApiKey::GetTelemetrySubscriptions => {
            let request = m::GetTelemetrySubscriptionsRequest::read(body, v)?;
            let (broker, most) = (&c.broker, c.broker.server.number("telemetry.max.bytes"));
            let client = c.client(head);
            now(head, &broker.telemetry.get(&broker.resources, &client, &request, most, broker.now_ms()))
        }
        ApiKey::PushTelemetry => {
            let request = m::PushTelemetryRequest::read(body, v)?;
            let (broker, most) = (&c.broker, c.broker.server.number("telemetry.max.bytes"));
            let client = c.client(head);
            now(head, &broker.telemetry.push(&broker.resources, &client, &request, most, broker.now_ms()))
        }
        _ => return Ok(None),
    };
    reply.map(Some)
}

/// Serves the keys of groups; None for any other key.
fn serve_groups(
    c: &Connection,
    key: ApiKey,
    head: &RequestHead,
    body: &mut Reader,
) -> Result<Option<Reply>, Close> {
    let (v, head) = (head.version, head.clone());
    Ok(Some(match key {
        ApiKey::OffsetCommit => groups::commit(c, head, m::OffsetCommitRequest::read(body, v)?),
        ApiKey::OffsetFetch => groups::fetch_offsets(c, head, m::OffsetFetchRequest::read(body, v)?),
        ApiKey::FindCoordinator => groups::find(c, head, m::FindCoordinatorRequest::read(body, v)?),
        ApiKey::JoinGroup => groups::join(c, head, m::JoinGroupRequest::read(body, v)?),
        ApiKey::Heartbeat => groups::heartbeat(c, head, m::HeartbeatRequest::read(body, v)?),
        ApiKey::LeaveGroup => groups::leave(c, head, m::LeaveGroupRequest::read(body, v)?),
        ApiKey::SyncGroup => groups::sync(c, head, m::SyncGroupRequest::read(body, v)?),
        ApiKey::DescribeGroups => groups::describe(c, head, m::DescribeGroupsRequest::read(body, v)?),
        ApiKey::ListGroups => groups::list(c, head, m::ListGroupsRequest::read(body, v)?),
        ApiKey::DeleteGroups => groups::delete(c, head, m::DeleteGroupsRequest::read(body, v)?),
        ApiKey::OffsetDelete => groups::delete_offsets(c, head, m::OffsetDeleteRequest::read(body, v)?),
        _ => return Ok(None),
    }))
}

/// Serves the keys of transactions; None for any other key.
fn serve_transactions(
    c: &Connection,
    key: ApiKey,
    head: &RequestHead,
    body: &mut Reader,
) -> Result<Option<Reply>, Close> {
    let (v, head) = (head.version, head.clone());
    Ok(Some(match key {
        ApiKey::InitProducerId => transactions::init(c, head, m::InitProducerIdRequest::read(body, v)?),
        ApiKey::AddPartitionsToTxn => {
            transactions::add_partitions(c, head, m::AddPartitionsToTxnRequest::read(body, v)?)
        }
        ApiKey::AddOffsetsToTxn => {
            transactions::add_offsets(c, head, m::AddOffsetsToTxnRequest::read(body, v)?)
        }
        ApiKey::EndTxn => transactions::end(c, head, m::EndTxnRequest::read(body, v)?),
        ApiKey::TxnOffsetCommit => {
            transactions::commit_offsets(c, head, m::TxnOffsetCommitRequest::read(body, v)?)
        }
        ApiKey::WriteTxnMarkers => {
            transactions::write_markers(c, head, m::WriteTxnMarkersRequest::read(body, v)?)
        }
        ApiKey::DescribeTransactions => {
            transactions::describe(c, head, m::DescribeTransactionsRequest::read(body, v)?)
        }
        ApiKey::ListTransactions => transactions::list(c, head, m::ListTransactionsRequest::read(body, v)?),
        _ => return Ok(None),
    }))
}

/// An answer that is worked out when it is its turn: the keys of a connection are served one after the other.
fn later<M: Message + Send + 'static>(
    head: RequestHead,
    answer: impl Future<Output = M> + Send + 'static,
) -> Reply {
    Reply::Later(Box::pin(async move { chunks(&head, &answer.await) }))
}

/// An answer that is ready.
fn now<M: Message>(head: &RequestHead, message: &M) -> Result<Reply, Close> {
    Ok(Reply::Now(frame::response(head.correlation_id, head.version, message)?))
}

/// An answer's frame, for futures that have nobody to tell why it cannot be written.
fn chunks<M: Message>(head: &RequestHead, message: &M) -> Option<Answer> {
    let written = frame::response(head.correlation_id, head.version, message);
    let written =
        written.inspect_err(|error| tracing::error!(%error, message = M::NAME, "unwritable reply")).ok()?;
    Some(Answer { chunks: written, ..Answer::default() })
}

/// The partition, or the code that says why not.
fn find(topic: Option<&Arc<Topic>>, index: i32, missing: ErrorCode) -> Result<Arc<Partition>, ErrorCode> {
    let topic = topic.ok_or(missing)?;
    let place = topic.place(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    place.served().cloned().ok_or(ErrorCode::KafkaStorageError)
}

/// Compares the leader epoch a client knows with the partition's (KIP-320); -1 knows none.
fn check_epoch(partition: &Partition, known: i32) -> Result<(), ErrorCode> {
    match known.cmp(&partition.leader_epoch()) {
        _ if known < 0 => Ok(()),
        std::cmp::Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
        std::cmp::Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// A topic's validation rules for batches.
fn rules(topic: &Topic) -> kafka_wire::record::Rules {
    kafka_wire::record::Rules {
        keys_required: topic.settings.compacted,
        log_append_time: topic.settings.log_append_time,
        timestamp_before_max_ms: topic.settings.timestamp_before_max_ms,
        timestamp_after_max_ms: topic.settings.timestamp_after_max_ms,
        ..Default::default()
    }
}
