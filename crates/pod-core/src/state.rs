//! What is known of a pod on this node, and how events change it. No I/O, no clock: `now` is an argument.
//!
//! ```text
//! Idle ──step──▶ Starting ──started──▶ Running ──step──▶ Stopping
//!   ▲               │ start_failed        │ exited          │ exited
//!   └── not_created ┘        └────────────┴──▶ Exited ◀─────┘
//!                                                └─ step, when the restart policy and the back-off allow ─▶ Starting
//! ```

use crate::probe::{ProbeKind, ProbeState};
use std::collections::BTreeMap;

/// First delay of the crash-loop back-off.
pub const BACKOFF_FIRST_MS: i64 = 10_000;
/// Longest delay of the crash-loop back-off.
pub const BACKOFF_MAX_MS: i64 = 300_000;
/// A container that ran this long starts again with the first delay.
pub const BACKOFF_RESET_MS: i64 = 600_000;

/// A pod on this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodState {
    /// The pod's namespaces and network.
    pub sandbox: SandboxState,
    /// Every container of the specification, by name.
    pub containers: BTreeMap<String, ContainerState>,
    /// When this node first saw the pod, ms since 1970.
    pub start_ms: i64,
    /// The node ended the pod: (reason, message) of the Failed phase.
    pub ended: Option<(String, String)>,
    /// Until when a deletion's grace lasts, set when the deletion is first seen.
    pub stop_deadline_ms: Option<i64>,
    /// The object is gone from the API: stop everything at once.
    pub orphaned: bool,
}

/// A pod's sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SandboxState {
    /// Not made yet.
    #[default]
    Absent,
    /// Being made.
    Creating,
    /// It could not be made; it is tried again at the time.
    Failed {
        /// When, ms since 1970.
        retry_ms: i64,
        /// How often it failed.
        failures: u32,
        /// Why.
        message: String,
    },
    /// Containers may start.
    Ready {
        /// The pod's addresses.
        ips: Vec<String>,
    },
    /// Being removed.
    Removing {
        /// The addresses it had.
        ips: Vec<String>,
    },
    /// Removed for good.
    Removed {
        /// The addresses it had: a finished pod's status keeps them.
        ips: Vec<String>,
    },
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerState {
    /// Where it is in its life.
    pub phase: Phase,
    /// The latest instance.
    pub id: Option<String>,
    /// The image's name as resolved.
    pub image: String,
    /// The image's identity.
    pub image_id: String,
    /// How often it was started anew.
    pub restarts: u32,
    /// The end of the instance before the latest.
    pub last: Option<Exit>,
    /// The crash-loop back-off.
    pub backoff: Option<Backoff>,
    /// Why it could not be created: (reason, message).
    pub waiting: Option<(String, String)>,
    /// When creation is tried again, ms since 1970.
    pub retry_ms: i64,
    /// How often creation failed in a row.
    pub failures: u32,
    /// The startup probe has succeeded, or there is none.
    pub started: bool,
    /// The readiness probe has succeeded, or there is none.
    pub ready: bool,
    /// Probes of the running instance.
    pub probes: BTreeMap<ProbeKind, ProbeState>,
    /// A probe or hook wants the running instance to be replaced: its message.
    pub condemned: Option<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Phase {
    /// There is no instance.
    #[default]
    Idle,
    /// An instance is being made.
    Starting {
        /// The end of the instance it replaces.
        previous: Option<Exit>,
    },
    /// The program runs.
    Running {
        /// Since when, ms since 1970.
        started_ms: i64,
    },
    /// The program runs and was asked to end.
    Stopping {
        /// Since when it runs, ms since 1970.
        started_ms: i64,
    },
    /// The program has ended.
    Exited(Exit),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    /// The instance.
    pub id: Option<String>,
    /// Its exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`...
    pub reason: String,
    /// The termination message.
    pub message: String,
    /// When it was started, ms since 1970.
    pub started_ms: i64,
    /// When it ended, ms since 1970.
    pub finished_ms: i64,
}

/// The crash-loop back-off of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay that counts from the next end.
    pub delay_ms: i64,
    /// When it was last raised.
    pub updated_ms: i64,
}

