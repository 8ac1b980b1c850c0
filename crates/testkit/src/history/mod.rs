//! Histories: what clients asked of a store and what it answered, and whether one store could have answered so.
//!
//! ```text
//!  client ── let id = recorder.call(client, Call::Put { .. }) ──▶ store
//!  client ◀── recorder.reply(id, Reply::Put { revision }) ◀────── answer   (or Failed, or nothing: unknown for ever)
//!                            │
//!                            ▼ recorder.finish()
//!  History::check ── per key: is there an order of the operations, each between its call and its reply, that a
//!                    register with revisions allows (after Wing and Gong, with Lowe's memory of what was tried)?
//!                 ── over all keys: revisions never run backwards in real time, no two writes share one, a read at
//!                    revision R sees the last acknowledged write at or below R
//!  check_watch ───── a watch saw every acknowledged write of its range once, in order, whole revisions at a time
//! ```
//! Values of puts must differ from each other: a value names its write. Transactions over several keys are not in the
//! model; their parts may be recorded as writes of one revision with [`Recorder::shared_revision`].

mod linear;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use parking_lot::Mutex;
use store_api::Revision;

pub use watch::{Seen, SeenEvent, check_watch};

/// What a client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A linearizable read.
    Get { key: Bytes },
    /// A write.
    Put { key: Bytes, value: Bytes },
    /// A delete, asking what was there.
    Delete { key: Bytes },
    /// A put if the key was last written at `expect` (0: does not exist), else a read of it.
    Cas { key: Bytes, expect: Revision, value: Bytes },
}

impl Call {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Get { key } | Self::Put { key, .. } | Self::Delete { key } | Self::Cas { key, .. } => key,
        }
    }

    /// The value it would write.
    fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Put { value, .. } | Self::Cas { value, .. } => Some(value),
            Self::Get { .. } | Self::Delete { .. } => None,
        }
    }
}

/// A key as an answer showed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Found {
    pub value: Bytes,
    pub mod_revision: Revision,
}

/// What the store answered. `revision` is the header's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Get {
        revision: Revision,
        found: Option<Found>,
    },
    Put {
        revision: Revision,
    },
    /// `previous` is what was deleted; None deleted nothing.
    Delete {
        revision: Revision,
        previous: Option<Found>,
    },
    /// `Ok` wrote at `revision`; `Err` read what was there instead.
    Cas {
        revision: Revision,
        outcome: Result<(), Option<Found>>,
    },
    /// Refused for sure: it had no effect.
    Failed,
}

impl Reply {
    fn revision(&self) -> Option<Revision> {
        match self {
            Self::Get { revision, .. }
            | Self::Put { revision }
            | Self::Delete { revision, .. }
            | Self::Cas { revision, .. } => Some(*revision),
            Self::Failed => None,
        }
    }

    /// Whether it moved the store's revision.
    fn wrote(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Cas { outcome: Ok(()), .. } => true,
            Self::Delete { previous, .. } => previous.is_some(),
            Self::Get { .. } | Self::Cas { .. } | Self::Failed => false,
        }
    }

    /// What it showed of the key, if it looked.
    fn shows(&self) -> Option<&Option<Found>> {
        match self {
            Self::Get { found, .. } => Some(found),
            Self::Delete { previous, .. } => Some(previous),
            Self::Cas { outcome: Err(found), .. } => Some(found),
            Self::Put { .. } | Self::Cas { .. } | Self::Failed => None,
        }
    }
}

/// One operation. Times are positions in the order in which calls and replies were recorded.
#[derive(Debug, Clone)]
pub struct Operation {
    pub client: u32,
    pub call: Call,
    pub called: u64,
    /// None: nobody knows whether it happened, or will.
    pub reply: Option<(u64, Reply)>,
}

/// Names an operation between its call and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationId(usize);

/// Collects operations of concurrent clients, in real or simulated time.
#[derive(Debug, Default)]
pub struct Recorder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    operations: Vec<Operation>,
    shared: HashSet<Revision>,
}

impl State {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Recorder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Record just before the request leaves.
    pub fn call(&self, client: u32, call: Call) -> OperationId {
        let mut state = self.state.lock();
        let called = state.tick();
        state.operations.push(Operation { client, call, called, reply: None });
        OperationId(state.operations.len() - 1)
    }

    /// Record as soon as the answer is there. An operation without a reply (a timeout, a lost connection) may have
    /// happened, may happen later, or never.
    pub fn reply(&self, id: OperationId, reply: Reply) {
        let mut state = self.state.lock();
        let replied = state.tick();
        state.operations[id.0].reply = Some((replied, reply));
    }

    /// Several recorded writes are parts of one transaction at this revision.
    pub fn shared_revision(&self, revision: Revision) {
        self.state.lock().shared.insert(revision);
    }

    /// Everything recorded so far.
    #[must_use]
    pub fn finish(&self) -> History {
        let state = self.state.lock();
        History { operations: state.operations.clone(), shared: state.shared.clone() }
    }
}

/// A recorded run.
#[derive(Debug, Clone, Default)]
pub struct History {
    operations: Vec<Operation>,
    shared: HashSet<Revision>,
}

/// Why no single store could have answered so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No order of the key's operations explains the answers.
    #[error("key {key}: no order of its operations explains the answers; stuck at:\n{stuck}")]
    NotLinearizable { key: String, stuck: String },
    /// The search was given up after this many steps: use fewer clients, keys with fewer operations, fewer unknowns.
    #[error("key {key}: not decided within {steps} steps")]
    Undecided { key: String, steps: u64 },
    /// The order of revisions contradicts the order of time, or a read contradicts its revision.
    #[error("{0}")]
    Revisions(String),
    /// A watch missed, repeated, reordered, split or invented something.
    #[error("watch: {0}")]
    Watch(String),
}

