// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ConfigRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct ConfigRecord {
    pub resource_type: i8,
    pub resource_name: String,
    pub name: String,
    pub value: Option<String>,
}

impl Default for ConfigRecord {
    fn default() -> Self {
        Self {
            resource_type: 0,
            resource_name: String::new(),
            name: String::new(),
            value: Some(String::new()),
        }
    }
}

impl Wire for ConfigRecord {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.resource_type = r.i8()?;
        m.resource_name = r.string(true)?;
        m.name = r.string(true)?;
        m.value = r.nullable_string(true)?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.i8(self.resource_type);
        w.string(true, &self.resource_name);
        w.string(true, &self.name);
        w.nullable_string(true, self.value.as_deref());
        w.no_tags();
    }
}

impl Message for ConfigRecord {
    const NAME: &'static str = "ConfigRecord";
    const KEY: i16 = 4;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
