//! Where partitions are: in which directory a log is opened, what becomes of directories that nobody needs, and what the
//! checkpoints of each directory say.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use commitlog::OpenFrom;
use commitlog::kafka::checkpoints::{self, Offsets};
use commitlog::kafka::directory;

use super::*;

impl Catalog {
    /// Before the first load: finishes moves that a crash interrupted at their end, and refuses a start with two logs of
    /// one partition: nobody knows which of them is right.
    pub(crate) async fn survey(&self) -> Result<(), crate::Error> {
        let found = self.store.range(RangeRequest::prefix(TOPICS)).await?;
        let topics = found.kvs.iter().filter_map(|kv| decode(&kv.key, &kv.value));
        let ids = topics.map(|(name, record)| (name, names::base64url(&record.id))).collect();
        self.finish_swaps(&mut self.applying.lock(), &ids);
        let mut seen: HashMap<String, Arc<LogDir>> = HashMap::new();
        for dir in self.root.online() {
            let Ok(names) = dir.disk.list(&dir.path) else { continue };
            dir.set_logs(names.iter().filter(|name| directory::parse_partition_dir(name).is_some()).count());
            for name in names.into_iter().filter(|name| directory::parse_partition_dir(name).is_some()) {
                if let Some(other) = seen.insert(name.clone(), dir.clone()) {
                    refuse_duplicate(&name, &ids, &other, dir)?;
                }
            }
        }
        Ok(())
    }

    /// After the first load: what was known of the last stop concerns no partition made from now on, and directories of
    /// topics that are no more are put aside (Kafka's `-stray`); what was deleted is removed in a while, and moves go on. Where that fails
    /// they stay until the next start.
    pub(crate) fn finish_boot(&self) {
        let last = std::mem::take(&mut *self.applying.lock());
        self.resume_moves(&last);
        for dir in self.root.online() {
            if let Err(error) = self.tidy(dir) {
                tracing::error!(dir = %dir.path.display(), %error, "directory not tidied");
            }
        }
    }

    fn tidy(&self, dir: &Arc<LogDir>) -> io::Result<()> {
        let snapshot = self.snapshot();
        for name in dir.disk.list(&dir.path)? {
            let path = dir.path.join(&name);
            if name.ends_with("-delete") && name.contains('.') {
                self.remove_later(dir, path);
            } else if let Some(of) = moves::future_of(&name) {
                let topic = directory::parse_partition_dir(of).map_or("", |(topic, _)| topic);
                if !snapshot.by_name.contains_key(topic)
                    && let Err(error) = dir.put_aside_as(&path, of, "stray")
                {
                    tracing::error!(dir = %path.display(), %error, "directory not put aside");
                }
            } else if let Some((topic, index)) = directory::parse_partition_dir(&name) {
                let place = snapshot.by_name.get(topic).and_then(|topic| topic.place(index));
                let needed = match place {
                    // One that is left of an older topic of this name may lie in another directory.
                    Some(place) => match place.look() {
                        Seen::Open(partition) => Arc::ptr_eq(&partition.dir(), dir),
                        Seen::Away(marks) => marks.dir.is_none_or(|of| Arc::ptr_eq(&of, dir)),
                    },
                    None => false,
                };
                if !needed
                    && dir.disk.exists(&path.join("partition.metadata"))
                    && let Err(error) = dir.put_aside(&path, "stray")
                {
                    tracing::error!(dir = %path.display(), %error, "directory not put aside");
                }
            }
        }
        Ok(())
    }

    /// Takes a topic's partitions out of service; their directories go in a while.
    pub(super) fn retire(&self, topic: &Topic) {
        for place in &topic.partitions {
            place.retire();
            if let Some(partition) = place.open() {
                self.end_move(partition);
            }
        }
        for index in 0..topic.partitions.len() as i32 {
            for dir in self.root.online() {
                let path = dir.partition_dir(&topic.name, index);
                if !dir.disk.exists(&path) {
                    continue;
                }
                match dir.put_aside(&path, "delete") {
                    Ok(path) => {
                        dir.note_log_gone();
                        self.remove_later(dir, path);
                    }
                    Err(error) => tracing::error!(dir = %path.display(), %error, "directory not put aside"),
                }
            }
        }
        self.root.checkpoints_due();
    }

