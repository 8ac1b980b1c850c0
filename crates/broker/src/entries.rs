//! Small maps by key that are kept in the store and in memory: configurations of resources, quotas of entities.
//!
//! ```text
//! store  <prefix><key> = {"name":value,...}
//!   │ alter ──reply──▶ apply at once ┐
//!   └ watch ─────────────────────────▶ apply (a revision already applied is passed over), forget
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use kafka_wire::ErrorCode;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use store_api::{Compare, Event, EventKind, Op, RangeRequest, Revision, Store, Txn};

use crate::catalog::Refusal;

/// The most entries of a kind: a stranger must not fill the store with names.
const ENTRIES_MAX: usize = 10_000;

/// What an entry holds, by name.
type Values<V> = BTreeMap<String, V>;

/// All entries by key.
pub(crate) type All<K, V> = BTreeMap<K, Stored<V>>;

/// An entry.
#[derive(Debug)]
pub(crate) struct Stored<V> {
    pub values: Arc<Values<V>>,
    pub revision: Revision,
}

impl<V> Clone for Stored<V> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), revision: self.revision }
    }
}

/// A key as the store has it.
pub(crate) trait Key: Ord + Clone {
    /// What the keys in the store begin with.
    const PREFIX: &'static str;
    /// What there is one of for each key, in words.
    const WHAT: &'static str;
    /// The key behind the prefix.
    fn path(&self) -> String;
    /// Reads that; None where it is no key of these.
    fn parse(path: &str) -> Option<Self>;
    /// The whole key.
    fn stored(&self) -> String {
        format!("{}{}", Self::PREFIX, self.path())
    }
}

/// What came of an attempt to change an entry.
enum Attempt<V> {
    /// Nothing is to be changed, or was only to be checked.
    Nothing,
    /// It is in the store.
    Written(Values<V>, Revision),
    /// Somebody else was faster: what they wrote is to be read.
    Beaten,
}

/// What is in memory anew.
pub(crate) enum News<'k, K> {
    /// This entry.
    One(&'k K),
    /// All of them.
    All,
}

/// The entries under one prefix.
pub(crate) struct Entries<K, V> {
    store: Arc<dyn Store>,
    current: ArcSwap<All<K, V>>,
    applying: Mutex<()>,
}

