// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ConsumerProtocolSubscription`, versions 0-3.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerProtocolSubscription {
    pub topics: Vec<String>,
    pub user_data: Option<Bytes>,
    /// versions 1+
    pub owned_partitions: Vec<TopicPartition>,
    /// versions 2+, default -1
    pub generation_id: i32,
    /// versions 3+
    pub rack_id: Option<String>,
}

impl Default for ConsumerProtocolSubscription {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            user_data: None,
            owned_partitions: Vec::new(),
            generation_id: -1,
            rack_id: None,
        }
    }
}

impl Wire for ConsumerProtocolSubscription {
    const MIN_SIZE: usize = 8;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.topics = r.array(false, 1, |r| r.string(false))?;
        m.user_data = r.nullable_bytes(false)?;
        if version >= 1 {
            m.owned_partitions =
                r.array(false, TopicPartition::MIN_SIZE, |r| TopicPartition::decode(r, version))?;
        }
        if version >= 2 {
            m.generation_id = r.i32()?;
        }
        if version >= 3 {
            m.rack_id = r.nullable_string(false)?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.array(false, &self.topics, |w, x| w.string(false, x));
        w.nullable_bytes(false, self.user_data.as_deref());
        if version >= 1 {
            w.array(false, &self.owned_partitions, |w, x| x.encode(w, version));
        }
        if version >= 2 {
            w.i32(self.generation_id);
        }
        if version >= 3 {
            w.nullable_string(false, self.rack_id.as_deref());
        }
    }
}

impl Message for ConsumerProtocolSubscription {
    const NAME: &'static str = "ConsumerProtocolSubscription";
    const KEY: i16 = -1;
    const VERSIONS: (i16, i16) = (0, 3);
    const FLEXIBLE_FROM: i16 = i16::MAX;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct TopicPartition {
    /// versions 1+
    pub topic: String,
    /// versions 1+
    pub partitions: Vec<i32>,
}

impl Wire for TopicPartition {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        if version >= 1 {
            m.topic = r.string(false)?;
            m.partitions = r.array(false, 4, |r| r.i32())?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        if version >= 1 {
            w.string(false, &self.topic);
            w.array(false, &self.partitions, |w, x| w.i32(*x));
        }
    }
}
