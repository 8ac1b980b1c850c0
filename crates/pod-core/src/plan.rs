//! One step of a pod's life: what is to be done now, and when to look again.

use crate::probe::{self, ProbeKind};
use crate::resources::is_sidecar;
use crate::state::{Backoff, ContainerState, Exit, Phase, PodState, SandboxState};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// Grace of a pod whose specification does not say (API default).
const GRACE_DEFAULT_S: i64 = 30;

/// Something for the node to do. Each is carried out once and answered by an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make namespaces, network and volumes.
    CreateSandbox,
    /// Create and start a container.
    Start {
        /// Which.
        name: String,
        /// 0 for the first instance.
        attempt: u32,
    },
    /// Run the preStop hook, then SIGTERM, then SIGKILL.
    Stop {
        /// Which.
        name: String,
        /// Seconds until SIGKILL, the hook included.
        grace_s: i64,
        /// The text of the event.
        message: String,
    },
    /// Carry out a probe.
    Probe {
        /// Of which container.
        name: String,
        /// Which probe.
        kind: ProbeKind,
    },
    /// Everything has ended: give back network, namespaces and mounts.
    RemoveSandbox,
    /// Everything is gone: delete the API object (if it still exists) and forget the pod.
    Finish,
}

/// What to do now and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// Look again at this time even if nothing happens, ms since 1970.
    pub wake_ms: Option<i64>,
}

impl Plan {
    fn wake(&mut self, at: i64) {
        self.wake_ms = Some(self.wake_ms.map_or(at, |known| known.min(at)));
    }
}

/// Plans and marks what it plans as begun, so that the next step does not plan it again.
pub fn step(pod: &Pod, state: &mut PodState, now: i64) -> Plan {
    let Some(spec) = &pod.spec else { return Plan::default() };
    for container in all(spec) {
        let entry = state.containers.entry(container.name.clone()).or_default();
        probe::settle(container, entry);
    }
    let mut plan = Plan::default();
    check_deadline(spec, state, now, &mut plan);
    if is_stopping(pod, state) {
        stop_all(pod, spec, state, now, &mut plan);
    } else if is_finished(spec, state) {
        wind_down(pod, spec, state, now, &mut plan);
    } else {
        run(pod, spec, state, now, &mut plan);
    }
    plan
}

/// Whether the pod is to end: deleted, orphaned, or ended by the node.
#[must_use]
pub fn is_stopping(pod: &Pod, state: &PodState) -> bool {
    state.orphaned || state.ended.is_some() || pod.metadata.deletion_timestamp.is_some()
}

/// Init containers first, in their order.
pub(crate) fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn check_deadline(spec: &PodSpec, state: &mut PodState, now: i64, plan: &mut Plan) {
    let Some(seconds) = spec.active_deadline_seconds else { return };
    let deadline = state.start_ms + seconds * 1000;
    if state.ended.is_some() || is_finished(spec, state) {
        return;
    }
    if now >= deadline {
        let message = "Pod was active on the node longer than the specified deadline";
        state.ended = Some(("DeadlineExceeded".to_owned(), message.to_owned()));
    } else {
        plan.wake(deadline);
    }
}

/// Whether an ended container starts again by its policy.
#[must_use]
pub fn restarts(spec: &PodSpec, container: &Container, exit: &Exit, is_init: bool) -> bool {
    if is_init && is_sidecar(container) {
        return true;
    }
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always");
    match policy {
        "Never" => false,
        "OnFailure" => exit.code != 0,
        // An init container that succeeded is done whatever the pod's policy.
        _ => !is_init || exit.code != 0,
    }
}

/// Whether nothing of the pod's own work is left: phase Succeeded or Failed.
#[must_use]
pub fn is_finished(spec: &PodSpec, state: &PodState) -> bool {
    let ended = |container: &Container, is_init| {
        let entry = state.containers.get(&container.name);
        entry.and_then(ContainerState::exit).filter(|exit| !restarts(spec, container, exit, is_init)).cloned()
    };
    let failed_init = spec
        .init_containers
        .iter()
        .flatten()
        .any(|container| ended(container, true).is_some_and(|exit| exit.code != 0));
    failed_init || spec.containers.iter().all(|container| ended(container, false).is_some())
}

