//! From a file, etcd's or ours, to the directory of a new store.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base::disk::{Disk, RealDisk};
use bolt::{Bucket, Reader, Value};
use etcd_wire::mvccpb;
use mvcc::dump::{self, Load};
use prost::Message;
use ring::digest::{Context, SHA256};
use store_api::{KeyValue, LeaseId, Revision};

use super::side::Side;
use super::{
    HASH_BYTES, KEY, LEASE, LeaseRecord, META, Place, SCHEDULED_COMPACT, SECTOR_BYTES, SnapshotError,
};
use crate::db::{AppliedIndex, Change, Db};
use crate::{LogIndex, format};

/// redb's page cache while loading.
pub(super) const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of keys and values loaded in one transaction.
const STEP_BYTES: usize = 4 * 1024 * 1024;
/// What the log of the new store begins behind: entry 1 stands for all that was restored, so that a member who joins
/// later asks for a snapshot and not for the log from its beginning.
const RESTORED_AT: AppliedIndex = AppliedIndex { index: LogIndex(1), term: 1, node: 1 };

/// How to restore; the names are etcdutl's.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Takes a file without a hash (a copy of a data directory's), and does not look at one that is there.
    pub skip_hash_check: bool,
    /// How much to raise the revision, so that it exceeds what clients have seen after the snapshot was made.
    pub bump_revision: u64,
    /// Refuses reads and watches from before the restore; goes with `bump_revision`.
    pub mark_compacted: bool,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    pub revision: Revision,
    pub compacted: Revision,
    /// Versions and deletes read.
    pub changes: u64,
    pub leases: u64,
}

/// Makes the directory of a new store from a snapshot. The store gets ids of its own when it starts: it is a new cluster.
/// `dir` appears whole or not at all.
///
/// # Errors
/// A directory that is not empty, a file that is no snapshot or not the one that was saved, a disk that refuses.
pub fn restore(file: &Path, dir: &Path, options: RestoreOptions) -> Result<Restored, SnapshotError> {
    if (options.bump_revision > 0) != options.mark_compacted {
        return Err(SnapshotError::Refused("--mark-compacted required if --revision-bump > 0".to_owned()));
    }
    let reader = open(file, options.skip_hash_check)?;
    into_new_dir(dir, |beside| {
        let db = Db::open(&RealDisk::shared(), beside, CACHE_BYTES)?;
        let loaded = load_file(&db, &reader, options);
        db.close();
        loaded
    })
}

/// Fills a directory beside `dir` and gives it the name when all is there.
pub(super) fn into_new_dir<T>(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<T, SnapshotError>,
) -> Result<T, SnapshotError> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let text = format!("data-dir {:?} not empty or could not be read", dir.display().to_string());
        return Err(SnapshotError::Refused(text));
    }
    let disk = RealDisk;
    let beside = PathBuf::from(format!("{}.restoring", dir.display()));
    if disk.exists(&beside) {
        disk.remove_dir_all(&beside)?;
    }
    disk.create_dir_all(&beside)?;
    format::check(&disk, &beside)?;
    let filled = fill(&beside);
    if filled.is_err() {
        // What is half there is of no use to anybody; that it may stay changes nothing about the error.
        let _ = disk.remove_dir_all(&beside);
        return filled;
    }
    disk.rename(&beside, dir)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent)?;
    }
    filled
}

/// Opens a snapshot, its hash compared.
fn open(path: &Path, skip_hash_check: bool) -> Result<Reader<File>, SnapshotError> {
    let named = |error: std::io::Error| SnapshotError::Refused(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(named)?;
    let bytes = file.metadata().map_err(named)?.len();
    let hashed = bytes % SECTOR_BYTES == HASH_BYTES;
    if !hashed && !skip_hash_check {
        let text = "snapshot missing hash but --skip-hash-check=false";
        return Err(SnapshotError::Refused(text.to_owned()));
    }
    if hashed && !skip_hash_check {
        check_hash(&mut file, bytes - HASH_BYTES)?;
    }
    Ok(Reader::open(file)?)
}

fn check_hash(file: &mut File, bytes: u64) -> Result<(), SnapshotError> {
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 256 * 1024];
    let mut body = file.try_clone()?.take(bytes);
    loop {
        let read = body.read(&mut piece)?;
        if read == 0 {
            break;
        }
        context.update(&piece[..read]);
    }
    let found = context.finish();
    let mut expect = [0; HASH_BYTES as usize];
    file.read_exact(&mut expect)?;
    file.rewind()?;
    if found.as_ref() == expect {
        return Ok(());
    }
    Err(SnapshotError::Refused(format!("expected sha256 {expect:?}, got {:?}", found.as_ref())))
}

