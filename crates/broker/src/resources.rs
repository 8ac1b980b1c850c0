//! Configurations of other resources than topics: brokers, groups, client-metrics subscriptions.
//!
//! ```text
//! store  /ketch/kafka/configs/<kind>/<name> = {"key":"value",...}      kind: brokers, groups, client-metrics
//!   │                                                                   name of all brokers' defaults: <default>
//!   └ Entries (alter, watch) ──apply──▶ Server, every topic's settings
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store_api::{RangeRequest, Revision, Store};

use crate::catalog::{Catalog, Refusal};
use crate::config::{Dynamic, Server, Values};
use crate::entries::{Entries, Key, News};
use crate::follow::Follower;

/// Prefix of the keys.
const CONFIGS: &str = "/ketch/kafka/configs/";
/// Stands for all brokers.
const DEFAULT: &str = "<default>";

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

impl Key for Resource {
    const PREFIX: &'static str = CONFIGS;
    const WHAT: &'static str = "resources with configurations";

    fn path(&self) -> String {
        let (kind, name) = self;
        let name = if *kind == Kind::Brokers && name.is_empty() { DEFAULT } else { name };
        format!("{}/{name}", kind.word())
    }

    fn parse(path: &str) -> Option<Self> {
        let (word, name) = path.split_once('/')?;
        let (kind, _) = Kind::ALL.into_iter().find(|(_, of)| *of == word)?;
        let name = if kind == Kind::Brokers && name == DEFAULT { "" } else { name };
        Some((kind, name.to_owned()))
    }
}

/// The resources and their configurations.
pub(crate) struct Resources {
    store: Arc<dyn Store>,
    server: Arc<Server>,
    broker_id: String,
    entries: Entries<Resource, String>,
    /// Raised with each change of a client-metrics subscription.
    subscriptions: AtomicU64,
}

impl Resources {
    pub(crate) fn new(store: Arc<dyn Store>, server: Arc<Server>, broker_id: i32) -> Arc<Self> {
        Arc::new(Self {
            entries: Entries::new(store.clone()),
            store,
            server,
            broker_id: broker_id.to_string(),
            subscriptions: AtomicU64::new(0),
        })
    }

    /// What a resource was told; empty when nothing.
    pub(crate) fn values(&self, kind: Kind, name: &str) -> Arc<Values> {
        let current = self.entries.current();
        current.get(&(kind, name.to_owned())).map(|stored| stored.values.clone()).unwrap_or_default()
    }

    /// Names of a kind that have configurations.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        let current = self.entries.current();
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
        self.entries.load(|_| self.tell_loaded()).await
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
        let then = |news: News<'_, Resource>, _: &_| match news {
            News::One((kind, _)) => self.tell(catalog, *kind),
            News::All => {
                self.tell_loaded();
                catalog.reconfigure();
            }
        };
        self.entries.alter(&resource, change, validate_only, then).await
    }

    /// A resource of this kind has changed.
    fn tell(&self, catalog: &Catalog, kind: Kind) {
        match kind {
            Kind::Brokers => {
                self.tell_server();
                catalog.reconfigure();
            }
            Kind::ClientMetrics => drop(self.subscriptions.fetch_add(1, Ordering::AcqRel)),
            Kind::Groups => {}
        }
    }

    /// Any resource may have changed.
    fn tell_loaded(&self) {
        self.subscriptions.fetch_add(1, Ordering::AcqRel);
        self.tell_server();
    }

    fn tell_server(&self) {
        let of = |name: &str| (*self.values(Kind::Brokers, name)).clone();
        self.server.set_dynamic(Dynamic { broker: of(&self.broker_id), default: of("") });
    }
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
        let told = |(kind, _): &Resource, _: &_| self.resources.tell(&self.catalog, *kind);
        self.resources.entries.event(event, told);
    }

    fn reload(&self) -> store_api::Future_<'_, Revision> {
        Box::pin(async {
            let revision = self.resources.load().await?;
            self.catalog.reconfigure();
            Ok(revision)
        })
    }
}
