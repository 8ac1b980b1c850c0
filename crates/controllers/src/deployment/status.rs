//! What the Deployment reports: counts, Available, Progressing.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::plan::{Plan, available, size};
use crate::action::Action;
use crate::meta;

/// One condition of a status.
pub(super) fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub(super) fn condition(
    now_ms: i64,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(meta::time(now_ms)),
        last_transition_time: Some(meta::time(now_ms)),
    }
}

/// Sets a condition unless it says the same already; the transition time moves only with the status.
pub(super) fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let all = status.conditions.get_or_insert_default();
    if let Some(old) = all.iter().find(|old| old.type_ == new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    all.retain(|old| old.type_ != new.type_);
    all.push(new);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(all) = &mut status.conditions {
        all.retain(|one| one.type_ != kind);
    }
}

/// True when the rollout is over: all pods are new, available, and nothing is left of the old.
pub(super) fn is_complete(deployment: &Deployment, wanted: i32, status: &DeploymentStatus) -> bool {
    status.updated_replicas.unwrap_or_default() == wanted
        && status.replicas.unwrap_or_default() == wanted
        && status.available_replicas.unwrap_or_default() == wanted
        && status.observed_generation >= deployment.metadata.generation
}

impl Plan<'_> {
    /// The counts that the sets report now, with the conditions so far.
    pub fn counted(&self) -> DeploymentStatus {
        let of = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
        let sum = |f: &dyn Fn(&ReplicaSet) -> i32| self.sets().map(f).sum::<i32>();
        let some = |count: i32| (count != 0).then_some(count);
        let lives = sum(&available);
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(sum(&|set| of(set).replicas)),
            updated_replicas: some(self.new.as_ref().map_or(0, |set| of(set).replicas)),
            ready_replicas: some(sum(&|set| of(set).ready_replicas.unwrap_or_default())),
            available_replicas: some(lives),
            unavailable_replicas: some((sum(&size) - lives).max(0)),
            terminating_replicas: Some(sum(&|set| of(set).terminating_replicas.unwrap_or_default())),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.clone(),
        }
    }

    /// Notes in Progressing that the rollout is paused, or that it goes on.
    pub fn note_pause(&mut self, paused: bool) {
        let reason = find(&self.status, "Progressing").and_then(|one| one.reason.clone());
        let reason = reason.as_deref();
        if !self.has_deadline() || reason == Some("ProgressDeadlineExceeded") {
            return;
        }
        if paused && reason != Some("DeploymentPaused") {
            self.progress("Unknown", "DeploymentPaused", "Deployment is paused".to_owned());
        } else if !paused && reason == Some("DeploymentPaused") {
            self.progress("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
        }
    }

    /// Closes the plan with the status.
    pub fn finish(mut self) -> Vec<Action> {
        let old = self.deployment.status.clone().unwrap_or_default();
        let mut status = self.counted();
        self.note_availability(&mut status);
        if self.has_deadline() {
            self.note_progress(&old, &mut status);
        } else {
            remove(&mut status, "Progressing");
        }
        self.note_failure(&mut status);
        status.conditions = status.conditions.take().filter(|all| !all.is_empty());
        let again = self.deadline_in(&status);
        self.actions.extend(Action::status(self.deployment, &old, &status));
        self.actions.extend(again.map(|after_ms| Action::LookAgain { after_ms }));
        self.actions
    }

    fn note_availability(&self, status: &mut DeploymentStatus) {
        let least = self.wanted() - self.bounds().1;
        let (value, reason, message) = if status.available_replicas.unwrap_or_default() >= least {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        set(status, condition(self.now_ms, "Available", value, reason, message.to_owned()));
    }

    fn note_progress(&self, old: &DeploymentStatus, status: &mut DeploymentStatus) {
        let current = find(status, "Progressing").cloned();
        let reason = current.as_ref().and_then(|one| one.reason.as_deref());
        let settled = status.replicas == status.updated_replicas && reason == Some("NewReplicaSetAvailable");
        if settled || self.spec.paused == Some(true) {
            return;
        }
        let subject = self.subject();
        if is_complete(self.deployment, self.wanted(), status) {
            let message = format!("{subject} has successfully progressed.");
            set(status, condition(self.now_ms, "Progressing", "True", "NewReplicaSetAvailable", message));
        } else if advances(old, status) {
            let message = format!("{subject} is progressing.");
            let mut new = condition(self.now_ms, "Progressing", "True", "ReplicaSetUpdated", message);
            // Progress moves the update time, which the deadline counts from, even when nothing else changes.
            if let Some(current) = current.filter(|one| one.status == "True") {
                new.last_transition_time = current.last_transition_time;
            }
            remove(status, "Progressing");
            set(status, new);
        } else if self.left_ms(status).is_some_and(|left| left <= 0) {
            let message = format!("{subject} has timed out progressing.");
            set(status, condition(self.now_ms, "Progressing", "False", "ProgressDeadlineExceeded", message));
        }
    }

    fn subject(&self) -> String {
        match &self.new {
            Some(set) => format!("ReplicaSet \"{}\"", meta::name(&set.metadata)),
            None => format!("Deployment \"{}\"", meta::name(&self.deployment.metadata)),
        }
    }

    /// The new set's trouble is the Deployment's.
    fn note_failure(&self, status: &mut DeploymentStatus) {
        let failure = self.sets().filter_map(|set| {
            set.status.as_ref()?.conditions.as_ref()?.iter().find(|one| one.type_ == "ReplicaFailure")
        });
        match failure.last() {
            Some(one) => set(
                status,
                DeploymentCondition {
                    type_: one.type_.clone(),
                    status: one.status.clone(),
                    reason: one.reason.clone(),
                    message: one.message.clone(),
                    last_update_time: one.last_transition_time.clone(),
                    last_transition_time: one.last_transition_time.clone(),
                },
            ),
            None => remove(status, "ReplicaFailure"),
        }
    }

    /// Milliseconds until the deadline; None when the rollout is done or has failed already.
    fn left_ms(&self, status: &DeploymentStatus) -> Option<i64> {
        let current = find(status, "Progressing")?;
        if matches!(current.reason.as_deref(), Some("NewReplicaSetAvailable" | "ProgressDeadlineExceeded")) {
            return None;
        }
        let since = current.last_update_time.as_ref().map(meta::unix_ms)?;
        let deadline = i64::from(self.spec.progress_deadline_seconds?) * 1000;
        Some(since + deadline - self.now_ms)
    }

    fn deadline_in(&self, status: &DeploymentStatus) -> Option<i64> {
        if self.spec.paused == Some(true) || !self.has_deadline() {
            return None;
        }
        // A second more: condition times are whole seconds.
        self.left_ms(status).map(|left| left.max(0) + 1000)
    }
}

fn advances(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |count: Option<i32>| count.unwrap_or_default();
    n(new.updated_replicas) > n(old.updated_replicas)
        || n(new.replicas) - n(new.updated_replicas) < n(old.replicas) - n(old.updated_replicas)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}
