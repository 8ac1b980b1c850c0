//! The topics: keys in the store, directories on disk, partitions in memory.
//!
//! ```text
//! store  /ketch/kafka/topics/<name> = {"id":"<uuid>","partitions":3,"configs":{...}}
//!   │ txn (create, alter, delete) ──reply──▶ apply at once ┐
//!   └ watch ──────────────────────────────────────────────▶ apply (a revision already applied is skipped)
//!                                                            └ open or retire partitions, publish a new Snapshot
//! ```
//! Requests read an immutable [`Snapshot`]; one lock serializes those who replace it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use commitlog::Offset;
use commitlog::kafka::PartitionOptions;
use kafka_wire::{ErrorCode, Uuid};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store_api::{Compare, Op, RangeRequest, Revision, Store, Txn};

use crate::Durability;
use crate::config::{Server, TopicSettings, Values};
use crate::follow::Follower;
use crate::log_dir::{DirStop, LogDir};
use crate::names;
use crate::partition::Partition;
use crate::place::{Marks, Place, Recipe, Seen};
use crate::root::Root;

mod moves;
mod places;

pub(crate) use moves::Moved;

/// Prefix of the topics' keys.
pub(crate) const TOPICS: &str = "/ketch/kafka/topics/";
/// The most partitions of a topic; one directory and one open file each.
pub(crate) const PARTITIONS_MAX: i32 = 10_000;

/// Threads that open or make partitions...
const OPENERS: usize = 4;
/// ...one for so many partitions.
const OPEN_ALONE: usize = 16;

/// A topic as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicRecord {
    #[serde(with = "names::uuid_text")]
    pub id: Uuid,
    pub partitions: i32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: Values,
}

/// A topic as requests see it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub name: Arc<str>,
    pub record: TopicRecord,
    pub settings: TopicSettings,
    /// By number.
    pub partitions: Vec<Place>,
    pub revision: Revision,
}

impl Topic {
    /// The partition with this number, where it is served.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.place(index).and_then(Place::served)
    }

    /// The place of the partition with this number; None where the topic has no such number.
    pub(crate) fn place(&self, index: i32) -> Option<&Place> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
    }

    /// The partitions that are served; those that sleep are opened.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().filter_map(Place::served)
    }

    /// How many are known not to be served.
    pub(crate) fn offline(&self) -> usize {
        self.partitions.iter().filter(|place| place.is_offline()).count()
    }

    /// Whether the broker itself writes it.
    pub(crate) fn is_internal(&self) -> bool {
        names::is_internal(&self.name)
    }
}

/// All topics at a moment.
#[derive(Debug, Default, Clone)]
pub(crate) struct Snapshot {
    pub by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    pub by_id: HashMap<Uuid, Arc<Topic>>,
}

impl Snapshot {
    /// The topic with this name, where it is what it was at this revision or later.
    fn as_of(&self, name: &str, revision: Revision) -> Option<&Arc<Topic>> {
        self.by_name.get(name).filter(|topic| topic.revision >= revision)
    }
}

/// A refusal: the code and a text for people.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub code: ErrorCode,
    pub text: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl Refusal {
    /// The text, where there is one to tell.
    pub(crate) fn told(self) -> Option<String> {
        (!self.text.is_empty()).then_some(self.text)
    }
}

impl From<store_api::Error> for Refusal {
    /// The cluster's metadata cannot be reached or is overloaded: clients try again.
    fn from(error: store_api::Error) -> Self {
        Self::new(ErrorCode::RequestTimedOut, error.to_string())
    }
}

/// What becomes of a partition whose directory cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unopened {
    /// The change that asked for it is refused.
    Refused,
    /// It is offline: what the store holds is served as far as it can be.
    Offline,
}

/// Partitions opened ahead, by their topic's id and their number; some may be missing where one could not be opened.
type Opened = HashMap<(Uuid, i32), Result<Arc<Partition>, commitlog::Error>>;

