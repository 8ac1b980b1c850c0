//! Moving partitions between directories (AlterReplicaLogDirs) while they are produced to and fetched from.
//!
//! ```text
//! begin:  <to>/<topic>-<n>.<32 digits>-future is made, empty, from the log's start on
//! copy:   batches below the high watermark, as they stand ──▶ the future log, in pieces, throttled
//! swap:   nothing is appended: the rest is copied ─▶ future log closed, durable ─▶ checkpoints of <to>
//!         <from>/<topic>-<n> ─▶ <topic>-<n>.<32 digits>-delete ─▶ future ─▶ <to>/<topic>-<n> ─▶ opened, in service
//! ```
//! A start finds the future log and goes on. One that finds the log `-delete`d and its future log there finishes the swap:
//! the first is renamed only when the second is whole. Both renames are synced in this order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use commitlog::OpenFrom;
use commitlog::kafka::{PartitionLog, directory, headers};

use super::*;
use crate::partition::{FutureLog, Home};

/// The suffix of directories of future logs.
const FUTURE: &str = "-future";
/// The longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;
/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// After so many bytes what was copied is made durable, so that no burst of dirty pages is left for the swap.
const SYNC_BYTES: u64 = 16 << 20;

/// What a pass over the moves did.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub bytes: u64,
    /// There is more to copy at once.
    pub more: bool,
    /// Something could not be done: try again later.
    pub failed: bool,
}

/// The partition's name that a future log's directory carries.
pub(super) fn future_of(name: &str) -> Option<&str> {
    let (partition, _) = name.strip_suffix(FUTURE)?.rsplit_once('.')?;
    directory::parse_partition_dir(partition).map(|_| partition)
}

impl Catalog {
    /// Has a partition move to `dir`; a move to elsewhere ends, and one to where it is ends all of them.
    pub(crate) fn move_to(
        &self,
        topic: &Topic,
        partition: &Arc<Partition>,
        dir: &Arc<LogDir>,
    ) -> Result<(), ErrorCode> {
        let _applying = self.applying.lock();
        if let Some(code) = partition.gone() {
            return Err(code);
        }
        if let Some(future) = partition.future() {
            if Arc::ptr_eq(&future.dir, dir) {
                return Ok(());
            }
            self.end_move(partition);
        }
        if Arc::ptr_eq(&partition.dir(), dir) {
            return Ok(());
        }
        if self.root.failed().next().is_some() {
            // The failed one may hold a future log of it already.
            return Err(ErrorCode::KafkaStorageError);
        }
        let future = self.make_future(topic, partition, dir).map_err(|error| {
            tracing::error!(topic = %topic.name, partition = partition.index, %error, "move not begun");
            ErrorCode::KafkaStorageError
        })?;
        partition.set_future(Some(future));
        self.root.moves.notify_one();
        Ok(())
    }

    /// The name that a partition's future log gets.
    pub(crate) fn future_name(topic: &str, index: i32) -> Result<String, ErrorCode> {
        let name = format!("{topic}-{index}.{}{FUTURE}", uuid::Uuid::new_v4().simple());
        if name.len() > NAME_BYTES_MAX { Err(ErrorCode::InvalidTopicException) } else { Ok(name) }
    }

    fn make_future(
        &self,
        topic: &Topic,
        partition: &Partition,
        dir: &Arc<LogDir>,
    ) -> Result<FutureLog, commitlog::Error> {
        let name = Self::future_name(&topic.name, partition.index);
        let name = name.map_err(|_| commitlog::Error::Refused("the name is too long".to_owned()))?;
        let path = dir.path.join(name);
        let (options, start) = (self.layout(&topic.settings), partition.log_start());
        let (log, _) = PartitionLog::open(dir.disk.clone(), &path, options, OpenFrom::Clean, start)?;
        // Durable at once: a start that finishes an interrupted swap goes by it.
        directory::write_topic_id(&*dir.disk, &path, &names::base64url(&topic.record.id))
            .and_then(|()| dir.disk.open(&path.join("partition.metadata"), false)?.sync_all())
            .map_err(|source| commitlog::Error::Io { path: path.clone(), source })?;
        dir.note_new_directory();
        dir.note_log();
        Ok(FutureLog { log, dir: dir.clone(), path, announced: AtomicBool::new(false) })
    }

