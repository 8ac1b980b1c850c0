//! The contract's values as etcd's messages, and back.

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::{compare, range_request, request_op, response_op};
use etcd_wire::mvccpb;
use store_api::{
    AuthError, Compare, CompareResult, CompareTarget, Error, Event, EventKind, KeyRange, KeyValue, LeaseId,
    Op, OpResponse, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget, Txn, TxnResponse,
};
use tonic::{Code, Status};

/// A range as a key and an end.
pub(super) fn bounds(range: &KeyRange) -> (Bytes, Bytes) {
    // An empty start is the least key there can be; etcd takes no empty key.
    let first = |start: &Bytes| if start.is_empty() { Bytes::from_static(b"\0") } else { start.clone() };
    match range {
        KeyRange::One(key) => (key.clone(), Bytes::new()),
        KeyRange::Span { start, end } if end.is_empty() => (first(start), Bytes::from_static(b"\0")),
        KeyRange::Span { start, end } => (first(start), end.clone()),
    }
}

pub(super) fn range(request: &RangeRequest) -> pb::RangeRequest {
    let (key, range_end) = bounds(&request.range);
    let target = match request.sort_target {
        SortTarget::Key => range_request::SortTarget::Key,
        SortTarget::Version => range_request::SortTarget::Version,
        SortTarget::CreateRevision => range_request::SortTarget::Create,
        SortTarget::ModRevision => range_request::SortTarget::Mod,
        SortTarget::Value => range_request::SortTarget::Value,
    };
    let order = match request.sort_order {
        SortOrder::None => range_request::SortOrder::None,
        SortOrder::Ascend => range_request::SortOrder::Ascend,
        SortOrder::Descend => range_request::SortOrder::Descend,
    };
    pb::RangeRequest {
        key,
        range_end,
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        revision: request.revision.unwrap_or_default().get(),
        sort_order: order.into(),
        sort_target: target.into(),
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.bounds.min_mod.get(),
        max_mod_revision: request.bounds.max_mod.get(),
        min_create_revision: request.bounds.min_create.get(),
        max_create_revision: request.bounds.max_create.get(),
    }
}

pub(super) fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.iter().map(comparison).collect(),
        success: txn.success.iter().map(op).collect(),
        failure: txn.failure.iter().map(op).collect(),
    }
}

fn comparison(wanted: &Compare) -> pb::Compare {
    use compare::{CompareResult as Result_, CompareTarget as Target, TargetUnion as Union};
    let (target, union) = match &wanted.target {
        CompareTarget::Version(version) => (Target::Version, Union::Version(*version)),
        CompareTarget::CreateRevision(revision) => (Target::Create, Union::CreateRevision(revision.get())),
        CompareTarget::ModRevision(revision) => (Target::Mod, Union::ModRevision(revision.get())),
        CompareTarget::Value(value) => (Target::Value, Union::Value(value.clone())),
        CompareTarget::Lease(lease) => (Target::Lease, Union::Lease(lease.get())),
    };
    let result = match wanted.result {
        CompareResult::Equal => Result_::Equal,
        CompareResult::NotEqual => Result_::NotEqual,
        CompareResult::Greater => Result_::Greater,
        CompareResult::Less => Result_::Less,
    };
    let (key, range_end) = bounds(&wanted.range);
    pb::Compare { result: result.into(), target: target.into(), key, range_end, target_union: Some(union) }
}

fn op(op: &Op) -> pb::RequestOp {
    let request = match op {
        Op::Range(request) => request_op::Request::RequestRange(range(request)),
        Op::Put { key, value, lease, prev_kv } => request_op::Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: lease.get(),
            prev_kv: *prev_kv,
            ..pb::PutRequest::default()
        }),
        Op::Update { key, value, lease, prev_kv } => request_op::Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: value.clone().unwrap_or_default(),
            lease: lease.unwrap_or_default().get(),
            prev_kv: *prev_kv,
            ignore_value: value.is_none(),
            ignore_lease: lease.is_none(),
        }),
        Op::DeleteRange { range, prev_kv } => {
            let (key, range_end) = bounds(range);
            request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key,
                range_end,
                prev_kv: *prev_kv,
            })
        }
        Op::Txn(inner) => request_op::Request::RequestTxn(txn(inner)),
    };
    pb::RequestOp { request: Some(request) }
}