fn load_file(db: &Db, reader: &Reader<File>, options: RestoreOptions) -> Result<Restored, SnapshotError> {
    let root = reader.root();
    let bucket = |name: &[u8]| reader.bucket(&root, name);
    let keys = bucket(KEY)?.ok_or_else(|| wrong("it has no bucket \"key\": not a snapshot of etcd's"))?;
    let meta = bucket(META)?.ok_or_else(|| wrong("it has no bucket \"meta\": not a snapshot of etcd's"))?;
    let bar = compacted(reader, &meta)?;
    let mut loader = Loader { db, load: Load::new(bar), step: Vec::new(), step_bytes: 0, changes: 0 };
    let mut leases = 0;
    if let Some(bucket) = bucket(LEASE)? {
        leases = load_leases(db, &loader.load, reader, &bucket)?;
    }
    let side = Side::read(reader)?;
    reader.each(&keys, &mut |raw, value| {
        let place = Place::decode(raw).ok_or_else(|| wrong(format!("key {}", raw.escape_ascii())))?;
        let Value::Bytes(value) = value else { return Err(wrong("a bucket within the bucket \"key\"")) };
        loader.take(place, value)?;
        Ok(ControlFlow::Continue(()))
    })?;
    loader.flush()?;
    let Loader { mut load, changes, .. } = loader;
    let bump =
        i64::try_from(options.bump_revision).ok().and_then(|bump| load.revision().get().checked_add(bump));
    let revision = Revision(bump.ok_or_else(|| wrong("--bump-revision is too large"))?);
    load.pass(revision);
    let compacted = if options.mark_compacted { revision } else { bar };
    db.update(true, |state| {
        load.finish(state, compacted)?;
        side.put(state)?;
        state.set_applied(RESTORED_AT)
    })?;
    Ok(Restored { revision, compacted, changes, leases })
}

/// How far the history is compacted: scheduled is what reads go by, finished or not.
fn compacted(reader: &Reader<File>, meta: &Bucket) -> Result<Revision, SnapshotError> {
    let mut bar = Revision(0);
    reader.each(meta, &mut |key, value| {
        if let (SCHEDULED_COMPACT, Value::Bytes(value)) = (key, value) {
            bar = Place::decode(value).ok_or_else(|| wrong("its compacted revision is none"))?.revision;
        }
        Ok::<_, SnapshotError>(ControlFlow::Continue(()))
    })?;
    Ok(bar)
}

fn load_leases(db: &Db, load: &Load, reader: &Reader<File>, bucket: &Bucket) -> Result<u64, SnapshotError> {
    let mut leases = Vec::new();
    reader.each(bucket, &mut |_, value| {
        let Value::Bytes(value) = value else { return Err(wrong("a bucket within the bucket \"lease\"")) };
        let lease = LeaseRecord::decode(value).map_err(|e| wrong(format!("a lease: {e}")))?;
        if lease.id != 0 {
            leases.push((LeaseId(lease.id), lease.ttl.max(mvcc::MIN_LEASE_TTL_S)));
        }
        Ok::<_, SnapshotError>(ControlFlow::Continue(()))
    })?;
    db.update(true, |state| leases.iter().try_for_each(|(id, ttl)| load.lease(state, *id, *ttl)))?;
    Ok(leases.len() as u64)
}

fn wrong(what: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::File(bolt::Error::Corrupt(what.to_string()))
}

/// Loads changes, some at a time.
struct Loader<'d> {
    db: &'d Db,
    load: Load,
    step: Vec<(Place, KeyValue)>,
    step_bytes: usize,
    changes: u64,
}

impl Loader<'_> {
    fn take(&mut self, place: Place, value: &[u8]) -> Result<(), SnapshotError> {
        let wire = mvccpb::KeyValue::decode(value).map_err(|e| wrong(format!("a key's record: {e}")))?;
        if wire.key.is_empty() {
            // What etcdutl writes to raise the revision: nothing happened then.
            self.load.pass(place.revision);
            return Ok(());
        }
        let kv = KeyValue {
            key: wire.key,
            value: wire.value,
            create_revision: Revision(wire.create_revision),
            mod_revision: Revision(wire.mod_revision),
            version: wire.version,
            lease: LeaseId(wire.lease),
        };
        if !place.deleted && (kv.mod_revision != place.revision || !dump::is_plausible(&kv)) {
            return Err(wrong(format!("what stands at {} is not from there", place.revision)));
        }
        self.changes += 1;
        self.step_bytes += kv.key.len() + kv.value.len();
        self.step.push((place, kv));
        if self.step_bytes >= STEP_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        let (load, step) = (&mut self.load, &self.step);
        // Durable: redb takes back what a commit sets free only then, and the file would grow and grow.
        self.db.update(true, |state: &mut Change<'_>| {
            step.iter().try_for_each(|(place, kv)| match place.deleted {
                false => load.put(state, place.sub, kv),
                true => load.delete(state, place.revision, place.sub, &kv.key),
            })
        })?;
        self.step.clear();
        self.step_bytes = 0;
        Ok(())
    }
}
