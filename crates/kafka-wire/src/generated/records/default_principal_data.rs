// Made by `cargo xtask codegen kafka`; not to be edited.

//! `DefaultPrincipalData`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DefaultPrincipalData {
    pub type_: String,
    pub name: String,
    pub token_authenticated: bool,
}

impl Wire for DefaultPrincipalData {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.type_ = r.string(true)?;
        m.name = r.string(true)?;
        m.token_authenticated = r.bool()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.type_);
        w.string(true, &self.name);
        w.bool(self.token_authenticated);
        w.no_tags();
    }
}

impl Message for DefaultPrincipalData {
    const NAME: &'static str = "DefaultPrincipalData";
    const KEY: i16 = -1;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
