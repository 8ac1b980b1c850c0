// Made by `cargo xtask codegen kafka`; not to be edited.

//! `LeaveGroupResponse`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeaveGroupResponse {
    /// versions 1+
    pub throttle_time_ms: i32,
    pub error_code: i16,
    /// versions 3+
    pub members: Vec<MemberResponse>,
}

impl Wire for LeaveGroupResponse {
    const MIN_SIZE: usize = 2;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        if version >= 1 {
            m.throttle_time_ms = r.i32()?;
        }
        m.error_code = r.i16()?;
        if version >= 3 {
            m.members = r.array(flex, MemberResponse::MIN_SIZE, |r| MemberResponse::decode(r, version))?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        if version >= 3 {
            w.array(flex, &self.members, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for LeaveGroupResponse {
    const NAME: &'static str = "LeaveGroupResponse";
    const KEY: i16 = 13;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 4;
}

#[derive(Clone, Debug, PartialEq)]
pub struct MemberResponse {
    /// versions 3+
    pub member_id: String,
    /// versions 3+
    pub group_instance_id: Option<String>,
    /// versions 3+
    pub error_code: i16,
}

impl Default for MemberResponse {
    fn default() -> Self {
        Self { member_id: String::new(), group_instance_id: Some(String::new()), error_code: 0 }
    }
}

impl Wire for MemberResponse {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        if version >= 3 {
            m.member_id = r.string(flex)?;
            m.group_instance_id = r.nullable_string(flex)?;
            m.error_code = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        if version >= 3 {
            w.string(flex, &self.member_id);
            w.nullable_string(flex, self.group_instance_id.as_deref());
            w.i16(self.error_code);
        }
        if flex {
            w.no_tags();
        }
    }
}
