// Made by `cargo xtask codegen kafka`; not to be edited.

//! `DeleteTopicsRequest`, versions 1-6.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DeleteTopicsRequest {
    /// versions 6+
    pub topics: Vec<DeleteTopicState>,
    /// versions 0-5
    pub topic_names: Vec<String>,
    pub timeout_ms: i32,
}

impl Wire for DeleteTopicsRequest {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        if version >= 6 {
            m.topics = r.array(flex, DeleteTopicState::MIN_SIZE, |r| DeleteTopicState::decode(r, version))?;
        }
        if version <= 5 {
            m.topic_names = r.array(flex, 1, |r| r.string(flex))?;
        }
        m.timeout_ms = r.i32()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        if version >= 6 {
            w.array(flex, &self.topics, |w, x| x.encode(w, version));
        }
        if version <= 5 {
            w.array(flex, &self.topic_names, |w, x| w.string(flex, x));
        }
        w.i32(self.timeout_ms);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for DeleteTopicsRequest {
    const NAME: &'static str = "DeleteTopicsRequest";
    const KEY: i16 = 20;
    const VERSIONS: (i16, i16) = (1, 6);
    const FLEXIBLE_FROM: i16 = 4;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DeleteTopicState {
    /// versions 6+
    pub name: Option<String>,
    /// versions 6+
    pub topic_id: Uuid,
}

impl Wire for DeleteTopicState {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        if version >= 6 {
            m.name = r.nullable_string(flex)?;
            m.topic_id = r.uuid()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        if version >= 6 {
            w.nullable_string(flex, self.name.as_deref());
            w.uuid(self.topic_id);
        }
        if flex {
            w.no_tags();
        }
    }
}
