//! The downward API: fields of a pod and resources of its containers as text.

use crate::resources::milli;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// What the node adds to a pod's own fields.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// `status.hostIP`.
    pub host_ip: String,
    /// `status.podIP`, empty until the sandbox is attached.
    pub pod_ip: String,
    /// Allocatable millicores: the value of an absent CPU limit.
    pub cpu_milli: i64,
    /// Allocatable bytes: the value of an absent memory limit.
    pub memory_bytes: i64,
}

/// The text of `fieldPath`, or why there is none.
///
/// # Errors
/// The path is not one the downward API knows.
pub fn field(pod: &Pod, path: &str, facts: &NodeFacts) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = keyed(path) {
        let list = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(list.and_then(|list| list.get(key)).cloned().unwrap_or_default());
    }
    let text = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(map_text(meta.labels.as_ref())),
        "metadata.annotations" => Some(map_text(meta.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.hostIP" | "status.hostIPs" => Some(facts.host_ip.clone()),
        "status.podIP" | "status.podIPs" => Some(facts.pod_ip.clone()),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    };
    Ok(text.unwrap_or_default())
}

/// `metadata.labels['key']` in two.
fn keyed(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` line each, as in a downward API volume.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`: the amount over its divisor, rounded up.
///
/// # Errors
/// The resource or the container is unknown.
pub fn resource(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    facts: &NodeFacts,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => own,
        Some(name) => pod
            .spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
            .find(|container| container.name == name)
            .ok_or_else(|| format!("container {name:?} not found"))?,
    };
    let (list_name, resource) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported resource {:?}", selector.resource))?;
    let requirements = container.resources.as_ref();
    let list = match list_name {
        "limits" => requirements.and_then(|r| r.limits.as_ref()),
        "requests" => requirements.and_then(|r| r.requests.as_ref()),
        _ => return Err(format!("unsupported resource {:?}", selector.resource)),
    };
    let given = list.and_then(|list| list.get(resource)).and_then(milli);
    let amount =
        given.unwrap_or_else(|| if list_name == "limits" { default_limit(resource, facts) } else { 0 });
    let divisor = selector.divisor.as_ref().and_then(milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
    Ok((amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0)).to_string())
}

fn default_limit(resource: &str, facts: &NodeFacts) -> i128 {
    match resource {
        "cpu" => i128::from(facts.cpu_milli),
        "memory" => i128::from(facts.memory_bytes) * 1000,
        _ => 0,
    }
}
