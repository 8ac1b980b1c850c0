//! The same batch with another codec (`compression.type` of a topic).

use base::checksum::crc32c;

use super::{
    ATTRIBUTES_AT, Batch, CODEC_MASK, CRC_AT, Compression, HEADER_SIZE, LENGTH_AT, LOG_OVERHEAD, RecordError,
};

/// The batch with its records compressed by `codec` at `level`. Everything else stays; the checksum is renewed.
///
/// # Errors
/// A body that does not decompress, or to more than `limit` bytes.
pub fn recompress(
    batch: Batch<'_>,
    codec: Compression,
    level: Option<i32>,
    limit: usize,
) -> Result<Vec<u8>, RecordError> {
    let plain = batch.compression()?.decompress(batch.body(), limit)?;
    let body = codec.compress_at(&plain, level)?;
    let mut out = Vec::with_capacity(HEADER_SIZE + body.len());
    out.extend_from_slice(&batch.bytes()[..HEADER_SIZE]);
    out.extend_from_slice(&body);
    let length = i32::try_from(out.len() - LOG_OVERHEAD).map_err(|_| RecordError::TooLarge(limit))?;
    out[LENGTH_AT..LOG_OVERHEAD].copy_from_slice(&length.to_be_bytes());
    let attributes = batch.attributes() & !CODEC_MASK | codec.number();
    out[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c(&out[ATTRIBUTES_AT..]);
    out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    Ok(out)
}
