//! `ketch log export-metadata` and `import-metadata`: the broker's directory handed to Apache Kafka, and taken from it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base::clock::SystemClock;
use base::disk::RealDisk;
use base::task::Tasks;
use broker::exchange::{self, Exported, Guards, Imported};
use store_api::Store;

use super::output::line;
use super::{ExportArgs, ImportArgs, LogDirs};
use crate::snapshot::idle;

/// Who `ketch up` is among brokers.
const BROKER_ID: i32 = 1;
/// How long the store may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Writes Kafka's metadata beside the partitions.
///
/// # Errors
/// A directory in use or not closed cleanly; what disk and store refuse.
pub async fn export(args: &ExportArgs) -> Result<()> {
    let dir = args.data_dir.resolve()?;
    if !dir.join("store").is_dir() {
        bail!("nothing has run in {}", dir.display());
    }
    let _lock = idle(&dir)?;
    let kafka = args.log_dirs.of(&dir);
    let (dirs, now_ms) = (kafka.clone(), SystemClock::shared().unix_ms());
    let opened = with_store(&dir, |store| async move {
        exchange::export(&RealDisk::shared(), &dirs, &*store, now_ms).await
    });
    let done = opened
        .await
        .map_err(|error| of_member(error, &dir, "with --kafka-log-dirs and the same directories"))?;
    print_exported(&kafka, &done)
}

/// Takes over a directory of Kafka's.
///
/// # Errors
/// No metadata there, or such as cannot be taken over; a directory in use; what disk and store refuse.
pub async fn import(args: &ImportArgs) -> Result<()> {
    let dir = args.data_dir.resolve()?;
    let kafka = args.log_dirs.of(&dir);
    if let Some(other) = kafka.iter().find(|dir| !dir.join("meta.properties").is_file()) {
        bail!(
            "{} is no directory of a broker: move or link the directory that Apache Kafka's log.dirs names there, or name \
             all that it names with --kafka-log-dirs",
            other.display()
        );
    }
    let _lock = idle(&dir)?;
    let guards = if args.leave_out_security { Guards::LeftOut } else { Guards::Required };
    let dirs = kafka.clone();
    let opened = with_store(&dir, |store| async move {
        exchange::import(&RealDisk::shared(), &dirs, &*store, BROKER_ID, guards).await
    });
    let also = "or start it with `ketch server`, whose broker takes the directory over by itself";
    let done = opened.await.map_err(|error| of_member(error, &dir, also))?;
    let done = done.with_context(|| format!("{} holds no metadata of Apache Kafka", shown(&kafka)))?;
    print_imported(&dir, &args.log_dirs, &done)
}

impl LogDirs {
    /// The directories, the one in the data directory where none are named.
    fn of(&self, data_dir: &Path) -> Vec<PathBuf> {
        match self.kafka_log_dirs.is_empty() {
            true => vec![data_dir.join("kafka")],
            false => self.kafka_log_dirs.clone(),
        }
    }
}

fn shown(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(",")
}

/// What to do where the store is one of several servers': it serves with the others only.
fn of_member(error: anyhow::Error, dir: &Path, also: &str) -> anyhow::Error {
    match error.downcast_ref::<store::Error>() {
        Some(store::Error::Member { .. }) => {
            let dir = dir.display();
            anyhow::anyhow!(
                "{dir} is the directory of one of several servers, whose store serves together with the others only; \
                 `ketch snapshot restore --from-data-dir {dir} --data-dir NEW` makes a store of its own of it: run this \
                 command with --data-dir NEW, {also} (kafka in {dir})"
            )
        }
        _ => error,
    }
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

fn print_exported(dirs: &[PathBuf], done: &Exported) -> Result<()> {
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
        shown(dirs)
    ))
}

fn print_imported(dir: &Path, log_dirs: &LogDirs, done: &Imported) -> Result<()> {
    let Imported { topics, partitions, deleted, left_out, put_aside } = done;
    line(format_args!("imported {topics} topics, {partitions} partitions"))?;
    for name in deleted {
        line(format_args!("topic {name} is no more"))?;
    }
    for what in left_out {
        line(format_args!("left out: {what}"))?;
    }
    line(format_args!("Kafka's metadata is in {} now", put_aside.display()))?;
    let with = match log_dirs.kafka_log_dirs.as_slice() {
        [] => String::new(),
        dirs => format!(" --kafka-log-dirs {}", shown(dirs)),
    };
    line(format_args!("start it with: ketch up --data-dir {}{with}", dir.display()))
}
