//! Pods that nobody will ever finish: on nodes that are gone, or finished in great numbers.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::action::{Action, Target};
use crate::{meta, pods};

/// Finished pods kept for people to look at (upstream's `--terminated-pod-gc-threshold`).
pub const FINISHED_MAX: usize = 12_500;
/// How long a node must be missing before its pods are taken away: its informer may lag.
pub const QUARANTINE_MS: i64 = 40_000;

/// The pods to remove. `gone` are nodes that were missing for [`QUARANTINE_MS`].
#[must_use]
pub fn reconcile(all: &[Arc<Pod>], nodes: &[Arc<Node>], gone: &BTreeSet<String>) -> Vec<Action> {
    let there: BTreeSet<&str> = nodes.iter().map(|node| meta::name(&node.metadata)).collect();
    let orphaned = |pod: &&Arc<Pod>| {
        let node = pods::node(pod);
        (!node.is_empty() && !there.contains(node) && gone.contains(node))
            || (node.is_empty() && meta::is_deleting(&pod.metadata))
    };
    let mut actions: Vec<Action> = all.iter().filter(orphaned).flat_map(|pod| orphan(pod)).collect();
    let mut finished: Vec<&Arc<Pod>> = all.iter().filter(|pod| pods::is_terminal(pod)).collect();
    let surplus = finished.len().saturating_sub(FINISHED_MAX);
    finished.sort_by_key(|pod| (meta::created_ms(&pod.metadata), pod.metadata.name.clone()));
    actions.extend(finished.into_iter().take(surplus).map(|pod| remove(pod)));
    actions
}

/// The nodes that pods name and that are not there.
#[must_use]
pub fn missing_nodes(all: &[Arc<Pod>], nodes: &[Arc<Node>]) -> BTreeSet<String> {
    let there: BTreeSet<&str> = nodes.iter().map(|node| meta::name(&node.metadata)).collect();
    let named = all.iter().map(|pod| pods::node(pod));
    named.filter(|node| !node.is_empty() && !there.contains(node)).map(str::to_owned).collect()
}

fn orphan(pod: &Pod) -> Vec<Action> {
    let mut actions = Vec::new();
    if !pods::is_terminal(pod) {
        let body = serde_json::json!({"status": {"phase": "Failed"}});
        actions.push(Action::Patch { target: Target::of(pod), subresource: "status", body });
    }
    actions.push(remove(pod));
    actions
}

/// A pod of a node that is gone has no kubelet to confirm its end: the executor deletes with grace 0.
fn remove(pod: &Pod) -> Action {
    Action::Force { target: Target::of(pod) }
}
