//! Writing a file front to back from sorted entries.
//!
//! ```text
//! entry ─▶ leaf ─full─▶ page on disk, its first key ─▶ branch of level 1 ─full─▶ page on disk ─▶ level 2 ...
//! ```
//! The metas are written last, so that a file that was not finished is no bbolt file.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};

use crate::Error;
use crate::format::{
    BRANCH, ELEMENT_BYTES, FIRST_PAGE, FREE_LIST, HEADER_BYTES, IS_BUCKET, LEAF, META, Meta, PAGE_BYTES,
    bucket, header, put_u32, put_u64,
};

/// bbolt's `MaxKeySize`.
const KEY_BYTES_MAX: usize = 32768;
/// bbolt's `MaxValueSize`.
const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// A file being written.
#[derive(Debug)]
pub struct Writer<W> {
    pages: Pages<W>,
    /// Buckets that are finished: name and root page.
    buckets: BTreeMap<Vec<u8>, u64>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file at the start of `out`. Wants a buffered `out`: it writes a page at a time.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(mut out: W) -> Result<Self, Error> {
        out.write_all(&[0; 2 * PAGE_BYTES])?;
        let mut free_list = [0; PAGE_BYTES];
        free_list[..HEADER_BYTES].copy_from_slice(&header(FIRST_PAGE - 1, FREE_LIST, 0, 0));
        out.write_all(&free_list)?;
        Ok(Self { pages: Pages { out, next: FIRST_PAGE }, buckets: BTreeMap::new() })
    }

    /// Begins a bucket; it is in the file once it is finished. Buckets may come in any order.
    ///
    /// # Errors
    /// When there is one of this name.
    pub fn bucket(&mut self, name: &[u8]) -> Result<BucketWriter<'_, W>, Error> {
        if self.buckets.contains_key(name) {
            return Err(Error::Refused("two buckets of one name"));
        }
        Ok(BucketWriter { tree: Tree::default(), name: name.to_vec(), file: self })
    }

    /// Writes what remains; the bytes of the file. Does not sync.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(mut self) -> Result<(W, u64), Error> {
        let mut tree = Tree::default();
        for (name, root) in &self.buckets {
            tree.add(&mut self.pages, name, IS_BUCKET, &bucket(*root))?;
        }
        let root = tree.finish(&mut self.pages)?;
        let Pages { mut out, next: pages } = self.pages;
        out.seek(SeekFrom::Start(0))?;
        for txid in 0..2 {
            let meta = Meta { page_bytes: PAGE_BYTES as u32, root, free_list: FIRST_PAGE - 1, pages, txid };
            let mut page = [0; PAGE_BYTES];
            page[..HEADER_BYTES].copy_from_slice(&header(txid, META, 0, 0));
            let bytes = meta.encode();
            page[HEADER_BYTES..HEADER_BYTES + bytes.len()].copy_from_slice(&bytes);
            out.write_all(&page)?;
        }
        out.flush()?;
        Ok((out, pages * PAGE_BYTES as u64))
    }
}

/// A bucket being written.
#[derive(Debug)]
pub struct BucketWriter<'w, W> {
    file: &'w mut Writer<W>,
    name: Vec<u8>,
    tree: Tree,
}

impl<W: Write + Seek> BucketWriter<'_, W> {
    /// Adds an entry. Keys must rise.
    ///
    /// # Errors
    /// When they do not, or are empty or too long; or the disk's.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.tree.add(&mut self.file.pages, key, 0, value)
    }

    /// Ends the bucket.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(self) -> Result<(), Error> {
        let root = self.tree.finish(&mut self.file.pages)?;
        self.file.buckets.insert(self.name, root);
        Ok(())
    }
}

/// Pages go to the end of the file, one after the other.
#[derive(Debug)]
struct Pages<W> {
    out: W,
    next: u64,
}

impl<W: Write> Pages<W> {
    fn write(&mut self, page: &PageBuilder, kind: u16) -> Result<u64, Error> {
        let id = self.next;
        let count = page.bytes().div_ceil(PAGE_BYTES);
        // A page of more than one entry fits one page; an entry's value is bounded by VALUE_BYTES_MAX.
        self.out.write_all(&header(id, kind, page.elements.len() as u16, (count - 1) as u32))?;
        page.write(&mut self.out, kind)?;
        let padding = count * PAGE_BYTES - page.bytes();
        self.out.write_all(&[0; PAGE_BYTES][..padding])?;
        self.next += count as u64;
        Ok(id)
    }
}

