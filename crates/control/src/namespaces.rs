//! Namespaces: what each of them gets, and how one ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_client::{Backoff, Failure, Informers, Key, WorkQueue, classify};
use base::clock::SharedClock;
use base::task::Tasks;
use controllers::namespace::{self, Contents, Next};
use controllers::{meta, per_namespace};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectList, PartialObjectMeta, PostParams, Request};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::cache::Watched;
use crate::discovery::{Served, served};
use crate::execute::{Error, Executor, url};
use crate::runner::{self, Round, WORKERS};

/// Pauses between looks at a namespace that does not get empty: finalizers are other people's work.
const EMPTYING: Backoff = Backoff { base: Duration::from_millis(50), max: Duration::from_secs(10) };
/// Objects of one page when the contents of a namespace are counted.
const PAGE: u32 = 500;

/// What wakes the two loops; keys are names of namespaces.
#[derive(Clone)]
pub(crate) struct Queues {
    equip: WorkQueue<String>,
    empty: WorkQueue<String>,
}

impl Default for Queues {
    fn default() -> Self {
        Self { equip: WorkQueue::default(), empty: WorkQueue::new(EMPTYING) }
    }
}

impl Queues {
    /// A pod is gone, or about to be: the namespace it held back may go on.
    pub fn pod_changed(&self, namespaces: &Watched<Namespace>, pod: &Pod) {
        if !meta::is_deleting(&pod.metadata) {
            return;
        }
        let name = pod.metadata.namespace.clone().unwrap_or_default();
        let held = namespaces.get(&Key { namespace: String::new(), name: name.clone() });
        if held.is_some_and(|one| meta::is_deleting(&one.metadata)) {
            self.empty.add(name);
        }
    }

    fn namespace_changed(&self, namespace: &Namespace) {
        let name = namespace.name_any();
        if meta::is_deleting(&namespace.metadata) {
            self.empty.add(name);
        } else {
            self.equip.add(name);
        }
    }
}

struct Loops {
    executor: Executor,
    clock: SharedClock,
    ca_pem: String,
    namespaces: Watched<Namespace>,
    accounts: Watched<ServiceAccount>,
    maps: Watched<ConfigMap>,
}

/// Starts the loops and the caches they watch.
pub(crate) fn start(
    executor: &Executor,
    informers: &Informers,
    namespaces: &Watched<Namespace>,
    queues: &Queues,
    (ca_pem, clock): (&str, &SharedClock),
    tasks: &Tasks,
) {
    let accounts = Watched::new(informers.service_accounts());
    let maps = Watched::new(informers.root_cas());
    let this = Arc::new(Loops {
        executor: executor.clone(),
        clock: clock.clone(),
        ca_pem: ca_pem.to_owned(),
        namespaces: namespaces.clone(),
        accounts: accounts.clone(),
        maps: maps.clone(),
    });
    let queue = queues.clone();
    namespaces.watch(tasks, "namespaces", move |one| queue.namespace_changed(one));
    let queue = queues.equip.clone();
    accounts.watch(tasks, "service-accounts", move |one| {
        if one.name_any() == per_namespace::DEFAULT_ACCOUNT {
            queue.add(one.namespace().unwrap_or_default());
        }
    });
    let queue = queues.equip.clone();
    maps.watch(tasks, "root-cas", move |one| queue.add(one.namespace().unwrap_or_default()));
    let one = this.clone();
    runner::start(tasks, "per-namespace", WORKERS, &queues.equip, move |name| {
        let this = one.clone();
        async move { this.equip(&name).await }
    });
    runner::start(tasks, "namespace", WORKERS, &queues.empty, move |name| {
        let this = this.clone();
        async move { this.empty(&name).await }
    });
}

