// Made by `cargo xtask codegen kafka`; not to be edited.

//! `UserScramCredentialRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct UserScramCredentialRecord {
    pub name: String,
    pub mechanism: i8,
    pub salt: Bytes,
    pub stored_key: Bytes,
    pub server_key: Bytes,
    pub iterations: i32,
}

impl Wire for UserScramCredentialRecord {
    const MIN_SIZE: usize = 10;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.name = r.string(true)?;
        m.mechanism = r.i8()?;
        m.salt = r.bytes(true)?;
        m.stored_key = r.bytes(true)?;
        m.server_key = r.bytes(true)?;
        m.iterations = r.i32()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.name);
        w.i8(self.mechanism);
        w.bytes(true, &self.salt);
        w.bytes(true, &self.stored_key);
        w.bytes(true, &self.server_key);
        w.i32(self.iterations);
        w.no_tags();
    }
}

impl Message for UserScramCredentialRecord {
    const NAME: &'static str = "UserScramCredentialRecord";
    const KEY: i16 = 11;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
