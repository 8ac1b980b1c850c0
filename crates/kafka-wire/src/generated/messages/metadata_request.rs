// Made by `cargo xtask codegen kafka`; not to be edited.

//! `MetadataRequest`, versions 0-13.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct MetadataRequest {
    /// nullable 1+
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// versions 4+, default true
    pub allow_auto_topic_creation: bool,
    /// versions 8-10
    pub include_cluster_authorized_operations: bool,
    /// versions 8+
    pub include_topic_authorized_operations: bool,
}

impl Default for MetadataRequest {
    fn default() -> Self {
        Self {
            topics: Some(Vec::new()),
            allow_auto_topic_creation: true,
            include_cluster_authorized_operations: false,
            include_topic_authorized_operations: false,
        }
    }
}

impl Wire for MetadataRequest {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        m.topics = if version >= 1 {
            r.nullable_array(flex, MetadataRequestTopic::MIN_SIZE, |r| {
                MetadataRequestTopic::decode(r, version)
            })?
        } else {
            Some(r.array(flex, MetadataRequestTopic::MIN_SIZE, |r| MetadataRequestTopic::decode(r, version))?)
        };
        if version >= 4 {
            m.allow_auto_topic_creation = r.bool()?;
        }
        if (8..=10).contains(&version) {
            m.include_cluster_authorized_operations = r.bool()?;
        }
        if version >= 8 {
            m.include_topic_authorized_operations = r.bool()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        if version >= 1 {
            w.nullable_array(flex, self.topics.as_deref(), |w, x| x.encode(w, version));
        } else {
            w.array(flex, self.topics.as_deref().unwrap_or_default(), |w, x| x.encode(w, version));
        };
        if version >= 4 {
            w.bool(self.allow_auto_topic_creation);
        }
        if (8..=10).contains(&version) {
            w.bool(self.include_cluster_authorized_operations);
        }
        if version >= 8 {
            w.bool(self.include_topic_authorized_operations);
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for MetadataRequest {
    const NAME: &'static str = "MetadataRequest";
    const KEY: i16 = 3;
    const VERSIONS: (i16, i16) = (0, 13);
    const FLEXIBLE_FROM: i16 = 9;
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetadataRequestTopic {
    /// versions 10+
    pub topic_id: Uuid,
    /// nullable 10+
    pub name: Option<String>,
}

impl Default for MetadataRequestTopic {
    fn default() -> Self {
        Self { topic_id: Uuid::nil(), name: Some(String::new()) }
    }
}

impl Wire for MetadataRequestTopic {
    const MIN_SIZE: usize = 2;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 9;
        let mut m = Self::default();
        if version >= 10 {
            m.topic_id = r.uuid()?;
        }
        m.name = if version >= 10 { r.nullable_string(flex)? } else { Some(r.string(flex)?) };
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 9;
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if version >= 10 {
            w.nullable_string(flex, self.name.as_deref());
        } else {
            w.string(flex, self.name.as_deref().unwrap_or_default());
        };
        if flex {
            w.no_tags();
        }
    }
}
