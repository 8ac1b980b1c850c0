//! One task per pod: waits for something to happen, steps `pod-core`, starts the operations it plans, writes status.
//!
//! ```text
//! dispatcher ── notify("look") ─▶ Worker ── step() ─▶ operations (tasks) ── Event ─┐
//!                                   ▲ ▲                                            │
//!                     timer (wake) ─┘ └────────────────────────────────────────────┘
//!                                   └─▶ PATCH pods/status when it differs from what was written last
//! ```

use crate::context::Context;
use crate::events::Kind;
use crate::ops::{self, Outcome, Ready};
use crate::shim::protocol::{ShimPhase, ShimState};
use crate::{adopt, probes};
use api_client::{Failure, Key, classify};
use base::task::TaskKind;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use pod_core::PodRef;
use pod_core::plan::{self, Action};
use pod_core::probe::{self, ProbeKind};
use pod_core::state::{ContainerState, PodState, SandboxState};
use pod_core::status;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::DropGuard;

/// Reports of operations that wait for the worker; each pod has a few operations at a time.
const EVENTS_MAX: usize = 64;
/// How long a status that could not be written waits.
const STATUS_RETRY: Duration = Duration::from_secs(1);
/// Longest wait before a sandbox is tried again.
const SANDBOX_RETRY_MAX_MS: i64 = 60_000;
/// What of a program's log serves as its termination message (upstream: 80 lines or 2 KiB).
const FALLBACK_BYTES: usize = 2048;
/// Lines of it.
const FALLBACK_LINES: usize = 80;

/// What an operation reports.
#[derive(Debug)]
pub(crate) enum Event {
    Sandbox(Result<Ready, String>),
    Started {
        name: String,
        outcome: Outcome,
    },
    Exited {
        name: String,
        id: String,
        end: Option<ShimState>,
    },
    Probed {
        name: String,
        id: String,
        kind: ProbeKind,
        result: Result<(), String>,
    },
    /// A hook failed: the instance must be replaced.
    Condemned {
        name: String,
        id: String,
        message: String,
    },
    SandboxRemoved,
}

/// One pod.
pub(crate) struct Worker {
    context: Arc<Context>,
    pod_ref: PodRef,
    pod: Arc<Pod>,
    state: PodState,
    ready: Option<Ready>,
    written: Option<PodStatus>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    look: Arc<Notify>,
    /// Ends the task that keeps the volumes up to date; None while there is none.
    refreshing: Option<DropGuard>,
    /// The image store as it was when last looked at.
    images: u64,
}

impl Worker {
    /// A worker for a pod, with what an earlier agent left of it.
    pub fn new(context: Arc<Context>, pod: Arc<Pod>, look: Arc<Notify>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let pod_ref = ops::pod_ref(&pod);
        let state = PodState { start_ms: context.now(), ..PodState::default() };
        Self {
            context,
            pod_ref,
            pod,
            state,
            ready: None,
            written: None,
            events,
            sender,
            look,
            refreshing: None,
            images: 0,
        }
    }