/// A tree under construction: the page of each level that is not full yet, leaves first.
#[derive(Debug, Default)]
struct Tree {
    levels: Vec<PageBuilder>,
    last: Vec<u8>,
}

impl Tree {
    fn add<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        key: &[u8],
        flags: u32,
        value: &[u8],
    ) -> Result<(), Error> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::Refused("a key has 1 to 32768 bytes"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::Refused("a value has less than 2 GiB"));
        }
        if key <= &self.last[..] {
            return Err(Error::Refused("keys must rise"));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.push(pages, 0, key, value, Number::Flags(flags))
    }

    fn push<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        level: usize,
        key: &[u8],
        value: &[u8],
        number: Number,
    ) -> Result<(), Error> {
        if self.levels.len() == level {
            self.levels.push(PageBuilder::default());
        }
        if !self.levels[level].has_room(key.len() + value.len()) {
            self.write_level(pages, level)?;
        }
        self.levels[level].push(key, value, number);
        Ok(())
    }

    /// Writes a level's page and notes it in the level above.
    fn write_level<W: Write>(&mut self, pages: &mut Pages<W>, level: usize) -> Result<u64, Error> {
        let page = std::mem::take(&mut self.levels[level]);
        let id = pages.write(&page, if level == 0 { LEAF } else { BRANCH })?;
        self.push(pages, level + 1, page.first_key(), &[], Number::Child(id))?;
        Ok(id)
    }

    /// Writes what is left, upwards; the root's page.
    fn finish<W: Write>(mut self, pages: &mut Pages<W>) -> Result<u64, Error> {
        if self.levels.is_empty() {
            return pages.write(&PageBuilder::default(), LEAF);
        }
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.write_level(pages, level)?;
            level += 1;
        }
        pages.write(&self.levels[level], if level == 0 { LEAF } else { BRANCH })
    }
}

/// What an element of a leaf or of a branch has beside its key and value.
#[derive(Debug, Clone, Copy)]
enum Number {
    Flags(u32),
    Child(u64),
}

#[derive(Debug)]
struct Element {
    number: Number,
    key_bytes: u32,
    value_bytes: u32,
}

/// A page under construction.
#[derive(Debug, Default)]
struct PageBuilder {
    elements: Vec<Element>,
    data: Vec<u8>,
}

impl PageBuilder {
    fn bytes(&self) -> usize {
        HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    /// Whether `more` bytes fit; an empty page takes anything, by overflow.
    fn has_room(&self, more: usize) -> bool {
        self.elements.is_empty() || self.bytes() + ELEMENT_BYTES + more <= PAGE_BYTES
    }

    fn push(&mut self, key: &[u8], value: &[u8], number: Number) {
        let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
        self.elements.push(Element { number, key_bytes, value_bytes });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn first_key(&self) -> &[u8] {
        self.elements.first().map_or(&[], |first| &self.data[..first.key_bytes as usize])
    }

    fn write(&self, out: &mut impl Write, kind: u16) -> Result<(), Error> {
        let mut at = self.elements.len() * ELEMENT_BYTES;
        for (place, element) in self.elements.iter().enumerate() {
            // Offsets count from the element's own head.
            let offset = (at - place * ELEMENT_BYTES) as u32;
            let mut head = [0; ELEMENT_BYTES];
            match element.number {
                Number::Flags(flags) => {
                    debug_assert_eq!(kind, LEAF);
                    put_u32(&mut head, 0, flags);
                    put_u32(&mut head, 4, offset);
                    put_u32(&mut head, 8, element.key_bytes);
                    put_u32(&mut head, 12, element.value_bytes);
                }
                Number::Child(child) => {
                    debug_assert_eq!(kind, BRANCH);
                    put_u32(&mut head, 0, offset);
                    put_u32(&mut head, 4, element.key_bytes);
                    put_u64(&mut head, 8, child);
                }
            }
            out.write_all(&head)?;
            at += (element.key_bytes + element.value_bytes) as usize;
        }
        Ok(out.write_all(&self.data)?)
    }
}