/// Whether the init container no longer holds back those after it.
#[must_use]
pub fn init_done(container: &Container, state: Option<&ContainerState>) -> bool {
    let Some(state) = state else { return false };
    if is_sidecar(container) {
        state.is_running() && state.started
    } else {
        state.exit().is_some_and(|exit| exit.code == 0)
    }
}

fn run(pod: &Pod, spec: &PodSpec, state: &mut PodState, now: i64, plan: &mut Plan) {
    match &state.sandbox {
        SandboxState::Absent | SandboxState::Removed { .. } => {
            state.sandbox = SandboxState::Creating;
            plan.actions.push(Action::CreateSandbox);
        }
        SandboxState::Failed { retry_ms, .. } if *retry_ms <= now => {
            plan.actions.push(Action::CreateSandbox);
            let SandboxState::Failed { failures, message, .. } = std::mem::take(&mut state.sandbox) else {
                return;
            };
            // Remembered for the next delay, should it fail again.
            state.sandbox = SandboxState::Failed { retry_ms: i64::MAX, failures, message };
        }
        SandboxState::Failed { retry_ms, .. } if *retry_ms < i64::MAX => plan.wake(*retry_ms),
        SandboxState::Ready { .. } => run_containers(pod, spec, state, now, plan),
        _ => {}
    }
}

fn run_containers(pod: &Pod, spec: &PodSpec, state: &mut PodState, now: i64, plan: &mut Plan) {
    // Once the main containers have begun, a restart does not repeat finished init containers.
    let begun = spec.containers.iter().any(|container| {
        state
            .containers
            .get(&container.name)
            .is_some_and(|state| state.phase != Phase::Idle || state.restarts > 0)
    });
    let mut ready_for_next = true;
    for container in spec.init_containers.iter().flatten() {
        if !ready_for_next {
            break;
        }
        let entry = state.containers.entry(container.name.clone()).or_default();
        let done = init_done(container, Some(entry));
        if !done && (is_sidecar(container) || !begun) || entry.condemned.is_some() {
            advance(pod, spec, container, true, entry, now, plan);
        }
        watch_probes(container, entry, now, plan);
        ready_for_next = done || begun;
    }
    if !ready_for_next {
        return;
    }
    for container in &spec.containers {
        let entry = state.containers.entry(container.name.clone()).or_default();
        advance(pod, spec, container, false, entry, now, plan);
        watch_probes(container, entry, now, plan);
    }
}

/// Brings one container on: starts it, starts it again, or stops what a probe condemned.
fn advance(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    is_init: bool,
    state: &mut ContainerState,
    now: i64,
    plan: &mut Plan,
) {
    let previous = match &state.phase {
        Phase::Idle if state.retry_ms <= now => None,
        Phase::Idle => return plan.wake(state.retry_ms),
        Phase::Exited(exit) if restarts(spec, container, exit, is_init) => {
            let due = state.restart_at(exit);
            if due > now {
                return plan.wake(due);
            }
            Some(exit.clone())
        }
        Phase::Running { started_ms } => {
            if let Some(message) = state.condemned.take() {
                state.phase = Phase::Stopping { started_ms: *started_ms };
                let grace_s = container_grace(pod, container);
                plan.actions.push(Action::Stop { name: container.name.clone(), grace_s, message });
            }
            return;
        }
        _ => return,
    };
    let attempt = state.restarts + u32::from(previous.is_some());
    if previous.is_some() {
        state.backoff = Some(Backoff::raised(state.backoff, now));
    }
    state.phase = Phase::Starting { previous };
    plan.actions.push(Action::Start { name: container.name.clone(), attempt });
}

