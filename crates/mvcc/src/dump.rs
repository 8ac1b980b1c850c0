//! The state as a row of versions in the order they were made, and back: what etcd's snapshots hold.
//!
//! ```text
//! below the compacted revision   the one version of each key that is visible there     visible_at_bar, unsorted
//! from it on                     every put and delete                                  events_from, in order
//! ```
//! Loading takes both in order and leaves the state as the same history would have, once swept.

use std::ops::ControlFlow;

use store_api::{KeyValue, LeaseId, Revision};

use crate::read::{self, current};
use crate::{Reader, State, StateError, Stored, layout};

/// Called with a version's revision and key.
pub type OnVersion<'a, E> = &'a mut dyn FnMut(Revision, &[u8]) -> Result<(), E>;
/// Called with an event's revision, its place within it, whether it is a put, and the key.
pub type OnEvent<'a, E> = &'a mut dyn FnMut(Revision, u32, bool, &[u8]) -> Result<(), E>;

/// Visits the versions below the compacted revision that a read at it sees: (mod revision, key), in no useful order.
///
/// # Errors
/// When the state fails; or what `visit` answers.
pub fn visible_at_bar<E: From<StateError>>(state: &impl Reader, visit: OnVersion<'_, E>) -> Result<(), E> {
    let bar = read::compacted(state)?;
    scan(state, (&[layout::CURRENT], &[layout::CURRENT + 1]), |raw, stored| {
        let revision = layout::mod_revision(stored.head())?;
        if revision < bar { visit(revision, &raw[1..]) } else { Ok(()) }
    })?;
    let mut last: Option<Old> = None;
    let mut seen = |old: Old| match old.is_visible(state, bar)? {
        true => visit(old.revision, &old.key),
        false => Ok(()),
    };
    scan(state, (&[layout::OLD], &[layout::OLD + 1]), |raw, stored| {
        let (key, revision) = layout::parse_old(raw)?;
        if let Some(done) = last.take_if(|last| last.key != key) {
            seen(done)?;
        }
        if revision <= bar {
            last = Some(Old { key, revision, put: layout::is_version(stored.head())? });
        }
        Ok::<_, E>(())
    })?;
    last.map_or(Ok(()), seen)
}

/// An old record.
pub(crate) struct Old {
    pub key: Vec<u8>,
    pub revision: Revision,
    pub put: bool,
}

impl Old {
    /// Whether the last old record of a key up to the bar is seen there, and not as an event: a put below it that
    /// nothing replaced by then.
    pub(crate) fn is_visible(&self, state: &impl Reader, bar: Revision) -> Result<bool, StateError> {
        if !self.put || self.revision == bar {
            return Ok(false);
        }
        let now = state.head(&layout::current(&self.key))?;
        let replaced = now.map(|record| layout::mod_revision(&record)).transpose()?;
        Ok(replaced.is_none_or(|at| at > bar))
    }
}

