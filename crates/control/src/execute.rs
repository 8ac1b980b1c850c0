//! Carries out what controllers decide: one request an action, through the same front door as everyone's.
//!
//! Creates and deletes that a set asks for run side by side in batches of 1, 2, 4...: the first failure (a quota, a
//! webhook) then costs few requests, and a hundred pods cost seven round trips.

use api_client::events::Recorder;
use api_client::{Failure, classify};
use base::clock::SharedClock;
use base::task::Tasks;
use controllers::{Action, EventType, Kind, Notice, Target};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Endpoints, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy, Request};
use serde_json::Value;

use crate::cache::Watched;

/// Who the API server notes as the writer of fields.
const FIELD_MANAGER: &str = "kube-controller-manager";
/// Requests of one plan in flight at once.
const BATCH_MAX: usize = 64;

/// The caches that must know at once what this process wrote.
#[derive(Clone)]
pub(crate) struct Caches {
    pub pods: Watched<Pod>,
    pub replica_sets: Watched<ReplicaSet>,
    pub slices: Watched<EndpointSlice>,
    pub endpoints: Watched<Endpoints>,
}

impl Caches {
    fn learn(&self, plural: &str, reply: Value) {
        match plural {
            "pods" => self.pods.learn(reply),
            "replicasets" => self.replica_sets.learn(reply),
            "endpointslices" => self.slices.learn(reply),
            "endpoints" => self.endpoints.learn(reply),
            _ => {}
        }
    }

    fn forget(&self, plural: &str, uid: &str) {
        match plural {
            "pods" => self.pods.forget(uid),
            "replicasets" => self.replica_sets.forget(uid),
            "endpointslices" => self.slices.forget(uid),
            "endpoints" => self.endpoints.forget(uid),
            _ => {}
        }
    }
}

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The request could not be written; retrying does not help.
    #[error("the request could not be built: {0}")]
    Request(#[from] kube::core::request::Error),
    /// A name is taken by an object that is not ours.
    #[error("{0} is taken")]
    Taken(String),
}

impl Error {
    pub fn failure(&self) -> Failure {
        match self {
            Self::Api(error) => classify(error),
            Self::Request(_) => Failure::Refused,
            Self::Taken(_) => Failure::AlreadyExists,
        }
    }
}

/// Hands for the controllers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    pub client: Client,
    pub caches: Caches,
    recorders: Recorders,
}

/// One recorder for each component that tells events.
#[derive(Clone)]
struct Recorders {
    deployments: Recorder,
    replica_sets: Recorder,
    nodes: Recorder,
}

impl Executor {
    pub fn new(client: Client, caches: Caches, clock: &SharedClock, tasks: &Tasks) -> Self {
        let recorder = |component| Recorder::start(client.clone(), component, None, clock.clone(), tasks);
        let recorders = Recorders {
            deployments: recorder(controllers::deployment::COMPONENT),
            replica_sets: recorder(controllers::replica_set::COMPONENT),
            nodes: recorder(controllers::node_lifecycle::COMPONENT),
        };
        Self { client, caches, recorders }
    }

    /// Carries out a plan. Returns after how many milliseconds to look again, if the plan asks for it.
    pub async fn run(&self, actions: Vec<Action>) -> Result<Option<i64>, Error> {
        let mut again: Option<i64> = None;
        let mut batch: Vec<Action> = Vec::new();
        for action in actions {
            if is_batched(&action) {
                batch.push(action);
                continue;
            }
            self.run_batch(std::mem::take(&mut batch)).await?;
            match action {
                Action::LookAgain { after_ms } => {
                    again = Some(again.map_or(after_ms, |least| least.min(after_ms)));
                }
                other => self.one(other).await?,
            }
        }
        self.run_batch(batch).await?;
        Ok(again)
    }

    async fn run_batch(&self, actions: Vec<Action>) -> Result<(), Error> {
        let mut left = actions.into_iter();
        let mut size = 1;
        loop {
            let now: Vec<Action> = left.by_ref().take(size).collect();
            if now.is_empty() {
                return Ok(());
            }
            for result in join_all(now.into_iter().map(|action| self.one(action))).await {
                result?;
            }
            size = (size * 2).min(BATCH_MAX);
        }
    }

    async fn one(&self, action: Action) -> Result<(), Error> {
        match action {
            Action::Create { kind, namespace, body, owner } => {
                let result = self.create(&kind, &namespace, &body).await;
                self.tell_create(&kind, owner, &result);
                let reply = result?;
                self.caches.learn(&kind.plural, reply);
            }
            Action::Update { target, body } => self.update(&target, body).await?,
            Action::Patch { target, subresource, body } => self.patch(&target, subresource, body).await?,
            Action::Delete { target, propagation, owner } => {
                let policy = propagation.map(policy);
                let result = self.delete(&target, policy, None).await;
                self.tell_delete(&target, owner, &result);
                result?;
            }
            Action::Force { target } => self.delete(&target, None, Some(0)).await?,
            Action::Tell(notice) => self.tell(&notice),
            Action::LookAgain { .. } => {}
        }
        Ok(())
    }

