//! Validation of whole objects, per kind, with upstream's field paths and texts.
//!
//! ```text
//! create: metadata + kind            update: metadata + kind + what may not change
//! ```
//!
//! Objects come decoded and defaulted. What needs more than the object (names in use, free ports, quotas) is
//! the API server's.

mod container;
mod data;
mod metadata;
mod network;
mod others;
mod placement;
mod pod;
mod pod_update;
mod probe;
mod qos;
mod rbac;
mod workload;

#[cfg(test)]
mod tests;

pub use qos::qos_class;

use crate::path;
use crate::registry::Resource;
use crate::status::FieldError;
use serde_json::Value;

type Errors = Vec<FieldError>;

/// The text of every refusal to change a field.
const IMMUTABLE: &str = "field is immutable";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// What is wrong with a new object (after defaulting); empty when it may be stored.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    if resource.is_virtual() {
        return out;
    }
    metadata::create(resource, object, &mut out);
    kind(resource, object, &mut out);
    out
}

/// What is wrong with an update of the main resource (`None`) or a subresource.
pub fn update(resource: &Resource, subresource: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    metadata::update(new, old, &mut out);
    if subresource.is_none() {
        metadata::shape(resource, new, &mut out);
        match (resource.gvk.group.as_ref(), resource.gvk.kind.as_ref()) {
            // A pod that runs is not judged again as a whole: its changes are.
            ("", "Pod") => pod_update::update(new, old, &mut out),
            _ => {
                kind(resource, new, &mut out);
                changes(resource, new, old, &mut out);
            }
        }
    }
    out
}

fn kind(resource: &Resource, object: &Value, out: &mut Errors) {
    match (resource.gvk.group.as_ref(), resource.gvk.kind.as_ref()) {
        ("", "Pod") => pod::spec(&object["spec"], "spec", out),
        ("", "ConfigMap") => data::config_map(object, out),
        ("", "Secret") => data::secret(object, out),
        ("", "Service") => network::service(object, out),
        ("", "Endpoints") => network::endpoints(object, out),
        ("", "Event") => others::event(object, out),
        ("", "Node") => others::node(object, out),
        ("apps", "Deployment") => workload::deployment(object, out),
        ("apps", "ReplicaSet") => workload::replica_set(object, out),
        ("coordination.k8s.io", "Lease") => others::lease(object, out),
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice(object, out),
        ("rbac.authorization.k8s.io", "Role") => rbac::role(object, true, out),
        ("rbac.authorization.k8s.io", "ClusterRole") => rbac::role(object, false, out),
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::binding(object, true, out),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::binding(object, false, out),
        ("scheduling.k8s.io", "PriorityClass") => others::priority_class(object, out),
        _ => {}
    }
}

fn changes(resource: &Resource, new: &Value, old: &Value, out: &mut Errors) {
    match (resource.gvk.group.as_ref(), resource.gvk.kind.as_ref()) {
        ("", "ConfigMap") => data::immutable(new, old, &["data", "binaryData"], out),
        ("", "Secret") => {
            unchanged(new, old, &["type"], out);
            data::immutable(new, old, &["data"], out);
        }
        ("", "Service") => network::service_update(new, old, out),
        ("apps", "Deployment" | "ReplicaSet") => unchanged(new, old, &["spec", "selector"], out),
        ("discovery.k8s.io", "EndpointSlice") => unchanged(new, old, &["addressType"], out),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if new.get("roleRef") != old.get("roleRef") =>
        {
            out.push(FieldError::invalid("roleRef", new["roleRef"].clone(), "cannot change roleRef"));
        }
        ("scheduling.k8s.io", "PriorityClass") => others::priority_class_update(new, old, out),
        _ => {}
    }
}

/// Refuses a change of the value at a path.
fn unchanged(new: &Value, old: &Value, at: &[&str], out: &mut Errors) {
    let (now, then) = (path::get(new, at), path::get(old, at));
    if now != then {
        out.push(FieldError::invalid(at.join("."), now.cloned().unwrap_or(Value::Null), IMMUTABLE));
    }
}

/// The text at a key; empty when absent.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text that must be there.
fn required(value: &Value, key: &str, at: &str, out: &mut Errors) -> bool {
    let found = !text(value, key).is_empty();
    if !found {
        out.push(FieldError::required(format!("{at}.{key}"), ""));
    }
    found
}

/// A text that must be one of a list; absent is fine when `optional`.
fn one_of(value: &Value, key: &str, at: &str, allowed: &[&str], optional: bool, out: &mut Errors) {
    let found = text(value, key);
    let field = || if at.is_empty() { key.to_string() } else { format!("{at}.{key}") };
    if found.is_empty() {
        if !optional {
            out.push(FieldError::required(field(), ""));
        }
    } else if !allowed.contains(&found) {
        out.push(FieldError::not_supported(field(), found, allowed));
    }
}

/// A number that, when there, must not be negative.
fn not_negative(value: &Value, key: &str, at: &str, out: &mut Errors) {
    if let Some(number) = value.get(key).and_then(Value::as_i64).filter(|number| *number < 0) {
        out.push(FieldError::invalid(format!("{at}.{key}"), number, NOT_NEGATIVE));
    }
}

/// Each complaint of a rule about a text becomes an error.
fn complaints(field: &str, value: &str, found: Vec<String>, out: &mut Errors) {
    out.extend(found.into_iter().map(|why| FieldError::invalid(field, value, why)));
}
