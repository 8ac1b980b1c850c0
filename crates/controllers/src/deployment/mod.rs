//! Deployment: rolls ReplicaSets from one template to the next.
//!
//! ```text
//! claim sets ─▶ paused? or replicas changed? ──yes──▶ scale in proportion ──┐
//!                     │ no                                                  ├─▶ status
//!                     └─▶ find or make the new set ─▶ rolling | recreate ───┘
//! ```
//! Messages and reasons are upstream's, since `kubectl rollout` and people's alerts read them.

mod plan;
mod rollout;
mod scale;
mod status;
mod template;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::action::{Action, EventType, Notice, Target};
use crate::meta::{self, is_deleting};
use crate::replica_set::{adopt, release};
use crate::selector;
use plan::Plan;

pub use template::hash;

/// Who speaks in the events.
pub const COMPONENT: &str = "deployment-controller";
/// The label that tells the pods of one template from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// What one Deployment needs. `sets` and `pods` are those of its namespace.
#[must_use]
pub fn reconcile(
    now_ms: i64,
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
) -> Vec<Action> {
    let Some(spec) = &deployment.spec else { return Vec::new() };
    if selector::is_empty(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
        return vec![tell(deployment, EventType::Warning, "SelectingAll", message)];
    }
    let mut claims = Vec::new();
    let mine = claim(deployment, sets, &mut claims);
    let mut plan = Plan::new(now_ms, deployment, spec, mine);
    plan.actions = claims;
    if is_deleting(&deployment.metadata) {
        plan.find_new(false);
    } else if spec.paused == Some(true) {
        plan.find_new(false);
        plan.note_pause(true);
        plan.scale();
        plan.clean_up();
    } else {
        plan.note_pause(false);
        if plan.is_scaling() {
            plan.find_new(false);
            plan.scale();
        } else if plan.recreates() {
            plan.recreate(pods);
        } else {
            plan.roll();
        }
    }
    plan.finish()
}

/// What to do when the new set's name is taken: nothing when it is ours, else another hash.
#[must_use]
pub fn collision(deployment: &Deployment, taken: &ReplicaSet) -> Option<Action> {
    if meta::is_controlled_by(&taken.metadata, meta::uid(&deployment.metadata)) {
        return None;
    }
    let old = deployment.status.clone().unwrap_or_default();
    let mut new = old.clone();
    new.collision_count = Some(old.collision_count.unwrap_or_default() + 1);
    Action::status(deployment, &old, &new)
}

fn claim(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    actions: &mut Vec<Action>,
) -> Vec<Arc<ReplicaSet>> {
    let (uid, leaving) = (meta::uid(&deployment.metadata), is_deleting(&deployment.metadata));
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let mut mine = Vec::new();
    for set in sets {
        let picked = selector::matches(&spec.selector, set.metadata.labels.as_ref());
        match meta::controller(&set.metadata) {
            Some(owner) if owner.uid == uid && picked => mine.push(set.clone()),
            Some(owner) if owner.uid == uid && !leaving => {
                actions.push(release(&**set, &set.metadata, uid));
            }
            None if picked && !leaving && !is_deleting(&set.metadata) => {
                actions.push(adopt(&**set, &set.metadata, deployment));
            }
            _ => {}
        }
    }
    // Oldest first, names break ties: the order upstream scales old sets in.
    mine.sort_by(|a, b| order(a).cmp(&order(b)));
    mine
}

fn order(set: &ReplicaSet) -> (i64, &str) {
    (meta::created_ms(&set.metadata), meta::name(&set.metadata))
}

fn tell(about: &Deployment, kind: EventType, reason: &'static str, message: String) -> Action {
    Action::Tell(Notice { about: Target::of(about), kind, reason, message, component: COMPONENT })
}

#[cfg(test)]
mod tests;
