// Made by `cargo xtask codegen kafka`; not to be edited.

//! `DescribeGroupsRequest`, versions 0-6.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DescribeGroupsRequest {
    pub groups: Vec<String>,
    /// versions 3+
    pub include_authorized_operations: bool,
}

impl Wire for DescribeGroupsRequest {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 5;
        let mut m = Self::default();
        m.groups = r.array(flex, 1, |r| r.string(flex))?;
        if version >= 3 {
            m.include_authorized_operations = r.bool()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 5;
        w.array(flex, &self.groups, |w, x| w.string(flex, x));
        if version >= 3 {
            w.bool(self.include_authorized_operations);
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for DescribeGroupsRequest {
    const NAME: &'static str = "DescribeGroupsRequest";
    const KEY: i16 = 15;
    const VERSIONS: (i16, i16) = (0, 6);
    const FLEXIBLE_FROM: i16 = 5;
}
