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
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use commitlog::kafka::checkpoints::{self, Offsets};
use commitlog::kafka::{PartitionLog, PartitionOptions, directory};
use commitlog::{Offset, OpenFrom};
use kafka_wire::{ErrorCode, Uuid};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store_api::{Compare, Op, RangeRequest, Revision, Store, Txn};

use crate::config::{Server, TopicSettings, Values};
use crate::names;
use crate::partition::Partition;
use crate::root::Root;

/// Prefix of the topics' keys.
pub(crate) const TOPICS: &str = "/ketch/kafka/topics/";
/// The most partitions of a topic; one directory and one open file each.
pub(crate) const PARTITIONS_MAX: i32 = 10_000;

/// Threads that open partitions at a start...
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

/// What stands in a partition's place.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Served(Arc<Partition>),
    /// Its directory could not be opened; the next start tries again.
    Offline(Marks),
}

/// What the checkpoints say of a log, kept for the next start while the log itself is out of reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    recovery_point: Option<Offset>,
    log_start: Option<Offset>,
}

impl Place {
    /// The partition, where it is served.
    pub(crate) fn served(&self) -> Option<&Arc<Partition>> {
        match self {
            Self::Served(partition) => Some(partition),
            Self::Offline(_) => None,
        }
    }
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

    /// The partitions that are served.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().filter_map(Place::served)
    }

    /// Those that are not, by number.
    fn offline(&self) -> impl Iterator<Item = (i32, Marks)> {
        (0..).zip(&self.partitions).filter_map(|(index, place)| match place {
            Place::Served(_) => None,
            Place::Offline(marks) => Some((index, *marks)),
        })
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

/// What was known of the logs when the broker last stopped.
#[derive(Debug, Default)]
pub(crate) struct LastStop {
    pub clean: bool,
    pub recovery_points: Offsets,
    pub log_starts: Offsets,
    /// Partitions opened ahead, many at a time.
    pub opened: HashMap<(Uuid, i32), Result<Arc<Partition>, commitlog::Error>>,
}

/// The topics.
pub(crate) struct Catalog {
    pub root: Arc<Root>,
    store: Arc<dyn Store>,
    server: Arc<Server>,
    snapshot: ArcSwap<Snapshot>,
    applying: Mutex<LastStop>,
    /// One writer of the checkpoint files at a time.
    checkpointing: Mutex<()>,
}

impl Catalog {
    pub(crate) fn new(root: Arc<Root>, store: Arc<dyn Store>, server: Arc<Server>, last: LastStop) -> Self {
        let snapshot = ArcSwap::default();
        Self { root, store, server, snapshot, applying: Mutex::new(last), checkpointing: Mutex::default() }
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
    pub(crate) async fn load(&self) -> Result<Revision, crate::Error> {
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
        let mut last = self.applying.lock();
        let mut next = (*self.snapshot()).clone();
        last.opened = self.open_ahead(&topics, &last);
        for (name, record, revision) in topics {
            let applied = self.apply_to(&mut next, &mut last, &name, record, revision, Unopened::Offline);
            if let Err(error) = applied {
                tracing::error!(topic = name, %error, "topic cannot be opened");
            }
        }
        last.opened.clear();
        self.snapshot.store(Arc::new(next));
        self.root.cleaning.notify_one();
    }

    /// Opens the partitions of topics that are not known yet, several at a time: opening waits for the disk as much as
    /// for the processor.
    fn open_ahead(
        &self,
        topics: &[(String, TopicRecord, Revision)],
        last: &LastStop,
    ) -> HashMap<(Uuid, i32), Result<Arc<Partition>, commitlog::Error>> {
        let known = self.snapshot();
        let fresh = topics.iter().filter(|(_, record, _)| !known.by_id.contains_key(&record.id));
        let fresh: Vec<_> = fresh
            .map(|(name, record, _)| {
                (Arc::<str>::from(&**name), record, self.settings(name, &record.configs))
            })
            .collect();
        let jobs: Vec<_> =
            fresh.iter().flat_map(|topic| (0..topic.1.partitions).map(move |index| (topic, index))).collect();
        let (next, opened) = (std::sync::atomic::AtomicUsize::new(0), Mutex::new(HashMap::new()));
        let work = || {
            while let Some(((name, record, settings), index)) =
                jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                let partition = self.open_partition(name, *index, record, settings, last);
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

    /// After the first load: what was known of the last stop concerns no partition made from now on, and directories of
    /// topics that are no more are put aside (Kafka's `-stray`) or, when half deleted, removed. Where that fails they stay
    /// until the next start.
    pub(crate) fn finish_boot(&self) -> io::Result<()> {
        *self.applying.lock() = LastStop { clean: true, ..LastStop::default() };
        let snapshot = self.snapshot();
        for name in self.root.disk.list(&self.root.dir)? {
            let path = self.root.dir.join(&name);
            if name.ends_with("-delete") && name.contains('.') {
                if let Err(error) = self.root.disk.remove_dir_all(&path) {
                    tracing::warn!(dir = %path.display(), %error, "directory not removed");
                }
            } else if let Some((topic, index)) = directory::parse_partition_dir(&name) {
                let known = snapshot.by_name.get(topic).is_some_and(|t| t.place(index).is_some());
                if !known
                    && self.root.disk.exists(&path.join("partition.metadata"))
                    && let Err(error) = self.put_aside(&path, "stray")
                {
                    tracing::error!(dir = %path.display(), %error, "directory not put aside");
                }
            }
        }
        Ok(())
    }

    /// Renames a partition's directory to `<name>.<32 digits>-<suffix>`.
    fn put_aside(&self, path: &std::path::Path, suffix: &str) -> io::Result<PathBuf> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let id = Uuid::new_v4().simple().to_string();
        let to = path.with_file_name(directory::aside_name(&name, &id, suffix));
        self.root.disk.rename(path, &to)?;
        Ok(to)
    }

    /// Follows the store until cancelled.
    pub(crate) async fn follow(
        self: Arc<Self>,
        mut from: Revision,
        stop: tokio_util::sync::CancellationToken,
    ) -> Result<(), crate::Error> {
        loop {
            let request = store_api::WatchRequest {
                range: store_api::KeyRange::prefix(TOPICS),
                start_revision: Some(from.next()),
                prev_kv: false,
            };
            let mut watch = self.store.watch(request).await?;
            loop {
                let message = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    message = watch.messages.recv() => message,
                };
                match message {
                    Some(store_api::WatchMessage::Events { events, .. }) => {
                        events.iter().for_each(|event| self.apply_event(event));
                    }
                    Some(store_api::WatchMessage::Progress { .. }) => {}
                    // Compacted or fell behind: look at everything again.
                    Some(store_api::WatchMessage::Cancelled { .. }) | None => break,
                }
            }
            from = self.load().await?;
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
        let mut last = self.applying.lock();
        let mut next = (*self.snapshot()).clone();
        let topic = self.apply_to(&mut next, &mut last, name, record, revision, Unopened::Refused)?;
        self.snapshot.store(Arc::new(next));
        self.root.cleaning.notify_one();
        Ok(topic)
    }

    /// The same into a snapshot that is not published yet.
    fn apply_to(
        &self,
        next: &mut Snapshot,
        last: &mut LastStop,
        name: &str,
        record: TopicRecord,
        revision: Revision,
        unopened: Unopened,
    ) -> Result<Arc<Topic>, commitlog::Error> {
        let current = next.by_name.get(name).cloned();
        if let Some(topic) = &current
            && topic.revision >= revision
        {
            return Ok(topic.clone());
        }
        let same = current.as_ref().filter(|topic| topic.record.id == record.id);
        if let (Some(old), None) = (&current, same) {
            self.retire(old);
        }
        let name: Arc<str> = name.into();
        let settings = self.settings(&name, &record.configs);
        let mut partitions = same.map(|topic| topic.partitions.clone()).unwrap_or_default();
        for partition in partitions.iter().filter_map(Place::served) {
            partition.log().set_options(self.layout(&settings));
            partition.set_flush_ms(settings.flush_ms);
        }
        for index in partitions.len() as i32..record.partitions {
            let ahead = last.opened.remove(&(record.id, index));
            let opened = ahead.unwrap_or_else(|| self.open_partition(&name, index, &record, &settings, last));
            partitions.push(match (opened, unopened) {
                (Ok(partition), _) => Place::Served(partition),
                (Err(error), Unopened::Refused) => return Err(error),
                (Err(error), Unopened::Offline) => self.offline(&name, index, last, &error),
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

    /// The place of a partition that cannot be opened.
    fn offline(&self, name: &str, index: i32, last: &LastStop, error: &commitlog::Error) -> Place {
        let dir = self.root.partition_dir(name, index);
        tracing::error!(topic = name, partition = index, dir = %dir.display(), %error,
            "partition is offline: its directory cannot be opened; the next start tries again");
        let key = (name.to_owned(), index);
        Place::Offline(Marks {
            recovery_point: last.recovery_points.get(&key).copied(),
            log_start: last.log_starts.get(&key).copied(),
        })
    }

    /// Settings of every topic anew: the broker's own configurations have changed.
    pub(crate) fn reconfigure(&self) {
        let _applying = self.applying.lock();
        let mut next = Snapshot::default();
        for topic in self.snapshot().by_name.values() {
            let settings = self.settings(&topic.name, &topic.record.configs);
            for partition in topic.served() {
                partition.log().set_options(self.layout(&settings));
                partition.set_flush_ms(settings.flush_ms);
            }
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

    fn settings(&self, name: &str, configs: &Values) -> TopicSettings {
        let mut settings = self.server.topic(configs);
        if name == names::OFFSETS {
            settings.compacted = true;
            settings.deletes = false;
            settings.segment_bytes = self.server.number("offsets.topic.segment.bytes");
        }
        settings
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
            producer_expiration_ms: self.server.number("producer.id.expiration.ms"),
        }
    }

    fn open_partition(
        &self,
        name: &Arc<str>,
        index: i32,
        record: &TopicRecord,
        settings: &TopicSettings,
        last: &LastStop,
    ) -> Result<Arc<Partition>, commitlog::Error> {
        let disk = &self.root.disk;
        let dir = self.root.partition_dir(name, index);
        let io = |source| commitlog::Error::Io { path: dir.clone(), source };
        let id = names::base64url(&record.id);
        let mut known = disk.exists(&dir);
        if known && directory::topic_id(&**disk, &dir).is_some_and(|found| found != id) {
            self.put_aside(&dir, "stray").map_err(io)?;
            known = false;
        }
        let key = (name.to_string(), index);
        let (from, start) = if known {
            let point = last.recovery_points.get(&key).copied().unwrap_or_default();
            let from = match (last.clean, settings.compacted) {
                (true, _) => OpenFrom::Clean,
                (false, true) => OpenFrom::Compacted(point),
                (false, false) => OpenFrom::RecoveryPoint(point),
            };
            (from, last.log_starts.get(&key).copied().unwrap_or_default())
        } else {
            (OpenFrom::Clean, Offset(0))
        };
        let (log, recovery) = PartitionLog::open(disk.clone(), &dir, self.layout(settings), from, start)?;
        if recovery.cut_bytes > 0 {
            tracing::warn!(topic = %name, partition = index, bytes = recovery.cut_bytes, end = %log.log().end(), "cut a torn tail");
        }
        if known {
            if names::is_internal(name) {
                // Coordinators read their topics up to the high watermark as soon as they start.
                log.log().flush()?;
            }
        } else {
            directory::write_topic_id(&**disk, &dir, &id).map_err(io)?;
            self.root.note_new_directory();
        }
        let partition = Partition::new(name.clone(), index, log, &self.root);
        partition.set_flush_ms(settings.flush_ms);
        partition.note_recovered(recovery.verified_bytes);
        Ok(partition)
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

    /// Takes a topic's partitions out of service; their directories go in the background.
    fn retire(&self, topic: &Topic) {
        let mut aside = Vec::new();
        topic.served().for_each(|partition| partition.mark_deleted());
        for index in 0..topic.partitions.len() as i32 {
            let dir = self.root.partition_dir(&topic.name, index);
            match self.put_aside(&dir, "delete") {
                Ok(path) => aside.push(path),
                Err(error) => tracing::error!(dir = %dir.display(), %error, "directory not put aside"),
            }
        }
        let disk = self.root.disk.clone();
        // Best effort: what a stop leaves behind goes at the next start.
        drop(tokio::task::spawn_blocking(move || {
            for path in aside {
                if let Err(error) = disk.remove_dir_all(&path) {
                    tracing::warn!(dir = %path.display(), %error, "directory not removed");
                }
            }
        }));
        self.root.checkpoints_due();
    }

    /// Makes a topic. Name and configurations are checked already.
    pub(crate) async fn create(
        &self,
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
        let refused = match self.apply(name, record, answer.revision) {
            Ok(topic) if topic.offline().next().is_none() => return Ok(topic),
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
        match tokio::task::spawn_blocking(move || catalog.write_checkpoints()).await {
            Ok(Ok(())) => Ok(()),
            // The topic is gone all the same.
            failed => {
                tracing::warn!(?failed, "offset checkpoints not written");
                Ok(())
            }
        }
    }

    /// Replaces a topic's configurations or raises its partitions.
    pub(crate) async fn alter(&self, topic: &Topic, record: TopicRecord) -> Result<Arc<Topic>, Refusal> {
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
        let applied = self.apply(&topic.name, record, answer.revision);
        applied.map_err(|error| Refusal::new(ErrorCode::KafkaStorageError, error.to_string()))
    }

    /// Every partition that is served, in order of topic and number.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.snapshot().by_name.values().flat_map(|topic| topic.served().cloned()).collect()
    }

    /// Whether every partition could be opened.
    pub(crate) fn is_whole(&self) -> bool {
        self.snapshot().by_name.values().all(|topic| topic.offline().next().is_none())
    }

    /// Writes the three offset checkpoints. Blocks.
    pub(crate) fn write_checkpoints(&self) -> io::Result<()> {
        let _checkpointing = self.checkpointing.lock();
        let (mut recovery, mut starts, mut high) = (Offsets::new(), Offsets::new(), Offsets::new());
        let mut saved = Vec::new();
        for partition in self.partitions() {
            let key = (partition.topic.to_string(), partition.index);
            let point = partition.log().recovery_point();
            recovery.insert(key.clone(), point);
            saved.push((partition.clone(), point));
            high.insert(key.clone(), partition.high_watermark());
            // Kafka's file names only partitions whose start is not simply their first segment.
            let first = partition.log().log().segments().first().map_or(Offset(0), |(base, _)| *base);
            if partition.log_start() > first {
                starts.insert(key, partition.log_start());
            }
        }
        for topic in self.snapshot().by_name.values() {
            for (index, marks) in topic.offline() {
                let key = || (topic.name.to_string(), index);
                recovery.extend(marks.recovery_point.map(|point| (key(), point)));
                starts.extend(marks.log_start.map(|start| (key(), start)));
            }
        }
        for (name, offsets) in [
            (checkpoints::RECOVERY_POINT, &recovery),
            (checkpoints::LOG_START, &starts),
            (checkpoints::REPLICATION, &high),
        ] {
            checkpoints::write(&*self.root.disk, &self.root.dir.join(name), offsets)?;
        }
        saved.iter().for_each(|(partition, point)| partition.log().note_saved(*point));
        Ok(())
    }
}

fn changed(name: &str) -> Refusal {
    Refusal::new(ErrorCode::RequestTimedOut, format!("Topic '{name}' changed meanwhile; try again."))
}

fn topic_name(key: &[u8]) -> Option<String> {
    String::from_utf8(key.strip_prefix(TOPICS.as_bytes())?.to_vec()).ok()
}

fn decode(key: &[u8], value: &[u8]) -> Option<(String, TopicRecord)> {
    let name = topic_name(key)?;
    match serde_json::from_slice(value) {
        Ok(record) => Some((name, record)),
        Err(error) => {
            tracing::error!(topic = name, %error, "unreadable topic in the store ignored");
            None
        }
    }
}

fn encode(record: &TopicRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("a topic is plain data")
}
