//! The latest offset of each key, in bounded memory: what compaction decides by.
//!
//! ```text
//! open addressing, 24 bytes a slot: hash of the key, 128 bits | offset + 1 (0: empty)
//! ```
//! Keys themselves are not kept, as in Kafka (`SkimpyOffsetMap`): two keys with one hash would lose a record, which at
//! 128 bits that nobody outside can steer does not happen.

use std::hash::{BuildHasher, Hasher, RandomState};

const SLOT_BYTES: usize = 24;
/// `log.cleaner.io.buffer.load.factor`: fuller tables probe long.
const LOAD: f64 = 0.9;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: (u64, u64),
    /// Offset plus one, so that fresh memory is empty.
    offset: u64,
}

/// The map.
#[derive(Debug)]
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    hashers: (RandomState, RandomState),
    /// The last offset that was looked at; -1 before any.
    pub latest: i64,
}

impl OffsetMap {
    /// Room for `keys` of them, or for as many as `bytes_max` holds.
    pub(super) fn new(keys: u64, bytes_max: usize) -> Self {
        let most = (bytes_max / SLOT_BYTES).max(2);
        let wanted = ((keys as f64 / LOAD).ceil() as usize).saturating_add(1);
        let slots = vec![Slot::default(); wanted.clamp(2, most)];
        Self { slots, used: 0, hashers: (RandomState::new(), RandomState::new()), latest: -1 }
    }

    /// How many more keys fit.
    pub(super) fn free(&self) -> usize {
        ((self.slots.len() as f64 * LOAD) as usize).max(1).saturating_sub(self.used)
    }

    /// Keys in the map.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    fn find(&self, key: &[u8]) -> (usize, (u64, u64)) {
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            hasher.finish()
        };
        let hash = (hash(&self.hashers.0), hash(&self.hashers.1));
        let mut at = (hash.0 % self.slots.len() as u64) as usize;
        // There is always an empty slot: see `free`.
        while self.slots[at].offset != 0 && self.slots[at].hash != hash {
            at = (at + 1) % self.slots.len();
        }
        (at, hash)
    }

    /// Notes that `key` was written at `offset`, later than anything noted before. The caller looks at `free` first.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) {
        let (at, hash) = self.find(key);
        if self.slots[at].offset == 0 {
            assert!(self.used + 1 < self.slots.len(), "the map has room for the batch");
            self.used += 1;
        }
        self.slots[at] = Slot { hash, offset: offset as u64 + 1 };
    }

    /// The latest offset of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<i64> {
        let (at, _) = self.find(key);
        self.slots[at].offset.checked_sub(1).map(|offset| offset as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_offset_of_each_key_within_the_bound() {
        let mut map = OffsetMap::new(10_000, 1 << 20);
        let mut next = 0;
        for round in 0..3 {
            for key in 0..5000u32 {
                if (key + round) % 3 != 0 {
                    map.put(&key.to_be_bytes(), next);
                }
                next += 1;
            }
        }
        assert_eq!(map.len(), 5000);
        for key in 0..5000u32 {
            let round = (0..3).rev().find(|round| (key + round) % 3 != 0).unwrap();
            assert_eq!(map.get(&key.to_be_bytes()), Some(i64::from(round * 5000 + key)));
        }
        assert_eq!(map.get(b"other"), None);
        let small = OffsetMap::new(u64::MAX, 24 * 100);
        assert_eq!((small.slots.len(), small.free()), (100, 90));
        assert!(OffsetMap::new(3, 1 << 20).slots.len() < 8);
    }
}
