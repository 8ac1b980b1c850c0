//! The watch cache: one per resource, started by the first list or watch, fed by one watch of the store.
//!
//! ```text
//! store ──range, then watch──▶ feed ──▶ State { objects by key, ring of changes } ──tick──▶ watchers
//!                                                   ▲ lists copy Arcs              each with its own cursor
//! ```
//!
//! A watcher holds no buffer: it has a cursor into the ring of recent changes and is ended when the ring has moved
//! past it. Every watcher of a resource sees the same changes in the same order.

mod encoded;
mod feed;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use kube_types::registry::FieldLabel;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use store_api::Store;
use tokio::sync::{mpsc, watch};

pub(crate) use encoded::Encoded;
pub(crate) use feed::parse;

/// Changes kept for watchers that come back with an older resource version.
const CHANGES_MAX: usize = 4096;
/// Bytes of objects those changes may hold.
const CHANGE_BYTES_MAX: usize = 16 << 20;
/// How long a read waits for the cache to catch up (upstream's 3 s).
const FRESH_WAIT: Duration = Duration::from_secs(3);

/// One object as of one revision.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) revision: i64,
    pub(crate) labels: BTreeMap<String, String>,
    /// Values of selectable fields beyond name and namespace.
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) encoded: Encoded,
}

impl Item {
    /// The object, parsed, with its resource version.
    pub(crate) fn value(&self) -> Value {
        crate::objects::parse(self.encoded.raw(), self.revision)
    }
}

/// One change of one object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    /// The object after the change; None when it was deleted.
    pub(crate) now: Option<Arc<Item>>,
    /// The object before the change.
    pub(crate) before: Option<Arc<Item>>,
}

/// How far a cache is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tick {
    /// Everything up to this revision is in; 0 before the first load.
    pub(crate) revision: i64,
    /// Number of the next change.
    pub(crate) next: u64,
    /// Grows when the cache had to be loaded anew: cursors of an older epoch are dead.
    pub(crate) epoch: u64,
}

/// A watcher's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    epoch: u64,
    next: u64,
}

/// The cursor's place is no longer kept: list and watch again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lagged {
    /// The oldest revision that a watch can start from.
    pub(crate) oldest: i64,
}

#[derive(Default)]
struct State {
    items: BTreeMap<Box<str>, Arc<Item>>,
    changes: VecDeque<Change>,
    change_bytes: usize,
    /// Number of the change at the front of `changes`.
    first: u64,
    /// `changes` holds every change after this revision.
    complete_after: i64,
    tick: Tick,
}

/// The objects of one resource.
pub(crate) struct Cache {
    prefix: String,
    labels: Vec<FieldLabel>,
    state: RwLock<State>,
    ticks: watch::Sender<Tick>,
    progress: Mutex<Option<mpsc::Sender<()>>>,
}

/// A consistent view of some objects.
pub(crate) struct Snapshot {
    pub(crate) revision: i64,
    pub(crate) items: Vec<Arc<Item>>,
}

impl Cache {
    fn new(prefix: &str, labels: Vec<FieldLabel>) -> Self {
        let ticks = watch::Sender::new(Tick::default());
        Self { prefix: prefix.into(), labels, state: RwLock::default(), ticks, progress: Mutex::default() }
    }

