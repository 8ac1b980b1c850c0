//! Nodes.

use serde_json::Value;

use super::{AGE, NAME, Printer, age_of, list_at, name_of, or_none, str_at, text, wide};

pub(super) const PRINTER: Printer = Printer {
    group: "",
    kind: "Node",
    columns: &[
        NAME,
        text("Status", "Whether the node takes pods"),
        text("Roles", "Roles given by node-role.kubernetes.io labels"),
        AGE,
        text("Version", "Version of the node agent"),
        wide("Internal-IP", "Address inside the cluster"),
        wide("External-IP", "Address outside the cluster"),
        wide("OS-Image", "Operating system"),
        wide("Kernel-Version", "Kernel"),
        wide("Container-Runtime", "What runs the containers"),
    ],
    row,
};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

fn row(node: &Value, now_ms: i64) -> Vec<Value> {
    let info = |field: &str| {
        let text = str_at(node, &format!("/status/nodeInfo/{field}"));
        if text.is_empty() { "<unknown>" } else { text }.to_owned()
    };
    vec![
        name_of(node),
        status(node).into(),
        or_none(roles(node).join(",")).into(),
        age_of(node, now_ms),
        str_at(node, "/status/nodeInfo/kubeletVersion").into(),
        address(node, "InternalIP").into(),
        address(node, "ExternalIP").into(),
        info("osImage").into(),
        info("kernelVersion").into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn status(node: &Value) -> String {
    let ready = list_at(node, "/status/conditions").iter().find(|c| str_at(c, "/type") == "Ready");
    let word = match ready.map(|c| str_at(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let unschedulable = node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
    if unschedulable { format!("{word},SchedulingDisabled") } else { word.into() }
}

fn roles(node: &Value) -> Vec<&str> {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) if !role.is_empty() => Some(role),
            None if key == "kubernetes.io/role" => value.as_str().filter(|v| !v.is_empty()),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn address(node: &Value, kind: &str) -> String {
    let found = list_at(node, "/status/addresses").iter().find(|a| str_at(a, "/type") == kind);
    or_none(found.map_or("", |a| str_at(a, "/address")))
}
