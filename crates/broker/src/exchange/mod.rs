//! Directories exchanged with Apache Kafka: topics, configurations and producer ids between the store and the metadata log
//! that a broker in KRaft mode keeps beside its partitions. The partitions' files are the same for both.
//!
//! ```text
//! export   store ─▶ records ─▶ <dir>/__cluster_metadata-0, bootstrap.checkpoint      Kafka starts as if it had stopped here
//! import   <dir>/__cluster_metadata-0 ─▶ Image ─▶ checks ─▶ store, leader epochs ─▶ the log is put aside
//! ```
//! A metadata log that stands in the directory is newer than the store: whoever wrote it ran last. A broker that starts
//! therefore imports it first; what was exported and never used says what the store says.

mod export;
mod image;
mod import;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base::disk::Disk;
use bytes::Bytes;
use commitlog::kafka::directory;
use kafka_wire::Uuid;
use store_api::{RangeRequest, Store};

pub use export::{Exported, export};
pub(crate) use import::Source;
use import::take_over;
pub use import::{Guards, Imported, import};

use crate::Error;
use crate::catalog::{self, TopicRecord};

/// Kafka's default for `segment.bytes` of the topics that brokers write themselves.
const INTERNAL_SEGMENT_BYTES: &str = "104857600";

/// Whether an image can be made of these values.
pub(crate) fn is_readable(values: &[Bytes]) -> bool {
    let mut image = image::Image::default();
    values.iter().all(|value| image.take(value).is_ok())
}

/// At a broker's start: takes over what Apache Kafka left.
pub(crate) async fn resume(from: &[Source<'_>], store: &dyn Store, broker_id: i32) -> Result<(), Error> {
    let Some(done) = take_over(from, store, broker_id, Guards::Required).await? else { return Ok(()) };
    let Imported { topics, partitions, deleted, left_out, put_aside } = done;
    tracing::warn!(topics, partitions, ?deleted, ?left_out, put_aside = %put_aside.display(),
        "took over the metadata of Apache Kafka, which ran on this directory last");
    Ok(())
}

/// The topics that the store holds, by name.
async fn stored_topics(store: &dyn Store) -> Result<BTreeMap<String, TopicRecord>, Error> {
    let found = store.range(RangeRequest::prefix(catalog::TOPICS)).await?;
    Ok(found.kvs.iter().filter_map(|kv| catalog::decode(&kv.key, &kv.value)).collect())
}

/// The value of a key, as text.
async fn stored_text(store: &dyn Store, key: &'static str) -> Result<Option<String>, Error> {
    let found = store.range(RangeRequest::key(key)).await?;
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    Ok(found.kvs.first().map(|kv| text(&kv.value)))
}

/// Renames a directory to what both brokers leave alone: `<name>.<32 digits>-stray`.
fn put_aside(disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let id = Uuid::new_v4().simple().to_string();
    let to = path.with_file_name(directory::aside_name(&name, &id, "stray"));
    disk.rename(path, &to)?;
    Ok(to)
}
