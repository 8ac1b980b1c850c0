//! Whether what a watch delivered is what happened.

use std::collections::BTreeMap;

use bytes::Bytes;
use store_api::{KeyRange, Revision};

use super::{Call, History, Violation};

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Changes, in the order they were delivered.
    Events(Vec<SeenEvent>),
    /// "Everything up to here has been delivered."
    Progress(Revision),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEvent {
    pub key: Bytes,
    /// None for a delete.
    pub value: Option<Bytes>,
    pub revision: Revision,
}

/// Checks what a watch on `range` from `start` delivered (over reconnections, when it resumed) against a history.
///
/// In order and without repetition; whole revisions in one message; nothing that nobody wrote; every acknowledged write
/// of the range between `start` and the last revision delivered, or `until` where the run waited for that, is there.
///
/// # Errors
/// The first [`Violation::Watch`] found.
pub fn check_watch(
    history: &History,
    range: &KeyRange,
    start: Revision,
    until: Option<Revision>,
    messages: &[Seen],
) -> Result<(), Violation> {
    let fail = |text: String| Err(Violation::Watch(text));
    let acknowledged = history.acknowledged();
    let mut delivered: BTreeMap<(Bytes, Revision), Option<Bytes>> = BTreeMap::new();
    let mut last = Revision(start.get() - 1);
    for message in messages {
        let events = match message {
            Seen::Progress(revision) if *revision < last => {
                return fail(format!("progress {revision} after {last}"));
            }
            Seen::Progress(revision) => {
                last = *revision;
                continue;
            }
            Seen::Events(events) => events,
        };
        let before = last;
        for event in events {
            if event.revision <= before || event.revision < last {
                return fail(format!("after revision {last} (message after {before}) came {event:?}"));
            }
            last = event.revision;
            check_event(history, range, &acknowledged, event)?;
            let place = (event.key.clone(), event.revision);
            if delivered.insert(place, event.value.clone()).is_some() {
                return fail(format!("twice in one message: {event:?}"));
            }
        }
    }
    let reached = until.map_or(last, |until| last.max(until));
    for ((key, revision), value) in &acknowledged {
        let expected = range.contains(key) && *revision >= start && *revision <= reached;
        if expected && !delivered.contains_key(&(key.clone(), *revision)) {
            return fail(format!("revision {revision} of {key:?} ({value:?}) is missing up to {reached}"));
        }
    }
    Ok(())
}

/// The event is in the range and is what somebody wrote, or may have written without an answer.
fn check_event(
    history: &History,
    range: &KeyRange,
    acknowledged: &BTreeMap<(Bytes, Revision), Option<Bytes>>,
    event: &SeenEvent,
) -> Result<(), Violation> {
    if !range.contains(&event.key) {
        return Err(Violation::Watch(format!("outside of the range: {event:?}")));
    }
    if let Some(value) = acknowledged.get(&(event.key.clone(), event.revision)) {
        let same = *value == event.value;
        return if same {
            Ok(())
        } else {
            Err(Violation::Watch(format!("{value:?} was written: {event:?}")))
        };
    }
    let explained =
        history.operations().iter().filter(|operation| operation.reply.is_none()).any(|operation| {
            match (&operation.call, &event.value) {
                (Call::Put { key, value } | Call::Cas { key, value, .. }, Some(seen)) => {
                    *key == event.key && value == seen
                }
                (Call::Delete { key }, None) => *key == event.key,
                _ => false,
            }
        });
    if explained { Ok(()) } else { Err(Violation::Watch(format!("nobody wrote that: {event:?}"))) }
}
