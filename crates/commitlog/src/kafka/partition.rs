//! One partition's log: batches, producers, leader epochs, retention.
//!
//! ```text
//! append: [state lock] duplicate? sequence? ──▶ assign offset and epoch ──▶ Log::append ──▶ note producer, transaction
//!                                      └ segment sealed: write <base>.snapshot of the producers before this batch
//! open:   Log::open (verify the tail) ──▶ newest whole .snapshot not above the end ──▶ replay headers from there
//! checkpoint (now and then, off the hot path): flush, indexes, a .snapshot ──▶ the recovery point moves up
//! ```
//! `restore` holds opening and checkpoints.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use base::disk::Disk;
use parking_lot::Mutex;

use crate::index::{MaxTimestamp, file_name};
use crate::kafka::aborted::{self, AbortedTxns};
use crate::kafka::{
    AbortedTxn, ActiveProducer, BATCH_HEADER_BYTES, BatchHeader, EndTxnMarker, EpochEnd, Guard, KafkaBatch,
    LastBatch, LeaderEpochs, Origin, ProducerError, Producers, Verified,
};
use crate::log::replace::{DELETED, NewSegment};
use crate::{Chunk, Error, Flush, Log, LogOptions, Offset, OpenFrom, Recovery, Result};

mod copying;
mod restore;
#[cfg(test)]
mod tests;

/// Bytes read at a time when headers are replayed.
const REPLAY_BYTES: usize = 1024 * 1024;
const SNAPSHOT: &str = "snapshot";

/// How a partition is laid out. May be changed while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOptions {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`: a batch this much newer than the segment's first begins a new one.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: a segment's `segment_ms` is shorter by a part of this, so that not all roll at once.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: a full index begins a new segment.
    pub index_bytes_max: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `preallocate`.
    pub preallocate: bool,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
}

impl PartitionOptions {
    fn layout(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            zero_fill_bytes: 0,
            index_interval_bytes: self.index_interval_bytes,
            preallocate: self.preallocate,
        }
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
    aborted: AbortedTxns,
    last_snapshot: Offset,
}

/// A partition's log, shared behind an `Arc`.
#[derive(Debug)]
pub struct PartitionLog {
    disk: Arc<dyn Disk>,
    log: Log<KafkaBatch>,
    state: Mutex<State>,
    /// Whether transactions hold the last stable offset back; readers look at it before they take the lock.
    unstable: AtomicBool,
    /// Where a restart begins to verify: everything below is durable, indexes and producers included.
    recovery_point: AtomicI64,
    /// The recovery point that is in the checkpoint file: compaction stays below.
    saved_point: AtomicI64,
    /// One checkpoint at a time; the offsets of the snapshots they left, ascending.
    checkpointing: Mutex<Vec<Offset>>,
}

impl PartitionLog {
    /// Appends one validated batch of whoever it is, with nothing shown for the transactions it opens: for tests and
    /// copies. A broker says [who appends](PartitionLog::append_as).
    ///
    /// # Errors
    /// Nothing is appended then.
    pub fn append(
        &self,
        batch: &mut [u8],
        leader_epoch: i32,
        now_ms: i64,
    ) -> std::result::Result<AppendInfo, AppendError> {
        self.append_as(batch, leader_epoch, now_ms, Origin::Client(Verified::Waived))
    }

    /// Appends one validated batch: offset and leader epoch are written into it, a retry is recognized. Not durable
    /// before a flush.
    ///
    /// # Errors
    /// Nothing is appended then.
    pub fn append_as(
        &self,
        batch: &mut [u8],
        leader_epoch: i32,
        now_ms: i64,
        origin: Origin,
    ) -> std::result::Result<AppendInfo, AppendError> {
        let bad = || Error::Refused("not a batch".to_owned());
        let mut header = BatchHeader::parse(batch).filter(|h| h.len == batch.len()).ok_or_else(bad)?;
        let marker = if header.is_control() { EndTxnMarker::parse(batch) } else { None };
        let mut state = self.state.lock();
        match marker {
            Some(marker) => {
                let version = if let Origin::Marker { version } = origin { version } else { 0 };
                state.producers.check_marker(&header, marker, version)?;
            }
            None if header.has_producer() => {
                if let Some(repeated) = state.producers.check(&header, origin)? {
                    return Ok(self.duplicate(repeated.first_offset(), repeated.last_offset));
                }
            }
            None => {}
        }
        let base = self.log.end();
        header.base_offset = base;
        KafkaBatch::assign(batch, base, leader_epoch);
        Ok(self.place(&mut state, batch, &header, marker, leader_epoch, now_ms)?)
    }

