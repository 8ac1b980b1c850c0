//! Keys and values of internal topics.
//!
//! ```text
//! key    record type i16 | key, version 0
//! value  version i16     | value in that version
//! ```

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Encoder, Message, Reader};

/// The bytes of a key: its record type and the key.
pub fn encode_key<K: Message>(key: &K) -> Result<Bytes, EncodeError> {
    prefixed(K::KEY, key, 0)
}

/// The bytes of a value: its version and the value.
pub fn encode_value<V: Message>(value: &V, version: i16) -> Result<Bytes, EncodeError> {
    prefixed(version, value, version)
}

fn prefixed<M: Message>(prefix: i16, message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Encoder::new();
    w.i16(prefix);
    message.write(&mut w, version);
    w.finish_contiguous()
}

/// The record type of a key.
pub fn key_type(key: &Bytes) -> Result<i16, DecodeError> {
    Reader::new(key.clone()).i16()
}

/// Reads a key whose type is `K`'s, else `UnknownKey`.
pub fn decode_key<K: Message>(key: &Bytes) -> Result<K, DecodeError> {
    let mut r = Reader::new(key.clone());
    let kind = r.i16()?;
    if kind != K::KEY {
        return Err(DecodeError::UnknownKey(kind));
    }
    K::read(&mut r, 0)
}

/// Reads a value in the version it says.
pub fn decode_value<V: Message>(value: &Bytes) -> Result<V, DecodeError> {
    let mut r = Reader::new(value.clone());
    let version = r.i16()?;
    V::read(&mut r, version)
}
