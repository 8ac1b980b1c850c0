// Made by `cargo xtask codegen kafka`; not to be edited.

//! `SyncGroupResponse`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct SyncGroupResponse {
    /// versions 1+
    pub throttle_time_ms: i32,
    pub error_code: i16,
    /// versions 5+
    pub protocol_type: Option<String>,
    /// versions 5+
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

impl Wire for SyncGroupResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        if version >= 1 {
            m.throttle_time_ms = r.i32()?;
        }
        m.error_code = r.i16()?;
        if version >= 5 {
            m.protocol_type = r.nullable_string(flex)?;
            m.protocol_name = r.nullable_string(flex)?;
        }
        m.assignment = r.bytes(flex)?;
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
        if version >= 5 {
            w.nullable_string(flex, self.protocol_type.as_deref());
            w.nullable_string(flex, self.protocol_name.as_deref());
        }
        w.bytes(flex, &self.assignment);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for SyncGroupResponse {
    const NAME: &'static str = "SyncGroupResponse";
    const KEY: i16 = 14;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 4;
}
