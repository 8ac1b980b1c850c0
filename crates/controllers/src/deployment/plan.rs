//! The plan under way: the sets as they will be once the actions so far are done.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{DESIRED, HASH_LABEL, MAX, REVISION, REVISION_HISTORY, status, tell, template};
use crate::action::{Action, EventType, to_value};
use crate::meta;

/// Annotations that stay with the Deployment and are not copied to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

pub(super) struct Plan<'a> {
    pub now_ms: i64,
    pub deployment: &'a Deployment,
    pub spec: &'a DeploymentSpec,
    pub status: DeploymentStatus,
    /// Oldest first, without the new one.
    pub old: Vec<ReplicaSet>,
    pub new: Option<ReplicaSet>,
    pub actions: Vec<Action>,
    all: Vec<Arc<ReplicaSet>>,
}

impl<'a> Plan<'a> {
    pub fn new(
        now_ms: i64,
        deployment: &'a Deployment,
        spec: &'a DeploymentSpec,
        all: Vec<Arc<ReplicaSet>>,
    ) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        Self { now_ms, deployment, spec, status, all, old: Vec::new(), new: None, actions: Vec::new() }
    }

    pub fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1).max(0)
    }

    /// (maxSurge, maxUnavailable) in pods: surge rounds up, unavailable down, and not both are nought.
    pub fn bounds(&self) -> (i32, i32) {
        if self.recreates() {
            return (0, 0);
        }
        let rolling = self.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let down = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = share(surge, self.wanted(), true);
        let mut down = share(down, self.wanted(), false);
        if surge == 0 && down == 0 {
            down = 1;
        }
        (surge, down.min(self.wanted()))
    }

    pub fn recreates(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    /// Sorts the sets into new and old. Makes the new one when it is missing and `make` allows.
    pub fn find_new(&mut self, make: bool) {
        let at = self.all.iter().position(|set| template::is_of(set, &self.spec.template));
        self.old = self
            .all
            .iter()
            .enumerate()
            .filter(|(i, _)| Some(*i) != at)
            .map(|(_, set)| (**set).clone())
            .collect();
        let revision = self.old.iter().map(revision).max().unwrap_or_default() + 1;
        match at {
            Some(at) => {
                let mut set = (*self.all[at]).clone();
                if make {
                    self.refresh(&mut set, revision);
                    self.note_found(&set);
                }
                self.new = Some(set);
            }
            None if make => self.make_new(revision),
            None => {}
        }
        if make && let Some(revision) = self.new.as_ref().map(revision_text) {
            self.set_revision(&revision);
        }
    }

    fn note_found(&mut self, set: &ReplicaSet) {
        if self.has_deadline() && status::find(&self.status, "Progressing").is_none() {
            let message = format!("Found new replica set \"{}\"", meta::name(&set.metadata));
            self.progress("True", "FoundNewReplicaSet", message);
        }
    }

    /// Brings the existing new set's annotations and minReadySeconds up to date.
    fn refresh(&mut self, set: &mut ReplicaSet, revision: i64) {
        let before = set.clone();
        let annotations = self.annotations(Some(set), revision);
        set.metadata.annotations = Some(annotations);
        if let Some(spec) = &mut set.spec {
            let seconds = self.spec.min_ready_seconds.filter(|seconds| *seconds != 0);
            if spec.min_ready_seconds.filter(|seconds| *seconds != 0) != seconds {
                spec.min_ready_seconds = seconds;
            }
        }
        if *set != before {
            self.write(set);
        }
    }

    fn make_new(&mut self, revision: i64) {
        let hash = template::hash(&self.spec.template, self.status.collision_count);
        let mut set = self.blank(&hash);
        let replicas = super::rollout::new_size(self, &ReplicaSet::default());
        set.metadata.annotations = Some(self.annotations(None, revision));
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(replicas);
        }
        self.actions.push(Action::create(&set));
        let name = meta::name(&set.metadata).to_owned();
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.actions.push(tell(self.deployment, EventType::Normal, "ScalingReplicaSet", message));
        }
        if self.has_deadline() {
            self.progress("True", "NewReplicaSetCreated", format!("Created new replica set \"{name}\""));
        }
        self.new = Some(set);
    }

    fn blank(&self, hash: &str) -> ReplicaSet {
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
        let labels = labels.clone();
        let mut wanted = self.spec.selector.match_labels.clone().unwrap_or_default();
        wanted.insert(HASH_LABEL.to_owned(), hash.to_owned());
        let expressions = self.spec.selector.match_expressions.clone();
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", meta::name(&self.deployment.metadata))),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![meta::controller_reference(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector: LabelSelector { match_labels: Some(wanted), match_expressions: expressions },
                template: Some(template),
            }),
            status: None,
        }
    }

    /// The annotations of the new set: the Deployment's own, the revision, and the size it was rolled for.
    fn annotations(&self, set: Option<&ReplicaSet>, revision: i64) -> BTreeMap<String, String> {
        let mut out = set.and_then(|set| set.metadata.annotations.clone()).unwrap_or_default();
        for (key, value) in self.deployment.metadata.annotations.iter().flatten() {
            if !NOT_COPIED.contains(&key.as_str()) {
                out.insert(key.clone(), value.clone());
            }
        }
        let old = out.get(REVISION).cloned();
        if old.as_ref().and_then(|text| text.parse::<i64>().ok()).unwrap_or_default() < revision {
            out.insert(REVISION.to_owned(), revision.to_string());
            // A set that comes back (rollback) remembers the numbers it had.
            if let Some(old) = old {
                let history = out.entry(REVISION_HISTORY.to_owned()).or_default();
                *history = if history.is_empty() { old } else { format!("{history},{old}") };
            }
        }
        self.note_size(&mut out);
        out
    }

    pub fn note_size(&self, annotations: &mut BTreeMap<String, String>) {
        annotations.insert(DESIRED.to_owned(), self.wanted().to_string());
        annotations.insert(MAX.to_owned(), (self.wanted() + self.bounds().0).to_string());
    }

    fn set_revision(&mut self, revision: &str) {
        if meta::annotation(&self.deployment.metadata, REVISION) != Some(revision) {
            let body = serde_json::json!({"metadata": {"annotations": {REVISION: revision}}});
            self.actions.push(Action::patch(self.deployment, body));
        }
    }

    /// Gives a set a size. Returns true when the number changed.
    pub fn resize(&mut self, which: Which, replicas: i32) -> bool {
        let Some(mut set) = self.at(which).cloned() else { return false };
        let before = set.clone();
        let was = size(&set);
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(replicas);
        }
        let mut annotations = set.metadata.annotations.take().unwrap_or_default();
        self.note_size(&mut annotations);
        set.metadata.annotations = Some(annotations);
        if set == before {
            return false;
        }
        self.write(&set);
        if was != replicas {
            let way = if was < replicas { "up" } else { "down" };
            let name = meta::name(&set.metadata);
            let message = format!("Scaled {way} replica set {name} from {was} to {replicas}");
            self.actions.push(tell(self.deployment, EventType::Normal, "ScalingReplicaSet", message));
        }
        match which {
            Which::New => self.new = Some(set),
            Which::Old(at) => self.old[at] = set,
        }
        was != replicas
    }

    fn at(&self, which: Which) -> Option<&ReplicaSet> {
        match which {
            Which::New => self.new.as_ref(),
            Which::Old(at) => self.old.get(at),
        }
    }

    /// One write a set: a later size replaces the earlier one in the plan.
    fn write(&mut self, set: &ReplicaSet) {
        let name = meta::name(&set.metadata);
        let body = to_value(set);
        for action in &mut self.actions {
            match action {
                Action::Update { target, body: planned } if target.name == name => {
                    *planned = body;
                    return;
                }
                Action::Create { body: planned, .. } if planned["metadata"]["name"] == name => {
                    *planned = body;
                    return;
                }
                _ => {}
            }
        }
        self.actions.push(Action::update(set));
    }

    /// All sets, old ones first.
    pub fn sets(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(self.new.as_ref())
    }

    pub fn has_deadline(&self) -> bool {
        self.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
    }

    pub fn progress(&mut self, value: &str, reason: &str, message: String) {
        status::set(&mut self.status, status::condition(self.now_ms, "Progressing", value, reason, message));
    }
}

#[derive(Clone, Copy)]
pub(super) enum Which {
    New,
    Old(usize),
}

/// The size asked of a set.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

pub(super) fn number(set: &ReplicaSet, key: &str) -> Option<i32> {
    meta::annotation(&set.metadata, key).and_then(|text| text.parse().ok())
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    meta::annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn revision_text(set: &ReplicaSet) -> String {
    meta::annotation(&set.metadata, REVISION).unwrap_or_default().to_owned()
}

/// A number, or a percentage of `total`.
fn share(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let hundredths = percent.max(0) * i64::from(total);
            let whole = if up { (hundredths + 99) / 100 } else { hundredths / 100 };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}
