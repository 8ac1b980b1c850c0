//! The search: an order of one key's operations that a register with revisions allows.
//!
//! Depth first over the operations that may come next (called before the earliest reply that is left), undoing what
//! leads nowhere. What was tried, as the set of operations placed and the register's state after them, is never tried
//! again.
//!
//! Most of what could make a search long are operations without an answer that nobody saw anything of: they may stand
//! anywhere. Two things bound them. Such an operation is only placed right before one that needs what it did; an order in
//! which it stands elsewhere explains as much without it. And of those that do the same only the first is tried: all
//! that may come next now may come next for ever.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use store_api::Revision;

use super::{Call, Found, Operation, Reply, Violation};

/// Steps before a search is given up.
const STEPS_MAX: u64 = 5_000_000;
/// Operations named in a violation.
const STUCK_SHOWN: usize = 8;

/// The register.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Register {
    value: Option<Bytes>,
    /// None: written by an operation that was not answered; a read will tell.
    revision: Option<Revision>,
    /// The highest revision that is surely behind: the register's own, where that is known, is at most this.
    floor: Revision,
    /// The last operation was a silent one: the next must need what it did.
    silent: bool,
}

impl Register {
    fn new() -> Self {
        Self { revision: Some(Revision(0)), ..Self::default() }
    }

    fn written(&self, value: Option<&Bytes>, revision: Revision) -> Option<Self> {
        // What was written without an answer has a revision of its own.
        let floor = if self.revision.is_some() { self.floor } else { self.floor.next() };
        (revision > floor).then(|| Self {
            value: value.cloned(),
            revision: Some(if value.is_some() { revision } else { Revision(0) }),
            floor: revision,
            silent: false,
        })
    }

    /// The register after somebody saw this, or None when nobody could have.
    fn seen(&self, found: Option<&Found>) -> Option<Self> {
        match (&self.value, found) {
            (None, None) => Some(Self { silent: false, ..self.clone() }),
            (Some(value), Some(found)) if *value == found.value => {
                let known = self.revision.is_none_or(|revision| revision == found.mod_revision);
                let later = self.revision.is_some() || found.mod_revision > self.floor;
                (known && later).then(|| Self {
                    value: self.value.clone(),
                    revision: Some(found.mod_revision),
                    floor: self.floor.max(found.mod_revision),
                    silent: false,
                })
            }
            _ => None,
        }
    }

    /// After an operation. Of one that was not answered, `told` is the revision under which somebody saw its value.
    fn step(&self, operation: &Operation, told: Option<Revision>) -> Option<Self> {
        let overwrites = match (&operation.call, &operation.reply) {
            (Call::Put { .. }, _) | (Call::Delete { .. }, None) => true,
            (Call::Get { .. } | Call::Cas { .. } | Call::Delete { .. }, _) => false,
        };
        if self.silent && overwrites {
            return None;
        }
        let Some((_, reply)) = &operation.reply else {
            return match told {
                Some(revision) => self.told(&operation.call, revision),
                None => self.unknown(&operation.call),
            };
        };
        match (&operation.call, reply) {
            (Call::Get { .. }, Reply::Get { found, .. }) => self.seen(found.as_ref()),
            (Call::Put { value, .. }, Reply::Put { revision }) => self.written(Some(value), *revision),
            (Call::Delete { .. }, Reply::Delete { revision, previous }) => {
                let seen = self.seen(previous.as_ref())?;
                if previous.is_some() { seen.written(None, *revision) } else { Some(seen) }
            }
            (Call::Cas { expect, value, .. }, Reply::Cas { revision, outcome: Ok(()) }) => {
                self.compared(*expect, value, *revision)
            }
            (Call::Cas { expect, .. }, Reply::Cas { outcome: Err(found), .. }) => {
                let seen = self.seen(found.as_ref())?;
                (seen.revision != Some(*expect)).then_some(seen)
            }
            // A reply of another kind is a mistake of the recording, which no order explains.
            _ => None,
        }
    }

    fn revision_may_be(&self, expect: Revision) -> bool {
        self.revision.map_or(expect > self.floor, |revision| revision == expect)
    }

