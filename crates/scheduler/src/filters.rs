//! Filters: may this pod run on that node? Reasons are worded as kube-scheduler words them.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Taint, Toleration};

use crate::affinity::PodAffinity;
use crate::cluster::{Cluster, NodeInfo, host_ports};
use crate::resources::{Amounts, assumed_requests, requests};
use crate::spread::Spread;
use crate::terms::node_matches;

/// Taint that `kubectl cordon` amounts to.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Pods of a node when it does not say how many it takes.
const PODS_DEFAULT: i64 = 110;

/// A pod with all that is the same for every node.
pub(crate) struct Context<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a PodSpec,
    pub(crate) requests: Amounts,
    pub(crate) assumed: Amounts,
    pub(crate) affinity: PodAffinity<'a>,
    pub(crate) spread: Spread<'a>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(pod: &'a Pod, cluster: &'a Cluster) -> Self {
        // A pod without a spec does not pass validation; the constant only gives it a lifetime.
        static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
        let spec = pod.spec.as_ref().unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default));
        Self {
            pod,
            spec,
            requests: requests(pod),
            assumed: assumed_requests(pod),
            affinity: PodAffinity::new(pod, cluster),
            spread: Spread::new(pod, cluster),
        }
    }

    /// Passes, or every reason of the first filter that refuses.
    pub(crate) fn check(&self, node: &NodeInfo) -> Result<(), Vec<String>> {
        self.name(node)
            .or_else(|| self.unschedulable(node))
            .or_else(|| self.taints(node))
            .or_else(|| self.node_affinity(node))
            .or_else(|| self.ports(node))
            .map_or(Ok(()), |reason| Err(vec![reason]))?;
        let short = self.shortages(node);
        if !short.is_empty() {
            return Err(short);
        }
        let last = self.spread.refuses(node).or_else(|| self.affinity.refuses(node));
        last.map_or(Ok(()), |reason| Err(vec![reason.to_owned()]))
    }

    fn name(&self, node: &NodeInfo) -> Option<String> {
        let wanted = self.spec.node_name.as_deref().filter(|n| !n.is_empty())?;
        (wanted != node.name()).then(|| "node(s) didn't match the requested node name".into())
    }

    fn unschedulable(&self, node: &NodeInfo) -> Option<String> {
        let cordoned = node.node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
        let taint = Taint { key: UNSCHEDULABLE.into(), effect: "NoSchedule".into(), ..Taint::default() };
        (cordoned && !self.tolerates(&taint)).then(|| "node(s) were unschedulable".into())
    }

    fn taints(&self, node: &NodeInfo) -> Option<String> {
        let taints = node.node.spec.iter().flat_map(|s| s.taints.iter().flatten());
        let refused = taints
            .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
            .find(|t| !self.tolerates(t))?;
        let value = refused.value.as_deref().unwrap_or("");
        Some(format!("node(s) had untolerated taint {{{}: {value}}}", refused.key))
    }

    /// Whether any toleration of the pod covers a taint.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        self.spec.tolerations.iter().flatten().any(|t| covers(t, taint))
    }

    fn node_affinity(&self, node: &NodeInfo) -> Option<String> {
        let selected = self.spec.node_selector.iter().flatten().all(|(k, v)| node.label(k) == Some(v));
        let required = self
            .spec
            .affinity
            .as_ref()
            .and_then(|a| a.node_affinity.as_ref())
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let matched = required.is_none_or(|r| r.node_selector_terms.iter().any(|t| node_matches(t, node)));
        (!selected || !matched).then(|| "node(s) didn't match Pod's node affinity/selector".into())
    }

    fn ports(&self, node: &NodeInfo) -> Option<String> {
        const ANY: &str = "0.0.0.0";
        let clashes = |(address, protocol, port): &(String, String, i32)| {
            node.ports.iter().any(|(used_address, used_protocol, used_port)| {
                used_port == port
                    && used_protocol == protocol
                    && (used_address == address || address == ANY || used_address == ANY)
            })
        };
        host_ports(self.pod)
            .iter()
            .any(clashes)
            .then(|| "node(s) didn't have free ports for the requested pod ports".into())
    }

    fn shortages(&self, node: &NodeInfo) -> Vec<String> {
        let mut short = Vec::new();
        let most = node.allocatable.0.get("pods").copied().unwrap_or(PODS_DEFAULT);
        if node.pods.len() as i64 + 1 > most {
            short.push("Too many pods".into());
        }
        for (name, wanted) in self.requests.0.iter().filter(|(_, wanted)| **wanted > 0) {
            if wanted + node.requested.get(name) > node.allocatable.get(name) {
                short.push(format!("Insufficient {name}"));
            }
        }
        short
    }
}

/// Whether a toleration covers a taint: no effect covers every effect, no key with Exists every key.
fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |t: &Option<String>| t.as_deref().unwrap_or("").to_owned();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => !key.is_empty() && text(&toleration.value) == text(&taint.value),
    }
}
