//! Compaction of topics whose `cleanup.policy` contains `compact`, one log at a time, the dirtiest first.
//!
//! ```text
//! woken by: a sealed segment, a changed configuration, the start, or the time when a lag has passed
//! pass:     checkpoint (compaction stays below the saved recovery point) ─▶ plan ─▶ clean ─▶ cleaner-offset-checkpoint
//! ```

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::task::Tasks;
use commitlog::kafka::checkpoints::{self, Offsets};
use commitlog::kafka::{CleanPolicy, Cleanable};
use commitlog::{Error as LogError, Offset};
use kafka_wire::Uuid;

use super::remove_later;
use crate::Error;
use crate::api::Broker;
use crate::catalog::Topic;
use crate::log_dir::LogDir;
use crate::partition::Partition;

/// After a wake-up, so that the segments of many partitions share a pass.
const DELAY: Duration = Duration::from_secs(1);
/// A failed pass (a full disk) is tried again after this long.
const RETRY: Duration = Duration::from_secs(60);

/// A log by its topic's id, so that a new topic of the same name is not taken for the old one.
type Key = (Uuid, i32);

/// What the cleaner remembers between passes.
#[derive(Debug, Default)]
struct Memory {
    /// Where the last cleaning of each log ended.
    cleaned: HashMap<Key, Offset>,
    /// Logs with damage, left alone until the next start.
    damaged: Vec<Key>,
}

/// What a pass leaves to do.
#[derive(Debug, Default)]
struct Outcome {
    retired: Vec<(Arc<LogDir>, Vec<PathBuf>, Duration)>,
    /// Look again then.
    again_ms: Option<i64>,
    failed: bool,
}

