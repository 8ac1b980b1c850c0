//! OpenAPI documents from the schema table.

use crate::registry::Registry;
use serde_json::{Value, json};

/// The index at `/openapi/v3`: a path per group and version, each with its document's hash.
pub fn v3_index(registry: &Registry) -> Value {
    let _ = registry;
    json!({"paths": {}})
}

/// The document of one group and version, `None` when it is not served.
pub fn v3_document(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let _ = (registry, group, version);
    None
}
