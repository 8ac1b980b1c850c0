//! What a partition remembers of idempotent and transactional producers, and its snapshots (ProducerStateManager.java,
//! KIP-98, KIP-890).
//!
//! ```text
//! .snapshot: version i16 = 1 | CRC-32C u32 of the rest | count i32 | entries of 46 bytes:
//!   producer id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32 | timestamp i64
//!   | coordinator epoch i32 | first offset of the open transaction i64
//! ```
//! A transaction begins in a partition with the producer's first transactional batch and ends with the marker that the
//! transaction coordinator writes. Until that marker lies below the high watermark, nothing from the transaction's first
//! offset on is stable.

use std::collections::{BTreeMap, VecDeque};

use base::checksum::crc32c;

use crate::Offset;
use crate::kafka::verification::Verifications;
use crate::kafka::{AbortedTxn, BatchHeader, EndTxnMarker, Guard, Origin};

/// Batches remembered a producer: as many as a client may have in flight, so that any retry is recognized.
const BATCHES_MAX: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_ENTRY_BYTES: usize = 46;

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// A batch is missing before this one, or the first of a new epoch is not 0.
    #[error("sequence {got} of producer {producer_id} does not follow {last}")]
    OutOfOrderSequence { producer_id: i64, got: i32, last: i32 },
    /// A newer instance of the producer has taken over.
    #[error("producer {producer_id} has epoch {current}, not {got}")]
    InvalidEpoch { producer_id: i64, got: i16, current: i16 },
    /// A batch outside of the transaction that its producer has open.
    #[error("producer {producer_id} has a transaction open, and the batch is not part of it")]
    InvalidTxnState { producer_id: i64 },
    /// A marker of a coordinator that was replaced.
    #[error("coordinator epoch {got} of producer {producer_id} is older than {current}")]
    CoordinatorFenced { producer_id: i64, got: i32, current: i32 },
}

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub last_sequence: i32,
    pub last_offset: Offset,
    pub offset_delta: i32,
    pub timestamp_ms: i64,
}

impl Remembered {
    /// The batch's first offset: what a duplicate is answered with.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        Offset(self.last_offset.get() - i64::from(self.offset_delta))
    }

    fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

/// A producer as DescribeProducers shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub epoch: i16,
    /// -1 when no batch is remembered.
    pub last_sequence: i32,
    pub last_timestamp_ms: i64,
    /// -1 when no marker was seen.
    pub coordinator_epoch: i32,
    /// First offset of the transaction that is open.
    pub transaction_start: Option<Offset>,
}

#[derive(Debug, Clone)]
struct Entry {
    epoch: i16,
    batches: VecDeque<Remembered>,
    last_timestamp_ms: i64,
    coordinator_epoch: i32,
    /// First offset of the open transaction.
    open: Option<Offset>,
}

impl Entry {
    fn new(epoch: i16) -> Self {
        Self { epoch, batches: VecDeque::new(), last_timestamp_ms: -1, coordinator_epoch: -1, open: None }
    }

    fn move_to(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |b| b.last_sequence)
    }
}

/// All producers of a partition.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    entries: BTreeMap<i64, Entry>,
    /// First offsets of the open transactions, with their producers.
    open: BTreeMap<Offset, i64>,
    /// First offset and marker of transactions that ended above the high watermark.
    ended: BTreeMap<Offset, Offset>,
    verifications: Verifications,
}

impl Producers {
    /// The batch this one repeats, if it is a retry of one of the last five; else whether it may be appended.
    ///
    /// # Errors
    /// A sequence with a gap, an old epoch, a batch outside of the open transaction, or one that would open a transaction
    /// that its coordinator was not asked about. A producer nobody remembers may begin anywhere.
    pub fn check(&self, batch: &BatchHeader, origin: Origin) -> Result<Option<Remembered>, ProducerError> {
        let entry = self.entries.get(&batch.producer_id);
        let producer_id = batch.producer_id;
        let got = batch.base_sequence;
        let from_client = matches!(origin, Origin::Client(_));
        let same = |b: &&Remembered| b.first_sequence() == got && b.last_sequence == batch.last_sequence();
        if let Some(entry) = entry.filter(|entry| from_client && batch.producer_epoch == entry.epoch)
            && let Some(repeated) = entry.batches.iter().find(same)
        {
            return Ok(Some(*repeated));
        }
        if let Some(entry) = entry {
            check_epoch(producer_id, entry, batch.producer_epoch)?;
        }
        if batch.is_transactional() && self.open_in(producer_id, batch.producer_epoch).is_none() {
            self.verifications.check_guard(batch, origin)?;
        }
        if from_client {
            let known = entry.is_some_and(|entry| !entry.batches.is_empty());
            self.verifications.check_sequence(batch, known)?;
        }
        let Some(entry) = entry else { return Ok(None) };
        self.check_entry(batch, entry, from_client).map(|()| None)
    }

