//! Deployments and ReplicaSets.

use serde_json::Value;

use super::{
    AGE, CONTAINERS, IMAGES, NAME, Printer, SELECTOR, age_of, int_at, list_at, name_of, number, str_at, text,
};

pub(super) const DEPLOYMENT: Printer = Printer {
    group: "apps",
    kind: "Deployment",
    columns: &[
        NAME,
        text("Ready", "Ready pods of desired pods"),
        number("Up-to-date", "Pods of the current template"),
        number("Available", "Pods ready for at least minReadySeconds"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    row: |object, now_ms| {
        let ready = int_at(object, "/status/readyReplicas");
        let mut row = vec![
            name_of(object),
            format!("{ready}/{}", int_at(object, "/spec/replicas")).into(),
            int_at(object, "/status/updatedReplicas").into(),
            int_at(object, "/status/availableReplicas").into(),
            age_of(object, now_ms),
        ];
        row.extend(template_cells(object));
        row
    },
};

pub(super) const REPLICA_SET: Printer = Printer {
    group: "apps",
    kind: "ReplicaSet",
    columns: &[
        NAME,
        number("Desired", "Pods asked for"),
        number("Current", "Pods that exist"),
        number("Ready", "Pods that are ready"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    row: |object, now_ms| {
        let mut row = vec![
            name_of(object),
            int_at(object, "/spec/replicas").into(),
            int_at(object, "/status/replicas").into(),
            int_at(object, "/status/readyReplicas").into(),
            age_of(object, now_ms),
        ];
        row.extend(template_cells(object));
        row
    },
};

/// Containers, images and selector of a workload.
fn template_cells(object: &Value) -> [Value; 3] {
    let containers = list_at(object, "/spec/template/spec/containers");
    let join = |field: &str| containers.iter().map(|c| str_at(c, field)).collect::<Vec<_>>().join(",");
    let selector = object.pointer("/spec/selector").map_or_else(|| "<none>".into(), selector_text);
    [join("/name").into(), join("/image").into(), selector.into()]
}

/// A LabelSelector as upstream formats it: labels sorted, then expressions.
pub(super) fn selector_text(selector: &Value) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut parts: Vec<String> =
        labels.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    parts.sort_unstable();
    for expression in list_at(selector, "/matchExpressions") {
        let key = str_at(expression, "/key");
        let mut values: Vec<&str> = list_at(expression, "/values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match str_at(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    super::or_none(parts.join(","))
}
