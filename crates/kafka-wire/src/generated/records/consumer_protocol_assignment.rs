// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ConsumerProtocolAssignment`, versions 0-3.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConsumerProtocolAssignment {
    pub assigned_partitions: Vec<TopicPartition>,
    pub user_data: Option<Bytes>,
}

impl Wire for ConsumerProtocolAssignment {
    const MIN_SIZE: usize = 8;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.assigned_partitions =
            r.array(false, TopicPartition::MIN_SIZE, |r| TopicPartition::decode(r, version))?;
        m.user_data = r.nullable_bytes(false)?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.array(false, &self.assigned_partitions, |w, x| x.encode(w, version));
        w.nullable_bytes(false, self.user_data.as_deref());
    }
}

impl Message for ConsumerProtocolAssignment {
    const NAME: &'static str = "ConsumerProtocolAssignment";
    const KEY: i16 = -1;
    const VERSIONS: (i16, i16) = (0, 3);
    const FLEXIBLE_FROM: i16 = i16::MAX;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct TopicPartition {
    pub topic: String,
    pub partitions: Vec<i32>,
}

impl Wire for TopicPartition {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.topic = r.string(false)?;
        m.partitions = r.array(false, 4, |r| r.i32())?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(false, &self.topic);
        w.array(false, &self.partitions, |w, x| w.i32(*x));
    }
}
