//! Records that go from a segment's file to a client without ever being held: an answer is laid out with stand-ins of
//! their lengths; the kernel sends the slices, or under TLS they go through one buffer that is as large as the
//! processor's cache likes.
//!
//! ```text
//! read ─▶ Slice n, stand-in n ─▶ PartitionData ─▶ frame: [header][stand-in 0][header][stand-in 1]...
//! plain:  header ──write──▶ socket, Slice n ─sendfile─▶ socket
//! TLS:    header ──copy───┐
//!         Slice n ─pread──┴▶ [ buffer ] ──write──▶ socket
//! ```
//! A stand-in is a part of one block of zeros that nobody touches (and so has no memory): where it begins tells its number.

use std::io;
use std::sync::LazyLock;

use bytes::Bytes;
use commitlog::Slice;
use parking_lot::Mutex;

/// Larger runs of records than this are told in several answers.
pub(crate) const SLICE_BYTES_MAX: usize = 64 << 20;
/// Slices in an answer.
pub(crate) const SLICES_MAX: usize = 64 << 10;
/// Bytes of records that are read at once: a few small reads cost more than the memory.
pub(crate) const IN_MEMORY_BYTES_MAX: usize = 32 << 10;
/// What goes through a buffer at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Buffers kept while nobody needs them.
const SPARE_BUFFERS: usize = 8;

static ZEROS: LazyLock<&'static [u8]> =
    LazyLock::new(|| Box::leak(vec![0; SLICE_BYTES_MAX + SLICES_MAX].into_boxed_slice()));
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Records of an answer that are still in their files, by number.
#[derive(Debug, Default)]
pub(crate) struct Slices(Vec<Slice>);

impl Slices {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= SLICES_MAX
    }

    /// Keeps a slice of at most [`SLICE_BYTES_MAX`] and gives what stands for it.
    pub(crate) fn add(&mut self, slice: Slice) -> Bytes {
        let number = self.0.len();
        let stand_in = Bytes::from_static(&ZEROS[number..number + slice.len()]);
        self.0.push(slice);
        stand_in
    }

    /// Whether the kernel can send all of them.
    pub(crate) fn have_descriptors(&self) -> bool {
        self.0.iter().all(Slice::has_descriptor)
    }

    /// What `chunk` stands for, if it does.
    pub(crate) fn of(&self, chunk: &Bytes) -> Option<&Slice> {
        let number = (chunk.as_ptr() as usize).checked_sub(ZEROS.as_ptr() as usize)?;
        self.0.get(number).filter(|slice| number < SLICES_MAX && slice.len() == chunk.len())
    }
}

/// Gives an answer's bytes a buffer at a time.
pub(crate) struct Pieces {
    chunks: std::vec::IntoIter<Bytes>,
    slices: Slices,
    /// The chunk under way, and how much of it is done.
    current: Option<(Bytes, usize)>,
    buffer: Vec<u8>,
}

impl Pieces {
    pub(crate) fn new(chunks: Vec<Bytes>, slices: Slices) -> Self {
        let buffer = SPARE.lock().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        Self { chunks: chunks.into_iter(), slices, current: None, buffer }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn next(&mut self) -> io::Result<&[u8]> {
        let mut filled = 0;
        while filled < self.buffer.len() {
            let Some((chunk, done)) = self.current.take().or_else(|| Some((self.chunks.next()?, 0))) else {
                break;
            };
            let room = &mut self.buffer[filled..];
            let size = room.len().min(chunk.len() - done);
            match self.slices.of(&chunk) {
                Some(slice) => slice.read_exact(&mut room[..size], done)?,
                None => room[..size].copy_from_slice(&chunk[done..done + size]),
            }
            filled += size;
            self.current = Some((chunk, done + size)).filter(|(chunk, done)| *done < chunk.len());
        }
        Ok(&self.buffer[..filled])
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        let mut spare = SPARE.lock();
        if spare.len() < SPARE_BUFFERS {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}
