//! Validation of whole objects, per kind, with upstream's field paths and texts.

use crate::registry::Resource;
use crate::status::FieldError;
use serde_json::Value;

/// What is wrong with a new object (after defaulting); empty when it may be stored.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let _ = (resource, object);
    Vec::new()
}

/// What is wrong with an update of the main resource (`None`) or a subresource.
pub fn update(resource: &Resource, subresource: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
    let _ = (resource, subresource, new, old);
    Vec::new()
}

/// The quality-of-service class of a pod: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Value) -> &'static str {
    let _ = pod;
    "BestEffort"
}
