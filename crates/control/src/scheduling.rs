//! The scheduler's loop: caches say look, `scheduler` decides, bindings are written through the front door.
//!
//! ```text
//! pods, nodes, namespaces ──change──▶ loop { Cluster, Queue } ──place──▶ bind (at most BINDINGS_MAX at once)
//!                                        ▲                                 │ POST pods/binding
//!                                        └───────────── Outcome ◀──────────┘
//! ```
//!
//! A pod counts on its node from the moment of the decision (assumed), so that bindings overlap without overcommitting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api_client::events::{Recorder, reference};
use api_client::{Change, Failure, Informers, Key, classify};
use base::clock::SharedClock;
use base::random::Random;
use base::task::{TaskKind, Tasks};
use k8s_openapi::api::core::v1::{Binding, Namespace, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use scheduler::{Cluster, Decision, Queue, QueuedPod};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

/// The scheduler that pods ask for by default.
const NAME: &str = "default-scheduler";
/// Bindings in flight at once: enough to hide the store's group commit, few enough not to flood it.
const BINDINGS_MAX: usize = 64;
/// Outcomes that may wait for the loop.
const OUTCOMES_MAX: usize = 1024;
/// Longest sleep when nothing is due.
const FOREVER: Duration = Duration::from_secs(3600);

/// How a binding ended.
enum Outcome {
    Bound { uid: String },
    Failed { pod: Arc<Pod>, failure: Failure },
}

/// Runs until the token is cancelled.
pub(crate) async fn run(
    client: Client,
    informers: Informers,
    clock: SharedClock,
    tasks: Tasks,
) -> Result<(), kube::Error> {
    let (mut pods, mut nodes) = (informers.pods().changes(), informers.nodes().changes());
    let mut namespaces = informers.namespaces().changes();
    let (outcomes, mut outcome) = mpsc::channel(OUTCOMES_MAX);
    let recorder = Recorder::start(client.clone(), NAME, None, clock.clone(), &tasks);
    let token = tasks.token();
    let mut looper = Loop {
        client,
        informers,
        clock,
        tasks,
        recorder,
        outcomes,
        bindings: Arc::new(Semaphore::new(BINDINGS_MAX)),
        cluster: Cluster::default(),
        queue: Queue::default(),
        assumed: HashMap::new(),
        random: Random::from_entropy(),
    };
    looper.look_at_everything();
    loop {
        looper.place_all();
        let sleep = looper.until_deadline();
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            Some(change) = pods.next() => looper.pod_changed(change),
            Some(change) = nodes.next() => looper.node_changed(change),
            Some(change) = namespaces.next() => looper.namespace_changed(change),
            Some(outcome) = outcome.recv() => looper.binding_ended(outcome),
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

struct Loop {
    client: Client,
    informers: Informers,
    clock: SharedClock,
    tasks: Tasks,
    recorder: Recorder,
    outcomes: mpsc::Sender<Outcome>,
    bindings: Arc<Semaphore>,
    cluster: Cluster,
    queue: Queue,
    /// Pods decided but not yet seen on their node, by uid.
    assumed: HashMap<String, String>,
    random: Random,
}

impl Loop {
    fn look_at_everything(&mut self) {
        self.cluster = Cluster::default();
        for node in self.informers.nodes().all() {
            self.cluster.set_node(node);
        }
        for namespace in self.informers.namespaces().all() {
            self.note_namespace(&namespace);
        }
        for pod in self.informers.pods().all() {
            self.look_at_pod(&pod);
        }
        self.queue.wake_all();
    }

    fn pod_changed(&mut self, change: Change<Pod>) {
        let Change::One(pod) = change else { return self.look_at_everything() };
        self.look_at_pod(&pod);
    }

    fn look_at_pod(&mut self, hint: &Pod) {
        let uid = hint.uid().unwrap_or_default();
        let current = self.informers.pods().get(&Key::of(hint)).filter(|p| p.uid().as_deref() == Some(&uid));
        let Some(pod) = current else {
            self.assumed.remove(&uid);
            self.cluster.remove_pod(&uid);
            self.queue.remove(&uid);
            return self.queue.wake_all();
        };
        if scheduler::wants_placing(&pod, NAME) {
            // Assumed: the cache has not seen the binding yet. Gated: not to be tried.
            if !self.assumed.contains_key(&uid) && !scheduler::is_gated(&pod) {
                self.queue.add_unless_same(pod);
            }
            return;
        }
        self.assumed.remove(&uid);
        self.queue.remove(&uid);
        let ended =
            matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        self.cluster.set_pod(pod);
        if ended {
            self.queue.wake_all();
        }
    }

    fn node_changed(&mut self, change: Change<Node>) {
        let Change::One(hint) = change else { return self.look_at_everything() };
        match self.informers.nodes().get(&Key::of(&*hint)) {
            Some(node) => self.cluster.set_node(node),
            None => self.cluster.remove_node(&hint.name_any()),
        }
        self.queue.wake_all();
    }

    fn namespace_changed(&mut self, change: Change<Namespace>) {
        let Change::One(hint) = change else { return };
        match self.informers.namespaces().get(&Key::of(&*hint)) {
            Some(namespace) => self.note_namespace(&namespace),
            None => drop(self.cluster.namespaces.remove(&hint.name_any())),
        }
    }

    fn note_namespace(&mut self, namespace: &Namespace) {
        self.cluster.namespaces.insert(namespace.name_any(), namespace.labels().clone());
    }

    /// Tries every pod whose turn has come.
    fn place_all(&mut self) {
        while let Some(queued) = self.queue.pop(self.clock.unix_ms()) {
            let tie = self.random.next_u64();
            match scheduler::place(&queued.pod, &self.cluster, tie) {
                Decision::Node(node) => self.bind(&queued, node),
                Decision::Unschedulable(why) => self.refuse(&queued.pod, why),
            }
        }
    }

    fn bind(&mut self, queued: &QueuedPod, node: String) {
        let pod = queued.pod.clone();
        let uid = pod.uid().unwrap_or_default();
        self.cluster.assume(&pod, &node);
        self.assumed.insert(uid.clone(), node.clone());
        let (client, outcomes, permits) = (self.client.clone(), self.outcomes.clone(), self.bindings.clone());
        let recorder = self.recorder.clone();
        self.tasks.spawn(TaskKind::Service, "bind", async move {
            let permit = permits.acquire_owned().await;
            let result = write_binding(client, &pod, &node).await;
            drop(permit);
            let outcome = match result {
                Ok(()) => {
                    let text = format!(
                        "Successfully assigned {}/{} to {node}",
                        pod.namespace().unwrap_or_default(),
                        pod.name_any()
                    );
                    recorder.normal(reference(&*pod), "Scheduled", text);
                    Outcome::Bound { uid }
                }
                Err(error) => {
                    tracing::debug!(pod = pod.name_any(), %error, "binding refused");
                    Outcome::Failed { failure: classify(&error), pod }
                }
            };
            // The loop is gone only when everything stops.
            let _ = outcomes.send(outcome).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    fn binding_ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Bound { uid } => self.queue.remove(&uid),
            Outcome::Failed { pod, failure } => {
                let uid = pod.uid().unwrap_or_default();
                self.assumed.remove(&uid);
                self.cluster.remove_pod(&uid);
                if failure == Failure::NotFound {
                    self.queue.remove(&uid);
                } else {
                    self.queue.back_off(&uid, self.clock.unix_ms());
                }
            }
        }
    }

    /// Says on the pod why it waits.
    fn refuse(&mut self, pod: &Arc<Pod>, why: String) {
        self.queue.unschedulable(&pod.uid().unwrap_or_default());
        if condition_message(pod).as_deref() == Some(&why) {
            return;
        }
        self.recorder.warning(reference(&**pod), "FailedScheduling", why.clone());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let (name, patch) = (pod.name_any(), unschedulable_patch(&why, self.clock.unix_ms()));
        self.tasks.spawn(TaskKind::Connection, "unschedulable", async move {
            api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(|_| ())
        });
    }

    fn until_deadline(&self) -> Duration {
        let wait = self.queue.next_deadline().map(|at| (at - self.clock.unix_ms()).max(0) as u64);
        wait.map_or(FOREVER, Duration::from_millis)
    }
}

async fn write_binding(client: Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let binding = Binding {
        metadata: ObjectMeta { name: Some(pod.name_any()), uid: pod.uid(), ..ObjectMeta::default() },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let _: Value =
        api.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await?;
    Ok(())
}

fn condition_message(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    scheduled.message.clone()
}

fn unschedulable_patch(why: &str, now_ms: i64) -> Value {
    let now = k8s_openapi::jiff::Timestamp::from_second(now_ms / 1000).unwrap_or_default().to_string();
    json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why, "lastTransitionTime": now,
    }]}})
}
