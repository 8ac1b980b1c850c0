//! The cluster's features: which levels there are, and which are in force (KIP-584, KIP-1022).
//!
//! ```text
//! store  /ketch/kafka/features/cluster = {"transaction.version":1}      what was set; not there: as new clusters begin
//!   └ Entries (set, watch) ──apply──▶ levels ──▶ ApiVersions, which clients go by; the coordinator of transactions
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use store_api::{Revision, Store};

use crate::catalog::Refusal;
use crate::entries::{Entries, Key};
use crate::follow::Follower;

pub(crate) const TRANSACTION_VERSION: &str = "transaction.version";

/// A feature: what is supported, and what is in force where nobody set it.
pub(crate) struct Feature {
    pub name: &'static str,
    pub least: i16,
    pub most: i16,
    pub first: i16,
}

/// metadata.version: 30 is that of Kafka 4.3 (4.3-IV0), 7 the first that 4.x brokers support (3.3-IV3).
/// transaction.version: from 2 on the epoch rises with every transaction (KIP-890), from 1 on its log has tagged fields.
pub(crate) const FEATURES: &[Feature] =
    &[Feature { name: "metadata.version", least: 7, most: 30, first: 30 }, TRANSACTION];
pub(crate) const TRANSACTION: Feature = Feature { name: TRANSACTION_VERSION, least: 0, most: 2, first: 2 };

/// Stands for the one cluster there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cluster;

/// Levels by feature.
pub(crate) type Levels = BTreeMap<String, i16>;

impl Key for Cluster {
    const PREFIX: &'static str = "/ketch/kafka/features/";
    const WHAT: &'static str = "clusters with features";

    fn path(&self) -> String {
        "cluster".into()
    }

    fn parse(path: &str) -> Option<Self> {
        (path == "cluster").then_some(Self)
    }
}

/// The level of a feature, where these were set.
pub(crate) fn level(set: &Levels, feature: &Feature) -> i16 {
    set.get(feature.name).map_or(feature.first, |level| *level.clamp(&feature.least, &feature.most))
}

/// The features in force.
pub(crate) struct Features {
    entries: Entries<Cluster, i16>,
}

impl Features {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { entries: Entries::new(store) })
    }

    /// What was set, and when: a client goes by the newest it has seen. Zero where nothing ever was.
    pub(crate) fn set_levels(&self) -> (Arc<Levels>, i64) {
        let current = self.entries.current();
        current.get(&Cluster).map(|stored| (stored.values.clone(), stored.revision.get())).unwrap_or_default()
    }

    /// That of transactions.
    pub(crate) fn transaction_version(&self) -> i16 {
        level(&self.set_levels().0, &TRANSACTION)
    }

    /// Sets levels; in force when this returns.
    pub(crate) async fn set(&self, levels: &Levels) -> Result<(), Refusal> {
        let change = |old: &Levels| Ok(old.clone().into_iter().chain(levels.clone()).collect());
        self.entries.alter(&Cluster, change, false, |_, _| {}).await
    }

    /// Brings memory to what the store holds; the revision read.
    pub(crate) async fn load(&self) -> Result<Revision, store_api::Error> {
        self.entries.load(|_| {}).await
    }
}

impl Follower for Features {
    fn prefix(&self) -> &'static str {
        Cluster::PREFIX
    }

    fn event(&self, event: &store_api::Event) {
        self.entries.event(event, |_, _| {});
    }

    fn reload(&self) -> store_api::Future_<'_, Revision> {
        Box::pin(self.load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_set_is_in_force_and_outlives_the_broker() {
        let store = testkit::MemStore::shared();
        let features = Features::new(store.clone());
        features.load().await.unwrap();
        assert_eq!((features.transaction_version(), features.set_levels().1), (2, 0));
        let set = |level| Levels::from([(TRANSACTION_VERSION.to_owned(), level)]);
        let mut before = 0;
        for level in [1, 0, 2] {
            features.set(&set(level)).await.unwrap();
            let (levels, epoch) = features.set_levels();
            assert_eq!((features.transaction_version(), &*levels), (level, &set(level)));
            assert!(epoch > before, "clients take what is newer");
            before = epoch;
            let other = Features::new(store.clone());
            other.load().await.unwrap();
            assert_eq!((other.transaction_version(), other.set_levels().1), (level, epoch));
        }
    }
}
