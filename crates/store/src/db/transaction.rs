//! Transactions: mvcc's map over the tree, the changes that are not in it yet, and the values apart from both.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use mvcc::layout::Record;
use mvcc::{Reader, State, StateError, Stored, Visit, layout};
use store_api::KeyRange;

use super::layer::{Batch, Changes, Place};
use super::stack::{Live, Stack};
use super::{APPLIED, AppliedIndex, MEMBERS, storage};
use crate::values::{self, Cursor, HEAD_BYTES, Ledger, Physical, Pointer, Segments, Values};

/// A read transaction.
pub(crate) struct View {
    pub(super) stack: Stack,
    /// Dropped last: the file is closed with it.
    pub(super) _live: Arc<Live>,
}

/// A write transaction.
pub(crate) struct Change<'t> {
    stack: Stack,
    batch: Batch,
    values: &'t Values,
    ledger: Ledger,
    /// What was moved from here is still pointed to from here, but lives elsewhere.
    moved: Option<Vec<u8>>,
    /// A record as it goes into the tree.
    scratch: Vec<u8>,
    /// The version that was read last, as the tree has it: what is compared is often read, moved and replaced next.
    seen: RefCell<Seen>,
}

/// What the tree has at a key; nothing is known of any in the beginning.
#[derive(Default)]
struct Seen {
    key: Vec<u8>,
    raw: Vec<u8>,
    there: bool,
}

impl Seen {
    fn note(&mut self, key: &[u8], raw: Option<&[u8]>) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.raw.clear();
        self.raw.extend_from_slice(raw.unwrap_or_default());
        self.there = raw.is_some();
    }

    /// What is at the key, where that is known.
    fn at(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        (self.key == key).then(|| self.there.then_some(&self.raw[..]))
    }

    /// Something else is at the key from now on.
    fn forget(&mut self, key: &[u8]) {
        if self.key == key {
            self.key.clear();
        }
    }
}

impl<'t> Change<'t> {
    pub(super) fn new(stack: Stack, values: &'t Values) -> Self {
        Self {
            stack,
            batch: Batch::new(),
            values,
            ledger: Ledger::default(),
            moved: None,
            scratch: Vec::new(),
            seen: RefCell::default(),
        }
    }

    /// What the tree is to have at a key.
    fn raw<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, StateError> {
        if let Some(raw) = self.seen.borrow().at(key) {
            return Ok(read(raw));
        }
        let noting = |raw: Option<&[u8]>| {
            if key.first() == Some(&layout::CURRENT) {
                self.seen.borrow_mut().note(key, raw);
            }
            read(raw)
        };
        match self.batch.get(key) {
            Some(record) => Ok(noting(record.as_deref())),
            None => self.stack.raw(key, noting),
        }
    }

    /// Where the value at a key is, if it has one apart.
    fn pointer(&self, key: &[u8]) -> Result<Option<Pointer>, StateError> {
        self.raw(key, |raw| raw.map_or(Ok(None), |raw| values::pointer_at(key, raw)))?
    }

    fn insert(&mut self, key: &[u8], record: &[u8]) {
        self.batch.insert(key.into(), Some(record.into()));
    }

    fn places(&self) -> [Place<'_>; 3] {
        let [active, frozen] = self.stack.places();
        [Place::Batch(&self.batch), active, frozen]
    }

    /// Notes the last entry applied.
    pub(crate) fn set_applied(&mut self, applied: AppliedIndex) -> Result<(), StateError> {
        let index = applied.index.get().to_be_bytes();
        self.put(APPLIED, &[&index, &applied.term.to_be_bytes(), &applied.node.to_be_bytes()])
    }

    /// Notes who the members are.
    pub(crate) fn set_members(&mut self, members: &[u8]) -> Result<(), StateError> {
        self.put(MEMBERS, &[members])
    }

    /// Writes down what has become of the segments: the last thing in a transaction.
    pub(super) fn finish(mut self) -> Result<(Batch, Ledger), StateError> {
        if let Some(key) = &self.moved {
            let key = key.escape_ascii();
            return Err(StateError::Corrupt(format!("{key} was moved, and is still there")));
        }
        for (id, row) in self.values.rows(&mut self.ledger)? {
            self.insert(&values::Row::key(id), &row.encode());
        }
        Ok((self.batch, self.ledger))
    }

    /// Puts what is in `scratch` at the key of a version.
    fn put_scratch(&mut self, key: &[u8]) -> Result<(), StateError> {
        let before = self.pointer(key)?;
        self.seen.get_mut().forget(key);
        self.batch.insert(key.into(), Some(self.scratch.as_slice().into()));
        self.left(key, before);
        Ok(())
    }

    /// Nothing points to this from a key any more.
    fn left(&mut self, key: &[u8], pointer: Option<values::Pointer>) {
        let Some(pointer) = pointer else { return };
        if self.moved.take_if(|moved| *moved == key).is_none() {
            self.ledger.remove(&pointer);
        }
    }

