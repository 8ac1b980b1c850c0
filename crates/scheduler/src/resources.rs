//! What pods ask for and nodes have, as whole numbers: CPU in thousandths, everything else in units.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube_types::quantity::Quantity;

/// CPU and memory that scoring assumes for a container that asks for nothing (upstream's non-zero defaults).
const ASSUMED_CPU_MILLI: i64 = 100;
const ASSUMED_MEMORY_BYTES: i64 = 200 << 20;

/// Amounts by resource name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(pub BTreeMap<String, i64>);

impl Amounts {
    /// The amount of one resource, 0 when absent.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, amount)| *self.0.entry(name.clone()).or_default() += amount);
    }

    /// Takes all of `other` away.
    pub fn subtract(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, amount)| *self.0.entry(name.clone()).or_default() -= amount);
    }

    /// Raises each resource to at least `other`'s.
    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }

    fn of(list: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let entries = list.into_iter().flatten();
        Self(entries.map(|(name, quantity)| (name.clone(), whole(name, &quantity.0))).collect())
    }
}

fn whole(name: &str, text: &str) -> i64 {
    // The API server validated it; a quantity that is none counts as nothing.
    let quantity: Quantity = text.parse().unwrap_or(Quantity::ZERO);
    if name == "cpu" { quantity.milli_value() } else { quantity.value() }
}

/// What a node offers to pods.
#[must_use]
pub fn allocatable(node: &Node) -> Amounts {
    Amounts::of(node.status.as_ref().and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref())))
}

/// What a pod asks for: containers and sidecars together, or the largest init container on top of the sidecars
/// started before it, whichever is more; overhead added (KEP-753).
#[must_use]
pub fn requests(pod: &Pod) -> Amounts {
    pod.spec.as_ref().map(|spec| requests_with(spec, container_requests)).unwrap_or_default()
}

/// As [`requests`], but with something assumed for containers that ask for nothing: only for scores.
#[must_use]
pub fn assumed_requests(pod: &Pod) -> Amounts {
    let assumed = |container: &Container| {
        let mut amounts = container_requests(container);
        amounts.0.entry("cpu".into()).or_insert(ASSUMED_CPU_MILLI);
        amounts.0.entry("memory".into()).or_insert(ASSUMED_MEMORY_BYTES);
        amounts
    };
    pod.spec.as_ref().map(|spec| requests_with(spec, assumed)).unwrap_or_default()
}

fn requests_with(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::default();
    spec.containers.iter().for_each(|c| running.add(&of(c)));
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&needed);
            sidecars.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        starting.raise_to(&needed);
    }
    running.raise_to(&starting);
    running.add(&Amounts::of(spec.overhead.as_ref()));
    running
}

fn container_requests(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let mut amounts = Amounts::of(resources.and_then(|r| r.limits.as_ref()));
    let requests = Amounts::of(resources.and_then(|r| r.requests.as_ref()));
    amounts.0.extend(requests.0);
    amounts
}
