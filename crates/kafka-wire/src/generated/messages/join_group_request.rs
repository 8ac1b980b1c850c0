// Made by `cargo xtask codegen kafka`; not to be edited.

//! `JoinGroupRequest`, versions 0-9.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct JoinGroupRequest {
    pub group_id: String,
    pub session_timeout_ms: i32,
    /// versions 1+, default -1
    pub rebalance_timeout_ms: i32,
    pub member_id: String,
    /// versions 5+
    pub group_instance_id: Option<String>,
    pub protocol_type: String,
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// versions 8+
    pub reason: Option<String>,
}

impl Default for JoinGroupRequest {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: -1,
            member_id: String::new(),
            group_instance_id: None,
            protocol_type: String::new(),
            protocols: Vec::new(),
            reason: None,
        }
    }
}

impl Wire for JoinGroupRequest {
    const MIN_SIZE: usize = 14;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        m.group_id = r.string(flex)?;
        m.session_timeout_ms = r.i32()?;
        if version >= 1 {
            m.rebalance_timeout_ms = r.i32()?;
        }
        m.member_id = r.string(flex)?;
        if version >= 5 {
            m.group_instance_id = r.nullable_string(flex)?;
        }
        m.protocol_type = r.string(flex)?;
        m.protocols = r.array(flex, JoinGroupRequestProtocol::MIN_SIZE, |r| {
            JoinGroupRequestProtocol::decode(r, version)
        })?;
        if version >= 8 {
            m.reason = r.nullable_string(flex)?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        w.string(flex, &self.group_id);
        w.i32(self.session_timeout_ms);
        if version >= 1 {
            w.i32(self.rebalance_timeout_ms);
        }
        w.string(flex, &self.member_id);
        if version >= 5 {
            w.nullable_string(flex, self.group_instance_id.as_deref());
        }
        w.string(flex, &self.protocol_type);
        w.array(flex, &self.protocols, |w, x| x.encode(w, version));
        if version >= 8 {
            w.nullable_string(flex, self.reason.as_deref());
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for JoinGroupRequest {
    const NAME: &'static str = "JoinGroupRequest";
    const KEY: i16 = 11;
    const VERSIONS: (i16, i16) = (0, 9);
    const FLEXIBLE_FROM: i16 = 6;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct JoinGroupRequestProtocol {
    pub name: String,
    pub metadata: Bytes,
}

impl Wire for JoinGroupRequestProtocol {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        m.name = r.string(flex)?;
        m.metadata = r.bytes(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        w.string(flex, &self.name);
        w.bytes(flex, &self.metadata);
        if flex {
            w.no_tags();
        }
    }
}