    /// Appends a record and puts its pointer into `scratch`. `record` is in the form of an old one.
    fn append(&mut self, key: &[u8], record: &[&[u8]]) -> Result<(), StateError> {
        let mut head = [0; HEAD_BYTES];
        record.iter().flat_map(|part| part.iter()).zip(&mut head).for_each(|(from, to)| *to = *from);
        let pointer = if key.first() == Some(&layout::CURRENT) {
            self.values.append(&key[1..], record)?
        } else {
            self.values.append(&layout::parse_old(key)?.0, record)?
        };
        self.ledger.add(&pointer);
        self.scratch.clear();
        self.scratch.extend_from_slice(&values::encode(&head, &pointer));
        Ok(())
    }

    /// Does a little for space: segments without live values leave; of one that is mostly dead some entries are moved.
    pub(crate) fn reclaim(&mut self, entries: usize) -> Result<(), StateError> {
        for id in self.values.dead() {
            self.batch.insert(values::Row::key(id).into(), None);
            self.ledger.forget(id);
        }
        let Some(step) = self.values.next_step(entries)? else { return Ok(()) };
        for entry in &step.entries {
            for place in [&entry.current, &entry.old] {
                let Some(pointer) =
                    self.pointer(place)?.filter(|pointer| entry.is_at(&step.segment, pointer))
                else {
                    continue;
                };
                let record = values::read(&self.values.segments(), &pointer)?;
                debug_assert_eq!(entry.key().len(), pointer.key_len as usize);
                self.append(place, &[&record])?;
                self.put_scratch(place)?;
            }
        }
        Ok(())
    }
}

/// A key as it is now.
pub(crate) struct Current<'r> {
    pub key: &'r [u8],
    /// Without its value where that is apart.
    pub record: Record<'r>,
    pub apart: Option<Pointer>,
}

impl<'r> Current<'r> {
    fn parse(key: &'r [u8], raw: &'r [u8]) -> Result<Self, StateError> {
        let (record, apart) = match values::parse(key, raw)? {
            Physical::Whole(record) => (record, None),
            Physical::Apart { head, pointer } => (&head[values::skipped(key)..], Some(pointer)),
        };
        Ok(Self { key: &key[1..], record: Record::parse(record)?, apart })
    }
}

impl View {
    /// Visits the keys of a range as they are now, in order, until `visit` breaks. Values that are apart are not read.
    pub(crate) fn currents(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Current<'_>) -> Result<ControlFlow<()>, StateError>,
    ) -> Result<(), StateError> {
        if let KeyRange::One(key) = range {
            let place = layout::current(key);
            return self.stack.raw(&place, |raw| {
                let current = raw.map(|raw| Current::parse(&place, raw)).transpose()?;
                current.map_or(Ok(()), |current| visit(current).map(drop))
            })?;
        }
        let (from, to) = layout::current_bounds(range);
        walk(&self.stack, &self.stack.places(), (&from, &to), false, &mut |key, raw| {
            visit(Current::parse(key, raw)?)
        })
    }

    /// Where the values are that this points to.
    pub(crate) fn segments(&self) -> Arc<Segments> {
        self.stack.segments.clone()
    }
}

#[cfg(test)]
impl Change<'_> {
    /// Puts a record as programs before format 3 did.
    pub(crate) fn put_whole(&mut self, key: &[u8], record: &[u8]) {
        self.insert(key, record);
    }
}

#[cfg(test)]
impl View {
    /// All that points to a value.
    pub(crate) fn pointers(&self) -> Vec<Pointer> {
        let mut pointers = Vec::new();
        let all = (&b"\x01"[..], &b"\xff"[..]);
        walk(&self.stack, &self.stack.places(), all, false, &mut |key, raw| {
            pointers.extend(values::pointer_at(key, raw)?);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        pointers
    }
}

/// A record that a scan has come to.
struct Found<'r, 'c, 's> {
    physical: Physical<'r>,
    /// Bytes that an old record begins with and this one does not.
    skipped: usize,
    cursor: &'c mut Cursor<&'s Segments>,
}

impl Stored for Found<'_, '_, '_> {
    fn head(&self) -> &[u8] {
        match self.physical {
            Physical::Whole(record) => record,
            Physical::Apart { head, .. } => &head[self.skipped..],
        }
    }

    fn whole(&mut self) -> Result<&[u8], StateError> {
        match &self.physical {
            Physical::Whole(record) => Ok(record),
            Physical::Apart { pointer, .. } => Ok(&self.cursor.record(pointer)?[self.skipped..]),
        }
    }
}

/// A record that was looked up.
enum Looked {
    /// Its beginning, or all of it.
    There(Bytes),
    Apart(Pointer),
}

/// What is at a key, `whole` or its beginning.
fn look(key: &[u8], raw: Option<&[u8]>, whole: bool) -> Result<Option<Looked>, StateError> {
    let Some(raw) = raw else { return Ok(None) };
    Ok(Some(match values::parse(key, raw)? {
        Physical::Whole(record) => Looked::There(Bytes::copy_from_slice(record)),
        Physical::Apart { pointer, .. } if whole => Looked::Apart(pointer),
        Physical::Apart { head, .. } => Looked::There(Bytes::copy_from_slice(&head[values::skipped(key)..])),
    }))
}

