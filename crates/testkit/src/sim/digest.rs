//! What a run comes to, in one number: two runs of one seed must come to the same.

use base::checksum::crc32c;

/// A running digest of bytes and numbers, in their order. Not for secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    state: u64,
}

impl Digest {
    /// Takes bytes in.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_number((bytes.len() as u64) << 32 | u64::from(crc32c(bytes)));
    }

    /// Takes a number in.
    pub fn add_number(&mut self, number: u64) {
        let mixed = (self.state ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.state = mixed ^ (mixed >> 29);
    }

    /// What it has come to.
    #[must_use]
    pub fn get(self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn order_and_content_count() {
        let of = |parts: &[&[u8]]| {
            let mut digest = Digest::default();
            parts.iter().for_each(|part| digest.add(part));
            digest.get()
        };
        assert_eq!(of(&[b"a", b"b"]), of(&[b"a", b"b"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
        assert_ne!(of(&[b"ab"]), of(&[b"a", b"b"]));
    }
}
