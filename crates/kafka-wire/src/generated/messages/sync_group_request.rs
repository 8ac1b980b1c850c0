// Made by `cargo xtask codegen kafka`; not to be edited.

//! `SyncGroupRequest`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct SyncGroupRequest {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    /// versions 3+
    pub group_instance_id: Option<String>,
    /// versions 5+
    pub protocol_type: Option<String>,
    /// versions 5+
    pub protocol_name: Option<String>,
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

impl Wire for SyncGroupRequest {
    const MIN_SIZE: usize = 9;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        m.group_id = r.string(flex)?;
        m.generation_id = r.i32()?;
        m.member_id = r.string(flex)?;
        if version >= 3 {
            m.group_instance_id = r.nullable_string(flex)?;
        }
        if version >= 5 {
            m.protocol_type = r.nullable_string(flex)?;
            m.protocol_name = r.nullable_string(flex)?;
        }
        m.assignments = r.array(flex, SyncGroupRequestAssignment::MIN_SIZE, |r| {
            SyncGroupRequestAssignment::decode(r, version)
        })?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        w.string(flex, &self.group_id);
        w.i32(self.generation_id);
        w.string(flex, &self.member_id);
        if version >= 3 {
            w.nullable_string(flex, self.group_instance_id.as_deref());
        }
        if version >= 5 {
            w.nullable_string(flex, self.protocol_type.as_deref());
            w.nullable_string(flex, self.protocol_name.as_deref());
        }
        w.array(flex, &self.assignments, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for SyncGroupRequest {
    const NAME: &'static str = "SyncGroupRequest";
    const KEY: i16 = 14;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 4;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct SyncGroupRequestAssignment {
    pub member_id: String,
    pub assignment: Bytes,
}

impl Wire for SyncGroupRequestAssignment {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        m.member_id = r.string(flex)?;
        m.assignment = r.bytes(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        w.string(flex, &self.member_id);
        w.bytes(flex, &self.assignment);
        if flex {
            w.no_tags();
        }
    }
}
