//! Reading a file that somebody else may have written.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use crate::Error;
use crate::format::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, FREE_LIST, HEADER_BYTES, IS_BUCKET, LEAF, META, META_BYTES, Meta,
    NO_FREE_LIST, PAGE_SIZES, u16_at, u32_at, u64_at,
};

/// Levels of a tree, and of buckets in buckets. A tree of 2^63 bytes has fewer.
const DEPTH_MAX: usize = 32;
/// Least page a tree may be on; before it are the metas.
const TREE_PAGE_MIN: u64 = 2;
/// A count of the free list that does not fit its field.
const MANY: u16 = 0xffff;

/// Where a file's bytes are.
pub trait Source {
    /// Bytes there are.
    ///
    /// # Errors
    /// The disk's.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `out` from `at` on.
    ///
    /// # Errors
    /// The disk's; UnexpectedEof past the end.
    fn read(&self, out: &mut [u8], at: u64) -> io::Result<()>;
}

impl Source for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn read(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(out, at)
    }
}

impl Source for &[u8] {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
    fn read(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..at.checked_add(out.len())?));
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An open file.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    meta: Meta,
}

/// A bucket: where its tree begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    tree: TreeAt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TreeAt {
    Page(u64),
    /// A leaf page that is part of the bucket's value.
    Inline(Vec<u8>),
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Bytes(&'a [u8]),
    Bucket(Bucket),
}