    /// Drops a partition's future log.
    pub(super) fn end_move(&self, partition: &Partition) {
        let Some(future) = partition.set_future(None) else { return };
        future.dir.note_log_gone();
        let name = format!("{}-{}", partition.topic, partition.index);
        match future.dir.put_aside_as(&future.path, &name, "delete") {
            Ok(path) => self.remove_later(&future.dir, path),
            Err(error) => tracing::error!(dir = %future.path.display(), %error, "directory not put aside"),
        }
    }

    /// Goes on with every move, each by at most `budget` bytes. Blocks.
    pub(crate) fn advance_moves(&self, budget: u64) -> Moved {
        let mut moved = Moved { failed: !self.announce_futures(), ..Moved::default() };
        for partition in self.partitions() {
            let Some(future) = partition.future().filter(|f| f.announced.load(Ordering::Acquire)) else {
                continue;
            };
            match self.advance_move(&partition, &future, budget) {
                Ok((bytes, done)) => {
                    moved.bytes += bytes;
                    moved.more |= !done;
                }
                Err(error) => {
                    if partition.gone().is_none() {
                        tracing::warn!(topic = %partition.topic, partition = partition.index, to = %future.dir.path.display(),
                            %error, "move does not go on; tried again");
                        moved.failed = true;
                    }
                }
            }
        }
        moved
    }

    /// Before anything is copied: a recovery point that is left of the log that was there before must not vouch for what a
    /// crash may tear. Whether all of it could be written.
    fn announce_futures(&self) -> bool {
        let futures: Vec<_> = self.partitions().iter().filter_map(|partition| partition.future()).collect();
        let fresh = |future: &&Arc<FutureLog>| !future.announced.load(Ordering::Acquire);
        let mut written = true;
        for dir in self.root.online() {
            let mine: Vec<_> = futures.iter().filter(fresh).filter(|f| Arc::ptr_eq(&f.dir, dir)).collect();
            if mine.is_empty() {
                continue;
            }
            match self.write_checkpoints_of(dir) {
                Ok(()) => mine.iter().for_each(|future| future.announced.store(true, Ordering::Release)),
                Err(error) => {
                    tracing::warn!(dir = %dir.path.display(), %error, "offset checkpoints not written");
                    written = false;
                }
            }
        }
        written
    }

    /// Copies at most `budget` bytes; how many, and whether the move is over.
    fn advance_move(
        &self,
        partition: &Arc<Partition>,
        future: &Arc<FutureLog>,
        budget: u64,
    ) -> Result<(u64, bool), commitlog::Error> {
        let (start, log) = (partition.log_start(), &future.log);
        if log.log().end() < start {
            // Retention was faster than the copy.
            log.log().reset(start)?;
        }
        raise_start(future, start)?;
        let (mut bytes, mut unsynced) = (0, 0);
        while bytes < budget {
            let (from, upto) = (log.log().end(), partition.high_watermark());
            let most = CHUNK_BYTES.min(budget as usize);
            if from >= upto || !is_current(partition, future) {
                break;
            }
            let read = |log: &PartitionLog| log.log().read(from.max(log.log().start()), upto, most, true);
            let copied = self.copy(log, &partition.with_log(read)?)?;
            if copied == 0 {
                // Only a gap is left.
                break;
            }
            (bytes, unsynced) = (bytes + copied, unsynced + copied);
            if unsynced >= SYNC_BYTES {
                log.checkpoint()?;
                unsynced = 0;
            }
        }
        if bytes >= budget || !is_current(partition, future) {
            return Ok((bytes, !is_current(partition, future)));
        }
        self.swap(partition, future).map(|done| (bytes, done))
    }

    fn copy(&self, log: &PartitionLog, chunk: &commitlog::Chunk) -> Result<u64, commitlog::Error> {
        let (mut at, now_ms) = (0, self.root.clock.unix_ms());
        for header in headers(chunk) {
            log.append_copy(&chunk.bytes[at..at + header.len], now_ms)?;
            at += header.len;
        }
        Ok(at as u64)
    }