/// Runs `visit` over a scan; an error of its own kind ends it.
pub(crate) fn scan<E: From<StateError>>(
    state: &impl Reader,
    (from, to): (&[u8], &[u8]),
    mut visit: impl FnMut(&[u8], &mut dyn Stored) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    state.scan(from, to, false, &mut |key, stored| {
        failed = visit(key, stored).err();
        Ok(if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    failed.map_or(Ok(()), Err)
}

/// Visits what happened from the compacted revision on, in order: (revision, place within it, whether a put, key).
///
/// # Errors
/// When the state fails; or what `visit` answers.
pub fn events_from<E: From<StateError>>(state: &impl Reader, visit: OnEvent<'_, E>) -> Result<(), E> {
    let bar = read::compacted(state)?;
    scan(state, (&layout::history(bar, 0), &[layout::HISTORY + 1]), |raw, stored| {
        let (revision, sub) = layout::parse_history_place(raw)?;
        let (put, key) = layout::parse_event(stored.whole()?)?;
        visit(revision, sub, put, key)
    })
}

/// A version that [`visible_at_bar`] or [`events_from`] named.
///
/// # Errors
/// `Corrupt` when it is not there; or the state's.
pub fn version(state: &impl Reader, key: &[u8], revision: Revision) -> Result<KeyValue, StateError> {
    if let Some(kv) = current(state, key)?.filter(|kv| kv.mod_revision == revision) {
        return Ok(kv);
    }
    let record = state.get(&layout::old(key, revision))?;
    let kv = record.map(|record| layout::parse_old_record(key, &record, true)).transpose()?;
    kv.flatten()
        .ok_or_else(|| StateError::Corrupt(format!("no version of {} at {revision}", key.escape_ascii())))
}

/// Takes up a history in order, into an empty state.
#[derive(Debug)]
pub struct Load {
    /// What is compacted already in the history that comes.
    bar: Revision,
    revision: Revision,
}

impl Load {
    /// A history compacted at `bar` (0: not at all).
    #[must_use]
    pub fn new(bar: Revision) -> Self {
        Self { bar, revision: bar.max(Revision(1)) }
    }

    /// The last revision so far.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// A version made at `kv.mod_revision`, the `sub`th change there.
    ///
    /// # Errors
    /// When the state fails.
    pub fn put(&mut self, state: &mut impl State, sub: u32, kv: &KeyValue) -> Result<(), StateError> {
        let old = self.replace(state, &kv.key, kv.mod_revision)?;
        let before = old.map_or(LeaseId(0), |old| old.lease);
        move_lease(state, &kv.key, before, kv.lease)?;
        state.put(&layout::current(&kv.key), &[&layout::meta(kv), &kv.value])?;
        self.note(state, kv.mod_revision, sub, true, &kv.key)
    }

    /// A delete.
    ///
    /// # Errors
    /// When the state fails.
    pub fn delete(
        &mut self,
        state: &mut impl State,
        revision: Revision,
        sub: u32,
        key: &[u8],
    ) -> Result<(), StateError> {
        let old = self.replace(state, key, revision)?;
        move_lease(state, key, old.map_or(LeaseId(0), |old| old.lease), LeaseId(0))?;
        state.delete(&layout::current(key))?;
        if revision >= self.bar {
            state.put(&layout::old(key, revision), &[&layout::event_tag(false)])?;
        }
        self.note(state, revision, sub, false, key)
    }

    /// A lease of `ttl_s` seconds.
    ///
    /// # Errors
    /// When the state fails.
    pub fn lease(&self, state: &mut impl State, id: LeaseId, ttl_s: i64) -> Result<(), StateError> {
        state.put(&layout::lease(id), &[&ttl_s.to_be_bytes()])
    }

    /// A revision at which nothing happened that is still known.
    pub fn pass(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Writes down how far history goes; `compacted` may be above what was said at the start, and is swept later then.
    ///
    /// # Errors
    /// When the state fails.
    pub fn finish(self, state: &mut impl State, compacted: Revision) -> Result<(), StateError> {
        // An empty store is at 1 and says nothing of it.
        if self.revision.get() > 1 {
            state.put(layout::META_REVISION, &[&self.revision.get().to_be_bytes()])?;
        }
        if self.bar.get() > 0 {
            state.put(layout::META_SWEPT, &[&self.bar.get().to_be_bytes()])?;
        }
        let compacted = compacted.max(self.bar);
        if compacted.get() > 0 {
            state.put(layout::META_COMPACTED, &[&compacted.get().to_be_bytes()])?;
        }
        Ok(())
    }

    /// What a change at `revision` replaces; kept as history where that is still to be seen.
    fn replace(
        &self,
        state: &mut impl State,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<KeyValue>, StateError> {
        let old = current(state, key)?;
        if let Some(old) = &old
            && revision > self.bar
        {
            let parts = [&layout::event_tag(true)[..], &layout::meta(old), &old.value];
            state.put(&layout::old(key, old.mod_revision), &parts)?;
        }
        Ok(old)
    }

    fn note(
        &mut self,
        state: &mut impl State,
        revision: Revision,
        sub: u32,
        put: bool,
        key: &[u8],
    ) -> Result<(), StateError> {
        self.pass(revision);
        if revision < self.bar {
            return Ok(());
        }
        state.put(&layout::history(revision, sub), &[&layout::event_tag(put), key])
    }
}

fn move_lease(state: &mut impl State, key: &[u8], from: LeaseId, to: LeaseId) -> Result<(), StateError> {
    if from != to && from.get() != 0 {
        state.delete(&layout::attached(from, key))?;
    }
    if from != to && to.get() != 0 {
        state.put(&layout::attached(to, key), &[])?;
    }
    Ok(())
}

/// A key and value out of a stranger's snapshot makes sense.
#[must_use]
pub fn is_plausible(kv: &KeyValue) -> bool {
    let (created, changed) = (kv.create_revision.get(), kv.mod_revision.get());
    !kv.key.is_empty() && created > 0 && created <= changed && kv.version > 0
}