/// Called for each entry of a bucket.
pub type Visit<'a, E> = &'a mut dyn FnMut(&[u8], Value<'_>) -> Result<ControlFlow<()>, E>;

impl<S: Source> Reader<S> {
    /// Opens a file. Bytes behind its last page are not looked at (etcd puts a hash there).
    ///
    /// # Errors
    /// When it is no bbolt file, is cut, or cannot be read.
    pub fn open(source: S) -> Result<Self, Error> {
        let len = source.bytes()?;
        let meta = find_meta(&source, len)?;
        let bytes = meta.pages.checked_mul(u64::from(meta.page_bytes));
        if bytes.is_none_or(|bytes| bytes > len) {
            return Err(Error::corrupt(format!("{} pages do not fit {len} bytes: cut short", meta.pages)));
        }
        Ok(Self { source, meta })
    }

    /// Bytes of the file that are pages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// The bucket that all others are in.
    #[must_use]
    pub fn root(&self) -> Bucket {
        Bucket { tree: TreeAt::Page(self.meta.root) }
    }

    /// Visits a bucket's entries in the order of their keys, until `visit` breaks.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read; or `visit`'s.
    pub fn each<E: From<Error>>(&self, bucket: &Bucket, visit: Visit<'_, E>) -> Result<(), E> {
        self.walk(bucket, &mut |_| Ok(()), visit)
    }

    /// The bucket of this name in a bucket. Reads all of the latter before it: meant for a file's few buckets.
    ///
    /// # Errors
    /// As [`each`](Self::each).
    pub fn bucket(&self, within: &Bucket, name: &[u8]) -> Result<Option<Bucket>, Error> {
        let mut found = None;
        self.each(within, &mut |key, value| {
            Ok::<_, Error>(match value {
                Value::Bucket(bucket) if key == name => {
                    found = Some(bucket);
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            })
        })?;
        Ok(found)
    }

    /// Checks the whole file: order of keys, every page in use once or free.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        // The count is bounded by the file's length: see `open`.
        let mut used = vec![false; self.meta.pages as usize];
        used.iter_mut().take(TREE_PAGE_MIN as usize).for_each(|page| *page = true);
        let mut free = None;
        if self.meta.free_list != NO_FREE_LIST {
            let page = self.page(self.meta.free_list, FREE_LIST)?;
            take(&mut used, &page)?;
            free = Some(page);
        }
        self.check_bucket(&self.root(), &mut used, 0)?;
        let Some(free) = free else { return Ok(()) };
        for id in free.free_pages()? {
            let place = usize::try_from(id).ok().and_then(|id| used.get_mut(id));
            match place {
                Some(used) if !*used => *used = true,
                _ => return Err(Error::corrupt(format!("page {id} is free and is not"))),
            }
        }
        match used.iter().position(|used| !used) {
            Some(id) => Err(Error::corrupt(format!("page {id} is neither in use nor free"))),
            None => Ok(()),
        }
    }

    fn check_bucket(&self, bucket: &Bucket, used: &mut [bool], depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::corrupt("buckets are nested too deep"));
        }
        let mut inner = Vec::new();
        self.walk(bucket, &mut |page| take(used, page), &mut |_, value| {
            if let Value::Bucket(bucket) = value {
                inner.push(bucket);
            }
            Ok::<_, Error>(ControlFlow::Continue(()))
        })?;
        inner.iter().try_for_each(|bucket| self.check_bucket(bucket, used, depth + 1))
    }

    /// Visits the pages and the entries of a tree.
    fn walk<E: From<Error>>(
        &self,
        bucket: &Bucket,
        enter: &mut dyn FnMut(&Page) -> Result<(), Error>,
        visit: Visit<'_, E>,
    ) -> Result<(), E> {
        let root = match &bucket.tree {
            TreeAt::Inline(bytes) => Page::inline(bytes)?,
            TreeAt::Page(id) => {
                let page = self.tree_page(*id)?;
                enter(&page)?;
                page
            }
        };
        // A file whose pages lead in circles, or to each other over and over, ends here.
        let mut pages_left = self.meta.pages.saturating_sub(root.pages());
        let mut order = Order::default();
        let mut path = vec![(root, 0)];
        while let Some((page, at)) = path.last_mut() {
            if *at == page.count() {
                path.pop();
                continue;
            }
            let place = *at;
            *at += 1;
            if page.kind == LEAF {
                let (key, value) = page.leaf(place)?;
                order.check(key)?;
                if visit(key, value)?.is_break() {
                    return Ok(());
                }
                continue;
            }
            let child = self.tree_page(page.child(place)?)?;
            pages_left = pages_left
                .checked_sub(child.pages())
                .ok_or_else(|| Error::corrupt("a page is in use more than once"))?;
            enter(&child)?;
            if path.len() == DEPTH_MAX {
                return Err(Error::corrupt("a tree is too deep").into());
            }
            path.push((child, 0));
        }
        Ok(())
    }

    fn tree_page(&self, id: u64) -> Result<Page, Error> {
        self.page(id, BRANCH | LEAF)
    }

    /// Reads a page of one of these kinds with the pages that belong to it.
    fn page(&self, id: u64, kinds: u16) -> Result<Page, Error> {
        let wrong = |what: &str| Error::corrupt(format!("page {id} {what}"));
        if !(TREE_PAGE_MIN..self.meta.pages).contains(&id) {
            return Err(wrong("is not there"));
        }
        let page_bytes = u64::from(self.meta.page_bytes);
        let mut header = [0; HEADER_BYTES];
        self.source.read(&mut header, id * page_bytes)?;
        let kind = u16_at(&header, 8);
        if u64_at(&header, 0) != id || !kind.is_power_of_two() || kind & kinds == 0 {
            return Err(wrong("is not what it should be"));
        }
        let pages = u64::from(u32_at(&header, 12)) + 1;
        if pages > self.meta.pages - id {
            return Err(wrong("goes past the end"));
        }
        // No more than the file has: `open` compared the pages with its length.
        let mut bytes = vec![0; usize::try_from(pages * page_bytes).map_err(|_| wrong("is too large"))?];
        self.source.read(&mut bytes, id * page_bytes)?;
        Page::new(id, bytes, pages)
    }
}

/// Keys must rise over the whole of a tree.
#[derive(Default)]
struct Order {
    last: Vec<u8>,
}

