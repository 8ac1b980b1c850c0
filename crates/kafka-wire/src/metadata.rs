//! Records of `__cluster_metadata`, the log of an Apache Kafka cluster's metadata (KIP-631, MetadataRecordSerde.java).
//!
//! ```text
//! value  frame version varint (1) | record type varint | version varint | record in that version
//! ```

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Encoder, Message, Reader};
pub use crate::generated::metadata::*;

/// The only frame there is.
const FRAME: u32 = 1;

/// The value of a record of the log.
///
/// # Errors
/// A version that the record does not have.
pub fn encode<M: Message>(record: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Encoder::new();
    w.uvarint(FRAME);
    w.uvarint(u32::from(M::KEY.unsigned_abs()));
    w.uvarint(u32::from(version.unsigned_abs()));
    record.write(&mut w, version);
    w.finish_contiguous()
}

/// A record whose frame was read.
#[derive(Debug)]
pub struct Framed {
    /// The record's type, `Message::KEY` of one of the records here.
    pub key: i16,
    pub version: i16,
    record: Reader,
}

impl Framed {
    /// Reads the frame of a value.
    ///
    /// # Errors
    /// Another frame version, or numbers that make no sense.
    pub fn read(value: &Bytes) -> Result<Self, DecodeError> {
        let mut record = Reader::new(value.clone());
        let frame = record.uvarint()?;
        if frame != FRAME {
            let version = i16::try_from(frame).unwrap_or(i16::MAX);
            return Err(DecodeError::UnsupportedVersion { message: "metadata frame", version });
        }
        let mut small = || i16::try_from(record.uvarint()?).map_err(|_| DecodeError::VarintTooLong);
        let (key, version) = (small()?, small()?);
        Ok(Self { key, version, record })
    }

    /// Reads the record, whose type is `M`'s.
    ///
    /// # Errors
    /// Another type, a version nobody knows, bytes that are no such record.
    pub fn decode<M: Message>(mut self) -> Result<M, DecodeError> {
        if self.key != M::KEY {
            return Err(DecodeError::UnknownKey(self.key));
        }
        M::read(&mut self.record, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_as_kafka_frames_it() {
        // The first record of every bootstrap.checkpoint that Kafka 4.3's kafka-storage writes.
        let level = FeatureLevelRecord { name: "metadata.version".into(), feature_level: 30 };
        let bytes = encode(&level, 0).unwrap();
        assert_eq!(&bytes[..], b"\x01\x0c\x00\x11metadata.version\x00\x1e\x00");
        let framed = Framed::read(&bytes).unwrap();
        assert_eq!((framed.key, framed.version), (12, 0));
        assert_eq!(framed.decode::<FeatureLevelRecord>(), Ok(level));
        let framed = Framed::read(&bytes).unwrap();
        assert_eq!(framed.decode::<TopicRecord>(), Err(DecodeError::UnknownKey(12)));
        for bad in [&b""[..], b"\x02\x0c\x00", b"\x01\x0c", b"\x01\xff\xff\x7f\x00"] {
            assert!(Framed::read(&Bytes::from_static(bad)).is_err(), "{bad:?}");
        }
    }
}
