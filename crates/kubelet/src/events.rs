//! Events: what happened to a pod or the node, for people. Repetitions raise a count instead of adding objects.
//!
//! ```text
//! Recorder::event() ─▶ bounded channel ─▶ one task ─▶ POST, or PATCH of the count
//! ```
//! A full channel loses events rather than delaying pods.

use base::task::{TaskKind, Tasks};
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tokio::sync::mpsc;

/// Events waiting to be written.
const QUEUE_MAX: usize = 1024;
/// Different events whose repetitions are recognized (upstream's cache).
const KNOWN_MAX: usize = 4096;

/// Takes events.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Happening>,
}

struct Happening {
    about: ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
}

/// Whether an event is news or a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

impl Recorder {
    /// Starts the writing task.
    pub fn start(client: Client, node: &str, tasks: &Tasks) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Happening>(QUEUE_MAX);
        let (token, host) = (tasks.token(), node.to_owned());
        tasks.spawn(TaskKind::Service, "node events", async move {
            let mut known = HashMap::new();
            loop {
                let next = tokio::select! {
                    () = token.cancelled() => return Ok::<(), std::convert::Infallible>(()),
                    next = waiting.recv() => next,
                };
                let Some(happening) = next else { return Ok(()) };
                write(&client, &host, &mut known, happening).await;
            }
        });
        Self { queue }
    }

    /// Something happened to a pod.
    pub fn pod(&self, pod: &Pod, kind: Kind, reason: &'static str, message: impl Into<String>) {
        self.send(reference(pod), kind, reason, message.into());
    }

    /// Something happened to a container.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        kind: Kind,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let init = pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .any(|init| init.name == container);
        let list = if init { "initContainers" } else { "containers" };
        let about =
            ObjectReference { field_path: Some(format!("spec.{list}{{{container}}}")), ..reference(pod) };
        self.send(about, kind, reason, message.into());
    }

    /// Something happened to the node.
    pub fn node(&self, node: &Node, reason: &'static str, message: impl Into<String>) {
        let name = node.metadata.name.clone();
        let about = ObjectReference {
            kind: Some("Node".into()),
            uid: name.clone(),
            name,
            ..ObjectReference::default()
        };
        self.send(about, Kind::Normal, reason, message.into());
    }

    fn send(&self, about: ObjectReference, kind: Kind, reason: &'static str, message: String) {
        let _ = self.queue.try_send(Happening { about, warning: kind == Kind::Warning, reason, message });
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

async fn write(client: &Client, host: &str, known: &mut HashMap<String, (String, i32)>, what: Happening) {
    let namespace = what.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let api = Api::<Event>::namespaced(client.clone(), &namespace);
    let about = &what.about;
    let key = format!(
        "{:?}/{:?}/{:?}/{}/{}",
        about.namespace, about.uid, about.field_path, what.reason, what.message
    );
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH));
    match known.entry(key) {
        Entry::Occupied(mut seen) => {
            let (name, count) = seen.get_mut();
            *count += 1;
            let patch = serde_json::json!({"count": *count, "lastTimestamp": now});
            if api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await.is_err() {
                // Expired, most likely: the next one is written anew.
                seen.remove();
            }
        }
        Entry::Vacant(fresh) => {
            let name =
                format!("{}.{:x}", about.name.as_deref().unwrap_or("node"), Timestamp::now().as_nanosecond());
            fresh.insert((name.clone(), 1));
            let event = event(host, namespace, name, now, what);
            if let Err(error) = api.create(&PostParams::default(), &event).await {
                tracing::debug!(%error, "event not written");
            }
        }
    }
}

fn event(host: &str, namespace: String, name: String, now: Time, what: Happening) -> Event {
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: what.about,
        type_: Some(if what.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(what.reason.to_owned()),
        message: Some(what.message),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(host.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(host.to_owned()),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    }
}