fn revision(header: Option<&pb::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}

fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: Revision(kv.create_revision),
        mod_revision: Revision(kv.mod_revision),
        version: kv.version,
        lease: LeaseId(kv.lease),
    }
}

pub(super) fn range_response(response: pb::RangeResponse) -> RangeResponse {
    RangeResponse {
        revision: revision(response.header.as_ref()),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        count: usize::try_from(response.count).unwrap_or_default(),
        more: response.more,
    }
}

pub(super) fn txn_response(response: pb::TxnResponse) -> Result<TxnResponse, Error> {
    let revision = revision(response.header.as_ref());
    let responses: Result<_, _> = response.responses.into_iter().map(step).collect();
    let mut done = TxnResponse { revision, succeeded: response.succeeded, responses: responses? };
    number(&mut done, revision);
    Ok(done)
}

/// etcd leaves out the heads of answers within a transaction where it can: they are of its revision.
fn number(done: &mut TxnResponse, revision: Revision) {
    for step in &mut done.responses {
        match step {
            OpResponse::Range(range) if range.revision.get() == 0 => range.revision = revision,
            OpResponse::Txn(inner) => {
                if inner.revision.get() == 0 {
                    inner.revision = revision;
                }
                let within = inner.revision;
                number(inner, within);
            }
            _ => {}
        }
    }
}

fn step(response: pb::ResponseOp) -> Result<OpResponse, Error> {
    let missing = || Error::Unavailable("etcd left out an answer".to_owned());
    Ok(match response.response.ok_or_else(missing)? {
        response_op::Response::ResponseRange(range) => OpResponse::Range(range_response(range)),
        response_op::Response::ResponsePut(put) => OpResponse::Put { prev_kv: put.prev_kv.map(key_value) },
        response_op::Response::ResponseDeleteRange(gone) => OpResponse::DeleteRange {
            deleted: usize::try_from(gone.deleted).unwrap_or_default(),
            prev_kvs: gone.prev_kvs.into_iter().map(key_value).collect(),
        },
        response_op::Response::ResponseTxn(txn) => OpResponse::Txn(txn_response(txn)?),
    })
}

/// An event; None for one without a key, which etcd does not send.
pub(super) fn event(event: mvccpb::Event) -> Option<Event> {
    let kind = match event.r#type() {
        mvccpb::event::EventType::Put => EventKind::Put,
        mvccpb::event::EventType::Delete => EventKind::Delete,
    };
    Some(Event { kind, kv: key_value(event.kv?), prev_kv: event.prev_kv.map(key_value) })
}

/// etcd's refusal in the contract's terms; numbers it does not tell are 0.
pub(super) fn refusal(status: &Status) -> Error {
    let text = status.message();
    match (status.code(), text) {
        (_, "etcdserver: mvcc: required revision has been compacted") => {
            Error::Compacted { compact_revision: Revision(0) }
        }
        (_, "etcdserver: mvcc: required revision is a future revision") => {
            Error::FutureRevision { current: Revision(0) }
        }
        (_, "etcdserver: requested lease not found") => Error::LeaseNotFound,
        (_, "etcdserver: lease already exists") => Error::LeaseExists,
        (_, "etcdserver: too many requests") => Error::TooManyRequests,
        (_, "etcdserver: mvcc: database space exceeded") => Error::NoSpace,
        (Code::DataLoss, _) => Error::Corrupt(text.to_owned()),
        (Code::PermissionDenied, _) => AuthError::PermissionDenied.into(),
        (Code::Unauthenticated, _) => AuthError::InvalidToken.into(),
        (Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::NotFound, _) => {
            Error::Invalid(text.to_owned())
        }
        _ => Error::Unavailable(text.to_owned()),
    }
}
