//! Reading and writing the protocol's types, bounded by the bytes that are there.
//!
//! ```text
//! frame (Bytes) --Reader--> generated struct            strings are copied, bytes and records are slices of the frame
//! generated struct --Encoder--> chunks (Vec<Bytes>)     records are chunks of their own, never copied
//! ```
//!
//! Every count and length is checked against what is left before anything is allocated: a message never makes the
//! reader allocate more than a small multiple of its own size. Types are those of `message/README.md` of Kafka.

pub(crate) use bytes::Bytes;
pub(crate) use uuid::Uuid;

/// Records of at least this many bytes become a chunk of their own; copying less is cheaper than another iovec.
const SHARE_FROM_BYTES: usize = 512;

/// Why bytes are not a message. All mean the same to a peer: the request is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before a field does, or a length is larger than what follows.
    #[error("the message ends in the middle of a field")]
    UnexpectedEnd,
    /// A null or a negative length where the version has no null.
    #[error("null where the field cannot be null")]
    UnexpectedNull,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A variable-length number longer than its type.
    #[error("a variable-length number is too long")]
    VarintTooLong,
    /// A version outside the message's range.
    #[error("version {version} of {message} is not supported")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// An API key or a record type that is not known.
    #[error("unknown key {0}")]
    UnknownKey(i16),
}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string above 32,767 bytes in a version with two-byte lengths, or more than 2 GiB of anything.
    #[error("a field is longer than its length can say")]
    TooLong,
    /// A version outside the message's range.
    #[error("version {version} of {message} is not supported")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}

/// A struct on the wire: a message or a part of one. `version` is always the message's.
pub trait Wire: Sized {
    /// The least number of bytes an encoding takes in any version, at least 1.
    const MIN_SIZE: usize;
    /// Reads one; fields that the version does not have keep their defaults, unknown tagged fields are skipped.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;
    /// Writes one; fields that the version does not have are left out.
    fn encode(&self, w: &mut Encoder, version: i16);
}

/// A whole message.
pub trait Message: Wire + Default + std::fmt::Debug {
    /// Kafka's name of it, `FetchRequest`.
    const NAME: &'static str;
    /// The API key of a request or response, the record type of a key or value of an internal topic, else -1.
    const KEY: i16;
    /// First and last version.
    const VERSIONS: (i16, i16);
    /// The first version with compact lengths and tagged fields; `i16::MAX` where none has them.
    const FLEXIBLE_FROM: i16;

    /// Reads a message from the reader's position. Trailing bytes are left, as Kafka leaves them.
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if version < Self::VERSIONS.0 || version > Self::VERSIONS.1 {
            return Err(DecodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        Self::decode(r, version)
    }

    /// Reads a message from bytes that hold nothing before it.
    fn from_bytes(bytes: &Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes.clone()), version)
    }

    /// Writes the message at the encoder's end.
    fn write(&self, w: &mut Encoder, version: i16) {
        if version < Self::VERSIONS.0 || version > Self::VERSIONS.1 {
            w.fail(EncodeError::UnsupportedVersion { message: Self::NAME, version });
            return;
        }
        self.encode(w, version);
    }

    /// The message alone as contiguous bytes.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut w = Encoder::new();
        self.write(&mut w, version);
        w.finish_contiguous()
    }
}

/// A message encoded again, and its `Debug` text.
pub type Recoded = (Bytes, String);

/// A message by name, for tests, tools and fuzzers.
#[derive(Clone, Copy, Debug)]
pub struct MessageInfo {
    /// Kafka's name of it.
    pub name: &'static str,
    /// As [`Message::KEY`].
    pub key: i16,
    /// As [`Message::VERSIONS`].
    pub versions: (i16, i16),
    /// As [`Message::FLEXIBLE_FROM`].
    pub flexible_from: i16,
    /// Decodes and encodes again; also gives the `Debug` text.
    pub recode: fn(&Bytes, i16) -> Result<Recoded, DecodeError>,
    /// Encodes the message with every field at its default.
    pub encode_default: fn(i16) -> Result<Bytes, EncodeError>,
}

impl MessageInfo {
    pub(crate) const fn of<M: Message>() -> Self {
        Self {
            name: M::NAME,
            key: M::KEY,
            versions: M::VERSIONS,
            flexible_from: M::FLEXIBLE_FROM,
            recode: recode::<M>,
            encode_default: |version| M::default().to_bytes(version),
        }
    }
}

fn recode<M: Message>(bytes: &Bytes, version: i16) -> Result<Recoded, DecodeError> {
    let message = M::from_bytes(bytes, version)?;
    let again = message.to_bytes(version).unwrap_or_default();
    Ok((again, format!("{message:?}")))
}

/// A position in a message.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    pos: usize,
}

