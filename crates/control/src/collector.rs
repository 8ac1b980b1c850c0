//! The garbage collector's eyes and hands: metadata of every kind that can be listed, watched and deleted.
//!
//! ```text
//! discovery ─▶ one metadata watch a kind ─▶ Graph ─uids─▶ WorkQueue ─▶ plan ─▶ live GET of unknown owners ─▶ actions
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_client::{Failure, WorkQueue, classify};
use base::task::{TaskKind, Tasks};
use controllers::Kind;
use controllers::garbage::{Graph, Node, Question, Verdict};
use futures::StreamExt;
use kube::api::{GetParams, PartialObjectMeta, Request};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::discovery::{Served, served};
use crate::execute::{Error, Executor, url};
use crate::runner::{self, Round, WORKERS};

/// How long the first lists may take before the collector begins without the kinds that are still missing: unknown
/// owners are asked for one by one anyway, so that one broken kind must not stop all collection.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between attempts to read discovery at the start.
const RETRY: Duration = Duration::from_millis(200);

struct Collector {
    executor: Executor,
    kinds: Vec<Served>,
    graph: Mutex<Graph>,
    queue: WorkQueue<String>,
}

/// Runs until the token is cancelled.
pub(crate) async fn run(executor: Executor, tasks: Tasks) -> Result<(), std::convert::Infallible> {
    let token = tasks.token();
    let kinds = tokio::select! {
        () = token.cancelled() => return Ok(()),
        kinds = discover(&executor.client) => kinds,
    };
    let (graph, queue) = (Mutex::default(), WorkQueue::default());
    let this = Arc::new(Collector { executor, kinds, graph, queue });
    let synced = this.watch_all(&tasks);
    tokio::select! {
        () = token.cancelled() => return Ok(()),
        () = all_synced(synced) => {}
    }
    let queue = this.queue.clone();
    runner::start(&tasks, "garbage-collector", WORKERS, &queue, move |uid: String| {
        let this = this.clone();
        async move { this.look(&uid).await }
    });
    Ok(())
}

async fn discover(client: &Client) -> Vec<Served> {
    loop {
        match served(client).await {
            Ok(kinds) => return kinds,
            Err(error) => tracing::debug!(%error, "discovery failed; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn all_synced(mut synced: watch::Receiver<usize>) {
    if tokio::time::timeout(PATIENCE, synced.wait_for(|left| *left == 0)).await.is_err() {
        tracing::warn!("some kinds cannot be listed; garbage collection starts without them");
    }
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, uids: Vec<String>) {
        uids.into_iter().for_each(|uid| self.queue.add(uid));
    }

    /// Starts a watch a kind; the number that is received counts those whose first list is missing.
    fn watch_all(self: &Arc<Self>, tasks: &Tasks) -> watch::Receiver<usize> {
        let watched = |one: &&Served| {
            let event = one.kind.kind == "Event";
            !event && one.can("list") && one.can("watch") && one.can("delete")
        };
        let kinds: Vec<Kind> = self.kinds.iter().filter(watched).map(|one| one.kind.clone()).collect();
        let (left, receiver) = watch::channel(kinds.len());
        let left = Arc::new(left);
        for kind in kinds {
            let (this, left, token) = (self.clone(), left.clone(), tasks.token());
            tasks.spawn(TaskKind::Service, "garbage-watch", async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    () = this.watch(kind, &left) => {}
                }
                Ok::<(), std::convert::Infallible>(())
            });
        }
        receiver
    }

    async fn watch(&self, kind: Kind, left: &watch::Sender<usize>) {
        let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: kind.api_version.to_string(),
            kind: kind.kind.to_string(),
            plural: kind.plural.to_string(),
        };
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(self.executor.client.clone(), &resource);
        let events = watcher(api, Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        let (mut listed, mut first) = (HashSet::new(), true);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(object.metadata.uid.clone().unwrap_or_default());
                    self.seen(&kind, &object);
                }
                Ok(Event::InitDone) => {
                    self.drop_unlisted(&kind, &listed);
                    listed = HashSet::new();
                    if std::mem::take(&mut first) {
                        left.send_modify(|left| *left -= 1);
                    }
                }
                Ok(Event::Apply(object)) => self.seen(&kind, &object),
                Ok(Event::Delete(object)) => {
                    let look = self.graph().remove(object.metadata.uid.as_deref().unwrap_or_default());
                    self.look_at(look);
                }
                Err(error) => tracing::debug!(kind = %kind.plural, %error, "watch ended; starting again"),
            }
        }
    }

    fn seen(&self, kind: &Kind, object: &PartialObjectMeta<DynamicObject>) {
        let look = self.graph().observe(Node::new(kind.clone(), &object.metadata));
        self.look_at(look);
    }

    fn drop_unlisted(&self, kind: &Kind, listed: &HashSet<String>) {
        let mut graph = self.graph();
        let gone: Vec<String> =
            graph.of_kind(kind).filter(|uid| !listed.contains(*uid)).map(str::to_owned).collect();
        let look: Vec<String> = gone.iter().flat_map(|uid| graph.remove(uid)).collect();
        drop(graph);
        self.look_at(look);
    }

    async fn look(&self, uid: &str) -> Round {
        let mut answers = BTreeMap::new();
        loop {
            let verdict = self.graph().plan(uid, &answers);
            match verdict {
                Verdict::Do(actions) => return self.executor.run(actions).await,
                Verdict::Ask(questions) => {
                    for question in questions {
                        let there = self.is_there(&question).await?;
                        answers.insert(question.uid, there);
                    }
                }
            }
        }
    }

    /// Whether an owner is there, from the API server itself. A kind nobody serves counts as there: its definition
    /// may come back, and nothing must be lost meanwhile.
    async fn is_there(&self, question: &Question) -> Result<bool, Error> {
        let same_group = |one: &&Served| group(&one.kind.api_version) == group(&question.api_version);
        let mut kinds = self.kinds.iter().filter(same_group);
        let Some(served) = kinds.find(|one| one.kind.kind == question.kind) else { return Ok(true) };
        if served.namespaced && question.namespace.is_empty() {
            // A cluster-scoped object cannot be owned by one in a namespace; upstream leaves it alone.
            return Ok(true);
        }
        let namespace = if served.namespaced { question.namespace.as_str() } else { "" };
        let request = Request::new(url(&served.kind, namespace));
        let request = request.get_metadata(&question.name, &GetParams::default())?;
        match self.executor.client.request::<PartialObjectMeta<DynamicObject>>(request).await {
            Ok(found) => Ok(found.metadata.uid.as_deref() == Some(&question.uid)),
            Err(error) if classify(&error) == Failure::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
