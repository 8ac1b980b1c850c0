//! The replicated log on the write-ahead log, and what consensus keeps beside it.
//!
//! ```text
//! raft/VOTE       one line: term, candidate, whether a majority granted it, checksum (see [`crate::line`]); written whole
//!                 and synced before it counts
//! raft/PURGED     one line: term, node, index of the last entry that was removed from the log's front, checksum
//! raft/COMMITTED  term 8 | node 8 | index 8 | CRC-32C 4: written in place, not synced. Without it, or with an old one,
//!                 the member learns again what is committed; it lets a restarted member go on where it was
//! ```
//! Entries are in the log when `append` returns and durable when its callback is called: one flusher thread syncs for
//! all that came meanwhile. A vote is saved only when all entries before it are durable.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::checksum::crc32c;
use base::disk::{Disk, DiskFile};
use base::task::{TaskKind, Tasks};
use bytes::Bytes;
use commitlog::wal::WalFrame;
use commitlog::{Flush, Flusher, Frame, Framing as _, Log, Offset, Parsed};
use openraft::OptionalSend;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::hands::Hands;
use super::types::{self, LogEntry, LogId, Malformed, TypeConfig, Vote};
use crate::backend::is_full;
use crate::health::Health;
use crate::stats::Stats;
use crate::{Error, line};

/// Bytes of entries in one message to a follower.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes read from the disk at a time.
const READ_BYTES: usize = 1024 * 1024;
const COMMITTED_BYTES: usize = 28;
/// How often a write that waits for space tries again.
const SPACE_RETRY: Duration = Duration::from_millis(100);
/// Appends that may wait for the task that syncs in a simulation.
const SYNCS: usize = 4096;

/// The latest entries, without a gap.
#[derive(Default)]
struct Cache {
    entries: VecDeque<(LogEntry, usize)>,
    bytes: usize,
}

struct Marks {
    vote: Option<Vote>,
    purged: LogId,
    last: LogId,
    committed: Option<LogId>,
}

struct Shared {
    log: Arc<Log<WalFrame>>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    committed: Arc<dyn DiskFile>,
    /// The log, whose syncs are timed.
    synced: Arc<Timed>,
    syncing: Syncing,
    outside: Outside,
    cache: Mutex<Cache>,
    marks: Mutex<Marks>,
}

/// Syncs the log and notes how long that takes.
struct Timed {
    log: Arc<Log<WalFrame>>,
    stats: Arc<Stats>,
}

impl Flush for Timed {
    fn flush(&self) -> io::Result<()> {
        let began = std::time::Instant::now();
        let flushed = self.log.flush();
        self.stats.syncs.observe(began.elapsed());
        flushed.map(drop).map_err(cause)
    }
}

/// Who makes appended entries durable.
pub(crate) enum Syncing {
    Thread(Flusher),
    /// Simulations have no threads.
    Task(mpsc::Sender<IOFlushed<TypeConfig>>),
}

impl Syncing {
    /// A task that does as the flusher's thread: one sync for all that came meanwhile.
    pub(crate) fn task(log: Arc<Log<WalFrame>>, outside: Outside, tasks: &Tasks) -> Self {
        let (send, mut waiting) = mpsc::channel::<IOFlushed<TypeConfig>>(SYNCS);
        tasks.spawn(TaskKind::Service, "store-sync", async move {
            let mut round = Vec::new();
            while waiting.recv_many(&mut round, SYNCS).await > 0 {
                let log = log.clone();
                let done = outside.hands.run(move || log.flush().map(drop).map_err(cause)).await;
                done.as_ref().inspect_err(|error| fence(&outside.health, error)).ok();
                for callback in round.drain(..) {
                    let copy = done.as_ref().copied();
                    callback.io_completed(copy.map_err(|e| io::Error::new(e.kind(), e.to_string())));
                }
            }
            Ok::<_, std::convert::Infallible>(())
        });
        Self::Task(send)
    }
}

