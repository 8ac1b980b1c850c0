//! Transactions: mvcc's map over the tree and the values apart from it.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use mvcc::{Reader, State, StateError, Stored, Visit, layout};
use redb::{ReadOnlyTable, ReadableTable, Table};

use super::{APPLIED, AppliedIndex, Live, MEMBERS, Raw, storage};
use crate::values::{self, Cursor, HEAD_BYTES, Ledger, Physical, Segments, Values};

/// A read transaction.
pub(crate) struct View {
    pub(super) table: ReadOnlyTable<Raw, Raw>,
    pub(super) segments: Arc<Segments>,
    /// Dropped last: the file is closed with it.
    pub(super) _live: Arc<Live>,
}

/// A write transaction.
pub(crate) struct Change<'t> {
    table: Table<'t, Raw, Raw>,
    values: &'t Values,
    ledger: Ledger,
    /// What was moved from here is still pointed to from here, but lives elsewhere.
    moved: Option<Vec<u8>>,
    /// A record as it goes into the tree.
    scratch: Vec<u8>,
    /// The version that was read last, as the tree has it: what is read is often moved next.
    seen: RefCell<Seen>,
}

/// What the tree has at a key; nothing in the beginning.
#[derive(Default)]
struct Seen {
    key: Vec<u8>,
    raw: Vec<u8>,
}

impl Seen {
    fn note(&mut self, key: &[u8], raw: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.raw.clear();
        self.raw.extend_from_slice(raw);
    }

    /// Something else is at the key from now on.
    fn forget(&mut self, key: &[u8]) {
        if self.key == key {
            self.key.clear();
        }
    }
}

