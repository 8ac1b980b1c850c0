//! Endpoints behind Services.

use api_client::{Informers, Key, WorkQueue};
use base::task::Tasks;
use controllers::{endpoints, selector};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use crate::cache::Watched;
use crate::execute::Executor;
use crate::runner::{self, Round, WORKERS};

/// What wakes the endpoints of Services.
#[derive(Clone, Default)]
pub(crate) struct Queues(pub WorkQueue<Key>);

impl Queues {
    /// The Services that pick a pod look at it; one that picked it before its labels changed is found by its slices.
    pub fn pod_changed(&self, services: &Watched<Service>, slices: &Watched<EndpointSlice>, pod: &Pod) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for service in services.in_namespace(namespace) {
            let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if wanted.is_some_and(|wanted| {
                !wanted.is_empty() && selector::matches_map(wanted, pod.metadata.labels.as_ref())
            }) {
                self.0.add(Key::of(&*service));
            }
        }
        let uid = pod.metadata.uid.as_deref();
        for slice in slices.in_namespace(namespace) {
            let holds = slice.endpoints.iter().flatten().filter_map(|one| one.target_ref.as_ref());
            if holds.into_iter().any(|target| target.uid.as_deref() == uid) {
                self.slice_changed(&slice);
            }
        }
    }

    /// The Service of a slice looks at it: somebody may have changed what is ours.
    pub fn slice_changed(&self, slice: &EndpointSlice) {
        if let Some(name) = slice.labels().get(endpoints::SERVICE_NAME) {
            let namespace = slice.namespace().unwrap_or_default();
            self.0.add(Key { namespace, name: name.clone() });
        }
    }

    /// Endpoints have their Service's name.
    pub fn endpoints_changed(&self, endpoints: &Endpoints) {
        self.0.add(Key::of(endpoints));
    }
}

/// Starts the loop.
pub(crate) fn start(
    executor: &Executor,
    informers: &Informers,
    services: &Watched<Service>,
    queues: &Queues,
    tasks: &Tasks,
) {
    let (executor, services, nodes) = (executor.clone(), services.clone(), informers.nodes().clone());
    runner::start(tasks, "endpointslice", WORKERS, &queues.0, move |key| {
        let (executor, services, nodes) = (executor.clone(), services.clone(), nodes.all());
        async move { reconcile(&executor, &services, &nodes, &key).await }
    });
}

async fn reconcile(
    executor: &Executor,
    services: &Watched<Service>,
    nodes: &[std::sync::Arc<k8s_openapi::api::core::v1::Node>],
    key: &Key,
) -> Round {
    let slices = executor.caches.slices.in_namespace(&key.namespace);
    let Some(service) = services.get(key) else { return clear(executor, &slices, key).await };
    let pods = executor.caches.pods.in_namespace(&key.namespace);
    let legacy = executor.caches.endpoints.get(key);
    let snapshot = endpoints::Snapshot {
        service: &service,
        pods: &pods,
        slices: &slices,
        endpoints: legacy.as_deref(),
        nodes,
    };
    let mut plan = endpoints::reconcile_slices(&snapshot);
    plan.extend(endpoints::reconcile_endpoints(&snapshot));
    executor.run(plan).await
}

/// The Service is gone: its Endpoints go with it. Its slices are garbage-collected by their owner reference.
async fn clear(executor: &Executor, slices: &[std::sync::Arc<EndpointSlice>], key: &Key) -> Round {
    let had_slices = slices.iter().any(|slice| {
        slice.labels().get(endpoints::SERVICE_NAME) == Some(&key.name)
            && slice.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty())
    });
    let Some(legacy) = executor.caches.endpoints.get(key) else { return Ok(None) };
    let managed = legacy.labels().contains_key("endpoints.kubernetes.io/managed-by");
    if managed || had_slices {
        return executor.run(vec![controllers::Action::delete(&*legacy)]).await;
    }
    Ok(None)
}
