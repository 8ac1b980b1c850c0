//! InterPodAffinity: near these pods, away from those, by a label of their nodes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::cluster::{Cluster, NodeInfo};
use crate::terms::selector_matches;

type Domains = BTreeSet<(String, String)>;

/// The pod's terms, and the domains (label, value) that existing pods make good or bad.
pub(crate) struct PodAffinity<'a> {
    required: Vec<&'a PodAffinityTerm>,
    /// For each required term, the domains that hold a matching pod.
    near: Vec<Domains>,
    /// Whether the pod would satisfy all of its own required terms: then the first of a group may start.
    first_of_group: bool,
    /// Domains where a required anti-affinity of the pod matches somebody.
    away: Domains,
    /// Domains where a pod that is there refuses this one.
    refused: Domains,
    /// Weights of domains by preference.
    preferred: BTreeMap<(String, String), i64>,
}

impl<'a> PodAffinity<'a> {
    pub(crate) fn new(pod: &'a Pod, cluster: &Cluster) -> Self {
        let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
        let required = required_terms(affinity, Side::Near);
        let near: Vec<Domains> = required.iter().map(|t| domains(t, pod, cluster)).collect();
        let first_of_group = !required.is_empty()
            && near.iter().all(Domains::is_empty)
            && required.iter().all(|t| term_matches(t, pod, pod, cluster));
        let away =
            required_terms(affinity, Side::Away).iter().flat_map(|t| domains(t, pod, cluster)).collect();
        Self {
            required,
            near,
            first_of_group,
            away,
            refused: refusals(pod, cluster),
            preferred: preferred(affinity, pod, cluster),
        }
    }

    /// The reason a node is refused, if it is.
    pub(crate) fn refuses(&self, node: &NodeInfo) -> Option<&'static str> {
        let in_domains =
            |domains: &Domains| domains.iter().any(|(key, value)| node.label(key) == Some(value));
        if in_domains(&self.refused) {
            return Some("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        if in_domains(&self.away) {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
        let has_keys = self.required.iter().all(|t| node.label(&t.topology_key).is_some());
        let satisfied = self.near.iter().all(in_domains) || self.first_of_group;
        (!has_keys || !satisfied).then_some("node(s) didn't match pod affinity rules")
    }

    /// The sum of the preferences that a node satisfies.
    pub(crate) fn score(&self, node: &NodeInfo) -> i64 {
        let holds = |(key, value): &(String, String)| node.label(key) == Some(value);
        self.preferred.iter().filter(|(domain, _)| holds(domain)).map(|(_, weight)| weight).sum()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Near,
    Away,
}

fn required_terms(affinity: Option<&Affinity>, side: Side) -> Vec<&PodAffinityTerm> {
    let Some(affinity) = affinity else { return Vec::new() };
    let terms = match side {
        Side::Near => affinity
            .pod_affinity
            .as_ref()
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref()),
        Side::Away => affinity
            .pod_anti_affinity
            .as_ref()
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref()),
    };
    terms.unwrap_or_default().iter().collect()
}

fn preferred_terms(affinity: Option<&Affinity>) -> Vec<(i64, &WeightedPodAffinityTerm)> {
    let Some(affinity) = affinity else { return Vec::new() };
    let near = affinity
        .pod_affinity
        .iter()
        .flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let away = affinity
        .pod_anti_affinity
        .iter()
        .flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    near.map(|t| (1, t)).chain(away.map(|t| (-1, t))).collect()
}

/// Whether `other` is meant by a term of `owner`.
fn term_matches(term: &PodAffinityTerm, owner: &Pod, other: &Pod, cluster: &Cluster) -> bool {
    let namespace = other.metadata.namespace.as_deref().unwrap_or("");
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let by_name = listed.iter().any(|n| n == namespace)
        || listed.is_empty()
            && term.namespace_selector.is_none()
            && owner.metadata.namespace.as_deref() == Some(namespace);
    let by_label = term.namespace_selector.is_some()
        && selector_matches(term.namespace_selector.as_ref(), cluster.namespaces.get(namespace));
    (by_name || by_label) && selector_matches(term.label_selector.as_ref(), other.metadata.labels.as_ref())
}

fn domains(term: &PodAffinityTerm, pod: &Pod, cluster: &Cluster) -> Domains {
    let with_match = cluster.nodes().filter(|n| n.pods.values().any(|p| term_matches(term, pod, p, cluster)));
    with_match.filter_map(|n| domain(n, &term.topology_key)).collect()
}

fn domain(node: &NodeInfo, key: &str) -> Option<(String, String)> {
    node.label(key).map(|value| (key.to_owned(), value.to_owned()))
}

/// Domains of pods whose own required anti-affinity matches the newcomer.
fn refusals(pod: &Pod, cluster: &Cluster) -> Domains {
    let mut refused = Domains::new();
    for node in cluster.nodes() {
        for there in node.pods.values() {
            let affinity = there.spec.as_ref().and_then(|s| s.affinity.as_ref());
            for term in required_terms(affinity, Side::Away) {
                if term_matches(term, there, pod, cluster) {
                    refused.extend(domain(node, &term.topology_key));
                }
            }
        }
    }
    refused
}

fn preferred(affinity: Option<&Affinity>, pod: &Pod, cluster: &Cluster) -> BTreeMap<(String, String), i64> {
    let mut weights = BTreeMap::new();
    for (sign, weighted) in preferred_terms(affinity) {
        let term = &weighted.pod_affinity_term;
        for node in cluster.nodes() {
            let matches = node.pods.values().filter(|p| term_matches(term, pod, p, cluster)).count() as i64;
            if let Some(domain) = domain(node, &term.topology_key).filter(|_| matches > 0) {
                *weights.entry(domain).or_default() += sign * matches * i64::from(weighted.weight);
            }
        }
    }
    weights
}
