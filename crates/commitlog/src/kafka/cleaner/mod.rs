//! Compaction: of each key the latest record stays (`cleanup.policy=compact`, Kafka's LogCleaner, KIP-58, KIP-354,
//! KIP-534).
//!
//! ```text
//!   log start ......... from ........... upto ......... active segment
//!   [ cleaned before  ][     dirty       ][ not yet    ][ never       ]
//!                       └ walked once: the latest offset of each key into a bounded map
//!   [ rewritten in groups of up to segment.bytes ]──▶ .cleaned ──▶ .swap ──▶ .log   (see log/replace.rs)
//! ```
//! A tombstone, and a marker whose transaction has nothing left, get a delete horizon when they are first rewritten and
//! go once it has passed. Batches of aborted transactions go; a producer's last batch stays, empty if need be, so that
//! its sequence and epoch are known.

mod offset_map;
mod rewrite;
#[cfg(test)]
mod tests;
mod transactions;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::kafka::partition::whole_batches;
use crate::kafka::{BatchHeader, EndTxnMarker, KafkaBatch, LastBatch, PartitionLog, aborted};
use crate::log::replace::NewSegment;
use crate::{Error, Framing, Offset, Result};
use offset_map::OffsetMap;
use rewrite::Kept;
use transactions::Transactions;