    /// Writes a batch that is checked and has its offset.
    fn place(
        &self,
        state: &mut State,
        batch: &[u8],
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<AppendInfo> {
        let base = header.base_offset;
        let roll = self.is_due(&state.options, header);
        if header.is_transactional() {
            // Before the batch can be seen: a reader that sees it waits for the lock.
            self.unstable.store(true, Ordering::Release);
        }
        let appended = self.log.append(batch, &header.frame(), roll)?;
        if appended.rolled {
            let oldest_ms = now_ms.saturating_sub(state.options.producer_expiration_ms);
            state.producers.expire(oldest_ms);
            self.note_roll(state, appended.segment);
        }
        self.note(state, header, marker, appended.segment);
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

    /// Notes an appended batch with the producers and, when it aborted a transaction, in the segment's index.
    fn note(&self, state: &mut State, header: &BatchHeader, marker: Option<EndTxnMarker>, segment: Offset) {
        let Some(aborted) = state.producers.note(header, marker) else { return };
        if let Err(error) = state.aborted.note(&*self.disk, segment, aborted) {
            // Only where the file of a segment that is still written cannot be read: a restart makes it anew.
            tracing::error!(dir = %self.log.dir().display(), %error, "aborted transaction not noted");
        }
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
        let active = self.log.active();
        // The part of the jitter is the segment's own, and the same after a restart.
        let part = active.base.get().wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64 >> 33;
        let jitter = options.segment_jitter_ms.min(options.segment_ms).max(0) as u64;
        let wait = options.segment_ms - (part % (jitter + 1)) as i64;
        let old = active
            .first_timestamp_ms
            .is_some_and(|first| first >= 0 && batch.max_timestamp_ms.saturating_sub(first) > wait);
        old || active.index_bytes + crate::index::OFFSET_ENTRY_BYTES > options.index_bytes_max.max(8)
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
        let state = self.state.lock();
        // The first leader has epoch 0, whether it wrote anything yet or not.
        if requested == 0 && state.epochs.latest().is_none() {
            return EpochEnd { epoch: 0, end: log_end };
        }
        state.epochs.end_of(requested, log_end)
    }

    /// The epoch that wrote `offset`; -1 when unknown.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> i32 {
        let state = self.state.lock();
        if state.epochs.latest().is_none() { 0 } else { state.epochs.epoch_of(offset) }
    }

    /// Readers of committed records see what lies below: the high watermark, or the first offset of a transaction that is
    /// open or whose end is not replicated. Read the high watermark before the call.
    #[must_use]
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        if !self.unstable.load(Ordering::Acquire) {
            return high_watermark;
        }
        let mut state = self.state.lock();
        let first = state.producers.first_unstable(high_watermark);
        // Under the lock: an append that opens a transaction sets it before it takes the lock, and again finds it open.
        self.unstable.store(state.producers.has_unstable(), Ordering::Release);
        drop(state);
        first.map_or(high_watermark, |first| first.max(self.log.start()).min(high_watermark))
    }

    /// Aborted transactions that a reader of `from..upto` must skip, by marker offset.
    ///
    /// # Errors
    /// The disk's.
    pub fn aborted_transactions(&self, from: Offset, upto: Offset) -> Result<Vec<AbortedTxn>> {
        let state = self.state.lock();
        if state.aborted.is_empty() {
            return Ok(Vec::new());
        }
        let found = state.aborted.overlapping(&*self.disk, self.log.segment_of(from), from, upto);
        found.map_err(|e| Error::io(self.log.dir(), e))
    }

