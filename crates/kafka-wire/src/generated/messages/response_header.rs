// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ResponseHeader`, versions 0-1.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ResponseHeader {
    pub correlation_id: i32,
}

impl Wire for ResponseHeader {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.correlation_id = r.i32()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.i32(self.correlation_id);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for ResponseHeader {
    const NAME: &'static str = "ResponseHeader";
    const KEY: i16 = -1;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 1;
}
