//! A shared cache that also knows what this process wrote itself.
//!
//! A watch brings a write back a little after the reply to it. A controller that looks in between would make its
//! pods twice; upstream keeps "expectations" against that. Here the replies are laid over the cache instead: an
//! object from a reply counts until the watch has come past its resourceVersion (a watch delivers the changes of one
//! kind in the order of their resourceVersions), a deleted uid is hidden until the cache has lost it.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_client::{Change, Key, Shared};
use base::task::{TaskKind, Tasks};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Tombstones kept at most. Each is needed only for the moment between a reply and its watch event, and uids never
/// come back, so that old ones do no harm.
const TOMBSTONES_MAX: usize = 10_000;

/// What this process wrote and the watch has not brought yet.
struct Own<K> {
    /// The newest resourceVersion that the watch has brought.
    seen: u64,
    written: HashMap<Key, (u64, Arc<K>)>,
    gone: HashSet<String>,
}

/// A kind's cache with this process' own writes laid over it.
pub(crate) struct Watched<K>
where
    K: Resource + 'static,
    K::DynamicType: Hash + Eq,
{
    shared: Shared<K>,
    own: Arc<Mutex<Own<K>>>,
}

impl<K> Clone for Watched<K>
where
    K: Resource + 'static,
    K::DynamicType: Hash + Eq,
{
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), own: self.own.clone() }
    }
}

fn version<K: ResourceExt>(object: &K) -> u64 {
    object.resource_version().and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    pub fn new(shared: &Shared<K>) -> Self {
        let own = Own { seen: 0, written: HashMap::new(), gone: HashSet::new() };
        Self { shared: shared.clone(), own: Arc::new(Mutex::new(own)) }
    }

    fn own(&self) -> MutexGuard<'_, Own<K>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All objects that `wanted` picks.
    pub fn filtered(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let own = self.own();
        let mut out = Vec::new();
        for object in self.shared.all() {
            let newer = own.newer(&object);
            let object = newer.unwrap_or(object);
            if !own.is_gone(&object) && wanted(&object) {
                out.push(object);
            }
        }
        for (key, (_, object)) in own.written.iter().filter(|(_, (version, _))| *version > own.seen) {
            if !own.is_gone(object) && wanted(object) && self.shared.get(key).is_none() {
                out.push(object.clone());
            }
        }
        out
    }

    /// All objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.filtered(|object| object.meta().namespace.as_deref() == Some(namespace))
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        let own = self.own();
        let cached = self.shared.get(key);
        let object = match cached {
            Some(object) => own.newer(&object).unwrap_or(object),
            None => own.written.get(key).filter(|(version, _)| *version > own.seen)?.1.clone(),
        };
        (!own.is_gone(&object)).then_some(object)
    }

    /// Takes in the reply to a write.
    pub fn learn(&self, reply: Value) {
        let Ok(object) = serde_json::from_value::<K>(reply) else { return };
        let version = version(&object);
        let mut own = self.own();
        if version > own.seen {
            own.written.insert(Key::of(&object), (version, Arc::new(object)));
        }
    }

    /// Takes in that an object is gone for good.
    pub fn forget(&self, uid: &str) {
        let mut own = self.own();
        if own.gone.len() >= TOMBSTONES_MAX {
            own.gone.clear();
        }
        own.gone.insert(uid.to_owned());
    }

    /// Runs `look` for every object now and for each one that changes, after taking in what the watch has brought.
    pub fn watch(&self, tasks: &Tasks, name: &'static str, look: impl Fn(&K) + Send + 'static) {
        let (this, token) = (self.clone(), tasks.token());
        let mut changes = self.shared.changes();
        tasks.spawn(TaskKind::Service, name, async move {
            let synced = tokio::select! {
                () = token.cancelled() => false,
                synced = this.shared.synced() => synced,
            };
            if !synced {
                return Ok::<(), std::convert::Infallible>(());
            }
            this.look_at_all(&look);
            loop {
                let change = tokio::select! {
                    () = token.cancelled() => return Ok(()),
                    change = changes.next() => change,
                };
                match change {
                    Some(Change::One(object)) => {
                        this.own().came(&object);
                        look(&object);
                    }
                    Some(Change::All) => this.look_at_all(&look),
                    None => return Ok(()),
                }
            }
        });
    }

    fn look_at_all(&self, look: &impl Fn(&K)) {
        let all = self.shared.all();
        {
            let mut own = self.own();
            all.iter().for_each(|object| own.came(object));
            let there: HashSet<String> = all.iter().filter_map(|object| object.uid()).collect();
            own.gone.retain(|uid| there.contains(uid));
        }
        all.iter().for_each(|object| look(object));
    }
}

impl<K: ResourceExt> Own<K> {
    fn newer(&self, cached: &K) -> Option<Arc<K>> {
        let (written, object) = self.written.get(&Key::of(cached))?;
        (*written > self.seen && *written > version(cached)).then(|| object.clone())
    }

    fn is_gone(&self, object: &K) -> bool {
        object.meta().uid.as_ref().is_some_and(|uid| self.gone.contains(uid))
    }

    /// The watch has brought this object: everything up to its version is in the cache.
    fn came(&mut self, object: &K) {
        let version = version(object);
        self.seen = self.seen.max(version);
        let seen = self.seen;
        self.written.retain(|_, (version, _)| *version > seen);
    }
}
