//! What controllers ask of a pod, and which pod goes first when there are too many.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::meta;

/// Lower cost goes first (KEP-2255).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The phase, empty when the kubelet has not spoken.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Succeeded or Failed: its containers will never run again.
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor on its way out.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !meta::is_deleting(&pod.metadata)
}

/// One condition.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// The Ready condition is True.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when it is ready, milliseconds since 1970.
#[must_use]
pub fn ready_since_ms(pod: &Pod) -> Option<i64> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(meta::unix_ms)
}

/// Milliseconds until a ready pod counts as available; None when it is not ready, 0 when it is available.
#[must_use]
pub fn available_in_ms(pod: &Pod, min_ready_seconds: i32, now_ms: i64) -> Option<i64> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds <= 0 {
        return Some(0);
    }
    let since = ready_since_ms(pod)?;
    Some((since + i64::from(min_ready_seconds) * 1000 - now_ms).max(0))
}

/// The `count` pods to delete first: unassigned, then pending, unready, cheap, crowded, fresh, restarted, young.
#[must_use]
pub fn first_to_delete(mut pods: Vec<Arc<Pod>>, count: usize) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut crowd: BTreeMap<String, usize> = BTreeMap::new();
        for pod in &pods {
            *crowd.entry(node(pod).to_owned()).or_default() += 1;
        }
        pods.sort_by(|a, b| deletion_order(a, b, &crowd));
        pods.truncate(count);
    }
    pods
}

fn deletion_order(a: &Pod, b: &Pod, crowd: &BTreeMap<String, usize>) -> Ordering {
    let crowded = |pod: &Pod| crowd.get(node(pod)).copied().unwrap_or_default();
    node(b)
        .is_empty()
        .cmp(&node(a).is_empty())
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| crowded(b).cmp(&crowded(a)))
        .then_with(|| ready_since_ms(b).cmp(&ready_since_ms(a)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| meta::created_ms(&b.metadata).cmp(&meta::created_ms(&a.metadata)))
        .then_with(|| meta::name(&a.metadata).cmp(meta::name(&b.metadata)))
}

/// The node it runs on; empty while unassigned.
#[must_use]
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    meta::annotation(&pod.metadata, DELETION_COST).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or_default()
}
