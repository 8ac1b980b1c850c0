// Made by `cargo xtask codegen kafka`; not to be edited.

//! `OffsetFetchResponse`, versions 1-10.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct OffsetFetchResponse {
    /// versions 3+
    pub throttle_time_ms: i32,
    /// versions 0-7
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// versions 2-7, default 0
    pub error_code: i16,
    /// versions 8+
    pub groups: Vec<OffsetFetchResponseGroup>,
}

impl Wire for OffsetFetchResponse {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version >= 3 {
            m.throttle_time_ms = r.i32()?;
        }
        if version <= 7 {
            m.topics = r.array(flex, OffsetFetchResponseTopic::MIN_SIZE, |r| {
                OffsetFetchResponseTopic::decode(r, version)
            })?;
        }
        if (2..=7).contains(&version) {
            m.error_code = r.i16()?;
        }
        if version >= 8 {
            m.groups = r.array(flex, OffsetFetchResponseGroup::MIN_SIZE, |r| {
                OffsetFetchResponseGroup::decode(r, version)
            })?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if version >= 3 {
            w.i32(self.throttle_time_ms);
        }
        if version <= 7 {
            w.array(flex, &self.topics, |w, x| x.encode(w, version));
        }
        if (2..=7).contains(&version) {
            w.i16(self.error_code);
        }
        if version >= 8 {
            w.array(flex, &self.groups, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for OffsetFetchResponse {
    const NAME: &'static str = "OffsetFetchResponse";
    const KEY: i16 = 9;
    const VERSIONS: (i16, i16) = (1, 10);
    const FLEXIBLE_FROM: i16 = 6;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct OffsetFetchResponseGroup {
    /// versions 8+
    pub group_id: String,
    /// versions 8+
    pub topics: Vec<OffsetFetchResponseTopics>,
    /// versions 8+, default 0
    pub error_code: i16,
}

impl Wire for OffsetFetchResponseGroup {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version >= 8 {
            m.group_id = r.string(flex)?;
            m.topics = r.array(flex, OffsetFetchResponseTopics::MIN_SIZE, |r| {
                OffsetFetchResponseTopics::decode(r, version)
            })?;
            m.error_code = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if version >= 8 {
            w.string(flex, &self.group_id);
            w.array(flex, &self.topics, |w, x| x.encode(w, version));
            w.i16(self.error_code);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchResponsePartition {
    /// versions 0-7
    pub partition_index: i32,
    /// versions 0-7
    pub committed_offset: i64,
    /// versions 5-7, default -1
    pub committed_leader_epoch: i32,
    /// versions 0-7
    pub metadata: Option<String>,
    /// versions 0-7
    pub error_code: i16,
}

impl Default for OffsetFetchResponsePartition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            error_code: 0,
        }
    }
}

impl Wire for OffsetFetchResponsePartition {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version <= 7 {
            m.partition_index = r.i32()?;
            m.committed_offset = r.i64()?;
        }
        if (5..=7).contains(&version) {
            m.committed_leader_epoch = r.i32()?;
        }
        if version <= 7 {
            m.metadata = r.nullable_string(flex)?;
            m.error_code = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if version <= 7 {
            w.i32(self.partition_index);
            w.i64(self.committed_offset);
        }
        if (5..=7).contains(&version) {
            w.i32(self.committed_leader_epoch);
        }
        if version <= 7 {
            w.nullable_string(flex, self.metadata.as_deref());
            w.i16(self.error_code);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchResponsePartitions {
    /// versions 8+
    pub partition_index: i32,
    /// versions 8+
    pub committed_offset: i64,
    /// versions 8+, default -1
    pub committed_leader_epoch: i32,
    /// versions 8+
    pub metadata: Option<String>,
    /// versions 8+
    pub error_code: i16,
}

impl Default for OffsetFetchResponsePartitions {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            error_code: 0,
        }
    }
}

impl Wire for OffsetFetchResponsePartitions {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version >= 8 {
            m.partition_index = r.i32()?;
            m.committed_offset = r.i64()?;
            m.committed_leader_epoch = r.i32()?;
            m.metadata = r.nullable_string(flex)?;
            m.error_code = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if version >= 8 {
            w.i32(self.partition_index);
            w.i64(self.committed_offset);
            w.i32(self.committed_leader_epoch);
            w.nullable_string(flex, self.metadata.as_deref());
            w.i16(self.error_code);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct OffsetFetchResponseTopic {
    /// versions 0-7
    pub name: String,
    /// versions 0-7
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

impl Wire for OffsetFetchResponseTopic {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version <= 7 {
            m.name = r.string(flex)?;
            m.partitions = r.array(flex, OffsetFetchResponsePartition::MIN_SIZE, |r| {
                OffsetFetchResponsePartition::decode(r, version)
            })?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if version <= 7 {
            w.string(flex, &self.name);
            w.array(flex, &self.partitions, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct OffsetFetchResponseTopics {
    /// versions 8-9
    pub name: String,
    /// versions 10+
    pub topic_id: Uuid,
    /// versions 8+
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

impl Wire for OffsetFetchResponseTopics {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if (8..=9).contains(&version) {
            m.name = r.string(flex)?;
        }
        if version >= 10 {
            m.topic_id = r.uuid()?;
        }
        if version >= 8 {
            m.partitions = r.array(flex, OffsetFetchResponsePartitions::MIN_SIZE, |r| {
                OffsetFetchResponsePartitions::decode(r, version)
            })?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if (8..=9).contains(&version) {
            w.string(flex, &self.name);
        }
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if version >= 8 {
            w.array(flex, &self.partitions, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}
