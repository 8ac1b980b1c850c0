// Made by `cargo xtask codegen kafka`; not to be edited.

//! `AlterClientQuotasResponse`, versions 0-1.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AlterClientQuotasResponse {
    pub throttle_time_ms: i32,
    pub entries: Vec<EntryData>,
}

impl Wire for AlterClientQuotasResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.throttle_time_ms = r.i32()?;
        m.entries = r.array(flex, EntryData::MIN_SIZE, |r| EntryData::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.i32(self.throttle_time_ms);
        w.array(flex, &self.entries, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for AlterClientQuotasResponse {
    const NAME: &'static str = "AlterClientQuotasResponse";
    const KEY: i16 = 49;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 1;
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

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.entity_type = r.string(flex)?;
        m.entity_name = r.nullable_string(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.string(flex, &self.entity_type);
        w.nullable_string(flex, self.entity_name.as_deref());
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct EntryData {
    pub error_code: i16,
    pub error_message: Option<String>,
    pub entity: Vec<EntityData>,
}

impl Default for EntryData {
    fn default() -> Self {
        Self { error_code: 0, error_message: Some(String::new()), entity: Vec::new() }
    }
}

impl Wire for EntryData {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.error_code = r.i16()?;
        m.error_message = r.nullable_string(flex)?;
        m.entity = r.array(flex, EntityData::MIN_SIZE, |r| EntityData::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.i16(self.error_code);
        w.nullable_string(flex, self.error_message.as_deref());
        w.array(flex, &self.entity, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}