    /// Puts the future log in the log's place; false when that is for later.
    fn swap(&self, partition: &Arc<Partition>, future: &Arc<FutureLog>) -> Result<bool, commitlog::Error> {
        // What takes its time comes first, while the log is in use.
        future.log.checkpoint()?;
        // Compaction under way goes on; the next pass tries again.
        let Some(_cleaning) = partition.cleaning.try_lock() else { return Ok(false) };
        let _applying = self.applying.lock();
        if partition.gone().is_some() || !is_current(partition, future) {
            return Ok(true);
        }
        let Some(topic) = self.topic(&partition.topic) else { return Ok(true) };
        let mut from = None;
        partition.replace_home(|home| {
            let log = &future.log;
            while log.log().end() < home.log.log().end() {
                let (at, upto) = (log.log().end(), home.log.log().end());
                let chunk = home.log.log().read(at.max(home.log.log().start()), upto, CHUNK_BYTES, true)?;
                if self.copy(log, &chunk)? == 0 {
                    log.fill_to(upto, self.root.clock.unix_ms())?;
                }
            }
            log.adopt_epochs(&home.log)?;
            raise_start(future, home.log.log().start())?;
            log.close()?;
            let io = |source| commitlog::Error::Io { path: future.path.clone(), source };
            // Where the log starts is told by the checkpoint of its directory.
            self.write_checkpoints_of(&future.dir).map_err(io)?;
            let old = self.rename_both(partition, home, future).map_err(io)?;
            from = Some((home.dir.clone(), old));
            let (path, start) = (future.dir.partition_dir(&topic.name, partition.index), log.log().start());
            let options = self.layout(&topic.settings);
            let opened = PartitionLog::open(future.dir.disk.clone(), &path, options, OpenFrom::Clean, start);
            // Renamed and not to be opened: the next start tries again.
            let (log, _) = opened.inspect_err(|_| self.root.troubles.report(&Arc::downgrade(partition)))?;
            Ok(Home { log, dir: future.dir.clone() })
        })?;
        partition.set_future(None);
        if let Some((dir, path)) = from {
            tracing::info!(topic = %partition.topic, partition = partition.index, from = %dir.path.display(),
                to = %future.dir.path.display(), "moved");
            dir.note_log_gone();
            self.remove_later(&dir, path);
        }
        self.root.checkpoints_due();
        self.root.cleaning.notify_one();
        Ok(true)
    }

    /// The log's directory makes room, then the future log takes its name; where the old one is now.
    fn rename_both(
        &self,
        partition: &Arc<Partition>,
        home: &Home,
        future: &FutureLog,
    ) -> std::io::Result<PathBuf> {
        let here = home.dir.partition_dir(&partition.topic, partition.index);
        let there = future.dir.partition_dir(&partition.topic, partition.index);
        future.dir.sync_new_directories()?;
        let aside = home.dir.put_aside(&here, "delete")?;
        let moved = home.dir.disk.sync_dir(&home.dir.path).and_then(|()| {
            future.dir.disk.rename(&future.path, &there)?;
            future.dir.disk.sync_dir(&future.dir.path)
        });
        moved.inspect_err(|_| {
            // Back to where it was, if the disk lets us; else the partition is out of service until the next start.
            let back = if future.dir.disk.exists(&there) {
                future.dir.disk.rename(&there, &future.path)
            } else {
                Ok(())
            };
            let back = back.and_then(|()| home.dir.disk.rename(&aside, &here));
            if back.and_then(|()| home.dir.disk.sync_dir(&home.dir.path)).is_err() {
                self.root.troubles.report(&Arc::downgrade(partition));
            }
        })?;
        Ok(aside)
    }

    /// Finishes a swap that a crash interrupted: the log is put aside already, and the future log is whole.
    pub(super) fn finish_swaps(&self, last: &mut LastStop, ids: &BTreeMap<String, String>) {
        if !last.missing.is_empty() || self.root.failed().next().is_some() {
            return;
        }
        let mut aside = HashMap::new();
        for dir in self.root.online() {
            for name in dir.disk.list(&dir.path).unwrap_or_default() {
                let of = name.strip_suffix("-delete").and_then(|rest| rest.rsplit_once('.'));
                if let Some((of, _)) = of {
                    aside.insert(of.to_owned(), directory::topic_id(&*dir.disk, &dir.path.join(&name)));
                }
            }
        }
        let exists = |name: &str| self.root.online().any(|dir| dir.disk.exists(&dir.path.join(name)));
        for (dir, path, of) in self.futures() {
            let id = directory::topic_id(&*dir.disk, &path);
            let topic = directory::parse_partition_dir(&of).map_or("", |(topic, _)| topic);
            if exists(&of)
                || id.is_none()
                || ids.get(topic) != id.as_ref()
                || !aside.get(&of).is_some_and(|of| of.is_none() || *of == id)
            {
                continue;
            }
            let done =
                dir.disk.rename(&path, &dir.path.join(&of)).and_then(|()| dir.disk.sync_dir(&dir.path));
            match done {
                Ok(()) => {
                    tracing::info!(partition = of, to = %dir.path.display(), "moved: finished what was begun");
                    if let Some((_, stop)) = last.dirs.iter_mut().find(|(at, _)| Arc::ptr_eq(at, &dir)) {
                        stop.directories.insert(of);
                    }
                }
                Err(error) => {
                    tracing::error!(partition = of, dir = %path.display(), %error, "move not finished")
                }
            }
        }
    }