    /// Waits until the cache has everything up to `revision`; false when it did not in time.
    pub(crate) async fn fresh(&self, revision: i64) -> bool {
        let mut ticks = self.ticks.subscribe();
        let reached = async {
            loop {
                let now = ticks.borrow_and_update().revision;
                if now > 0 && now >= revision {
                    return true;
                }
                if let Some(progress) = self.progress.lock().as_ref() {
                    // A full queue already holds an unanswered request.
                    let _ = progress.try_send(());
                }
                if ticks.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(FRESH_WAIT, reached).await.unwrap_or(false)
    }

    /// Where the cache is.
    pub(crate) fn tick(&self) -> Tick {
        *self.ticks.borrow()
    }

    /// Told whenever the cache moves.
    pub(crate) fn ticks(&self) -> watch::Receiver<Tick> {
        self.ticks.subscribe()
    }

    /// Asks the store how far it is, so that the next bookmark is recent.
    pub(crate) fn request_progress(&self) {
        if let Some(progress) = self.progress.lock().as_ref() {
            let _ = progress.try_send(());
        }
    }

    /// The objects of a namespace, or (empty) all, in key order, from the key after `start` on.
    pub(crate) fn list(&self, namespace: &str, after: Option<&str>) -> Snapshot {
        let state = self.state.read();
        Snapshot { revision: state.tick.revision, items: state.range(namespace, after) }
    }

    /// One object by its key (`<namespace>/<name>` or `<name>`).
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Item>> {
        self.state.read().items.get(key).cloned()
    }

    /// The objects now, and a cursor for every change after them.
    pub(crate) fn list_and_follow(&self, namespace: &str) -> (Snapshot, Cursor) {
        let state = self.state.read();
        let snapshot = Snapshot { revision: state.tick.revision, items: state.range(namespace, None) };
        (snapshot, Cursor { epoch: state.tick.epoch, next: state.tick.next })
    }

    /// A cursor for every change after `revision`.
    pub(crate) fn follow(&self, revision: i64) -> Result<Cursor, Lagged> {
        let state = self.state.read();
        if revision < state.complete_after {
            return Err(Lagged { oldest: state.complete_after });
        }
        let skip = state.changes.partition_point(|c| c.revision <= revision) as u64;
        Ok(Cursor { epoch: state.tick.epoch, next: state.first + skip })
    }

    /// Up to `max` changes at the cursor, which moves past them.
    pub(crate) fn changes(&self, cursor: &mut Cursor, max: usize) -> Result<Vec<Change>, Lagged> {
        let state = self.state.read();
        if cursor.epoch != state.tick.epoch || cursor.next < state.first {
            return Err(Lagged { oldest: state.complete_after });
        }
        let skip = usize::try_from(cursor.next - state.first).unwrap_or(usize::MAX);
        let changes: Vec<Change> = state.changes.iter().skip(skip).take(max).cloned().collect();
        cursor.next += changes.len() as u64;
        Ok(changes)
    }
}

impl State {
    fn range(&self, namespace: &str, after: Option<&str>) -> Vec<Arc<Item>> {
        let start = match (after, namespace) {
            (Some(after), _) => Bound::Excluded(Box::from(after)),
            (None, "") => Bound::Unbounded,
            (None, namespace) => Bound::Included(format!("{namespace}/").into_boxed_str()),
        };
        let items = self.items.range((start, Bound::Unbounded)).map(|(_, item)| item);
        if namespace.is_empty() {
            return items.cloned().collect();
        }
        items.take_while(|item| &*item.namespace == namespace).cloned().collect()
    }

    fn remember(&mut self, change: Change) {
        self.change_bytes += change.bytes();
        self.changes.push_back(change);
        self.tick.next += 1;
        while self.changes.len() > CHANGES_MAX || self.change_bytes > CHANGE_BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.change_bytes -= oldest.bytes();
            self.first += 1;
            self.complete_after = oldest.revision;
        }
    }
}

impl Change {
    fn bytes(&self) -> usize {
        // Objects that are still current cost nothing extra; what counts is what only the ring holds on to.
        self.before.as_ref().map_or(0, |item| item.encoded.len())
    }
}

/// All caches, made on demand.
pub(crate) struct Caches {
    store: Arc<dyn Store>,
    tasks: Tasks,
    by_prefix: Mutex<HashMap<String, Arc<Cache>>>,
}

impl Caches {
    pub(crate) fn new(store: Arc<dyn Store>, tasks: Tasks) -> Self {
        Self { store, tasks, by_prefix: Mutex::default() }
    }

