// Made by `cargo xtask codegen kafka`; not to be edited.

//! `RemoveUserScramCredentialRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct RemoveUserScramCredentialRecord {
    pub name: String,
    pub mechanism: i8,
}

impl Wire for RemoveUserScramCredentialRecord {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.name = r.string(true)?;
        m.mechanism = r.i8()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.name);
        w.i8(self.mechanism);
        w.no_tags();
    }
}

impl Message for RemoveUserScramCredentialRecord {
    const NAME: &'static str = "RemoveUserScramCredentialRecord";
    const KEY: i16 = 22;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
