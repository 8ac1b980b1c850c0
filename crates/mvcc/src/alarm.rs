//! Alarms: what keeps the store from taking writes until somebody has looked. Part of the state, so that all members
//! refuse the same entries.

use std::ops::ControlFlow;

use store_api::{Error, Op, Txn};

use crate::read::try_scan;
use crate::{Entry, Reader, State, StateError, layout};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// A member's state has outgrown its quota: what adds to it is refused.
    NoSpace,
    /// A member's state differs from the others': that member serves nothing (its room sees to it), the others go on.
    Corrupt,
}

/// Whether an entry raises or ends an alarm, whoever asked for it.
#[must_use]
pub fn is_about_alarms(entry: &Entry) -> bool {
    match entry {
        Entry::Alarm { .. } => true,
        Entry::As { entry, .. } => is_about_alarms(entry),
        _ => false,
    }
}

impl AlarmKind {
    /// The number it has in etcd's API.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::NoSpace => 1,
            Self::Corrupt => 2,
        }
    }

    /// The kind of this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        [Self::NoSpace, Self::Corrupt].into_iter().find(|kind| kind.number() == number)
    }
}

/// An alarm that is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Whose state it is about.
    pub member: u64,
    pub kind: AlarmKind,
}

/// All alarms that are raised, by member.
///
/// # Errors
/// When the state fails.
pub fn alarms(state: &impl Reader) -> Result<Vec<Alarm>, StateError> {
    let mut found = Vec::new();
    let end = store_api::prefix_end(layout::ALARM);
    try_scan(state, (layout::ALARM, &end), false, |raw, _| {
        found.push(layout::parse_alarm(raw)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Raises or ends an alarm; the alarm it is about, None when there was none to end.
pub(crate) fn set(state: &mut impl State, alarm: Alarm, raise: bool) -> Result<Option<Alarm>, StateError> {
    let key = layout::alarm(alarm);
    if raise {
        state.put(&key, &[])?;
        return Ok(Some(alarm));
    }
    let was = state.get(&key)?.is_some();
    state.delete(&key)?;
    Ok(was.then_some(alarm))
}

/// Puts alarms into a new state, as a snapshot has them.
///
/// # Errors
/// When the state fails.
pub fn restore(state: &mut impl State, alarms: &[Alarm]) -> Result<(), StateError> {
    alarms.iter().try_for_each(|alarm| state.put(&layout::alarm(*alarm), &[]))
}

/// What the alarms that are raised refuse; read once a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Refusals {
    no_space: bool,
}

impl Refusals {
    pub(crate) fn read(state: &impl Reader) -> Result<Self, StateError> {
        let raised = alarms(state)?;
        let any = |kind| raised.iter().any(|alarm| alarm.kind == kind);
        Ok(Self { no_space: any(AlarmKind::NoSpace) })
    }

    pub(crate) fn check(self, entry: &Entry) -> Result<(), Error> {
        if self.no_space && grows(entry) { Err(Error::NoSpace) } else { Ok(()) }
    }
}

/// Whether applying an entry may add to the state for good.
#[must_use]
pub fn grows(entry: &Entry) -> bool {
    match entry {
        Entry::Txn(txn) => puts(txn),
        Entry::LeaseGrant { .. } => true,
        Entry::As { entry, .. } => grows(entry),
        _ => false,
    }
}

fn puts(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Txn(inner) => puts(inner),
        Op::Range(_) | Op::DeleteRange { .. } => false,
        _ => true,
    })
}
