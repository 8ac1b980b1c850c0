//! From a metadata log of Apache Kafka's to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::Disk;
use commitlog::Offset;
use commitlog::kafka::checkpoints::{self, Offsets};
use commitlog::kafka::directory::{self, DirectoryLock, MetaProperties};
use commitlog::kafka::{LeaderEpochs, metadata_log};
use store_api::{Op, Store, Txn};

use super::image::{BROKER, CLIENT_METRICS, GROUP, Image, TOPIC, Topic};
use super::{put_aside, stored_text, stored_topics};
use crate::api::PRODUCER_IDS;
use crate::catalog::{self, PARTITIONS_MAX, TopicRecord};
use crate::config::{self, Values};
use crate::entries::{Key, stored};
use crate::features::{Cluster, Levels, TRANSACTION_VERSION};
use crate::log_dir::{DirStop, LogDir};
use crate::quotas::{self, Entity, Limits};
use crate::resources::{Kind, Resource};
use crate::service::CLUSTER_ID;
use crate::{Error, names};

/// Operations in a transaction: etcd takes 128 by default.
const OPS_MAX: usize = 100;

/// What was taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    pub topics: usize,
    pub partitions: usize,
    /// Topics of the store that are no more.
    pub deleted: Vec<String>,
    /// What of the cluster has no place here, a line each.
    pub left_out: Vec<String>,
    /// Where the metadata log is now.
    pub put_aside: PathBuf,
}

/// What an import may leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    /// A cluster with ACLs, users or tokens is refused.
    Required,
    /// They are left out: who can reach the broker may do everything then.
    LeftOut,
}

/// Takes over the directories of a broker of Apache Kafka that nobody uses: what the metadata log in one of them says, when
/// there is one. The directories are those of broker `broker_id` from then on.
///
/// # Errors
/// A directory in use; a log that is damaged or newer than Kafka 4.3's; partitions that are not here; what has no place in
/// this broker; what disk and store refuse. Nothing is changed before all of that is known, but for the last.
pub async fn import(
    disk: &Arc<dyn Disk>,
    dirs: &[PathBuf],
    store: &dyn Store,
    broker_id: i32,
    guards: Guards,
) -> Result<Option<Imported>, Error> {
    let mut locks = Vec::new();
    let mut from = Vec::new();
    for dir in dirs.iter().filter(|dir| disk.exists(dir)) {
        locks.push(DirectoryLock::take(&**disk, dir).map_err(|_| Error::InUse(dir.to_owned()))?);
        from.push(Source { disk: &**disk, dir, clean: directory::is_marked_clean(&**disk, dir) });
    }
    take_over(&from, store, broker_id, guards).await
}

/// A directory whose lock is held.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
    /// Whether the last stop was clean.
    pub clean: bool,
}

impl<'a> Source<'a> {
    /// A directory that the broker has taken into possession.
    pub(crate) fn of(dir: &'a LogDir, stop: &DirStop) -> Self {
        Self { disk: &*dir.disk, dir: &dir.path, clean: stop.clean }
    }

    /// Whether the partition's directory is in this one, and that topic's.
    fn holds(&self, name: &str, id: &str) -> bool {
        directory::topic_id(self.disk, &self.dir.join(name)).as_deref() == Some(id)
    }

    fn meta(&self) -> Result<MetaProperties, Error> {
        let meta = MetaProperties::read(self.disk, self.dir).map_err(Error::io("meta.properties"))?;
        meta.ok_or_else(|| Error::Config(format!("{} has no meta.properties", self.dir.display())))
    }
}

