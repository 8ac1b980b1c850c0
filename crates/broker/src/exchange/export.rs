//! From the store to a metadata log of Apache Kafka's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::Disk;
use bytes::Bytes;
use commitlog::kafka::directory::{self, DirectoryLock, MetaProperties};
use commitlog::kafka::{LeaderEpochs, metadata_log};
use kafka_wire::metadata::{self as m, client_quota_record};
use kafka_wire::{EncodeError, Uuid};
use store_api::Store;

use super::image::{BROKER, CLIENT_METRICS, GROUP, TOPIC};
use super::{INTERNAL_SEGMENT_BYTES, put_aside, stored_text, stored_topics};
use crate::api::PRODUCER_IDS;
use crate::catalog::TopicRecord;
use crate::config::Values;
use crate::entries::stored;
use crate::features::{self, Cluster, TRANSACTION, TRANSACTION_VERSION};
use crate::quotas::{Entity, Limits};
use crate::resources::{Kind, Resource};
use crate::{Error, names};

/// The features of a cluster that Kafka 4.3's `kafka-storage format` makes, but for `eligible.leader.replicas.version`:
/// that concerns several replicas, takes `min.insync.replicas` away from topics, and can be raised later.
const FEATURES: &[(&str, i16)] =
    &[("metadata.version", 30), ("group.version", 1), ("share.version", 1), ("streams.version", 1)];
/// Nobody leads a partition while the cluster is down.
const NO_LEADER: i32 = -1;
/// Versions of the records: those of metadata.version 30 without eligible leader replicas.
const PARTITION_VERSION: i16 = 1;
/// The producer ids' block was given to nobody.
const NO_BROKER: i32 = -1;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub topics: usize,
    pub partitions: usize,
    pub node_id: i32,
    pub cluster_id: String,
    /// A metadata log that was there before, and where it is now.
    pub put_aside: Option<PathBuf>,
}

/// Writes the metadata of the topics in `dirs`, a broker's directories that nobody uses, into the first of them.
///
/// # Errors
/// A directory in use, of no broker or not stopped cleanly; a partition that is not there; what disk and store refuse.
pub async fn export(
    disk: &Arc<dyn Disk>,
    dirs: &[PathBuf],
    store: &dyn Store,
    now_ms: i64,
) -> Result<Exported, Error> {
    let mut locks = Vec::new();
    for dir in dirs {
        let none = |what: &str| Error::Config(format!("{} {what}", dir.display()));
        if !disk.exists(dir) {
            return Err(none("is not there: nothing has run on it"));
        }
        locks.push(DirectoryLock::take(&**disk, dir).map_err(|_| Error::InUse(dir.to_owned()))?);
        if !directory::is_marked_clean(&**disk, dir) {
            return Err(none("was not closed by its broker: start it once more and stop it by SIGTERM"));
        }
    }
    let places = dirs.iter().map(|dir| Place::open(&**disk, dir)).collect::<Result<Vec<_>, _>>()?;
    let (Some(dir), Some(Place { meta, .. })) = (dirs.first(), places.first()) else {
        return Err(Error::Config("no directory is named".into()));
    };
    let ours = |m: &MetaProperties| (&m.cluster_id, m.node_id) == (&meta.cluster_id, meta.node_id);
    if let Some(other) = places.iter().find(|place| !ours(&place.meta)) {
        return Err(Error::WrongOwner(format!("{} is another broker's", other.dir.display())));
    }
    let meta = meta.clone();
    let topics = stored_topics(store).await?;
    let mut records = Records::default();
    for (name, level) in FEATURES {
        records.push(&m::FeatureLevelRecord { name: (*name).to_owned(), feature_level: *level }, 0)?;
    }
    let set = stored::<Cluster, i16>(store).await?.pop().map(|(_, set)| set).unwrap_or_default();
    let (name, level) = (TRANSACTION_VERSION.to_owned(), features::level(&set, &TRANSACTION));
    // One at 0 is not in force, and not told of.
    if level > 0 {
        records.push(&m::FeatureLevelRecord { name, feature_level: level }, 0)?;
    }
    let features = records.0.clone();
    for ((kind, name), values) in stored::<Resource, String>(store).await? {
        let kind = match kind {
            Kind::Brokers => BROKER,
            Kind::Groups => GROUP,
            Kind::ClientMetrics => CLIENT_METRICS,
        };
        records.configs(kind, &name, &values)?;
    }
    for (entity, limits) in stored::<Entity, f64>(store).await? {
        records.limits(&entity, &limits)?;
    }
    if let Some(next) = stored_text(store, PRODUCER_IDS).await? {
        let next_producer_id =
            next.parse().map_err(|_| Error::Config(format!("the store's {PRODUCER_IDS} is {next:?}")))?;
        let record = m::ProducerIdsRecord { broker_id: NO_BROKER, next_producer_id, ..Default::default() };
        records.push(&record, 0)?;
    }
    for (name, topic) in &topics {
        records.topic(&**disk, &places, name, topic)?;
    }
    let partitions = topics.values().map(|topic| topic.partitions as usize).sum();
    let put_aside = place(disk, dir, meta.node_id, &features, &records.0, now_ms)?;
    let MetaProperties { node_id, cluster_id, .. } = meta;
    Ok(Exported { topics: topics.len(), partitions, node_id, cluster_id, put_aside })
}

