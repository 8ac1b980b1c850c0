// Made by `cargo xtask codegen kafka`; not to be edited.

//! `DeleteTopicsResponse`, versions 1-6.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DeleteTopicsResponse {
    pub throttle_time_ms: i32,
    pub responses: Vec<DeletableTopicResult>,
}

impl Wire for DeleteTopicsResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        m.throttle_time_ms = r.i32()?;
        m.responses =
            r.array(flex, DeletableTopicResult::MIN_SIZE, |r| DeletableTopicResult::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        w.i32(self.throttle_time_ms);
        w.array(flex, &self.responses, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for DeleteTopicsResponse {
    const NAME: &'static str = "DeleteTopicsResponse";
    const KEY: i16 = 20;
    const VERSIONS: (i16, i16) = (1, 6);
    const FLEXIBLE_FROM: i16 = 4;
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeletableTopicResult {
    /// nullable 6+
    pub name: Option<String>,
    /// versions 6+
    pub topic_id: Uuid,
    pub error_code: i16,
    /// versions 5+
    pub error_message: Option<String>,
}

impl Default for DeletableTopicResult {
    fn default() -> Self {
        Self { name: Some(String::new()), topic_id: Uuid::nil(), error_code: 0, error_message: None }
    }
}

impl Wire for DeletableTopicResult {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        m.name = if version >= 6 { r.nullable_string(flex)? } else { Some(r.string(flex)?) };
        if version >= 6 {
            m.topic_id = r.uuid()?;
        }
        m.error_code = r.i16()?;
        if version >= 5 {
            m.error_message = r.nullable_string(flex)?;
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
        } else {
            w.string(flex, self.name.as_deref().unwrap_or_default());
        };
        if version >= 6 {
            w.uuid(self.topic_id);
        }
        w.i16(self.error_code);
        if version >= 5 {
            w.nullable_string(flex, self.error_message.as_deref());
        }
        if flex {
            w.no_tags();
        }
    }
}
