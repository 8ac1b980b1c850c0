//! One partition's log: batches, producers, leader epochs, retention.
//!
//! ```text
//! append: [state lock] duplicate? sequence? ──▶ assign offset and epoch ──▶ Log::append ──▶ note producer
//!                                      └ segment sealed: write <base>.snapshot of the producers before this batch
//! open:   Log::open (verify the tail) ──▶ newest whole .snapshot not above the end ──▶ replay headers from there
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::Disk;
use parking_lot::Mutex;

use crate::index::{MaxTimestamp, file_name};
use crate::kafka::{
    BATCH_HEADER_BYTES, BatchHeader, EpochEnd, KafkaBatch, LeaderEpochs, ProducerError, Producers,
};
use crate::{Chunk, Error, Flush, Log, LogOptions, Offset, OpenFrom, Recovery, Result};

/// Bytes read at a time when headers are replayed.
const REPLAY_BYTES: usize = 1024 * 1024;
/// Suffix of files that wait to be removed.
const DELETED: &str = ".deleted";
const SNAPSHOT: &str = "snapshot";

/// How a partition is laid out. May be changed while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOptions {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`: a batch this much newer than the segment's first begins a new one.
    pub segment_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
}

impl PartitionOptions {
    fn layout(&self) -> LogOptions {
        LogOptions { segment_bytes: self.segment_bytes, zero_fill_bytes: 0 }
    }
}

/// What to keep; negative numbers mean everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `retention.ms`.
    pub ms: i64,
    /// `retention.bytes`.
    pub bytes: i64,
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error(transparent)]
    Log(#[from] Error),
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub log_start: Offset,
    /// The batch was there already; nothing was written.
    pub duplicate: bool,
    /// A segment was sealed: ask for a flush.
    pub rolled: bool,
}

#[derive(Debug)]
struct State {
    options: PartitionOptions,
    producers: Producers,
    epochs: LeaderEpochs,
    last_snapshot: Offset,
}

/// A partition's log, shared behind an `Arc`.
#[derive(Debug)]
pub struct PartitionLog {
    disk: Arc<dyn Disk>,
    log: Log<KafkaBatch>,
    state: Mutex<State>,
}

