// Made by `cargo xtask codegen kafka`; not to be edited.

//! `AccessControlEntryRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AccessControlEntryRecord {
    pub id: Uuid,
    pub resource_type: i8,
    pub resource_name: String,
    pub pattern_type: i8,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission_type: i8,
}

impl Wire for AccessControlEntryRecord {
    const MIN_SIZE: usize = 24;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.id = r.uuid()?;
        m.resource_type = r.i8()?;
        m.resource_name = r.string(true)?;
        m.pattern_type = r.i8()?;
        m.principal = r.string(true)?;
        m.host = r.string(true)?;
        m.operation = r.i8()?;
        m.permission_type = r.i8()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.uuid(self.id);
        w.i8(self.resource_type);
        w.string(true, &self.resource_name);
        w.i8(self.pattern_type);
        w.string(true, &self.principal);
        w.string(true, &self.host);
        w.i8(self.operation);
        w.i8(self.permission_type);
        w.no_tags();
    }
}

impl Message for AccessControlEntryRecord {
    const NAME: &'static str = "AccessControlEntryRecord";
    const KEY: i16 = 18;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
