// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ConsumerGroupTargetAssignmentMetadataValue`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConsumerGroupTargetAssignmentMetadataValue {
    pub assignment_epoch: i32,
    /// tag 0, default 0
    pub assignment_timestamp: i64,
}

impl Wire for ConsumerGroupTargetAssignmentMetadataValue {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.assignment_epoch = r.i32()?;
        r.tags(|tag, r| {
            match tag {
                0 => m.assignment_timestamp = r.i64()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.i32(self.assignment_epoch);
        w.tags(|t| {
            if self.assignment_timestamp != 0 {
                t.field(0, |w| w.i64(self.assignment_timestamp));
            }
        });
    }
}

impl Message for ConsumerGroupTargetAssignmentMetadataValue {
    const NAME: &'static str = "ConsumerGroupTargetAssignmentMetadataValue";
    const KEY: i16 = 6;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