/// Bytes read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// When and how a log is compacted: the topic's configurations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanPolicy {
    /// `min.compaction.lag.ms`.
    pub lag_ms_min: i64,
    /// `max.compaction.lag.ms`.
    pub lag_ms_max: i64,
    /// `min.cleanable.dirty.ratio`.
    pub dirty_ratio_min: f64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.index.bytes`.
    pub index_bytes_max: u64,
}

/// What could be cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// Everything below was cleaned before.
    pub from: Offset,
    /// Up to here segments may be cleaned.
    pub upto: Offset,
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
    /// Whether it should be done now.
    pub due: bool,
    /// When time alone makes a difference: look again then.
    pub look_again_ms: Option<i64>,
}

impl Cleanable {
    /// The dirty part of what could be cleaned.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }
}

/// What a cleaning did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Clean up to here: the next cleaning begins there.
    pub upto: Offset,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Distinct keys seen in the dirty part.
    pub keys: usize,
    /// Files to remove later.
    pub retired: Vec<PathBuf>,
}

impl PartitionLog {
    /// Looks for what could be cleaned, below the recovery point that was saved. `cleaned` is where the last cleaning ended, if it is known.
    #[must_use]
    pub fn cleanable(
        &self,
        cleaned: Option<Offset>,
        policy: &CleanPolicy,
        high_watermark: Offset,
        now_ms: i64,
    ) -> Cleanable {
        let log = self.log();
        let segments = log.segments();
        let (active, start) = (log.active().base, log.start());
        // A checkpoint from before a truncation or of another log says nothing.
        let from = cleaned.filter(|at| (start..=active).contains(at)).unwrap_or(start);
        // Whole segments only: what follows an open transaction in its segment stays as it is.
        let stable = self.last_stable_offset(high_watermark).min(active).min(self.saved_point());
        let mut upto = log.segment_of(stable);
        let mut look_again_ms: Option<i64> = None;
        let mut overdue = false;
        for &(base, _) in segments.iter().filter(|(base, _)| *base < active) {
            if self.next_base(&segments, base) <= from {
                continue;
            }
            let newest = log.max_timestamp_of(base).map_or(-1, |max| max.timestamp_ms);
            if policy.lag_ms_min > 0 && newest > now_ms - policy.lag_ms_min {
                upto = upto.min(base);
                soonest(&mut look_again_ms, newest.saturating_add(policy.lag_ms_min).saturating_add(1));
                break;
            }
            let oldest = log.first_timestamp_of(base).filter(|oldest| *oldest > 0);
            if let Some(due_ms) = oldest.map(|oldest| oldest.saturating_add(policy.lag_ms_max.max(0))) {
                overdue |= due_ms < now_ms;
                soonest(&mut look_again_ms, due_ms.saturating_add(1));
            }
        }
        let bytes = |low: Offset, high: Offset| {
            segments.iter().filter(|(base, _)| (low..high).contains(base)).map(|(_, bytes)| *bytes).sum()
        };
        let first = segments.first().map_or(start, |(base, _)| *base);
        let mut found = Cleanable {
            from,
            upto,
            clean_bytes: bytes(first, from),
            dirty_bytes: 0,
            due: false,
            look_again_ms,
        };
        if upto > from {
            found.dirty_bytes = bytes(log.segment_of(from).max(first), upto);
            found.clean_bytes = bytes(first, log.segment_of(from));
            found.due = found.dirty_bytes > 0 && (overdue || found.ratio() > policy.dirty_ratio_min);
        }
        found
    }

    fn next_base(&self, segments: &[(Offset, u64)], base: Offset) -> Offset {
        let after = segments.partition_point(|(b, _)| *b <= base);
        segments.get(after).map_or(self.log().end(), |(base, _)| *base)
    }

    /// Cleans. `map_bytes_max` bounds the memory for keys: what does not fit is left for the next time. `stop` is asked
    /// between batches of work.
    ///
    /// # Errors
    /// The disk's; `Corrupt` where a stored batch is damaged; `Refused` when the segments changed meanwhile or it was
    /// stopped. What was done up to then holds.
    pub fn clean(
        &self,
        plan: &Cleanable,
        policy: &CleanPolicy,
        map_bytes_max: usize,
        now_ms: i64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Cleaned> {
        // Sealed segments' indexes must be in files, and what is rewritten must be durable.
        self.log().flush()?;
        self.write_aborted()?;
        let map = self.map_keys(plan, map_bytes_max, stop)?;
        let upto = Offset(map.latest + 1);
        let segments = self.log().segments();
        let wanted =
            segments.iter().copied().filter(|(base, _)| *base < upto && *base < self.log().active().base);
        let mut pass = Pass {
            partition: self,
            map,
            transactions: self.transactions(plan.upto)?,
            producers: self.last_batches(),
            policy: *policy,
            now_ms,
            stop,
        };
        let mut cleaned = Cleaned { upto, keys: pass.map.len(), ..Cleaned::default() };
        for group in groups(&wanted.collect::<Vec<_>>(), &segments, policy) {
            cleaned.bytes_before += group.iter().map(|(_, bytes)| *bytes).sum::<u64>();
            let end = self.next_base(&segments, group[group.len() - 1].0);
            let (bytes, retired) = pass.clean_group(&group, end)?;
            cleaned.bytes_after += bytes;
            cleaned.retired.extend(retired);
        }
        Ok(cleaned)
    }

    fn transactions(&self, upto: Offset) -> Result<Transactions> {
        Ok(Transactions::new(self.aborted_transactions(self.log().first_segment(), upto)?))
    }

    /// The latest offset of each key in the dirty part, as far as the map reaches.
    fn map_keys(&self, plan: &Cleanable, bytes_max: usize, stop: &dyn Fn() -> bool) -> Result<OffsetMap> {
        let keys = (plan.upto.get() - plan.from.get()).max(0) as u64;
        let mut map = OffsetMap::new(keys, bytes_max);
        map.latest = plan.from.get() - 1;
        let mut transactions = self.transactions(plan.upto)?;
        let mut at = plan.from;
        while at < plan.upto {
            stopped(stop)?;
            let chunk = self.log().read(at, plan.upto, READ_BYTES, true)?;
            let Some(next) = chunk.next else { break };
            for (header, batch) in whole_batches(&chunk.bytes) {
                self.verified(&header, batch)?;
                if header.is_control() {
                    transactions.control(&header, EndTxnMarker::parse(batch));
                } else if !transactions.data(&header) {
                    if map.free() < header.count.max(0) as usize {
                        return self.full(map, plan);
                    }
                    self.map_batch(&mut map, &header, batch)?;
                }
                map.latest = map.latest.max(header.last_offset().get());
            }
            at = next;
        }
        map.latest = map.latest.max(plan.upto.get() - 1);
        Ok(map)
    }

    fn full(&self, map: OffsetMap, plan: &Cleanable) -> Result<OffsetMap> {
        if map.latest < plan.from.get() {
            return Err(Error::Refused("one batch has more keys than the cleaner's memory holds".to_owned()));
        }
        Ok(map)
    }

    fn map_batch(&self, map: &mut OffsetMap, header: &BatchHeader, batch: &[u8]) -> Result<()> {
        let start = self.log().start().get();
        let read = Kept::of(batch, |record| {
            if let Some(key) = record.key.filter(|_| record.offset >= start) {
                map.put(key, record.offset);
            }
            false
        });
        read.map(drop).ok_or_else(|| self.corrupt(header))
    }

    fn verified(&self, header: &BatchHeader, batch: &[u8]) -> Result<()> {
        if KafkaBatch::verify(batch) { Ok(()) } else { Err(self.corrupt(header)) }
    }

    fn corrupt(&self, header: &BatchHeader) -> Error {
        let segment = self.log().segment_of(header.base_offset);
        Error::Corrupt {
            path: crate::index::file_name(self.log().dir(), segment, KafkaBatch::EXTENSION),
            position: header.base_offset.get().max(0) as u64,
        }
    }
}

fn soonest(at: &mut Option<i64>, ms: i64) {
    *at = Some(at.map_or(ms, |now| now.min(ms)));
}

fn stopped(stop: &dyn Fn() -> bool) -> Result<()> {
    if stop() { Err(Error::Refused("the cleaning was stopped".to_owned())) } else { Ok(()) }
}

/// Consecutive segments that together stay within a segment's limits, by their sizes before cleaning.
fn groups(wanted: &[(Offset, u64)], all: &[(Offset, u64)], policy: &CleanPolicy) -> Vec<Vec<(Offset, u64)>> {
    let mut groups: Vec<Vec<(Offset, u64)>> = Vec::new();
    let (mut bytes, mut index_bytes) = (0u64, 0u64);
    for &(base, size) in wanted {
        // At most one entry for every so many bytes.
        let index = size / crate::index::INDEX_INTERVAL_BYTES * crate::index::OFFSET_ENTRY_BYTES;
        let after = all.partition_point(|(b, _)| *b <= base);
        let end = all.get(after).map_or(base, |(base, _)| *base);
        let fits = groups.last().is_some_and(|group| {
            let first = group[0].0.get();
            bytes + size <= policy.segment_bytes
                && index_bytes + index <= policy.index_bytes_max
                && end.get() - first <= i64::from(i32::MAX)
        });
        match groups.last_mut().filter(|_| fits) {
            Some(group) => group.push((base, size)),
            None => {
                groups.push(vec![(base, size)]);
                (bytes, index_bytes) = (0, 0);
            }
        }
        bytes += size;
        index_bytes += index;
    }
    groups
}

/// One walk over the segments that are rewritten.
struct Pass<'a> {
    partition: &'a PartitionLog,
    map: OffsetMap,
    transactions: Transactions,
    producers: BTreeMap<i64, LastBatch>,
    policy: CleanPolicy,
    now_ms: i64,
    stop: &'a dyn Fn() -> bool,
}

impl Pass<'_> {
    /// Rewrites a group into one segment and puts it in their place; its size and the files retired.
    fn clean_group(&mut self, group: &[(Offset, u64)], end: Offset) -> Result<(u64, Vec<PathBuf>)> {
        let log = self.partition.log();
        let base = group[0].0;
        let mut new = NewSegment::create(log, base)?;
        self.transactions.kept.clear();
        let mut at = base.max(log.start());
        // Below the log start nothing can be read, and nothing needs to be kept.
        while at < end {
            stopped(self.stop)?;
            let chunk = log.read(at, end, READ_BYTES, true)?;
            let Some(next) = chunk.next else { break };
            for (header, batch) in whole_batches(&chunk.bytes) {
                self.partition.verified(&header, batch)?;
                self.clean_batch(&mut new, &header, batch)?;
            }
            at = next;
        }
        let aborted = std::mem::take(&mut self.transactions.kept);
        if !aborted.is_empty() {
            new.write_extra(aborted::TXN_INDEX, &aborted::encode(&aborted))?;
        }
        let bytes = new.bytes();
        let bases: Vec<Offset> = group.iter().map(|(base, _)| *base).collect();
        let retired = self.partition.swap(new, &bases, end, aborted)?;
        Ok((bytes, retired))
    }

    /// Writes what stays of a batch.
    fn clean_batch(
        &mut self,
        new: &mut NewSegment<'_, KafkaBatch>,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<()> {
        let control = header.is_control();
        let discardable = match control {
            true => self.transactions.control(header, EndTxnMarker::parse(batch)),
            false => self.transactions.data(header),
        };
        let horizon = header.has_delete_horizon().then_some(header.base_timestamp_ms);
        let passed = horizon.is_some_and(|horizon| horizon <= self.now_ms);
        let discard = discardable && (!control || passed);
        let last = self.is_last_of_producer(header);
        if discard && !last {
            return Ok(());
        }
        let keep = |record: &kafka_wire::record::Record<'_>| {
            !discard && (control || self.keeps(record.key, record.value.is_some(), record.offset, passed))
        };
        let kept = Kept::of(batch, keep).ok_or_else(|| self.partition.corrupt(header))?;
        if kept.is_empty() {
            if !last {
                return Ok(());
            }
            return new.append(&rewrite::empty(header, batch), &header.frame());
        }
        let marks = if control { discardable } else { kept.tombstones };
        let sets = marks && horizon.is_none();
        if kept.dropped == 0 && !sets {
            return new.append(batch, &header.frame());
        }
        let fresh = self.now_ms.saturating_add(self.policy.delete_retention_ms);
        let horizon = if sets { Some(fresh) } else { horizon };
        let rewritten = kept.batch(header, batch, horizon).ok_or_else(|| self.partition.corrupt(header))?;
        let Some(changed) = BatchHeader::parse(&rewritten) else {
            return Err(self.partition.corrupt(header));
        };
        new.append(&rewritten, &changed.frame())
    }

    /// Whether a data record stays.
    fn keeps(&self, key: Option<&[u8]>, has_value: bool, offset: i64, horizon_passed: bool) -> bool {
        if offset > self.map.latest {
            return true;
        }
        // A record without a key was written before the topic was compacted: it has no place here.
        let Some(key) = key else { return false };
        let latest = self.map.get(key).is_none_or(|latest| offset >= latest);
        latest && (has_value || !horizon_passed)
    }

    /// Whether the batch holds a producer's last sequence, or with nothing else left its last epoch.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = self.producers.get(&header.producer_id).filter(|_| header.has_producer());
        last.is_some_and(|last| match last.last_offset {
            Some(offset) => offset == header.last_offset(),
            None => header.is_control() && header.producer_epoch == last.epoch,
        })
    }
}