impl Order {
    fn check(&mut self, key: &[u8]) -> Result<(), Error> {
        if key <= &self.last[..] {
            return Err(Error::corrupt("keys are out of order"));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }
}

fn take(used: &mut [bool], page: &Page) -> Result<(), Error> {
    for id in page.id..page.id + page.pages() {
        let place = usize::try_from(id).ok().and_then(|id| used.get_mut(id));
        match place {
            Some(used) if !*used => *used = true,
            _ => return Err(Error::corrupt(format!("page {id} is in use more than once"))),
        }
    }
    Ok(())
}

/// The valid meta with the higher txid.
fn find_meta(source: &impl Source, len: u64) -> Result<Meta, Error> {
    let first = meta_at(source, 0, 0, len);
    let second = match &first {
        Ok(meta) => meta_at(source, u64::from(meta.page_bytes), 1, len),
        // The page size stands in the meta that is not there.
        Err(_) => std::iter::successors(Some(*PAGE_SIZES.start() as u64), |size| Some(size * 2))
            .take_while(|size| *size <= *PAGE_SIZES.end() as u64 && size * 2 <= len)
            .find_map(|size| meta_at(source, size, 1, len).ok().filter(|m| u64::from(m.page_bytes) == size))
            .ok_or_else(|| Error::corrupt("no second meta")),
    };
    match (first, second) {
        (Ok(first), Ok(second)) if second.page_bytes == first.page_bytes && second.txid > first.txid => {
            Ok(second)
        }
        (Ok(first), _) => Ok(first),
        (Err(_), Ok(second)) => Ok(second),
        (Err(first), Err(_)) => Err(first),
    }
}

fn meta_at(source: &impl Source, at: u64, id: u64, len: u64) -> Result<Meta, Error> {
    let mut bytes = [0; HEADER_BYTES + META_BYTES];
    if at + bytes.len() as u64 > len {
        return Err(Error::corrupt("too short"));
    }
    source.read(&mut bytes, at)?;
    if u64_at(&bytes, 0) != id || u16_at(&bytes, 8) != META {
        return Err(Error::corrupt("no meta page"));
    }
    Meta::decode(&bytes[HEADER_BYTES..])
}

/// A page in memory, its counts checked against its length.
struct Page {
    id: u64,
    kind: u16,
    pages: u64,
    bytes: Vec<u8>,
}

impl Page {
    fn new(id: u64, bytes: Vec<u8>, pages: u64) -> Result<Self, Error> {
        let page = Self { id, kind: u16_at(&bytes, 8), pages, bytes };
        let heads = if page.kind == FREE_LIST { 0 } else { page.count() * ELEMENT_BYTES };
        if page.bytes.len() < HEADER_BYTES + heads {
            return Err(page.wrong("counts more than it has"));
        }
        Ok(page)
    }

    /// The leaf page behind a bucket's head.
    fn inline(bytes: &[u8]) -> Result<Self, Error> {
        let page = Self::new(0, bytes.to_vec(), 0)?;
        if page.kind == LEAF { Ok(page) } else { Err(page.wrong("is inline and no leaf")) }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::corrupt(format!("page {} {what}", self.id))
    }

    fn pages(&self) -> u64 {
        self.pages
    }

    fn count(&self) -> usize {
        usize::from(u16_at(&self.bytes, 10))
    }

    /// `len` bytes, `offset` behind the head of an element.
    fn data(&self, element: usize, offset: u32, len: u64) -> Result<&[u8], Error> {
        let from = (HEADER_BYTES + element * ELEMENT_BYTES) as u64 + u64::from(offset);
        let range = usize::try_from(from).ok().zip(usize::try_from(from + len).ok());
        range.and_then(|(from, to)| self.bytes.get(from..to)).ok_or_else(|| self.wrong("points past its end"))
    }

    fn head(&self, element: usize) -> &[u8] {
        &self.bytes[HEADER_BYTES + element * ELEMENT_BYTES..]
    }

    fn leaf(&self, element: usize) -> Result<(&[u8], Value<'_>), Error> {
        let head = self.head(element);
        let (flags, offset) = (u32_at(head, 0), u32_at(head, 4));
        let (key, value) = (u32_at(head, 8), u32_at(head, 12));
        let data = self.data(element, offset, u64::from(key) + u64::from(value))?;
        let (key, value) = data.split_at(key as usize);
        if flags & IS_BUCKET == 0 {
            return Ok((key, Value::Bytes(value)));
        }
        let inline = value.get(BUCKET_BYTES..).ok_or_else(|| self.wrong("has a short bucket"))?;
        let tree = match u64_at(value, 0) {
            0 => TreeAt::Inline(inline.to_vec()),
            root => TreeAt::Page(root),
        };
        Ok((key, Value::Bucket(Bucket { tree })))
    }

    fn child(&self, element: usize) -> Result<u64, Error> {
        let head = self.head(element);
        // The key is not used, but must be there.
        self.data(element, u32_at(head, 0), u64::from(u32_at(head, 4)))?;
        Ok(u64_at(head, 8))
    }

    fn free_pages(&self) -> Result<impl Iterator<Item = u64> + '_, Error> {
        let ids = &self.bytes[HEADER_BYTES..];
        let (count, ids) = match u16_at(&self.bytes, 10) {
            MANY => (u64_at(ids, 0), ids.get(8..).unwrap_or_default()),
            count => (u64::from(count), ids),
        };
        if count > (ids.len() / 8) as u64 {
            return Err(self.wrong("counts more free pages than it has"));
        }
        Ok(ids.chunks_exact(8).take(count as usize).map(|id| u64_at(id, 0)))
    }
}