/// What the log needs of the member around it.
#[derive(Clone)]
pub(crate) struct Outside {
    pub hands: Hands,
    /// Told when the log fails: the member takes nothing more then.
    pub health: Arc<Health>,
    /// Ends the wait for space.
    pub closing: CancellationToken,
    pub stats: Arc<Stats>,
    /// Bytes of the latest entries kept in memory.
    pub cache_bytes: usize,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub(crate) struct RaftLog {
    shared: Arc<Shared>,
}

/// What `raft/` says before the log is opened.
pub(crate) struct Kept {
    pub vote: Option<Vote>,
    /// None in a directory that was never part of a cluster.
    pub purged: Option<LogId>,
}

impl Kept {
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, Error> {
        let numbers = |name: &str| -> Result<Option<[u64; 3]>, Error> {
            let path = dir.join(name);
            if !disk.exists(&path) {
                return Ok(None);
            }
            let content = disk.read(&path).map_err(Error::io(&path))?;
            // A vote that is forgotten may be given twice, and entries that are missed twice too.
            parse_line(&content).map(Some).ok_or_else(|| Error::damaged(&path, &content))
        };
        let vote = numbers("VOTE")?.map(|[term, node, committed]| {
            if committed == 1 { Vote::new_committed(term, node) } else { Vote::new(term, node) }
        });
        let purged = numbers("PURGED")?.map(|[term, node, index]| types::log_id(term, node, index));
        Ok(Self { vote, purged })
    }
}

fn parse_line(content: &[u8]) -> Option<[u64; 3]> {
    let mut numbers = line::unsealed(content)?.split_ascii_whitespace().map(|word| word.parse().ok());
    let line = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(line)
}

fn write_line(disk: &dyn Disk, path: &Path, [a, b, c]: [u64; 3]) -> io::Result<()> {
    disk.write_atomically(path, line::sealed(&format!("{a} {b} {c}")).as_bytes())
}

/// Writes down what was removed from the log's front.
pub(crate) fn write_purged(disk: &dyn Disk, dir: &Path, id: &LogId) -> io::Result<()> {
    write_line(disk, &dir.join("PURGED"), [id.leader_id.term, id.leader_id.node_id, id.index])
}

/// Writes down for whom this member votes.
pub(crate) fn write_vote(disk: &dyn Disk, dir: &Path, vote: &Vote) -> io::Result<()> {
    let line = [vote.leader_id.term, vote.leader_id.node_id, u64::from(vote.committed)];
    write_line(disk, &dir.join("VOTE"), line)
}

impl RaftLog {
    /// Over an opened log that begins behind `purged`.
    pub(crate) fn new(
        log: Arc<Log<WalFrame>>,
        disk: Arc<dyn Disk>,
        dir: &Path,
        vote: Option<Vote>,
        purged: LogId,
        syncing: Syncing,
        outside: Outside,
    ) -> io::Result<Self> {
        let synced = Arc::new(Timed { log: log.clone(), stats: outside.stats.clone() });
        let committed = disk.open(&dir.join("COMMITTED"), true)?;
        let mut raft = Self {
            shared: Arc::new(Shared {
                log,
                disk,
                dir: dir.to_path_buf(),
                committed,
                syncing,
                synced,
                outside,
                cache: Mutex::default(),
                marks: Mutex::new(Marks { vote, purged, last: purged, committed: None }),
            }),
        };
        raft.find_last()?;
        raft.find_committed()?;
        Ok(raft)
    }

    fn find_last(&mut self) -> io::Result<()> {
        let end = self.shared.log.end().get().unsigned_abs();
        let purged = self.shared.marks.lock().purged;
        if end > purged.index + 1 {
            let last = self.read_disk(end - 1, end, usize::MAX)?;
            let last = last.last().ok_or(Malformed("log: the last entry is not there"))?;
            self.shared.marks.lock().last = last.log_id();
        }
        Ok(())
    }

    fn find_committed(&mut self) -> io::Result<()> {
        let mut bytes = [0; COMMITTED_BYTES];
        if self.shared.committed.read_exact_at(&mut bytes, 0).is_err() {
            return Ok(());
        }
        let mut input = Bytes::copy_from_slice(&bytes);
        let numbers =
            [types::take_u64(&mut input)?, types::take_u64(&mut input)?, types::take_u64(&mut input)?];
        if types::take_u32(&mut input)? != crc32c(&bytes[..24]) {
            return Ok(());
        }
        let committed = types::log_id(numbers[0], numbers[1], numbers[2]);
        // It is not synced: an entry it names may have been lost with the power, and may have been another's then.
        let present = if committed.index > self.shared.marks.lock().purged.index
            && committed.index <= self.shared.marks.lock().last.index
        {
            self.read_disk(committed.index, committed.index + 1, usize::MAX)?.pop()
        } else {
            None
        };
        if present.is_some_and(|entry| entry.log_id() == committed) {
            self.shared.marks.lock().committed = Some(committed);
        }
        Ok(())
    }

