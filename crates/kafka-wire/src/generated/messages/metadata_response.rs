// Made by `cargo xtask codegen kafka`; not to be edited.

//! `MetadataResponse`, versions 0-13.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct MetadataResponse {
    /// versions 3+
    pub throttle_time_ms: i32,
    pub brokers: Vec<MetadataResponseBroker>,
    /// versions 2+
    pub cluster_id: Option<String>,
    /// versions 1+, default -1
    pub controller_id: i32,
    pub topics: Vec<MetadataResponseTopic>,
    /// versions 8-10, default -2147483648
    pub cluster_authorized_operations: i32,
    /// versions 13+
    pub error_code: i16,
}

impl Default for MetadataResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            brokers: Vec::new(),
            cluster_id: None,
            controller_id: -1,
            topics: Vec::new(),
            cluster_authorized_operations: -2147483648,
            error_code: 0,
        }
    }
}

impl Wire for MetadataResponse {
    const MIN_SIZE: usize = 8;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        if version >= 3 {
            m.throttle_time_ms = r.i32()?;
        }
        m.brokers =
            r.array(flex, MetadataResponseBroker::MIN_SIZE, |r| MetadataResponseBroker::decode(r, version))?;
        if version >= 2 {
            m.cluster_id = r.nullable_string(flex)?;
        }
        if version >= 1 {
            m.controller_id = r.i32()?;
        }
        m.topics =
            r.array(flex, MetadataResponseTopic::MIN_SIZE, |r| MetadataResponseTopic::decode(r, version))?;
        if (8..=10).contains(&version) {
            m.cluster_authorized_operations = r.i32()?;
        }
        if version >= 13 {
            m.error_code = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        if version >= 3 {
            w.i32(self.throttle_time_ms);
        }
        w.array(flex, &self.brokers, |w, x| x.encode(w, version));
        if version >= 2 {
            w.nullable_string(flex, self.cluster_id.as_deref());
        }
        if version >= 1 {
            w.i32(self.controller_id);
        }
        w.array(flex, &self.topics, |w, x| x.encode(w, version));
        if (8..=10).contains(&version) {
            w.i32(self.cluster_authorized_operations);
        }
        if version >= 13 {
            w.i16(self.error_code);
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for MetadataResponse {
    const NAME: &'static str = "MetadataResponse";
    const KEY: i16 = 3;
    const VERSIONS: (i16, i16) = (0, 13);
    const FLEXIBLE_FROM: i16 = 9;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct MetadataResponseBroker {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    /// versions 1+
    pub rack: Option<String>,
}

impl Wire for MetadataResponseBroker {
    const MIN_SIZE: usize = 10;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        m.node_id = r.i32()?;
        m.host = r.string(flex)?;
        m.port = r.i32()?;
        if version >= 1 {
            m.rack = r.nullable_string(flex)?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        w.i32(self.node_id);
        w.string(flex, &self.host);
        w.i32(self.port);
        if version >= 1 {
            w.nullable_string(flex, self.rack.as_deref());
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetadataResponsePartition {
    pub error_code: i16,
    pub partition_index: i32,
    pub leader_id: i32,
    /// versions 7+, default -1
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    /// versions 5+
    pub offline_replicas: Vec<i32>,
}

impl Default for MetadataResponsePartition {
    fn default() -> Self {
        Self {
            error_code: 0,
            partition_index: 0,
            leader_id: 0,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            offline_replicas: Vec::new(),
        }
    }
}

impl Wire for MetadataResponsePartition {
    const MIN_SIZE: usize = 18;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        m.error_code = r.i16()?;
        m.partition_index = r.i32()?;
        m.leader_id = r.i32()?;
        if version >= 7 {
            m.leader_epoch = r.i32()?;
        }
        m.replica_nodes = r.array(flex, 4, |r| r.i32())?;
        m.isr_nodes = r.array(flex, 4, |r| r.i32())?;
        if version >= 5 {
            m.offline_replicas = r.array(flex, 4, |r| r.i32())?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        w.i16(self.error_code);
        w.i32(self.partition_index);
        w.i32(self.leader_id);
        if version >= 7 {
            w.i32(self.leader_epoch);
        }
        w.array(flex, &self.replica_nodes, |w, x| w.i32(*x));
        w.array(flex, &self.isr_nodes, |w, x| w.i32(*x));
        if version >= 5 {
            w.array(flex, &self.offline_replicas, |w, x| w.i32(*x));
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetadataResponseTopic {
    pub error_code: i16,
    /// nullable 12+
    pub name: Option<String>,
    /// versions 10+
    pub topic_id: Uuid,
    /// versions 1+, default false
    pub is_internal: bool,
    pub partitions: Vec<MetadataResponsePartition>,
    /// versions 8+, default -2147483648
    pub topic_authorized_operations: i32,
}

impl Default for MetadataResponseTopic {
    fn default() -> Self {
        Self {
            error_code: 0,
            name: Some(String::new()),
            topic_id: Uuid::nil(),
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: -2147483648,
        }
    }
}

impl Wire for MetadataResponseTopic {
    const MIN_SIZE: usize = 8;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        m.error_code = r.i16()?;
        m.name = if version >= 12 { r.nullable_string(flex)? } else { Some(r.string(flex)?) };
        if version >= 10 {
            m.topic_id = r.uuid()?;
        }
        if version >= 1 {
            m.is_internal = r.bool()?;
        }
        m.partitions = r.array(flex, MetadataResponsePartition::MIN_SIZE, |r| {
            MetadataResponsePartition::decode(r, version)
        })?;
        if version >= 8 {
            m.topic_authorized_operations = r.i32()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        w.i16(self.error_code);
        if version >= 12 {
            w.nullable_string(flex, self.name.as_deref());
        } else {
            w.string(flex, self.name.as_deref().unwrap_or_default());
        };
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if version >= 1 {
            w.bool(self.is_internal);
        }
        w.array(flex, &self.partitions, |w, x| x.encode(w, version));
        if version >= 8 {
            w.i32(self.topic_authorized_operations);
        }
        if flex {
            w.no_tags();
        }
    }
}
