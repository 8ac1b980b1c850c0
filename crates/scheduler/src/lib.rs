//! Where a pod goes: filters take nodes out, scores order the rest. Pure: nodes and pods in, a decision out.
//!
//! ```text
//! pending pod ──▶ Queue (priority, then age) ──▶ place(pod, cluster)
//!                   ▲  back-off, unschedulable          │ filters: each node passes or names its reason
//!                   └──────── wake on events ◀──────────┤ scores: the best of what is left
//!                                                       ▼
//!                                         Decision::Node | Decision::Unschedulable
//! ```
//!
//! Filters and scores are those of kube-scheduler's default profile: NodeUnschedulable, NodeName, TaintToleration,
//! NodeAffinity, NodePorts, NodeResourcesFit, PodTopologySpread, InterPodAffinity; LeastAllocated, BalancedAllocation,
//! and the preferred halves of taints, affinity and spread.

mod affinity;
mod cluster;
mod filters;
mod queue;
mod resources;
mod scores;
mod spread;
mod terms;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

pub use cluster::{Cluster, NodeInfo};
pub use queue::{Queue, QueuedPod};
pub use resources::Amounts;

/// What was decided about one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes to this node.
    Node(String),
    /// No node takes it; the text is the one that users know from FailedScheduling events.
    Unschedulable(String),
}

/// Chooses a node for `pod`. Equal scores are broken by `tie`, a number that varies from pod to pod.
#[must_use]
pub fn place(pod: &Pod, cluster: &Cluster, tie: u64) -> Decision {
    let context = filters::Context::new(pod, cluster);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible = Vec::new();
    for node in cluster.nodes() {
        match context.check(node) {
            Ok(()) => feasible.push(node),
            Err(why) => why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
    }
    if feasible.is_empty() {
        return Decision::Unschedulable(explain(cluster.len(), &reasons));
    }
    let best = scores::best(&context, &feasible, tie);
    Decision::Node(best.name().to_owned())
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: ...`
fn explain(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut parts: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort_unstable();
    let preemption =
        format!("0/{nodes} nodes are available: {nodes} No preemption victims found for incoming pod.");
    format!("0/{nodes} nodes are available: {}. preemption: {preemption}", parts.join(", "))
}

/// Whether the pod waits for its gates and must not be tried.
#[must_use]
pub fn is_gated(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}

/// Whether this scheduler is asked to place the pod: no node yet, not ending, addressed to `name`.
#[must_use]
pub fn wants_placing(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
    spec.node_name.as_deref().unwrap_or("").is_empty()
        && pod.metadata.deletion_timestamp.is_none()
        && spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == name
        && !matches!(phase, "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests;
