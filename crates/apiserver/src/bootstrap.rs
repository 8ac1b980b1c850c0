//! The objects that every cluster has from its first moment: written when absent, in few transactions.
//!
//! ```text
//! namespaces, priority classes, RBAC roles and bindings, Service default/kubernetes    when absent
//! the token keys                                                                       kept as they should be
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kube_types::registry::{GroupVersionKind, Resource};
use kube_types::status::Status;
use kube_types::{defaults, meta, strategy};
use serde_json::{Value, json};
use store_api::{Compare, MAX_TXN_OPS, Op, RangeRequest, Txn};

use crate::allocators;
use crate::auth::policy;
use crate::objects;
use crate::server::Server;

const NAMESPACES: [&str; 5] = ["default", "kube-system", "kube-public", "kube-node-lease", "ketch-system"];
/// Where the broker finds the keys that verify service-account tokens.
pub(crate) const KEYS: &str = "/ketch/serviceaccount/keys";
/// Name and value of upstream's two classes.
const PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// One key to write.
struct Entry {
    key: String,
    value: Bytes,
    /// Keys that go along with it (allocations).
    along: Vec<(String, String)>,
}

/// Writes what is missing.
pub(crate) async fn run(server: &Arc<Server>) -> Result<(), Status> {
    let mut entries = Vec::new();
    for (kind, object) in initial(server) {
        entries.extend(entry(server, &kind, object));
    }
    entries.retain(|e| !e.value.is_empty());
    let present = present(server, &entries).await?;
    entries.retain(|e| !present.contains(&e.key));
    let mut batch = Txn::default();
    for entry in entries {
        if batch.success.len() + 1 + entry.along.len() > MAX_TXN_OPS {
            commit(server, std::mem::take(&mut batch)).await?;
        }
        batch.compare.push(Compare::absent(entry.key.clone()));
        batch.success.push(Op::put(entry.key, entry.value));
        batch.success.extend(entry.along.into_iter().map(|(key, value)| Op::put(key, value)));
    }
    commit(server, batch).await?;
    keep_keys(server).await
}

pub(crate) async fn commit(server: &Arc<Server>, txn: Txn) -> Result<(), Status> {
    if txn.success.is_empty() {
        return Ok(());
    }
    // Another server may be writing the same objects; either one's will do.
    server.store.txn(txn).await.map(drop).map_err(|e| objects::store_status(&e))
}

pub(crate) fn core(kind: &'static str) -> GroupVersionKind {
    GroupVersionKind::new("", "v1", kind)
}

fn initial(server: &Server) -> Vec<(GroupVersionKind, Value)> {
    let mut objects = Vec::new();
    for name in NAMESPACES {
        let metadata = json!({ "name": name, "labels": { "kubernetes.io/metadata.name": name } });
        objects.push((
            core("Namespace"),
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }),
        ));
    }
    for (name, value, description) in PRIORITY_CLASSES {
        objects.push((
            GroupVersionKind::new("scheduling.k8s.io", "v1", "PriorityClass"),
            json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name },
                "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
            }),
        ));
    }
    for (plural, object) in policy::bootstrap_objects() {
        let kind = if plural == "clusterroles" { "ClusterRole" } else { "ClusterRoleBinding" };
        objects.push((GroupVersionKind::new("rbac.authorization.k8s.io", "v1", kind), object));
    }
    objects.push((core("Service"), service(server)));
    objects
}

fn service(server: &Server) -> Value {
    let address = server.settings.service_cidr.nth(1).to_string();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "sessionAffinity": "None",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": server.settings.port }],
        },
    })
}

/// The object as it is stored. None for kinds that are not served.
fn entry(server: &Server, kind: &GroupVersionKind, mut object: Value) -> Option<Entry> {
    let resource = server.registry.by_kind(kind)?;
    finish(server, resource, &mut object);
    let key = resource.key(meta::namespace(&object), meta::name(&object));
    let along = allocators::keys(resource, &object);
    Some(Entry { key, value: objects::encode(&mut object), along })
}

pub(crate) fn finish(server: &Server, resource: &Resource, object: &mut Value) {
    defaults::apply(resource, object);
    meta::fill_for_create(object, &server.uid(), server.now_micros(), server.random());
    strategy::prepare_for_create(resource, object);
}

/// Which of the keys are there already.
async fn present(server: &Arc<Server>, entries: &[Entry]) -> Result<BTreeSet<String>, Status> {
    let prefixes: BTreeSet<&str> =
        entries.iter().filter_map(|e| e.key.rsplit_once('/')).map(|(p, _)| p).collect();
    let mut present = BTreeSet::new();
    for prefix in prefixes {
        let mut request = RangeRequest::prefix(format!("{prefix}/"));
        request.keys_only = true;
        let kvs = server.read_range(request).await?.kvs;
        present.extend(kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()));
    }
    Ok(present)
}

async fn keep_keys(server: &Arc<Server>) -> Result<(), Status> {
    let document = identity::token::jwks(server.verifier().keys()).to_string();
    let stored = server.read_range(RangeRequest::key(KEYS)).await?.kvs;
    if stored.first().is_some_and(|kv| kv.value == document.as_bytes()) {
        return Ok(());
    }
    commit(server, Txn { success: vec![Op::put(KEYS, document)], ..Txn::default() }).await
}