impl PartitionLog {
    /// Opens or makes the partition in `dir`. `start` is the checkpointed log start offset. After an unclean stop a new
    /// leader epoch begins, so that consumers which saw lost records notice (KIP-320).
    ///
    /// # Errors
    /// The disk's.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: PartitionOptions,
        from: OpenFrom,
        start: Offset,
    ) -> Result<(Self, Recovery)> {
        let known = disk.exists(dir);
        let layout = options.layout();
        let (log, recovery) =
            Log::<KafkaBatch>::open(disk.clone(), dir, layout, from, start, &mut |_, _| {})?;
        let epochs = if known { LeaderEpochs::open(&*disk, dir) } else { LeaderEpochs::default_in(dir) };
        let state = State { options, producers: Producers::default(), epochs, last_snapshot: Offset(-1) };
        let partition = Self { disk, log, state: Mutex::new(state) };
        if known {
            partition.restore(from != OpenFrom::Clean)?;
        }
        Ok((partition, recovery))
    }

    /// Brings producers and epochs up to what the log holds.
    fn restore(&self, unclean: bool) -> Result<()> {
        let mut state = self.state.lock();
        let (mut at, end) = (self.restore_snapshot(&mut state)?, self.log.end());
        // An epoch that began at the end and wrote nothing yet is kept: metadata already told it to clients.
        let mut changed = state.epochs.truncate_suffix(end.next());
        while at < end {
            let chunk = self.log.read(at, end, REPLAY_BYTES, true)?;
            for batch in headers(&chunk) {
                state.producers.note(&batch);
                changed |= state.epochs.assign(batch.leader_epoch, batch.base_offset);
            }
            at = chunk.next.unwrap_or(end);
        }
        if unclean {
            let next = state.epochs.latest().map_or(0, |latest| latest + 1);
            changed |= state.epochs.assign(next, end);
        }
        changed |= state.epochs.truncate_prefix(self.log.start());
        if changed {
            state.epochs.save(&*self.disk).map_err(|e| Error::io(self.log.dir(), e))
        } else {
            Ok(())
        }
    }

    /// Loads the newest whole snapshot and removes those beyond the end; the offset to replay from.
    fn restore_snapshot(&self, state: &mut State) -> Result<Offset> {
        let (start, end) = (self.log.start(), self.log.end());
        for offset in self.snapshots()?.into_iter().rev() {
            let path = self.snapshot_path(offset);
            let content = self.disk.read(&path).ok().filter(|_| offset <= end);
            if let Some(producers) = content.and_then(|bytes| Producers::from_snapshot(&bytes)) {
                state.producers = producers;
                state.last_snapshot = offset;
                return Ok(offset.max(start));
            }
            self.disk.remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
        Ok(start)
    }

    fn snapshots(&self) -> Result<Vec<Offset>> {
        let names = self.disk.list(self.log.dir()).map_err(|e| Error::io(self.log.dir(), e))?;
        let stems = names.iter().filter_map(|n| n.strip_suffix(SNAPSHOT)?.strip_suffix('.'));
        Ok(stems.filter_map(|s| s.parse().ok()).map(Offset).collect())
    }

    fn snapshot_path(&self, offset: Offset) -> PathBuf {
        file_name(self.log.dir(), offset, SNAPSHOT)
    }

    /// Writes the producers' state as of `offset`. Not synced: a torn one is seen and an older one used.
    fn take_snapshot(&self, state: &mut State, offset: Offset) -> io::Result<()> {
        if offset <= state.last_snapshot {
            return Ok(());
        }
        let file = self.disk.open(&self.snapshot_path(offset), true)?;
        file.set_len(0)?;
        file.write_all_at(&state.producers.snapshot(), 0)?;
        state.last_snapshot = offset;
        Ok(())
    }

    /// Appends one validated batch: offset and leader epoch are written into it, a retry is recognized. Not durable
    /// before a flush.
    ///
    /// # Errors
    /// Nothing is appended then.
    pub fn append(
        &self,
        batch: &mut [u8],
        leader_epoch: i32,
        now_ms: i64,
    ) -> std::result::Result<AppendInfo, AppendError> {
        let bad = || Error::Refused("not a batch".to_owned());
        let mut header = BatchHeader::parse(batch).filter(|h| h.len == batch.len()).ok_or_else(bad)?;
        let mut state = self.state.lock();
        if header.has_producer()
            && let Some(repeated) = state.producers.check(&header)?
        {
            return Ok(self.duplicate(repeated.first_offset(), repeated.last_offset));
        }
        let base = self.log.end();
        header.base_offset = base;
        KafkaBatch::assign(batch, base, leader_epoch);
        let roll = self.is_due(&state.options, &header);
        let appended = self.log.append(batch, &header.frame(), roll)?;
        if appended.rolled {
            let oldest_ms = now_ms - state.options.producer_expiration_ms;
            state.producers.expire(oldest_ms);
            self.note_roll(&mut state, base);
        }
        state.producers.note(&header);
        if state.epochs.assign(leader_epoch, base)
            && let Err(error) = state.epochs.save(&*self.disk)
        {
            // The batch carries its epoch: a restart reads it from there.
            tracing::warn!(dir = %self.log.dir().display(), %error, "leader epochs not saved");
        }
        let log_start = self.log.start();
        let last_offset = header.last_offset();
        Ok(AppendInfo {
            base_offset: base,
            last_offset,
            log_start,
            duplicate: false,
            rolled: appended.rolled,
        })
    }

    fn duplicate(&self, base_offset: Offset, last_offset: Offset) -> AppendInfo {
        AppendInfo { base_offset, last_offset, log_start: self.log.start(), duplicate: true, rolled: false }
    }

    fn note_roll(&self, state: &mut State, base: Offset) {
        if let Err(error) = self.take_snapshot(state, base) {
            tracing::warn!(dir = %self.log.dir().display(), %error, "producer snapshot not written");
        }
    }

    fn is_due(&self, options: &PartitionOptions, batch: &BatchHeader) -> bool {
        let (_, first) = self.log.active();
        first.is_some_and(|first| {
            first >= 0 && batch.max_timestamp_ms.saturating_sub(first) > options.segment_ms
        })
    }

    /// Changes the layout from the next append on.
    pub fn set_options(&self, options: PartitionOptions) {
        self.state.lock().options = options;
        self.log.set_options(options.layout());
    }

    /// The log itself, for reads and flushes.
    #[must_use]
    pub fn log(&self) -> &Log<KafkaBatch> {
        &self.log
    }

    /// The newest leader epoch; 0 before any.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.state.lock().epochs.latest().unwrap_or(0)
    }

    /// The largest epoch not above `requested` and its end; `log_end` bounds the newest.
    #[must_use]
    pub fn epoch_end(&self, requested: i32, log_end: Offset) -> EpochEnd {
        self.state.lock().epochs.end_of(requested, log_end)
    }

    /// The epoch that wrote `offset`; -1 when unknown.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> i32 {
        self.state.lock().epochs.epoch_of(offset)
    }

    /// The largest timestamp in the log.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<MaxTimestamp> {
        // On equal timestamps the first wins, as in Kafka.
        let all = self.log.max_timestamps().into_iter().filter_map(|(_, max)| max);
        all.reduce(|best, next| if next.timestamp_ms > best.timestamp_ms { next } else { best })
    }

    /// Whole batches from the first whose largest timestamp is at least `timestamp_ms`, below `upto`; empty when all are
    /// older. The caller looks into the first batch for the record.
    ///
    /// # Errors
    /// The disk's.
    pub fn read_from_time(&self, timestamp_ms: i64, upto: Offset) -> Result<Chunk> {
        let Some(mut at) = self.log.offset_for_time(timestamp_ms) else { return Ok(Chunk::default()) };
        while at < upto {
            let chunk = self.log.read(at, upto, REPLAY_BYTES, true)?;
            let Some(next) = chunk.next else { break };
            let mut position = 0;
            for batch in headers(&chunk) {
                if batch.max_timestamp_ms >= timestamp_ms && batch.last_offset() >= self.log.start() {
                    return Ok(Chunk { bytes: chunk.bytes.slice(position..), next: chunk.next });
                }
                position += batch.len;
            }
            at = next;
        }
        Ok(Chunk::default())
    }

    /// Moves the log start offset (DeleteRecords) and retires what lies below. Returns files to remove later.
    ///
    /// # Errors
    /// `OutOfRange` above the end; the disk's.
    pub fn delete_before(&self, offset: Offset) -> Result<Vec<PathBuf>> {
        let mut gone = self.log.remove_prefix(offset, DELETED)?;
        let mut state = self.state.lock();
        if state.epochs.truncate_prefix(self.log.start()) {
            state.epochs.save(&*self.disk).map_err(|e| Error::io(self.log.dir(), e))?;
        }
        drop(state);
        if !gone.is_empty() {
            self.retire_snapshots(&mut gone)?;
        }
        Ok(gone)
    }

    /// Snapshots below the first segment serve nobody.
    fn retire_snapshots(&self, gone: &mut Vec<PathBuf>) -> Result<()> {
        let first = self.log.segments().first().map_or(Offset(0), |(base, _)| *base);
        for offset in self.snapshots()?.into_iter().filter(|offset| *offset < first) {
            let path = self.snapshot_path(offset);
            let to = PathBuf::from(format!("{}{DELETED}", path.display()));
            self.disk.rename(&path, &to).map_err(|e| Error::io(&path, e))?;
            gone.push(to);
        }
        Ok(())
    }

    /// Retires segments that are too old or too many, none that reaches beyond `upto` (the high watermark). Returns
    /// files to remove later.
    ///
    /// # Errors
    /// The disk's.
    pub fn retain(&self, retention: Retention, upto: Offset, now_ms: i64) -> Result<Vec<PathBuf>> {
        let keep = self.retained_from(retention, now_ms).min(upto);
        if keep <= self.log.start() {
            return Ok(Vec::new());
        }
        if keep == self.log.end() {
            // Even the active segment is too old: a fresh one takes its place.
            self.log.roll()?;
            let mut state = self.state.lock();
            self.note_roll(&mut state, keep);
        }
        let segments = self.log.segments();
        let whole = segments.iter().map(|(base, _)| *base).take_while(|base| *base <= keep).last();
        self.delete_before(whole.unwrap_or(keep).max(self.log.start()))
    }

    /// The first offset worth keeping: a segment's base, or the end.
    fn retained_from(&self, retention: Retention, now_ms: i64) -> Offset {
        let maxima = self.log.max_timestamps();
        let segments = self.log.segments();
        let mut total: i64 = segments.iter().map(|(_, bytes)| *bytes as i64).sum();
        for (n, (base, bytes)) in segments.iter().enumerate() {
            let newest = maxima.iter().find(|(b, _)| b == base).and_then(|(_, max)| *max);
            let old = retention.ms >= 0 && newest.is_some_and(|max| max.timestamp_ms < now_ms - retention.ms);
            let last = n + 1 == segments.len();
            let excess = retention.bytes >= 0 && !last && total - *bytes as i64 >= retention.bytes;
            if !(old || excess) {
                return *base;
            }
            total -= *bytes as i64;
        }
        self.log.end()
    }

    /// Flushes and leaves everything as a clean start expects it.
    ///
    /// # Errors
    /// The disk's.
    pub fn close(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.log.close()?;
        let end = self.log.end();
        if end > self.log.start() {
            self.take_snapshot(&mut state, end).map_err(|e| Error::io(self.log.dir(), e))?;
        }
        Ok(())
    }

    /// Drops what a failed flush may have lost and lifts the fence; producers are read anew.
    ///
    /// # Errors
    /// The disk's; the fence stays then.
    pub fn cut_unflushed(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.log.cut_unflushed()?;
        state.producers = Producers::default();
        state.last_snapshot = Offset(-1);
        drop(state);
        self.restore(false)
    }
}

