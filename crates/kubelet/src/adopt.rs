//! What an earlier agent left of a pod: containers that still run, how often they restarted, their addresses.

use crate::context::Context;
use crate::ops::{self, Ready};
use crate::runtime::Found;
use crate::shim::protocol::{ShimPhase, ShimState};
use crate::volumes;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use pod_core::state::{
    BACKOFF_FIRST_MS, BACKOFF_MAX_MS, Backoff, ContainerState, Exit, Phase, PodState, SandboxState,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A pod found on disk.
pub(crate) struct Adopted {
    pub state: PodState,
    pub ready: Option<Ready>,
    /// Containers whose shims live: (name, id).
    pub running: Vec<(String, String)>,
}

/// Reads what is on disk of the pod; None when there is nothing.
pub(crate) async fn load(context: &Context, pod: &Pod) -> Option<Adopted> {
    let pod_ref = ops::pod_ref(pod);
    let record = context.runtime.record(&pod_ref.uid)?;
    let alive = context.runtime.sandbox_alive(&record) && (!record.own_network || !record.ips.is_empty());
    let mut state = PodState { start_ms: record.created_ms, ..PodState::default() };
    let mut running = Vec::new();
    for (name, instances) in by_name(context, &pod_ref.uid) {
        let known = status_of(pod, &name);
        let entry = container(&instances, known, alive);
        if let (Some(id), false) = (&entry.id, entry.is_running()) {
            context.runtime.bury(id);
        }
        if entry.is_running()
            && let Some(id) = &entry.id
        {
            running.push((name.clone(), id.clone()));
        }
        state.containers.insert(name, entry);
    }
    let ready = if alive { attach(context, pod, &record).await } else { None };
    state.sandbox = match &ready {
        Some(ready) => SandboxState::Ready { ips: ready.ips.clone() },
        // A finished pod keeps showing the address it had.
        None => SandboxState::Removed { ips: record.ips.clone() },
    };
    Some(Adopted { state, ready, running })
}

/// Tells the network, and finds the volumes (making those that a stop interrupted).
async fn attach(context: &Context, pod: &Pod, record: &crate::runtime::PodRecord) -> Option<Ready> {
    if record.own_network {
        let ip: IpAddr = record.ips.first()?.parse().ok()?;
        let netns = context.runtime.pod_dir(&record.pod.uid).join("ns/net");
        if let Err(error) = context.network.adopt(&record.pod, &netns, ip).await {
            tracing::warn!(pod = %record.pod, %error, "pod network not adopted");
            return None;
        }
    }
    let ips =
        if record.ips.is_empty() { vec![context.options.node_ip.to_string()] } else { record.ips.clone() };
    let facts = context.facts(&ips[0]);
    match volumes::setup(&context.runtime, pod, &context.objects, &facts).await {
        Ok(places) => Some(Ready { ips, places }),
        Err(error) => {
            tracing::warn!(pod = %record.pod, %error, "volumes not complete after a restart");
            Some(Ready { ips, places: volumes::Places::new() })
        }
    }
}

/// The pod's containers by name, oldest instance first.
fn by_name(context: &Context, uid: &str) -> BTreeMap<String, Vec<Found>> {
    let mut out: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for found in context.runtime.containers().into_iter().filter(|found| found.meta.pod.uid == uid) {
        if found.state.is_none() {
            // It was being made when the agent stopped: it is made again from the start.
            context.runtime.remove(&found.meta.id);
            continue;
        }
        out.entry(found.meta.name.clone()).or_default().push(found);
    }
    for instances in out.values_mut() {
        instances.sort_by_key(|found| found.meta.attempt);
    }
    out
}

fn status_of<'p>(pod: &'p Pod, name: &str) -> Option<&'p ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.into_iter().find(|known| known.name == name)
}

fn container(instances: &[Found], known: Option<&ContainerStatus>, sandbox_alive: bool) -> ContainerState {
    let Some(latest) = instances.last() else { return ContainerState::default() };
    let previous = instances.len().checked_sub(2).and_then(|at| instances.get(at));
    let id = latest.meta.id.clone();
    let same = known.filter(|known| {
        known.container_id.as_deref() == Some(&format!("{}{id}", pod_core::status::CONTAINER_ID_SCHEME))
    });
    let restarts = latest.meta.attempt;
    let mut state = ContainerState {
        id: Some(id.clone()),
        image: latest.meta.image.clone(),
        image_id: latest.meta.image_id.clone(),
        restarts,
        last: previous.map(exit),
        backoff: backoff(restarts, latest.meta.created_ms),
        // Probes confirm or correct it; until then a healthy pod stays in its services.
        started: same.is_some_and(|known| known.started == Some(true)),
        ready: same.is_some_and(|known| known.ready),
        ..ContainerState::default()
    };
    let shim_lives = latest.state.as_ref().is_some_and(|state| {
        state.phase == ShimPhase::Running && crate::shim::start_time(state.shim_pid) == Some(state.shim_start)
    });
    state.phase = match &latest.state {
        Some(shim) if shim_lives && sandbox_alive => Phase::Running { started_ms: shim.started_ms },
        _ => Phase::Exited(exit(latest)),
    };
    if !state.is_running() {
        (state.ready, state.started) = (false, false);
    }
    state
}

fn exit(found: &Found) -> Exit {
    let lost = |state: Option<&ShimState>| Exit {
        id: Some(found.meta.id.clone()),
        code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container could not be located when the pod was terminated".to_owned(),
        started_ms: state.map_or(found.meta.created_ms, |state| state.started_ms),
        finished_ms: state.map_or(found.meta.created_ms, |state| state.started_ms),
    };
    let Some(state) = &found.state else { return lost(None) };
    let reason = match state.phase {
        ShimPhase::Running => return lost(Some(state)),
        ShimPhase::Failed => "StartError",
        ShimPhase::Exited if state.oom_killed => "OOMKilled",
        ShimPhase::Exited if state.exit_code == 0 => "Completed",
        ShimPhase::Exited => "Error",
    };
    Exit {
        id: Some(found.meta.id.clone()),
        code: state.exit_code,
        reason: reason.to_owned(),
        message: state.message.clone(),
        started_ms: state.started_ms,
        finished_ms: state.finished_ms,
    }
}

/// The back-off as it must have been after so many restarts.
fn backoff(restarts: u32, created_ms: i64) -> Option<Backoff> {
    let steps = restarts.checked_sub(1)?;
    let delay_ms = (BACKOFF_FIRST_MS << steps.min(5)).min(BACKOFF_MAX_MS);
    Some(Backoff { delay_ms, updated_ms: created_ms })
}
