// Made by `cargo xtask codegen kafka`; not to be edited.

//! `CreateTopicsResponse`, versions 2-7.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct CreateTopicsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<CreatableTopicResult>,
}

impl Wire for CreateTopicsResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 5;
        let mut m = Self::default();
        m.throttle_time_ms = r.i32()?;
        m.topics =
            r.array(flex, CreatableTopicResult::MIN_SIZE, |r| CreatableTopicResult::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 5;
        w.i32(self.throttle_time_ms);
        w.array(flex, &self.topics, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for CreateTopicsResponse {
    const NAME: &'static str = "CreateTopicsResponse";
    const KEY: i16 = 19;
    const VERSIONS: (i16, i16) = (2, 7);
    const FLEXIBLE_FROM: i16 = 5;
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreatableTopicConfigs {
    /// versions 5+
    pub name: String,
    /// versions 5+
    pub value: Option<String>,
    /// versions 5+
    pub read_only: bool,
    /// versions 5+, default -1
    pub config_source: i8,
    /// versions 5+
    pub is_sensitive: bool,
}

impl Default for CreatableTopicConfigs {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: Some(String::new()),
            read_only: false,
            config_source: -1,
            is_sensitive: false,
        }
    }
}

impl Wire for CreatableTopicConfigs {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 5;
        let mut m = Self::default();
        if version >= 5 {
            m.name = r.string(flex)?;
            m.value = r.nullable_string(flex)?;
            m.read_only = r.bool()?;
            m.config_source = r.i8()?;
            m.is_sensitive = r.bool()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 5;
        if version >= 5 {
            w.string(flex, &self.name);
            w.nullable_string(flex, self.value.as_deref());
            w.bool(self.read_only);
            w.i8(self.config_source);
            w.bool(self.is_sensitive);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreatableTopicResult {
    pub name: String,
    /// versions 7+
    pub topic_id: Uuid,
    pub error_code: i16,
    pub error_message: Option<String>,
    /// versions 5+, tag 0
    pub topic_config_error_code: i16,
    /// versions 5+, default -1
    pub num_partitions: i32,
    /// versions 5+, default -1
    pub replication_factor: i16,
    /// versions 5+
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

impl Default for CreatableTopicResult {
    fn default() -> Self {
        Self {
            name: String::new(),
            topic_id: Uuid::nil(),
            error_code: 0,
            error_message: Some(String::new()),
            topic_config_error_code: 0,
            num_partitions: -1,
            replication_factor: -1,
            configs: Some(Vec::new()),
        }
    }
}

impl Wire for CreatableTopicResult {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 5;
        let mut m = Self::default();
        m.name = r.string(flex)?;
        if version >= 7 {
            m.topic_id = r.uuid()?;
        }
        m.error_code = r.i16()?;
        m.error_message = r.nullable_string(flex)?;
        if version >= 5 {
            m.num_partitions = r.i32()?;
            m.replication_factor = r.i16()?;
            m.configs = r.nullable_array(flex, CreatableTopicConfigs::MIN_SIZE, |r| {
                CreatableTopicConfigs::decode(r, version)
            })?;
        }
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 5 => m.topic_config_error_code = r.i16()?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 5;
        w.string(flex, &self.name);
        if version >= 7 {
            w.uuid(self.topic_id);
        }
        w.i16(self.error_code);
        w.nullable_string(flex, self.error_message.as_deref());
        if version >= 5 {
            w.i32(self.num_partitions);
            w.i16(self.replication_factor);
            w.nullable_array(flex, self.configs.as_deref(), |w, x| x.encode(w, version));
        }
        if flex {
            w.tags(|t| {
                if version >= 5 && self.topic_config_error_code != 0 {
                    t.field(0, |w| w.i16(self.topic_config_error_code));
                }
            });
        }
    }
}
