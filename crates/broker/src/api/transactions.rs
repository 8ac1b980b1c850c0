//! The transaction keys: requests are put to the shards of their transactional ids, in the versions and with the errors that
//! clients know.

use std::collections::BTreeMap;
use std::sync::Arc;

use commitlog::kafka::EndTxnMarker;
use coordinators::transactions::{Filter, Partitions, Response, Shard, VERSION, VERSION_OLD};
use coordinators::{Author, partition_for};
use futures::future::join_all;
use kafka_wire::ErrorCode;
use kafka_wire::frame::RequestHead;
use kafka_wire::messages as m;
use kafka_wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_wire::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};

use super::{Broker, Connection, later};
use crate::door::Reply;
use crate::groups::offsets_topic;
use crate::markers::{self, End};
use crate::names;
use crate::partition::Partition;
use crate::transactions::{Member, Opening};

/// First versions whose clients know PRODUCER_FENCED (KIP-588).
const INIT_FENCED_FROM: i16 = 4;
const FENCED_FROM: i16 = 2;
/// First version of AddPartitionsToTxn that brokers send: several transactions, or only to verify.
const SEVERAL_FROM: i16 = 4;
/// First versions of TxnOffsetCommit whose clients know TRANSACTION_ABORTABLE, and that rely on the broker to add the
/// partition.
const ABORTABLE_FROM: i16 = 4;
const ADDS_FROM: i16 = 5;
/// Clients of TxnOffsetCommit before this version fail for good on COORDINATOR_LOAD_IN_PROGRESS (KAFKA-7296).
const LOADING_FROM: i16 = 2;

/// The error as clients of this version know it.
fn known(code: ErrorCode, version: i16, fenced_from: i16) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if version < fenced_from => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

/// Answers InitProducerId.
pub(crate) fn init(c: &Connection, head: RequestHead, request: m::InitProducerIdRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let mut response = match initialized(&c.broker, request).await {
            Ok(response) => response,
            Err(code) => m::InitProducerIdResponse {
                error_code: code.code(),
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            },
        };
        let code = ErrorCode::from_i16(response.error_code).unwrap_or_default();
        response.error_code = known(code, version, INIT_FENCED_FROM).code();
        response
    })
}

async fn initialized(
    broker: &Arc<Broker>,
    request: m::InitProducerIdRequest,
) -> Result<m::InitProducerIdResponse, ErrorCode> {
    // An id without an epoch, or an epoch of no id, is of nobody.
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    let Some(id) = request.transactional_id.clone() else {
        let fresh = broker.producer_ids.next().await.map_err(|error| {
            tracing::warn!(%error, "no producer id");
            // Clients try again.
            ErrorCode::CoordinatorLoadInProgress
        })?;
        return Ok(m::InitProducerIdResponse { producer_id: fresh, producer_epoch: 0, ..Default::default() });
    };
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let most = broker.server.number("transaction.max.timeout.ms");
    if request.transaction_timeout_ms <= 0 || i64::from(request.transaction_timeout_ms) > most {
        return Err(ErrorCode::InvalidTransactionTimeout);
    }
    let ask = move |shard: &mut Shard, now_ms, token| shard.init_producer_id(now_ms, token, &request);
    match broker.transactions.ask(broker, &id, ask).await? {
        Response::InitProducerId(response) => Ok(response),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

fn partitions_of(topics: &[AddPartitionsToTxnTopic]) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in topics {
        partitions.entry(topic.name.clone()).or_default().extend(&topic.partitions);
    }
    partitions
}

/// Answers AddPartitionsToTxn: clients' up to version 3, brokers' from 4 on.
pub(crate) fn add_partitions(
    c: &Connection,
    head: RequestHead,
    request: m::AddPartitionsToTxnRequest,
) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        if version < SEVERAL_FROM {
            let only = AddPartitionsToTxnTransaction {
                transactional_id: request.v3_and_below_transactional_id,
                producer_id: request.v3_and_below_producer_id,
                producer_epoch: request.v3_and_below_producer_epoch,
                verify_only: false,
                topics: request.v3_and_below_topics,
            };
            let results = added(&c.broker, only, version).await;
            return m::AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: results,
                ..Default::default()
            };
        }
        let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
        for transaction in request.transactions {
            let transactional_id = transaction.transactional_id.clone();
            let topic_results = added(&c.broker, transaction, version).await;
            results_by_transaction.push(AddPartitionsToTxnResult { transactional_id, topic_results });
        }
        m::AddPartitionsToTxnResponse { results_by_transaction, ..Default::default() }
    })
}

