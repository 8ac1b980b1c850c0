//! Changes that are not in the tree yet: in memory, in key order, each with the number of its commit.
//!
//! A page of the tree holds dozens of records, and is written anew for each that changes. Changes are therefore gathered
//! here and carried into the tree together, in key order, so that a page takes many at once (see `stack`). A layer keeps
//! what earlier commits put at a key for as long as somebody may read as of them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

/// What the tree is to have at a key; None where nothing.
pub(super) type Record = Option<Box<[u8]>>;
/// The changes of a transaction.
pub(super) type Batch = BTreeMap<Box<[u8]>, Record>;

/// What the map needs for a record beside its bytes, about.
const RECORD_BYTES: usize = 2 * size_of::<Versions>();
/// Records that are taken from a layer at once at first, and at most, each time four times as many.
const CHUNK_MIN: usize = 4;
const CHUNK_MAX: usize = 256;

/// The record at a key, the newest and what was there before.
#[derive(Debug)]
struct Versions {
    commit: u64,
    record: Record,
    /// In order.
    older: Vec<(u64, Record)>,
}

impl Versions {
    /// What was there after a commit; None where nothing had changed by then.
    fn at(&self, commit: u64) -> Option<&Record> {
        if self.commit <= commit {
            return Some(&self.record);
        }
        self.older.iter().rev().find(|(number, _)| *number <= commit).map(|(_, record)| record)
    }
}

/// Changes of several commits.
#[derive(Debug, Default)]
pub(super) struct Layer {
    records: RwLock<BTreeMap<Box<[u8]>, Versions>>,
    /// Memory it takes, about: nothing while it is empty.
    bytes: AtomicUsize,
    /// Records that it removes from the tree.
    removed: AtomicUsize,
}

fn bytes_of(record: &Record) -> usize {
    record.as_ref().map_or(0, |record| record.len())
}

impl Layer {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn removed(&self) -> usize {
        self.removed.load(Ordering::Relaxed)
    }

    /// Adds what a commit changes. `alone` says that nobody reads as of a commit before the last one.
    pub(super) fn add(&self, batch: Batch, commit: u64, alone: bool) {
        let mut records = self.records.write();
        let (mut bytes, mut removed) = (0, 0);
        for (key, record) in batch {
            bytes += bytes_of(&record) + size_of::<(u64, Record)>();
            removed += usize::from(record.is_none());
            match records.entry(key) {
                Entry::Vacant(place) => {
                    bytes += place.key().len() + RECORD_BYTES;
                    place.insert(Versions { commit, record, older: Vec::new() });
                }
                Entry::Occupied(mut place) => {
                    let versions = place.get_mut();
                    if alone {
                        versions.older.clear();
                    }
                    let before = (versions.commit, std::mem::replace(&mut versions.record, record));
                    versions.commit = commit;
                    versions.older.push(before);
                }
            }
        }
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.removed.fetch_add(removed, Ordering::Relaxed);
    }

    /// What was at a key after a commit.
    ///
    /// # Errors
    /// `read`, where nothing had changed by then.
    pub(super) fn get<R, F>(&self, key: &[u8], commit: u64, read: F) -> Result<R, F>
    where
        F: FnOnce(Option<&[u8]>) -> R,
    {
        if self.bytes() == 0 {
            return Err(read);
        }
        let records = self.records.read();
        match records.get(key).and_then(|versions| versions.at(commit)) {
            Some(record) => Ok(read(record.as_deref())),
            None => Err(read),
        }
    }

    /// What is there in the end, in order.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(super) fn newest<E>(
        &self,
        mut visit: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.records.read().iter().try_for_each(|(key, versions)| visit(key, versions.record.as_deref()))
    }
}

