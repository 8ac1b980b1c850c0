//! The ordered byte map everything lives in.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::layout;

/// Why the state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The storage under it failed.
    #[error("state: {0}")]
    Io(String),
    /// What is stored is not what was written.
    #[error("state: {0}")]
    Corrupt(String),
}

/// Called for each entry of a scan: the key, and the record, of which it reads as much as it wants. An error ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &mut dyn Stored) -> Result<ControlFlow<()>, StateError>;

/// A record that a scan has come to. A storage may keep the values of versions elsewhere, where reading them costs.
pub trait Stored {
    /// Its beginning: of a version (see [`layout`]) all that precedes the value at least, of anything else the whole.
    fn head(&self) -> &[u8];

    /// The whole record.
    ///
    /// # Errors
    /// When the storage fails.
    fn whole(&mut self) -> Result<&[u8], StateError>;
}

/// A record that is there as a whole.
impl Stored for &[u8] {
    fn head(&self) -> &[u8] {
        self
    }
    fn whole(&mut self) -> Result<&[u8], StateError> {
        Ok(self)
    }
}

/// A consistent view of the map.
pub trait Reader {
    /// The value at `key`.
    ///
    /// # Errors
    /// When the storage fails.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// Visits the entries with `from <= key < to` in ascending order, or descending when `reverse`, until `visit` breaks.
    ///
    /// # Errors
    /// When the storage fails, or `visit` says so.
    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<(), StateError>;

    /// The beginning of the record at `key`, as [`Stored::head`] has it.
    ///
    /// # Errors
    /// When the storage fails.
    fn head(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.get(key)
    }
}

/// A map under change: a transaction of the storage, seen by its own reads at once.
pub trait State: Reader {
    /// Sets `key` to the concatenation of `parts` (so that a record needs no buffer of its own).
    ///
    /// # Errors
    /// When the storage fails.
    fn put(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<(), StateError>;

    /// Removes `key`; nothing happens when it is not there.
    ///
    /// # Errors
    /// When the storage fails.
    fn delete(&mut self, key: &[u8]) -> Result<(), StateError>;

    /// Makes the version at `current` the one at `old` (see [`layout`]), so that its value need not be written again. The
    /// caller next puts something else at `current`, or deletes it.
    ///
    /// # Errors
    /// When the storage fails, or nothing is at `current`.
    fn supersede(&mut self, current: &[u8], old: &[u8]) -> Result<(), StateError> {
        let record = self.get(current)?.ok_or_else(|| layout::missing(current))?;
        self.put(old, &[&layout::event_tag(true), &record])
    }
}

/// The map in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemState {
    map: BTreeMap<Vec<u8>, Bytes>,
}

impl MemState {
    /// All entries in order.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.map.iter().map(|(k, v)| (&k[..], &v[..]))
    }
}

impl Reader for MemState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<(), StateError> {
        if from >= to {
            return Ok(());
        }
        let mut range = self.map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        while let Some((key, value)) = if reverse { range.next_back() } else { range.next() } {
            if visit(key, &mut &value[..])?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl State for MemState {
    fn put(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<(), StateError> {
        self.map.insert(key.to_vec(), parts.concat().into());
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StateError> {
        self.map.remove(key);
        Ok(())
    }
}
