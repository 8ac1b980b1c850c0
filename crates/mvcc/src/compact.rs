//! Cleaning up below the compacted revision.
//!
//! A compaction entry only moves the bar: reads and watches below it are refused at once. The records are removed here,
//! a few at a time, when the room has nothing better to do; how far that has come is part of the state.

use std::ops::ControlFlow;

use store_api::Revision;

use crate::read::{self, try_scan};
use crate::{Reader, State, StateError, layout};

/// Removes what no read at or above the compacted revision can see: looks at about `budget` events. True when there is
/// more to do.
///
/// # Errors
/// When the state fails.
pub fn sweep(state: &mut impl State, budget: usize) -> Result<bool, StateError> {
    Ok(sweep_counted(state, budget)?.is_some_and(|swept| swept.more))
}

/// What a step of sweeping came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// There is more to do.
    pub more: bool,
    /// Versions of keys that were removed, deletes among them.
    pub versions: u64,
}

/// The same, counted; None when nothing was to be done.
///
/// # Errors
/// When the state fails.
pub fn sweep_counted(state: &mut impl State, budget: usize) -> Result<Option<Swept>, StateError> {
    let bar = read::compacted(state)?;
    let from = read::number(state, layout::META_SWEPT)?.map_or(Revision(0), Revision);
    if from >= bar {
        return Ok(None);
    }
    let mut versions = 0;
    let (events, next) = events_upto(state, from, bar, budget)?;
    for (raw, revision, put, key) in events {
        versions += sweep_versions(state, &key, revision)?;
        // What happened at the bar itself stays visible, a delete too.
        if revision < bar {
            state.delete(&raw)?;
            if !put {
                versions += 1;
                state.delete(&layout::old(&key, revision))?;
            }
        }
    }
    state.put(layout::META_SWEPT, &[&next.get().to_be_bytes()])?;
    Ok(Some(Swept { more: next < bar, versions }))
}

type Change = (Vec<u8>, Revision, bool, Vec<u8>);

/// Events from `from` up to and with `bar`, revisions whole, and where to go on.
fn events_upto(
    state: &impl Reader,
    from: Revision,
    bar: Revision,
    budget: usize,
) -> Result<(Vec<Change>, Revision), StateError> {
    let (mut events, mut next): (Vec<Change>, _) = (Vec::new(), bar);
    let bounds = (&layout::history(from, 0)[..], &layout::history(bar.next(), 0)[..]);
    try_scan(state, bounds, false, |raw, record| {
        let revision = layout::parse_history(raw)?;
        let last = events.last().map(|(_, revision, ..)| *revision);
        // To have come to the bar means to be done, so what happened there belongs to the step that gets there.
        if events.len() >= budget && last != Some(revision) && revision != bar {
            next = revision;
            return Ok(ControlFlow::Break(()));
        }
        let (put, key) = layout::parse_event(record)?;
        events.push((raw.to_vec(), revision, put, key.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((events, next))
}

/// Removes versions of a key that a change at `revision` replaced, tombstones included; how many.
fn sweep_versions(state: &mut impl State, key: &[u8], revision: Revision) -> Result<u64, StateError> {
    let mut gone = Vec::new();
    let bounds = (&layout::old_prefix(key)[..], &layout::old(key, revision)[..]);
    state.scan(bounds.0, bounds.1, false, &mut |raw, _| {
        gone.push(raw.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    gone.iter().try_for_each(|raw| state.delete(raw))?;
    Ok(gone.len() as u64)
}
