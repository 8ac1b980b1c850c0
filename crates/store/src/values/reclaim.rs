//! Which segments are mostly dead, and what in them is not.
//!
//! A step looks at a few entries of one segment. Each says whose it is: it is live where the tree points to it from that
//! key, now or at that revision, and is appended anew then. How far that has come is not written down: what was moved is
//! dead where it was, so another beginning skips it.

use std::sync::Arc;

use mvcc::{StateError, layout};

use super::cursor::{Window, damaged};
use super::segment::{ENTRY_HEAD_BYTES, EntryHead, Segment};
use super::{HEAD_BYTES, Inner, Pointer, Row, Values};

/// Read of a segment at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of entries that one step looks at.
const STEP_BYTES: u64 = 512 * 1024;

/// An entry of a segment.
#[derive(Debug)]
pub(crate) struct Entry {
    pub offset: u64,
    /// Where the tree may point to it from.
    pub current: Vec<u8>,
    pub old: Vec<u8>,
}

/// Entries that are to be looked at, and what to do when that is done.
pub(crate) struct Step {
    pub segment: Arc<Segment>,
    pub entries: Vec<Entry>,
    next: u64,
}

impl Values {
    /// Whether something can be done for space.
    pub(crate) fn wants_reclaim(&self) -> bool {
        let inner = self.inner.lock();
        let current = inner.current.as_ref().map(|segment| segment.id);
        let moves = !is_stuck(&inner);
        let wanted = |(id, row): (&u32, &Row)| row.live == 0 || (moves && is_poor(&inner, *id, row));
        inner.rows.iter().any(|(id, row)| Some(*id) != current && wanted((id, row)))
    }

    /// Segments without anything live, which nothing is appended to.
    pub(crate) fn dead(&self) -> Vec<u32> {
        let inner = self.inner.lock();
        let current = inner.current.as_ref().map(|segment| segment.id);
        let dead = inner.rows.iter().filter(|(id, row)| Some(**id) != current && row.live == 0);
        dead.map(|(id, _)| *id).collect()
    }

    /// The next entries of the segment with the least live bytes, if one is mostly dead.
    pub(crate) fn next_step(&self, entries: usize) -> Result<Option<Step>, StateError> {
        let Some((segment, from, end)) = self.pick() else { return Ok(None) };
        let mut step = Step { segment, entries: Vec::new(), next: from };
        let mut window = Window::default();
        while step.entries.len() < entries && step.next < end && step.next - from < STEP_BYTES {
            match entry(&step.segment, step.next, end, &mut window) {
                Ok((entry, next)) => {
                    step.entries.push(entry);
                    step.next = next;
                }
                Err(StateError::Corrupt(text)) => {
                    // Whatever is live in it has checksums of its own.
                    tracing::error!(text, "space that values have left is not reclaimed");
                    self.inner.lock().spared.insert(step.segment.id);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.inner.lock().victim = Some((step.segment.id, step.next));
        Ok(Some(step))
    }

    /// A segment, from where on its entries were not looked at, and its end.
    fn pick(&self) -> Option<(Arc<Segment>, u64, u64)> {
        let mut inner = self.inner.lock();
        if is_stuck(&inner) {
            return None;
        }
        if let Some((id, at)) = inner.victim {
            let row = inner.rows.get(&id).copied();
            match row.filter(|row| row.live > 0) {
                Some(row) if at < row.end && !inner.spared.contains(&id) => {
                    let segment = self.segments.read().get(&id).cloned()?;
                    return Some((segment, at, row.end));
                }
                Some(_) => {
                    // Looked through, and something is live of which it does not know.
                    inner.spared.insert(id);
                    inner.victim = None;
                }
                None => inner.victim = None,
            }
        }
        let current = inner.current.as_ref().map(|segment| segment.id);
        let poor = inner
            .rows
            .iter()
            .filter(|(id, row)| Some(**id) != current && row.live > 0 && is_poor(&inner, **id, row));
        let (id, row) = poor.min_by_key(|(_, row)| row.live)?;
        let segment = self.segments.read().get(id).cloned()?;
        Some((segment, 0, row.end))
    }
}

/// Whether the disk is full: what is moved would be kept in memory.
fn is_stuck(inner: &Inner) -> bool {
    inner.current.as_ref().is_some_and(|segment| segment.is_stuck())
}

/// Whether less than half of a segment is live.
fn is_poor(inner: &Inner, id: u32, row: &Row) -> bool {
    row.live * 2 < row.end && !inner.spared.contains(&id)
}

/// The entry at `offset`, and where the next one begins.
fn entry(segment: &Segment, offset: u64, end: u64, window: &mut Window) -> Result<(Entry, u64), StateError> {
    let wrong = || damaged(segment, offset);
    if end - offset < ENTRY_HEAD_BYTES as u64 {
        return Err(wrong());
    }
    let head = window.bytes(segment, offset, ENTRY_HEAD_BYTES, READ_BYTES)?;
    let head = EntryHead::parse(head).ok_or_else(wrong)?;
    if head.bytes() > end - offset || (head.record_len as usize) < HEAD_BYTES {
        return Err(wrong());
    }
    let (key_at, key_len) = (offset + ENTRY_HEAD_BYTES as u64, head.key_len as usize);
    let bytes = window.bytes(segment, key_at, key_len + HEAD_BYTES, READ_BYTES)?;
    let (key, record) = bytes.split_at(key_len);
    if !head.is_of(key) {
        return Err(wrong());
    }
    let revision = layout::mod_revision(&record[1..])?;
    let entry = Entry { offset, current: layout::current(key), old: layout::old(key, revision) };
    Ok((entry, offset + head.bytes()))
}

impl Entry {
    /// The key itself.
    pub(crate) fn key(&self) -> &[u8] {
        &self.current[1..]
    }

    pub(crate) fn is_at(&self, segment: &Segment, pointer: &Pointer) -> bool {
        pointer.segment == segment.id && u64::from(pointer.offset) == self.offset
    }
}