async fn added(
    broker: &Arc<Broker>,
    of: AddPartitionsToTxnTransaction,
    version: i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let partitions = partitions_of(&of.topics);
    let is_there =
        |topic: &str, index| broker.catalog.topic(topic).is_some_and(|topic| topic.place(index).is_some());
    let all = || partitions.iter().flat_map(|(topic, all)| all.iter().map(move |p| (topic.clone(), *p)));
    // All or none: what could have been added is not even tried.
    if all().any(|(topic, index)| !is_there(&topic, index)) {
        let told = all().map(|(topic, index)| match is_there(&topic, index) {
            true => (topic, index, ErrorCode::OperationNotAttempted),
            false => (topic, index, ErrorCode::UnknownTopicOrPartition),
        });
        return by_topic(told.collect());
    }
    let member = Member {
        transactional_id: of.transactional_id,
        producer_id: of.producer_id,
        epoch: of.producer_epoch,
    };
    let told = match of.verify_only {
        true => broker.transactions.verify(broker, member, partitions).await,
        false => {
            let of_clients = if version < SEVERAL_FROM { VERSION_OLD } else { VERSION };
            let code = broker.transactions.add(broker, member, partitions.clone(), of_clients).await;
            let code = known(code, version, FENCED_FROM);
            all().map(|(topic, index)| (topic, index, code)).collect()
        }
    };
    by_topic(told)
}

fn by_topic(told: Vec<(String, i32, ErrorCode)>) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut topics = BTreeMap::<String, Vec<_>>::new();
    for (topic, partition_index, code) in told {
        let partition_error_code = code.code();
        let result = AddPartitionsToTxnPartitionResult { partition_index, partition_error_code };
        topics.entry(topic).or_default().push(result);
    }
    let topic = |(name, results_by_partition)| AddPartitionsToTxnTopicResult { name, results_by_partition };
    topics.into_iter().map(topic).collect()
}

/// Answers AddOffsetsToTxn: the partition of `__consumer_offsets` that holds the group is added.
pub(crate) fn add_offsets(c: &Connection, head: RequestHead, request: m::AddOffsetsToTxnRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let code = match offsets_topic(&c.broker).await {
            Err(code) => code,
            Ok(topic) => {
                let index = partition_for(&request.group_id, topic.partitions.len() as i32);
                let member = Member {
                    transactional_id: request.transactional_id,
                    producer_id: request.producer_id,
                    epoch: request.producer_epoch,
                };
                let partitions = Partitions::from([(names::OFFSETS.to_owned(), [index].into())]);
                c.broker.transactions.add(&c.broker, member, partitions, VERSION_OLD).await
            }
        };
        let error_code = known(code, version, FENCED_FROM).code();
        m::AddOffsetsToTxnResponse { error_code, ..Default::default() }
    })
}

/// Answers EndTxn, when the end is durable.
pub(crate) fn end(c: &Connection, head: RequestHead, request: m::EndTxnRequest) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let id = request.transactional_id.clone();
        let ask = move |shard: &mut Shard, now_ms, token| shard.end(now_ms, token, version, &request);
        let told = match id.is_empty() {
            true => Err(ErrorCode::InvalidRequest),
            false => c.broker.transactions.ask(&c.broker, &id, ask).await,
        };
        let mut response = match told {
            Ok(Response::EndTxn(response)) => response,
            other => m::EndTxnResponse {
                error_code: other.err().unwrap_or(ErrorCode::UnknownServerError).code(),
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            },
        };
        let code = ErrorCode::from_i16(response.error_code).unwrap_or_default();
        response.error_code = known(code, version, FENCED_FROM).code();
        response
    })
}

