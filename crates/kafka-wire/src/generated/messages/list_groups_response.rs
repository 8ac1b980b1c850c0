// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ListGroupsResponse`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListGroupsResponse {
    /// versions 1+
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub groups: Vec<ListedGroup>,
}

impl Wire for ListGroupsResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 1 {
            m.throttle_time_ms = r.i32()?;
        }
        m.error_code = r.i16()?;
        m.groups = r.array(flex, ListedGroup::MIN_SIZE, |r| ListedGroup::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        w.array(flex, &self.groups, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for ListGroupsResponse {
    const NAME: &'static str = "ListGroupsResponse";
    const KEY: i16 = 16;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 3;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListedGroup {
    pub group_id: String,
    pub protocol_type: String,
    /// versions 4+
    pub group_state: String,
    /// versions 5+
    pub group_type: String,
}

impl Wire for ListedGroup {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.group_id = r.string(flex)?;
        m.protocol_type = r.string(flex)?;
        if version >= 4 {
            m.group_state = r.string(flex)?;
        }
        if version >= 5 {
            m.group_type = r.string(flex)?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.string(flex, &self.group_id);
        w.string(flex, &self.protocol_type);
        if version >= 4 {
            w.string(flex, &self.group_state);
        }
        if version >= 5 {
            w.string(flex, &self.group_type);
        }
        if flex {
            w.no_tags();
        }
    }
}
