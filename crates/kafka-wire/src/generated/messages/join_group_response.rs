// Made by `cargo xtask codegen kafka`; not to be edited.

//! `JoinGroupResponse`, versions 0-9.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct JoinGroupResponse {
    /// versions 2+
    pub throttle_time_ms: i32,
    pub error_code: i16,
    /// default -1
    pub generation_id: i32,
    /// versions 7+
    pub protocol_type: Option<String>,
    /// nullable 7+
    pub protocol_name: Option<String>,
    pub leader: String,
    /// versions 9+, default false
    pub skip_assignment: bool,
    pub member_id: String,
    pub members: Vec<JoinGroupResponseMember>,
}

impl Default for JoinGroupResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            generation_id: -1,
            protocol_type: None,
            protocol_name: Some(String::new()),
            leader: String::new(),
            skip_assignment: false,
            member_id: String::new(),
            members: Vec::new(),
        }
    }
}

impl Wire for JoinGroupResponse {
    const MIN_SIZE: usize = 15;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        if version >= 2 {
            m.throttle_time_ms = r.i32()?;
        }
        m.error_code = r.i16()?;
        m.generation_id = r.i32()?;
        if version >= 7 {
            m.protocol_type = r.nullable_string(flex)?;
        }
        m.protocol_name = if version >= 7 { r.nullable_string(flex)? } else { Some(r.string(flex)?) };
        m.leader = r.string(flex)?;
        if version >= 9 {
            m.skip_assignment = r.bool()?;
        }
        m.member_id = r.string(flex)?;
        m.members = r.array(flex, JoinGroupResponseMember::MIN_SIZE, |r| {
            JoinGroupResponseMember::decode(r, version)
        })?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        if version >= 2 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        w.i32(self.generation_id);
        if version >= 7 {
            w.nullable_string(flex, self.protocol_type.as_deref());
        }
        if version >= 7 {
            w.nullable_string(flex, self.protocol_name.as_deref());
        } else {
            w.string(flex, self.protocol_name.as_deref().unwrap_or_default());
        };
        w.string(flex, &self.leader);
        if version >= 9 {
            w.bool(self.skip_assignment);
        }
        w.string(flex, &self.member_id);
        w.array(flex, &self.members, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for JoinGroupResponse {
    const NAME: &'static str = "JoinGroupResponse";
    const KEY: i16 = 11;
    const VERSIONS: (i16, i16) = (0, 9);
    const FLEXIBLE_FROM: i16 = 6;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct JoinGroupResponseMember {
    pub member_id: String,
    /// versions 5+
    pub group_instance_id: Option<String>,
    pub metadata: Bytes,
}

impl Wire for JoinGroupResponseMember {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 6;
        let mut m = Self::default();
        m.member_id = r.string(flex)?;
        if version >= 5 {
            m.group_instance_id = r.nullable_string(flex)?;
        }
        m.metadata = r.bytes(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 6;
        w.string(flex, &self.member_id);
        if version >= 5 {
            w.nullable_string(flex, self.group_instance_id.as_deref());
        }
        w.bytes(flex, &self.metadata);
        if flex {
            w.no_tags();
        }
    }
}
