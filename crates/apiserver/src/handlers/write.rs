//! The end of every write: one transaction, compared against what was read.

use std::sync::Arc;

use kube_types::registry::Resource;
use kube_types::status::Status;
use kube_types::{convert, meta, path};
use serde_json::Value;
use store_api::{Compare, LeaseId, MAX_REQUEST_BYTES, Op, Revision, Txn};

use crate::objects;
use crate::server::Server;

/// Writes that go along with an object: addresses and ports that belong to it.
#[derive(Debug, Default)]
pub(crate) struct Along {
    pub(crate) compare: Vec<Compare>,
    pub(crate) ops: Vec<Op>,
}

/// Makes a new object. False: the key exists, or something it needs was taken meanwhile.
pub(crate) async fn insert(
    server: &Arc<Server>,
    resource: &Resource,
    key: &str,
    object: &mut Value,
    along: Along,
) -> Result<bool, Status> {
    let condition = Compare::absent(key.to_owned());
    put(server, resource, key, condition, object, along).await
}

/// Replaces an object that was read at `revision`. False: it changed, or something it needs was taken meanwhile.
pub(crate) async fn replace(
    server: &Arc<Server>,
    resource: &Resource,
    key: &str,
    revision: i64,
    object: &mut Value,
    along: Along,
) -> Result<bool, Status> {
    let condition = Compare::unchanged(key.to_owned(), Revision(revision));
    put(server, resource, key, condition, object, along).await
}

/// Removes an object that was read at `revision`; false: it changed. The revision of the deletion is put into it.
pub(crate) async fn remove(
    server: &Arc<Server>,
    key: &str,
    revision: i64,
    object: &mut Value,
    along: Along,
) -> Result<bool, Status> {
    let mut compare = vec![Compare::unchanged(key.to_owned(), Revision(revision))];
    compare.extend(along.compare);
    let mut success = vec![Op::delete(key.to_owned())];
    success.extend(along.ops);
    commit(server, Txn { compare, success, failure: Vec::new() }, object).await
}

async fn put(
    server: &Arc<Server>,
    resource: &Resource,
    key: &str,
    condition: Compare,
    object: &mut Value,
    along: Along,
) -> Result<bool, Status> {
    let value = if resource.gvk == resource.storage_gvk {
        objects::encode(object)
    } else {
        objects::encode(&mut convert::to_storage(resource, object.clone()))
    };
    if value.len() + key.len() > MAX_REQUEST_BYTES {
        return Err(Status::too_large(&format!("limit is {MAX_REQUEST_BYTES}")));
    }
    let lease = if &*resource.plural == "events" { server.event_lease().await? } else { LeaseId(0) };
    let mut compare = vec![condition];
    compare.extend(along.compare);
    let mut success = vec![Op::Put { key: key.to_owned().into(), value, lease, prev_kv: false }];
    success.extend(along.ops);
    commit(server, Txn { compare, success, failure: Vec::new() }, object).await
}

async fn commit(server: &Arc<Server>, txn: Txn, object: &mut Value) -> Result<bool, Status> {
    let done = server.store.txn(txn).await.map_err(|e| objects::store_status(&e))?;
    if done.succeeded {
        objects::set_revision(object, done.revision.get());
    }
    Ok(done.succeeded)
}

/// Whether nothing holds an object back that is being deleted.
pub(crate) fn is_finished(resource: &Resource, object: &Value) -> bool {
    let graceful = path::integer(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) > 0;
    meta::is_deleting(object)
        && meta::finalizers(object).is_empty()
        && !(resource.strategy.graceful_delete && graceful)
        && !has_namespace_finalizers(resource, object)
}

/// Whether it is a namespace that is not empty yet, as far as its finalizers tell.
pub(crate) fn has_namespace_finalizers(resource: &Resource, object: &Value) -> bool {
    is_core(resource, "Namespace") && !path::items(object, &["spec", "finalizers"]).is_empty()
}

/// Whether the resource is this kind of the core group.
pub(crate) fn is_core(resource: &Resource, kind: &str) -> bool {
    resource.gvk.group.is_empty() && resource.gvk.kind == kind
}
