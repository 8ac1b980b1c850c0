//! Frames: a size of four bytes, a header, a body.
//!
//! ```text
//! request   size i32 | key i16 | version i16 | correlation id i32 | client id | tags (flexible) | body
//! response  size i32 | correlation id i32 | tags (flexible) | body
//! ```

use bytes::Bytes;

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Encoder, Message, Reader};

/// A request's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The API key as sent, known or not.
    pub key: i16,
    /// The version as sent, supported or not.
    pub version: i16,
    /// What the response must repeat.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
}

impl RequestHead {
    /// Reads the header of a frame (without its size) and leaves the reader at the body.
    ///
    /// An unknown key or version is no error here: the header up to the client id is the same in all of them, and
    /// the caller needs the correlation id to answer. The tags of such a header are left unread.
    pub fn read(frame: &Bytes) -> Result<(Self, Reader), DecodeError> {
        let mut r = Reader::new(frame.clone());
        let (key, version, correlation_id) = (r.i16()?, r.i16()?, r.i32()?);
        let client_id = r.nullable_string(false)?;
        let known = ApiKey::from_i16(key).filter(|api| api.versions().contains(version));
        if known.is_some_and(|api| api.request_header_version(version) >= 2) {
            r.skip_tags()?;
        }
        Ok((Self { key, version, correlation_id, client_id }, r))
    }
}

/// The frame of a response, size included, as chunks to be sent one after the other.
pub fn response<M: Message>(
    correlation_id: i32,
    version: i16,
    message: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut w = Encoder::with_capacity(128);
    w.i32(0);
    w.i32(correlation_id);
    if M::KEY != ApiKey::ApiVersions.number() && version >= M::FLEXIBLE_FROM {
        w.no_tags();
    }
    message.write(&mut w, version);
    close(w)
}

/// The frame of a request, size included: what a client sends.
pub fn request<M: Message>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    message: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut w = Encoder::with_capacity(128);
    w.i32(0);
    w.i16(M::KEY);
    w.i16(version);
    w.i32(correlation_id);
    w.nullable_string(false, client_id);
    if version >= M::FLEXIBLE_FROM {
        w.no_tags();
    }
    message.write(&mut w, version);
    close(w)
}

/// Reads a response's frame (without its size): the correlation id and the body.
pub fn read_response<M: Message>(frame: &Bytes, version: i16) -> Result<(i32, M), DecodeError> {
    let mut r = Reader::new(frame.clone());
    let correlation_id = r.i32()?;
    if M::KEY != ApiKey::ApiVersions.number() && version >= M::FLEXIBLE_FROM {
        r.skip_tags()?;
    }
    Ok((correlation_id, M::read(&mut r, version)?))
}

fn close(mut w: Encoder) -> Result<Vec<Bytes>, EncodeError> {
    let size = i32::try_from(w.len() - 4).map_err(|_| EncodeError::TooLong)?;
    w.patch_size(size);
    w.finish()
}
