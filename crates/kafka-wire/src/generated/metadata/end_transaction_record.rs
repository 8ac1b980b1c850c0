// Made by `cargo xtask codegen kafka`; not to be edited.

//! `EndTransactionRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct EndTransactionRecord {}

impl Wire for EndTransactionRecord {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let m = Self::default();
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.no_tags();
    }
}

impl Message for EndTransactionRecord {
    const NAME: &'static str = "EndTransactionRecord";
    const KEY: i16 = 24;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