    /// After a compare that held.
    fn compared(&self, expect: Revision, value: &Bytes, revision: Revision) -> Option<Self> {
        (self.revision_may_be(expect) && revision > expect)
            .then(|| self.written(Some(value), revision))
            .flatten()
    }

    /// After a write that was not answered, but is known to have happened at a revision.
    fn told(&self, call: &Call, revision: Revision) -> Option<Self> {
        match call {
            Call::Cas { expect, value, .. } => self.compared(*expect, value, revision),
            call => self.written(call.value(), revision),
        }
    }

    /// After an operation that happened without an answer; None where it would change nothing.
    fn unknown(&self, call: &Call) -> Option<Self> {
        let (floor, silent) = (self.floor, true);
        match call {
            Call::Get { .. } => None,
            Call::Delete { .. } => {
                let floor = if self.revision.is_some() { floor.next() } else { floor.next().next() };
                self.value.is_some().then_some(Self {
                    value: None,
                    revision: Some(Revision(0)),
                    floor,
                    silent,
                })
            }
            Call::Cas { expect, .. } if !self.revision_may_be(*expect) => None,
            Call::Put { value, .. } => {
                Some(Self { value: Some(value.clone()), revision: None, floor, silent })
            }
            Call::Cas { expect, value, .. } => {
                let floor = floor.max(*expect);
                Some(Self { value: Some(value.clone()), revision: None, floor, silent })
            }
        }
    }
}

/// What an operation does of which nobody saw anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silent {
    Put,
    Delete,
    Cas(Revision),
}

impl Silent {
    fn of(operation: &Operation, told: Option<Revision>) -> Option<Self> {
        match &operation.call {
            _ if operation.reply.is_some() || told.is_some() => None,
            Call::Get { .. } => None,
            Call::Put { .. } => Some(Self::Put),
            Call::Delete { .. } => Some(Self::Delete),
            Call::Cas { expect, .. } => Some(Self::Cas(*expect)),
        }
    }
}

/// Checks one key's operations; refused ones are not among them.
pub(super) fn check(key: &Bytes, mut operations: Vec<&Operation>) -> Result<(), Violation> {
    let told = told(&operations);
    // Unanswered reads say nothing.
    operations.retain(|operation| operation.reply.is_some() || !matches!(operation.call, Call::Get { .. }));
    let name = || String::from_utf8_lossy(key).into_owned();
    match Search::new(&operations, &told).run() {
        Outcome::Explained => Ok(()),
        Outcome::Undecided => Err(Violation::Undecided { key: name(), steps: STEPS_MAX }),
        Outcome::Stuck(at) => {
            let stuck: Vec<String> =
                at.iter().take(STUCK_SHOWN).map(|&index| format!("  {:?}", operations[index])).collect();
            Err(Violation::NotLinearizable { key: name(), stuck: stuck.join("\n") })
        }
    }
}

/// The revisions under which values were seen: a value names its write, so that one was made there.
fn told(operations: &[&Operation]) -> HashMap<Bytes, Revision> {
    let shown = operations.iter().filter_map(|operation| operation.reply.as_ref()?.1.shows()?.as_ref());
    shown.map(|found| (found.value.clone(), found.mod_revision)).collect()
}

enum Outcome {
    Explained,
    Undecided,
    /// Operations that could not come next where the search got furthest.
    Stuck(Vec<usize>),
}

/// A moment: a call or a reply of the operation.
#[derive(Clone, Copy)]
struct Moment {
    operation: usize,
    is_call: bool,
}

