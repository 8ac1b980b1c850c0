// Made by `cargo xtask codegen kafka`; not to be edited.

//! `DescribeGroupsResponse`, versions 0-6.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DescribeGroupsResponse {
    /// versions 1+
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
}

impl Wire for DescribeGroupsResponse {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 5;
        let mut m = Self::default();
        if version >= 1 {
            m.throttle_time_ms = r.i32()?;
        }
        m.groups = r.array(flex, DescribedGroup::MIN_SIZE, |r| DescribedGroup::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 5;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.array(flex, &self.groups, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for DescribeGroupsResponse {
    const NAME: &'static str = "DescribeGroupsResponse";
    const KEY: i16 = 15;
    const VERSIONS: (i16, i16) = (0, 6);
    const FLEXIBLE_FROM: i16 = 5;
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedGroup {
    pub error_code: i16,
    /// versions 6+
    pub error_message: Option<String>,
    pub group_id: String,
    pub group_state: String,
    pub protocol_type: String,
    pub protocol_data: String,
    pub members: Vec<DescribedGroupMember>,
    /// versions 3+, default -2147483648
    pub authorized_operations: i32,
}

impl Default for DescribedGroup {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: None,
            group_id: String::new(),
            group_state: String::new(),
            protocol_type: String::new(),
            protocol_data: String::new(),
            members: Vec::new(),
            authorized_operations: -2147483648,
        }
    }
}

impl Wire for DescribedGroup {
    const MIN_SIZE: usize = 12;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 5;
        let mut m = Self::default();
        m.error_code = r.i16()?;
        if version >= 6 {
            m.error_message = r.nullable_string(flex)?;
        }
        m.group_id = r.string(flex)?;
        m.group_state = r.string(flex)?;
        m.protocol_type = r.string(flex)?;
        m.protocol_data = r.string(flex)?;
        m.members =
            r.array(flex, DescribedGroupMember::MIN_SIZE, |r| DescribedGroupMember::decode(r, version))?;
        if version >= 3 {
            m.authorized_operations = r.i32()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 5;
        w.i16(self.error_code);
        if version >= 6 {
            w.nullable_string(flex, self.error_message.as_deref());
        }
        w.string(flex, &self.group_id);
        w.string(flex, &self.group_state);
        w.string(flex, &self.protocol_type);
        w.string(flex, &self.protocol_data);
        w.array(flex, &self.members, |w, x| x.encode(w, version));
        if version >= 3 {
            w.i32(self.authorized_operations);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DescribedGroupMember {
    pub member_id: String,
    /// versions 4+
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub member_metadata: Bytes,
    pub member_assignment: Bytes,
}

impl Wire for DescribedGroupMember {
    const MIN_SIZE: usize = 7;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 5;
        let mut m = Self::default();
        m.member_id = r.string(flex)?;
        if version >= 4 {
            m.group_instance_id = r.nullable_string(flex)?;
        }
        m.client_id = r.string(flex)?;
        m.client_host = r.string(flex)?;
        m.member_metadata = r.bytes(flex)?;
        m.member_assignment = r.bytes(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 5;
        w.string(flex, &self.member_id);
        if version >= 4 {
            w.nullable_string(flex, self.group_instance_id.as_deref());
        }
        w.string(flex, &self.client_id);
        w.string(flex, &self.client_host);
        w.bytes(flex, &self.member_metadata);
        w.bytes(flex, &self.member_assignment);
        if flex {
            w.no_tags();
        }
    }
}
