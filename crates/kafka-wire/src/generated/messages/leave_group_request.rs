// Made by `cargo xtask codegen kafka`; not to be edited.

//! `LeaveGroupRequest`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeaveGroupRequest {
    pub group_id: String,
    /// versions 0-2
    pub member_id: String,
    /// versions 3+
    pub members: Vec<MemberIdentity>,
}

impl Wire for LeaveGroupRequest {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        m.group_id = r.string(flex)?;
        if version <= 2 {
            m.member_id = r.string(flex)?;
        }
        if version >= 3 {
            m.members = r.array(flex, MemberIdentity::MIN_SIZE, |r| MemberIdentity::decode(r, version))?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        w.string(flex, &self.group_id);
        if version <= 2 {
            w.string(flex, &self.member_id);
        }
        if version >= 3 {
            w.array(flex, &self.members, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for LeaveGroupRequest {
    const NAME: &'static str = "LeaveGroupRequest";
    const KEY: i16 = 13;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 4;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct MemberIdentity {
    /// versions 3+
    pub member_id: String,
    /// versions 3+
    pub group_instance_id: Option<String>,
    /// versions 5+
    pub reason: Option<String>,
}

impl Wire for MemberIdentity {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        if version >= 3 {
            m.member_id = r.string(flex)?;
            m.group_instance_id = r.nullable_string(flex)?;
        }
        if version >= 5 {
            m.reason = r.nullable_string(flex)?;
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
        }
        if version >= 5 {
            w.nullable_string(flex, self.reason.as_deref());
        }
        if flex {
            w.no_tags();
        }
    }
}
