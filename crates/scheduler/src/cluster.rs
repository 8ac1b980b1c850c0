//! What the scheduler knows: nodes with the pods on them, those it has just placed included.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::resources::{Amounts, allocatable, assumed_requests, requests};

/// A node and what is on it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// What the node offers.
    pub allocatable: Amounts,
    /// What its pods asked for.
    pub requested: Amounts,
    /// The same with defaults for pods that asked for nothing; for scores.
    pub assumed: Amounts,
    /// Ports of the host in use: address, protocol, port.
    pub ports: BTreeSet<(String, String, i32)>,
}

impl NodeInfo {
    fn new(node: Arc<Node>) -> Self {
        let allocatable = allocatable(&node);
        Self {
            node,
            pods: BTreeMap::new(),
            allocatable,
            requested: Amounts::default(),
            assumed: Amounts::default(),
            ports: BTreeSet::new(),
        }
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or("")
    }

    /// The value of a label of the node.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn insert(&mut self, pod: Arc<Pod>) {
        self.requested.add(&requests(&pod));
        self.assumed.add(&assumed_requests(&pod));
        self.ports.extend(host_ports(&pod));
        self.pods.insert(uid(&pod), pod);
    }

    fn remove(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        self.requested.subtract(&requests(&pod));
        self.assumed.subtract(&assumed_requests(&pod));
        for port in host_ports(&pod) {
            self.ports.remove(&port);
        }
    }
}

/// All nodes by name, in order.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, NodeInfo>,
    placed: BTreeMap<String, String>,
    /// Labels of namespaces, for affinity terms that select namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Cluster {
    /// The nodes in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds or replaces a node; its pods stay.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        match self.nodes.get_mut(&name) {
            Some(info) => {
                info.allocatable = allocatable(&node);
                info.node = node;
            }
            None => {
                self.nodes.insert(name, NodeInfo::new(node));
            }
        }
    }

    /// Forgets a node with its pods.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.remove(name) {
            info.pods.keys().for_each(|uid| drop(self.placed.remove(uid)));
        }
    }

    /// Notes a pod on its node (bound or just placed), or that it takes no room any more (ended).
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        let uid = uid(&pod);
        self.remove_pod(&uid);
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("");
        let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
        if node.is_empty() || matches!(phase, "Succeeded" | "Failed") {
            return;
        }
        if let Some(info) = self.nodes.get_mut(&node) {
            info.insert(pod);
            self.placed.insert(uid, node);
        }
    }

    /// Notes that the pod will be on `node` once its binding is written.
    pub fn assume(&mut self, pod: &Pod, node: &str) {
        let mut assumed = pod.clone();
        assumed.spec.get_or_insert_default().node_name = Some(node.to_owned());
        self.set_pod(Arc::new(assumed));
    }

    /// Forgets a pod by uid.
    pub fn remove_pod(&mut self, uid: &str) {
        if let Some(info) = self.placed.remove(uid).and_then(|node| self.nodes.get_mut(&node)) {
            info.remove(uid);
        }
    }
}

/// A pod's identity.
pub(crate) fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Ports of the host that a pod wants: address, protocol, port.
pub(crate) fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let address = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((address, p.protocol.clone().unwrap_or_else(|| "TCP".into()), port))
        })
        .collect()
}
