//! PodTopologySpread: how evenly matching pods lie over the values of a node label.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};

use crate::cluster::{Cluster, NodeInfo};
use crate::terms::selector_matches;

/// The pod's constraints, each with the pods counted by domain.
pub(crate) struct Spread<'a> {
    constraints: Vec<Counted<'a>>,
}

struct Counted<'a> {
    constraint: &'a TopologySpreadConstraint,
    /// Whether the pod itself would be counted.
    self_match: i64,
    by_domain: BTreeMap<String, i64>,
}

impl<'a> Spread<'a> {
    pub(crate) fn new(pod: &'a Pod, cluster: &Cluster) -> Self {
        let constraints = pod.spec.iter().flat_map(|s| s.topology_spread_constraints.iter().flatten());
        Self { constraints: constraints.map(|c| Counted::new(c, pod, cluster)).collect() }
    }

    /// The reason a node is refused, if it is.
    pub(crate) fn refuses(&self, node: &NodeInfo) -> Option<&'static str> {
        self.constraints
            .iter()
            .filter(|c| c.constraint.when_unsatisfiable == "DoNotSchedule")
            .find_map(|c| c.refuses(node))
    }

    /// How many matching pods are where the node is: fewer is better.
    pub(crate) fn crowding(&self, node: &NodeInfo) -> i64 {
        let soft = self.constraints.iter().filter(|c| c.constraint.when_unsatisfiable == "ScheduleAnyway");
        soft.filter_map(|c| c.by_domain.get(node.label(&c.constraint.topology_key)?)).sum()
    }
}

impl<'a> Counted<'a> {
    fn new(constraint: &'a TopologySpreadConstraint, pod: &Pod, cluster: &Cluster) -> Self {
        let selector = constraint.label_selector.as_ref();
        let counts = |other: &Pod| {
            other.metadata.namespace == pod.metadata.namespace
                && other.metadata.deletion_timestamp.is_none()
                && selector_matches(selector, other.metadata.labels.as_ref())
        };
        let mut by_domain = BTreeMap::new();
        for node in cluster.nodes() {
            if let Some(value) = node.label(&constraint.topology_key) {
                let here = node.pods.values().filter(|p| counts(p)).count() as i64;
                *by_domain.entry(value.to_owned()).or_default() += here;
            }
        }
        let self_match = i64::from(selector_matches(selector, pod.metadata.labels.as_ref()));
        Self { constraint, self_match, by_domain }
    }

    fn refuses(&self, node: &NodeInfo) -> Option<&'static str> {
        let Some(value) = node.label(&self.constraint.topology_key) else {
            return Some("node(s) didn't match pod topology spread constraints (missing required label)");
        };
        // With fewer domains than asked for, the emptiest counts as empty (KEP-3022).
        let enough = self.by_domain.len() as i64 >= i64::from(self.constraint.min_domains.unwrap_or(1));
        let least = if enough { self.by_domain.values().copied().min().unwrap_or(0) } else { 0 };
        let here = self.by_domain.get(value).copied().unwrap_or(0);
        let skew = here + self.self_match - least;
        (skew > i64::from(self.constraint.max_skew))
            .then_some("node(s) didn't match pod topology spread constraints")
    }
}
