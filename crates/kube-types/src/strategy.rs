//! What differs between kinds when they are created, updated and deleted: flags, and the changes the server
//! makes to an object before it is validated.

use crate::registry::Resource;
use crate::{meta, names, path};
use serde_json::{Value, json};

/// Who deletes the dependents when the client does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The object goes now, the collector follows its dependents.
    Background,
    /// Dependents stay.
    Orphan,
}

/// What `metadata.name` must look like. Takes the name; true means a prefix (`generateName`) is checked.
pub type NameRule = fn(&str, bool) -> Vec<String>;

/// The flags of a kind.
#[derive(Debug)]
pub struct Strategy {
    /// PUT to a missing name creates it.
    pub allow_create_on_update: bool,
    /// PUT without a resource version overwrites.
    pub allow_unconditional_update: bool,
    /// `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Deletion waits for the node (pods).
    pub graceful_delete: bool,
    /// Has a `status` that only its subresource writes.
    pub status: bool,
    /// A create may bring a status (nodes register themselves with one).
    pub status_on_create: bool,
    /// A status write leaves the labels as they are.
    pub status_keeps_labels: bool,
    pub default_propagation: Propagation,
    pub name: NameRule,
}

const BASE: Strategy = Strategy {
    allow_create_on_update: false,
    allow_unconditional_update: true,
    generation: false,
    graceful_delete: false,
    status: false,
    status_on_create: false,
    status_keeps_labels: false,
    default_propagation: Propagation::Background,
    name: names::subdomain,
};

/// ConfigMaps, Secrets, ServiceAccounts.
pub static PLAIN: Strategy = BASE;
/// Reviews: never stored.
pub static VIRTUAL: Strategy = BASE;
/// Events: kept by whoever sends them.
pub static UPSERT: Strategy = Strategy { allow_create_on_update: true, ..BASE };
pub static ENDPOINTS: Strategy = Strategy { allow_create_on_update: true, ..BASE };
pub static NAMESPACE: Strategy = Strategy { status: true, name: names::label, ..BASE };
pub static NODE: Strategy = Strategy { status: true, status_on_create: true, ..BASE };
pub static POD: Strategy = Strategy { status: true, generation: true, graceful_delete: true, ..BASE };
pub static SERVICE: Strategy =
    Strategy { allow_create_on_update: true, status: true, name: names::label_1035, ..BASE };
/// Deployments and ReplicaSets.
pub static WORKLOAD: Strategy =
    Strategy { status: true, generation: true, status_keeps_labels: true, ..BASE };
pub static LEASE: Strategy =
    Strategy { allow_create_on_update: true, allow_unconditional_update: false, ..BASE };
pub static SLICE: Strategy = Strategy { generation: true, ..BASE };
pub static RBAC: Strategy = Strategy { allow_create_on_update: true, name: names::path_segment, ..BASE };
pub static PRIORITY_CLASS: Strategy = Strategy { generation: true, ..BASE };

/// Changes a new object as upstream's `PrepareForCreate` does: the client's status is dropped, generation is 1.
///
/// Identity (uid, creationTimestamp, name from `generateName`) is [`meta::fill_for_create`]'s work.
pub fn prepare_for_create(resource: &Resource, object: &mut Value) {
    let strategy = resource.strategy;
    if strategy.status && !strategy.status_on_create {
        path::remove(object, &["status"]);
    }
    path::remove(object, &["metadata", "generation"]);
    if strategy.generation {
        path::set(object, &["metadata", "generation"], json!(1));
    }
    match (resource.gvk.group.as_ref(), resource.gvk.kind.as_ref()) {
        ("", "Pod") => {
            let class = crate::validate::qos_class(object);
            path::set(object, &["status"], json!({"phase": "Pending", "qosClass": class}));
        }
        ("", "Namespace") => prepare_namespace(object),
        ("", "Service") => path::set(object, &["status"], json!({"loadBalancer": {}})),
        ("apps", "Deployment") => path::set(object, &["status"], json!({})),
        ("apps", "ReplicaSet") => path::set(object, &["status"], json!({"replicas": 0})),
        _ => {}
    }
}

/// The finalizer that the namespace controller removes when a namespace is empty.
pub const NAMESPACE_FINALIZER: &str = "kubernetes";

fn prepare_namespace(object: &mut Value) {
    path::set(object, &["status"], json!({"phase": "Active"}));
    let mut finalizers = path::items(object, &["spec", "finalizers"]).to_vec();
    if !finalizers.iter().any(|one| one == NAMESPACE_FINALIZER) {
        finalizers.push(json!(NAMESPACE_FINALIZER));
    }
    path::set(object, &["spec", "finalizers"], finalizers.into());
}

/// Changes an update as upstream's `PrepareForUpdate` does, for the main resource (`None`) or a subresource:
/// the parts this door may not write are taken from `old`; a changed spec raises the generation.
pub fn prepare_for_update(resource: &Resource, subresource: Option<&str>, new: &mut Value, old: &Value) {
    meta::carry_over(new, old);
    match subresource {
        None => prepare_main(resource, new, old),
        Some("status") => {
            keep(new, old, &["spec"]);
            if resource.strategy.status_keeps_labels {
                keep(new, old, &["metadata", "labels"]);
            }
            if resource.gvk.kind == "Pod" {
                keep(new, old, &["metadata", "ownerReferences"]);
            }
        }
        Some("finalize") => keep(new, old, &["status"]),
        Some(_) => prepare_main(resource, new, old),
    }
}

fn prepare_main(resource: &Resource, new: &mut Value, old: &Value) {
    if resource.strategy.status {
        keep(new, old, &["status"]);
    }
    if resource.gvk.kind == "Namespace" && resource.gvk.group.is_empty() {
        // Only `finalize` writes these.
        keep(new, old, &["spec", "finalizers"]);
    }
    if resource.strategy.generation && spec_changed(new, old) {
        let generation = path::integer(old, &["metadata", "generation"]).unwrap_or(0);
        path::set(new, &["metadata", "generation"], json!(generation + 1));
    }
}

/// True when anything but metadata and status differs.
fn spec_changed(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut map = object.as_object().cloned().unwrap_or_default();
        for key in ["metadata", "status", "apiVersion", "kind"] {
            map.remove(key);
        }
        map
    };
    rest(new) != rest(old)
}

/// Makes `new` hold at `at` what `old` holds, nothing included.
fn keep(new: &mut Value, old: &Value, at: &[&str]) {
    match path::get(old, at) {
        Some(value) => path::set(new, at, value.clone()),
        None => {
            path::remove(new, at);
        }
    }
}