fn container_grace(pod: &Pod, container: &Container) -> i64 {
    let own = container.liveness_probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
    own.unwrap_or_else(|| grace(pod))
}

/// The pod's grace in seconds: that of its deletion, else that of its specification.
#[must_use]
pub fn grace(pod: &Pod) -> i64 {
    let of_spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(of_spec).unwrap_or(GRACE_DEFAULT_S)
}

fn watch_probes(container: &Container, state: &mut ContainerState, now: i64, plan: &mut Plan) {
    let (due, wake) = probe::due(container, state, now);
    plan.actions.extend(due.into_iter().map(|kind| Action::Probe { name: container.name.clone(), kind }));
    if let Some(wake) = wake {
        plan.wake(wake);
    }
}

/// The pod's work is done: end its sidecars, then give back the sandbox.
fn wind_down(pod: &Pod, spec: &PodSpec, state: &mut PodState, now: i64, plan: &mut Plan) {
    stop_containers(pod, spec, state, now, plan);
    if !state.containers.values().any(ContainerState::is_active) {
        remove_sandbox(state, plan);
    }
}

fn stop_all(pod: &Pod, spec: &PodSpec, state: &mut PodState, now: i64, plan: &mut Plan) {
    stop_containers(pod, spec, state, now, plan);
    let busy = state.containers.values().any(ContainerState::is_active);
    if busy || remove_sandbox(state, plan) {
        return;
    }
    // A pod that the node ended stays as Failed until somebody deletes it.
    if state.orphaned || pod.metadata.deletion_timestamp.is_some() {
        plan.actions.push(Action::Finish);
    }
}

/// Asks for the sandbox' removal; true while it is not gone.
fn remove_sandbox(state: &mut PodState, plan: &mut Plan) -> bool {
    let ips = match std::mem::take(&mut state.sandbox) {
        SandboxState::Ready { ips } => ips,
        SandboxState::Failed { retry_ms, .. } if retry_ms < i64::MAX => Vec::new(),
        other => {
            // A failed one whose next attempt is under way counts as being made.
            let busy = !matches!(other, SandboxState::Absent | SandboxState::Removed { .. });
            state.sandbox = other;
            return busy;
        }
    };
    state.sandbox = SandboxState::Removing { ips };
    plan.actions.push(Action::RemoveSandbox);
    true
}

/// Main containers together, then sidecars in reverse order.
fn stop_containers(pod: &Pod, spec: &PodSpec, state: &mut PodState, now: i64, plan: &mut Plan) {
    let full = if state.orphaned { 0 } else { grace(pod) };
    let deadline = *state.stop_deadline_ms.get_or_insert(now + full * 1000);
    let left_s = if state.orphaned { 0 } else { ((deadline - now) / 1000).clamp(0, full) };
    let is_main = |container: &&Container| !(is_sidecar(container) && is_init(spec, container));
    for container in all(spec).filter(is_main) {
        stop(container, state, left_s, plan);
    }
    let main_active = all(spec)
        .filter(is_main)
        .any(|container| state.containers.get(&container.name).is_some_and(ContainerState::is_active));
    if main_active {
        return;
    }
    for container in spec.init_containers.iter().flatten().rev().filter(|container| is_sidecar(container)) {
        stop(container, state, left_s, plan);
        if state.containers.get(&container.name).is_some_and(ContainerState::is_active) {
            return;
        }
    }
}

fn is_init(spec: &PodSpec, container: &Container) -> bool {
    spec.init_containers.iter().flatten().any(|init| init.name == container.name)
}

fn stop(container: &Container, state: &mut PodState, grace_s: i64, plan: &mut Plan) {
    let Some(entry) = state.containers.get_mut(&container.name) else { return };
    if let Phase::Running { started_ms } = entry.phase {
        entry.phase = Phase::Stopping { started_ms };
        let message = format!("Stopping container {}", container.name);
        plan.actions.push(Action::Stop { name: container.name.clone(), grace_s, message });
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
