//! Scores: which of the nodes that may take the pod should. Each plugin's scores are normalized to 0..=100 and weighted as
//! in kube-scheduler's default profile.

use crate::cluster::NodeInfo;
use crate::filters::Context;
use crate::terms::node_matches;

const MAX: i64 = 100;
const WEIGHT_TAINTS: i64 = 3;
const WEIGHT_NODE_AFFINITY: i64 = 2;
const WEIGHT_POD_AFFINITY: i64 = 2;
const WEIGHT_SPREAD: i64 = 2;

/// The node with the best score; among equals the one that `tie` falls on.
pub(crate) fn best<'n>(context: &Context<'_>, nodes: &[&'n NodeInfo], tie: u64) -> &'n NodeInfo {
    let taints = normalize(nodes.iter().map(|n| -untolerated(context, n)).collect());
    let affinity = normalize(nodes.iter().map(|n| node_preference(context, n)).collect());
    let pods = normalize(nodes.iter().map(|n| context.affinity.score(n)).collect());
    let spread = normalize(nodes.iter().map(|n| -context.spread.crowding(n)).collect());
    let total = |i: usize| {
        WEIGHT_TAINTS * taints[i]
            + WEIGHT_NODE_AFFINITY * affinity[i]
            + WEIGHT_POD_AFFINITY * pods[i]
            + WEIGHT_SPREAD * spread[i]
            + room(context, nodes[i])
    };
    let scores: Vec<i64> = (0..nodes.len()).map(total).collect();
    let top = scores.iter().max().copied().unwrap_or(0);
    let equals: Vec<usize> = (0..nodes.len()).filter(|i| scores[*i] == top).collect();
    nodes[equals[(tie % equals.len() as u64) as usize]]
}

/// Shifts and scales so that the worst gets 0 and the best 100; all 0 when they are equal.
fn normalize(raw: Vec<i64>) -> Vec<i64> {
    let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    if most == least {
        return vec![0; raw.len()];
    }
    raw.into_iter().map(|score| (score - least) * MAX / (most - least)).collect()
}

/// Taints that only ask pods to stay away.
fn untolerated(context: &Context<'_>, node: &NodeInfo) -> i64 {
    let taints = node.node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| t.effect == "PreferNoSchedule" && !context.tolerates(t)).count() as i64
}

fn node_preference(context: &Context<'_>, node: &NodeInfo) -> i64 {
    let affinity = context.spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let preferences =
        affinity.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    preferences.filter(|p| node_matches(&p.preference, node)).map(|p| i64::from(p.weight)).sum()
}

/// LeastAllocated plus BalancedAllocation over CPU and memory.
fn room(context: &Context<'_>, node: &NodeInfo) -> i64 {
    let used = ["cpu", "memory"].map(|name| {
        let (have, asked) = (node.allocatable.get(name), node.assumed.get(name) + context.assumed.get(name));
        if have <= 0 { MAX } else { (asked * MAX / have).min(MAX) }
    });
    let least_allocated = used.iter().map(|u| MAX - u).sum::<i64>() / used.len() as i64;
    let balanced = MAX - (used[0] - used[1]).abs() / 2;
    least_allocated + balanced
}
