//! Objects between the store's bytes and the pipeline's values.

use bytes::Bytes;
use kube_types::registry::{FieldLabel, FieldPath, Registry, Resource};
use kube_types::status::Status;
use kube_types::{meta, path};
use serde_json::{Value, json};
use store_api::{Error, KeyValue};

/// An object as the store has it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// With its resource version set.
    pub(crate) value: Value,
    pub(crate) revision: i64,
}

impl Stored {
    pub(crate) fn new(kv: KeyValue) -> Option<Self> {
        let revision = kv.mod_revision.get();
        let value = parse(&kv.value, revision);
        value.is_object().then_some(Self { value, revision })
    }
}

/// The value of stored bytes, with its resource version. Bytes that are no JSON read as null.
pub(crate) fn parse(raw: &[u8], revision: i64) -> Value {
    let mut value: Value = serde_json::from_slice(raw).unwrap_or_default();
    if value.is_object() {
        set_revision(&mut value, revision);
    }
    value
}

/// Sets the resource version.
pub(crate) fn set_revision(value: &mut Value, revision: i64) {
    meta::set_resource_version(value, revision.unsigned_abs());
}

/// The bytes to store: compact JSON, without a resource version.
pub(crate) fn encode(value: &mut Value) -> Bytes {
    path::remove(value, &["metadata", "resourceVersion"]);
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// The one table from the store's errors to what clients read.
pub(crate) fn store_status(error: &Error) -> Status {
    match error {
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        Error::FutureRevision { current } => {
            Status::too_large_resource_version(0, current.get().unsigned_abs())
        }
        Error::TooManyRequests => Status::too_many_requests(error.to_string(), 1),
        Error::Unavailable(why) => Status::timeout(why, 1),
        Error::ShuttingDown => Status::service_unavailable("the server is shutting down"),
        Error::NoSpace | Error::Invalid(_) | Error::LeaseNotFound | Error::LeaseExists => {
            Status::internal(error)
        }
        Error::SlowWatcher | Error::Corrupt(_) | Error::Auth(_) => Status::internal(error),
    }
}

/// The field labels that objects under a resource's keys can be selected by; groups that share keys share them.
pub(crate) fn selectable(registry: &Registry, resource: &Resource) -> Vec<FieldLabel> {
    let sharing = registry.resources().iter().filter(|r| r.storage_prefix == resource.storage_prefix);
    let mut labels: Vec<FieldLabel> = Vec::new();
    for label in sharing.flat_map(|r| &r.field_labels) {
        if !labels.iter().any(|l| l.label == label.label) {
            labels.push(label.clone());
        }
    }
    labels
}

/// A label's value in a stored object.
pub(crate) fn field_value(label: &FieldLabel, object: &Value) -> String {
    let scalar = |at: &[&str], absent: &str| match path::get(object, at) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => absent.to_owned(),
        Some(other) => other.to_string(),
    };
    match label.paths {
        FieldPath::At(at) => scalar(at, ""),
        FieldPath::Bool(at) => scalar(at, "false"),
        FieldPath::Int(at) => scalar(at, "0"),
        FieldPath::FirstOf(all) => {
            all.iter().map(|at| scalar(at, "")).find(|text| !text.is_empty()).unwrap_or_default()
        }
    }
}

/// The metadata of an object as `meta.k8s.io` PartialObjectMetadata.
pub(crate) fn partial(object: &Value, meta_version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{meta_version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}
