//! `ketch log export-metadata` and `import-metadata`: the broker's directory handed to Apache Kafka, and taken from it.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base::clock::SystemClock;
use base::disk::RealDisk;
use base::task::Tasks;
use broker::exchange::{self, Exported, Guards, Imported};
use store_api::Store;

use super::ImportArgs;
use super::output::line;
use crate::cli::DataDir;
use crate::snapshot::idle;

/// Who `ketch up` is among brokers.
const BROKER_ID: i32 = 1;
/// How long the store may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Writes Kafka's metadata beside the partitions.
///
/// # Errors
/// A directory in use or not closed cleanly; what disk and store refuse.
pub async fn export(data_dir: &DataDir) -> Result<()> {
    let dir = data_dir.resolve()?;
    if !dir.join("store").is_dir() {
        bail!("nothing has run in {}", dir.display());
    }
    let _lock = idle(&dir)?;
    let kafka = dir.join("kafka");
    let done = with_store(&dir, |store| async move {
        exchange::export(&RealDisk::shared(), &kafka, &*store, SystemClock::shared().unix_ms()).await
    })
    .await?;
    print_exported(&dir.join("kafka"), &done)
}

/// Takes over a directory of Kafka's.
///
/// # Errors
/// No metadata there, or such as cannot be taken over; a directory in use; what disk and store refuse.
pub async fn import(args: &ImportArgs) -> Result<()> {
    let dir = args.data_dir.resolve()?;
    let kafka = dir.join("kafka");
    if !kafka.join("meta.properties").is_file() {
        bail!(
            "{} is no directory of a broker: move or link the directory that Apache Kafka's log.dirs names there",
            kafka.display()
        );
    }
    let _lock = idle(&dir)?;
    let guards = if args.leave_out_security { Guards::LeftOut } else { Guards::Required };
    let path = kafka.clone();
    let done = with_store(&dir, |store| async move {
        exchange::import(&RealDisk::shared(), &path, &*store, BROKER_ID, guards).await
    })
    .await?;
    let done = done.with_context(|| format!("{} holds no metadata of Apache Kafka", kafka.display()))?;
    print_imported(&dir, &done)
}

/// Opens the data directory's own store for one piece of work.
async fn with_store<T, F>(dir: &Path, work: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T>
where
    F: Future<Output = Result<T, broker::Error>>,
{
    let tasks = Tasks::new();
    let handle = store::Service::start(store::Options::new(dir.join("store")), &tasks)
        .context("the store does not start")?;
    let done = work(handle.shared()).await;
    tasks.shutdown(CLOSE_WITHIN).await;
    Ok(done?)
}

fn print_exported(dir: &Path, done: &Exported) -> Result<()> {
    let Exported { topics, partitions, node_id, cluster_id, put_aside } = done;
    line(format_args!("exported {topics} topics, {partitions} partitions of cluster {cluster_id}"))?;
    if let Some(path) = put_aside {
        line(format_args!("metadata that was there before is in {}", path.display()))?;
    }
    line(format_args!(
        "Apache Kafka 4.3 starts on it with these among its server.properties:\n\
         process.roles=broker,controller\n\
         node.id={node_id}\n\
         controller.quorum.voters={node_id}@localhost:9093\n\
         listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1",
        dir.display()
    ))
}

fn print_imported(dir: &Path, done: &Imported) -> Result<()> {
    let Imported { topics, partitions, deleted, left_out, put_aside } = done;
    line(format_args!("imported {topics} topics, {partitions} partitions"))?;
    for name in deleted {
        line(format_args!("topic {name} is no more"))?;
    }
    for what in left_out {
        line(format_args!("left out: {what}"))?;
    }
    line(format_args!("Kafka's metadata is in {} now", put_aside.display()))?;
    line(format_args!("start it with: ketch up --data-dir {}", dir.display()))
}
