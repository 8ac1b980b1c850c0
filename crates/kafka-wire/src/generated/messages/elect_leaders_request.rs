// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ElectLeadersRequest`, versions 0-2.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct ElectLeadersRequest {
    /// versions 1+
    pub election_type: i8,
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    /// default 60000
    pub timeout_ms: i32,
}

impl Default for ElectLeadersRequest {
    fn default() -> Self {
        Self { election_type: 0, topic_partitions: Some(Vec::new()), timeout_ms: 60000 }
    }
}

impl Wire for ElectLeadersRequest {
    const MIN_SIZE: usize = 7;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        if version >= 1 {
            m.election_type = r.i8()?;
        }
        m.topic_partitions =
            r.nullable_array(flex, TopicPartitions::MIN_SIZE, |r| TopicPartitions::decode(r, version))?;
        m.timeout_ms = r.i32()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        if version >= 1 {
            w.i8(self.election_type);
        }
        w.nullable_array(flex, self.topic_partitions.as_deref(), |w, x| x.encode(w, version));
        w.i32(self.timeout_ms);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for ElectLeadersRequest {
    const NAME: &'static str = "ElectLeadersRequest";
    const KEY: i16 = 43;
    const VERSIONS: (i16, i16) = (0, 2);
    const FLEXIBLE_FROM: i16 = 2;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct TopicPartitions {
    pub topic: String,
    pub partitions: Vec<i32>,
}

impl Wire for TopicPartitions {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        m.topic = r.string(flex)?;
        m.partitions = r.array(flex, 4, |r| r.i32())?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        w.string(flex, &self.topic);
        w.array(flex, &self.partitions, |w, x| w.i32(*x));
        if flex {
            w.no_tags();
        }
    }
}
