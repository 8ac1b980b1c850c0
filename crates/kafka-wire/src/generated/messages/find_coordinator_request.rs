// Made by `cargo xtask codegen kafka`; not to be edited.

//! `FindCoordinatorRequest`, versions 0-6.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct FindCoordinatorRequest {
    /// versions 0-3
    pub key: String,
    /// versions 1+, default 0
    pub key_type: i8,
    /// versions 4+
    pub coordinator_keys: Vec<String>,
}

impl Wire for FindCoordinatorRequest {
    const MIN_SIZE: usize = 2;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version <= 3 {
            m.key = r.string(flex)?;
        }
        if version >= 1 {
            m.key_type = r.i8()?;
        }
        if version >= 4 {
            m.coordinator_keys = r.array(flex, 1, |r| r.string(flex))?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version <= 3 {
            w.string(flex, &self.key);
        }
        if version >= 1 {
            w.i8(self.key_type);
        }
        if version >= 4 {
            w.array(flex, &self.coordinator_keys, |w, x| w.string(flex, x));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for FindCoordinatorRequest {
    const NAME: &'static str = "FindCoordinatorRequest";
    const KEY: i16 = 10;
    const VERSIONS: (i16, i16) = (0, 6);
    const FLEXIBLE_FROM: i16 = 3;
}
