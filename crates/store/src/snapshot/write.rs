//! From a view of the state to a file.

use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use bolt::{BucketWriter, Writer};
use etcd_wire::mvccpb;
use mvcc::{Reader, dump, read};
use prost::Message;
use store_api::{KeyValue, Revision};

use super::side::Side;
use super::sorted::Sorter;
use super::{
    CONF_STATE, CONSISTENT_INDEX, FINISHED_COMPACT, KEY, LEASE, LeaseRecord, META, Place, SCHEDULED_COMPACT,
    STORAGE_VERSION, STORAGE_VERSION_KEY, Snapshot, SnapshotError, TERM, scratch,
};
use crate::db;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// What a snapshot says of the cluster it was made in.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub members: Vec<AboutMember>,
}

/// A member, as etcd writes it down.
#[derive(Debug, Clone)]
pub(crate) struct AboutMember {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// Makes a snapshot of a view, in a file in `dir`.
pub(crate) fn write(view: &impl Reader, about: &About, dir: &Path) -> Result<Snapshot, SnapshotError> {
    let file = scratch(dir)?;
    let mut writer = Writer::new(BufWriter::with_capacity(BUFFER_BYTES, file))?;
    let mut keys = writer.bucket(KEY)?;
    write_keys(view, &mut keys, dir)?;
    keys.finish()?;
    let mut leases = writer.bucket(LEASE)?;
    for (id, ttl) in read::leases(view)? {
        let record = LeaseRecord { id: id.get(), ttl, remaining_ttl: 0 };
        leases.put(&id.get().to_be_bytes(), &record.encode_to_vec())?;
    }
    leases.finish()?;
    write_meta(view, about, &mut writer)?;
    write_cluster(about, &mut writer)?;
    writer.bucket(b"members_removed")?.finish()?;
    Side::of(view)?.write(&mut writer)?;
    let (out, bytes) = writer.finish()?;
    let mut file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(Snapshot { file, bytes })
}

/// The versions and deletes in the order they happened.
fn write_keys<W: Write + Seek>(
    view: &impl Reader,
    bucket: &mut BucketWriter<'_, W>,
    dir: &Path,
) -> Result<(), SnapshotError> {
    let mut below = Sorter::new(dir);
    dump::visible_at_bar(view, &mut |revision, key| Ok::<_, SnapshotError>(below.push(revision, key)?))?;
    let mut place = Place::of(Revision(0));
    below.each(|revision, key| {
        // Which change of its revision it was is forgotten; any number does that is taken once.
        place = if place.revision == revision {
            Place { sub: place.sub + 1, ..place }
        } else {
            Place::of(revision)
        };
        put_version(view, bucket, place, key)
    })?;
    dump::events_from(view, &mut |revision, sub, put, key| {
        let place = Place { revision, sub, deleted: !put };
        if put {
            return put_version(view, bucket, place, key);
        }
        let gone = mvccpb::KeyValue { key: key.to_vec().into(), ..mvccpb::KeyValue::default() };
        Ok(bucket.put(&place.encode(), &gone.encode_to_vec())?)
    })
}

fn put_version<W: Write + Seek>(
    view: &impl Reader,
    bucket: &mut BucketWriter<'_, W>,
    place: Place,
    key: &[u8],
) -> Result<(), SnapshotError> {
    let kv = wire(dump::version(view, key, place.revision)?);
    Ok(bucket.put(&place.encode(), &kv.encode_to_vec())?)
}

fn wire(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
        value: kv.value,
        lease: kv.lease.get(),
    }
}

fn write_meta<W: Write + Seek>(
    view: &impl Reader,
    about: &About,
    writer: &mut Writer<W>,
) -> Result<(), SnapshotError> {
    let applied = db::applied(view)?;
    let compacted = read::compacted(view)?;
    let ids = |learners| about.members.iter().filter(move |m| m.is_learner == learners).map(|m| m.id);
    let mut conf = serde_json::json!({ "voters": ids(false).collect::<Vec<_>>(), "auto_leave": false });
    if ids(true).next().is_some() {
        conf["learners"] = ids(true).collect();
    }
    let mut meta = writer.bucket(META)?;
    // Sorted as bytes, capitals first.
    meta.put(CONF_STATE, conf.to_string().as_bytes())?;
    meta.put(CONSISTENT_INDEX, &applied.index.get().to_be_bytes())?;
    if compacted.get() > 0 {
        meta.put(FINISHED_COMPACT, &Place::of(compacted).encode())?;
        meta.put(SCHEDULED_COMPACT, &Place::of(compacted).encode())?;
    }
    meta.put(STORAGE_VERSION_KEY, STORAGE_VERSION.as_bytes())?;
    // A term of 0 would mean storage older than 3.5.
    meta.put(TERM, &applied.term.max(1).to_be_bytes())?;
    Ok(meta.finish()?)
}

fn write_cluster<W: Write + Seek>(about: &About, writer: &mut Writer<W>) -> Result<(), SnapshotError> {
    let mut cluster = writer.bucket(b"cluster")?;
    cluster.put(b"clusterVersion", STORAGE_VERSION.as_bytes())?;
    cluster.put(b"downgrade", br#"{"target-version":"","enabled":false}"#)?;
    cluster.finish()?;
    let mut members: Vec<_> = about.members.iter().map(|m| (format!("{:x}", m.id), m)).collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    let mut bucket = writer.bucket(b"members")?;
    for (id, member) in members {
        let mut record = serde_json::json!({
            "id": member.id,
            "peerURLs": member.peer_urls,
            "name": member.name,
            "clientURLs": member.client_urls,
        });
        if member.is_learner {
            record["isLearner"] = true.into();
        }
        bucket.put(id.as_bytes(), record.to_string().as_bytes())?;
    }
    Ok(bucket.finish()?)
}
