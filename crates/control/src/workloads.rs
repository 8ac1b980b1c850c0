//! Deployments and ReplicaSets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api_client::{Failure, Key, WorkQueue};
use base::clock::SharedClock;
use base::task::Tasks;
use controllers::{Action, deployment, meta, replica_set, selector};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;

use crate::cache::Watched;
use crate::execute::{Caches, Error, Executor, short};
use crate::runner::{self, Round, WORKERS};

/// What wakes the two controllers.
#[derive(Clone, Default)]
pub(crate) struct Queues {
    pub deployments: WorkQueue<Key>,
    pub replica_sets: WorkQueue<Key>,
}

fn key(namespace: Option<&String>, name: &str) -> Key {
    Key { namespace: namespace.cloned().unwrap_or_default(), name: name.to_owned() }
}

impl Queues {
    /// A pod changed: its set looks, and its set's Deployment when old pods ended (Recreate waits for that).
    pub fn pod_changed(&self, caches: &Caches, pod: &Pod) {
        let namespace = pod.metadata.namespace.as_ref();
        match meta::controller(&pod.metadata) {
            Some(owner) if owner.kind == "ReplicaSet" => {
                let set = key(namespace, &owner.name);
                let ends = controllers::pods::is_terminal(pod) || meta::is_deleting(&pod.metadata);
                if let Some(set) = caches.replica_sets.get(&set).filter(|_| ends) {
                    self.wake_deployment(&set.metadata);
                }
                self.replica_sets.add(set);
            }
            Some(_) => {}
            None => self.wake_adopters(caches, pod),
        }
    }

    fn wake_adopters(&self, caches: &Caches, pod: &Pod) {
        for set in caches.replica_sets.in_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            let picks = set.spec.as_ref().map(|spec| &spec.selector);
            if picks.is_some_and(|picks| selector::matches(picks, pod.metadata.labels.as_ref())) {
                self.replica_sets.add(Key::of(&*set));
            }
        }
    }

    fn wake_deployment(&self, set: &ObjectMeta) {
        if let Some(owner) = meta::controller(set).filter(|owner| owner.kind == "Deployment") {
            self.deployments.add(key(set.namespace.as_ref(), &owner.name));
        }
    }

    /// A set changed: it looks, and so does its Deployment.
    pub fn set_changed(&self, deployments: &Watched<Deployment>, set: &ReplicaSet) {
        self.replica_sets.add(Key::of(set));
        if meta::controller(&set.metadata).is_some() {
            return self.wake_deployment(&set.metadata);
        }
        for one in deployments.in_namespace(set.metadata.namespace.as_deref().unwrap_or_default()) {
            let picks = one.spec.as_ref().map(|spec| &spec.selector);
            if picks.is_some_and(|picks| selector::matches(picks, set.metadata.labels.as_ref())) {
                self.deployments.add(Key::of(&*one));
            }
        }
    }
}

/// Both controllers' loops.
pub(crate) struct Workloads {
    executor: Executor,
    clock: SharedClock,
    deployments: Watched<Deployment>,
    /// Why a set's last plan failed; its condition says so until one succeeds.
    failures: Mutex<HashMap<Key, String>>,
}

/// Starts the loops. The caches of pods and sets are watched by the caller.
pub(crate) fn start(
    executor: &Executor,
    queues: &Queues,
    deployments: &Watched<Deployment>,
    clock: &SharedClock,
    tasks: &Tasks,
) {
    let this = Arc::new(Workloads {
        executor: executor.clone(),
        clock: clock.clone(),
        deployments: deployments.clone(),
        failures: Mutex::default(),
    });
    let one = this.clone();
    runner::start(tasks, "deployment", WORKERS, &queues.deployments, move |key| {
        let this = one.clone();
        async move { this.deployment(&key).await }
    });
    runner::start(tasks, "replicaset", WORKERS, &queues.replica_sets, move |key| {
        let this = this.clone();
        async move { this.replica_set(&key).await }
    });
}

impl Workloads {
    async fn deployment(&self, key: &Key) -> Round {
        let Some(deployment) = self.deployments.get(key) else { return Ok(None) };
        let sets = self.executor.caches.replica_sets.in_namespace(&key.namespace);
        let pods = self.executor.caches.pods.in_namespace(&key.namespace);
        let plan = deployment::reconcile(self.clock.unix_ms(), &deployment, &sets, &pods);
        let made = made_set(&plan);
        match self.executor.run(plan).await {
            Err(error) if error.failure() == Failure::AlreadyExists => match made {
                Some(name) => self.collision(&deployment, &name).await,
                None => Err(error),
            },
            result => result,
        }
    }

    /// The new set's name is taken: by our own set that the cache does not show yet, or by another's.
    async fn collision(&self, deployment: &Deployment, name: &str) -> Round {
        let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
        let sets: Api<ReplicaSet> = Api::namespaced(self.executor.client.clone(), &namespace);
        let Some(taken) = sets.get_opt(name).await.map_err(Error::from)? else {
            return Err(Error::Taken(name.to_owned()));
        };
        match deployment::collision(deployment, &taken) {
            Some(action) => self.executor.run(vec![action]).await?,
            None => return Err(Error::Taken(name.to_owned())),
        };
        Err(Error::Taken(name.to_owned()))
    }

    async fn replica_set(&self, key: &Key) -> Round {
        let failure = self.failures().get(key).cloned();
        let Some(set) = self.executor.caches.replica_sets.get(key) else {
            self.failures().remove(key);
            return Ok(None);
        };
        let pods = self.executor.caches.pods.in_namespace(&key.namespace);
        let plan = replica_set::reconcile(self.clock.unix_ms(), &set, &pods, failure.as_deref());
        let creates = plan.iter().any(|action| matches!(action, Action::Create { .. }));
        let result = self.executor.run(plan).await;
        match &result {
            Ok(_) => {
                // The condition that told of it is to go as well: look once more.
                if self.failures().remove(key).is_some() {
                    return Ok(Some(0));
                }
            }
            Err(error) if creates && error.failure() != Failure::Conflict => {
                self.failures().insert(key.clone(), short(error));
            }
            Err(_) => {}
        }
        result
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<Key, String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made_set(plan: &[Action]) -> Option<String> {
    plan.iter().find_map(|action| match action {
        Action::Create { body, .. } => body["metadata"]["name"].as_str().map(str::to_owned),
        _ => None,
    })
}