macro_rules! read_number {
    ($($name:ident: $ty:ty),*) => {$(
        #[doc = concat!("A big-endian `", stringify!($ty), "`.")]
        pub fn $name(&mut self) -> Result<$ty, DecodeError> {
            let raw = self.take(size_of::<$ty>())?;
            Ok(<$ty>::from_be_bytes(raw.try_into().expect("take gives what was asked for")))
        }
    )*};
}

impl Reader {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, pos: 0 }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// The bytes that are left, not copied.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.pos..)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        if count > self.remaining() {
            return Err(DecodeError::UnexpectedEnd);
        }
        let from = self.pos;
        self.pos += count;
        Ok(&self.bytes[from..self.pos])
    }

    fn take_shared(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        let from = self.pos;
        self.take(count)?;
        Ok(self.bytes.slice(from..self.pos))
    }

    read_number!(i8: i8, i16: i16, u16: u16, i32: i32, u32: u32, i64: i64, f64: f64);

    /// One byte, anything but 0 is true.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// 16 bytes.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        let raw = self.take(16)?;
        Ok(Uuid::from_bytes(raw.try_into().expect("take gives what was asked for")))
    }

    /// An unsigned number in groups of 7 bits, lowest first, at most five bytes.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::VarintTooLong);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A length of a string (`short` lengths have two bytes), of bytes or of an array: None is null.
    fn length(&mut self, flex: bool, short: bool) -> Result<Option<usize>, DecodeError> {
        let length = match (flex, short) {
            (true, _) => i64::from(self.uvarint()?) - 1,
            (false, true) => i64::from(self.i16()?),
            (false, false) => i64::from(self.i32()?),
        };
        match length {
            -1 => Ok(None),
            ..-1 => Err(DecodeError::UnexpectedNull),
            _ if length as u64 > self.remaining() as u64 => Err(DecodeError::UnexpectedEnd),
            _ => Ok(Some(length as usize)),
        }
    }

    /// A string or null. `flex`: in the compact form.
    pub fn nullable_string(&mut self, flex: bool) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.length(flex, true)? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::InvalidUtf8)?;
        Ok(Some(text.to_owned()))
    }

    /// A string.
    pub fn string(&mut self, flex: bool) -> Result<String, DecodeError> {
        self.nullable_string(flex)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Bytes or null, a slice of the message.
    pub fn nullable_bytes(&mut self, flex: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(flex, false)? else { return Ok(None) };
        self.take_shared(length).map(Some)
    }

    /// Bytes, a slice of the message.
    pub fn bytes(&mut self, flex: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flex)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// An array or null, whose elements take at least `min` bytes each.
    pub fn nullable_array<T>(
        &mut self,
        flex: bool,
        min: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flex, false)? else { return Ok(None) };
        if count > self.remaining() / min {
            return Err(DecodeError::UnexpectedEnd);
        }
        // What is reserved at first is no larger than what is left; elements that are larger in memory earn their room.
        let mut out = Vec::with_capacity(count.min(self.remaining() / size_of::<T>().max(1)));
        for _ in 0..count {
            out.push(one(self)?);
        }
        Ok(Some(out))
    }

    /// An array, whose elements take at least `min` bytes each.
    pub fn array<T>(
        &mut self,
        flex: bool,
        min: usize,
        one: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flex, min, one)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A struct behind a byte that is negative for null.
    pub fn nullable_struct<T>(
        &mut self,
        one: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 { Ok(None) } else { one(self).map(Some) }
    }

    /// The tagged fields: `known` gets each tag with a reader over that field alone.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let field = self.take_shared(size)?;
            known(tag, &mut Self::new(field))?;
        }
        Ok(())
    }

    /// Skips all tagged fields.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let size = self.uvarint()? as usize;
            self.take(size)?;
        }
        Ok(())
    }
}

/// Writes messages into one buffer and remembers where shared records belong.
///
/// Writing never fails on the spot; [`Encoder::finish`] tells the first thing that could not be written.
#[derive(Debug, Default)]
pub struct Encoder {
    buf: Vec<u8>,
    /// Bytes that belong before the given position of `buf`.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
    fault: Option<EncodeError>,
}

