//! The status a pod's state comes to, as upstream's kubelet writes it.

use crate::plan::{all, init_done, is_finished, restarts};
use crate::resources::{is_sidecar, qos};
use crate::state::{ContainerState, Exit, Phase, PodState, SandboxState};
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The scheme of `containerID`.
pub const CONTAINER_ID_SCHEME: &str = "ketch://";

/// The time as the API writes it: whole seconds.
#[must_use]
pub fn time(ms: i64) -> Time {
    Time(Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Computes the status. Conditions that did not change keep their transition time; those of others are kept.
#[must_use]
pub fn status(pod: &Pod, state: &PodState, host_ip: &str, now: i64) -> PodStatus {
    let Some(spec) = &pod.spec else { return PodStatus::default() };
    let phase = phase(spec, state);
    let ips = ips(spec, state, host_ip);
    let statuses = |containers: &[Container], is_init| {
        containers
            .iter()
            .map(|container| container_status(pod, spec, container, is_init, state, now))
            .collect::<Vec<_>>()
    };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let old = pod.status.as_ref();
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: state.ended.as_ref().map(|(reason, _)| reason.clone()),
        message: state.ended.as_ref().map(|(_, message)| message.clone()),
        conditions: Some(conditions(pod, spec, state, phase, now)),
        host_ip: (!host_ip.is_empty()).then(|| host_ip.to_owned()),
        host_ips: (!host_ip.is_empty()).then(|| vec![HostIP { ip: host_ip.to_owned() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: old.and_then(|old| old.start_time.clone()).or_else(|| Some(time(state.start_ms))),
        qos_class: Some(qos(pod).name().to_owned()),
        container_statuses: Some(statuses(&spec.containers, false)),
        init_container_statuses: (!init.is_empty()).then(|| statuses(init, true)),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn ips(spec: &PodSpec, state: &PodState, host_ip: &str) -> Vec<String> {
    match &state.sandbox {
        SandboxState::Ready { ips } | SandboxState::Removing { ips } | SandboxState::Removed { ips } => {
            if spec.host_network == Some(true) {
                vec![host_ip.to_owned()]
            } else {
                ips.clone()
            }
        }
        _ => Vec::new(),
    }
}

/// `status.phase` (upstream's `getPhase`).
#[must_use]
pub fn phase(spec: &PodSpec, state: &PodState) -> &'static str {
    let get = |container: &Container| state.containers.get(&container.name);
    let active = || all(spec).filter_map(get).any(ContainerState::is_active);
    if state.ended.is_some() && !active() {
        return "Failed";
    }
    if is_finished(spec, state) {
        let clean = |exit: &Exit| exit.code == 0;
        let succeeded = spec
            .containers
            .iter()
            .all(|container| get(container).and_then(ContainerState::exit).is_some_and(clean));
        // Sidecars may still be on their way down; the phase is final only then.
        if active() && succeeded {
            return "Running";
        }
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    let begun = spec.containers.iter().any(|container| get(container).is_some_and(has_begun));
    let waiting = spec.containers.iter().any(|container| !get(container).is_some_and(has_begun));
    if begun && !waiting { "Running" } else { "Pending" }
}

/// Whether an instance ever ran.
fn has_begun(state: &ContainerState) -> bool {
    state.is_running()
        || state.exit().is_some()
        || state.last.is_some()
        || state.restarts > 0
        || matches!(&state.phase, Phase::Starting { previous: Some(_) })
}

fn container_status(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    is_init: bool,
    state: &PodState,
    now: i64,
) -> ContainerStatus {
    let empty = ContainerState::default();
    let entry = state.containers.get(&container.name).unwrap_or(&empty);
    let (api, last) = api_state(pod, spec, container, is_init, entry, now);
    let done = is_init && !is_sidecar(container) && init_done(container, Some(entry));
    let image = if entry.image.is_empty() {
        container.image.clone().unwrap_or_default()
    } else {
        entry.image.clone()
    };
    let running = entry.is_running();
    ContainerStatus {
        name: container.name.clone(),
        container_id: entry.id.as_ref().map(|id| format!("{CONTAINER_ID_SCHEME}{id}")),
        image,
        image_id: entry.image_id.clone(),
        ready: done || (running && entry.ready && (!is_init || is_sidecar(container))),
        started: Some(running && entry.started),
        restart_count: i32::try_from(entry.restarts).unwrap_or(i32::MAX),
        state: Some(api),
        last_state: Some(last.map_or_else(ApiState::default, |exit| ApiState {
            terminated: Some(terminated(exit)),
            ..ApiState::default()
        })),
        resources: running.then(|| container.resources.clone().unwrap_or_default()),
        allocated_resources: running.then(|| container.resources.as_ref()?.requests.clone()).flatten(),
        ..ContainerStatus::default()
    }
}

/// The state shown, and the end shown as the last one.
fn api_state<'s>(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    is_init: bool,
    state: &'s ContainerState,
    now: i64,
) -> (ApiState, Option<&'s Exit>) {
    match &state.phase {
        Phase::Running { started_ms } | Phase::Stopping { started_ms } => {
            let running = ContainerStateRunning { started_at: Some(time(*started_ms)) };
            (ApiState { running: Some(running), ..ApiState::default() }, state.last.as_ref())
        }
        Phase::Starting { previous: Some(exit) } => (shown_end(exit), state.last.as_ref()),
        Phase::Exited(exit) if restarts(spec, container, exit, is_init) => match &state.waiting {
            Some((reason, message)) => (waiting(reason, message), Some(exit)),
            None if state.restart_at(exit) > now => {
                (waiting("CrashLoopBackOff", &backoff_text(pod, container, state)), Some(exit))
            }
            None => (shown_end(exit), state.last.as_ref()),
        },
        Phase::Exited(exit) => (shown_end(exit), state.last.as_ref()),
        Phase::Idle | Phase::Starting { previous: None } => {
            let shown = match &state.waiting {
                Some((reason, message)) => waiting(reason, message),
                None if spec.init_containers.as_ref().is_some_and(|list| !list.is_empty()) => {
                    waiting("PodInitializing", "")
                }
                None => waiting("ContainerCreating", ""),
            };
            (shown, state.last.as_ref())
        }
    }
}

/// The text of the crash-loop back-off.
#[must_use]
pub fn backoff_text(pod: &Pod, container: &Container, state: &ContainerState) -> String {
    let delay = state.backoff.map_or(0, |backoff| backoff.delay_ms / 1000);
    let delay = if delay >= 60 { format!("{}m{}s", delay / 60, delay % 60) } else { format!("{delay}s") };
    let meta = &pod.metadata;
    let (name, namespace) = (meta.name.as_deref().unwrap_or(""), meta.namespace.as_deref().unwrap_or(""));
    let uid = meta.uid.as_deref().unwrap_or("");
    format!("back-off {delay} restarting failed container={} pod={name}_{namespace}({uid})", container.name)
}

fn waiting(reason: &str, message: &str) -> ApiState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    ApiState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ApiState::default()
    }
}

fn shown_end(exit: &Exit) -> ApiState {
    ApiState { terminated: Some(terminated(exit)), ..ApiState::default() }
}

fn terminated(exit: &Exit) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: exit.id.as_ref().map(|id| format!("{CONTAINER_ID_SCHEME}{id}")),
        exit_code: exit.code,
        reason: Some(exit.reason.clone()),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        started_at: Some(time(exit.started_ms)),
        finished_at: Some(time(exit.finished_ms)),
        signal: None,
    }
}

struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

fn conditions(pod: &Pod, spec: &PodSpec, state: &PodState, phase: &str, now: i64) -> Vec<PodCondition> {
    let sandbox = matches!(state.sandbox, SandboxState::Ready { .. });
    let containers = containers_ready(spec, state, phase);
    let verdicts = [
        Verdict { kind: "PodReadyToStartContainers", holds: sandbox, reason: None, message: None },
        initialized(spec, state, phase),
        ready(pod, spec, &containers),
        containers,
    ];
    let old: Vec<PodCondition> =
        pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut out: Vec<PodCondition> =
        verdicts.iter().map(|verdict| condition(pod, verdict, &old, now)).collect();
    let mut others: Vec<_> =
        old.into_iter().filter(|known| !out.iter().any(|own| own.type_ == known.type_)).collect();
    if !others.iter().any(|other| other.type_ == "PodScheduled") {
        let scheduled = Verdict { kind: "PodScheduled", holds: true, reason: None, message: None };
        others.push(condition(pod, &scheduled, &[], now));
    }
    out.append(&mut others);
    out
}

fn condition(pod: &Pod, verdict: &Verdict, old: &[PodCondition], now: i64) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let same = old.iter().find(|known| known.type_ == verdict.kind && known.status == status);
    PodCondition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message.clone(),
        last_transition_time: same
            .and_then(|known| known.last_transition_time.clone())
            .or_else(|| Some(time(now))),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    }
}

