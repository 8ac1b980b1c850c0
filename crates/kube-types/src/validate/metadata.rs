//! `ObjectMeta`, on create and update.

use super::{Errors, IMMUTABLE, complaints, list, text};
use crate::meta;
use crate::names;
use crate::registry::Resource;
use crate::status::FieldError;
use serde_json::{Map, Value, json};

/// The most bytes of all annotations together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

pub(super) fn create(resource: &Resource, object: &Value, out: &mut Errors) {
    let rule = resource.strategy.name;
    let (name, base) = (meta::name(object), meta::generate_name(object));
    if !base.is_empty() {
        complaints("metadata.generateName", base, rule(base, true), out);
    }
    if name.is_empty() {
        out.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        complaints("metadata.name", name, rule(name, false), out);
    }
    shape(resource, object, out);
}

/// What must hold at any time.
pub(super) fn shape(resource: &Resource, object: &Value, out: &mut Errors) {
    let namespace = meta::namespace(object);
    match (resource.namespaced, namespace.is_empty()) {
        (true, true) => out.push(FieldError::required("metadata.namespace", "")),
        (true, false) => complaints("metadata.namespace", namespace, names::label(namespace, false), out),
        (false, false) => out.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
        (false, true) => {}
    }
    if let Some(map) = meta::labels(object) {
        labels(map, "metadata.labels", out);
    }
    if let Some(map) = meta::annotations(object) {
        annotations(map, "metadata.annotations", out);
    }
    owners(object, out);
    for finalizer in meta::finalizers(object) {
        self::finalizer(finalizer, out);
    }
}

/// Keys and values of labels.
pub(super) fn labels(map: &Map<String, Value>, at: &str, out: &mut Errors) {
    for (key, value) in map {
        complaints(at, key, names::qualified_name(key), out);
        let value = value.as_str().unwrap_or("");
        complaints(at, value, names::label_value(value), out);
    }
}

/// Keys (in any case) and total size of annotations.
pub(super) fn annotations(map: &Map<String, Value>, at: &str, out: &mut Errors) {
    let mut size = 0;
    for (key, value) in map {
        complaints(at, key, names::qualified_name(&key.to_lowercase()), out);
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_BYTES_MAX {
        out.push(FieldError::too_long(at, ANNOTATIONS_BYTES_MAX));
    }
}

fn owners(object: &Value, out: &mut Errors) {
    let mut controller: Option<&str> = None;
    for (at, owner) in meta::owner_references(object).iter().enumerate() {
        let field = format!("metadata.ownerReferences[{at}]");
        if text(owner, "apiVersion").is_empty() {
            out.push(FieldError::invalid(format!("{field}.apiVersion"), "", "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                out.push(FieldError::invalid(format!("{field}.{key}"), "", "must not be empty"));
            }
        }
        if owner.get("controller") != Some(&json!(true)) {
            continue;
        }
        let kind = text(owner, "kind");
        match controller {
            Some(first) => out.push(FieldError::invalid(
                "metadata.ownerReferences",
                Value::Array(meta::owner_references(object).to_vec()),
                format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {kind}"),
            )),
            None => controller = Some(kind),
        }
    }
}

fn finalizer(name: &str, out: &mut Errors) {
    complaints("metadata.finalizers", name, names::qualified_name(name), out);
    let standard = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
    if !name.contains('/') && !standard {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        out.push(FieldError::invalid("metadata.finalizers", name, why));
    }
}

/// What an update may not change.
pub(super) fn update(new: &Value, old: &Value, out: &mut Errors) {
    let fixed =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for key in fixed {
        let (now, then) = (new["metadata"].get(key), old["metadata"].get(key));
        if now != then {
            let field = format!("metadata.{key}");
            out.push(FieldError::invalid(field, now.cloned().unwrap_or(Value::Null), IMMUTABLE));
        }
    }
    if meta::is_deleting(old) {
        let before = list(&old["metadata"], "finalizers");
        let added: Vec<String> = list(&new["metadata"], "finalizers")
            .iter()
            .filter(|one| !before.contains(one))
            .map(Value::to_string)
            .collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            out.push(FieldError::forbidden("metadata.finalizers", why));
        }
    }
}