    /// Directories of future logs: where they are, and of which partition.
    fn futures(&self) -> Vec<(Arc<LogDir>, PathBuf, String)> {
        let mut found = Vec::new();
        for dir in self.root.online() {
            let names = dir.disk.list(&dir.path).unwrap_or_default();
            let futures = names.iter().filter_map(|name| Some((name, future_of(name)?)));
            found.extend(futures.map(|(name, of)| (dir.clone(), dir.path.join(name), of.to_owned())));
        }
        found
    }

    /// Goes on with the moves that the last stop interrupted; what is of no use is put aside.
    pub(super) fn resume_moves(&self, last: &LastStop) {
        for (dir, path, of) in self.futures() {
            let Some((topic, index)) = directory::parse_partition_dir(&of) else { continue };
            let topic = self.topic(topic);
            let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(index)) else {
                // Its log is offline, or the topic is not known.
                continue;
            };
            let topic = topic.as_ref().expect("its partition was found");
            let resumed = self.open_future(topic, partition, &dir, &path, last).unwrap_or_else(|error| {
                tracing::warn!(dir = %path.display(), %error, "future log not opened: the move begins anew");
                None
            });
            match resumed {
                Some(future) => {
                    dir.note_log();
                    partition.set_future(Some(future));
                    self.root.moves.notify_one();
                }
                None => match dir.put_aside_as(&path, &of, "delete") {
                    Ok(path) => self.remove_later(&dir, path),
                    Err(error) => tracing::error!(dir = %path.display(), %error, "directory not put aside"),
                },
            }
        }
    }

    /// Opens a future log; None where it is of no use: of another topic, where the log is already, or not its copy.
    fn open_future(
        &self,
        topic: &Topic,
        partition: &Partition,
        dir: &Arc<LogDir>,
        path: &Path,
        last: &LastStop,
    ) -> Result<Option<FutureLog>, commitlog::Error> {
        let id = names::base64url(&topic.record.id);
        let other = directory::topic_id(&*dir.disk, path).is_none_or(|found| found != id);
        if other || Arc::ptr_eq(&partition.dir(), dir) || partition.future().is_some() {
            return Ok(None);
        }
        let key = (partition.topic.to_string(), partition.index);
        let stop = last.dirs.iter().find(|(of, _)| Arc::ptr_eq(of, dir)).map(|(_, stop)| stop);
        let (from, start) = places::opened_from(stop, &key, topic.settings.compacted);
        let (log, _) = PartitionLog::open(dir.disk.clone(), path, self.layout(&topic.settings), from, start)?;
        // A log that lost its tail in a crash goes on with other records, in a later epoch, where the copy may have the
        // lost ones.
        let (end, ours) = (log.log().end(), partition.log());
        let last = Offset(end.get() - 1);
        let same = end <= ours.log().end()
            && (last < ours.log().start() || log.epoch_of(last) == ours.epoch_of(last));
        Ok(same.then(|| FutureLog {
            log,
            dir: dir.clone(),
            path: path.to_owned(),
            announced: AtomicBool::new(false),
        }))
    }
}

/// Whether the move was not ended or begun anew meanwhile.
fn is_current(partition: &Partition, future: &Arc<FutureLog>) -> bool {
    partition.gone().is_none() && partition.future().is_some_and(|now| Arc::ptr_eq(&now, future))
}

/// Records that were deleted from the log are not to come back.
fn raise_start(future: &FutureLog, start: Offset) -> Result<(), commitlog::Error> {
    let log = &future.log;
    if log.log().start() >= start || log.log().end() < start {
        return Ok(());
    }
    for file in log.delete_before(start)? {
        // Nobody reads it.
        if let Err(error) = future.dir.disk.remove_file(&file) {
            tracing::debug!(file = %file.display(), %error, "retired file not removed");
        }
    }
    Ok(())
}