    /// Entries of `start..end` that the cache holds, from the first on; None when it does not hold the first.
    fn read_cache(&self, start: u64, end: u64, bytes_max: usize) -> Option<Vec<LogEntry>> {
        let cache = self.shared.cache.lock();
        let first = cache.entries.front()?.0.index();
        let skip = usize::try_from(start.checked_sub(first)?).ok()?;
        let mut bytes = 0;
        let wanted = cache.entries.iter().skip(skip).take_while(|(entry, len)| {
            let fits = bytes == 0 || bytes + len <= bytes_max;
            bytes += len;
            fits && entry.index() < end
        });
        let found: Vec<_> = wanted.map(|(entry, _)| entry.clone()).collect();
        (!found.is_empty()).then_some(found)
    }

    fn read_disk(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let log = &self.shared.log;
        let (mut found, mut bytes, mut next) = (Vec::new(), 0, Offset(start.cast_signed()));
        let upto = Offset(end.cast_signed());
        while next < upto && (bytes < bytes_max || found.is_empty()) {
            let most = READ_BYTES.min(bytes_max - bytes.min(bytes_max));
            let chunk = log.read(next, upto, most, found.is_empty()).map_err(io::Error::other)?;
            let Some(after) = chunk.next else { break };
            bytes += chunk.bytes.len();
            decode_frames(chunk.bytes, next, &mut found)?;
            next = after;
        }
        Ok(found)
    }

    /// What cannot be read, or is not what was written, ends consensus here: the member is fenced.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        match self.read_cache(start, end, bytes_max) {
            Some(found) => Ok(found),
            None => self
                .read_disk(start, end, bytes_max)
                .inspect_err(|error| fence(&self.shared.outside.health, error)),
        }
    }

    /// All of `start..end` that the log contains.
    fn read_all(&self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        let (first, last) = {
            let marks = self.shared.marks.lock();
            (marks.purged.index + 1, marks.last.index)
        };
        let (mut next, end) = (start.max(first), end.min(last + 1));
        let mut all = Vec::new();
        while next < end {
            let some = self.read(next, end, usize::MAX)?;
            let Some(entry) = some.last() else { break };
            next = entry.index() + 1;
            all.extend(some);
        }
        Ok(all)
    }

    fn write(&self, entries: &[LogEntry]) -> io::Result<()> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let (first, last) = (first.index(), last.log_id());
        let mut buffer = Vec::new();
        let mut lens = Vec::with_capacity(entries.len());
        for entry in entries {
            let before = buffer.len();
            types::put_entry(&mut buffer, entry);
            lens.push(buffer.len() - before);
        }
        let frame = Frame {
            len: buffer.len(),
            first: Offset(first.cast_signed()),
            last: Offset(last.index.cast_signed()),
            max_timestamp_ms: -1,
        };
        let began = std::time::Instant::now();
        self.shared.log.append(&buffer, &frame, false).map_err(cause)?;
        self.shared.outside.stats.wrote(began, buffer.len());
        let mut cache = self.shared.cache.lock();
        for (entry, len) in entries.iter().zip(lens) {
            cache.bytes += len;
            cache.entries.push_back((entry.clone(), len));
        }
        while cache.bytes > self.shared.outside.cache_bytes
            && let Some((_, len)) = cache.entries.pop_front()
        {
            cache.bytes -= len;
        }
        self.shared.marks.lock().last = last;
        Ok(())
    }

    fn sync(&self, callback: IOFlushed<TypeConfig>) {
        let log = self.shared.synced.clone();
        match &self.shared.syncing {
            Syncing::Thread(flusher) => {
                let health = self.shared.outside.health.clone();
                let tell = move |result: Result<(), commitlog::FlushError>| {
                    let result = result.map_err(io::Error::other);
                    result.as_ref().inspect_err(|error| fence(&health, error)).ok();
                    callback.io_completed(result);
                };
                flusher.request(log, Box::new(tell));
            }
            Syncing::Task(task) => {
                if let Err(full) = task.try_send(callback) {
                    full.into_inner().io_completed(log.flush());
                }
            }
        }
    }

    /// Does `write` again while the disk is full, for as long as the member runs. Any other failure fences the member:
    /// consensus ends with it, and what the disk holds is unknown.
    async fn with_space<R: Send + 'static>(
        &self,
        write: impl Fn(&Self) -> io::Result<R> + Clone + Send + 'static,
        on_hands: bool,
    ) -> io::Result<R> {
        let mut told = false;
        loop {
            let (this, again) = (self.clone(), write.clone());
            let done = if on_hands {
                self.shared.outside.hands.run(move || again(&this)).await
            } else {
                write(self)
            };
            match done {
                Err(error) if is_full(&error) && !self.shared.outside.closing.is_cancelled() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!("the log waits for space on the disk");
                    }
                    let closing = self.shared.outside.closing.cancelled();
                    let _ = tokio::time::timeout(SPACE_RETRY, closing).await;
                }
                done => return done.inspect_err(|error| fence(&self.shared.outside.health, error)),
            }
        }
    }

    fn cut(&self, to: Offset) -> io::Result<()> {
        self.shared.log.truncate_suffix(to).map_err(cause)
    }

    fn drop_front(&self, id: LogId) -> io::Result<()> {
        write_purged(&*self.shared.disk, &self.shared.dir, &id)?;
        let (log, to) = (&self.shared.log, Offset(id.index.cast_signed() + 1));
        {
            let mut marks = self.shared.marks.lock();
            marks.purged = marks.purged.max(id);
            marks.last = marks.last.max(id);
        }
        let mut cache = self.shared.cache.lock();
        while cache.entries.front().is_some_and(|(entry, _)| entry.index() <= id.index)
            && let Some((_, len)) = cache.entries.pop_front()
        {
            cache.bytes -= len;
        }
        drop(cache);
        if to > log.end() {
            log.reset(to).map_err(cause)
        } else {
            log.remove_prefix(to, "").map(drop).map_err(cause)
        }
    }
}

