// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ListOffsetsRequest`, versions 1-11.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListOffsetsRequest {
    pub replica_id: i32,
    /// versions 2+
    pub isolation_level: i8,
    pub topics: Vec<ListOffsetsTopic>,
    /// versions 10+
    pub timeout_ms: i32,
}

impl Wire for ListOffsetsRequest {
    const MIN_SIZE: usize = 7;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        m.replica_id = r.i32()?;
        if version >= 2 {
            m.isolation_level = r.i8()?;
        }
        m.topics = r.array(flex, ListOffsetsTopic::MIN_SIZE, |r| ListOffsetsTopic::decode(r, version))?;
        if version >= 10 {
            m.timeout_ms = r.i32()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        w.i32(self.replica_id);
        if version >= 2 {
            w.i8(self.isolation_level);
        }
        w.array(flex, &self.topics, |w, x| x.encode(w, version));
        if version >= 10 {
            w.i32(self.timeout_ms);
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for ListOffsetsRequest {
    const NAME: &'static str = "ListOffsetsRequest";
    const KEY: i16 = 2;
    const VERSIONS: (i16, i16) = (1, 11);
    const FLEXIBLE_FROM: i16 = 6;
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListOffsetsPartition {
    pub partition_index: i32,
    /// versions 4+, default -1
    pub current_leader_epoch: i32,
    pub timestamp: i64,
}

impl Default for ListOffsetsPartition {
    fn default() -> Self {
        Self { partition_index: 0, current_leader_epoch: -1, timestamp: 0 }
    }
}

impl Wire for ListOffsetsPartition {
    const MIN_SIZE: usize = 12;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        m.partition_index = r.i32()?;
        if version >= 4 {
            m.current_leader_epoch = r.i32()?;
        }
        m.timestamp = r.i64()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        w.i32(self.partition_index);
        if version >= 4 {
            w.i32(self.current_leader_epoch);
        }
        w.i64(self.timestamp);
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListOffsetsTopic {
    pub name: String,
    pub partitions: Vec<ListOffsetsPartition>,
}

impl Wire for ListOffsetsTopic {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        m.name = r.string(flex)?;
        m.partitions =
            r.array(flex, ListOffsetsPartition::MIN_SIZE, |r| ListOffsetsPartition::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        w.string(flex, &self.name);
        w.array(flex, &self.partitions, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}