impl Backoff {
    /// The back-off after one more restart at `now`.
    #[must_use]
    pub fn raised(previous: Option<Self>, now: i64) -> Self {
        let delay_ms = previous
            .filter(|previous| now - previous.updated_ms <= BACKOFF_RESET_MS)
            .map_or(BACKOFF_FIRST_MS, |previous| (previous.delay_ms * 2).min(BACKOFF_MAX_MS));
        Self { delay_ms, updated_ms: now }
    }
}

impl ContainerState {
    /// Whether a program runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. } | Phase::Stopping { .. })
    }

    /// Whether a program runs or is about to.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.is_running() || matches!(self.phase, Phase::Starting { .. })
    }

    /// The end, if the container has ended.
    #[must_use]
    pub const fn exit(&self) -> Option<&Exit> {
        if let Phase::Exited(exit) = &self.phase { Some(exit) } else { None }
    }

    /// When an ended container may start again.
    #[must_use]
    pub fn restart_at(&self, exit: &Exit) -> i64 {
        let due = self
            .backoff
            .filter(|backoff| exit.finished_ms - backoff.updated_ms <= BACKOFF_RESET_MS)
            .map_or(exit.finished_ms, |backoff| exit.finished_ms + backoff.delay_ms);
        due.max(self.retry_ms)
    }

    /// The program was started.
    pub fn started(&mut self, id: String, image: String, image_id: String, at_ms: i64) {
        if let Phase::Starting { previous: Some(exit) } = std::mem::take(&mut self.phase) {
            self.last = Some(exit);
            self.restarts += 1;
        }
        *self = Self {
            phase: Phase::Running { started_ms: at_ms },
            id: Some(id),
            image,
            image_id,
            restarts: self.restarts,
            last: self.last.take(),
            backoff: self.backoff,
            ..Self::default()
        };
    }

    /// The container could not be created (image or configuration): nothing ran.
    pub fn not_created(&mut self, reason: &str, message: &str, now: i64) {
        self.failures += 1;
        let doubled = BACKOFF_FIRST_MS.saturating_mul(1 << (self.failures - 1).min(5));
        self.retry_ms = now + doubled.min(BACKOFF_MAX_MS);
        self.waiting = Some((reason.to_owned(), message.to_owned()));
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Starting { previous: Some(exit) } => Phase::Exited(exit),
            _ => Phase::Idle,
        };
    }

    /// The program could not be started: counts as an instance that ended at once.
    pub fn start_failed(&mut self, id: String, message: &str, now: i64) {
        let (image, image_id) = (std::mem::take(&mut self.image), std::mem::take(&mut self.image_id));
        self.started(id, image, image_id, now);
        self.exited(128, "StartError", message, now, now);
        self.waiting = Some(("RunContainerError".to_owned(), message.to_owned()));
    }

    /// The program ended.
    pub fn exited(&mut self, code: i32, reason: &str, message: &str, started_ms: i64, finished_ms: i64) {
        self.phase = Phase::Exited(Exit {
            id: self.id.clone(),
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            started_ms,
            finished_ms,
        });
        self.ready = false;
        self.started = false;
        self.probes.clear();
        self.condemned = None;
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_to_five_minutes_and_resets_after_ten() {
        let mut backoff = None;
        let mut delays = Vec::new();
        for now in 0..7 {
            backoff = Some(Backoff::raised(backoff, now));
            delays.extend(backoff.map(|backoff| backoff.delay_ms / 1000));
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(Backoff::raised(backoff, BACKOFF_RESET_MS + 10).delay_ms, BACKOFF_FIRST_MS);
    }
}
