// Made by `cargo xtask codegen kafka`; not to be edited.

//! `IncrementalAlterConfigsRequest`, versions 0-1.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct IncrementalAlterConfigsRequest {
    pub resources: Vec<AlterConfigsResource>,
    pub validate_only: bool,
}

impl Wire for IncrementalAlterConfigsRequest {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.resources =
            r.array(flex, AlterConfigsResource::MIN_SIZE, |r| AlterConfigsResource::decode(r, version))?;
        m.validate_only = r.bool()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.array(flex, &self.resources, |w, x| x.encode(w, version));
        w.bool(self.validate_only);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for IncrementalAlterConfigsRequest {
    const NAME: &'static str = "IncrementalAlterConfigsRequest";
    const KEY: i16 = 44;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 1;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AlterConfigsResource {
    pub resource_type: i8,
    pub resource_name: String,
    pub configs: Vec<AlterableConfig>,
}

impl Wire for AlterConfigsResource {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.resource_type = r.i8()?;
        m.resource_name = r.string(flex)?;
        m.configs = r.array(flex, AlterableConfig::MIN_SIZE, |r| AlterableConfig::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.i8(self.resource_type);
        w.string(flex, &self.resource_name);
        w.array(flex, &self.configs, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlterableConfig {
    pub name: String,
    pub config_operation: i8,
    pub value: Option<String>,
}

impl Default for AlterableConfig {
    fn default() -> Self {
        Self { name: String::new(), config_operation: 0, value: Some(String::new()) }
    }
}

impl Wire for AlterableConfig {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.name = r.string(flex)?;
        m.config_operation = r.i8()?;
        m.value = r.nullable_string(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.string(flex, &self.name);
        w.i8(self.config_operation);
        w.nullable_string(flex, self.value.as_deref());
        if flex {
            w.no_tags();
        }
    }
}