/// Answers TxnOffsetCommit, when the offsets are durable; they count from the end of the transaction on.
pub(crate) fn commit_offsets(
    c: &Connection,
    head: RequestHead,
    mut request: m::TxnOffsetCommitRequest,
) -> Reply {
    let (c, version) = (c.clone(), head.version);
    later(head, async move {
        let mut refused = Vec::new();
        request.topics.retain_mut(|topic| {
            let found = c.broker.catalog.topic(&topic.name);
            let is_there = |index| found.as_ref().is_some_and(|found| found.place(index).is_some());
            let gone = topic.partitions.extract_if(.., |p| !is_there(p.partition_index));
            let one = |p: m::txn_offset_commit_request::TxnOffsetCommitRequestPartition| {
                refused_commit(p.partition_index, ErrorCode::UnknownTopicOrPartition)
            };
            let partitions: Vec<_> = gone.map(one).collect();
            if !partitions.is_empty() {
                refused.push(TxnOffsetCommitResponseTopic { name: topic.name.clone(), partitions });
            }
            !topic.partitions.is_empty()
        });
        let mut response = match request.topics.is_empty() {
            true => m::TxnOffsetCommitResponse::default(),
            false => commit_known(&c.broker, version, request).await,
        };
        for topic in refused {
            match response.topics.iter_mut().find(|known| known.name == topic.name) {
                Some(known) => known.partitions.extend(topic.partitions),
                None => response.topics.push(topic),
            }
        }
        response
    })
}

fn refused_commit(partition_index: i32, code: ErrorCode) -> TxnOffsetCommitResponsePartition {
    TxnOffsetCommitResponsePartition { partition_index, error_code: code.code() }
}

async fn commit_known(
    broker: &Arc<Broker>,
    version: i16,
    request: m::TxnOffsetCommitRequest,
) -> m::TxnOffsetCommitResponse {
    let request = Arc::new(request);
    let code = match try_commit(broker, version, &request).await {
        Ok(response) => return response,
        Err(ErrorCode::CoordinatorLoadInProgress) if version < LOADING_FROM => {
            ErrorCode::CoordinatorNotAvailable
        }
        Err(code) => code,
    };
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(|p| refused_commit(p.partition_index, code)).collect(),
    });
    m::TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