/// The same under the directories' locks. What was taken over is in the store, durably, when the log is put aside; running it
/// again after a crash does no harm.
pub(crate) async fn take_over(
    from: &[Source<'_>],
    store: &dyn Store,
    broker_id: i32,
    guards: Guards,
) -> Result<Option<Imported>, Error> {
    // Kafka keeps its metadata in the first of its directories, unless it is told otherwise.
    let with = |source: &&Source<'_>| source.disk.exists(&source.dir.join(metadata_log::DIRECTORY));
    let Some(Source { disk, dir, .. }) = from.iter().find(with).copied() else { return Ok(None) };
    let log = dir.join(metadata_log::DIRECTORY);
    let metas = from.iter().map(Source::meta).collect::<Result<Vec<_>, _>>()?;
    let meta = metas[0].clone();
    if let Some(other) = metas.iter().find(|m| (&m.cluster_id, m.node_id) != (&meta.cluster_id, meta.node_id))
    {
        return Err(Error::WrongOwner(format!(
            "the directories belong to broker {} of cluster {} and to broker {} of cluster {}",
            meta.node_id, meta.cluster_id, other.node_id, other.cluster_id
        )));
    }
    let image = read(disk, &log)?;
    let guarded = image.security.told();
    let plan = Plan::make(from, &image, meta.node_id, broker_id)?;
    if guards == Guards::Required && !guarded.is_empty() {
        let (dir, guarded) = (dir.display(), guarded.join(", "));
        return Err(Error::Config(format!(
            "the cluster that {dir} comes from is guarded by what Ketch does not enforce ({guarded}); \
             `ketch log import-metadata --leave-out-security` takes it over without"
        )));
    }
    let before = stored_topics(store).await?;
    own_cluster(store, &meta, before.is_empty()).await?;
    let deleted: Vec<_> = before.keys().filter(|name| !plan.topics.contains_key(*name)).cloned().collect();
    let next_id = stored_text(store, PRODUCER_IDS).await?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut ops = plan.operations(&before, &deleted, image.next_producer_id.max(next_id));
    let limited = stored::<Entity, f64>(store).await?.into_iter().map(|(entity, _)| entity);
    ops.extend(limited.filter(|of| !plan.quotas.contains_key(of)).map(|of| Op::delete(of.stored())));
    for chunk in ops.chunks(OPS_MAX) {
        store.txn(Txn { compare: Vec::new(), success: chunk.to_vec(), failure: Vec::new() }).await?;
    }
    raise_epochs(from, &plan)?;
    for (source, meta) in from.iter().zip(metas).filter(|(_, meta)| meta.node_id != broker_id) {
        let meta = MetaProperties { node_id: broker_id, ..meta };
        meta.write(source.disk, source.dir, 0).map_err(Error::io("meta.properties"))?;
    }
    let put_aside = put_aside(disk, &log).map_err(Error::io(log.display()))?;
    disk.sync_dir(dir).map_err(Error::io(dir.display()))?;
    let mut left_out = plan.left_out;
    left_out.extend(guarded);
    let partitions = plan.topics.values().map(|topic| topic.partitions as usize).sum();
    Ok(Some(Imported { topics: plan.topics.len(), partitions, deleted, left_out, put_aside }))
}

fn read(disk: &dyn Disk, log: &Path) -> Result<Image, Error> {
    let mut image = Image::default();
    let read = metadata_log::read(disk, log, &mut |value| {
        image.take(value).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    });
    read.map_err(Error::io("metadata of Apache Kafka"))?;
    Ok(image)
}

/// The store of another cluster is left alone; one that holds no topic yet becomes this cluster's.
async fn own_cluster(store: &dyn Store, meta: &MetaProperties, fresh: bool) -> Result<(), Error> {
    match stored_text(store, CLUSTER_ID).await? {
        Some(id) if id == meta.cluster_id => Ok(()),
        Some(id) if !fresh => Err(Error::WrongOwner(format!(
            "the directory belongs to cluster {}, the store to {id}, which has topics",
            meta.cluster_id
        ))),
        _ => {
            let success = vec![Op::put(CLUSTER_ID, meta.cluster_id.clone())];
            store.txn(Txn { compare: Vec::new(), success, failure: Vec::new() }).await?;
            Ok(())
        }
    }
}

/// What the store is to hold.
struct Plan {
    topics: BTreeMap<String, TopicRecord>,
    resources: BTreeMap<Resource, Values>,
    quotas: BTreeMap<Entity, Limits>,
    transaction_version: i16,
    /// Leader epochs by topic and partition.
    epochs: BTreeMap<(String, i32), i32>,
    left_out: Vec<String>,
}

impl Plan {
    fn make(from: &[Source<'_>], image: &Image, node: i32, broker_id: i32) -> Result<Self, Error> {
        let mut plan = Self {
            topics: BTreeMap::new(),
            resources: BTreeMap::new(),
            quotas: BTreeMap::new(),
            // One that is not told of is not in force.
            transaction_version: image.features.get(TRANSACTION_VERSION).copied().unwrap_or(0),
            epochs: BTreeMap::new(),
            left_out: Vec::new(),
        };
        let mut missing = Vec::new();
        for (id, topic) in &image.topics {
            check_topic(topic)?;
            for (index, partition) in &topic.partitions {
                let (name, id) = (format!("{}-{index}", topic.name), names::base64url(id));
                let here = from.iter().any(|source| source.holds(&name, &id));
                if !here || !partition.replicas.contains(&node) {
                    missing.push(format!("{}-{index}", topic.name));
                }
                plan.epochs.insert((topic.name.clone(), *index), partition.leader_epoch);
            }
            let partitions = topic.partitions.len() as i32;
            let record = TopicRecord { id: *id, partitions, configs: Values::new() };
            plan.topics.insert(topic.name.clone(), record);
        }
        if let Some(first) = missing.first() {
            return Err(Error::Config(format!(
                "{} partitions of the cluster are not in {}, {first} for one: only directories that hold all, named \
                 together, can be taken over",
                missing.len(),
                from.iter().map(|source| source.dir.display().to_string()).collect::<Vec<_>>().join(", ")
            )));
        }
        for ((kind, name), values) in &image.configs {
            plan.configs(*kind, name, values, node, broker_id)?;
        }
        for (entity, limits) in &image.quotas {
            plan.limits(entity, limits);
        }
        Ok(plan)
    }

    /// Keeps those quotas that are enforced here.
    fn limits(&mut self, entity: &Entity, limits: &Limits) {
        let mut kept = Limits::new();
        for (key, value) in limits {
            match quotas::check(entity, key, *value) {
                Ok(()) => drop(kept.insert(key.clone(), *value)),
                Err(refusal) => {
                    self.left_out.push(format!("quota {key}={value} of {entity:?} ({})", refusal.text))
                }
            }
        }
        if !kept.is_empty() {
            self.quotas.insert(entity.clone(), kept);
        }
    }

    /// Keeps those configurations of a resource that have a meaning here.
    fn configs(&mut self, kind: i8, name: &str, values: &Values, node: i32, here: i32) -> Result<(), Error> {
        let (kind, name) = match kind {
            TOPIC => {
                let Some(mut topic) = self.topics.remove(name) else { return Ok(()) };
                let tiered = values.get("remote.storage.enable").is_some_and(|value| value == "true");
                if tiered {
                    let text =
                        format!("topic {name} keeps records in remote storage, which Ketch does not reach");
                    return Err(Error::Config(text));
                }
                topic.configs = self.kept(&format!("topic {name}"), values, config::check_topic);
                self.topics.insert(name.to_owned(), topic);
                return Ok(());
            }
            BROKER if name.is_empty() => (Kind::Brokers, String::new()),
            BROKER if name == node.to_string() => (Kind::Brokers, here.to_string()),
            CLIENT_METRICS => (Kind::ClientMetrics, name.to_owned()),
            GROUP => (Kind::Groups, name.to_owned()),
            BROKER => {
                self.left_out.extend(values.keys().map(|key| format!("broker {name}: {key}")));
                return Ok(());
            }
            other => {
                self.left_out.push(format!("configurations of resource {name}, type {other}"));
                return Ok(());
            }
        };
        let values = match kind {
            Kind::Brokers => {
                let own = !name.is_empty();
                self.kept("broker", values, |values| config::check_dynamic(values, own))
            }
            Kind::Groups | Kind::ClientMetrics => values.clone(),
        };
        if !values.is_empty() {
            self.resources.insert((kind, name), values);
        }
        Ok(())
    }

    fn kept(
        &mut self,
        whose: &str,
        values: &Values,
        check: impl Fn(&Values) -> Result<(), String>,
    ) -> Values {
        let mut kept = Values::new();
        for (key, value) in values {
            match check(&Values::from([(key.clone(), value.clone())])) {
                Ok(()) => drop(kept.insert(key.clone(), value.clone())),
                Err(why) => self.left_out.push(format!("{whose}: {key}={value} ({why})")),
            }
        }
        kept
    }

    fn operations(
        &self,
        before: &BTreeMap<String, TopicRecord>,
        deleted: &[String],
        next_id: i64,
    ) -> Vec<Op> {
        let key = |name: &str| format!("{}{name}", catalog::TOPICS);
        let mut ops: Vec<_> = deleted.iter().map(|name| Op::delete(key(name))).collect();
        let changed = self.topics.iter().filter(|(name, topic)| before.get(*name) != Some(topic));
        ops.extend(changed.map(|(name, topic)| Op::put(key(name), catalog::encode(topic))));
        ops.extend(self.resources.iter().map(|(resource, values)| {
            Op::put(resource.stored(), serde_json::to_vec(values).expect("a map of strings"))
        }));
        ops.extend(self.quotas.iter().map(|(entity, limits)| {
            Op::put(entity.stored(), serde_json::to_vec(limits).expect("a map of numbers"))
        }));
        let level = self.transaction_version;
        let levels = Levels::from([(TRANSACTION_VERSION.to_owned(), level)]);
        ops.push(Op::put(Cluster.stored(), serde_json::to_vec(&levels).expect("a map of numbers")));
        if next_id > 0 {
            ops.push(Op::put(PRODUCER_IDS, next_id.to_string()));
        }
        ops
    }
}

fn check_topic(topic: &Topic) -> Result<(), Error> {
    let name = &topic.name;
    names::check(name).map_err(|text| Error::Config(format!("metadata of Apache Kafka: {text}")))?;
    let count = topic.partitions.len();
    let numbers: BTreeSet<i32> = topic.partitions.keys().copied().collect();
    if count == 0 || count > PARTITIONS_MAX as usize || !numbers.iter().copied().eq(0..count as i32) {
        return Err(Error::Config(format!(
            "topic {name} has {count} partitions, which are not 0 to {count}"
        )));
    }
    Ok(())
}

/// No epoch that Kafka told clients may be told again for another leader: each partition goes on with Kafka's newest, from
/// its end. After an unclean stop the ends are not known; recovery begins an epoch by itself then.
fn raise_epochs(from: &[Source<'_>], plan: &Plan) -> Result<(), Error> {
    for Source { disk, dir, .. } in from.iter().copied().filter(|source| source.clean) {
        let ends: Offsets = checkpoints::read(disk, &dir.join(checkpoints::RECOVERY_POINT));
        for (partition, epoch) in &plan.epochs {
            let Some(end) = ends.get(partition) else { continue };
            let path = dir.join(format!("{}-{}", partition.0, partition.1));
            if !disk.exists(&path) {
                continue;
            }
            let mut epochs = LeaderEpochs::open(disk, &path);
            if epochs.assign(*epoch, (*end).max(Offset(0))) {
                epochs.save_durably(disk).map_err(Error::io(path.display()))?;
            }
        }
    }
    Ok(())
}
