//! Files in bbolt's format (version 2), which etcd keeps its state and its snapshots in.
//!
//! A file is a row of pages; numbers are little-endian. Buckets are B+trees of key and value; a bucket's name is a key of
//! the root bucket whose value is the bucket's root page.
//!
//! ```text
//! page      id 8 | kind 2: 1 branch, 2 leaf, 4 meta, 16 free list | count 2 | overflow 4: pages that follow as part of it
//! meta      magic 4 | version 4 | page size 4 | flags 4 | root bucket 16 | free list's page 8 | pages 8 | txid 8 | FNV-1a 8
//! branch    count x (offset of the key from here 4 | key length 4 | child page 8), then the keys
//! leaf      count x (flags 4: 1 a bucket | offset of the key from here 4 | key length 4 | value length 4), then the data
//! bucket    root page 8, or 0 when its only leaf page follows inline | sequence 8
//! free list count x page id 8 (count 0xffff: the first is the count)
//! ```
//! Pages 0 and 1 are metas; of the two, the valid one with the higher txid counts. A [`Writer`] takes sorted entries and
//! holds one page a level of the tree; a [`Reader`] holds the pages from the root to where it is, checks every number it
//! reads, and never allocates more than the file has.

mod format;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use format::PAGE_BYTES;
pub use reader::{Bucket, Reader, Source, Value, Visit};
pub use writer::{BucketWriter, Writer};

/// Why a file is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is no bbolt file, or a damaged one.
    #[error("not a bbolt file: {0}")]
    Corrupt(String),
    /// What the caller gave cannot stand in a file; its mistake.
    #[error("{0}")]
    Refused(&'static str),
}

impl Error {
    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}