fn fence(health: &Health, error: &io::Error) {
    health.fence(&format!("the log failed: {error}"));
}

/// The disk's error, where it was the disk.
fn cause(error: commitlog::Error) -> io::Error {
    match error {
        commitlog::Error::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn decode_frames(bytes: Bytes, from: Offset, out: &mut Vec<LogEntry>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Parsed::Frame(frame) = WalFrame::parse(&rest) else { return Err(Malformed("frame").into()) };
        if frame.len > rest.len() {
            return Err(Malformed("frame").into());
        }
        let whole = rest.split_to(frame.len);
        if frame.last < from {
            continue;
        }
        if !WalFrame::verify(&whole) {
            return Err(Malformed("frame: its checksum does not match").into());
        }
        let (meta, payload) = WalFrame::decode(&whole).ok_or(Malformed("frame"))?;
        out.push(types::entry(&meta, payload)?);
    }
    Ok(())
}

/// Reads the entries of a message.
pub(crate) fn take_frames(bytes: Bytes) -> io::Result<Vec<LogEntry>> {
    let mut entries = Vec::new();
    decode_frames(bytes, Offset(0), &mut entries)?;
    Ok(entries)
}

impl RaftLogReader<TypeConfig> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read_all(start, end)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.marks.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        self.read(start, end, MESSAGE_BYTES)
    }
}

impl RaftLogStorage<TypeConfig> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let marks = self.shared.marks.lock();
        Ok(LogState { last_purged_log_id: Some(marks.purged), last_log_id: Some(marks.last) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let kept = *vote;
        // Consensus takes a saved vote to mean that all entries appended before it are durable, too: a sync of theirs that is
        // still under way must not be overtaken.
        let write = move |log: &Self| {
            log.shared.log.flush().map_err(cause)?;
            write_vote(&*log.shared.disk, &log.shared.dir, &kept)
        };
        self.with_space(write, true).await?;
        self.shared.marks.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(id) = committed else { return Ok(()) };
        let mut bytes = Vec::with_capacity(COMMITTED_BYTES);
        for number in [id.leader_id.term, id.leader_id.node_id, id.index] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        // Only a start gains by it: a disk that refuses shows soon enough where it matters.
        if let Err(error) = self.shared.committed.write_all_at(&bytes, 0) {
            tracing::debug!(%error, "how far is committed was not noted");
        }
        self.shared.marks.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.marks.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Arc<[LogEntry]> = entries.into_iter().collect();
        self.with_space(move |log| log.write(&entries), false).await?;
        self.sync(callback);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let last = last.unwrap_or(types::origin_log_id());
        let to = Offset(last.index.cast_signed() + 1);
        {
            // Before the file, so that nobody reads what is about to go.
            let mut cache = self.shared.cache.lock();
            while cache.entries.back().is_some_and(|(entry, _)| entry.index() > last.index)
                && let Some((_, len)) = cache.entries.pop_back()
            {
                cache.bytes -= len;
            }
            self.shared.marks.lock().last = last;
        }
        self.with_space(move |log| log.cut(to), true).await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        self.with_space(move |log| log.drop_front(id), true).await
    }
}
