// Made by `cargo xtask codegen kafka`; not to be edited.

//! `BeginTransactionRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct BeginTransactionRecord {
    /// tag 0
    pub name: Option<String>,
}

impl Wire for BeginTransactionRecord {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        r.tags(|tag, r| {
            match tag {
                0 => m.name = r.nullable_string(true)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.tags(|t| {
            if self.name.is_some() {
                t.field(0, |w| w.nullable_string(true, self.name.as_deref()));
            }
        });
    }
}

impl Message for BeginTransactionRecord {
    const NAME: &'static str = "BeginTransactionRecord";
    const KEY: i16 = 23;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