    /// The cache of the keys below `prefix` (which ends with a slash), started now if it is not running.
    pub(crate) fn of(&self, prefix: &str, labels: Vec<FieldLabel>) -> Arc<Cache> {
        let mut by_prefix = self.by_prefix.lock();
        if let Some(cache) = by_prefix.get(prefix) {
            return cache.clone();
        }
        let cache = Arc::new(Cache::new(prefix, labels));
        by_prefix.insert(prefix.into(), cache.clone());
        let feed = feed::run(cache.clone(), self.store.clone(), self.tasks.token());
        self.tasks.spawn(TaskKind::Service, "watch cache", feed);
        cache
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_api::{Event, EventKind, KeyValue, LeaseId, Revision};

    fn event(kind: EventKind, key: &str, revision: i64) -> Event {
        let name = key.rsplit('/').next().unwrap();
        let value = match kind {
            EventKind::Put => {
                let namespace = key.split('/').next().unwrap();
                format!(r#"{{"kind":"X","metadata":{{"name":"{name}","namespace":"{namespace}"}}}}"#)
            }
            EventKind::Delete => String::new(),
        };
        let revision = Revision(revision);
        let kv = KeyValue {
            key: format!("/registry/xs/{key}").into(),
            value: value.into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: LeaseId(0),
        };
        Event { kind, kv, prev_kv: None }
    }

    fn cache() -> Cache {
        let cache = Cache::new("/registry/xs/", Vec::new());
        cache.reset(BTreeMap::new(), 1);
        cache
    }

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.items.iter().map(|i| &*i.name).collect()
    }

    #[test]
    fn lists_are_of_a_namespace_in_key_order() {
        let cache = cache();
        for (i, key) in ["b/z", "a/x", "ab/y", "a/w"].into_iter().enumerate() {
            cache.apply(vec![event(EventKind::Put, key, 2 + i as i64)], 2 + i as i64);
        }
        cache.apply(vec![event(EventKind::Delete, "a/x", 6)], 6);
        assert_eq!(names(&cache.list("a", None)), ["w"]);
        assert_eq!(names(&cache.list("", None)), ["w", "y", "z"]);
        assert_eq!(cache.list("", None).revision, 6);
        assert!(cache.get("b/z").is_some() && cache.get("a/x").is_none());
    }

    #[test]
    fn changes_carry_both_states() {
        let cache = cache();
        let (_, mut cursor) = cache.list_and_follow("");
        cache.apply(vec![event(EventKind::Put, "a/x", 2)], 2);
        cache.apply(vec![event(EventKind::Put, "a/x", 3), event(EventKind::Delete, "a/none", 3)], 3);
        cache.apply(vec![event(EventKind::Delete, "a/x", 4)], 4);
        let changes = cache.changes(&mut cursor, 10).unwrap();
        let shape: Vec<_> =
            changes.iter().map(|c| (c.revision, c.before.is_some(), c.now.is_some())).collect();
        assert_eq!(shape, [(2, false, true), (3, true, true), (4, true, false)]);
        assert!(cache.changes(&mut cursor, 10).unwrap().is_empty());
        let mut later = cache.follow(2).unwrap();
        assert_eq!(cache.changes(&mut later, 10).unwrap().len(), 2);
    }

    #[test]
    fn who_falls_behind_is_told() {
        let cache = cache();
        let (_, mut slow) = cache.list_and_follow("");
        let last = 1 + CHANGES_MAX as i64 + 10;
        for revision in 2..=last {
            cache.apply(vec![event(EventKind::Put, "a/x", revision)], revision);
        }
        assert_eq!(cache.changes(&mut slow, 1).unwrap_err(), Lagged { oldest: 11 });
        assert_eq!(cache.follow(10).unwrap_err(), Lagged { oldest: 11 });
        let mut kept = cache.follow(11).unwrap();
        assert_eq!(cache.changes(&mut kept, usize::MAX).unwrap().len(), CHANGES_MAX);
        // A cache that had to load anew ends every cursor.
        cache.reset(BTreeMap::new(), last + 5);
        assert!(cache.changes(&mut kept, 1).is_err());
        assert!(cache.follow(last).is_err() && cache.follow(last + 5).is_ok());
    }
}
