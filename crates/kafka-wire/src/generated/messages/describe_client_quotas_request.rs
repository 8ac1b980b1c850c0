// Made by `cargo xtask codegen kafka`; not to be edited.

//! `DescribeClientQuotasRequest`, versions 0-1.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DescribeClientQuotasRequest {
    pub components: Vec<ComponentData>,
    pub strict: bool,
}

impl Wire for DescribeClientQuotasRequest {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.components = r.array(flex, ComponentData::MIN_SIZE, |r| ComponentData::decode(r, version))?;
        m.strict = r.bool()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.array(flex, &self.components, |w, x| x.encode(w, version));
        w.bool(self.strict);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for DescribeClientQuotasRequest {
    const NAME: &'static str = "DescribeClientQuotasRequest";
    const KEY: i16 = 48;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 1;
}

#[derive(Clone, Debug, PartialEq)]
pub struct ComponentData {
    pub entity_type: String,
    pub match_type: i8,
    pub match_: Option<String>,
}

impl Default for ComponentData {
    fn default() -> Self {
        Self { entity_type: String::new(), match_type: 0, match_: Some(String::new()) }
    }
}

impl Wire for ComponentData {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.entity_type = r.string(flex)?;
        m.match_type = r.i8()?;
        m.match_ = r.nullable_string(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.string(flex, &self.entity_type);
        w.i8(self.match_type);
        w.nullable_string(flex, self.match_.as_deref());
        if flex {
            w.no_tags();
        }
    }
}
