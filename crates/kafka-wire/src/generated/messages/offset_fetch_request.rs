// Made by `cargo xtask codegen kafka`; not to be edited.

//! `OffsetFetchRequest`, versions 1-10.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchRequest {
    /// versions 0-7
    pub group_id: String,
    /// versions 0-7, nullable 2-7
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// versions 8+
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// versions 7+, default false
    pub require_stable: bool,
}

impl Default for OffsetFetchRequest {
    fn default() -> Self {
        Self { group_id: String::new(), topics: Some(Vec::new()), groups: Vec::new(), require_stable: false }
    }
}

impl Wire for OffsetFetchRequest {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version <= 7 {
            m.group_id = r.string(flex)?;
            m.topics = if (2..=7).contains(&version) {
                r.nullable_array(flex, OffsetFetchRequestTopic::MIN_SIZE, |r| {
                    OffsetFetchRequestTopic::decode(r, version)
                })?
            } else {
                Some(r.array(flex, OffsetFetchRequestTopic::MIN_SIZE, |r| {
                    OffsetFetchRequestTopic::decode(r, version)
                })?)
            };
        }
        if version >= 8 {
            m.groups = r.array(flex, OffsetFetchRequestGroup::MIN_SIZE, |r| {
                OffsetFetchRequestGroup::decode(r, version)
            })?;
        }
        if version >= 7 {
            m.require_stable = r.bool()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if version <= 7 {
            w.string(flex, &self.group_id);
            if (2..=7).contains(&version) {
                w.nullable_array(flex, self.topics.as_deref(), |w, x| x.encode(w, version));
            } else {
                w.array(flex, self.topics.as_deref().unwrap_or_default(), |w, x| x.encode(w, version));
            };
        }
        if version >= 8 {
            w.array(flex, &self.groups, |w, x| x.encode(w, version));
        }
        if version >= 7 {
            w.bool(self.require_stable);
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for OffsetFetchRequest {
    const NAME: &'static str = "OffsetFetchRequest";
    const KEY: i16 = 9;
    const VERSIONS: (i16, i16) = (1, 10);
    const FLEXIBLE_FROM: i16 = 6;
}

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchRequestGroup {
    /// versions 8+
    pub group_id: String,
    /// versions 9+
    pub member_id: Option<String>,
    /// versions 9+, default -1
    pub member_epoch: i32,
    /// versions 8+
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

impl Default for OffsetFetchRequestGroup {
    fn default() -> Self {
        Self { group_id: String::new(), member_id: None, member_epoch: -1, topics: Some(Vec::new()) }
    }
}

impl Wire for OffsetFetchRequestGroup {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version >= 8 {
            m.group_id = r.string(flex)?;
        }
        if version >= 9 {
            m.member_id = r.nullable_string(flex)?;
            m.member_epoch = r.i32()?;
        }
        if version >= 8 {
            m.topics = r.nullable_array(flex, OffsetFetchRequestTopics::MIN_SIZE, |r| {
                OffsetFetchRequestTopics::decode(r, version)
            })?;
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
        }
        if version >= 9 {
            w.nullable_string(flex, self.member_id.as_deref());
            w.i32(self.member_epoch);
        }
        if version >= 8 {
            w.nullable_array(flex, self.topics.as_deref(), |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct OffsetFetchRequestTopic {
    /// versions 0-7
    pub name: String,
    /// versions 0-7
    pub partition_indexes: Vec<i32>,
}

impl Wire for OffsetFetchRequestTopic {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version <= 7 {
            m.name = r.string(flex)?;
            m.partition_indexes = r.array(flex, 4, |r| r.i32())?;
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
            w.array(flex, &self.partition_indexes, |w, x| w.i32(*x));
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct OffsetFetchRequestTopics {
    /// versions 8-9
    pub name: String,
    /// versions 10+
    pub topic_id: Uuid,
    /// versions 8+
    pub partition_indexes: Vec<i32>,
}

impl Wire for OffsetFetchRequestTopics {
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
            m.partition_indexes = r.array(flex, 4, |r| r.i32())?;
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
            w.array(flex, &self.partition_indexes, |w, x| w.i32(*x));
        }
        if flex {
            w.no_tags();
        }
    }
}
