//! The three kinds of patch: JSON patch (RFC 6902), JSON merge patch (RFC 7386), strategic merge patch.
//!
//! All are pure: a live object and a patch in, the patched object or a `Status` out. What a patch leaves is
//! neither normalized, defaulted nor validated.

mod json;
mod strategic;

#[cfg(test)]
mod tests;

use crate::schema::SchemaRef;
use crate::status::{Details, Reason, Status};
use serde_json::{Map, Value};

/// The most operations of one JSON patch.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// Applies RFC 6902 operations. Negative indexes count from the end, as upstream's library has it.
pub fn json_patch(live: &Value, patch: &Value) -> Result<Value, Status> {
    let Value::Array(operations) = patch else {
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type jsonpatch.Patch",
            go_kind(patch)
        )));
    };
    if operations.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(Status::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut out = live.clone();
    operations.iter().try_for_each(|one| json::apply(&mut out, one)).map_err(|_| rejected())?;
    Ok(out)
}

/// Why one JSON patch operation does not apply, for logs: the client only hears that it was rejected.
pub fn explain_json_patch(live: &Value, patch: &Value) -> Option<String> {
    let mut out = live.clone();
    patch.as_array()?.iter().try_for_each(|one| json::apply(&mut out, one)).err()
}

/// Upstream's answer to a patch that does not apply: 422 without the particulars.
fn rejected() -> Status {
    Status::failure(422, Reason::Invalid, "the server rejected our request due to an error in our request")
        .with_details(Details::default())
}

/// Applies an RFC 7386 merge patch: null removes, objects merge, all else replaces.
pub fn merge_patch(live: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go_kind(patch)
        )));
    }
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
        *target = Value::Object(Map::new());
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
///
/// Knows `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/<list>` and
/// `$deleteFromPrimitiveList/<list>` (see "Strategic Merge Patch" in the community's api-conventions).
pub fn strategic_merge(schema: &SchemaRef, live: &Value, patch: &Value) -> Result<Value, Status> {
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request("Invalid JSON document"));
    };
    let original = live.as_object().cloned().unwrap_or_default();
    let merged = strategic::merge_map(Some(schema.cursor()), original, patch.clone());
    merged.map(Value::Object).map_err(Status::bad_request)
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
