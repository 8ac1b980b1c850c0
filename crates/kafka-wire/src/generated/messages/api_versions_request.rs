// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ApiVersionsRequest`, versions 0-4.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ApiVersionsRequest {
    /// versions 3+
    pub client_software_name: String,
    /// versions 3+
    pub client_software_version: String,
}

impl Wire for ApiVersionsRequest {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 3 {
            m.client_software_name = r.string(flex)?;
            m.client_software_version = r.string(flex)?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 3 {
            w.string(flex, &self.client_software_name);
            w.string(flex, &self.client_software_version);
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for ApiVersionsRequest {
    const NAME: &'static str = "ApiVersionsRequest";
    const KEY: i16 = 18;
    const VERSIONS: (i16, i16) = (0, 4);
    const FLEXIBLE_FROM: i16 = 3;
}
