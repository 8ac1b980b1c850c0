// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ProduceResponse`, versions 3-13.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ProduceResponse {
    pub responses: Vec<TopicProduceResponse>,
    /// default 0
    pub throttle_time_ms: i32,
    /// versions 10+, tag 0
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl Wire for ProduceResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        m.responses =
            r.array(flex, TopicProduceResponse::MIN_SIZE, |r| TopicProduceResponse::decode(r, version))?;
        m.throttle_time_ms = r.i32()?;
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 10 => {
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
        let flex = version >= 9;
        w.array(flex, &self.responses, |w, x| x.encode(w, version));
        w.i32(self.throttle_time_ms);
        if flex {
            w.tags(|t| {
                if version >= 10 && !self.node_endpoints.is_empty() {
                    t.field(0, |w| w.array(flex, &self.node_endpoints, |w, x| x.encode(w, version)));
                }
            });
        }
    }
}

impl Message for ProduceResponse {
    const NAME: &'static str = "ProduceResponse";
    const KEY: i16 = 0;
    const VERSIONS: (i16, i16) = (3, 13);
    const FLEXIBLE_FROM: i16 = 9;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct BatchIndexAndErrorMessage {
    /// versions 8+
    pub batch_index: i32,
    /// versions 8+
    pub batch_index_error_message: Option<String>,
}

impl Wire for BatchIndexAndErrorMessage {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        if version >= 8 {
            m.batch_index = r.i32()?;
            m.batch_index_error_message = r.nullable_string(flex)?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        if version >= 8 {
            w.i32(self.batch_index);
            w.nullable_string(flex, self.batch_index_error_message.as_deref());
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct LeaderIdAndEpoch {
    /// versions 10+, default -1
    pub leader_id: i32,
    /// versions 10+, default -1
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
        let flex = version >= 9;
        let mut m = Self::default();
        if version >= 10 {
            m.leader_id = r.i32()?;
            m.leader_epoch = r.i32()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        if version >= 10 {
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
    /// versions 10+
    pub node_id: i32,
    /// versions 10+
    pub host: String,
    /// versions 10+
    pub port: i32,
    /// versions 10+
    pub rack: Option<String>,
}

impl Wire for NodeEndpoint {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        if version >= 10 {
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
        let flex = version >= 9;
        if version >= 10 {
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
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error_code: i16,
    pub base_offset: i64,
    /// default -1
    pub log_append_time_ms: i64,
    /// versions 5+, default -1
    pub log_start_offset: i64,
    /// versions 8+
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// versions 8+
    pub error_message: Option<String>,
    /// versions 10+, tag 0
    pub current_leader: LeaderIdAndEpoch,
}

impl Default for PartitionProduceResponse {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: 0,
            base_offset: 0,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: LeaderIdAndEpoch::default(),
        }
    }
}

impl Wire for PartitionProduceResponse {
    const MIN_SIZE: usize = 22;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        m.index = r.i32()?;
        m.error_code = r.i16()?;
        m.base_offset = r.i64()?;
        m.log_append_time_ms = r.i64()?;
        if version >= 5 {
            m.log_start_offset = r.i64()?;
        }
        if version >= 8 {
            m.record_errors = r.array(flex, BatchIndexAndErrorMessage::MIN_SIZE, |r| {
                BatchIndexAndErrorMessage::decode(r, version)
            })?;
            m.error_message = r.nullable_string(flex)?;
        }
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 10 => m.current_leader = LeaderIdAndEpoch::decode(r, version)?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        w.i32(self.index);
        w.i16(self.error_code);
        w.i64(self.base_offset);
        w.i64(self.log_append_time_ms);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        if version >= 8 {
            w.array(flex, &self.record_errors, |w, x| x.encode(w, version));
            w.nullable_string(flex, self.error_message.as_deref());
        }
        if flex {
            w.tags(|t| {
                if version >= 10 && self.current_leader != LeaderIdAndEpoch::default() {
                    t.field(0, |w| self.current_leader.encode(w, version));
                }
            });
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct TopicProduceResponse {
    /// versions 0-12
    pub name: String,
    /// versions 13+
    pub topic_id: Uuid,
    pub partition_responses: Vec<PartitionProduceResponse>,
}

impl Wire for TopicProduceResponse {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        if version <= 12 {
            m.name = r.string(flex)?;
        }
        if version >= 13 {
            m.topic_id = r.uuid()?;
        }
        m.partition_responses = r.array(flex, PartitionProduceResponse::MIN_SIZE, |r| {
            PartitionProduceResponse::decode(r, version)
        })?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        if version <= 12 {
            w.string(flex, &self.name);
        }
        if version >= 13 {
            w.uuid(self.topic_id);
        }
        w.array(flex, &self.partition_responses, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}
