//! Between the form a client sees and the form that is stored, where the two differ.
//!
//! Only events do: `events.k8s.io/v1` and core `v1` share one storage, which keeps the core form.

use crate::registry::{GroupVersionKind, Resource};
use serde_json::{Value, json};

/// Fields of `events.k8s.io/v1` and their names in core `v1`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// The stored form of an object in this resource's form.
pub fn to_storage(resource: &Resource, object: Value) -> Value {
    if resource.gvk == resource.storage_gvk {
        return object;
    }
    rename(object, &resource.storage_gvk, |(new, old)| (new, old))
}

/// This resource's form of a stored object.
pub fn from_storage(resource: &Resource, object: Value) -> Value {
    if resource.gvk == resource.storage_gvk {
        return object;
    }
    rename(object, &resource.gvk, |(new, old)| (old, new))
}

fn rename(
    mut object: Value,
    gvk: &GroupVersionKind,
    direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    if let Some(map) = object.as_object_mut() {
        for (from, to) in EVENT_FIELDS.iter().copied().map(direction) {
            if let Some(value) = map.remove(from) {
                map.insert(to.into(), value);
            }
        }
        map.insert("apiVersion".into(), json!(gvk.api_version()));
        map.insert("kind".into(), json!(gvk.kind));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn events_go_there_and_back() {
        let new = Registry::builtin().find("events.k8s.io", "v1", "events").unwrap();
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "type": "Normal",
            "regarding": {"kind": "Pod"}, "reportingController": "c", "deprecatedCount": 2});
        let stored = to_storage(new, event.clone());
        let want = json!({"apiVersion": "v1", "kind": "Event", "message": "n", "type": "Normal",
            "involvedObject": {"kind": "Pod"}, "reportingComponent": "c", "count": 2});
        assert_eq!(stored, want);
        assert_eq!(from_storage(new, stored), event);
    }
}