impl<'t> Change<'t> {
    pub(super) fn new(table: Table<'t, Raw, Raw>, values: &'t Values) -> Self {
        Self {
            table,
            values,
            ledger: Ledger::default(),
            moved: None,
            scratch: Vec::new(),
            seen: RefCell::default(),
        }
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
    pub(super) fn finish(mut self) -> Result<Ledger, StateError> {
        if let Some(key) = &self.moved {
            let key = key.escape_ascii();
            return Err(StateError::Corrupt(format!("{key} was moved, and is still there")));
        }
        for (id, row) in self.values.rows(&mut self.ledger)? {
            self.table.insert(&values::Row::key(id)[..], &row.encode()[..]).map_err(storage)?;
        }
        Ok(self.ledger)
    }

    /// Puts what is in `scratch` at the key of a version.
    fn put_scratch(&mut self, key: &[u8]) -> Result<(), StateError> {
        self.seen.get_mut().forget(key);
        let before = self.table.insert(key, &self.scratch[..]).map_err(storage)?;
        let before = before.map(|raw| values::pointer_at(key, raw.value())).transpose()?.flatten();
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
            self.table.remove(&values::Row::key(id)[..]).map_err(storage)?;
            self.ledger.forget(id);
        }
        let Some(step) = self.values.next_step(entries)? else { return Ok(()) };
        for entry in &step.entries {
            for place in [&entry.current, &entry.old] {
                let raw = self.table.get(&place[..]).map_err(storage)?;
                let pointer = raw.map(|raw| values::pointer_at(place, raw.value())).transpose()?.flatten();
                let Some(pointer) = pointer.filter(|pointer| entry.is_at(&step.segment, pointer)) else {
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

#[cfg(test)]
impl Change<'_> {
    /// Puts a record as programs before format 3 did.
    pub(crate) fn put_whole(&mut self, key: &[u8], record: &[u8]) {
        self.table.insert(key, record).unwrap();
    }
}

#[cfg(test)]
impl View {
    /// All that points to a value.
    pub(crate) fn pointers(&self) -> Vec<values::Pointer> {
        let all = self.table.range::<&[u8]>(&b"\x01"[..]..).unwrap();
        let pointer = |entry: Result<(redb::AccessGuard<'_, Raw>, redb::AccessGuard<'_, Raw>), _>| {
            let (key, raw) = entry.unwrap();
            values::pointer_at(key.value(), raw.value()).unwrap()
        };
        all.filter_map(pointer).collect()
    }
}

/// A record that a scan has come to.
struct Found<'r, 'c, 's> {
    physical: Physical<'r>,
    /// Bytes that an old record begins with and this one does not.
    skipped: usize,
    cursor: &'c mut Cursor<'s>,
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

fn get(
    table: &impl ReadableTable<Raw, Raw>,
    segments: impl FnOnce() -> Arc<Segments>,
    key: &[u8],
    whole: bool,
    note: impl FnOnce(&[u8]),
) -> Result<Option<Bytes>, StateError> {
    let Some(guard) = table.get(key).map_err(storage)? else { return Ok(None) };
    note(guard.value());
    match values::parse(key, guard.value())? {
        Physical::Whole(record) => Ok(Some(Bytes::copy_from_slice(record))),
        Physical::Apart { pointer, .. } if whole => {
            let record = Bytes::from(values::read(&segments(), &pointer)?);
            Ok(Some(record.slice(values::skipped(key)..)))
        }
        Physical::Apart { head, .. } => Ok(Some(Bytes::copy_from_slice(&head[values::skipped(key)..]))),
    }
}

fn scan(
    table: &impl ReadableTable<Raw, Raw>,
    segments: &Segments,
    (from, to): (&[u8], &[u8]),
    reverse: bool,
    visit: Visit<'_>,
) -> Result<(), StateError> {
    if from >= to {
        return Ok(());
    }
    let mut cursor = Cursor::new(segments);
    let mut range = table.range::<&[u8]>(from..to).map_err(storage)?;
    while let Some(entry) = if reverse { range.next_back() } else { range.next() } {
        let (key, raw) = entry.map_err(storage)?;
        let key = key.value();
        if key.starts_with(values::ROWS) {
            continue;
        }
        let physical = values::parse(key, raw.value())?;
        let mut found = Found { physical, skipped: values::skipped(key), cursor: &mut cursor };
        if visit(key, &mut found)?.is_break() {
            break;
        }
    }
    Ok(())
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(&self.table, || self.segments.clone(), key, true, |_| {})
    }
    fn head(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(&self.table, || self.segments.clone(), key, false, |_| {})
    }
    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<(), StateError> {
        scan(&self.table, &self.segments, (from, to), reverse, visit)
    }
}

impl Reader for Change<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(
            &self.table,
            || self.values.segments(),
            key,
            true,
            |raw| {
                if key.first() == Some(&layout::CURRENT) {
                    self.seen.borrow_mut().note(key, raw);
                }
            },
        )
    }
    fn head(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(&self.table, || self.values.segments(), key, false, |_| {})
    }
    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<(), StateError> {
        scan(&self.table, &self.values.segments(), (from, to), reverse, visit)
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
        let mut place = self.table.insert_reserve(key, len).map_err(storage)?;
        let mut rest = place.as_mut();
        for part in parts {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StateError> {
        self.seen.get_mut().forget(key);
        let before = self.table.remove(key).map_err(storage)?;
        let before = before.map(|raw| values::pointer_at(key, raw.value())).transpose()?.flatten();
        self.left(key, before);
        Ok(())
    }

    fn supersede(&mut self, current: &[u8], old: &[u8]) -> Result<(), StateError> {
        if self.seen.get_mut().key != current {
            let found = self.table.get(current).map_err(storage)?;
            let nothing = || StateError::Corrupt(format!("nothing is at {}", current.escape_ascii()));
            self.seen.get_mut().note(current, found.ok_or_else(nothing)?.value());
        }
        let raw = &self.seen.get_mut().raw;
        let apart = matches!(values::parse(current, raw)?, Physical::Apart { .. });
        self.scratch.clear();
        if !apart {
            self.scratch.extend_from_slice(&layout::event_tag(true));
        }
        self.scratch.extend_from_slice(raw);
        self.put_scratch(old)?;
        self.moved = apart.then(|| current.to_vec());
        Ok(())
    }
}
