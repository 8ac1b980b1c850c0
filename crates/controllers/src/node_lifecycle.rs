//! Nodes: silent ones become Unknown, and conditions become taints.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};

use crate::action::{Action, EventType, Notice, Target};
use crate::meta;

/// Who speaks in the events.
pub const COMPONENT: &str = "node-controller";
/// A node whose Lease is not renewed for this long is Unknown (upstream's `--node-monitor-grace-period`).
pub const GRACE_MS: i64 = 50_000;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that taint a node while True.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// Conditions that only the kubelet knows, and nobody once it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What one node needs. `heard_ms` is when its Lease or status last moved, as seen by this process.
#[must_use]
pub fn reconcile(now_ms: i64, node: &Node, heard_ms: i64) -> Vec<Action> {
    if meta::is_deleting(&node.metadata) {
        return Vec::new();
    }
    let left = heard_ms + GRACE_MS - now_ms;
    let mut actions = Vec::new();
    let mut seen = node.clone();
    if left <= 0 {
        silence(now_ms, &mut seen);
        let (old, new) = (node.status.clone().unwrap_or_default(), seen.status.clone().unwrap_or_default());
        if let Some(patch) = Action::status(node, &old, &new) {
            actions.push(patch);
            actions.push(not_ready(node));
        }
    } else {
        actions.push(Action::LookAgain { after_ms: left });
    }
    let taints = taints(now_ms, &seen);
    if !same(&taints, node.spec.as_ref().and_then(|spec| spec.taints.as_ref())) {
        let body = serde_json::json!({
            "metadata": {"resourceVersion": node.metadata.resource_version, "uid": node.metadata.uid},
            "spec": {"taints": if taints.is_empty() { None } else { Some(taints) }},
        });
        // The taints stand first: the status patch would move the version they are guarded by.
        actions.insert(0, Action::patch(node, body));
    }
    actions
}

fn not_ready(node: &Node) -> Action {
    Action::Tell(Notice {
        about: Target::of(node),
        kind: EventType::Normal,
        reason: "NodeNotReady",
        message: format!("Node {} status is now: NodeNotReady", meta::name(&node.metadata)),
        component: COMPONENT,
    })
}

/// Every condition of the kubelet's becomes Unknown.
fn silence(now_ms: i64, node: &mut Node) {
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in REPORTED {
        let never = !conditions.iter().any(|one| one.type_ == kind);
        if never {
            conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_transition_time: Some(meta::time(now_ms)),
                ..NodeCondition::default()
            });
        }
    }
    for one in conditions.iter_mut().filter(|one| REPORTED.contains(&one.type_.as_str())) {
        if one.status != "Unknown" {
            one.status = "Unknown".to_owned();
            one.reason = Some("NodeStatusUnknown".to_owned());
            one.message = Some("Kubelet stopped posting node status.".to_owned());
            one.last_transition_time = Some(meta::time(now_ms));
        }
    }
}

/// The node's taints with ours brought up to date; taints of others keep their places.
fn taints(now_ms: i64, node: &Node) -> Vec<Taint> {
    let mut wanted = conditions_as_taints(node);
    let spec = node.spec.as_ref();
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key)
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let old = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut out: Vec<Taint> = old.into_iter().filter(|taint| !ours(taint) || is_wanted(taint)).collect();
    for (key, effect) in wanted {
        if !out.iter().any(|taint| taint.key == key && taint.effect == effect) {
            let time_added = Some(meta::time(now_ms));
            out.push(Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added });
        }
    }
    out
}

fn conditions_as_taints(node: &Node) -> Vec<(&'static str, &'static str)> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let status = |kind: &str| {
        let found = conditions.into_iter().flatten().find(|one| one.type_ == kind);
        found.map_or("", |one| one.status.as_str())
    };
    let mut wanted = match status("Ready") {
        "True" => Vec::new(),
        "Unknown" => vec![(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
        "False" => vec![(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
        // Admission put this on the new node; it goes when Ready is first True.
        _ => vec![(NOT_READY, "NoSchedule")],
    };
    for (condition, key) in PRESSURES {
        if status(condition) == "True" {
            wanted.push((key, "NoSchedule"));
        }
    }
    wanted
}

fn same(a: &[Taint], b: Option<&Vec<Taint>>) -> bool {
    let key = |taint: &Taint| (taint.key.clone(), taint.effect.clone(), taint.value.clone());
    a.iter().map(key).eq(b.into_iter().flatten().map(key))
}
