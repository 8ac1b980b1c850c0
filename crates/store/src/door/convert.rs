//! Between protobuf and the store's contract. What etcd refuses before it looks at its state is refused here, in its
//! order (facts: server/etcdserver/api/v3rpc/key.go).

use bytes::Bytes;
use etcd_wire::etcdserverpb::{self as pb, compare, request_op, response_op};
use etcd_wire::mvccpb;
use store_api::{
    Compare, CompareResult, CompareTarget, KeyRange, KeyValue, LeaseId, MAX_REQUEST_BYTES, MAX_TXN_OPS, Op,
    OpResponse, RangeRequest, RangeResponse, Revision, RevisionBounds, SortOrder, SortTarget, Txn,
    TxnResponse,
};
use tonic::Status;

use super::error;

/// What etcd's log adds to a request before it measures it: a header with an id, and the field's head.
const LOG_OVERHEAD_BYTES: usize = 18;

type Result<T> = std::result::Result<T, Status>;

fn refuse<T>(text: &str) -> Result<T> {
    Err(error::text(text))
}

/// Refuses a write that is larger than etcd takes into its log.
pub(crate) fn check_size(request: &impl prost::Message) -> Result<()> {
    let fits = request.encoded_len() + LOG_OVERHEAD_BYTES <= MAX_REQUEST_BYTES;
    if fits { Ok(()) } else { refuse("etcdserver: request is too large") }
}

/// The keys meant: an empty end is one key, an end of `\0` all keys from the first on.
pub(crate) fn key_range(key: Bytes, range_end: Bytes) -> KeyRange {
    match &range_end[..] {
        [] => KeyRange::One(key),
        [0] => KeyRange::Span { start: key, end: Bytes::new() },
        _ => KeyRange::Span { start: key, end: range_end },
    }
}

fn non_empty(key: &Bytes) -> Result<()> {
    if key.is_empty() { refuse("etcdserver: key is not provided") } else { Ok(()) }
}

/// A read.
pub(crate) fn range(request: pb::RangeRequest) -> Result<RangeRequest> {
    use pb::range_request::{SortOrder as WireOrder, SortTarget as WireTarget};
    const INVALID: &str = "etcdserver: invalid sort option";
    non_empty(&request.key)?;
    let sort_order = match WireOrder::try_from(request.sort_order) {
        Ok(WireOrder::None) => SortOrder::None,
        Ok(WireOrder::Ascend) => SortOrder::Ascend,
        Ok(WireOrder::Descend) => SortOrder::Descend,
        Err(_) => return refuse(INVALID),
    };
    let sort_target = match WireTarget::try_from(request.sort_target) {
        Ok(WireTarget::Key) => SortTarget::Key,
        Ok(WireTarget::Version) => SortTarget::Version,
        Ok(WireTarget::Create) => SortTarget::CreateRevision,
        Ok(WireTarget::Mod) => SortTarget::ModRevision,
        Ok(WireTarget::Value) => SortTarget::Value,
        Err(_) => return refuse(INVALID),
    };
    Ok(RangeRequest {
        range: key_range(request.key, request.range_end),
        // A negative limit is none.
        limit: usize::try_from(request.limit).unwrap_or(0),
        revision: Some(Revision(request.revision)).filter(|revision| revision.get() != 0),
        keys_only: request.keys_only,
        count_only: request.count_only,
        serializable: request.serializable,
        sort_target,
        sort_order,
        bounds: RevisionBounds {
            min_mod: Revision(request.min_mod_revision),
            max_mod: Revision(request.max_mod_revision),
            min_create: Revision(request.min_create_revision),
            max_create: Revision(request.max_create_revision),
        },
    })
}

/// A put.
pub(crate) fn put(request: pb::PutRequest) -> Result<Op> {
    let pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
    non_empty(&key)?;
    if ignore_value && !value.is_empty() {
        return refuse("etcdserver: value is provided");
    }
    if ignore_lease && lease != 0 {
        return refuse("etcdserver: lease is provided");
    }
    let lease = LeaseId(lease);
    if !ignore_value && !ignore_lease {
        return Ok(Op::Put { key, value, lease, prev_kv });
    }
    let (value, lease) = ((!ignore_value).then_some(value), (!ignore_lease).then_some(lease));
    Ok(Op::Update { key, value, lease, prev_kv })
}

/// A delete.
pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> Result<Op> {
    non_empty(&request.key)?;
    Ok(Op::DeleteRange { range: key_range(request.key, request.range_end), prev_kv: request.prev_kv })
}

/// A transaction.
pub(crate) fn txn(request: pb::TxnRequest) -> Result<Txn> {
    let txn = txn_within(request, MAX_TXN_OPS)?;
    mvcc::check_writes(&txn).map_err(|e| error::status(&e))?;
    Ok(txn)
}

/// A nested transaction may hold what its parent's widest list left over.
fn txn_within(request: pb::TxnRequest, budget: usize) -> Result<Txn> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    if most > budget {
        return refuse("etcdserver: too many operations in txn request");
    }
    request.compare.iter().try_for_each(|compare| non_empty(&compare.key))?;
    let ops = |ops: Vec<pb::RequestOp>| -> Result<Vec<Op>> {
        ops.into_iter().map(|one| op(one, budget - most)).collect()
    };
    Ok(Txn {
        compare: request.compare.into_iter().filter_map(compare_of).collect(),
        success: ops(request.success)?,
        failure: ops(request.failure)?,
    })
}