impl Loops {
    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(&Key { namespace: String::new(), name: name.to_owned() })
    }

    async fn equip(&self, name: &str) -> Round {
        let Some(namespace) = self.namespace(name) else { return Ok(None) };
        let in_it = |object: &str| Key { namespace: name.to_owned(), name: object.to_owned() };
        let account = self.accounts.get(&in_it(per_namespace::DEFAULT_ACCOUNT));
        let map = self.maps.get(&in_it(per_namespace::ROOT_CA));
        let plans = [
            per_namespace::service_account(&namespace, account.as_deref()),
            per_namespace::root_ca(&namespace, map.as_deref(), &self.ca_pem),
        ];
        for plan in plans {
            match self.executor.run(plan).await {
                // The cache was late, or the namespace began to end.
                Err(error) if matches!(error.failure(), Failure::AlreadyExists | Failure::NotFound) => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(None)
    }

    async fn empty(&self, name: &str) -> Round {
        let Some(namespace) = self.namespace(name) else { return Ok(None) };
        if namespace::next(&namespace) == Next::Nothing {
            return Ok(None);
        }
        let client = &self.executor.client;
        let contents = remove_contents(client, name).await;
        if let Some(report) = namespace::report(self.clock.unix_ms(), &namespace, &contents) {
            self.executor.run(vec![report]).await?;
        }
        if !namespace::is_done(&contents) {
            return Err(Error::Taken(format!(
                "namespace {name}: {} kinds of objects are left; it",
                contents.left.len()
            )));
        }
        finalize(client, &namespace).await?;
        Ok(None)
    }
}

/// One pass: pods first, and nothing else while any is left (KEP-5080).
async fn remove_contents(client: &Client, namespace: &str) -> Contents {
    let mut contents = Contents::default();
    let kinds = match served(client).await {
        Ok(kinds) => kinds,
        Err(error) => {
            contents.discovery_error = Some(error.to_string());
            return contents;
        }
    };
    let removable = |one: &Served| one.namespaced && one.can("list") && one.can("delete");
    let (pods, others): (Vec<Served>, Vec<Served>) = kinds
        .into_iter()
        .filter(removable)
        .partition(|one| one.kind.plural == "pods" && one.name() == "pods.");
    remove_kinds(client, namespace, &pods, &mut contents).await;
    if contents.left.is_empty() && contents.deletion_error.is_none() {
        remove_kinds(client, namespace, &others, &mut contents).await;
    }
    contents
}

async fn remove_kinds(client: &Client, namespace: &str, kinds: &[Served], contents: &mut Contents) {
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for one in kinds {
        match remove_kind(client, namespace, one).await {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                contents.left.push((one.name(), left.len()));
                for finalizer in left.into_iter().flatten() {
                    *held.entry(finalizer).or_default() += 1;
                }
            }
            Err(error) => contents.deletion_error = Some(error.to_string()),
        }
    }
    contents.held.extend(held);
}

/// Deletes all objects of a kind. Returns the finalizers of each that is left.
async fn remove_kind(client: &Client, namespace: &str, one: &Served) -> Result<Vec<Vec<String>>, Error> {
    let path = url(&one.kind, namespace);
    if list(client, &path).await?.is_empty() {
        return Ok(Vec::new());
    }
    if one.can("deletecollection") {
        let request = Request::new(path.clone())
            .delete_collection(&DeleteParams::background(), &ListParams::default())?;
        client.request::<Value>(request).await?;
    } else {
        for object in list(client, &path).await? {
            let request =
                Request::new(path.clone()).delete(&object.name_any(), &DeleteParams::background())?;
            match client.request::<Value>(request).await {
                Err(error) if classify(&error) != Failure::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    let left = list(client, &path).await?;
    Ok(left.iter().map(|object| object.finalizers().to_vec()).collect())
}

type Meta = PartialObjectMeta<DynamicObject>;

async fn list(client: &Client, path: &str) -> Result<Vec<Meta>, Error> {
    let parameters = ListParams::default().limit(PAGE);
    let request = Request::new(path.to_owned()).list_metadata(&parameters)?;
    let list: ObjectList<Meta> = client.request(request).await?;
    Ok(list.items)
}

async fn finalize(client: &Client, namespace: &Namespace) -> Result<(), Error> {
    let mut body = namespace::finalized(namespace);
    body.metadata.managed_fields = None;
    // What is decided here does not depend on the version: the contents are gone, and none can be made any more.
    body.metadata.resource_version = None;
    let name = namespace.name_any();
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let request = Request::new("/api/v1/namespaces");
    let request = request.replace_subresource("finalize", &name, &PostParams::default(), body)?;
    match client.request::<Value>(request).await {
        Err(error) if classify(&error) != Failure::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
