//! `ObjectMeta`: reading it, and what the server writes into it.

use crate::{path, time};
use serde_json::{Map, Value, json};

/// `metadata.name`; empty when absent.
pub fn name(object: &Value) -> &str {
    path::text(object, &["metadata", "name"])
}

/// `metadata.namespace`; empty when absent.
pub fn namespace(object: &Value) -> &str {
    path::text(object, &["metadata", "namespace"])
}

pub fn uid(object: &Value) -> &str {
    path::text(object, &["metadata", "uid"])
}

pub fn generate_name(object: &Value) -> &str {
    path::text(object, &["metadata", "generateName"])
}

/// `metadata.resourceVersion` as text; empty when absent.
pub fn resource_version(object: &Value) -> &str {
    path::text(object, &["metadata", "resourceVersion"])
}

pub fn set_resource_version(object: &mut Value, version: u64) {
    path::set(object, &["metadata", "resourceVersion"], json!(version.to_string()));
}

/// `metadata.generation`; 0 when the kind has none.
pub fn generation(object: &Value) -> i64 {
    path::integer(object, &["metadata", "generation"]).unwrap_or(0)
}

/// True once deletion has begun.
pub fn is_deleting(object: &Value) -> bool {
    path::get(object, &["metadata", "deletionTimestamp"]).is_some()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    path::items(object, &["metadata", "finalizers"]).iter().filter_map(Value::as_str).collect()
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    path::get(object, &["metadata", "labels"]).and_then(Value::as_object)
}

pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    path::get(object, &["metadata", "annotations"]).and_then(Value::as_object)
}

/// One label's value.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// One annotation's value.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    path::items(object, &["metadata", "ownerReferences"])
}

/// What the server decides about a new object, whatever the client sent: uid, creation time, no deletion,
/// no generation yet, no self link. `random` makes the name when only `generateName` is there.
pub fn fill_for_create(object: &mut Value, uid: &str, now_micros: i64, random: u64) {
    let base = generate_name(object).to_string();
    if name(object).is_empty() && !base.is_empty() {
        path::set(object, &["metadata", "name"], json!(crate::names::generate(&base, random)));
    }
    let metadata = path::object_mut(object, &["metadata"]);
    for key in
        ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"]
    {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), json!(uid));
    metadata.insert("creationTimestamp".into(), json!(time::format_seconds(now_micros)));
}

/// What an update may leave out and then keeps: uid, creation time, deletion, generation, self link.
///
/// Values that differ stay, for validation to refuse; generation is always the old one.
pub fn carry_over(new: &mut Value, old: &Value) {
    let old_metadata = old.get("metadata").and_then(Value::as_object);
    let metadata = path::object_mut(new, &["metadata"]);
    metadata.remove("selfLink");
    metadata.remove("generation");
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        let Some(value) = old_metadata.and_then(|map| map.get(key)) else { continue };
        let absent = metadata.get(key).is_none_or(path::is_empty);
        if absent {
            metadata.insert(key.into(), value.clone());
        }
    }
    if old_metadata.is_none_or(|map| !map.contains_key("deletionTimestamp")) {
        // Only a delete begins a deletion.
        metadata.remove("deletionTimestamp");
        metadata.remove("deletionGracePeriodSeconds");
    }
}
