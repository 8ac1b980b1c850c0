//! Versioned defaulting, as every object gets it when it is decoded (upstream's `SetDefaults_*`).
//!
//! Defaults are what `kubectl diff` and apply show, so they are exactly those of 1.36. Applying them twice
//! changes nothing.

mod pod;
mod service;

#[cfg(test)]
mod tests;

use crate::names;
use crate::registry::{GroupVersionKind, Resource};
use serde_json::{Map, Value, json};

pub use pod::pod_spec;

/// Fills in the defaults of a kind. Fields that are there are left alone.
pub fn apply(resource: &Resource, object: &mut Value) {
    apply_kind(&resource.gvk, object);
}

/// As `apply`, for a kind that is only named.
pub fn apply_kind(gvk: &GroupVersionKind, object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    match (gvk.group.as_ref(), gvk.kind.as_ref()) {
        ("", "Pod") => pod::pod(map),
        ("", "Namespace") => namespace(map),
        ("", "Node") => node(map),
        ("", "Secret") => secret(map),
        ("", "Service") => service::service(map),
        ("", "Endpoints") => service::endpoints(map),
        ("apps", "Deployment") => deployment(map),
        ("apps", "ReplicaSet") => replica_set(map),
        ("discovery.k8s.io", "EndpointSlice") => service::endpoint_slice(map),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => binding(map),
        ("scheduling.k8s.io", "PriorityClass") => text(map, "preemptionPolicy", "PreemptLowerPriority"),
        ("authentication.k8s.io", "TokenRequest") => token_request(map),
        _ => {}
    }
}

/// Sets a field that is absent.
fn put(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.into(), value.into());
    }
}

/// Sets a text that is absent or empty, which is the same for Go's plain strings.
fn text(map: &mut Map<String, Value>, key: &str, value: &str) {
    if map.get(key).and_then(Value::as_str).unwrap_or("").is_empty() {
        map.insert(key.into(), value.into());
    }
}

/// Sets a number that is absent or zero, for Go's plain numbers.
fn number(map: &mut Map<String, Value>, key: &str, value: i64) {
    if map.get(key).and_then(Value::as_i64).unwrap_or(0) == 0 {
        map.insert(key.into(), value.into());
    }
}

/// The object under a key, made when absent.
fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = map.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!({});
    }
    slot.as_object_mut()
}

/// The object under a key, if it is there.
fn existing<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key)?.as_object_mut()
}

/// The objects of the list under a key.
fn each<'a>(map: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The label every namespace carries, with its own name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn namespace(map: &mut Map<String, Value>) {
    let name = map
        .get("metadata")
        .and_then(|meta| meta.get("name"))
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_string();
    // A generated name is not known yet, and a wrong one is validation's to report.
    if !name.is_empty()
        && names::label(&name, false).is_empty()
        && let Some(labels) = object(map, "metadata").and_then(|meta| object(meta, "labels"))
    {
        labels.insert(NAMESPACE_NAME_LABEL.into(), name.into());
    }
    if let Some(status) = object(map, "status") {
        text(status, "phase", "Active");
    }
}

/// `stringData` is for writing only: it goes into `data`.
fn secret(map: &mut Map<String, Value>) {
    use base64::Engine;
    text(map, "type", "Opaque");
    let Some(Value::Object(plain)) = map.remove("stringData") else { return };
    let Some(data) = object(map, "data") else { return };
    for (key, value) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or(""));
        data.insert(key, encoded.into());
    }
}

fn node(map: &mut Map<String, Value>) {
    let Some(status) = existing(map, "status") else { return };
    // Allocatable is capacity until the node says otherwise.
    if let Some(capacity) = status.get("capacity").cloned() {
        put(status, "allocatable", capacity);
    }
}

fn deployment(map: &mut Map<String, Value>) {
    let Some(spec) = object(map, "spec") else { return };
    put(spec, "replicas", 1);
    put(spec, "revisionHistoryLimit", 10);
    put(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = object(spec, "strategy") {
        text(strategy, "type", "RollingUpdate");
        if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate")
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            put(rolling, "maxUnavailable", "25%");
            put(rolling, "maxSurge", "25%");
        }
    }
    template(spec);
}

fn replica_set(map: &mut Map<String, Value>) {
    let Some(spec) = object(map, "spec") else { return };
    put(spec, "replicas", 1);
    template(spec);
}

/// Defaults of the pod template in a workload's spec.
fn template(spec: &mut Map<String, Value>) {
    if let Some(pod) = object(spec, "template").and_then(|template| object(template, "spec")) {
        pod_spec(pod);
    }
}

fn binding(map: &mut Map<String, Value>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    if let Some(role) = existing(map, "roleRef") {
        text(role, "apiGroup", GROUP);
    }
    for subject in each(map, "subjects") {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            text(subject, "apiGroup", GROUP);
        }
    }
}

/// How long a requested token lives when the request does not say: one hour.
pub const TOKEN_EXPIRATION_SECONDS: i64 = 3600;

fn token_request(map: &mut Map<String, Value>) {
    if let Some(spec) = object(map, "spec") {
        put(spec, "expirationSeconds", TOKEN_EXPIRATION_SECONDS);
    }
}
