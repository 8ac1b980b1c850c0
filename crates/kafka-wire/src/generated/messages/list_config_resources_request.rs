// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ListConfigResourcesRequest`, versions 0-1.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListConfigResourcesRequest {
    /// versions 1+
    pub resource_types: Vec<i8>,
}

impl Wire for ListConfigResourcesRequest {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        if version >= 1 {
            m.resource_types = r.array(true, 1, |r| r.i8())?;
        }
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        if version >= 1 {
            w.array(true, &self.resource_types, |w, x| w.i8(*x));
        }
        w.no_tags();
    }
}

impl Message for ListConfigResourcesRequest {
    const NAME: &'static str = "ListConfigResourcesRequest";
    const KEY: i16 = 74;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 0;
}