macro_rules! write_number {
    ($($name:ident: $ty:ty),*) => {$(
        #[doc = concat!("A big-endian `", stringify!($ty), "`.")]
        pub fn $name(&mut self, value: $ty) {
            self.buf.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

impl Encoder {
    /// An empty encoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An encoder with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buf: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// How many bytes were written, shared ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len() + self.shared_len
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Overwrites four bytes at the start, where a frame's size was reserved.
    pub(crate) fn patch_size(&mut self, size: i32) {
        self.buf[..4].copy_from_slice(&size.to_be_bytes());
    }

    pub(crate) fn fail(&mut self, fault: EncodeError) {
        self.fault.get_or_insert(fault);
    }

    write_number!(i8: i8, i16: i16, u16: u16, i32: i32, u32: u32, i64: i64, f64: f64);

    /// One byte, 1 or 0.
    pub fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    /// 16 bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.buf.extend_from_slice(value.as_bytes());
    }

    /// Bytes as they are, with no length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// An unsigned number in groups of 7 bits, lowest first.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }

    fn length(&mut self, flex: bool, short: bool, length: Option<usize>) {
        let limit = if short && !flex { i16::MAX as usize } else { i32::MAX as usize - 1 };
        if length.is_some_and(|l| l > limit) {
            return self.fail(EncodeError::TooLong);
        }
        match (flex, short) {
            (true, _) => self.uvarint(length.map_or(0, |l| l as u32 + 1)),
            (false, true) => self.i16(length.map_or(-1, |l| l as i16)),
            (false, false) => self.i32(length.map_or(-1, |l| l as i32)),
        }
    }

    /// A string or null.
    pub fn nullable_string(&mut self, flex: bool, value: Option<&str>) {
        self.length(flex, true, value.map(str::len));
        self.raw(value.unwrap_or_default().as_bytes());
    }

    /// A string.
    pub fn string(&mut self, flex: bool, value: &str) {
        self.nullable_string(flex, Some(value));
    }

    /// Bytes or null, copied.
    pub fn nullable_bytes(&mut self, flex: bool, value: Option<&[u8]>) {
        self.length(flex, false, value.map(<[u8]>::len));
        self.raw(value.unwrap_or_default());
    }

    /// Bytes, copied.
    pub fn bytes(&mut self, flex: bool, value: &[u8]) {
        self.nullable_bytes(flex, Some(value));
    }

    /// Record batches or null; not copied once they are large enough to be worth a chunk.
    pub fn records(&mut self, flex: bool, value: Option<&Bytes>) {
        self.length(flex, false, value.map(Bytes::len));
        match value {
            Some(records) if records.len() >= SHARE_FROM_BYTES => {
                self.shared.push((self.buf.len(), records.clone()));
                self.shared_len += records.len();
            }
            Some(records) => self.raw(records),
            None => {}
        }
    }

    /// An array or null.
    pub fn nullable_array<T>(&mut self, flex: bool, items: Option<&[T]>, mut one: impl FnMut(&mut Self, &T)) {
        self.length(flex, false, items.map(<[T]>::len));
        for item in items.unwrap_or_default() {
            one(self, item);
        }
    }

    /// An array.
    pub fn array<T>(&mut self, flex: bool, items: &[T], one: impl FnMut(&mut Self, &T)) {
        self.nullable_array(flex, Some(items), one);
    }

    /// A struct behind a byte, or the byte that says null.
    pub fn nullable_struct<T>(&mut self, value: Option<&T>, one: impl FnOnce(&mut Self, &T)) {
        self.i8(if value.is_some() { 1 } else { -1 });
        if let Some(value) = value {
            one(self, value);
        }
    }

    /// No tagged fields.
    pub fn no_tags(&mut self) {
        self.buf.push(0);
    }

    /// Tagged fields, which `fill` gives in the order of their tags.
    pub fn tags(&mut self, fill: impl FnOnce(&mut TagEncoder)) {
        let mut tags = TagEncoder::default();
        fill(&mut tags);
        self.uvarint(tags.count);
        if let Some(fault) = tags.fields.fault {
            self.fail(fault);
        }
        self.raw(&tags.fields.buf);
    }

    /// What was written, in chunks to be sent one after the other. Records are chunks of their own.
    pub fn finish(self) -> Result<Vec<Bytes>, EncodeError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let own = Bytes::from(self.buf);
        let (mut chunks, mut from) = (Vec::with_capacity(2 * self.shared.len() + 1), 0);
        for (at, shared) in self.shared {
            if at > from {
                chunks.push(own.slice(from..at));
            }
            chunks.push(shared);
            from = at;
        }
        if from < own.len() {
            chunks.push(own.slice(from..));
        }
        Ok(chunks)
    }

    /// What was written as one piece; copies when there are shared records.
    pub fn finish_contiguous(self) -> Result<Bytes, EncodeError> {
        let mut chunks = self.finish()?;
        match chunks.len() {
            0 => Ok(Bytes::new()),
            1 => Ok(chunks.swap_remove(0)),
            _ => Ok(Bytes::from(chunks.concat())),
        }
    }
}

/// Collects tagged fields, which are preceded by their sizes.
#[derive(Debug, Default)]
pub struct TagEncoder {
    count: u32,
    fields: Encoder,
}

impl TagEncoder {
    /// Adds a field.
    pub fn field(&mut self, tag: u32, write: impl FnOnce(&mut Encoder)) {
        let mut value = Encoder::new();
        write(&mut value);
        self.count += 1;
        self.fields.uvarint(tag);
        self.fields.uvarint(value.buf.len() as u32);
        self.fields.raw(&value.buf);
        if let Some(fault) = value.fault {
            self.fields.fail(fault);
        }
    }
}