/// Cleans whenever there is something to clean.
pub(super) async fn keep(broker: Arc<Broker>, tasks: Tasks) -> Result<(), Error> {
    let (stop, root) = (tasks.token(), broker.catalog.root.clone());
    let mut memory = load(&broker);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(DELAY) => {}
        }
        let (working, stopping, mut mine) = (broker.clone(), stop.clone(), std::mem::take(&mut memory));
        let pass = tokio::task::spawn_blocking(move || {
            let outcome = pass(&working, &mut mine, &|| stopping.is_cancelled());
            (outcome, mine)
        });
        let outcome = match pass.await {
            Ok((outcome, mine)) => {
                memory = mine;
                outcome
            }
            Err(error) => {
                tracing::error!(%error, "compaction panicked");
                Outcome { failed: true, ..Outcome::default() }
            }
        };
        for (dir, files, delay) in outcome.retired {
            remove_later(&dir, &tasks, files, delay);
        }
        let wait = match (outcome.failed, outcome.again_ms) {
            (true, _) => Some(RETRY),
            (false, Some(at)) => Some(Duration::from_millis((at - root.clock.unix_ms()).max(1) as u64)),
            (false, None) => None,
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = root.cleaning.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

fn load(broker: &Broker) -> Memory {
    let snapshot = broker.catalog.snapshot();
    let mut cleaned = HashMap::new();
    for dir in broker.catalog.root.online() {
        let saved = checkpoints::read(&*dir.disk, &dir.path.join(checkpoints::CLEANER));
        for ((topic, index), offset) in saved {
            let Some(topic) = snapshot.by_name.get(&*topic) else { continue };
            // What another directory says is of a log that has moved since.
            if topic.partition(index).is_some_and(|partition| Arc::ptr_eq(&partition.dir(), dir)) {
                cleaned.insert((topic.record.id, index), offset);
            }
        }
    }
    Memory { cleaned, damaged: Vec::new() }
}

/// Writes a directory's checkpoint.
fn save(broker: &Broker, memory: &mut Memory, dir: &Arc<LogDir>) {
    let snapshot = broker.catalog.snapshot();
    memory.cleaned.retain(|(id, index), _| snapshot.by_id.get(id).is_some_and(|t| t.place(*index).is_some()));
    let named = memory.cleaned.iter().filter_map(|((id, index), offset)| {
        let topic = snapshot.by_id.get(id)?;
        let here = Arc::ptr_eq(&topic.partition(*index)?.dir(), dir);
        here.then(|| ((topic.name.to_string(), *index), *offset))
    });
    let offsets: Offsets = named.collect();
    if let Err(error) = checkpoints::write(&*dir.disk, &dir.path.join(checkpoints::CLEANER), &offsets) {
        // The next cleaning begins earlier then.
        tracing::warn!(dir = %dir.path.display(), %error, "the cleaner's checkpoint was not written");
    }
}

/// The topic's configurations as the cleaner needs them.
fn policy(broker: &Broker, topic: &Topic) -> CleanPolicy {
    let text = |name| broker.server.topic_text(&topic.record.configs, name);
    let number = |name| text(name).parse().unwrap_or(0);
    CleanPolicy {
        lag_ms_min: number("min.compaction.lag.ms"),
        lag_ms_max: number("max.compaction.lag.ms"),
        dirty_ratio_min: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
        delete_retention_ms: number("delete.retention.ms"),
        segment_bytes: topic.settings.segment_bytes.max(1) as u64,
        index_bytes_max: topic.settings.index_bytes_max.max(8) as u64,
    }
}

/// Cleans every log that is due.
fn pass(broker: &Broker, memory: &mut Memory, stop: &dyn Fn() -> bool) -> Outcome {
    let mut outcome = Outcome::default();
    save_recovery_points(broker);
    while let Some((topic, partition, plan)) = dirtiest(broker, memory, &mut outcome) {
        if stop() {
            break;
        }
        let key = (topic.record.id, partition.index);
        let policy = policy(broker, &topic);
        let now_ms = broker.catalog.root.clock.unix_ms();
        let memory_bytes = broker.server.number("log.cleaner.dedupe.buffer.size").max(0) as usize;
        let _cleaning = partition.cleaning.lock();
        // A log on its way to another directory is cleaned there.
        if partition.future().is_some() {
            continue;
        }
        match partition.log().clean(&plan, &policy, memory_bytes, now_ms, stop) {
            Ok(cleaned) => {
                tracing::info!(topic = %topic.name, partition = partition.index, upto = %cleaned.upto,
                    before = cleaned.bytes_before, after = cleaned.bytes_after, keys = cleaned.keys, "compacted");
                let delay = Duration::from_millis(topic.settings.file_delete_delay_ms.max(0) as u64);
                outcome.retired.push((partition.dir(), cleaned.retired, delay));
                memory.cleaned.insert(key, cleaned.upto);
                save(broker, memory, &partition.dir());
            }
            Err(LogError::Corrupt { path, position }) => {
                tracing::error!(path = %path.display(), position, "compaction stops at damage");
                memory.damaged.push(key);
            }
            Err(error) => {
                if partition.gone().is_none() && !stop() {
                    partition.note_unreadable(&error);
                    tracing::warn!(topic = %topic.name, partition = partition.index, %error, "not compacted");
                }
                outcome.failed = true;
                break;
            }
        }
    }
    outcome
}

/// Compaction stays below recovery points that are saved: moves those of compacted logs up to their active segments.
fn save_recovery_points(broker: &Broker) {
    let mut moved = false;
    for topic in broker.catalog.snapshot().by_name.values().filter(|t| t.settings.compacted) {
        for partition in topic.served().filter(|p| p.gone().is_none()) {
            let log = partition.log();
            if log.log().active().base > log.saved_point() {
                moved |= partition.checkpoint();
            }
        }
    }
    if moved {
        broker.catalog.write_checkpoints();
    }
}

/// The log most worth cleaning, if one is due; notes when time alone will make one due.
fn dirtiest(
    broker: &Broker,
    memory: &Memory,
    outcome: &mut Outcome,
) -> Option<(Arc<Topic>, Arc<Partition>, Cleanable)> {
    let now_ms = broker.catalog.root.clock.unix_ms();
    let mut best: Option<(Arc<Topic>, Arc<Partition>, Cleanable)> = None;
    outcome.again_ms = None;
    for topic in broker.catalog.snapshot().by_name.values().filter(|t| t.settings.compacted) {
        let policy = policy(broker, topic);
        for partition in topic.served().filter(|p| p.gone().is_none()) {
            let key = (topic.record.id, partition.index);
            if memory.damaged.contains(&key) || partition.future().is_some() {
                continue;
            }
            let cleaned = memory.cleaned.get(&key).copied();
            let plan = partition.log().cleanable(cleaned, &policy, partition.high_watermark(), now_ms);
            if let Some(at) = plan.look_again_ms {
                outcome.again_ms = Some(outcome.again_ms.map_or(at, |now| now.min(at)));
            }
            if plan.due && best.as_ref().is_none_or(|(.., b)| plan.ratio() > b.ratio()) {
                best = Some((topic.clone(), partition.clone(), plan));
            }
        }
    }
    best
}
