//! SHA-256 digests in the form `sha256:<hex>`.

use super::ImageError;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer};
use std::io::{self, Read};
use std::path::Path;

const CHUNK: usize = 64 << 10;

/// Counts and digests what passes through.
pub struct Digesting<R> {
    inner: R,
    context: Context,
    bytes: u64,
}

impl<R: Read> Digesting<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, context: Context::new(&SHA256), bytes: 0 }
    }

    /// Reads the rest and yields (`sha256:<hex>`, bytes).
    pub fn finish(mut self) -> io::Result<(String, u64)> {
        let mut chunk = vec![0u8; CHUNK];
        while self.read(&mut chunk)? > 0 {}
        Ok((format!("sha256:{}", hex(self.context.finish().as_ref())), self.bytes))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.context.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// The digest of a byte string.
pub fn of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(ring::digest::digest(&SHA256, bytes).as_ref()))
}

/// Fails unless the file has the digest.
pub fn verify_file(path: &Path, expected: &str, what: &str) -> Result<u64, ImageError> {
    let file = std::fs::File::open(path).map_err(ImageError::io(path))?;
    let (actual, bytes) = Digesting::new(file).finish().map_err(ImageError::io(path))?;
    compare(what, expected, &actual)?;
    Ok(bytes)
}

/// Fails unless both are the same.
pub fn compare(what: &str, expected: &str, actual: &str) -> Result<(), ImageError> {
    if expected == actual {
        return Ok(());
    }
    Err(ImageError::DigestMismatch {
        what: what.to_owned(),
        expected: expected.to_owned(),
        actual: actual.to_owned(),
    })
}

/// The hex part of a well formed digest.
pub fn hex_of(digest: &str) -> Result<&str, ImageError> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
        .ok_or_else(|| ImageError::BadArchive(format!("{digest:?} is not a sha256 digest")))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Go writes empty slices as null.
pub fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
