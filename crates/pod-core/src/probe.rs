//! Probes: when each is due, and what its results mean.

use crate::state::{ContainerState, Phase};
use k8s_openapi::api::core::v1::{Container, Probe};

/// The three kinds. Startup holds back the other two until it has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Is the program up? Failing it replaces the container.
    Startup,
    /// Does it still work? Failing it replaces the container.
    Liveness,
    /// Does it take requests? Failing it takes the pod out of its services.
    Readiness,
}

impl ProbeKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The word in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The container's probe of this kind.
    #[must_use]
    pub const fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// The history of one probe of one running instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// When it is due, ms since 1970; None before it was scheduled.
    pub next_ms: Option<i64>,
    /// It is being carried out.
    pub in_flight: bool,
    /// Successes in a row.
    pub successes: i32,
    /// Failures in a row.
    pub failures: i32,
}

/// Seconds to milliseconds with the API's default.
fn ms(seconds: Option<i32>, default: i32) -> i64 {
    i64::from(seconds.unwrap_or(default)) * 1000
}

/// How long one attempt may take, ms.
#[must_use]
pub fn timeout_ms(probe: &Probe) -> i64 {
    ms(probe.timeout_seconds, 1).max(1000)
}

/// A container that runs without a probe of a kind has what the probe would grant.
pub(crate) fn settle(container: &Container, state: &mut ContainerState) {
    if !state.is_running() {
        return;
    }
    state.started |= container.startup_probe.is_none();
    state.ready |= state.started && container.readiness_probe.is_none();
}

/// The kinds that are due at `now`, marked as in flight, and when the next one will be.
pub(crate) fn due(
    container: &Container,
    state: &mut ContainerState,
    now: i64,
) -> (Vec<ProbeKind>, Option<i64>) {
    let Phase::Running { started_ms } = state.phase else { return (Vec::new(), None) };
    let (mut due, mut wake) = (Vec::new(), None::<i64>);
    for kind in ProbeKind::ALL {
        let Some(probe) = kind.of(container) else { continue };
        // Startup runs until it succeeds, the others only then.
        if (kind == ProbeKind::Startup) == state.started {
            continue;
        }
        let history = state.probes.entry(kind).or_default();
        if history.in_flight {
            continue;
        }
        let first = started_ms + ms(probe.initial_delay_seconds, 0);
        let next = *history.next_ms.get_or_insert(first);
        if next <= now {
            history.in_flight = true;
            history.next_ms = Some(now + ms(probe.period_seconds, 10).max(1000));
            due.push(kind);
        } else {
            wake = Some(wake.map_or(next, |wake| wake.min(next)));
        }
    }
    (due, wake)
}

/// Takes a probe's result: the message of the end it brings to the container, if it does.
pub fn record(
    container: &Container,
    state: &mut ContainerState,
    kind: ProbeKind,
    success: bool,
) -> Option<String> {
    let probe = kind.of(container)?;
    let history = state.probes.entry(kind).or_default();
    history.in_flight = false;
    if success {
        history.failures = 0;
        history.successes += 1;
    } else {
        history.successes = 0;
        history.failures += 1;
    }
    let passed = history.successes >= probe.success_threshold.unwrap_or(1);
    let failed = history.failures >= probe.failure_threshold.unwrap_or(3);
    match kind {
        ProbeKind::Startup => state.started |= passed,
        ProbeKind::Readiness if passed => state.ready = true,
        ProbeKind::Readiness if failed => state.ready = false,
        _ => {}
    }
    if !failed || kind == ProbeKind::Readiness || !matches!(state.phase, Phase::Running { .. }) {
        return None;
    }
    let word = kind.name().to_lowercase();
    let message = format!("Container {} failed {word} probe, will be restarted", container.name);
    state.condemned = Some(message.clone());
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(probes: serde_json::Value) -> Container {
        let mut value = json!({"name": "c"});
        value.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn running() -> ContainerState {
        ContainerState { phase: Phase::Running { started_ms: 1000 }, ..ContainerState::default() }
    }

    #[test]
    fn startup_holds_back_the_others() {
        let spec = container(
            json!({"startupProbe": {"periodSeconds": 1}, "livenessProbe": {"initialDelaySeconds": 5}}),
        );
        let mut state = running();
        settle(&spec, &mut state);
        assert!(!state.started && !state.ready);
        assert_eq!(due(&spec, &mut state, 1000), (vec![ProbeKind::Startup], None));
        assert_eq!(due(&spec, &mut state, 1500), (vec![], None), "one attempt at a time");
        assert_eq!(record(&spec, &mut state, ProbeKind::Startup, true), None);
        settle(&spec, &mut state);
        assert!(state.started && state.ready);
        assert_eq!(due(&spec, &mut state, 2000), (vec![], Some(6000)));
        assert_eq!(due(&spec, &mut state, 6000), (vec![ProbeKind::Liveness], None));
    }

    #[test]
    fn thresholds_decide() {
        let spec = container(
            json!({"livenessProbe": {"failureThreshold": 2}, "readinessProbe": {"successThreshold": 2}}),
        );
        let mut state = running();
        settle(&spec, &mut state);
        assert!(state.started && !state.ready);
        assert_eq!(record(&spec, &mut state, ProbeKind::Readiness, true), None);
        assert!(!state.ready);
        record(&spec, &mut state, ProbeKind::Readiness, true);
        assert!(state.ready);
        assert_eq!(record(&spec, &mut state, ProbeKind::Liveness, false), None);
        let end = record(&spec, &mut state, ProbeKind::Liveness, false);
        assert_eq!(end.as_deref(), Some("Container c failed liveness probe, will be restarted"));
    }
}