/// Where changes are looked for.
#[derive(Clone, Copy)]
pub(super) enum Place<'l> {
    /// As of a commit.
    Layer(&'l Layer, u64),
    Batch(&'l Batch),
}

impl Place<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Layer(layer, _) => layer.bytes() == 0,
            Self::Batch(batch) => batch.is_empty(),
        }
    }

    /// Copies up to `max` changes; whether there may be more.
    fn copy(&self, bounds: Bounds<'_>, reverse: bool, max: usize, out: &mut VecDeque<Changed>) -> bool {
        match self {
            Self::Layer(layer, commit) => {
                let records = layer.records.read();
                let found = records.range::<[u8], _>(bounds);
                let there = found.filter_map(|(key, versions)| {
                    versions.at(*commit).map(|record| Changed { key: key.clone(), record: record.clone() })
                });
                take(there, reverse, max, out)
            }
            Self::Batch(batch) => {
                let found = batch.range::<[u8], _>(bounds);
                let copied = found.map(|(key, record)| Changed { key: key.clone(), record: record.clone() });
                take(copied, reverse, max, out)
            }
        }
    }
}

type Bounds<'b> = (Bound<&'b [u8]>, Bound<&'b [u8]>);

fn take(
    mut found: impl DoubleEndedIterator<Item = Changed>,
    reverse: bool,
    max: usize,
    out: &mut VecDeque<Changed>,
) -> bool {
    for _ in 0..max {
        let Some(change) = (if reverse { found.next_back() } else { found.next() }) else { return false };
        out.push_back(change);
    }
    true
}

/// A change of a record.
#[derive(Debug)]
pub(super) struct Changed {
    pub key: Box<[u8]>,
    pub record: Record,
}

type Edge = Bound<Box<[u8]>>;

/// The changes between two keys in one place, one after the other.
struct Walk<'l> {
    place: Place<'l>,
    ahead: VecDeque<Changed>,
    chunk: usize,
    /// What comes behind those ahead; None when nothing does.
    rest: Option<(Edge, Edge)>,
    reverse: bool,
}

impl Walk<'_> {
    /// Sees to it that the next change, if there is one, is at hand.
    fn fill(&mut self) {
        if self.ahead.is_empty()
            && let Some((from, to)) = self.rest.take()
        {
            let bounds = (from.as_ref().map(|key| &**key), to.as_ref().map(|key| &**key));
            let more = self.place.copy(bounds, self.reverse, self.chunk, &mut self.ahead);
            self.chunk = (self.chunk * 4).min(CHUNK_MAX);
            if let Some(last) = self.ahead.back().filter(|_| more) {
                let behind = Bound::Excluded(last.key.clone());
                self.rest = Some(if self.reverse { (from, behind) } else { (behind, to) });
            }
        }
    }

    fn key(&self) -> Option<&[u8]> {
        self.ahead.front().map(|change| &*change.key)
    }
}

/// The changes between two keys in several places, of which the first counts most.
pub(super) struct Changes<'l> {
    walks: Vec<Walk<'l>>,
    reverse: bool,
}

impl<'l> Changes<'l> {
    /// Those with `from <= key < to`, where `from < to`.
    pub(super) fn new(places: &[Place<'l>], (from, to): (&[u8], &[u8]), reverse: bool) -> Self {
        let walk = |place: &Place<'l>| Walk {
            place: *place,
            ahead: VecDeque::new(),
            chunk: CHUNK_MIN,
            rest: Some((Bound::Included(from.into()), Bound::Excluded(to.into()))),
            reverse,
        };
        Self { walks: places.iter().filter(|place| !place.is_empty()).map(walk).collect(), reverse }
    }

    /// Whether a key comes before another.
    fn is_before(&self, key: &[u8], other: &[u8]) -> bool {
        if self.reverse { key > other } else { key < other }
    }

