//! The numbers of the format, see the crate's head.

use crate::Error;

/// Size of the pages that are written, bytes. bbolt takes its machine's page size; it reads any.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a page's header.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of an element's head in a branch and in a leaf.
pub(crate) const ELEMENT_BYTES: usize = 16;
/// Bytes of a meta behind the page's header.
pub(crate) const META_BYTES: usize = 64;
/// Bytes of a meta that its checksum covers.
const META_SUMMED_BYTES: usize = 56;
/// Bytes of a bucket's head.
pub(crate) const BUCKET_BYTES: usize = 16;
/// Pages before the first of a tree: two metas and the free list.
pub(crate) const FIRST_PAGE: u64 = 3;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREE_LIST: u16 = 0x10;
/// An element of a leaf that is a bucket.
pub(crate) const IS_BUCKET: u32 = 1;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Instead of the free list's page: there is none, what is not reachable is free.
pub(crate) const NO_FREE_LIST: u64 = u64::MAX;

/// The least and the largest page size that bbolt looks for.
pub(crate) const PAGE_SIZES: std::ops::RangeInclusive<usize> = 1024..=16 * 1024 * 1024;

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub page_bytes: u32,
    /// Page of the root bucket.
    pub root: u64,
    /// The free list's page, or [`NO_FREE_LIST`].
    pub free_list: u64,
    /// Pages of the file.
    pub pages: u64,
    pub txid: u64,
}

impl Meta {
    pub(crate) fn encode(&self) -> [u8; META_BYTES] {
        let mut out = [0; META_BYTES];
        put_u32(&mut out, 0, MAGIC);
        put_u32(&mut out, 4, VERSION);
        put_u32(&mut out, 8, self.page_bytes);
        put_u64(&mut out, 16, self.root);
        put_u64(&mut out, 32, self.free_list);
        put_u64(&mut out, 40, self.pages);
        put_u64(&mut out, 48, self.txid);
        let sum = fnv1a(&out[..META_SUMMED_BYTES]);
        put_u64(&mut out, META_SUMMED_BYTES, sum);
        out
    }

    /// Reads a meta, bytes behind the page's header.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; META_BYTES] = bytes.first_chunk().ok_or_else(|| Error::corrupt("a short meta"))?;
        if u32_at(bytes, 0) != MAGIC {
            return Err(Error::corrupt("no magic number"));
        }
        if u32_at(bytes, 4) != VERSION {
            return Err(Error::corrupt(format!("version {} is unknown", u32_at(bytes, 4))));
        }
        if u64_at(bytes, META_SUMMED_BYTES) != fnv1a(&bytes[..META_SUMMED_BYTES]) {
            return Err(Error::corrupt("a meta's checksum does not match"));
        }
        let meta = Self {
            page_bytes: u32_at(bytes, 8),
            root: u64_at(bytes, 16),
            free_list: u64_at(bytes, 32),
            pages: u64_at(bytes, 40),
            txid: u64_at(bytes, 48),
        };
        let page_bytes = meta.page_bytes as usize;
        if !PAGE_SIZES.contains(&page_bytes) || !page_bytes.is_power_of_two() {
            return Err(Error::corrupt(format!("pages of {page_bytes} bytes")));
        }
        Ok(meta)
    }
}

/// A page's header.
pub(crate) fn header(id: u64, kind: u16, count: u16, overflow: u32) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    put_u64(&mut out, 0, id);
    out[8..10].copy_from_slice(&kind.to_le_bytes());
    out[10..12].copy_from_slice(&count.to_le_bytes());
    put_u32(&mut out, 12, overflow);
    out
}

/// A bucket whose tree begins at a page of its own.
pub(crate) fn bucket(root: u64) -> [u8; BUCKET_BYTES] {
    let mut out = [0; BUCKET_BYTES];
    put_u64(&mut out, 0, root);
    out
}

pub(crate) fn put_u32(out: &mut [u8], at: usize, number: u32) {
    out[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut [u8], at: usize, number: u64) {
    out[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

/// The number at `at`; 0 past the end, which callers rule out by length.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_le_bytes(*b))
}

/// As [`u16_at`].
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b))
}

/// As [`u16_at`].
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_le_bytes(*b))
}

/// FNV-1a over 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
