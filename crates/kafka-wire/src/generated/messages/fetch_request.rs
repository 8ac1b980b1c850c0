// Made by `cargo xtask codegen kafka`; not to be edited.

//! `FetchRequest`, versions 4-18.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    /// versions 12+, tag 0
    pub cluster_id: Option<String>,
    /// versions 0-14, default -1
    pub replica_id: i32,
    /// versions 15+, tag 1
    pub replica_state: ReplicaState,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    /// default 0x7fffffff
    pub max_bytes: i32,
    /// default 0
    pub isolation_level: i8,
    /// versions 7+, default 0
    pub session_id: i32,
    /// versions 7+, default -1
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    /// versions 7+
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// versions 11+
    pub rack_id: String,
}

impl Default for FetchRequest {
    fn default() -> Self {
        Self {
            cluster_id: None,
            replica_id: -1,
            replica_state: ReplicaState::default(),
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 0x7fffffff,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics_data: Vec::new(),
            rack_id: String::new(),
        }
    }
}

impl Wire for FetchRequest {
    const MIN_SIZE: usize = 21;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        if version <= 14 {
            m.replica_id = r.i32()?;
        }
        m.max_wait_ms = r.i32()?;
        m.min_bytes = r.i32()?;
        m.max_bytes = r.i32()?;
        m.isolation_level = r.i8()?;
        if version >= 7 {
            m.session_id = r.i32()?;
            m.session_epoch = r.i32()?;
        }
        m.topics = r.array(flex, FetchTopic::MIN_SIZE, |r| FetchTopic::decode(r, version))?;
        if version >= 7 {
            m.forgotten_topics_data =
                r.array(flex, ForgottenTopic::MIN_SIZE, |r| ForgottenTopic::decode(r, version))?;
        }
        if version >= 11 {
            m.rack_id = r.string(flex)?;
        }
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 12 => m.cluster_id = r.nullable_string(flex)?,
                    1 if version >= 15 => m.replica_state = ReplicaState::decode(r, version)?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        if version <= 14 {
            w.i32(self.replica_id);
        }
        w.i32(self.max_wait_ms);
        w.i32(self.min_bytes);
        w.i32(self.max_bytes);
        w.i8(self.isolation_level);
        if version >= 7 {
            w.i32(self.session_id);
            w.i32(self.session_epoch);
        }
        w.array(flex, &self.topics, |w, x| x.encode(w, version));
        if version >= 7 {
            w.array(flex, &self.forgotten_topics_data, |w, x| x.encode(w, version));
        }
        if version >= 11 {
            w.string(flex, &self.rack_id);
        }
        if flex {
            w.tags(|t| {
                if version >= 12 && self.cluster_id.is_some() {
                    t.field(0, |w| w.nullable_string(flex, self.cluster_id.as_deref()));
                }
                if version >= 15 && self.replica_state != ReplicaState::default() {
                    t.field(1, |w| self.replica_state.encode(w, version));
                }
            });
        }
    }
}

impl Message for FetchRequest {
    const NAME: &'static str = "FetchRequest";
    const KEY: i16 = 1;
    const VERSIONS: (i16, i16) = (4, 18);
    const FLEXIBLE_FROM: i16 = 12;
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchPartition {
    pub partition: i32,
    /// versions 9+, default -1
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// versions 12+, default -1
    pub last_fetched_epoch: i32,
    /// versions 5+, default -1
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
    /// versions 17+, tag 0
    pub replica_directory_id: Uuid,
    /// versions 18+, tag 1, default 9223372036854775807
    pub high_watermark: i64,
}

impl Default for FetchPartition {
    fn default() -> Self {
        Self {
            partition: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 0,
            replica_directory_id: Uuid::nil(),
            high_watermark: 9223372036854775807,
        }
    }
}

impl Wire for FetchPartition {
    const MIN_SIZE: usize = 16;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        m.partition = r.i32()?;
        if version >= 9 {
            m.current_leader_epoch = r.i32()?;
        }
        m.fetch_offset = r.i64()?;
        if version >= 12 {
            m.last_fetched_epoch = r.i32()?;
        }
        if version >= 5 {
            m.log_start_offset = r.i64()?;
        }
        m.partition_max_bytes = r.i32()?;
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 17 => m.replica_directory_id = r.uuid()?,
                    1 if version >= 18 => m.high_watermark = r.i64()?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        w.i32(self.partition);
        if version >= 9 {
            w.i32(self.current_leader_epoch);
        }
        w.i64(self.fetch_offset);
        if version >= 12 {
            w.i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        w.i32(self.partition_max_bytes);
        if flex {
            w.tags(|t| {
                if version >= 17 && self.replica_directory_id != Uuid::nil() {
                    t.field(0, |w| w.uuid(self.replica_directory_id));
                }
                if version >= 18 && self.high_watermark != 9223372036854775807 {
                    t.field(1, |w| w.i64(self.high_watermark));
                }
            });
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct FetchTopic {
    /// versions 0-12
    pub topic: String,
    /// versions 13+
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

impl Wire for FetchTopic {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        if version <= 12 {
            m.topic = r.string(flex)?;
        }
        if version >= 13 {
            m.topic_id = r.uuid()?;
        }
        m.partitions = r.array(flex, FetchPartition::MIN_SIZE, |r| FetchPartition::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        if version <= 12 {
            w.string(flex, &self.topic);
        }
        if version >= 13 {
            w.uuid(self.topic_id);
        }
        w.array(flex, &self.partitions, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ForgottenTopic {
    /// versions 7-12
    pub topic: String,
    /// versions 13+
    pub topic_id: Uuid,
    /// versions 7+
    pub partitions: Vec<i32>,
}

impl Wire for ForgottenTopic {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        if (7..=12).contains(&version) {
            m.topic = r.string(flex)?;
        }
        if version >= 13 {
            m.topic_id = r.uuid()?;
        }
        if version >= 7 {
            m.partitions = r.array(flex, 4, |r| r.i32())?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        if (7..=12).contains(&version) {
            w.string(flex, &self.topic);
        }
        if version >= 13 {
            w.uuid(self.topic_id);
        }
        if version >= 7 {
            w.array(flex, &self.partitions, |w, x| w.i32(*x));
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaState {
    /// versions 15+, default -1
    pub replica_id: i32,
    /// versions 15+, default -1
    pub replica_epoch: i64,
}

impl Default for ReplicaState {
    fn default() -> Self {
        Self { replica_id: -1, replica_epoch: -1 }
    }
}

impl Wire for ReplicaState {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        if version >= 15 {
            m.replica_id = r.i32()?;
            m.replica_epoch = r.i64()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        if version >= 15 {
            w.i32(self.replica_id);
            w.i64(self.replica_epoch);
        }
        if flex {
            w.no_tags();
        }
    }
}