impl Flush for PartitionLog {
    fn flush(&self) -> io::Result<()> {
        Flush::flush(&self.log)
    }
}

/// The headers of whole batches.
pub fn headers(chunk: &Chunk) -> impl Iterator<Item = BatchHeader> {
    let mut rest = &chunk.bytes[..];
    std::iter::from_fn(move || {
        let header = BatchHeader::parse(rest.get(..BATCH_HEADER_BYTES)?)?;
        rest = rest.get(header.len..)?;
        Some(header)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::producers::Remembered;
    use base::disk::RealDisk;

    const OPTIONS: PartitionOptions =
        PartitionOptions { segment_bytes: 1000, segment_ms: 10_000, producer_expiration_ms: 86_400_000 };

    fn batch(producer: i64, sequence: i32, count: i32, time: i64, body: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; BATCH_HEADER_BYTES + body];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(8, &((BATCH_HEADER_BYTES + body - 12) as i32).to_be_bytes());
        put(16, &[2]);
        put(23, &(count - 1).to_be_bytes());
        put(27, &time.to_be_bytes());
        put(43, &producer.to_be_bytes());
        put(51, &0i16.to_be_bytes());
        put(53, &sequence.to_be_bytes());
        put(57, &count.to_be_bytes());
        KafkaBatch::set_max_timestamp(&mut bytes, time);
        bytes
    }

    fn open(dir: &Path, from: OpenFrom) -> PartitionLog {
        PartitionLog::open(RealDisk::shared(), dir, OPTIONS, from, Offset(0)).unwrap().0
    }

    fn append(partition: &PartitionLog, producer: i64, sequence: i32, time: i64) -> AppendInfo {
        partition
            .append(&mut batch(producer, sequence, 2, time, 200), partition.leader_epoch(), time)
            .unwrap()
    }

    fn files(dir: &Path, suffix: &str) -> Vec<String> {
        let names = RealDisk.list(dir).unwrap().into_iter();
        names.filter_map(|n| n.strip_suffix(suffix).map(|n| n.trim_start_matches('0').to_owned())).collect()
    }

    #[test]
    fn producers_survive_clean_and_unclean_stops() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t-0");
        let partition = open(&path, OpenFrom::Clean);
        for n in 0..10 {
            assert_eq!(append(&partition, 5, n * 2, 1000).base_offset.get(), i64::from(n) * 2);
        }
        assert!(append(&partition, 5, 18, 1000).duplicate);
        assert_eq!(files(&path, ".snapshot"), ["6.", "12.", "18."].map(|n| n.trim_end_matches('.')));
        let partition = open(&path, OpenFrom::RecoveryPoint(Offset(0)));
        let repeated = append(&partition, 5, 16, 1000);
        assert_eq!((repeated.duplicate, repeated.base_offset), (true, Offset(16)));
        assert_eq!(partition.leader_epoch(), 1);
        partition.close().unwrap();
        let partition = open(&path, OpenFrom::Clean);
        assert_eq!(partition.leader_epoch(), 1);
        let repeated = append(&partition, 5, 18, 1000);
        assert_eq!((repeated.duplicate, repeated.base_offset), (true, Offset(18)));
        assert_eq!(append(&partition, 5, 20, 1000).base_offset, Offset(20));
        assert_eq!(partition.epoch_end(0, partition.log.end()), EpochEnd { epoch: 0, end: Offset(20) });
        assert_eq!([partition.epoch_of(Offset(19)), partition.epoch_of(Offset(20))], [0, 1]);
    }

    #[test]
    fn segments_roll_by_time_and_retire_by_age_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t-0");
        let partition = open(&path, OpenFrom::Clean);
        append(&partition, -1, -1, 1000);
        append(&partition, -1, -1, 11_000);
        assert!(append(&partition, -1, -1, 11_001).rolled);
        for n in 0..8 {
            append(&partition, -1, -1, 20_000 + n);
        }
        partition.flush().unwrap();
        assert_eq!(partition.log.segments().len(), 4);
        let keep =
            |ms, bytes, now| partition.retain(Retention { ms, bytes }, Offset(1000), now).unwrap().len();
        assert_eq!(keep(5000, -1, 16_000), 0);
        // The first segment: log and both indexes; there was no snapshot below the first base.
        assert_eq!(keep(5000, -1, 16_001), 3);
        assert_eq!(partition.log.start(), Offset(4));
        // The second segment and the snapshot at its base.
        assert_eq!(keep(-1, 1800, 0), 0);
        assert_eq!(keep(-1, 1200, 0), 4);
        assert_eq!(partition.log.start(), Offset(10));
        assert!(keep(100, -1, 90_000) > 0);
        assert_eq!(
            (partition.log.start(), partition.log.end(), partition.log.bytes()),
            (Offset(22), Offset(22), 0)
        );
        assert_eq!(append(&partition, -1, -1, 90_000).base_offset, Offset(22));
        let reopened = PartitionLog::open(
            RealDisk::shared(),
            &path,
            OPTIONS,
            OpenFrom::RecoveryPoint(Offset(0)),
            Offset(22),
        );
        assert_eq!(reopened.unwrap().0.log.end(), Offset(24));
    }

    #[test]
    fn records_are_found_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let partition = open(&dir.path().join("t-0"), OpenFrom::Clean);
        for n in 0..30 {
            append(&partition, -1, -1, n * 100);
        }
        for n in 0..30 {
            let chunk = partition.read_from_time(n * 100 - 50, partition.log.end()).unwrap();
            assert_eq!(headers(&chunk).next().unwrap().base_offset, Offset(n * 2));
        }
        assert!(partition.read_from_time(2901, partition.log.end()).unwrap().next.is_none());
        assert_eq!(partition.max_timestamp().unwrap().timestamp_ms, 2900);
    }

    #[test]
    fn remembered_batches_know_their_first_offset() {
        let remembered =
            Remembered { last_sequence: 4, last_offset: Offset(9), offset_delta: 4, timestamp_ms: 0 };
        assert_eq!(remembered.first_offset(), Offset(5));
    }
}