/// The record that was looked up, its value read where that is apart.
fn fetch(
    key: &[u8],
    looked: Option<Looked>,
    segments: impl FnOnce() -> Arc<Segments>,
) -> Result<Option<Bytes>, StateError> {
    Ok(match looked {
        None => None,
        Some(Looked::There(record)) => Some(record),
        Some(Looked::Apart(pointer)) => {
            let record = Bytes::from(values::read(&segments(), &pointer)?);
            Some(record.slice(values::skipped(key)..))
        }
    })
}

type VisitRaw<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StateError>;

/// Visits what the tree is to have between two keys, in order.
fn walk(
    stack: &Stack,
    places: &[Place<'_>],
    (from, to): (&[u8], &[u8]),
    reverse: bool,
    visit: VisitRaw<'_>,
) -> Result<(), StateError> {
    if from >= to {
        return Ok(());
    }
    let mut range = stack.table()?.range::<&[u8]>(from..to).map_err(storage)?;
    let mut changes = Changes::new(places, (from, to), reverse);
    loop {
        let next = if reverse { range.next_back() } else { range.next() };
        let next = next.transpose().map_err(storage)?;
        let at = next.as_ref().map(|(key, _)| key.value());
        let mut changed = false;
        while let Some(change) = changes.next_upto(at) {
            changed |= at == Some(&change.key);
            if let Some(raw) = &change.record
                && visit(&change.key, raw)?.is_break()
            {
                return Ok(());
            }
        }
        match &next {
            None => return Ok(()),
            Some(_) if changed => {}
            Some((key, raw)) if visit(key.value(), raw.value())?.is_break() => return Ok(()),
            Some(_) => {}
        }
    }
}

fn scan(
    stack: &Stack,
    places: &[Place<'_>],
    segments: &Segments,
    bounds: (&[u8], &[u8]),
    reverse: bool,
    visit: Visit<'_>,
) -> Result<(), StateError> {
    let mut cursor = Cursor::new(segments);
    walk(stack, places, bounds, reverse, &mut |key, raw| {
        if key.starts_with(values::ROWS) {
            return Ok(ControlFlow::Continue(()));
        }
        let physical = values::parse(key, raw)?;
        let mut found = Found { physical, skipped: values::skipped(key), cursor: &mut cursor };
        visit(key, &mut found)
    })
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let looked = self.stack.raw(key, |raw| look(key, raw, true))??;
        fetch(key, looked, || self.stack.segments.clone())
    }
    fn head(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let looked = self.stack.raw(key, |raw| look(key, raw, false))??;
        fetch(key, looked, || self.stack.segments.clone())
    }
    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<(), StateError> {
        scan(&self.stack, &self.stack.places(), &self.stack.segments, (from, to), reverse, visit)
    }
}

impl Reader for Change<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let looked = self.raw(key, |raw| look(key, raw, true))??;
        fetch(key, looked, || self.values.segments())
    }
    fn head(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let looked = self.raw(key, |raw| look(key, raw, false))??;
        fetch(key, looked, || self.values.segments())
    }
    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<(), StateError> {
        scan(&self.stack, &self.places(), &self.values.segments(), (from, to), reverse, visit)
    }
}

impl State for Change<'_> {
    fn put(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<(), StateError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if values::is_versioned(key) {
            let tag = layout::event_tag(true);
            let tag = &tag[..values::skipped(key)];
            if tag.len() + len >= HEAD_BYTES + values::APART_MIN {
                let record: Vec<&[u8]> = [tag].into_iter().chain(parts.iter().copied()).collect();
                self.append(key, &record)?;
            } else {
                self.scratch.clear();
                parts.iter().for_each(|part| self.scratch.extend_from_slice(part));
            }
            return self.put_scratch(key);
        }
        let record: Vec<u8> = parts.concat();
        self.batch.insert(key.into(), Some(record.into_boxed_slice()));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StateError> {
        let before = self.pointer(key)?;
        self.seen.get_mut().forget(key);
        self.batch.insert(key.into(), None);
        self.left(key, before);
        Ok(())
    }

    fn supersede(&mut self, current: &[u8], old: &[u8]) -> Result<(), StateError> {
        let (moved, apart) = self.raw(current, |raw| {
            let raw =
                raw.ok_or_else(|| StateError::Corrupt(format!("nothing is at {}", current.escape_ascii())))?;
            let apart = matches!(values::parse(current, raw)?, Physical::Apart { .. });
            let tag = layout::event_tag(true);
            let tag = if apart { &[][..] } else { &tag };
            Ok::<_, StateError>(([tag, raw].concat().into_boxed_slice(), apart))
        })??;
        // A version gets a place of its own, where nothing was before.
        debug_assert_eq!(self.raw(old, |raw| raw.is_none()), Ok(true));
        self.batch.insert(old.into(), Some(moved));
        self.moved = apart.then(|| current.to_vec());
        Ok(())
    }
}