impl<K: Key, V: Clone + PartialEq + Serialize + DeserializeOwned> Entries<K, V> {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, current: ArcSwap::default(), applying: Mutex::default() }
    }

    /// What is in memory; an entry may be empty, and is gone then.
    pub(crate) fn current(&self) -> Guard<Arc<All<K, V>>> {
        self.current.load()
    }

    /// Brings memory to what the store holds; the revision read. `then` sees it before anybody's next change.
    pub(crate) async fn load(&self, then: impl FnOnce(&All<K, V>)) -> Result<Revision, store_api::Error> {
        let found = self.store.range(RangeRequest::prefix(K::PREFIX)).await?;
        let stored = found.kvs.iter().filter_map(|kv| {
            let (key, values) = decode(&kv.key, &kv.value)?;
            Some((key, Stored { values: Arc::new(values), revision: kv.mod_revision }))
        });
        let _applying = self.applying.lock();
        self.replace(stored.collect(), then);
        Ok(found.revision)
    }

    /// Replaces an entry's values by what `change` makes of them; in force when this returns. Nobody's change in between is
    /// lost: `change` sees what is replaced, and runs again when that was replaced meanwhile. `then` is told what is news.
    pub(crate) async fn alter(
        &self,
        key: &K,
        change: impl Fn(&Values<V>) -> Result<Values<V>, Refusal>,
        validate_only: bool,
        then: impl Fn(News<'_, K>, &All<K, V>),
    ) -> Result<(), Refusal> {
        loop {
            match self.attempt(key, &change, validate_only).await? {
                Attempt::Nothing => return Ok(()),
                Attempt::Written(values, revision) => {
                    self.apply(key.clone(), values, revision, |all| then(News::One(key), all));
                    return Ok(());
                }
                Attempt::Beaten => drop(self.load(|all| then(News::All, all)).await?),
            }
        }
    }

    /// Writes what `change` makes of an entry, once.
    async fn attempt(
        &self,
        key: &K,
        change: impl Fn(&Values<V>) -> Result<Values<V>, Refusal>,
        validate_only: bool,
    ) -> Result<Attempt<V>, Refusal> {
        let stored = self.current().get(key).cloned();
        let old = stored.as_ref().map(|stored| stored.values.clone()).unwrap_or_default();
        let new = change(&old)?;
        if validate_only || new == *old {
            return Ok(Attempt::Nothing);
        }
        // One whose values are gone stays until the watch has told so.
        let stored = stored.filter(|stored| !stored.values.is_empty());
        if stored.is_none() && self.current().len() >= ENTRIES_MAX {
            let text = format!("There are {ENTRIES_MAX} {} already.", K::WHAT);
            return Err(Refusal::new(ErrorCode::PolicyViolation, text));
        }
        let key = key.stored();
        let same = match &stored {
            Some(stored) => Compare::unchanged(key.clone(), stored.revision),
            None => Compare::absent(key.clone()),
        };
        let op = match new.is_empty() {
            true => Op::delete(key),
            false => Op::put(key, serde_json::to_vec(&new).expect("a map of plain values")),
        };
        let answer = self.store.txn(Txn { compare: vec![same], success: vec![op], failure: vec![] }).await?;
        Ok(if answer.succeeded { Attempt::Written(new, answer.revision) } else { Attempt::Beaten })
    }

    /// Takes over what the store holds since that revision; `then` is called where it is news.
    fn apply(&self, key: K, values: Values<V>, revision: Revision, then: impl FnOnce(&All<K, V>)) {
        let _applying = self.applying.lock();
        let mut all = (**self.current()).clone();
        if all.get(&key).is_some_and(|stored| stored.revision >= revision) {
            return;
        }
        // One without values is kept, so that an older event does not bring old values back; the watch drops it below.
        all.insert(key, Stored { values: Arc::new(values), revision });
        self.replace(all, then);
    }

    /// Takes over what the watch told; `then` is called where it is news.
    pub(crate) fn event(&self, event: &Event, then: impl FnOnce(&K, &All<K, V>)) {
        let value = match event.kind {
            EventKind::Delete => &b"{}"[..],
            EventKind::Put => &event.kv.value,
        };
        if let Some((key, values)) = decode::<K, V>(&event.kv.key, value) {
            let gone = values.is_empty();
            self.apply(key.clone(), values, event.kv.mod_revision, |all| then(&key, all));
            if gone {
                self.forget(&key);
            }
        }
    }

    /// Drops an entry without values: everything older than its end has come by now.
    fn forget(&self, key: &K) {
        let _applying = self.applying.lock();
        let mut all = (**self.current()).clone();
        if all.get(key).is_some_and(|stored| stored.values.is_empty()) {
            all.remove(key);
            self.replace(all, |_| {});
        }
    }

    fn replace(&self, all: All<K, V>, then: impl FnOnce(&All<K, V>)) {
        let all = Arc::new(all);
        self.current.store(all.clone());
        then(&all);
    }
}

/// What the store holds.
pub(crate) async fn stored<K: Key, V: DeserializeOwned>(
    store: &dyn Store,
) -> Result<Vec<(K, Values<V>)>, store_api::Error> {
    let found = store.range(RangeRequest::prefix(K::PREFIX)).await?;
    Ok(found.kvs.iter().filter_map(|kv| decode(&kv.key, &kv.value)).collect())
}

fn decode<K: Key, V: DeserializeOwned>(key: &[u8], value: &[u8]) -> Option<(K, Values<V>)> {
    let path = std::str::from_utf8(key.strip_prefix(K::PREFIX.as_bytes())?).ok();
    let Some(parsed) = path.and_then(K::parse) else {
        tracing::error!(key = %String::from_utf8_lossy(key), "unknown key in the store ignored");
        return None;
    };
    match serde_json::from_slice(value) {
        Ok(values) => Some((parsed, values)),
        Err(error) => {
            tracing::error!(key = %String::from_utf8_lossy(key), %error, "unreadable values in the store ignored");
            None
        }
    }
}
