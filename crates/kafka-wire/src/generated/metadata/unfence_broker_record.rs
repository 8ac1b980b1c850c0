// Made by `cargo xtask codegen kafka`; not to be edited.

//! `UnfenceBrokerRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct UnfenceBrokerRecord {
    pub id: i32,
    pub epoch: i64,
}

impl Wire for UnfenceBrokerRecord {
    const MIN_SIZE: usize = 13;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.id = r.i32()?;
        m.epoch = r.i64()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.i32(self.id);
        w.i64(self.epoch);
        w.no_tags();
    }
}

impl Message for UnfenceBrokerRecord {
    const NAME: &'static str = "UnfenceBrokerRecord";
    const KEY: i16 = 8;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
