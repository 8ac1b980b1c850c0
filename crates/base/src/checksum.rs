//! CRC-32C (Castagnoli), the checksum of Kafka's record batches and of our own write-ahead log.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of `bytes`.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC-32C of several slices as if they were one.
#[must_use]
pub fn crc32c_of_parts(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

/// CRC-64 (NVMe's polynomial) of several slices as if they were one: for fingerprints, where 32 bits are few.
#[must_use]
pub fn crc64_of_parts(parts: &[&[u8]]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

/// CRC-32C of bytes that come in pieces.
#[derive(Debug)]
pub struct Crc32c(Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The checksum of all pieces.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value_of_the_catalogue() {
        // RFC 3720 appendix B.4 names the polynomial; the check value over "123456789" is 0xE3069283.
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(super::crc32c_of_parts(&[b"1234", b"", b"56789"]), 0xE306_9283);
        // The check value of CRC-64/NVME in the same catalogue.
        assert_eq!(super::crc64_of_parts(&[b"1234", b"56789"]), 0xAE8B_1486_0A79_9888);
        let mut pieces = super::Crc32c::default();
        pieces.update(b"12345678");
        pieces.update(b"9");
        assert_eq!(pieces.finish(), 0xE306_9283);
    }
}