impl History {
    /// All operations in the order of their calls.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// How many were answered with an effect or a read, were refused, and are unknown.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let failed = |o: &&Operation| matches!(o.reply, Some((_, Reply::Failed)));
        let failed = self.operations.iter().filter(failed).count();
        let unknown = self.operations.iter().filter(|o| o.reply.is_none()).count();
        (self.operations.len() - failed - unknown, failed, unknown)
    }

    /// Checks every key for linearizability and the revisions of all together.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check(&self) -> Result<(), Violation> {
        self.check_revisions()?;
        let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            if !matches!(operation.reply, Some((_, Reply::Failed))) {
                keys.entry(operation.call.key()).or_default().push(operation);
            }
        }
        keys.into_iter().try_for_each(|(key, operations)| linear::check(key, operations))
    }

    /// Acknowledged writes by key and revision; the value is None for a delete.
    fn acknowledged(&self) -> BTreeMap<(Bytes, Revision), Option<Bytes>> {
        let written = self.operations.iter().filter_map(|operation| {
            let (_, reply) = operation.reply.as_ref().filter(|(_, reply)| reply.wrote())?;
            let revision = reply.revision()?;
            Some(((operation.call.key().clone(), revision), operation.call.value().cloned()))
        });
        written.collect()
    }

    fn check_revisions(&self) -> Result<(), Violation> {
        self.revisions_follow_time()?;
        self.writes_have_their_own_revision()?;
        self.reads_match_their_revision()
    }

    /// What was called after a reply at revision R answers at R or later; a write later than R.
    fn revisions_follow_time(&self) -> Result<(), Violation> {
        let mut moments: Vec<(u64, bool, &Operation)> = Vec::new();
        for operation in &self.operations {
            if let Some((replied, reply)) = &operation.reply
                && reply.revision().is_some()
            {
                moments.push((operation.called, true, operation));
                moments.push((*replied, false, operation));
            }
        }
        moments.sort_by_key(|(time, ..)| *time);
        let mut highest = Revision(0);
        let mut floor: HashMap<u64, Revision> = HashMap::new();
        for (_, is_call, operation) in moments {
            if is_call {
                floor.insert(operation.called, highest);
                continue;
            }
            let Some((_, reply)) = &operation.reply else { continue };
            let (Some(revision), Some(floor)) = (reply.revision(), floor.remove(&operation.called)) else {
                continue;
            };
            if revision < floor || (reply.wrote() && revision == floor) {
                let text = format!("answered at a revision in the past of {floor}: {operation:?}");
                return Err(Violation::Revisions(text));
            }
            highest = highest.max(revision);
        }
        Ok(())
    }

    fn writes_have_their_own_revision(&self) -> Result<(), Violation> {
        let mut owners: HashMap<Revision, &Operation> = HashMap::new();
        for operation in &self.operations {
            let Some((_, reply)) = operation.reply.as_ref().filter(|(_, reply)| reply.wrote()) else {
                continue;
            };
            let Some(revision) = reply.revision() else { continue };
            let other = owners.insert(revision, operation);
            if let Some(other) = other.filter(|_| !self.shared.contains(&revision)) {
                let text = format!("two writes at revision {revision}: {other:?} and {operation:?}");
                return Err(Violation::Revisions(text));
            }
        }
        Ok(())
    }

    fn reads_match_their_revision(&self) -> Result<(), Violation> {
        let acknowledged = self.acknowledged();
        for operation in &self.operations {
            let Some((_, reply)) = &operation.reply else { continue };
            let (Some(shown), Some(revision)) = (reply.shows(), reply.revision()) else { continue };
            // A delete looks just before it writes.
            let until = if reply.wrote() { Revision(revision.get() - 1) } else { revision };
            let seen = shown.as_ref().map_or(Revision(0), |found| found.mod_revision);
            let key = operation.call.key();
            if seen > until {
                return Err(Violation::Revisions(format!("a read from the future: {operation:?}")));
            }
            if let Some(found) = shown
                && let Some(value) = acknowledged.get(&(key.clone(), found.mod_revision))
                && value.as_ref() != Some(&found.value)
            {
                let text = format!("{value:?} was written at that revision, not this: {operation:?}");
                return Err(Violation::Revisions(text));
            }
            let after = Revision(seen.get() + 1);
            if after > until {
                continue;
            }
            // A read of nothing is right when the last acknowledged write is a delete.
            let last = acknowledged.range((key.clone(), after)..=(key.clone(), until)).next_back();
            if let Some(((_, missed), value)) = last
                && !(shown.is_none() && (value.is_none() || self.may_hide(key, *missed, until)))
            {
                let text = format!("the write at revision {missed} was not seen: {operation:?}");
                return Err(Violation::Revisions(text));
            }
        }
        Ok(())
    }

    /// Whether a delete of unknown outcome may have removed what was written at `missed` before `until`.
    fn may_hide(&self, key: &Bytes, missed: Revision, until: Revision) -> bool {
        missed < until
            && self.operations.iter().any(|operation| {
                let unknown = operation.reply.is_none();
                unknown && matches!(&operation.call, Call::Delete { key: deleted } if deleted == key)
            })
    }
}