    /// The next change at a key not behind `upto`, which None puts at the end.
    pub(super) fn next_upto(&mut self, upto: Option<&[u8]>) -> Option<Changed> {
        self.walks.iter_mut().for_each(Walk::fill);
        let mut first: Option<(usize, &[u8])> = None;
        for (at, walk) in self.walks.iter().enumerate() {
            let Some(key) = walk.key() else { continue };
            if first.is_none_or(|(_, least)| self.is_before(key, least)) {
                first = Some((at, key));
            }
        }
        let (at, key) = first?;
        if upto.is_some_and(|upto| self.is_before(upto, key)) {
            return None;
        }
        let change = self.walks[at].ahead.pop_front()?;
        for walk in &mut self.walks[at + 1..] {
            // Older, of the same record.
            if walk.key() == Some(&change.key) {
                walk.ahead.pop_front();
            }
        }
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use base::random::Random;

    use super::*;

    fn draw(random: &mut Random) -> Batch {
        let key = |random: &mut Random| random.below(600).to_be_bytes()[6..].into();
        let record =
            |random: &mut Random| (random.below(4) > 0).then(|| vec![random.below(256) as u8; 3].into());
        (0..random.below(40)).map(|_| (key(random), record(random))).collect()
    }

    /// What a map has between two keys.
    fn of(map: &Batch, (from, to): (&[u8], &[u8]), reverse: bool) -> Vec<(Box<[u8]>, Record)> {
        let found = map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let found = found.map(|(key, record)| (key.clone(), record.clone()));
        if reverse { found.rev().collect() } else { found.collect() }
    }

    #[test]
    fn what_was_there_after_a_commit_stays_for_those_who_read_as_of_it() {
        let mut random = Random::from_seed(5);
        let (first, second) = (Layer::default(), Layer::default());
        let mut then: Vec<Batch> = vec![Batch::new()];
        for commit in 1..=60 {
            let batch = draw(&mut random);
            let mut now = then[commit - 1].clone();
            now.extend(batch.clone());
            then.push(now);
            let layer = if commit <= 30 { &first } else { &second };
            // Of the first ten nothing but the last is asked for.
            layer.add(batch, commit as u64, commit <= 10);
        }
        let own = draw(&mut random);
        for commit in 10..=60 {
            let places = [Place::Batch(&own), Place::Layer(&second, commit), Place::Layer(&first, commit)];
            let mut expect = then[commit as usize].clone();
            expect.extend(own.clone());
            for _ in 0..8 {
                let (from, to) = (random.below(600), random.below(600));
                let (from, to) = (from.min(to).to_be_bytes(), (from.max(to) + 1).to_be_bytes());
                let (bounds, reverse) = ((&from[6..], &to[6..]), random.below(2) == 0);
                let mut changes = Changes::new(&places, bounds, reverse);
                let mut found = Vec::new();
                // Up to some key, and then the rest.
                let middle = expect.keys().nth(random.below(expect.len() as u64) as usize).unwrap();
                while let Some(Changed { key, record }) = changes.next_upto(Some(middle)) {
                    assert!(if reverse { key >= *middle } else { key <= *middle });
                    found.push((key, record));
                }
                while let Some(Changed { key, record }) = changes.next_upto(None) {
                    found.push((key, record));
                }
                assert_eq!(found, of(&expect, bounds, reverse));
            }
            for (key, record) in &then[commit as usize] {
                let read = |layer: &Layer| layer.get(key, commit, |found| found.map(Box::from)).ok();
                assert_eq!(read(&second).or_else(|| read(&first)).as_ref(), Some(record));
            }
        }
    }

    #[test]
    fn nobody_who_reads_needs_nothing_that_was_there_before() {
        let layer = Layer::default();
        let key: Box<[u8]> = Box::from(&b"k"[..]);
        for commit in 1..=100 {
            layer.add([(key.clone(), Some(Box::from(&[0; 50][..])))].into(), commit, true);
        }
        assert_eq!(layer.records.read()[&key].older.len(), 1);
        assert_eq!(layer.get(&key, 99, |record| record.is_some()).ok(), Some(true));
        assert!(layer.bytes() > 0 && layer.removed() == 0);
    }
}
