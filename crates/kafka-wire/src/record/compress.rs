//! The codecs of record batches, as the Java client frames them.
//!
//! snappy: with the header of snappy-java (`82 SNAPPY 00`, two i32 versions, then blocks of i32 length and raw
//! snappy) or, as librdkafka may send it, one raw block. lz4: the frame format. gzip, zstd: their own formats.

use std::io::{self, Read, Write};

use super::RecordError;

/// The header of snappy-java: magic, version 1, compatible with 1.
const SNAPPY_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// How much of the header tells framed from raw.
const SNAPPY_MAGIC_SIZE: usize = 8;
/// What snappy-java puts in a block.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy copy gives at most 64 bytes for three: larger claims are lies, refused before memory is taken.
const SNAPPY_RATIO_MAX: usize = 22;
/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Google's snappy in the framing of snappy-java.
    Snappy,
    /// The lz4 frame format.
    Lz4,
    /// Zstandard, RFC 8878; produce version 7 and later.
    Zstd,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    pub(super) fn from_attributes(codec: i16) -> Result<Self, RecordError> {
        Self::ALL.get(codec as usize).copied().ok_or(RecordError::Codec(codec))
    }

    /// The number in a batch's attributes.
    #[must_use]
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The name in Kafka's configuration, `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Compresses a whole body at the codec's usual level.
    pub fn compress(self, body: &[u8]) -> Result<Vec<u8>, RecordError> {
        self.compress_at(body, None)
    }

    /// Compresses a whole body at a level of Kafka's `compression.<codec>.level`. Of snappy there is one compressor.
    pub fn compress_at(self, body: &[u8], level: Option<i32>) -> Result<Vec<u8>, RecordError> {
        let failed = |_| RecordError::Decompress(self.name());
        match self {
            Self::None => Ok(body.to_vec()),
            Self::Gzip => gzip(body, level).map_err(failed),
            Self::Snappy => snappy(body).ok_or(RecordError::Decompress("snappy")),
            Self::Lz4 => match level.filter(|level| *level != LZ4_LEVEL_DEFAULT) {
                Some(level) => lz4_high(body, level).map_err(failed),
                None => lz4(body).map_err(failed),
            },
            Self::Zstd => zstd::stream::encode_all(body, level.unwrap_or(0)).map_err(failed),
        }
    }

    /// Decompresses a whole body that has nothing to do with records, of at most `limit` bytes.
    pub fn decompress(self, body: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
        let mut plain = Vec::new();
        let bound = limit as u64 + 1;
        let read = self.stream(body, limit)?.take(bound).read_to_end(&mut plain);
        read.map_err(|_| RecordError::Decompress(self.name()))?;
        if plain.len() > limit { Err(RecordError::TooLarge(limit)) } else { Ok(plain) }
    }

    /// A stream of the decompressed body. `limit` bounds what the stream may hold at once, not its length.
    pub(super) fn stream(self, body: &[u8], limit: usize) -> Result<Box<dyn Read + '_>, RecordError> {
        match self {
            Self::None => Ok(Box::new(body)),
            Self::Gzip => Ok(Box::new(flate2::read::MultiGzDecoder::new(body))),
            Self::Snappy => Ok(Box::new(SnappyBlocks::open(body, limit)?)),
            // The decoder takes a frame without its end for a whole one; the Java consumer fails on it, for ever.
            Self::Lz4 if !lz4_ends(body).unwrap_or_default() => Err(RecordError::Decompress("lz4")),
            Self::Lz4 => Ok(Box::new(lz4_flex::frame::FrameDecoder::new(body))),
            // The decoder's own bound on the window (2^27) is what level 22 needs; its pages are touched only by data.
            Self::Zstd => match zstd::stream::read::Decoder::with_buffer(body) {
                Ok(decoder) => Ok(Box::new(decoder)),
                Err(_) => Err(RecordError::Decompress("zstd")),
            },
        }
    }
}

/// The default of `compression.lz4.level`, by which Kafka means the fast compressor; every other level is the high one's.
const LZ4_LEVEL_DEFAULT: i32 = 9;
/// How a frame begins: the magic number; version 1, blocks that do not refer to each other; blocks of 64 KiB; and the second
/// byte of the xxHash of the two bytes before.
const LZ4_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const LZ4_BLOCK_BYTES: usize = 64 * 1024;
/// Marks a block that is stored as it is.
const LZ4_UNCOMPRESSED: u32 = 1 << 31;