    /// Producers remembered, by id (DescribeProducers).
    #[must_use]
    pub fn producers(&self) -> Vec<ActiveProducer> {
        self.state.lock().producers.list()
    }

    /// First offset of the transaction that this producer has open here.
    #[must_use]
    pub fn open_transaction(&self, producer_id: i64) -> Option<Offset> {
        self.state.lock().producers.open_transaction(producer_id)
    }

    /// Begins to verify that the producer's coordinator knows of its transaction here, before its first batch is appended;
    /// None where it is open in this epoch. `rises` is for producers whose epoch rises with every transaction.
    #[must_use]
    pub fn begin_verification(
        &self,
        producer_id: i64,
        epoch: i16,
        sequence: i32,
        rises: bool,
    ) -> Option<Guard> {
        self.state.lock().producers.begin_verification(producer_id, epoch, sequence, rises)
    }

    /// Whether the producer has a transaction open here in this epoch.
    #[must_use]
    pub fn is_in_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.state.lock().producers.open_in(producer_id, epoch).is_some()
    }

    /// Forgets producers that wrote nothing for `producer.id.expiration.ms` and have no transaction open.
    pub fn expire_producers(&self, now_ms: i64) {
        let mut state = self.state.lock();
        let before_ms = now_ms.saturating_sub(state.options.producer_expiration_ms);
        state.producers.expire(before_ms);
    }

    /// Each producer's last batch: what compaction keeps of it.
    pub(crate) fn last_batches(&self) -> std::collections::BTreeMap<i64, LastBatch> {
        self.state.lock().producers.last_batches()
    }

    /// Puts a rewritten segment where those with the bases `bases` are, which end at `end`. Returns the old files,
    /// renamed.
    pub(crate) fn swap(
        &self,
        new: NewSegment<'_, KafkaBatch>,
        bases: &[Offset],
        end: Offset,
        aborted: Vec<AbortedTxn>,
    ) -> Result<Vec<PathBuf>> {
        // Transactions without any batch left are gone from these; the old segments' readers do not miss them.
        self.state.lock().aborted.exchange(bases[0], end, aborted);
        let retired = self.log.replace(new, bases)?;
        self.state.lock().aborted.settle(bases[0]);
        Ok(retired)
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
        if !gone.is_empty() {
            state.aborted.truncate_prefix(self.log.first_segment());
        }
        drop(state);
        if !gone.is_empty() {
            self.retire_snapshots(&mut gone)?;
        }
        Ok(gone)
    }

    /// Snapshots below the first segment serve nobody.
    fn retire_snapshots(&self, gone: &mut Vec<PathBuf>) -> Result<()> {
        let first = self.log.first_segment();
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
            let last = n + 1 == segments.len();
            // Compaction may leave a segment without any batch.
            let old = retention.ms >= 0
                && newest.map_or(*bytes == 0 && !last, |max| {
                    max.timestamp_ms < now_ms.saturating_sub(retention.ms)
                });
            let excess = retention.bytes >= 0 && !last && total - *bytes as i64 >= retention.bytes;
            if !(old || excess) {
                return *base;
            }
            total -= *bytes as i64;
        }
        self.log.end()
    }
}

impl Flush for PartitionLog {
    fn flush(&self) -> io::Result<()> {
        Flush::flush(&self.log)
    }
}

/// The headers of whole batches.
pub fn headers(chunk: &Chunk) -> impl Iterator<Item = BatchHeader> {
    whole_batches(&chunk.bytes).map(|(header, _)| header)
}

/// Whole batches with their headers.
pub(crate) fn whole_batches(bytes: &[u8]) -> impl Iterator<Item = (BatchHeader, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = BatchHeader::parse(rest.get(..BATCH_HEADER_BYTES)?)?;
        let (batch, after) = rest.split_at_checked(header.len)?;
        rest = after;
        Some((header, batch))
    })
}