/// Writes the log under another name, then gives it its own: it is there wholly or not at all.
fn place(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    node_id: i32,
    features: &[Bytes],
    records: &[Bytes],
    now_ms: i64,
) -> Result<Option<PathBuf>, Error> {
    let path = dir.join(metadata_log::DIRECTORY);
    // Both brokers remove a directory with such a name when they start.
    let id = Uuid::new_v4().simple().to_string();
    let making = dir.join(directory::aside_name(metadata_log::DIRECTORY, &id, "delete"));
    metadata_log::write(disk, &making, node_id, records, now_ms)?;
    let bootstrap = metadata_log::snapshot(features, now_ms)?;
    let io = || Error::io(dir.display());
    disk.write_atomically(&dir.join(metadata_log::BOOTSTRAP), &bootstrap).map_err(io())?;
    let old = disk.exists(&path).then(|| put_aside(&**disk, &path)).transpose().map_err(io())?;
    disk.rename(&making, &path).map_err(io())?;
    disk.sync_dir(dir).map_err(io())?;
    Ok(old)
}

/// One of the broker's directories.
struct Place<'a> {
    dir: &'a Path,
    meta: MetaProperties,
    /// `directory.id`.
    id: Uuid,
}

impl<'a> Place<'a> {
    fn open(disk: &dyn Disk, dir: &'a Path) -> Result<Self, Error> {
        let none = |what: &str| Error::Config(format!("{} {what}", dir.display()));
        let meta = MetaProperties::read(disk, dir).map_err(Error::io("meta.properties"))?;
        let meta = meta.ok_or_else(|| none("has no meta.properties: no broker has run on it"))?;
        let id = names::from_base64url(&meta.directory_id);
        Ok(Self { dir, id: id.ok_or_else(|| none("has no directory.id in its meta.properties"))?, meta })
    }
}

/// Records in the order of the log.
#[derive(Debug, Default)]
struct Records(Vec<Bytes>);

impl Records {
    fn push<M: kafka_wire::Message>(&mut self, record: &M, version: i16) -> Result<(), Error> {
        let refused = |error: EncodeError| Error::Config(format!("{}: {error}", M::NAME));
        self.0.push(m::encode(record, version).map_err(refused)?);
        Ok(())
    }

    fn limits(&mut self, entity: &Entity, limits: &Limits) -> Result<(), Error> {
        let part = |(entity_type, entity_name): (&String, &Option<String>)| client_quota_record::EntityData {
            entity_type: entity_type.clone(),
            entity_name: entity_name.clone(),
        };
        for (key, value) in limits {
            let entity = entity.iter().map(part).collect();
            self.push(&m::ClientQuotaRecord { entity, key: key.clone(), value: *value, remove: false }, 0)?;
        }
        Ok(())
    }

    fn configs(&mut self, resource_type: i8, resource: &str, values: &Values) -> Result<(), Error> {
        for (name, value) in values {
            let (resource_name, name, value) = (resource.to_owned(), name.clone(), Some(value.clone()));
            self.push(&m::ConfigRecord { resource_type, resource_name, name, value }, 0)?;
        }
        Ok(())
    }

    /// A topic as it stands when its only broker has stopped: no leader, that broker in sync.
    fn topic(
        &mut self,
        disk: &dyn Disk,
        places: &[Place<'_>],
        name: &str,
        topic: &TopicRecord,
    ) -> Result<(), Error> {
        self.push(&m::TopicRecord { name: name.to_owned(), topic_id: topic.id }, 0)?;
        self.configs(TOPIC, name, &own_configs(name, &topic.configs))?;
        let id = names::base64url(&topic.id);
        for partition_id in 0..topic.partitions {
            let own = format!("{name}-{partition_id}");
            let mut holding = places
                .iter()
                .filter(|place| directory::topic_id(disk, &place.dir.join(&own)).as_deref() == Some(&id));
            let Some(place) = holding.next() else {
                let dirs: Vec<_> = places.iter().map(|place| place.dir.display().to_string()).collect();
                return Err(Error::Config(format!(
                    "{own} is not in {}, or another topic's: a broker with several directories needs all of them named",
                    dirs.join(", ")
                )));
            };
            if let Some(other) = holding.next() {
                let (one, two) = (place.dir.display(), other.dir.display());
                return Err(Error::Config(format!(
                    "{own} is in {one} and in {two}: nobody knows which is right"
                )));
            }
            let (meta, path) = (&place.meta, place.dir.join(&own));
            let record = m::PartitionRecord {
                partition_id,
                topic_id: topic.id,
                replicas: vec![meta.node_id],
                isr: vec![meta.node_id],
                leader: NO_LEADER,
                leader_epoch: LeaderEpochs::open(disk, &path).latest().unwrap_or(0),
                partition_epoch: 0,
                directories: vec![place.id],
                ..Default::default()
            };
            self.push(&record, PARTITION_VERSION)?;
        }
        Ok(())
    }
}

/// A topic's configurations, with those that are built in here for the topics that brokers write.
fn own_configs(name: &str, configs: &Values) -> Values {
    let mut own = configs.clone();
    if names::is_internal(name) {
        let compression = if name == names::OFFSETS { "producer" } else { "uncompressed" };
        let built_in = [
            ("cleanup.policy", "compact"),
            ("compression.type", compression),
            ("segment.bytes", INTERNAL_SEGMENT_BYTES),
        ];
        for (key, value) in built_in {
            own.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    own
}
