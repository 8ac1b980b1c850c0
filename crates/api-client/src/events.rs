//! Events: what `kubectl describe` shows under an object. Repeats raise a count instead of making another event.

use std::collections::HashMap;

use base::clock::SharedClock;
use base::task::{TaskKind, Tasks};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

/// Events that may wait to be written; more are dropped, since losing one harms nobody.
const QUEUE_MAX: usize = 1024;
/// Events remembered for counting repeats (upstream's cache holds 4,096).
const REMEMBERED_MAX: usize = 4096;

/// One thing to tell.
#[derive(Debug, Clone)]
struct Note {
    about: ObjectReference,
    kind: &'static str,
    reason: String,
    message: String,
}

/// Tells events in the name of one component. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
}

/// A reference to an object, as events carry it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: object.meta().name.clone(),
        namespace: object.meta().namespace.clone(),
        uid: object.meta().uid.clone(),
        resource_version: object.resource_version(),
        field_path: None,
    }
}

impl Recorder {
    /// A recorder for `component` (on `host`, for node agents), writing through `client` on `tasks`.
    #[must_use]
    pub fn start(
        client: Client,
        component: &'static str,
        host: Option<String>,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel(QUEUE_MAX);
        let token = tasks.token();
        tasks.spawn(TaskKind::Service, "events", async move {
            let mut writer = Writer { client, component, host, clock, known: HashMap::new() };
            loop {
                let note = tokio::select! {
                    () = token.cancelled() => return Ok::<(), std::convert::Infallible>(()),
                    note = receiver.recv() => note,
                };
                let Some(note) = note else { return Ok(()) };
                writer.write(note).await;
            }
        });
        Self { sender }
    }

    /// Tells that something went as it should.
    pub fn normal(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.send(about, "Normal", reason, message.into());
    }

    /// Tells that something did not.
    pub fn warning(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.send(about, "Warning", reason, message.into());
    }

    fn send(&self, about: ObjectReference, kind: &'static str, reason: &str, message: String) {
        // A full queue drops the event; the state it tells about is in the object anyway.
        let _ = self.sender.try_send(Note { about, kind, reason: reason.to_owned(), message });
    }
}

/// What makes two notes the same event.
type Sameness = (Option<String>, Option<String>, String, String);

struct Writer {
    client: Client,
    component: &'static str,
    host: Option<String>,
    clock: SharedClock,
    known: HashMap<Sameness, (String, i32)>,
}

impl Writer {
    async fn write(&mut self, note: Note) {
        // Events about cluster-scoped objects live in "default".
        let namespace =
            note.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let same = (
            note.about.uid.clone(),
            note.about.field_path.clone(),
            note.reason.clone(),
            note.message.clone(),
        );
        if let Some((name, count)) = self.known.get_mut(&same) {
            *count += 1;
            let at = time(self.clock.unix_ms());
            let patch = json!({"count": count, "lastTimestamp": at});
            if api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.is_ok() {
                return;
            }
        }
        let event = self.event(&note, &namespace);
        let name = event.name_any();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => self.remember(same, name),
            Err(error) => tracing::debug!(reason = note.reason, %error, "event not written"),
        }
    }

    fn remember(&mut self, same: Sameness, name: String) {
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(same, (name, 1));
    }

    fn event(&self, note: &Note, namespace: &str) -> Event {
        let now_ms = self.clock.unix_ms();
        let about = note.about.name.clone().unwrap_or_default();
        // Upstream's names: the object's, and the time in hexadecimal nanoseconds; the count keeps them apart here.
        let suffix = format!("{:x}{:04x}", now_ms, self.known.len() & 0xffff);
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{about}.{suffix}")),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: note.about.clone(),
            type_: Some(note.kind.to_owned()),
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: self.host.clone() }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: self.host.clone(),
            first_timestamp: Some(time(now_ms)),
            last_timestamp: Some(time(now_ms)),
            count: Some(1),
            ..Event::default()
        }
    }
}

fn time(unix_ms: i64) -> Time {
    Time(Timestamp::from_millisecond(unix_ms).unwrap_or_default())
}