fn initialized(spec: &PodSpec, state: &PodState, phase: &str) -> Verdict {
    let kind = "Initialized";
    if phase == "Succeeded" {
        return Verdict { kind, holds: true, reason: Some("PodCompleted"), message: None };
    }
    let begun = spec.containers.iter().any(|c| state.containers.get(&c.name).is_some_and(has_begun));
    let open: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| !begun && !init_done(container, state.containers.get(&container.name)))
        .map(|container| container.name.as_str())
        .collect();
    if open.is_empty() {
        return Verdict { kind, holds: true, reason: None, message: None };
    }
    let message = format!("containers with incomplete status: [{}]", open.join(" "));
    Verdict { kind, holds: false, reason: Some("ContainersNotInitialized"), message: Some(message) }
}

fn containers_ready(spec: &PodSpec, state: &PodState, phase: &str) -> Verdict {
    let kind = "ContainersReady";
    match phase {
        "Succeeded" => return Verdict { kind, holds: false, reason: Some("PodCompleted"), message: None },
        "Failed" => return Verdict { kind, holds: false, reason: Some("PodFailed"), message: None },
        _ => {}
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let unready: Vec<&str> = sidecars
        .chain(&spec.containers)
        .filter(|container| {
            !state.containers.get(&container.name).is_some_and(|state| state.is_running() && state.ready)
        })
        .map(|container| container.name.as_str())
        .collect();
    if unready.is_empty() {
        return Verdict { kind, holds: true, reason: None, message: None };
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict { kind, holds: false, reason: Some("ContainersNotReady"), message: Some(message) }
}

fn ready(pod: &Pod, spec: &PodSpec, containers: &Verdict) -> Verdict {
    let kind = "Ready";
    if !containers.holds {
        return Verdict { kind, message: containers.message.clone(), ..*containers };
    }
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let open = spec.readiness_gates.iter().flatten().find(|gate| {
        !known.iter().any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    });
    let Some(gate) = open else { return Verdict { kind, holds: true, reason: None, message: None } };
    let text = if known.iter().any(|condition| condition.type_ == gate.condition_type) {
        format!("the status of pod readiness gate \"{}\" is not \"True\", but False", gate.condition_type)
    } else {
        format!("corresponding condition of pod readiness gate \"{}\" does not exist.", gate.condition_type)
    };
    Verdict { kind, holds: false, reason: Some("ReadinessGatesNotReady"), message: Some(text) }
}
