//! What stands in the tree in place of a record whose value is apart.

use mvcc::{StateError, layout};

/// What a record begins with whose value is apart. A current record begins with its create revision and an old one with
/// 0 or 1, so none of them does: what earlier programs wrote is read as it is.
const APART: u8 = 0xff;
/// Values shorter than this stay in the tree. Apart, a version takes 54 bytes there and some 50 in a segment, and reading
/// it may take a call of the system: from twice of that on it is worth it.
pub(crate) const APART_MIN: usize = 128;
/// A tag and the numbers before a value: an old record but for the value.
pub(crate) const HEAD_BYTES: usize = 1 + layout::META_BYTES;
/// Bytes of a record whose value is apart.
pub(crate) const APART_BYTES: usize = 1 + HEAD_BYTES + 5 * 4;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub segment: u32,
    /// Where its entry begins.
    pub offset: u32,
    /// Bytes of the key in the entry.
    pub key_len: u32,
    /// Bytes of the record, its head included.
    pub record_len: u32,
    /// CRC-32C of the record.
    pub crc: u32,
}

/// A record as the tree has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Physical<'a> {
    Whole(&'a [u8]),
    Apart {
        /// [`HEAD_BYTES`] of an old record.
        head: &'a [u8],
        pointer: Pointer,
    },
}

/// Whether a key's record may have its value apart.
pub(crate) fn is_versioned(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(layout::CURRENT | layout::OLD)))
}

/// Bytes of an old record's form that the record at `key` has not: the tag.
pub(crate) fn skipped(key: &[u8]) -> usize {
    usize::from(key.first() == Some(&layout::CURRENT))
}

/// Takes what the tree has at `key` apart.
pub(crate) fn parse<'a>(key: &[u8], raw: &'a [u8]) -> Result<Physical<'a>, StateError> {
    if raw.first() != Some(&APART) || !is_versioned(key) {
        return Ok(Physical::Whole(raw));
    }
    let pointer = (raw.len() == APART_BYTES).then(|| pointer(&raw[1 + HEAD_BYTES..]));
    let pointer = pointer.ok_or_else(|| {
        let key = key[..key.len().min(64)].escape_ascii();
        StateError::Corrupt(format!("the record at {key} points nowhere"))
    })?;
    Ok(Physical::Apart { head: &raw[1..=HEAD_BYTES], pointer })
}

/// The pointer in what the tree has at a key, if there is one.
pub(crate) fn pointer_at(key: &[u8], raw: &[u8]) -> Result<Option<Pointer>, StateError> {
    match parse(key, raw)? {
        Physical::Whole(_) => Ok(None),
        Physical::Apart { pointer, .. } => Ok(Some(pointer)),
    }
}

fn pointer(raw: &[u8]) -> Pointer {
    let number = |n: usize| u32::from_be_bytes([raw[4 * n], raw[4 * n + 1], raw[4 * n + 2], raw[4 * n + 3]]);
    Pointer {
        segment: number(0),
        offset: number(1),
        key_len: number(2),
        record_len: number(3),
        crc: number(4),
    }
}

/// What the tree has for a record that is apart.
pub(crate) fn encode(head: &[u8; HEAD_BYTES], pointer: &Pointer) -> [u8; APART_BYTES] {
    let mut out = [0; APART_BYTES];
    out[0] = APART;
    out[1..=HEAD_BYTES].copy_from_slice(head);
    let Pointer { segment, offset, key_len, record_len, crc } = *pointer;
    let numbers = [segment, offset, key_len, record_len, crc];
    for (place, number) in out[1 + HEAD_BYTES..].chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_come_back_and_nothing_else_is_one() {
        let pointer = Pointer { segment: 7, offset: 1 << 30, key_len: 3, record_len: 4096, crc: 0xdead_beef };
        let head = [1; HEAD_BYTES];
        let raw = encode(&head, &pointer);
        for key in [&b"kx"[..], b"ox"] {
            assert_eq!(pointer_at(key, &raw).unwrap(), Some(pointer));
            assert!(parse(key, &raw[..APART_BYTES - 1]).is_err());
            assert_eq!(pointer_at(key, &[0; APART_BYTES]).unwrap(), None);
        }
        assert_eq!(pointer_at(b"hx", &raw).unwrap(), None, "only versions have values");
    }
}