    fn check_entry(&self, batch: &BatchHeader, entry: &Entry, sequences: bool) -> Result<(), ProducerError> {
        let (producer_id, got, last) = (batch.producer_id, batch.base_sequence, entry.last_sequence());
        let follows = match batch.producer_epoch > entry.epoch {
            true => got == 0,
            // After a marker alone `last` is -1, and 0 follows it.
            false => got == last.wrapping_add(1) & i32::MAX,
        };
        if sequences && !follows {
            return Err(ProducerError::OutOfOrderSequence { producer_id, got, last });
        }
        if entry.open.is_some() && !batch.is_transactional() {
            return Err(ProducerError::InvalidTxnState { producer_id });
        }
        Ok(())
    }

    /// Begins a verification; None where the producer has a transaction open in this epoch, so that there is nothing to
    /// ask its coordinator.
    pub fn begin_verification(
        &mut self,
        producer_id: i64,
        epoch: i16,
        sequence: i32,
        rises: bool,
    ) -> Option<Guard> {
        if self.open_in(producer_id, epoch).is_some() {
            return None;
        }
        let fenced = self.entries.get(&producer_id).is_some_and(|entry| epoch < entry.epoch);
        // A producer that was fenced leaves no trace: its sequences are not those of the one that is there now.
        Some(match fenced {
            true => Guard::from_raw(0),
            false => self.verifications.begin(producer_id, epoch, sequence, rises),
        })
    }

    /// First offset of the transaction that the producer has open in this epoch.
    #[must_use]
    pub fn open_in(&self, producer_id: i64, epoch: i16) -> Option<Offset> {
        self.entries.get(&producer_id).filter(|entry| entry.epoch == epoch)?.open
    }

    /// Whether a marker may be appended.
    ///
    /// # Errors
    /// One of an old producer epoch or of an old coordinator. From transaction version 2 on the epoch of the records is
    /// old too, unless their transaction is over: then the marker comes once more.
    pub fn check_marker(
        &self,
        batch: &BatchHeader,
        marker: EndTxnMarker,
        version: i16,
    ) -> Result<(), ProducerError> {
        let Some(entry) = self.entries.get(&batch.producer_id) else { return Ok(()) };
        let producer_id = batch.producer_id;
        check_epoch(producer_id, entry, batch.producer_epoch)?;
        if version >= 2 && batch.producer_epoch == entry.epoch && entry.open.is_some() {
            let (got, current) = (batch.producer_epoch, entry.epoch);
            return Err(ProducerError::InvalidEpoch { producer_id, got, current });
        }
        let (got, current) = (marker.coordinator_epoch, entry.coordinator_epoch);
        if got < current {
            return Err(ProducerError::CoordinatorFenced { producer_id, got, current });
        }
        Ok(())
    }

