//! The Node authorizer's graph: a node agent reads those secrets and config maps that pods on its node name.
//!
//! ```text
//! node ── pods cache (spec.nodeName) ──▶ pods of the namespace ── references in the spec ──▶ yes | no
//! ```

use std::sync::Arc;

use identity::{UserInfo, groups};
use kube_types::path;
use kube_types::registry::Resource;
use kube_types::selector::FieldSelector;
use serde_json::Value;

use crate::http::query::Query;
use crate::http::target::Target;
use crate::server::Server;

/// The name of the node whose agent this is.
pub(crate) fn of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.in_group(groups::NODES))
}

/// Whether a node agent may read this: only for secrets and config maps, one by one.
pub(crate) async fn may_read(server: &Arc<Server>, user: &UserInfo, target: &Target, query: &Query) -> bool {
    let Some(node) = of(user) else { return false };
    let reads = matches!(target.verb, "get" | "list" | "watch") && target.subresource.is_empty();
    if !reads || !target.group.is_empty() || target.namespace.is_empty() {
        return false;
    }
    let keys: &[Reference] = match target.resource.as_str() {
        "secrets" => &SECRET_KEYS,
        "configmaps" => &CONFIG_MAP_KEYS,
        _ => return false,
    };
    let Some(resource) = server.registry.find("", &target.version, &target.resource) else { return false };
    let Some(name) = one_name(resource, target, query) else { return false };
    let Some(pods) = server.registry.find("", "v1", "pods") else { return false };
    let cache = server.cache(pods);
    cache.fresh(server.revision()).await;
    let on_node = |fields: &[(&str, String)]| fields.iter().any(|(l, v)| *l == "spec.nodeName" && v == node);
    let pods = cache.list(&target.namespace, None).items;
    pods.iter().filter(|pod| on_node(&pod.fields)).any(|pod| names(&pod.value()["spec"], keys, &name))
}

/// The one name a request is about, on its path or in its field selector.
fn one_name(resource: &Resource, target: &Target, query: &Query) -> Option<String> {
    if !target.name.is_empty() {
        return Some(target.name.clone());
    }
    let selector = FieldSelector::parse(resource, query.text("fieldSelector")?).ok()?;
    selector.exact_name().map(str::to_owned)
}

/// A key of a pod's spec under which an object is named, and by which field.
type Reference = (&'static str, &'static str);

const SECRET_KEYS: [Reference; 5] = [
    ("secret", "secretName"),
    ("secret", "name"),
    ("secretKeyRef", "name"),
    ("secretRef", "name"),
    ("imagePullSecrets", "name"),
];
const CONFIG_MAP_KEYS: [Reference; 3] =
    [("configMap", "name"), ("configMapKeyRef", "name"), ("configMapRef", "name")];

/// Whether a value names the object under one of these keys, however deep.
fn names(value: &Value, keys: &[Reference], name: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| names(item, keys, name)),
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let referred = |(k, field): &Reference| k == key && refers(value, field, name);
            keys.iter().any(referred) || names(value, keys, name)
        }),
        _ => false,
    }
}

fn refers(value: &Value, field: &str, name: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| refers(item, field, name)),
        other => path::text(other, &[field]) == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found() {
        let spec = json!({
            "volumes": [
                { "secret": { "secretName": "a" } },
                { "projected": { "sources": [{ "secret": { "name": "b" } }, { "configMap": { "name": "c" } }] } },
            ],
            "containers": [{ "env": [{ "name": "d", "valueFrom": { "secretKeyRef": { "name": "e", "key": "k" } } }] }],
            "imagePullSecrets": [{ "name": "f" }],
        });
        let found = |keys: &[Reference]| -> String {
            ["a", "b", "c", "d", "e", "f"].into_iter().filter(|name| names(&spec, keys, name)).collect()
        };
        assert_eq!((found(&SECRET_KEYS).as_str(), found(&CONFIG_MAP_KEYS).as_str()), ("abef", "c"));
    }
}