struct Search<'a> {
    operations: &'a [&'a Operation],
    moments: Vec<Moment>,
    /// The moments that are left, as a list: `next[0]` is the first, positions are one more than in `moments`.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Position of each operation's call and reply.
    places: Vec<(usize, usize)>,
    /// The revision of each operation that others tell of.
    told: Vec<Option<Revision>>,
    silent: Vec<Option<Silent>>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [&'a Operation], told: &HashMap<Bytes, Revision>) -> Self {
        let told: Vec<Option<Revision>> = operations
            .iter()
            .map(|operation| operation.call.value().and_then(|value| told.get(value)).copied())
            .collect();
        let silent =
            operations.iter().zip(&told).map(|(operation, told)| Silent::of(operation, *told)).collect();
        let mut timed: Vec<(u64, Moment)> = Vec::with_capacity(operations.len() * 2);
        for (operation, recorded) in operations.iter().enumerate() {
            timed.push((recorded.called, Moment { operation, is_call: true }));
            let end = recorded.reply.as_ref().map_or(u64::MAX, |(replied, _)| *replied);
            timed.push((end, Moment { operation, is_call: false }));
        }
        timed.sort_by_key(|(time, moment)| (*time, moment.operation));
        let moments: Vec<Moment> = timed.into_iter().map(|(_, moment)| moment).collect();
        let mut places = vec![(0, 0); operations.len()];
        for (at, moment) in moments.iter().enumerate() {
            let place = &mut places[moment.operation];
            if moment.is_call { place.0 = at + 1 } else { place.1 = at + 1 }
        }
        let end = moments.len() + 1;
        let next = (1..=end).chain([end]).collect();
        let previous = [0].into_iter().chain(0..end).collect();
        Self { operations, moments, next, previous, places, told, silent }
    }

    fn unlink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn relink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = at;
        self.previous[after] = at;
    }

    fn lift(&mut self, operation: usize) {
        let (call, reply) = self.places[operation];
        self.unlink(call);
        self.unlink(reply);
    }

    fn unlift(&mut self, operation: usize) {
        let (call, reply) = self.places[operation];
        self.relink(reply);
        self.relink(call);
    }

    fn run(mut self) -> Outcome {
        let end = self.moments.len() + 1;
        let mut state = Register::new();
        let mut placed = vec![0_u64; self.operations.len().div_ceil(64)];
        let mut tried: HashSet<(Vec<u64>, Register)> = HashSet::new();
        let mut path: Vec<(usize, Register)> = Vec::new();
        let (mut furthest, mut stuck) = (0, Vec::new());
        let mut at = self.next[0];
        for _ in 0..STEPS_MAX {
            if at == end || self.rest_unanswered() {
                return Outcome::Explained;
            }
            let moment = self.moments[at - 1];
            if moment.is_call {
                at = self.next[at];
                let Moment { operation, .. } = moment;
                if self.another_does_the_same(operation) {
                    continue;
                }
                let after = state.step(self.operations[operation], self.told[operation]);
                let Some(after) = after else { continue };
                flip(&mut placed, operation);
                if !tried.insert((placed.clone(), after.clone())) {
                    flip(&mut placed, operation);
                    continue;
                }
                path.push((operation, std::mem::replace(&mut state, after)));
                self.lift(operation);
                at = self.next[0];
                continue;
            }
            // The earliest reply that is left: its operation cannot come later, so the last choice was wrong.
            if path.len() >= furthest {
                furthest = path.len();
                stuck = self.open();
            }
            let Some((operation, before)) = path.pop() else { return Outcome::Stuck(stuck) };
            state = before;
            flip(&mut placed, operation);
            self.unlift(operation);
            at = self.next[self.places[operation].0];
        }
        Outcome::Undecided
    }

    /// Whether a silent operation that was called earlier and is not placed does what this one does.
    fn another_does_the_same(&self, operation: usize) -> bool {
        let Some(does) = self.silent[operation] else { return false };
        let mut at = self.next[0];
        while at != self.places[operation].0 {
            if self.silent[self.moments[at - 1].operation] == Some(does) {
                return true;
            }
            at = self.next[at];
        }
        false
    }

    /// Whether only operations without an answer are left: they need not have happened.
    fn rest_unanswered(&self) -> bool {
        let end = self.moments.len() + 1;
        let mut at = self.next[0];
        // Calls of unanswered operations may stand before answered ones, but the answered ones' replies come first.
        while at != end {
            let moment = self.moments[at - 1];
            if !moment.is_call {
                return self.operations[moment.operation].reply.is_none();
            }
            at = self.next[at];
        }
        true
    }

    /// The operations that could come next.
    fn open(&self) -> Vec<usize> {
        let mut open = Vec::new();
        let mut at = self.next[0];
        while at <= self.moments.len() && self.moments[at - 1].is_call {
            open.push(self.moments[at - 1].operation);
            at = self.next[at];
        }
        open
    }
}

fn flip(set: &mut [u64], operation: usize) {
    set[operation / 64] ^= 1 << (operation % 64);
}
