//! Configurations of other resources than topics: brokers, groups, client-metrics subscriptions.
//!
//! ```text
//! store  /ketch/kafka/configs/<kind>/<name> = {"key":"value",...}      kind: brokers, groups, client-metrics
//!   │ txn (alter) ──reply──▶ apply at once ┐                            name of all brokers' defaults: <default>
//!   └ watch ─────────────────────────────▶ apply ──▶ Server, every topic's settings
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use kafka_wire::ErrorCode;
use parking_lot::Mutex;
use store_api::{Compare, Op, RangeRequest, Revision, Store, Txn};

use crate::catalog::{Catalog, Refusal};
use crate::config::{Dynamic, Server, Values};
use crate::follow::Follower;

/// Prefix of the keys.
const CONFIGS: &str = "/ketch/kafka/configs/";
/// Stands for all brokers.
const DEFAULT: &str = "<default>";
/// The most resources with configurations: a stranger must not fill the store with names.
const RESOURCES_MAX: usize = 10_000;

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Brokers,
    Groups,
    ClientMetrics,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Brokers, "brokers"), (Self::Groups, "groups"), (Self::ClientMetrics, "client-metrics")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// A resource: its kind and name; the name of all brokers' defaults is empty.
pub(crate) type Resource = (Kind, String);

#[derive(Debug, Clone)]
struct Stored {
    values: Arc<Values>,
    revision: Revision,
}

/// The resources and their configurations.
pub(crate) struct Resources {
    store: Arc<dyn Store>,
    server: Arc<Server>,
    broker_id: String,
    current: ArcSwap<BTreeMap<Resource, Stored>>,
    applying: Mutex<()>,
    /// Raised with each change of a client-metrics subscription.
    subscriptions: AtomicU64,
}

impl Resources {
    pub(crate) fn new(store: Arc<dyn Store>, server: Arc<Server>, broker_id: i32) -> Arc<Self> {
        Arc::new(Self {
            store,
            server,
            broker_id: broker_id.to_string(),
            current: ArcSwap::default(),
            applying: Mutex::default(),
            subscriptions: AtomicU64::new(0),
        })
    }

    /// What a resource was told; empty when nothing.
    pub(crate) fn values(&self, kind: Kind, name: &str) -> Arc<Values> {
        let current = self.current.load();
        current.get(&(kind, name.to_owned())).map(|stored| stored.values.clone()).unwrap_or_default()
    }