    /// Notes an appended batch (offsets assigned); `marker` is what a control batch says. Returns what the index of
    /// aborted transactions is to hold when the batch aborted one.
    pub fn note(&mut self, batch: &BatchHeader, marker: Option<EndTxnMarker>) -> Option<AbortedTxn> {
        if !batch.has_producer() {
            return None;
        }
        if batch.is_transactional() {
            self.verifications.settle(batch);
        }
        if batch.is_control() {
            return marker.and_then(|marker| self.end(batch, marker));
        }
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| Entry::new(batch.producer_epoch));
        entry.move_to(batch.producer_epoch);
        if entry.batches.len() == BATCHES_MAX {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Remembered {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
            timestamp_ms: batch.max_timestamp_ms,
        });
        entry.last_timestamp_ms = batch.max_timestamp_ms;
        // An empty batch was kept by compaction for its sequence; the transaction it was in is settled.
        if batch.is_transactional() && entry.open.is_none() && batch.count > 0 {
            entry.open = Some(batch.base_offset);
            self.open.insert(batch.base_offset, batch.producer_id);
        }
        None
    }

    fn end(&mut self, batch: &BatchHeader, marker: EndTxnMarker) -> Option<AbortedTxn> {
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| Entry::new(batch.producer_epoch));
        entry.move_to(batch.producer_epoch);
        entry.coordinator_epoch = entry.coordinator_epoch.max(marker.coordinator_epoch);
        entry.last_timestamp_ms = batch.max_timestamp_ms;
        let first = entry.open.take()?;
        let last = batch.base_offset;
        self.open.remove(&first);
        self.ended.insert(first, last);
        // As Kafka counts it: what was stable once this transaction had ended and nothing else had changed.
        let stable = self.open.first_key_value().map_or(last.next(), |(open, _)| *open);
        let aborted = AbortedTxn { producer_id: batch.producer_id, first, last, last_stable: stable };
        (!marker.commit).then_some(aborted)
    }

    /// The first offset that is not stable because of a transaction, given how far markers are replicated; transactions
    /// that ended below `high_watermark` are forgotten.
    pub fn first_unstable(&mut self, high_watermark: Offset) -> Option<Offset> {
        self.ended.retain(|_, marker| *marker >= high_watermark);
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let ended = self.ended.first_key_value().map(|(first, _)| *first);
        open.into_iter().chain(ended).min()
    }

    /// Whether a transaction is open or its end is not known to be replicated.
    #[must_use]
    pub fn has_unstable(&self) -> bool {
        !(self.open.is_empty() && self.ended.is_empty())
    }

    /// First offset of the transaction that the producer has open.
    #[must_use]
    pub fn open_transaction(&self, producer_id: i64) -> Option<Offset> {
        self.entries.get(&producer_id)?.open
    }

    /// Forgets producers whose last batch or marker is older than `before_ms` (`producer.id.expiration.ms`) and who have
    /// no transaction open.
    pub fn expire(&mut self, before_ms: i64) {
        self.entries.retain(|_, entry| entry.open.is_some() || entry.last_timestamp_ms >= before_ms);
    }

    /// Producers remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every producer, by id.
    #[must_use]
    pub fn list(&self) -> Vec<ActiveProducer> {
        let each = |(producer_id, entry): (&i64, &Entry)| ActiveProducer {
            producer_id: *producer_id,
            epoch: entry.epoch,
            last_sequence: entry.last_sequence(),
            last_timestamp_ms: entry.last_timestamp_ms,
            coordinator_epoch: entry.coordinator_epoch,
            transaction_start: entry.open,
        };
        self.entries.iter().map(each).collect()
    }

    /// For each producer the offset of its last data batch and whether it has a transaction open: what compaction keeps.
    #[must_use]
    pub fn last_batches(&self) -> BTreeMap<i64, LastBatch> {
        let each = |(id, entry): (&i64, &Entry)| {
            let last_offset = entry.batches.back().map(|b| b.last_offset);
            (*id, LastBatch { epoch: entry.epoch, last_offset, last_sequence: entry.last_sequence() })
        };
        self.entries.iter().map(each).collect()
    }

    /// A snapshot file's content.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.entries.len() * SNAPSHOT_ENTRY_BYTES);
        body.extend_from_slice(&(self.entries.len() as i32).to_be_bytes());
        for (producer_id, entry) in &self.entries {
            let none =
                Remembered { last_sequence: -1, last_offset: Offset(-1), offset_delta: 0, timestamp_ms: -1 };
            let last = entry.batches.back().copied().unwrap_or(none);
            body.extend_from_slice(&producer_id.to_be_bytes());
            body.extend_from_slice(&entry.epoch.to_be_bytes());
            body.extend_from_slice(&last.last_sequence.to_be_bytes());
            body.extend_from_slice(&last.last_offset.get().to_be_bytes());
            body.extend_from_slice(&last.offset_delta.to_be_bytes());
            body.extend_from_slice(&entry.last_timestamp_ms.to_be_bytes());
            body.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            body.extend_from_slice(&entry.open.map_or(-1, Offset::get).to_be_bytes());
        }
        let mut bytes = Vec::with_capacity(6 + body.len());
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a snapshot; None when it is damaged.
    #[must_use]
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let (head, body) = bytes.split_at_checked(6)?;
        let version = i16::from_be_bytes(head[..2].try_into().ok()?);
        let crc = u32::from_be_bytes(head[2..].try_into().ok()?);
        let (count, entries) = body.split_at_checked(4)?;
        let count = usize::try_from(i32::from_be_bytes(count.try_into().ok()?)).ok()?;
        let sound = version == SNAPSHOT_VERSION && crc == crc32c(body);
        if !sound || entries.len() != count.checked_mul(SNAPSHOT_ENTRY_BYTES)? {
            return None;
        }
        let entries: BTreeMap<i64, Entry> =
            entries.chunks_exact(SNAPSHOT_ENTRY_BYTES).map(snapshot_entry).collect::<Option<_>>()?;
        let open = entries.iter().filter_map(|(id, entry)| Some((entry.open?, *id))).collect();
        Some(Self { entries, open, ..Self::default() })
    }
}

