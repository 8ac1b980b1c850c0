//! ReplicaSet: as many pods as asked for.
//!
//! The snapshot holds what this process wrote itself even where the watch has not brought it back yet (`control`
//! overlays its own writes), so no expectations are kept: a pod just made is already counted.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::action::{Action, Target};
use crate::meta::{self, is_deleting};
use crate::{pods, selector};

/// Who speaks in the events.
pub const COMPONENT: &str = "replicaset-controller";
/// Pods made or deleted in one go, as upstream's BurstReplicas: the rest follows in the next round.
const BURST_MAX: usize = 500;

/// What one ReplicaSet needs. `all` are the pods of its namespace; `failure` is why its last plan failed, if it did.
#[must_use]
pub fn reconcile(now_ms: i64, set: &ReplicaSet, all: &[Arc<Pod>], failure: Option<&str>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mine = claim(set, all, &mut actions);
    let active: Vec<Arc<Pod>> = mine.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    if !is_deleting(&set.metadata) {
        scale(set, &active, &mut actions);
    }
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
    let (status, again) = observe(now_ms, set, &mine, min_ready, failure);
    // Counts first: who waits for them should not wait for the pods' round trips.
    if let Some(patch) = Action::status(set, &set.status.clone().unwrap_or_default(), &status) {
        actions.insert(0, patch);
    }
    actions.extend(again.map(|after_ms| Action::LookAgain { after_ms }));
    actions
}

/// The pods that are this set's: owned ones that still match stay, others are released; matching orphans are adopted.
fn claim(set: &ReplicaSet, all: &[Arc<Pod>], actions: &mut Vec<Action>) -> Vec<Arc<Pod>> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let uid = meta::uid(&set.metadata);
    let mut mine = Vec::new();
    for pod in all {
        let picked = selector::matches(&spec.selector, pod.metadata.labels.as_ref());
        match meta::controller(&pod.metadata) {
            Some(owner) if owner.uid == uid => {
                if picked {
                    mine.push(pod.clone());
                } else if !is_deleting(&set.metadata) {
                    actions.push(release(&**pod, &pod.metadata, uid));
                }
            }
            Some(_) => {}
            None => {
                if picked && pods::is_active(pod) && !is_deleting(&set.metadata) {
                    actions.push(adopt(&**pod, &pod.metadata, set));
                    mine.push(pod.clone());
                }
            }
        }
    }
    mine.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    mine
}

/// A patch that takes the owner away, guarded by the version it was decided on.
pub(crate) fn release<K>(object: &K, of: &ObjectMeta, owner_uid: &str) -> Action
where
    K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let left: Vec<_> = of.owner_references.iter().flatten().filter(|owner| owner.uid != owner_uid).collect();
    let body = serde_json::json!({"metadata": {
        "uid": of.uid, "resourceVersion": of.resource_version, "ownerReferences": left,
    }});
    Action::patch(object, body)
}

/// A patch that adds `owner` as the controller.
pub(crate) fn adopt<K, O>(object: &K, of: &ObjectMeta, owner: &O) -> Action
where
    K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
    O: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let mut owners = of.owner_references.clone().unwrap_or_default();
    owners.push(meta::controller_reference(owner));
    let body = serde_json::json!({"metadata": {
        "uid": of.uid, "resourceVersion": of.resource_version, "ownerReferences": owners,
    }});
    Action::patch(object, body)
}

fn scale(set: &ReplicaSet, active: &[Arc<Pod>], actions: &mut Vec<Action>) {
    let Some(spec) = &set.spec else { return };
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
    let owner = || Some((Target::of(set), COMPONENT));
    for _ in active.len()..wanted.min(active.len() + BURST_MAX) {
        let pod = pod_of(set, spec.template.as_ref());
        let mut create = Action::create(&pod);
        if let Action::Create { owner: slot, .. } = &mut create {
            *slot = owner();
        }
        actions.push(create);
    }
    let surplus = active.len().saturating_sub(wanted).min(BURST_MAX);
    if surplus > 0 {
        for pod in pods::first_to_delete(active.to_vec(), surplus) {
            actions.push(Action::Delete { target: Target::of(&*pod), propagation: None, owner: owner() });
        }
    }
}

fn pod_of(set: &ReplicaSet, template: Option<&PodTemplateSpec>) -> Pod {
    let from = template.and_then(|template| template.metadata.clone()).unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(&set.metadata))),
            namespace: set.metadata.namespace.clone(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![meta::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.and_then(|template| template.spec.clone()),
        status: None,
    }
}

/// The status these pods amount to, and when to look again because a ready pod will become available.
fn observe(
    now_ms: i64,
    set: &ReplicaSet,
    mine: &[Arc<Pod>],
    min_ready: i32,
    failure: Option<&str>,
) -> (ReplicaSetStatus, Option<i64>) {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let labels = template.and_then(|one| one.metadata.as_ref()).and_then(|one| one.labels.as_ref());
    let (mut replicas, mut full, mut ready, mut available, mut leaving) = (0, 0, 0, 0, 0);
    let mut again: Option<i64> = None;
    for pod in mine {
        if !pods::is_active(pod) {
            leaving += i32::from(!pods::is_terminal(pod));
            continue;
        }
        replicas += 1;
        full += i32::from(labels.is_none_or(|l| selector::matches_map(l, pod.metadata.labels.as_ref())));
        ready += i32::from(pods::is_ready(pod));
        match pods::available_in_ms(pod, min_ready, now_ms) {
            Some(0) => available += 1,
            Some(wait) => again = Some(again.map_or(wait, |least| least.min(wait))),
            None => {}
        }
    }
    let old = set.status.clone().unwrap_or_default();
    let some = |count: i32, was: Option<i32>| (count != 0).then_some(count).or(was.filter(|was| *was == 0));
    let status = ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: some(full, old.fully_labeled_replicas),
        ready_replicas: some(ready, old.ready_replicas),
        available_replicas: some(available, old.available_replicas),
        terminating_replicas: Some(leaving),
        observed_generation: set.metadata.generation,
        conditions: conditions(now_ms, old.conditions, failure),
    };
    (status, again)
}

/// `ReplicaFailure` stands while the last plan failed.
fn conditions(
    now_ms: i64,
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&str>,
) -> Option<Vec<ReplicaSetCondition>> {
    let Some(message) = failure else {
        return old
            .map(|old| old.into_iter().filter(|one| one.type_ != "ReplicaFailure").collect::<Vec<_>>())
            .filter(|left| !left.is_empty());
    };
    if old.iter().flatten().any(|one| one.type_ == "ReplicaFailure" && one.status == "True") {
        return old;
    }
    let mut all = old.unwrap_or_default();
    all.push(ReplicaSetCondition {
        type_: "ReplicaFailure".to_owned(),
        status: "True".to_owned(),
        reason: Some("FailedCreate".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(meta::time(now_ms)),
    });
    Some(all)
}
