// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ClearElrRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ClearElrRecord {
    pub topic_name: String,
}

impl Wire for ClearElrRecord {
    const MIN_SIZE: usize = 2;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.topic_name = r.string(true)?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.topic_name);
        w.no_tags();
    }
}

impl Message for ClearElrRecord {
    const NAME: &'static str = "ClearElrRecord";
    const KEY: i16 = 28;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