fn gzip(body: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let level = level.and_then(|level| u32::try_from(level).ok()).map(flate2::Compression::new);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level.unwrap_or_default());
    encoder.write_all(body)?;
    encoder.finish()
}

fn lz4(body: &[u8]) -> io::Result<Vec<u8>> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    // What the Java client writes: 64 KiB blocks that do not refer to each other, no checksums.
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(body)?;
    encoder.finish().map_err(io::Error::other)
}

/// The same frames, compressed with more patience: higher levels take longer, and those above 12 are as 12.
fn lz4_high(body: &[u8], level: i32) -> io::Result<Vec<u8>> {
    use lz4::block::{CompressionMode, compress_bound, compress_to_buffer};
    let mut frame = LZ4_HEADER.to_vec();
    let mut block = vec![0; compress_bound(LZ4_BLOCK_BYTES)?];
    for plain in body.chunks(LZ4_BLOCK_BYTES) {
        let mode = Some(CompressionMode::HIGHCOMPRESSION(level));
        let len = compress_to_buffer(plain, mode, false, &mut block)?;
        let (size, stored) = match len < plain.len() {
            true => (len as u32, &block[..len]),
            false => (plain.len() as u32 | LZ4_UNCOMPRESSED, plain),
        };
        frame.extend_from_slice(&size.to_le_bytes());
        frame.extend_from_slice(stored);
    }
    // The end mark.
    frame.extend_from_slice(&[0; 4]);
    Ok(frame)
}

/// Whether a frame of LZ4 has its end mark and what follows it; None where its bytes end before.
fn lz4_ends(frame: &[u8]) -> Option<bool> {
    const HEADER_BYTES: usize = 7;
    let flags = *frame.get(4)?;
    let when = |flag: u8, bytes: usize| if flags & flag == 0 { 0 } else { bytes };
    let (block_checksum, content_checksum) = (when(0x10, 4), when(0x04, 4));
    let mut at = HEADER_BYTES + when(0x08, 8) + when(0x01, 4);
    loop {
        let size = u32::from_le_bytes(*frame.get(at..)?.first_chunk()?);
        at += 4;
        if size == 0 {
            return Some(frame.len() >= at + content_checksum);
        }
        // The highest bit tells a block that is not compressed.
        at = at.checked_add((size & 0x7fff_ffff) as usize + block_checksum)?;
    }
}

fn snappy(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = SNAPPY_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in body.chunks(SNAPPY_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).ok()?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Some(out)
}

/// Decompresses block after block.
struct SnappyBlocks<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
    limit: usize,
}

impl<'a> SnappyBlocks<'a> {
    fn open(body: &'a [u8], limit: usize) -> Result<Self, RecordError> {
        let framed = body.starts_with(&SNAPPY_HEADER[..SNAPPY_MAGIC_SIZE]);
        let skip = if framed { SNAPPY_HEADER.len() } else { 0 };
        let rest = body.get(skip..).ok_or(RecordError::Decompress("snappy"))?;
        Ok(Self { rest, framed, block: Vec::new(), at: 0, limit })
    }

    fn next_packed(&mut self) -> Option<&'a [u8]> {
        if !self.framed {
            return Some(std::mem::take(&mut self.rest));
        }
        let (size, after) = self.rest.split_first_chunk::<4>()?;
        let (packed, rest) = after.split_at_checked(u32::from_be_bytes(*size) as usize)?;
        self.rest = rest;
        Some(packed)
    }

    fn next_block(&mut self) -> Option<()> {
        let packed = self.next_packed()?;
        let size = snap::raw::decompress_len(packed).ok()?;
        if size > self.limit || size > packed.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return None;
        }
        self.block.resize(size, 0);
        self.at = 0;
        snap::raw::Decoder::new().decompress(packed, &mut self.block).ok().map(|_| ())
    }
}

impl Read for SnappyBlocks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block().ok_or(io::ErrorKind::InvalidData)?;
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
