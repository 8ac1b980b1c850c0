//! OpenAPI v3 documents from the schema table and the registry.
//!
//! kubectl reads them for `explain`, for the merge keys of client-side apply, and to see what a PATCH
//! understands (`dryRun`, `fieldValidation`). They hold names, types and extensions; descriptions are not kept.
//! Documents are built on every call: whoever serves them keeps them.

mod paths;
mod schemas;

#[cfg(test)]
mod tests;

use crate::registry::{Registry, Resource};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The path of a group and version below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The index at `/openapi/v3`: a path per group and version, each with the hash of its document.
pub fn v3_index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, version) in registry.group_versions() {
        let Some(document) = v3_document(registry, &group, &version) else { continue };
        let path = path_of(&group, &version);
        let url = format!("/openapi/v3/{path}?hash={}", hash(&document));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The hash of a document, as the index and its ETag name it.
pub fn hash(document: &Value) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, document.to_string().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The document of one group and version, `None` when it is not served.
pub fn v3_document(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let resources: Vec<&Arc<Resource>> = registry.in_group_version(group, version).collect();
    if resources.is_empty() {
        return None;
    }
    let mut roots = BTreeSet::new();
    let mut all = Map::new();
    for resource in resources {
        paths::add(resource, &mut all, &mut roots);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": all,
        "components": {"schemas": schemas::closure(roots)},
    }))
}