    /// Has a directory that was put aside removed after `log.segment.delete.delay.ms`, which Kafka takes for all topics.
    pub(super) fn remove_later(&self, dir: &Arc<LogDir>, path: PathBuf) {
        let delay = self.server.number("log.segment.delete.delay.ms").max(0) as u64;
        self.root.removals.add(dir, path, Duration::from_millis(delay));
    }

    /// Takes what has failed since the last call out of service; true while a directory works.
    pub(crate) fn take_offline(&self) -> bool {
        let _applying = self.applying.lock();
        let broken = self.root.troubles.take();
        let lost_marks = |place: &Place| match place.look() {
            Seen::Open(partition) => {
                let lost = partition.gone().is_none()
                    && (!partition.dir().is_online() || broken.iter().any(|b| Arc::ptr_eq(b, &partition)));
                let log = partition.log();
                lost.then(|| Marks {
                    dir: Some(partition.dir()),
                    recovery_point: Some(log.saved_point()),
                    log_start: Some(log.log().start()),
                    high_watermark: Some(partition.high_watermark()),
                })
            }
            Seen::Away(marks) => {
                let failed = marks.dir.as_ref().is_some_and(|dir| !dir.is_online());
                (failed && !place.is_offline()).then_some(marks)
            }
        };
        let mut next = (*self.snapshot()).clone();
        let mut lost = Vec::new();
        for topic in self.snapshot().by_name.values() {
            let marks: Vec<_> = topic.partitions.iter().map(lost_marks).collect();
            if marks.iter().all(Option::is_none) {
                continue;
            }
            let partitions = topic.partitions.iter().zip(marks).map(|(place, marks)| match marks {
                Some(marks) => {
                    lost.push(place.clone());
                    Place::new(Err(marks))
                }
                None => place.clone(),
            });
            let topic = Arc::new(Topic {
                name: topic.name.clone(),
                record: topic.record.clone(),
                settings: topic.settings.clone(),
                partitions: partitions.collect(),
                revision: topic.revision,
            });
            next.by_id.insert(topic.record.id, topic.clone());
            next.by_name.insert(topic.name.clone(), topic);
        }
        self.snapshot.store(Arc::new(next));
        lost.iter().filter_map(Place::open).for_each(|partition| partition.mark_offline());
        for partition in self.partitions() {
            if partition.future().is_some_and(|future| !future.dir.is_online()) {
                self.end_move(&partition);
            }
        }
        self.root.online().next().is_some()
    }

    /// Whether every log of a directory is known to end where it ends, of those that were needed.
    pub(crate) fn is_whole(&self, dir: &Arc<LogDir>) -> bool {
        let snapshot = self.snapshot();
        let mut places = snapshot.by_name.values().flat_map(|topic| &topic.partitions);
        dir.is_online()
            && !places.any(|place| match place.is_offline().then(|| place.look()) {
                Some(Seen::Away(marks)) => marks.dir.is_none_or(|of| Arc::ptr_eq(&of, dir)),
                _ => false,
            })
    }

    /// Whether no partition is known to be offline.
    pub(crate) fn all_served(&self) -> bool {
        self.snapshot().by_name.values().all(|topic| topic.offline() == 0)
    }

    /// Writes the offset checkpoints of every directory that works. What fails is logged: the files are older then. Blocks.
    pub(crate) fn write_checkpoints(&self) {
        for dir in self.root.online() {
            if let Err(error) = self.write_checkpoints_of(dir) {
                tracing::warn!(dir = %dir.path.display(), %error, "offset checkpoints not written");
            }
        }
    }