async fn try_commit(
    broker: &Arc<Broker>,
    version: i16,
    request: &Arc<m::TxnOffsetCommitRequest>,
) -> Result<m::TxnOffsetCommitResponse, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let topic = offsets_topic(broker).await?;
    let index = partition_for(&request.group_id, topic.partitions.len() as i32);
    let partition = topic.partition(index).ok_or(ErrorCode::NotCoordinator)?;
    let opening = match version {
        ADDS_FROM.. => Opening::Add,
        ABORTABLE_FROM => Opening::Verify,
        _ => Opening::VerifyOld,
    };
    let guard = open_offsets(broker, partition, request, opening).await?;
    let asked = request.clone();
    let ask = move |shard: &mut coordinators::Shard, now_ms, token| {
        shard.commit_in_transaction(now_ms, token, &asked, guard)
    };
    match broker.groups.ask(broker, &request.group_id, ask).await? {
        coordinators::Response::TxnOffsetCommit(response) => Ok(response),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// Makes sure that the group's partition is in the transaction; what the append is to show for it.
async fn open_offsets(
    broker: &Arc<Broker>,
    partition: &Arc<Partition>,
    request: &m::TxnOffsetCommitRequest,
    opening: Opening,
) -> Result<Option<u64>, ErrorCode> {
    let (producer_id, epoch) = (request.producer_id, request.producer_epoch);
    let Some(guard) = partition.log().begin_verification(producer_id, epoch, -1, opening.rises()) else {
        // It is open there; a guard that verifies nothing is enough.
        return Ok(Some(0));
    };
    if !opening.rises() && !broker.server.is("transaction.partition.verification.enable") {
        return Ok(None);
    }
    let member = Member { transactional_id: request.transactional_id.clone(), producer_id, epoch };
    let partitions = Partitions::from([(names::OFFSETS.to_owned(), [partition.index].into())]);
    let told = broker.transactions.open(broker, &member, &partitions, opening).await;
    match told.into_iter().map(|(.., code)| code).find(|code| !code.is_ok()) {
        Some(code) => Err(code),
        None => Ok(Some(guard.get())),
    }
}

/// Answers WriteTxnMarkers, when the markers are durable: how an administrator ends a transaction that nobody else ends.
pub(crate) fn write_markers(c: &Connection, head: RequestHead, request: m::WriteTxnMarkersRequest) -> Reply {
    let c = c.clone();
    later(head, async move {
        let mut markers = Vec::with_capacity(request.markers.len());
        for marker in request.markers {
            markers.push(marked(&c.broker, marker).await);
        }
        m::WriteTxnMarkersResponse { markers }
    })
}

async fn marked(broker: &Arc<Broker>, wanted: WritableTxnMarker) -> WritableTxnMarkerResult {
    let end = End {
        author: Author { producer_id: wanted.producer_id, epoch: wanted.producer_epoch },
        marker: EndTxnMarker {
            commit: wanted.transaction_result,
            coordinator_epoch: wanted.coordinator_epoch,
        },
        version: i16::from(wanted.transaction_version),
    };
    let one = async |topic: &str, partition_index| {
        let written = match wanted.producer_id < 0 {
            true => Err(ErrorCode::UnknownServerError),
            false => markers::write(broker, topic, partition_index, end).await,
        };
        let code = match written {
            Ok(()) => ErrorCode::None,
            // What is not served here is not there.
            Err(ErrorCode::KafkaStorageError) => ErrorCode::UnknownTopicOrPartition,
            Err(code) => code,
        };
        WritableTxnMarkerPartitionResult { partition_index, error_code: code.code() }
    };
    let mut topics = Vec::with_capacity(wanted.topics.len());
    for topic in &wanted.topics {
        let partitions = join_all(topic.partition_indexes.iter().map(|index| one(&topic.name, *index))).await;
        topics.push(WritableTxnMarkerTopicResult { name: topic.name.clone(), partitions });
    }
    WritableTxnMarkerResult { producer_id: wanted.producer_id, topics }
}

/// Answers DescribeTransactions.
pub(crate) fn describe(c: &Connection, head: RequestHead, request: m::DescribeTransactionsRequest) -> Reply {
    let c = c.clone();
    later(head, async move {
        let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
        for id in request.transactional_ids {
            let asked = id.clone();
            let looked = match id.is_empty() {
                true => Err(ErrorCode::InvalidRequest),
                false => {
                    let look = move |shard: &Shard| shard.describe(&asked);
                    c.broker.transactions.look(&c.broker, &id, look).await
                }
            };
            let refused = |code: ErrorCode| m::describe_transactions_response::TransactionState {
                error_code: code.code(),
                transactional_id: id,
                ..Default::default()
            };
            transaction_states.push(looked.unwrap_or_else(refused));
        }
        m::DescribeTransactionsResponse { transaction_states, ..Default::default() }
    })
}

/// Answers ListTransactions, in order of the ids.
pub(crate) fn list(c: &Connection, head: RequestHead, request: m::ListTransactionsRequest) -> Reply {
    let c = c.clone();
    later(head, async move {
        let refused =
            |code: ErrorCode| m::ListTransactionsResponse { error_code: code.code(), ..Default::default() };
        let pattern = request.transactional_id_pattern.filter(|pattern| !pattern.is_empty());
        let pattern = pattern.map(|pattern| regex::Regex::new(&format!("^(?:{pattern})$"))).transpose();
        let Ok(pattern) = pattern else { return refused(ErrorCode::InvalidRegularExpression) };
        let filter = Filter {
            states: request.state_filters,
            producer_ids: request.producer_id_filters,
            duration_ms: request.duration_filter,
        };
        let (unknown_state_filters, now_ms) = (filter.unknown_states(), c.broker.now_ms());
        let look = move |shard: &Shard| {
            let named = |id: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
            shard.list(&filter, named, now_ms)
        };
        match c.broker.transactions.look_at_all(&c.broker, look).await {
            Err(code) => refused(code),
            Ok(lists) => {
                let mut found: Vec<_> = lists.into_iter().flat_map(|list| list.found).collect();
                found.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
                m::ListTransactionsResponse {
                    unknown_state_filters,
                    transaction_states: found,
                    ..Default::default()
                }
            }
        }
    })
}
