//! Discovery: what is served, in the old form (a document per group and version) and the aggregated one (KEP-3352).

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use kube_types::registry::{GroupVersionKind, Registry, Resource, Verb};
use serde_json::{Map, Value, json};

/// A number that changes when the bytes do; for ETags.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    let mut words: Vec<_> = verbs.iter().map(|v| v.as_str()).collect();
    words.sort_unstable();
    words
}

/// `/api`.
pub(crate) fn versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

/// Groups with their versions, preferred first; without the core group.
fn named_groups(registry: &Registry) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (group, version) in registry.group_versions().into_iter().filter(|(g, _)| !g.is_empty()) {
        match groups.iter_mut().find(|(g, _)| *g == group) {
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    groups
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({ "groupVersion": format!("{group}/{v}"), "version": v });
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// `/apis`.
pub(crate) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = named_groups(registry).iter().map(|(g, v)| group_value(g, v)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/<group>`.
pub(crate) fn group(registry: &Registry, name: &str) -> Option<Value> {
    let (group, versions) = named_groups(registry).into_iter().find(|(g, _)| g == name)?;
    let mut value = group_value(&group, &versions);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for resource in registry.in_group_version(group, version) {
        list.push(resource_value(resource));
        list.extend(resource.subresources.iter().map(|sub| {
            let mut value = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": sub.gvk.kind, "verbs": verbs(&sub.verbs),
            });
            if (&sub.gvk.group, &sub.gvk.version) != (&resource.gvk.group, &resource.gvk.version) {
                value["group"] = json!(sub.gvk.group);
                value["version"] = json!(sub.gvk.version);
            }
            value
        }));
    }
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let document = json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": list });
    (!list.is_empty()).then_some(document)
}

fn resource_value(resource: &Resource) -> Value {
    let mut value = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.gvk.kind, "verbs": verbs(&resource.verbs),
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if !resource.is_virtual() {
        value["storageVersionHash"] = json!(resource.storage_version_hash());
    }
    value
}

/// `/api` and `/apis` as `apidiscovery.k8s.io/v2` APIGroupDiscoveryList.
pub(crate) fn aggregated(registry: &Registry, core: bool) -> Value {
    let groups = if core { vec![(String::new(), vec!["v1".to_owned()])] } else { named_groups(registry) };
    let items: Vec<Value> =
        groups.iter().map(|(group, versions)| aggregated_group(registry, group, versions)).collect();
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items })
}

fn aggregated_group(registry: &Registry, group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> =
                registry.in_group_version(group, version).map(aggregated_resource).collect();
            json!({ "version": version, "resources": resources, "freshness": "Current" })
        })
        .collect();
    let mut metadata = Map::new();
    if !group.is_empty() {
        metadata.insert("name".into(), json!(group));
    }
    json!({ "metadata": metadata, "versions": versions })
}

fn kind(gvk: &GroupVersionKind) -> Value {
    json!({ "group": gvk.group, "version": gvk.version, "kind": gvk.kind })
}

fn aggregated_resource(resource: &Arc<Resource>) -> Value {
    let mut value = json!({
        "resource": resource.plural, "responseKind": kind(&resource.gvk),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": verbs(&resource.verbs),
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|s| json!({ "subresource": s.name, "responseKind": kind(&s.gvk), "verbs": verbs(&s.verbs) }))
        .collect();
    if !subresources.is_empty() {
        value["subresources"] = json!(subresources);
    }
    value
}
