// Made by `cargo xtask codegen kafka`; not to be edited.

//! `FetchResponse`, versions 4-18.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// versions 7+
    pub error_code: i16,
    /// versions 7+, default 0
    pub session_id: i32,
    pub responses: Vec<FetchableTopicResponse>,
    /// versions 16+, tag 0
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl Wire for FetchResponse {
    const MIN_SIZE: usize = 8;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        m.throttle_time_ms = r.i32()?;
        if version >= 7 {
            m.error_code = r.i16()?;
            m.session_id = r.i32()?;
        }
        m.responses =
            r.array(flex, FetchableTopicResponse::MIN_SIZE, |r| FetchableTopicResponse::decode(r, version))?;
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 16 => {
                        m.node_endpoints =
                            r.array(flex, NodeEndpoint::MIN_SIZE, |r| NodeEndpoint::decode(r, version))?
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        w.i32(self.throttle_time_ms);
        if version >= 7 {
            w.i16(self.error_code);
            w.i32(self.session_id);
        }
        w.array(flex, &self.responses, |w, x| x.encode(w, version));
        if flex {
            w.tags(|t| {
                if version >= 16 && !self.node_endpoints.is_empty() {
                    t.field(0, |w| w.array(flex, &self.node_endpoints, |w, x| x.encode(w, version)));
                }
            });
        }
    }
}

impl Message for FetchResponse {
    const NAME: &'static str = "FetchResponse";
    const KEY: i16 = 1;
    const VERSIONS: (i16, i16) = (4, 18);
    const FLEXIBLE_FROM: i16 = 12;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

impl Wire for AbortedTransaction {
    const MIN_SIZE: usize = 16;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        m.producer_id = r.i64()?;
        m.first_offset = r.i64()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        w.i64(self.producer_id);
        w.i64(self.first_offset);
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct EpochEndOffset {
    /// versions 12+, default -1
    pub epoch: i32,
    /// versions 12+, default -1
    pub end_offset: i64,
}

impl Default for EpochEndOffset {
    fn default() -> Self {
        Self { epoch: -1, end_offset: -1 }
    }
}

impl Wire for EpochEndOffset {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        if version >= 12 {
            m.epoch = r.i32()?;
            m.end_offset = r.i64()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        if version >= 12 {
            w.i32(self.epoch);
            w.i64(self.end_offset);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct FetchableTopicResponse {
    /// versions 0-12
    pub topic: String,
    /// versions 13+
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

impl Wire for FetchableTopicResponse {
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
        m.partitions = r.array(flex, PartitionData::MIN_SIZE, |r| PartitionData::decode(r, version))?;
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

#[derive(Clone, Debug, PartialEq)]
pub struct LeaderIdAndEpoch {
    /// versions 12+, default -1
    pub leader_id: i32,
    /// versions 12+, default -1
    pub leader_epoch: i32,
}

impl Default for LeaderIdAndEpoch {
    fn default() -> Self {
        Self { leader_id: -1, leader_epoch: -1 }
    }
}

impl Wire for LeaderIdAndEpoch {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        if version >= 12 {
            m.leader_id = r.i32()?;
            m.leader_epoch = r.i32()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        if version >= 12 {
            w.i32(self.leader_id);
            w.i32(self.leader_epoch);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct NodeEndpoint {
    /// versions 16+
    pub node_id: i32,
    /// versions 16+
    pub host: String,
    /// versions 16+
    pub port: i32,
    /// versions 16+
    pub rack: Option<String>,
}

impl Wire for NodeEndpoint {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        if version >= 16 {
            m.node_id = r.i32()?;
            m.host = r.string(flex)?;
            m.port = r.i32()?;
            m.rack = r.nullable_string(flex)?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        if version >= 16 {
            w.i32(self.node_id);
            w.string(flex, &self.host);
            w.i32(self.port);
            w.nullable_string(flex, self.rack.as_deref());
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    /// default -1
    pub last_stable_offset: i64,
    /// versions 5+, default -1
    pub log_start_offset: i64,
    /// versions 12+, tag 0
    pub diverging_epoch: EpochEndOffset,
    /// versions 12+, tag 1
    pub current_leader: LeaderIdAndEpoch,
    /// versions 12+, tag 2
    pub snapshot_id: SnapshotId,
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// versions 11+, default -1
    pub preferred_read_replica: i32,
    pub records: Option<Bytes>,
}

impl Default for PartitionData {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            high_watermark: 0,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: EpochEndOffset::default(),
            current_leader: LeaderIdAndEpoch::default(),
            snapshot_id: SnapshotId::default(),
            aborted_transactions: Some(Vec::new()),
            preferred_read_replica: -1,
            records: None,
        }
    }
}

impl Wire for PartitionData {
    const MIN_SIZE: usize = 30;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        m.partition_index = r.i32()?;
        m.error_code = r.i16()?;
        m.high_watermark = r.i64()?;
        m.last_stable_offset = r.i64()?;
        if version >= 5 {
            m.log_start_offset = r.i64()?;
        }
        m.aborted_transactions =
            r.nullable_array(flex, AbortedTransaction::MIN_SIZE, |r| AbortedTransaction::decode(r, version))?;
        if version >= 11 {
            m.preferred_read_replica = r.i32()?;
        }
        m.records = r.nullable_bytes(flex)?;
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 12 => m.diverging_epoch = EpochEndOffset::decode(r, version)?,
                    1 if version >= 12 => m.current_leader = LeaderIdAndEpoch::decode(r, version)?,
                    2 if version >= 12 => m.snapshot_id = SnapshotId::decode(r, version)?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        w.i32(self.partition_index);
        w.i16(self.error_code);
        w.i64(self.high_watermark);
        w.i64(self.last_stable_offset);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        w.nullable_array(flex, self.aborted_transactions.as_deref(), |w, x| x.encode(w, version));
        if version >= 11 {
            w.i32(self.preferred_read_replica);
        }
        w.records(flex, self.records.as_ref());
        if flex {
            w.tags(|t| {
                if version >= 12 && self.diverging_epoch != EpochEndOffset::default() {
                    t.field(0, |w| self.diverging_epoch.encode(w, version));
                }
                if version >= 12 && self.current_leader != LeaderIdAndEpoch::default() {
                    t.field(1, |w| self.current_leader.encode(w, version));
                }
                if version >= 12 && self.snapshot_id != SnapshotId::default() {
                    t.field(2, |w| self.snapshot_id.encode(w, version));
                }
            });
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotId {
    /// default -1
    pub end_offset: i64,
    /// default -1
    pub epoch: i32,
}

impl Default for SnapshotId {
    fn default() -> Self {
        Self { end_offset: -1, epoch: -1 }
    }
}

impl Wire for SnapshotId {
    const MIN_SIZE: usize = 12;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 12;
        let mut m = Self::default();
        m.end_offset = r.i64()?;
        m.epoch = r.i32()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 12;
        w.i64(self.end_offset);
        w.i32(self.epoch);
        if flex {
            w.no_tags();
        }
    }
}