    async fn create(&self, kind: &Kind, namespace: &str, body: &Value) -> Result<Value, Error> {
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        let request =
            Request::new(url(kind, namespace)).create(&parameters, body.to_string().into_bytes())?;
        Ok(self.client.request(request).await?)
    }

    async fn update(&self, target: &Target, mut body: Value) -> Result<(), Error> {
        if let Some(meta) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            // The cache holds none; an empty list must not be taken for a wish to clear it.
            meta.remove("managedFields");
        }
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        let request = Request::new(url(&target.kind, &target.namespace));
        let request = request.replace(&target.name, &parameters, body.to_string().into_bytes())?;
        let reply = self.client.request(request).await?;
        self.caches.learn(&target.kind.plural, reply);
        Ok(())
    }

    async fn patch(&self, target: &Target, subresource: &str, body: Value) -> Result<(), Error> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request = Request::new(url(&target.kind, &target.namespace));
        let patch = Patch::Merge(body);
        let request = if subresource.is_empty() {
            request.patch(&target.name, &parameters, &patch)?
        } else {
            request.patch_subresource(subresource, &target.name, &parameters, &patch)?
        };
        match self.client.request(request).await {
            Ok(reply) => self.caches.learn(&target.kind.plural, reply),
            // Gone since: whoever watches it looks again anyway.
            Err(error) if classify(&error) == Failure::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn delete(
        &self,
        target: &Target,
        propagation_policy: Option<PropagationPolicy>,
        grace_period_seconds: Option<u32>,
    ) -> Result<(), Error> {
        let uid = Some(target.uid.clone()).filter(|uid| !uid.is_empty());
        let parameters = DeleteParams {
            propagation_policy,
            grace_period_seconds,
            preconditions: uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        let request = Request::new(url(&target.kind, &target.namespace)).delete(&target.name, &parameters)?;
        match self.client.request::<Value>(request).await {
            // A Status says that it is gone; the object itself, that it is on its way.
            Ok(reply) if reply["kind"] == "Status" => self.caches.forget(&target.kind.plural, &target.uid),
            Ok(reply) => self.caches.learn(&target.kind.plural, reply),
            Err(error) if classify(&error) == Failure::NotFound => {
                self.caches.forget(&target.kind.plural, &target.uid);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn tell_create(&self, kind: &Kind, owner: Option<(Target, &'static str)>, result: &Result<Value, Error>) {
        let Some((about, component)) = owner else { return };
        let what = kind.kind.to_lowercase();
        let (level, reason, message) = match result {
            Ok(made) => {
                let name = made["metadata"]["name"].as_str().unwrap_or_default();
                (EventType::Normal, "SuccessfulCreate", format!("Created {what}: {name}"))
            }
            Err(error) => (EventType::Warning, "FailedCreate", format!("Error creating: {}", short(error))),
        };
        self.tell(&Notice { about, kind: level, reason, message, component });
    }

    fn tell_delete(
        &self,
        target: &Target,
        owner: Option<(Target, &'static str)>,
        result: &Result<(), Error>,
    ) {
        let Some((about, component)) = owner else { return };
        let what = target.kind.kind.to_lowercase();
        let (level, reason, message) = match result {
            Ok(()) => (EventType::Normal, "SuccessfulDelete", format!("Deleted {what}: {}", target.name)),
            Err(error) => (EventType::Warning, "FailedDelete", format!("Error deleting: {}", short(error))),
        };
        self.tell(&Notice { about, kind: level, reason, message, component });
    }

    fn tell(&self, notice: &Notice) {
        let recorder = match notice.component {
            controllers::deployment::COMPONENT => &self.recorders.deployments,
            controllers::replica_set::COMPONENT => &self.recorders.replica_sets,
            _ => &self.recorders.nodes,
        };
        match notice.kind {
            EventType::Normal => {
                recorder.normal(notice.about.reference(), notice.reason, notice.message.clone());
            }
            EventType::Warning => {
                recorder.warning(notice.about.reference(), notice.reason, notice.message.clone());
            }
        }
    }
}

/// What the API server said, without the client's wrapping.
pub(crate) fn short(error: &Error) -> String {
    match error {
        Error::Api(kube::Error::Api(status)) => status.message.clone(),
        other => other.to_string(),
    }
}

fn is_batched(action: &Action) -> bool {
    matches!(action, Action::Create { owner: Some(_), .. } | Action::Delete { owner: Some(_), .. })
}

const fn policy(propagation: controllers::Propagation) -> PropagationPolicy {
    match propagation {
        controllers::Propagation::Background => PropagationPolicy::Background,
        controllers::Propagation::Foreground => PropagationPolicy::Foreground,
        controllers::Propagation::Orphan => PropagationPolicy::Orphan,
    }
}

/// The collection's path.
pub(crate) fn url(kind: &Kind, namespace: &str) -> String {
    let root = if kind.api_version.contains('/') { "apis" } else { "api" };
    let (version, plural) = (&kind.api_version, &kind.plural);
    if namespace.is_empty() {
        format!("/{root}/{version}/{plural}")
    } else {
        format!("/{root}/{version}/namespaces/{namespace}/{plural}")
    }
}
