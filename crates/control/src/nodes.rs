//! Nodes that fall silent, and pods that lost their node.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use api_client::{Informers, Key, WorkQueue};
use base::clock::SharedClock;
use base::task::Tasks;
use controllers::{node_lifecycle, pod_garbage, pods};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;

use crate::cache::Watched;
use crate::execute::Executor;
use crate::runner::{self, Round};

/// What wakes the two loops.
#[derive(Clone, Default)]
pub(crate) struct Queues {
    nodes: WorkQueue<String>,
    orphans: WorkQueue<()>,
}

impl Queues {
    /// A pod finished, or names a node that is not there.
    pub fn pod_changed(&self, nodes: &Watched<Node>, pod: &Pod) {
        let node = Key { namespace: String::new(), name: pods::node(pod).to_owned() };
        let lost = if node.name.is_empty() {
            pod.metadata.deletion_timestamp.is_some()
        } else {
            nodes.get(&node).is_none()
        };
        if lost || pods::is_terminal(pod) {
            self.orphans.add(());
        }
    }
}

struct Loops {
    executor: Executor,
    clock: SharedClock,
    nodes: Watched<Node>,
    /// The renewal last seen of each node, and when it was seen: the nodes' clocks are not trusted.
    heard: Mutex<HashMap<String, (Option<MicroTime>, i64)>>,
    /// Nodes that pods name and that are not there, and since when.
    missing: Mutex<HashMap<String, i64>>,
}

/// Starts the loops and the caches they watch.
pub(crate) fn start(
    executor: &Executor,
    informers: &Informers,
    nodes: &Watched<Node>,
    queues: &Queues,
    clock: &SharedClock,
    tasks: &Tasks,
) {
    let leases = Watched::new(informers.node_leases());
    let this = Arc::new(Loops {
        executor: executor.clone(),
        clock: clock.clone(),
        nodes: nodes.clone(),
        heard: Mutex::default(),
        missing: Mutex::default(),
    });
    let queue = queues.clone();
    nodes.watch(tasks, "nodes", move |node| {
        queue.nodes.add(node.name_any());
        queue.orphans.add(());
    });
    let one = this.clone();
    leases.watch(tasks, "node-leases", move |lease| one.hear(lease));
    let one = this.clone();
    runner::start(tasks, "node-lifecycle", 1, &queues.nodes, move |name| {
        let this = one.clone();
        async move { this.look(&name).await }
    });
    runner::start(tasks, "pod-gc", 1, &queues.orphans, move |()| {
        let this = this.clone();
        async move { this.collect().await }
    });
}

impl Loops {
    /// A Lease moved. The node's own timer reads it: no round is due for a healthy node.
    fn hear(&self, lease: &Lease) {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        let now_ms = self.clock.unix_ms();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = heard.entry(lease.name_any()).or_insert((None, now_ms));
        if entry.0 != renewed {
            *entry = (renewed, now_ms);
        }
    }

    /// When the node was last heard of; a node without a Lease counts from when it was first looked at.
    fn heard_ms(&self, name: &str) -> i64 {
        let now_ms = self.clock.unix_ms();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.entry(name.to_owned()).or_insert((None, now_ms)).1
    }

    async fn look(&self, name: &str) -> Round {
        let key = Key { namespace: String::new(), name: name.to_owned() };
        let Some(node) = self.nodes.get(&key) else {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            return Ok(None);
        };
        let plan = node_lifecycle::reconcile(self.clock.unix_ms(), &node, self.heard_ms(name));
        self.executor.run(plan).await
    }

    async fn collect(&self) -> Round {
        let all = self.executor.caches.pods.filtered(|_| true);
        let nodes = self.nodes.filtered(|_| true);
        let now_ms = self.clock.unix_ms();
        let (gone, wait) = self.quarantine(now_ms, pod_garbage::missing_nodes(&all, &nodes));
        self.executor.run(pod_garbage::reconcile(&all, &nodes, &gone)).await?;
        Ok(wait)
    }

    /// The missing nodes whose quarantine is over, and milliseconds until the next one's is.
    fn quarantine(&self, now_ms: i64, missing: BTreeSet<String>) -> (BTreeSet<String>, Option<i64>) {
        let mut since = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|name, _| missing.contains(name));
        let (mut gone, mut wait) = (BTreeSet::new(), None);
        for name in missing {
            let first = *since.entry(name.clone()).or_insert(now_ms);
            let left = first + pod_garbage::QUARANTINE_MS - now_ms;
            if left <= 0 {
                gone.insert(name);
            } else {
                wait = Some(wait.map_or(left, |least: i64| least.min(left)));
            }
        }
        (gone, wait)
    }
}
