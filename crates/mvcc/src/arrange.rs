//! Sorting, revision bounds and limits of a range, in the order in which etcd does them
//! (server/etcdserver/txn/txn.go, `executeRange`): fetch, drop what is out of bounds, sort, cut, leave values out.

use std::cmp::Ordering;

use store_api::{KeyValue, RangeRequest, RangeResponse, Revision, RevisionBounds, SortOrder, SortTarget};

/// Whether the store's own order and a limit while scanning give the answer.
pub(crate) fn is_plain(request: &RangeRequest) -> bool {
    let own_order = request.sort_target == SortTarget::Key && request.sort_order != SortOrder::Descend;
    own_order && request.bounds == RevisionBounds::default()
}

/// What must be scanned for the answer. Without an order asked for, etcd cuts by key before it sorts by the target: only
/// the first keys (one more tells that there are more) are sorted then.
pub(crate) fn to_fetch(request: &RangeRequest) -> RangeRequest {
    let all = request.sort_order != SortOrder::None || request.bounds != RevisionBounds::default();
    let limit = if all || request.limit == 0 { 0 } else { request.limit.saturating_add(1) };
    let keys_only = request.keys_only && request.sort_target != SortTarget::Value;
    RangeRequest { limit, keys_only, ..request.clone() }
}

/// Makes what was fetched the answer.
pub(crate) fn arrange(request: &RangeRequest, response: &mut RangeResponse) {
    response.kvs.retain(|kv| within(&request.bounds, kv));
    let order = |a: &KeyValue, b: &KeyValue| compare(request.sort_target, a, b);
    match request.sort_order {
        SortOrder::Descend => response.kvs.sort_by(|a, b| order(b, a)),
        SortOrder::None | SortOrder::Ascend if request.sort_target != SortTarget::Key => {
            response.kvs.sort_by(order);
        }
        SortOrder::None | SortOrder::Ascend => {}
    }
    response.more = request.limit != 0 && response.kvs.len() > request.limit;
    if response.more {
        response.kvs.truncate(request.limit);
    }
    if request.keys_only {
        response.kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
}

fn within(bounds: &RevisionBounds, kv: &KeyValue) -> bool {
    let inside = |at: Revision, min: Revision, max: Revision| {
        (min.get() == 0 || at >= min) && (max.get() == 0 || at <= max)
    };
    inside(kv.mod_revision, bounds.min_mod, bounds.max_mod)
        && inside(kv.create_revision, bounds.min_create, bounds.max_create)
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::CreateRevision => a.create_revision.cmp(&b.create_revision),
        SortTarget::ModRevision => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
