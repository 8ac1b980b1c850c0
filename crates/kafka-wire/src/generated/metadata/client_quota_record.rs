// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ClientQuotaRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ClientQuotaRecord {
    pub entity: Vec<EntityData>,
    pub key: String,
    pub value: f64,
    pub remove: bool,
}

impl Wire for ClientQuotaRecord {
    const MIN_SIZE: usize = 12;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.entity = r.array(true, EntityData::MIN_SIZE, |r| EntityData::decode(r, version))?;
        m.key = r.string(true)?;
        m.value = r.f64()?;
        m.remove = r.bool()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.array(true, &self.entity, |w, x| x.encode(w, version));
        w.string(true, &self.key);
        w.f64(self.value);
        w.bool(self.remove);
        w.no_tags();
    }
}

impl Message for ClientQuotaRecord {
    const NAME: &'static str = "ClientQuotaRecord";
    const KEY: i16 = 14;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq)]
pub struct EntityData {
    pub entity_type: String,
    pub entity_name: Option<String>,
}

impl Default for EntityData {
    fn default() -> Self {
        Self { entity_type: String::new(), entity_name: Some(String::new()) }
    }
}

impl Wire for EntityData {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.entity_type = r.string(true)?;
        m.entity_name = r.nullable_string(true)?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.entity_type);
        w.nullable_string(true, self.entity_name.as_deref());
        w.no_tags();
    }
}