fn op(op: pb::RequestOp, budget: usize) -> Result<Op> {
    match op.request {
        Some(request_op::Request::RequestRange(request)) => range(request).map(Op::Range),
        Some(request_op::Request::RequestPut(request)) => put(request),
        Some(request_op::Request::RequestDeleteRange(request)) => delete_range(request),
        Some(request_op::Request::RequestTxn(request)) => txn_within(request, budget).map(Op::Txn),
        None => refuse("etcdserver: key not found"),
    }
}

/// A comparison; None where etcd takes it as met whatever is stored. A value of another kind than the target counts as
/// none given.
fn compare_of(wire: pb::Compare) -> Option<Compare> {
    use compare::TargetUnion as Given;
    let given = wire.target_union;
    let target = match compare::CompareTarget::try_from(wire.target) {
        Ok(compare::CompareTarget::Version) => match given {
            Some(Given::Version(version)) => CompareTarget::Version(version),
            _ => CompareTarget::Version(0),
        },
        Ok(compare::CompareTarget::Create) => match given {
            Some(Given::CreateRevision(revision)) => CompareTarget::CreateRevision(Revision(revision)),
            _ => CompareTarget::CreateRevision(Revision(0)),
        },
        Ok(compare::CompareTarget::Mod) => match given {
            Some(Given::ModRevision(revision)) => CompareTarget::ModRevision(Revision(revision)),
            _ => CompareTarget::ModRevision(Revision(0)),
        },
        Ok(compare::CompareTarget::Value) => match given {
            Some(Given::Value(value)) => CompareTarget::Value(value),
            _ => CompareTarget::Value(Bytes::new()),
        },
        Ok(compare::CompareTarget::Lease) => match given {
            Some(Given::Lease(lease)) => CompareTarget::Lease(LeaseId(lease)),
            _ => CompareTarget::Lease(LeaseId(0)),
        },
        Err(_) => return unknown_target(wire.result, wire.key),
    };
    let result = match compare::CompareResult::try_from(wire.result) {
        Ok(compare::CompareResult::Equal) => CompareResult::Equal,
        Ok(compare::CompareResult::Greater) => CompareResult::Greater,
        Ok(compare::CompareResult::Less) => CompareResult::Less,
        Ok(compare::CompareResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => return None,
    };
    Some(Compare { range: key_range(wire.key, wire.range_end), target, result })
}

/// etcd takes what it does not know as equal: met when equality is asked for (or something unknown), else never met, as
/// a version below zero never is.
fn unknown_target(result: i32, key: Bytes) -> Option<Compare> {
    match compare::CompareResult::try_from(result) {
        Ok(compare::CompareResult::Equal) | Err(_) => None,
        Ok(_) => Some(Compare {
            range: KeyRange::One(key),
            target: CompareTarget::Version(0),
            result: CompareResult::Less,
        }),
    }
}

/// A key's state on the wire.
pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
        value: kv.value,
        lease: kv.lease.get(),
    }
}

/// An answer to a read under this head.
pub(crate) fn range_response(response: RangeResponse, header: pb::ResponseHeader) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: i64::try_from(response.count).unwrap_or(i64::MAX),
    }
}

/// The head of an answer within a transaction: the revision only.
fn at(revision: Revision) -> pb::ResponseHeader {
    pb::ResponseHeader { revision: revision.get(), ..pb::ResponseHeader::default() }
}

/// An answer to a transaction under this head.
pub(crate) fn txn_response(response: TxnResponse, header: pb::ResponseHeader) -> pb::TxnResponse {
    let wrote = wrote(&response);
    let before = if wrote { Revision(response.revision.get() - 1) } else { response.revision };
    let mut seen = Seen { now: before, after: response.revision };
    seen.txn(response, header)
}

fn wrote(response: &TxnResponse) -> bool {
    response.responses.iter().any(|response| match response {
        OpResponse::Range(_) => false,
        OpResponse::Put { .. } => true,
        OpResponse::DeleteRange { deleted, .. } => *deleted > 0,
        OpResponse::Txn(inner) => wrote(inner),
    })
}

/// The revision that the steps of a transaction see: it moves with the first of them that writes.
struct Seen {
    now: Revision,
    after: Revision,
}

impl Seen {
    fn txn(&mut self, response: TxnResponse, header: pb::ResponseHeader) -> pb::TxnResponse {
        let responses = response.responses.into_iter().map(|response| self.step(response)).collect();
        pb::TxnResponse { header: Some(header), succeeded: response.succeeded, responses }
    }

    fn step(&mut self, response: OpResponse) -> pb::ResponseOp {
        use response_op::Response;
        let response = match response {
            OpResponse::Range(response) => {
                let header = at(response.revision);
                Response::ResponseRange(range_response(response, header))
            }
            OpResponse::Put { prev_kv } => {
                self.now = self.after;
                let prev_kv = prev_kv.map(key_value);
                Response::ResponsePut(pb::PutResponse { header: Some(at(self.now)), prev_kv })
            }
            OpResponse::DeleteRange { deleted, prev_kvs } => {
                if deleted > 0 {
                    self.now = self.after;
                }
                Response::ResponseDeleteRange(deleted_response(deleted, prev_kvs, at(self.now)))
            }
            // etcd leaves the head of a nested transaction empty.
            OpResponse::Txn(inner) => Response::ResponseTxn(self.txn(inner, pb::ResponseHeader::default())),
        };
        pb::ResponseOp { response: Some(response) }
    }
}

/// An answer to a delete under this head.
pub(crate) fn deleted_response(
    deleted: usize,
    prev_kvs: Vec<KeyValue>,
    header: pb::ResponseHeader,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
        prev_kvs: prev_kvs.into_iter().map(key_value).collect(),
    }
}