/// What was known of the logs when the broker last stopped.
#[derive(Debug, Default)]
pub(crate) struct LastStop {
    /// By directory. What is not in here is new.
    pub dirs: Vec<(Arc<LogDir>, DirStop)>,
    /// Directories that this broker had and that are not there now: what was in them is offline rather than made anew.
    pub missing: Vec<String>,
}

impl LastStop {
    /// The directories that held a partition: one, unless a directory of an older topic was left.
    fn found(&self, name: &str, index: i32) -> impl Iterator<Item = &(Arc<LogDir>, DirStop)> {
        let name = format!("{name}-{index}");
        self.dirs.iter().filter(move |(_, stop)| stop.directories.contains(&name))
    }

    /// What the checkpoints say of a partition.
    fn marks(&self, name: &str, index: i32) -> Marks {
        let Some((dir, stop)) = self.found(name, index).next() else { return Marks::default() };
        let key = (name.to_owned(), index);
        let recovery_point = stop.recovery_points.get(&key).copied();
        // All that a clean stop left is durable, and so committed.
        let high_watermark = recovery_point.filter(|_| stop.clean);
        let log_start = stop.log_starts.get(&key).copied();
        Marks { dir: Some(dir.clone()), recovery_point, log_start, high_watermark }
    }

    /// Whether a partition may sleep: nothing has to be verified, cut or made, and all that is known of it is in its marks.
    fn may_sleep(&self, name: &str, index: i32) -> bool {
        let mut found = self.found(name, index);
        let clean = found.next().is_some_and(|(_, stop)| {
            stop.clean && stop.recovery_points.contains_key(&(name.to_owned(), index))
        });
        clean && found.next().is_none()
    }
}

/// The topics.
pub(crate) struct Catalog {
    pub root: Arc<Root>,
    store: Arc<dyn Store>,
    server: Arc<Server>,
    snapshot: ArcSwap<Snapshot>,
    applying: Mutex<LastStop>,
}

impl Catalog {
    pub(crate) fn new(root: Arc<Root>, store: Arc<dyn Store>, server: Arc<Server>, last: LastStop) -> Self {
        let snapshot = ArcSwap::default();
        cordon(&root, &server);
        Self { root, store, server, snapshot, applying: Mutex::new(last) }
    }

