// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ConsumerGroupMetadataValue`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConsumerGroupMetadataValue {
    pub epoch: i32,
    /// tag 0, default 0
    pub metadata_hash: i64,
}

impl Wire for ConsumerGroupMetadataValue {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.epoch = r.i32()?;
        r.tags(|tag, r| {
            match tag {
                0 => m.metadata_hash = r.i64()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.i32(self.epoch);
        w.tags(|t| {
            if self.metadata_hash != 0 {
                t.field(0, |w| w.i64(self.metadata_hash));
            }
        });
    }
}

impl Message for ConsumerGroupMetadataValue {
    const NAME: &'static str = "ConsumerGroupMetadataValue";
    const KEY: i16 = 3;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
