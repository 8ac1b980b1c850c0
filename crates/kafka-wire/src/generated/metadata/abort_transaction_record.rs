// Made by `cargo xtask codegen kafka`; not to be edited.

//! `AbortTransactionRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AbortTransactionRecord {
    /// tag 0
    pub reason: Option<String>,
}

impl Wire for AbortTransactionRecord {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        r.tags(|tag, r| {
            match tag {
                0 => m.reason = r.nullable_string(true)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.tags(|t| {
            if self.reason.is_some() {
                t.field(0, |w| w.nullable_string(true, self.reason.as_deref()));
            }
        });
    }
}

impl Message for AbortTransactionRecord {
    const NAME: &'static str = "AbortTransactionRecord";
    const KEY: i16 = 25;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