    /// Names of a kind that have configurations.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        let current = self.current.load();
        let of_kind = current.iter().filter(|((of, _), stored)| *of == kind && !stored.values.is_empty());
        of_kind.map(|((_, name), _)| name.clone()).collect()
    }

    /// How often client-metrics subscriptions have changed.
    pub(crate) fn subscriptions_version(&self) -> u64 {
        self.subscriptions.load(Ordering::Acquire)
    }

    /// Brings memory to what the store holds; the revision read. The server has the brokers' values then, topics opened
    /// before do not.
    pub(crate) async fn load(&self) -> Result<Revision, store_api::Error> {
        let found = self.store.range(RangeRequest::prefix(CONFIGS)).await?;
        let mut all = BTreeMap::new();
        for kv in &found.kvs {
            if let Some((resource, values)) = decode(&kv.key, &kv.value) {
                all.insert(resource, Stored { values: Arc::new(values), revision: kv.mod_revision });
            }
        }
        let _applying = self.applying.lock();
        self.current.store(Arc::new(all));
        self.subscriptions.fetch_add(1, Ordering::AcqRel);
        self.tell_server();
        Ok(found.revision)
    }

    /// The store's newest revision: the end of the cluster's metadata.
    pub(crate) async fn store_revision(&self) -> Result<i64, store_api::Error> {
        Ok(self.store.range(RangeRequest::key(CONFIGS)).await?.revision.get())
    }

    /// Replaces a resource's configurations; in force when this returns. Nobody's change in between is lost: `change`
    /// sees what is replaced, and runs again when that was replaced meanwhile.
    pub(crate) async fn alter(
        &self,
        catalog: &Catalog,
        resource: Resource,
        change: impl Fn(&Values) -> Result<Values, Refusal>,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        loop {
            let stored = self.current.load().get(&resource).cloned();
            let old = stored.as_ref().map(|stored| stored.values.clone()).unwrap_or_default();
            let new = change(&old)?;
            if validate_only || new == *old {
                return Ok(());
            }
            // A resource whose configurations are gone stays until the watch has told so.
            let stored = stored.filter(|stored| !stored.values.is_empty());
            if stored.is_none() && self.current.load().len() >= RESOURCES_MAX {
                let text = format!("There are {RESOURCES_MAX} resources with configurations already.");
                return Err(Refusal::new(ErrorCode::PolicyViolation, text));
            }
            let key = key(&resource);
            let same = match &stored {
                Some(stored) => Compare::unchanged(key.clone(), stored.revision),
                None => Compare::absent(key.clone()),
            };
            let op = match new.is_empty() {
                true => Op::delete(key),
                false => Op::put(key, serde_json::to_vec(&new).expect("a map of strings")),
            };
            let answer =
                self.store.txn(Txn { compare: vec![same], success: vec![op], failure: vec![] }).await?;
            if answer.succeeded {
                self.apply(catalog, resource, new, answer.revision);
                return Ok(());
            }
            // Somebody else was faster: read theirs.
            self.load().await?;
            catalog.reconfigure();
        }
    }

    fn apply(&self, catalog: &Catalog, resource: Resource, values: Values, revision: Revision) {
        let _applying = self.applying.lock();
        let mut all = (**self.current.load()).clone();
        if all.get(&resource).is_some_and(|stored| stored.revision >= revision) {
            return;
        }
        let kind = resource.0;
        // One without values is kept, so that an older event does not bring old values back; the watch drops it below.
        all.insert(resource, Stored { values: Arc::new(values), revision });
        self.current.store(Arc::new(all));
        match kind {
            Kind::Brokers => {
                self.tell_server();
                catalog.reconfigure();
            }
            Kind::ClientMetrics => drop(self.subscriptions.fetch_add(1, Ordering::AcqRel)),
            Kind::Groups => {}
        }
    }

    /// Drops a resource without values: everything older than its end has come by now.
    fn forget(&self, resource: &Resource) {
        let _applying = self.applying.lock();
        let mut all = (**self.current.load()).clone();
        if all.get(resource).is_some_and(|stored| stored.values.is_empty()) {
            all.remove(resource);
            self.current.store(Arc::new(all));
        }
    }

    fn tell_server(&self) {
        let of = |name: &str| (*self.values(Kind::Brokers, name)).clone();
        self.server.set_dynamic(Dynamic { broker: of(&self.broker_id), default: of("") });
    }
}

/// What the store holds.
pub(crate) async fn stored_resources(store: &dyn Store) -> Result<Vec<(Resource, Values)>, crate::Error> {
    let found = store.range(RangeRequest::prefix(CONFIGS)).await?;
    Ok(found.kvs.iter().filter_map(|kv| decode(&kv.key, &kv.value)).collect())
}

/// Resources, and the topics whose settings come from them.
pub(crate) struct Following {
    pub resources: Arc<Resources>,
    pub catalog: Arc<Catalog>,
}

impl Follower for Following {
    fn prefix(&self) -> &'static str {
        CONFIGS
    }

    fn event(&self, event: &store_api::Event) {
        let values = match event.kind {
            store_api::EventKind::Delete => &b"{}"[..],
            store_api::EventKind::Put => &event.kv.value,
        };
        if let Some((resource, values)) = decode(&event.kv.key, values) {
            let gone = values.is_empty().then(|| resource.clone());
            self.resources.apply(&self.catalog, resource, values, event.kv.mod_revision);
            gone.into_iter().for_each(|resource| self.resources.forget(&resource));
        }
    }

    fn reload(&self) -> store_api::Future_<'_, Revision> {
        Box::pin(async {
            let revision = self.resources.load().await?;
            self.catalog.reconfigure();
            Ok(revision)
        })
    }
}

/// The key of a resource in the store.
pub(crate) fn key((kind, name): &Resource) -> String {
    let name = if *kind == Kind::Brokers && name.is_empty() { DEFAULT } else { name };
    format!("{CONFIGS}{}/{name}", kind.word())
}

fn decode(key: &[u8], value: &[u8]) -> Option<(Resource, Values)> {
    let path = std::str::from_utf8(key.strip_prefix(CONFIGS.as_bytes())?).ok()?;
    let (word, name) = path.split_once('/')?;
    let (kind, _) = Kind::ALL.into_iter().find(|(_, of)| *of == word)?;
    let name = if kind == Kind::Brokers && name == DEFAULT { "" } else { name };
    match serde_json::from_slice(value) {
        Ok(values) => Some(((kind, name.to_owned()), values)),
        Err(error) => {
            tracing::error!(key = path, %error, "unreadable configurations in the store ignored");
            None
        }
    }
}