    /// Writes the three offset checkpoints of a directory. Blocks.
    pub(crate) fn write_checkpoints_of(&self, dir: &Arc<LogDir>) -> io::Result<()> {
        let _checkpointing = dir.checkpointing.lock();
        let (mut recovery, mut starts, mut high) = (Offsets::new(), Offsets::new(), Offsets::new());
        let mut saved = Vec::new();
        let snapshot = self.snapshot();
        let topics = snapshot.by_name.values();
        for (topic, index, place) in
            topics.flat_map(|t| (0..).zip(&t.partitions).map(move |(n, p)| (t, n, p)))
        {
            let key = || (topic.name.to_string(), index);
            let partition = match place.look() {
                Seen::Open(partition) => partition,
                Seen::Away(marks) => {
                    if marks.dir.is_some_and(|of| Arc::ptr_eq(&of, dir)) {
                        recovery.extend(marks.recovery_point.map(|point| (key(), point)));
                        starts.extend(marks.log_start.map(|start| (key(), start)));
                        high.extend(marks.high_watermark.map(|high| (key(), high)));
                    }
                    continue;
                }
            };
            let home = partition.home();
            if !Arc::ptr_eq(&home.dir, dir) {
                continue;
            }
            let log = &home.log;
            let point = log.recovery_point();
            recovery.insert(key(), point);
            high.insert(key(), partition.high_watermark());
            // Kafka's file names only partitions whose start is not simply their first segment.
            if log.log().start() > log.log().first_segment() {
                starts.insert(key(), log.log().start());
            }
            saved.push((home, point));
        }
        // Kafka names future logs as their partitions: those are in other directories.
        for partition in self.partitions() {
            let Some(future) = partition.future().filter(|future| Arc::ptr_eq(&future.dir, dir)) else {
                continue;
            };
            let (key, log) = ((partition.topic.to_string(), partition.index), &future.log);
            recovery.insert(key.clone(), log.recovery_point());
            high.insert(key.clone(), log.log().end());
            if log.log().start() > log.log().first_segment() {
                starts.insert(key, log.log().start());
            }
        }
        for (name, offsets) in [
            (checkpoints::RECOVERY_POINT, &recovery),
            (checkpoints::LOG_START, &starts),
            (checkpoints::REPLICATION, &high),
        ] {
            checkpoints::write(&*dir.disk, &dir.path.join(name), offsets)?;
        }
        saved.iter().for_each(|(home, point)| home.log.note_saved(*point));
        Ok(())
    }

    /// Directories of partitions.
    pub(crate) fn dirs_of(partitions: &[Arc<Partition>]) -> Vec<Arc<LogDir>> {
        let mut seen = BTreeSet::new();
        partitions.iter().map(|p| p.dir()).filter(|dir| seen.insert(dir.path.clone())).collect()
    }
}

/// How a log is opened that the last stop left so, and where it starts.
pub(super) fn opened_from(
    stop: Option<&DirStop>,
    key: &(String, i32),
    compacted: bool,
) -> (OpenFrom, Offset) {
    let Some(stop) = stop else { return (OpenFrom::Clean, Offset(0)) };
    let point = stop.recovery_points.get(key).copied().unwrap_or_default();
    let from = match (stop.clean, compacted) {
        (true, _) => OpenFrom::Clean,
        (false, true) => OpenFrom::Compacted(point),
        (false, false) => OpenFrom::RecoveryPoint(point),
    };
    (from, stop.log_starts.get(key).copied().unwrap_or_default())
}

fn refuse_duplicate(
    name: &str,
    ids: &BTreeMap<String, String>,
    one: &LogDir,
    two: &LogDir,
) -> Result<(), crate::Error> {
    let id = directory::parse_partition_dir(name).and_then(|(topic, _)| ids.get(topic));
    // One of another topic is a stray and will be put aside.
    let is_it = |dir: &LogDir| {
        directory::topic_id(&*dir.disk, &dir.path.join(name)).is_none_or(|found| Some(&found) == id)
    };
    if id.is_none() || !is_it(one) || !is_it(two) {
        return Ok(());
    }
    let (one, two) = (one.path.join(name), two.path.join(name));
    Err(crate::Error::Config(format!(
        "Duplicate log directories for {name} are found in both {} and {}. It is likely because log directory failure \
         happened while broker was replacing current replica with future replica. Recover broker from this failure by \
         manually deleting one of the two directories for this partition. It is recommended to delete the partition in \
         the log directory that is known to have failed recently.",
        one.display(),
        two.display()
    )))
}