/// A producer's last data batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBatch {
    pub epoch: i16,
    /// None when only markers were seen in this epoch.
    pub last_offset: Option<Offset>,
    pub last_sequence: i32,
}

fn check_epoch(producer_id: i64, entry: &Entry, got: i16) -> Result<(), ProducerError> {
    match got < entry.epoch {
        true => Err(ProducerError::InvalidEpoch { producer_id, got, current: entry.epoch }),
        false => Ok(()),
    }
}

fn snapshot_entry(bytes: &[u8]) -> Option<(i64, Entry)> {
    let i64_at = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let i32_at = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let epoch = i16::from_be_bytes(bytes.get(8..10)?.try_into().ok()?);
    let last = Remembered {
        last_sequence: i32_at(10)?,
        last_offset: Offset(i64_at(14)?),
        offset_delta: i32_at(22)?,
        timestamp_ms: i64_at(26)?,
    };
    let batches = if last.last_offset.get() < 0 { VecDeque::new() } else { VecDeque::from([last]) };
    let open = Some(Offset(i64_at(38)?)).filter(|first| first.get() >= 0);
    let entry =
        Entry { epoch, batches, last_timestamp_ms: last.timestamp_ms, coordinator_epoch: i32_at(34)?, open };
    Some((i64_at(0)?, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::kafka::Verified;

    const ANY: Origin = Origin::Client(Verified::Waived);

    fn batch(producer_id: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(offset),
            len: 61,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp_ms: 1000,
            max_timestamp_ms: 1000 + offset,
            producer_id,
            producer_epoch: epoch,
            base_sequence: sequence,
            count,
        }
    }

    /// Appends batches of producer 7 and says what the last one is answered.
    #[track_caller]
    fn check(appended: &[(i16, i32, i32)], last: (i16, i32, i32), expect: &str) {
        let (mut producers, mut offset) = (Producers::default(), 0);
        for &(epoch, sequence, count) in appended {
            let batch = batch(7, epoch, sequence, count, offset);
            assert_eq!(producers.check(&batch, ANY), Ok(None));
            producers.note(&batch, None);
            offset += i64::from(count);
        }
        let got = match producers.check(&batch(7, last.0, last.1, last.2, offset), ANY) {
            Ok(None) => "append".to_owned(),
            Ok(Some(repeated)) => format!("duplicate of {}", repeated.first_offset()),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expect);
    }

    #[test]
    fn sequences() {
        let max = i32::MAX;
        check(&[], (0, 17, 1), "append");
        check(&[(0, 0, 3)], (0, 3, 1), "append");
        check(&[(0, 0, 3)], (0, 0, 3), "duplicate of 0");
        check(&[(0, 0, 3)], (0, 4, 1), "sequence 4 of producer 7 does not follow 2");
        check(&[(0, 0, 3)], (0, 0, 2), "sequence 0 of producer 7 does not follow 2");
        check(&[(1, 0, 3)], (0, 3, 1), "producer 7 has epoch 1, not 0");
        check(&[(0, 0, 3)], (1, 0, 1), "append");
        check(&[(0, 0, 3)], (1, 3, 1), "sequence 3 of producer 7 does not follow 2");
        check(&[(0, max - 1, 2)], (0, 0, 1), "append");
        check(&[(0, max - 1, 3)], (0, 1, 1), "append");
        check(&[(0, max - 1, 3)], (0, max - 1, 3), "duplicate of 0");
        let six = [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)];
        check(&six, (0, 1, 1), "duplicate of 1");
        check(&six, (0, 0, 1), "sequence 0 of producer 7 does not follow 5");
    }

    #[test]
    fn snapshots_come_back_and_damage_is_seen() {
        let mut producers = Producers::default();
        producers.note(&batch(9, 2, 0, 5, 100), None);
        producers.note(&batch(3, 0, 10, 1, 105), None);
        let bytes = producers.snapshot();
        assert_eq!(bytes.len(), 6 + 4 + 2 * 46);
        let back = Producers::from_snapshot(&bytes).unwrap();
        assert_eq!(back.snapshot(), bytes);
        assert_eq!(back.check(&batch(9, 2, 0, 5, 0), ANY).unwrap().unwrap().first_offset(), Offset(100));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Producers::from_snapshot(&bad).is_none(), "byte {at}");
            assert!(Producers::from_snapshot(&bytes[..at]).is_none());
        }
        producers.expire(1105);
        assert_eq!(producers.len(), 1);
    }

    const COMMIT: EndTxnMarker = EndTxnMarker { commit: true, coordinator_epoch: 3 };
    const ABORT: EndTxnMarker = EndTxnMarker { commit: false, coordinator_epoch: 3 };

    fn in_transaction(producer_id: i64, epoch: i16, sequence: i32, offset: i64) -> BatchHeader {
        BatchHeader { attributes: 16, ..batch(producer_id, epoch, sequence, 1, offset) }
    }

    fn marker(producer_id: i64, epoch: i16, offset: i64) -> BatchHeader {
        BatchHeader { attributes: 48, ..batch(producer_id, epoch, -1, 1, offset) }
    }

    #[test]
    fn transactions_hold_the_stable_offset_back_until_their_markers_are_replicated() {
        let mut producers = Producers::default();
        producers.note(&in_transaction(1, 0, 0, 10), None);
        producers.note(&in_transaction(2, 0, 0, 11), None);
        producers.note(&in_transaction(1, 0, 1, 12), None);
        assert_eq!(producers.first_unstable(Offset(100)), Some(Offset(10)));
        let aborted = producers.note(&marker(1, 0, 13), Some(ABORT)).unwrap();
        let expect =
            AbortedTxn { producer_id: 1, first: Offset(10), last: Offset(13), last_stable: Offset(11) };
        assert_eq!(aborted, expect);
        // The marker itself is not replicated yet.
        assert_eq!(producers.first_unstable(Offset(13)), Some(Offset(10)));
        assert_eq!(producers.first_unstable(Offset(14)), Some(Offset(11)));
        assert_eq!(producers.note(&marker(2, 0, 14), Some(COMMIT)), None);
        assert_eq!(producers.first_unstable(Offset(15)), None);
        assert!(!producers.has_unstable());
        // A marker without a transaction ends nothing.
        assert_eq!(producers.note(&marker(2, 0, 15), Some(ABORT)), None);
        let listed = producers.list();
        assert_eq!((listed[0].coordinator_epoch, listed[0].last_sequence), (3, 1));
        assert_eq!(listed[0].transaction_start, None);
    }

    #[test]
    fn markers_fence_old_epochs_and_old_coordinators() {
        let mut producers = Producers::default();
        producers.note(&in_transaction(1, 4, 0, 10), None);
        let outside = producers.check(&batch(1, 4, 1, 1, 11), ANY).unwrap_err();
        assert_eq!(outside, ProducerError::InvalidTxnState { producer_id: 1 });
        assert!(producers.check_marker(&marker(1, 3, 11), ABORT, 0).is_err());
        assert!(producers.check_marker(&marker(1, 5, 11), ABORT, 0).is_ok());
        producers.note(&marker(1, 5, 11), Some(ABORT));
        let old = EndTxnMarker { coordinator_epoch: 2, ..ABORT };
        let fenced = producers.check_marker(&marker(1, 5, 12), old, 0).unwrap_err();
        assert_eq!(fenced, ProducerError::CoordinatorFenced { producer_id: 1, got: 2, current: 3 });
        // The marker raised the epoch: the old one is fenced, the new one begins at 0.
        assert!(producers.check(&in_transaction(1, 4, 1, 12), ANY).is_err());
        assert!(producers.check(&in_transaction(1, 5, 1, 12), ANY).is_err());
        assert_eq!(producers.check(&in_transaction(1, 5, 0, 12), ANY), Ok(None));
    }

    #[test]
    fn open_transactions_come_back_from_a_snapshot_and_do_not_expire() {
        let mut producers = Producers::default();
        producers.note(&in_transaction(1, 4, 0, 10), None);
        producers.note(&batch(2, 0, 0, 1, 11), None);
        let mut back = Producers::from_snapshot(&producers.snapshot()).unwrap();
        assert_eq!(back.list(), producers.list());
        assert_eq!(back.first_unstable(Offset(50)), Some(Offset(10)));
        assert_eq!(back.open_transaction(1), Some(Offset(10)));
        back.expire(i64::MAX);
        assert_eq!(back.len(), 1);
    }

    #[test]
    fn a_transaction_opens_only_where_its_coordinator_was_asked() {
        let mut producers = Producers::default();
        let none = Origin::Client(Verified::No);
        let refused = Err(ProducerError::InvalidTxnState { producer_id: 1 });
        assert_eq!(producers.check(&in_transaction(1, 0, 0, 10), none), refused);
        let guard = producers.begin_verification(1, 0, 0, false).unwrap();
        let shown = Origin::Client(Verified::By(guard));
        assert_eq!(producers.check(&in_transaction(1, 0, 0, 10), shown), Ok(None));
        producers.note(&in_transaction(1, 0, 0, 10), None);
        // It is open: nothing is to be shown, and nothing to be asked.
        assert_eq!(producers.check(&in_transaction(1, 0, 1, 11), none), Ok(None));
        assert_eq!(producers.begin_verification(1, 0, 1, false), None);
        producers.note(&marker(1, 0, 11), Some(ABORT));
        assert_eq!(producers.check(&in_transaction(1, 0, 1, 12), none), refused);
        assert_eq!(producers.check(&in_transaction(1, 0, 1, 12), shown), refused);
        // What was verified before a marker came is not verified after it.
        let guard = producers.begin_verification(1, 0, 1, false).unwrap();
        producers.note(&marker(1, 0, 12), Some(ABORT));
        let late = producers.check(&in_transaction(1, 0, 1, 13), Origin::Client(Verified::By(guard)));
        assert_eq!(late, refused);
    }

    #[test]
    fn a_fenced_producer_does_not_disturb_the_one_that_is_there_now() {
        let mut producers = Producers::default();
        let none = Origin::Client(Verified::No);
        for sequence in 0..3 {
            producers.note(&in_transaction(1, 5, sequence, 10 + i64::from(sequence)), None);
        }
        let guard = producers.begin_verification(1, 4, 0, true).unwrap();
        assert_eq!(producers.check(&in_transaction(1, 5, 3, 13), none), Ok(None));
        let zombie = producers.check(&in_transaction(1, 4, 0, 13), Origin::Client(Verified::By(guard)));
        assert!(matches!(zombie, Err(ProducerError::InvalidEpoch { .. })));
    }

    #[test]
    fn markers_of_version_2_have_a_higher_epoch_than_what_they_end() {
        let mut producers = Producers::default();
        producers.note(&in_transaction(1, 4, 0, 10), None);
        let check = |producers: &Producers, epoch, version| {
            producers.check_marker(&marker(1, epoch, 11), COMMIT, version).is_ok()
        };
        assert!(!check(&producers, 4, 2) && check(&producers, 5, 2));
        assert!(check(&producers, 4, 0) && check(&producers, 4, 1));
        producers.note(&marker(1, 5, 11), Some(COMMIT));
        // Once more, after a crash.
        assert!(check(&producers, 5, 2) && !check(&producers, 4, 2));
    }

    #[test]
    fn a_coordinators_records_have_no_sequences() {
        let mut producers = Producers::default();
        let own = Origin::Coordinator(Verified::Waived);
        producers.note(&in_transaction(1, 4, 0, 10), None);
        assert_eq!(producers.check(&in_transaction(1, 4, 0, 11), own), Ok(None));
        assert!(producers.check(&in_transaction(1, 3, 0, 11), own).is_err());
    }
}
