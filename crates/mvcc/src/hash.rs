//! A fingerprint of the history up to a revision: equal on all members that hold the same history, whether or not they
//! have cleaned up below the compacted revision.
//!
//! ```text
//! sum, wrapping, of CRC-64(key's length, key, what is stored) over
//!   what a read at the compacted revision sees, and every version and delete from there up to the revision
//! ```
//! A sum does not care for order, and the state is read in the order it lies: two scans and no lookups but for keys
//! that were replaced around the compacted revision.

use base::checksum::crc64_of_parts;
use store_api::{Error, Revision};

use crate::dump::{Old, scan};
use crate::{Failure, Reader, StateError, layout, read};

/// A fingerprint and what it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryHash {
    pub hash: u64,
    /// Up to and with this revision.
    pub revision: Revision,
    /// History before this one is not in it; 0 when nothing was compacted.
    pub compacted: Revision,
    /// The state's revision.
    pub current: Revision,
}

impl HistoryHash {
    /// In the width of etcd's API.
    #[must_use]
    pub fn folded(&self) -> u32 {
        (self.hash ^ (self.hash >> 32)) as u32
    }
}

/// Reads the whole state; 0 asks for the current revision.
///
/// # Errors
/// `Compacted`, `FutureRevision`; or the state's.
pub fn history(state: &impl Reader, at: Revision) -> Result<HistoryHash, Failure> {
    let (current, compacted) = (read::revision(state)?, read::compacted(state)?);
    let revision = if at.get() <= 0 { current } else { at };
    if revision > current {
        return Err(Error::FutureRevision { current }.into());
    }
    if revision < compacted {
        return Err(Error::Compacted { compact_revision: compacted }.into());
    }
    let now = sum_of_current(state, revision)?;
    let hash = now.wrapping_add(sum_of_old(state, revision, compacted)?);
    Ok(HistoryHash { hash, revision, compacted, current })
}

fn of_version(key: &[u8], version: &[u8]) -> u64 {
    crc64_of_parts(&[&(key.len() as u64).to_be_bytes(), key, &[1], version])
}

fn of_delete(key: &[u8], revision: Revision) -> u64 {
    crc64_of_parts(&[&(key.len() as u64).to_be_bytes(), key, &[0], &revision.get().to_be_bytes()])
}

fn sum_of_current(state: &impl Reader, revision: Revision) -> Result<u64, StateError> {
    let mut sum = 0_u64;
    scan(state, (&[layout::CURRENT], &[layout::CURRENT + 1]), |raw, stored| {
        let record = stored.whole()?;
        if layout::mod_revision(record)? <= revision {
            sum = sum.wrapping_add(of_version(&raw[1..], record));
        }
        Ok::<_, StateError>(())
    })?;
    Ok(sum)
}

fn sum_of_old(state: &impl Reader, revision: Revision, bar: Revision) -> Result<u64, StateError> {
    let mut sum = 0_u64;
    // The last record of a key below the bar, which counts if nothing replaced it up to there.
    let mut below: Option<(Old, u64)> = None;
    let counts =
        |(old, hash): (Old, u64)| Ok::<_, StateError>(if old.is_visible(state, bar)? { hash } else { 0 });
    scan(state, (&[layout::OLD], &[layout::OLD + 1]), |raw, stored| {
        let (record, (key, at)) = (stored.whole()?, layout::parse_old(raw)?);
        if let Some(done) = below.take_if(|(old, _)| old.key != key) {
            sum = sum.wrapping_add(counts(done)?);
        }
        let put = layout::is_version(record)?;
        let hash = if put { of_version(&key, &record[1..]) } else { of_delete(&key, at) };
        if at < bar {
            below = Some((Old { key, revision: at, put }, hash));
        } else {
            if at == bar {
                below = None;
            }
            sum = sum.wrapping_add(if at <= revision { hash } else { 0 });
        }
        Ok::<_, StateError>(())
    })?;
    let last = below.map_or(Ok(0), counts)?;
    Ok(sum.wrapping_add(last))
}
