//! What is in a snapshot, as etcdutl tells it.

use std::collections::HashSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use base::checksum::Crc32c;
use bolt::{Reader, Value};
use etcd_wire::mvccpb;
use prost::Message;
use store_api::Revision;

use super::{KEY, META, Place, STORAGE_VERSION_KEY, SnapshotError};

/// What etcdutl's `snapshot status` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// CRC-32C over the names of the buckets and all keys and values, in order.
    pub hash: u32,
    pub revision: Revision,
    /// Keys there are at that revision.
    pub total_keys: u64,
    /// Bytes of the file without its hash.
    pub total_bytes: u64,
    /// Empty in a snapshot from before 3.6.
    pub version: String,
}

/// Reads a snapshot through, its structure checked.
///
/// # Errors
/// When it is no snapshot, or damaged.
pub fn status(path: &Path) -> Result<SnapshotStatus, SnapshotError> {
    let named = |error: std::io::Error| SnapshotError::Refused(format!("{}: {error}", path.display()));
    let reader = Reader::open(File::open(path).map_err(named)?)?;
    reader.check()?;
    let mut buckets = Vec::new();
    reader.each(&reader.root(), &mut |name, value| {
        let Value::Bucket(bucket) = value else { return Err(wrong("a key outside of the buckets")) };
        buckets.push((name.to_vec(), bucket));
        Ok::<_, SnapshotError>(ControlFlow::Continue(()))
    })?;
    let (mut hash, mut seen) = (Crc32c::default(), Seen::default());
    for (name, bucket) in &buckets {
        hash.update(name);
        reader.each(bucket, &mut |key, value| {
            // What etcd hashes of a bucket in a bucket is its name.
            let value = if let Value::Bytes(value) = value { value } else { &[] };
            hash.update(key);
            hash.update(value);
            seen.take(name, key, value)?;
            Ok::<_, SnapshotError>(ControlFlow::Continue(()))
        })?;
    }
    Ok(SnapshotStatus {
        hash: hash.finish(),
        revision: seen.revision,
        total_keys: seen.keys.len() as u64,
        total_bytes: reader.bytes(),
        version: seen.version,
    })
}

#[derive(Default)]
struct Seen {
    revision: Revision,
    keys: HashSet<Vec<u8>>,
    version: String,
}

impl Seen {
    fn take(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        if bucket == META && key == STORAGE_VERSION_KEY {
            self.version = String::from_utf8_lossy(value).into_owned();
        }
        if bucket != KEY {
            return Ok(());
        }
        let place = Place::decode(key)
            .ok_or_else(|| wrong(format!("cannot parse revision key: {}", key.escape_ascii())))?;
        let kv =
            mvccpb::KeyValue::decode(value).map_err(|e| wrong(format!("cannot unmarshal value: {e}")))?;
        self.revision = place.revision;
        if place.deleted {
            self.keys.remove(&kv.key[..]);
        } else {
            self.keys.insert(kv.key.into());
        }
        Ok(())
    }
}

fn wrong(what: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::File(bolt::Error::Corrupt(what.to_string()))
}