    /// All topics now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The topic with this name.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.snapshot.load().by_name.get(name).cloned()
    }

    /// The topic with this id.
    pub(crate) fn topic_by_id(&self, id: &Uuid) -> Option<Arc<Topic>> {
        self.snapshot.load().by_id.get(id).cloned()
    }

    /// Brings the catalog to what the store holds; the revision read.
    pub(crate) async fn load(&self) -> Result<Revision, store_api::Error> {
        let found = self.store.range(RangeRequest::prefix(TOPICS)).await?;
        let topics: Vec<_> = found
            .kvs
            .iter()
            .filter_map(|kv| decode(&kv.key, &kv.value).map(|(name, record)| (name, record, kv.mod_revision)))
            .collect();
        let names: std::collections::BTreeSet<_> = topics.iter().map(|(name, ..)| name.clone()).collect();
        self.apply_all(topics);
        for name in self.snapshot().by_name.keys().filter(|name| !names.contains(&***name)) {
            self.apply_delete(name, found.revision);
        }
        Ok(found.revision)
    }

    /// Applies many topics as one change. Partitions that cannot be opened are offline.
    fn apply_all(&self, topics: Vec<(String, TopicRecord, Revision)>) {
        let last = self.applying.lock();
        let mut next = (*self.snapshot()).clone();
        let mut opened = self.open_ahead(&topics, &last, Unopened::Offline);
        for (name, record, revision) in topics {
            let applied =
                self.apply_to(&mut next, (&last, &mut opened), &name, record, revision, Unopened::Offline);
            if let Err(error) = applied {
                tracing::error!(topic = name, %error, "topic cannot be opened");
            }
        }
        self.snapshot.store(Arc::new(next));
        self.root.cleaning.notify_one();
    }

    /// Opens the partitions that may not sleep and are not there yet, several at a time: opening waits for the disk as much
    /// as for the processor. A topic of the same name with another id is taken out of service first: its directories stand
    /// where the new ones go.
    fn open_ahead(
        &self,
        topics: &[(String, TopicRecord, Revision)],
        last: &LastStop,
        unopened: Unopened,
    ) -> Opened {
        let known = self.snapshot();
        let mut fresh = Vec::new();
        for (name, record, revision) in topics {
            if known.as_of(name, *revision).is_some() {
                continue;
            }
            let old = known.by_name.get(&**name);
            let same = old.filter(|topic| topic.record.id == record.id);
            if let (Some(old), None) = (old, same) {
                self.retire(old);
            }
            let there = same.map_or(0, |topic| topic.partitions.len() as i32);
            fresh.push((Arc::<str>::from(&**name), record, self.server.topic(&record.configs), there));
        }
        let all =
            fresh.iter().flat_map(|topic| (topic.3..topic.1.partitions).map(move |index| (topic, index)));
        let jobs: Vec<_> = all.filter(|((name, ..), index)| !last.may_sleep(name, *index)).collect();
        let (next, opened) = (std::sync::atomic::AtomicUsize::new(0), Mutex::new(HashMap::new()));
        let work = || {
            while let Some(((name, record, settings, _), index)) =
                jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                let partition = self.recipe(name, *index, record, settings, last, unopened).open();
                if partition.is_err() && unopened == Unopened::Refused {
                    // One is enough to refuse the topic: the others need not be made.
                    next.store(jobs.len(), std::sync::atomic::Ordering::Relaxed);
                }
                opened.lock().insert((record.id, *index), partition);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..OPENERS.min(jobs.len() / OPEN_ALONE) {
                // Without a thread to spare, this one does all of it.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        opened.into_inner()
    }

    /// Makes durable what recovery found, in rounds that all partitions share: only then may it be seen.
    pub(crate) async fn settle(&self) {
        let unseen = |partition: &Arc<Partition>| partition.high_watermark() < partition.log().log().end();
        let waits: Vec<_> =
            self.partitions().iter().filter(|p| unseen(p)).filter_map(|p| p.request_flush(true)).collect();
        for wait in waits {
            // A failure is logged where it happens; the partition stays as far as it is durable.
            let _ = wait.await;
        }
    }

    fn apply_event(&self, event: &store_api::Event) {
        let Some(name) = topic_name(&event.kv.key) else { return };
        match event.kind {
            store_api::EventKind::Delete => self.apply_delete(&name, event.kv.mod_revision),
            store_api::EventKind::Put => {
                let Some((name, record)) = decode(&event.kv.key, &event.kv.value) else { return };
                if let Err(error) = self.apply(&name, record, event.kv.mod_revision) {
                    tracing::error!(topic = name, %error, "topic cannot be opened");
                }
            }
        }
    }

    /// Makes the topic what `record` says, unless a later revision was applied.
    fn apply(
        &self,
        name: &str,
        record: TopicRecord,
        revision: Revision,
    ) -> Result<Arc<Topic>, commitlog::Error> {
        let last = self.applying.lock();
        let known = self.snapshot();
        if let Some(topic) = known.as_of(name, revision) {
            return Ok(topic.clone());
        }
        let mut next = (*known).clone();
        let asked = [(name.to_owned(), record, revision)];
        let mut opened = self.open_ahead(&asked, &last, Unopened::Refused);
        let failed = opened.iter().find_map(|(key, made)| made.is_err().then_some(*key));
        if let Some(Err(error)) = failed.and_then(|key| opened.remove(&key)) {
            return Err(error);
        }
        let [(name, record, _)] = asked;
        let topic =
            self.apply_to(&mut next, (&last, &mut opened), &name, record, revision, Unopened::Refused)?;
        if self.root.durability == Durability::Fsync {
            // One sync for all that were made.
            for dir in self.root.online() {
                dir.sync_new_directories()
                    .map_err(|source| commitlog::Error::Io { path: dir.path.clone(), source })?;
            }
        }
        self.snapshot.store(Arc::new(next));
        self.root.cleaning.notify_one();
        Ok(topic)
    }

    /// The same into a snapshot that is not published yet, with what was [opened ahead](Self::open_ahead) for it.
    fn apply_to(
        &self,
        next: &mut Snapshot,
        (last, opened): (&LastStop, &mut Opened),
        name: &str,
        record: TopicRecord,
        revision: Revision,
        unopened: Unopened,
    ) -> Result<Arc<Topic>, commitlog::Error> {
        if let Some(topic) = next.as_of(name, revision) {
            return Ok(topic.clone());
        }
        let current = next.by_name.get(name).cloned();
        let same = current.as_ref().filter(|topic| topic.record.id == record.id);
        let name: Arc<str> = name.into();
        let settings = self.server.topic(&record.configs);
        let mut partitions = same.map(|topic| topic.partitions.clone()).unwrap_or_default();
        partitions.iter().for_each(|place| place.configure(self.layout(&settings), settings.flush_ms));
        for index in partitions.len() as i32..record.partitions {
            let recipe = self.recipe(&name, index, &record, &settings, last, unopened);
            let marks = last.marks(&name, index);
            let ahead = opened.remove(&(record.id, index));
            if ahead.is_none() && last.may_sleep(&name, index) {
                partitions.push(Place::asleep(recipe, marks));
                continue;
            }
            partitions.push(match (ahead.unwrap_or_else(|| recipe.open()), unopened) {
                (Ok(partition), _) => Place::new(Ok(partition)),
                (Err(error), Unopened::Refused) => return Err(error),
                (Err(error), Unopened::Offline) => {
                    recipe.tell_offline(&error);
                    Place::new(Err(marks))
                }
            });
        }
        let topic = Arc::new(Topic { name: name.clone(), record, settings, partitions, revision });
        if let Some(old) = current {
            next.by_id.remove(&old.record.id);
        }
        next.by_id.insert(topic.record.id, topic.clone());
        next.by_name.insert(name, topic.clone());
        Ok(topic)
    }

    /// Settings of every topic anew: the broker's own configurations have changed.
    pub(crate) fn reconfigure(&self) {
        cordon(&self.root, &self.server);
        let _applying = self.applying.lock();
        let mut next = Snapshot::default();
        for topic in self.snapshot().by_name.values() {
            let settings = self.server.topic(&topic.record.configs);
            let layout = self.layout(&settings);
            topic.partitions.iter().for_each(|place| place.configure(layout, settings.flush_ms));
            let topic = Arc::new(Topic {
                name: topic.name.clone(),
                record: topic.record.clone(),
                settings,
                partitions: topic.partitions.clone(),
                revision: topic.revision,
            });
            next.by_id.insert(topic.record.id, topic.clone());
            next.by_name.insert(topic.name.clone(), topic);
        }
        self.snapshot.store(Arc::new(next));
        self.root.cleaning.notify_one();
    }

    fn layout(&self, settings: &TopicSettings) -> PartitionOptions {
        PartitionOptions {
            segment_bytes: settings.segment_bytes.max(1) as u64,
            segment_ms: if settings.compacted {
                // What may not stay uncompacted longer must leave the active segment in time.
                settings.segment_ms.min(settings.compaction_lag_ms_max)
            } else {
                settings.segment_ms
            },
            segment_jitter_ms: settings.segment_jitter_ms,
            index_bytes_max: settings.index_bytes_max.max(8) as u64,
            index_interval_bytes: settings.index_interval_bytes.max(0) as u64,
            preallocate: settings.preallocate,
            producer_expiration_ms: self.server.number("producer.id.expiration.ms"),
        }
    }

    fn recipe(
        &self,
        name: &Arc<str>,
        index: i32,
        record: &TopicRecord,
        settings: &TopicSettings,
        last: &LastStop,
        unopened: Unopened,
    ) -> Recipe {
        let key = (name.to_string(), index);
        let left = last.found(name, index).map(|(dir, stop)| {
            let (from, start) = places::opened_from(Some(stop), &key, settings.compacted);
            (dir.clone(), from, start)
        });
        let failed = self.root.failed().map(|dir| dir.path.display().to_string());
        let lost = match unopened {
            // What is made just now cannot be elsewhere.
            Unopened::Refused => String::new(),
            Unopened::Offline => failed.chain(last.missing.iter().cloned()).collect::<Vec<_>>().join(", "),
        };
        Recipe {
            root: self.root.clone(),
            topic: name.clone(),
            index,
            id: record.id,
            layout: self.layout(settings),
            flush_ms: settings.flush_ms,
            left: left.collect(),
            lost,
        }
    }

    fn apply_delete(&self, name: &str, revision: Revision) {
        let _applying = self.applying.lock();
        let Some(topic) = self.topic(name).filter(|topic| topic.revision <= revision) else { return };
        let mut next = (*self.snapshot()).clone();
        next.by_id.remove(&topic.record.id);
        next.by_name.remove(name);
        self.snapshot.store(Arc::new(next));
        self.retire(&topic);
    }

    /// The same where other tasks are not held up: a topic may have many directories to make.
    async fn apply_aside(
        self: &Arc<Self>,
        name: &str,
        record: TopicRecord,
        revision: Revision,
    ) -> Result<Arc<Topic>, commitlog::Error> {
        let (catalog, owned) = (self.clone(), name.to_owned());
        let applied = tokio::task::spawn_blocking(move || catalog.apply(&owned, record, revision)).await;
        applied.unwrap_or_else(|error| {
            tracing::error!(topic = name, %error, "applying a topic panicked");
            Err(commitlog::Error::Io { path: name.into(), source: std::io::Error::other(error) })
        })
    }

    /// Makes a topic. Name and configurations are checked already.
    pub(crate) async fn create(
        self: &Arc<Self>,
        name: &str,
        partitions: i32,
        configs: Values,
    ) -> Result<Arc<Topic>, Refusal> {
        let record = TopicRecord { id: names::random_id(), partitions, configs };
        let key = format!("{TOPICS}{name}");
        let txn = Txn {
            compare: vec![Compare::absent(key.clone())],
            success: vec![Op::put(key.clone(), encode(&record))],
            failure: Vec::new(),
        };
        let answer = self.store.txn(txn).await?;
        if !answer.succeeded {
            let text = format!("Topic '{name}' already exists.");
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, text));
        }
        let refused = match self.apply_aside(name, record, answer.revision).await {
            Ok(topic) if topic.offline() == 0 => return Ok(topic),
            // A reload came first.
            Ok(_) => "its directories cannot be made".to_owned(),
            Err(error) => error.to_string(),
        };
        // A topic that cannot be opened (a full disk) is not made.
        self.remove_key(&key, answer.revision).await?;
        Err(Refusal::new(ErrorCode::KafkaStorageError, refused))
    }

    async fn remove_key(&self, key: &str, revision: Revision) -> Result<bool, Refusal> {
        let compare = vec![Compare::unchanged(key.to_owned(), revision)];
        let answer =
            self.store.txn(Txn { compare, success: vec![Op::delete(key.to_owned())], failure: Vec::new() });
        let answer = answer.await?;
        if let (true, Some(name)) = (answer.succeeded, topic_name(key.as_bytes())) {
            self.apply_delete(&name, answer.revision);
        }
        Ok(answer.succeeded)
    }

    /// Deletes a topic. Its offsets are out of the checkpoints before the answer: they must not vouch for the logs of a
    /// new topic of the same name.
    pub(crate) async fn delete(self: &Arc<Self>, topic: &Topic) -> Result<(), Refusal> {
        let key = format!("{TOPICS}{}", topic.name);
        if !self.remove_key(&key, topic.revision).await? {
            return Err(changed(&topic.name));
        }
        let catalog = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || catalog.write_checkpoints()).await {
            // The topic is gone all the same.
            tracing::error!(%error, "writing offset checkpoints panicked");
        }
        Ok(())
    }

    /// A topic of offsets from before such topics had configurations of their own gets those it would be made with.
    pub(crate) async fn upgrade(self: &Arc<Self>) {
        let Some(topic) = self.topic(names::OFFSETS).filter(|topic| topic.record.configs.is_empty()) else {
            return;
        };
        let configs = self.server.internal_topic(names::OFFSETS);
        if let Err(refusal) = self.alter(&topic, TopicRecord { configs, ..topic.record.clone() }).await {
            tracing::error!(topic = names::OFFSETS, error = refusal.text, "configurations not set");
        }
    }

    /// Replaces a topic's configurations or raises its partitions.
    pub(crate) async fn alter(
        self: &Arc<Self>,
        topic: &Topic,
        record: TopicRecord,
    ) -> Result<Arc<Topic>, Refusal> {
        let key = format!("{TOPICS}{}", topic.name);
        let txn = Txn {
            compare: vec![Compare::unchanged(key.clone(), topic.revision)],
            success: vec![Op::put(key, encode(&record))],
            failure: Vec::new(),
        };
        let answer = self.store.txn(txn).await?;
        if !answer.succeeded {
            return Err(changed(&topic.name));
        }
        let applied = self.apply_aside(&topic.name, record, answer.revision).await;
        applied.map_err(|error| Refusal::new(ErrorCode::KafkaStorageError, error.to_string()))
    }

    /// Every partition that is open, in order of topic and number.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        let snapshot = self.snapshot();
        let places = snapshot.by_name.values().flat_map(|topic| &topic.partitions);
        places.filter_map(Place::open).cloned().collect()
    }

    /// Opens what sleeps, one after the other: what is damaged is known soon, and retention and metrics see everything.
    /// Blocks.
    pub(crate) fn wake_all(&self, stop: &dyn Fn() -> bool) {
        for place in self.snapshot().by_name.values().flat_map(|topic| &topic.partitions) {
            if stop() {
                break;
            }
            place.served();
        }
    }
}

impl Follower for Catalog {
    fn prefix(&self) -> &'static str {
        TOPICS
    }

    fn event(&self, event: &store_api::Event) {
        self.apply_event(event);
    }

    fn reload(&self) -> store_api::Future_<'_, Revision> {
        Box::pin(self.load())
    }
}

/// Tells the directories whether new partitions may go there.
fn cordon(root: &Root, server: &Server) {
    root.dirs.iter().for_each(|dir| dir.set_cordoned(server.cordons(&dir.path.to_string_lossy())));
}

fn changed(name: &str) -> Refusal {
    Refusal::new(ErrorCode::RequestTimedOut, format!("Topic '{name}' changed meanwhile; try again."))
}

fn topic_name(key: &[u8]) -> Option<String> {
    String::from_utf8(key.strip_prefix(TOPICS.as_bytes())?.to_vec()).ok()
}

pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<(String, TopicRecord)> {
    let name = topic_name(key)?;
    match serde_json::from_slice(value) {
        Ok(record) => Some((name, record)),
        Err(error) => {
            tracing::error!(topic = name, %error, "unreadable topic in the store ignored");
            None
        }
    }
}

pub(crate) fn encode(record: &TopicRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("a topic is plain data")
}