    /// Runs until the pod is gone.
    pub async fn run(mut self) -> Result<(), Infallible> {
        self.adopt().await;
        let token = self.context.tasks.token();
        loop {
            self.refresh_object();
            self.notice_images();
            let now = self.context.now();
            let plan = plan::step(&self.pod, &mut self.state, now);
            let finish = plan.actions.contains(&Action::Finish);
            for action in plan.actions {
                self.begin(action);
            }
            let written = self.write_status().await;
            if finish && self.finish().await {
                return Ok(());
            }
            let wake = plan
                .wake_ms
                .map(|at| Duration::from_millis(u64::try_from(at - self.context.now()).unwrap_or(0)));
            let wake =
                if written && !finish { wake } else { Some(wake.unwrap_or(STATUS_RETRY).min(STATUS_RETRY)) };
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = self.look.notified() => {}
                () = sleep_or_never(wake) => {}
                event = self.events.recv() => if let Some(event) = event { self.take(event) },
            }
            while let Ok(event) = self.events.try_recv() {
                self.take(event);
            }
        }
    }

    /// New images may be what a container waits for.
    fn notice_images(&mut self) {
        let now = self.context.images.load(std::sync::atomic::Ordering::Relaxed);
        if now != self.images {
            self.images = now;
            for entry in self.state.containers.values_mut().filter(|entry| entry.waiting.is_some()) {
                entry.retry_ms = 0;
            }
        }
    }

    /// The object as the cache has it now; a missing or replaced one orphans the pod.
    fn refresh_object(&mut self) {
        let key = Key { namespace: self.pod_ref.namespace.clone(), name: self.pod_ref.name.clone() };
        match self.context.informers.pods().get(&key) {
            Some(pod) if pod.metadata.uid.as_deref() == Some(self.pod_ref.uid.as_str()) => self.pod = pod,
            _ => {
                if !self.state.orphaned {
                    self.state.orphaned = true;
                    self.state.stop_deadline_ms = None;
                }
            }
        }
    }

    async fn adopt(&mut self) {
        let Some(adopted) = adopt::load(&self.context, &self.pod).await else { return };
        self.state = adopted.state;
        self.ready = adopted.ready;
        tracing::info!(pod = %self.pod_ref, containers = adopted.running.len(), "adopted");
        for (name, id) in adopted.running {
            self.watch(name, id);
        }
        if self.ready.is_some() {
            self.refresh_volumes();
        }
    }

    fn container(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == name).cloned()
    }

    fn entry(&mut self, name: &str) -> &mut ContainerState {
        self.state.containers.entry(name.to_owned()).or_default()
    }

    fn id_of(&self, name: &str) -> Option<String> {
        self.state.containers.get(name).and_then(|state| state.id.clone())
    }

    fn ip(&self) -> String {
        let own = self.ready.as_ref().and_then(|ready| ready.ips.first().cloned());
        own.unwrap_or_else(|| self.context.options.node_ip.to_string())
    }

    /// As [`Worker::spawn`], for what waits long and may be dropped when the agent stops: the next one begins it anew.
    fn spawn_waiting(
        &self,
        name: &'static str,
        operation: impl Future<Output = Option<Event>> + Send + 'static,
    ) {
        let token = self.context.tasks.token();
        self.spawn(name, async move {
            tokio::select! {
                () = token.cancelled() => None,
                event = operation => event,
            }
        });
    }

    /// Spawns an operation whose report comes back as an event.
    fn spawn(&self, name: &'static str, operation: impl Future<Output = Option<Event>> + Send + 'static) {
        let sender = self.sender.clone();
        self.context.tasks.spawn(TaskKind::Service, name, async move {
            if let Some(event) = operation.await {
                // The worker is gone only when the pod is.
                let _ = sender.send(event).await;
            }
            Ok::<(), Infallible>(())
        });
    }

    fn begin(&mut self, action: Action) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        match action {
            Action::CreateSandbox => self.spawn("create sandbox", async move {
                let _permit = context.starts.acquire().await;
                Some(Event::Sandbox(ops::create_sandbox(&context, &pod).await))
            }),
            Action::Start { name, attempt } => self.begin_start(name, attempt),
            Action::Stop { name, grace_s, message } => self.begin_stop(&name, grace_s, &message),
            Action::Probe { name, kind } => self.begin_probe(name, kind),
            Action::RemoveSandbox => {
                self.refreshing = None;
                let pod_ref = self.pod_ref.clone();
                self.spawn("remove sandbox", async move {
                    ops::remove_sandbox(&context, &pod_ref).await;
                    Some(Event::SandboxRemoved)
                });
            }
            // Done by the loop itself, after the last status.
            Action::Finish => {}
        }
    }

    fn begin_start(&mut self, name: String, attempt: u32) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let (Some(container), Some(ready)) = (self.container(&name), self.ready.clone()) else { return };
        self.spawn("start container", async move {
            let _permit = context.starts.acquire().await;
            let outcome = ops::start_container(&context, &pod, &container, attempt, &ready).await;
            Some(Event::Started { name, outcome })
        });
    }

    fn begin_stop(&self, name: &str, grace_s: i64, message: &str) {
        let (context, pod, ip) = (self.context.clone(), self.pod.clone(), self.ip());
        let (Some(container), Some(id)) = (self.container(name), self.id_of(name)) else { return };
        context.events.container(&pod, name, Kind::Normal, "Killing", message);
        self.spawn_waiting("stop container", async move {
            ops::stop_container(&context, &pod, &container, &id, &ip, grace_s).await;
            None
        });
    }

    fn begin_probe(&self, name: String, kind: ProbeKind) {
        let (context, ip) = (self.context.clone(), self.ip());
        let (Some(container), Some(id)) = (self.container(&name), self.id_of(&name)) else { return };
        let Some(probe) = kind.of(&container).cloned() else { return };
        let timeout = Duration::from_millis(u64::try_from(probe::timeout_ms(&probe)).unwrap_or(1000));
        self.spawn_waiting("probe", async move {
            let result = probes::run(&context, &container, &id, &ip, &probe, timeout).await;
            Some(Event::Probed { name, id, kind, result })
        });
    }

    /// Reports the container's end.
    fn watch(&self, name: String, id: String) {
        let context = self.context.clone();
        self.spawn_waiting("watch container", async move {
            let end = context.runtime.wait(&id).await;
            Some(Event::Exited { name, id, end })
        });
    }

    fn take(&mut self, event: Event) {
        let now = self.context.now();
        match event {
            Event::Sandbox(result) => self.take_sandbox(result, now),
            Event::Started { name, outcome } => self.take_start(&name, outcome, now),
            Event::Exited { name, id, end } => self.take_exit(&name, &id, end, now),
            Event::Probed { name, id, kind, result } => self.take_probe(&name, &id, kind, result),
            Event::Condemned { name, id, message } => {
                if self.id_of(&name).as_ref() == Some(&id) {
                    self.entry(&name).condemned = Some(message);
                }
            }
            Event::SandboxRemoved => {
                let ips = match &self.state.sandbox {
                    SandboxState::Removing { ips } => ips.clone(),
                    _ => Vec::new(),
                };
                self.state.sandbox = SandboxState::Removed { ips };
            }
        }
    }

    fn take_sandbox(&mut self, result: Result<Ready, String>, now: i64) {
        match result {
            Ok(ready) => {
                self.state.sandbox = SandboxState::Ready { ips: ready.ips.clone() };
                self.ready = Some(ready);
                self.refresh_volumes();
            }
            Err(message) => {
                let before =
                    if let SandboxState::Failed { failures, .. } = self.state.sandbox { failures } else { 0 };
                let delay = (1000 << before.min(6)).min(SANDBOX_RETRY_MAX_MS);
                self.state.sandbox =
                    SandboxState::Failed { retry_ms: now + delay, failures: before + 1, message };
            }
        }
    }

    fn take_start(&mut self, name: &str, outcome: Outcome, now: i64) {
        match outcome {
            Outcome::Started { id, image, image_id, at_ms } => {
                self.entry(name).started(id.clone(), image, image_id, at_ms);
                self.watch(name.to_owned(), id.clone());
                self.begin_post_start(name, id);
            }
            Outcome::NotCreated { reason, message } => {
                // A second failure in a row is shown as a back-off, as upstream does.
                let again = self.state.containers.get(name).is_some_and(|state| state.failures > 0);
                if reason == "ErrImagePull" && again {
                    let image =
                        self.container(name).and_then(|container| container.image).unwrap_or_default();
                    let text = format!("Back-off pulling image \"{image}\": {message}");
                    self.context.events.container(
                        &self.pod,
                        name,
                        Kind::Normal,
                        "BackOff",
                        format!("Back-off pulling image \"{image}\""),
                    );
                    self.entry(name).not_created("ImagePullBackOff", &text, now);
                } else {
                    self.entry(name).not_created(reason, &message, now);
                }
            }
            Outcome::Failed { id, message } => self.entry(name).start_failed(id, &message, now),
        }
    }

    fn begin_post_start(&self, name: &str, id: String) {
        let Some(container) = self.container(name) else { return };
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone())
        else {
            return;
        };
        let (context, pod, ip) = (self.context.clone(), self.pod.clone(), self.ip());
        let grace = Duration::from_secs(u64::try_from(plan::grace(&pod)).unwrap_or(30).max(1));
        self.spawn_waiting("postStart hook", async move {
            let failed = probes::run_hook(&context, &container, &id, &ip, &hook, grace).await.err()?;
            let text = format!("PostStartHook failed: {failed}");
            context.events.container(&pod, &container.name, Kind::Warning, "FailedPostStartHook", text);
            let message = "FailedPostStartHook".to_owned();
            Some(Event::Condemned { name: container.name, id, message })
        });
    }

    fn take_exit(&mut self, name: &str, id: &str, end: Option<ShimState>, now: i64) {
        if self.id_of(name).as_deref() != Some(id) {
            return;
        }
        let end = end.filter(|end| end.phase != ShimPhase::Running);
        let message = self.last_words(name, id, end.as_ref());
        let entry = self.entry(name);
        let (code, reason, started, finished) = match &end {
            Some(end) if end.oom_killed => (end.exit_code, "OOMKilled", end.started_ms, end.finished_ms),
            Some(end) if end.exit_code == 0 => (0, "Completed", end.started_ms, end.finished_ms),
            Some(end) => (end.exit_code, "Error", end.started_ms, end.finished_ms),
            None => (137, "ContainerStatusUnknown", now, now),
        };
        entry.exited(code, reason, &message, started, finished);
        self.tell_backoff(name, now);
    }

    fn tell_backoff(&mut self, name: &str, now: i64) {
        let (Some(spec), Some(container)) = (&self.pod.spec, self.container(name)) else { return };
        let is_init = spec.init_containers.iter().flatten().any(|init| init.name == name);
        let Some(state) = self.state.containers.get(name) else { return };
        let Some(exit) = state.exit() else { return };
        let stopping = plan::is_stopping(&self.pod, &self.state);
        if !stopping && plan::restarts(spec, &container, exit, is_init) && state.restart_at(exit) > now {
            let PodRef { namespace, name: pod, uid } = &self.pod_ref;
            let text = format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})");
            self.context.events.container(&self.pod, name, Kind::Warning, "BackOff", text);
        }
    }

    /// The termination message, or the log's end where the policy says so.
    fn last_words(&self, name: &str, id: &str, end: Option<&ShimState>) -> String {
        let message = self.context.runtime.termination_message(id);
        let Some(container) = self.container(name) else { return message };
        let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if !message.is_empty() || !fall_back || end.is_none_or(|end| end.exit_code == 0) {
            return message;
        }
        let attempt = self.state.containers.get(name).map_or(0, |state| state.restarts);
        let path = self.context.runtime.log_dir(&self.pod_ref, name).join(format!("{attempt}.log"));
        crate::logs::tail_text(&path, FALLBACK_LINES, FALLBACK_BYTES)
    }

    fn take_probe(&mut self, name: &str, id: &str, kind: ProbeKind, result: Result<(), String>) {
        let Some(container) = self.container(name) else { return };
        if self.id_of(name).as_deref() != Some(id) {
            return;
        }
        let entry = self.entry(name);
        if !entry.is_running() {
            return;
        }
        probe::record(&container, entry, kind, result.is_ok());
        if let Err(text) = result {
            let text = format!("{} probe failed: {text}", kind.name());
            self.context.events.container(&self.pod, name, Kind::Warning, "Unhealthy", text);
        }
    }

    fn refresh_volumes(&mut self) {
        if self.refreshing.is_none() {
            let token = self.context.tasks.token().child_token();
            crate::refresh::start(&self.context, self.pod.clone(), self.ip(), token.clone());
            self.refreshing = Some(token.drop_guard());
        }
    }

    /// Writes the status unless it is what was written last; false when it could not be written.
    async fn write_status(&mut self) -> bool {
        if self.state.orphaned {
            return true;
        }
        let host_ip = self.context.options.node_ip.to_string();
        let status = status::status(&self.pod, &self.state, &host_ip, self.context.now());
        if self.written.as_ref().is_some_and(|written| same(written, &status)) {
            return true;
        }
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.pod_ref.namespace);
        let patch = serde_json::json!({"metadata": {"uid": self.pod_ref.uid}, "status": patch_of(&status)});
        match api.patch_status(&self.pod_ref.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => {
                self.written = Some(status);
                true
            }
            Err(error) => match classify(&error) {
                // The cache will say so too.
                Failure::NotFound | Failure::Conflict => true,
                Failure::Refused => {
                    tracing::warn!(pod = %self.pod_ref, %error, "status refused");
                    self.written = Some(status);
                    true
                }
                _ => false,
            },
        }
    }

    /// Removes what is left on disk, then the object; true when nothing remains.
    async fn finish(&mut self) -> bool {
        ops::forget(&self.context, &self.pod_ref).await;
        if self.state.orphaned {
            return true;
        }
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.pod_ref.namespace);
        let preconditions = Preconditions { uid: Some(self.pod_ref.uid.clone()), ..Preconditions::default() };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(&self.pod_ref.name, &params).await {
            Ok(_) => true,
            Err(error) => matches!(classify(&error), Failure::NotFound | Failure::Conflict),
        }
    }
}

/// The status as a strategic merge patch: conditions are merged by type, so what one no longer has is nulled.
fn patch_of(status: &PodStatus) -> serde_json::Value {
    let mut patch = serde_json::json!(status);
    let conditions = patch.get_mut("conditions").and_then(serde_json::Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        for field in ["reason", "message"] {
            condition.entry(field).or_insert(serde_json::Value::Null);
        }
    }
    patch
}

/// Equal but for the times of conditions, which are set anew only when a condition changes.
fn same(a: &PodStatus, b: &PodStatus) -> bool {
    let strip = |status: &PodStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_transition_time = None;
        }
        status
    };
    a == b || strip(a) == strip(b)
}

async fn sleep_or_never(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
