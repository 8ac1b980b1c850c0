// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ListGroupsRequest`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListGroupsRequest {
    /// versions 4+
    pub states_filter: Vec<String>,
    /// versions 5+
    pub types_filter: Vec<String>,
}

impl Wire for ListGroupsRequest {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 4 {
            m.states_filter = r.array(flex, 1, |r| r.string(flex))?;
        }
        if version >= 5 {
            m.types_filter = r.array(flex, 1, |r| r.string(flex))?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 4 {
            w.array(flex, &self.states_filter, |w, x| w.string(flex, x));
        }
        if version >= 5 {
            w.array(flex, &self.types_filter, |w, x| w.string(flex, x));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for ListGroupsRequest {
    const NAME: &'static str = "ListGroupsRequest";
    const KEY: i16 = 16;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 3;
}
