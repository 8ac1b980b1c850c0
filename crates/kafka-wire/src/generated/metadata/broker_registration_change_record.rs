// Made by `cargo xtask codegen kafka`; not to be edited.

//! `BrokerRegistrationChangeRecord`, versions 0-3.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct BrokerRegistrationChangeRecord {
    pub broker_id: i32,
    pub broker_epoch: i64,
    /// tag 0
    pub fenced: i8,
    /// versions 1+, tag 1
    pub in_controlled_shutdown: i8,
    /// versions 2+, tag 2
    pub log_dirs: Vec<Uuid>,
    /// versions 3+, tag 3
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl Wire for BrokerRegistrationChangeRecord {
    const MIN_SIZE: usize = 13;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.broker_id = r.i32()?;
        m.broker_epoch = r.i64()?;
        r.tags(|tag, r| {
            match tag {
                0 => m.fenced = r.i8()?,
                1 if version >= 1 => m.in_controlled_shutdown = r.i8()?,
                2 if version >= 2 => m.log_dirs = r.array(true, 16, |r| r.uuid())?,
                3 if version >= 3 => m.cordoned_log_dirs = r.nullable_array(true, 16, |r| r.uuid())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.broker_id);
        w.i64(self.broker_epoch);
        w.tags(|t| {
            if self.fenced != 0 {
                t.field(0, |w| w.i8(self.fenced));
            }
            if version >= 1 && self.in_controlled_shutdown != 0 {
                t.field(1, |w| w.i8(self.in_controlled_shutdown));
            }
            if version >= 2 && !self.log_dirs.is_empty() {
                t.field(2, |w| w.array(true, &self.log_dirs, |w, x| w.uuid(*x)));
            }
            if version >= 3 && self.cordoned_log_dirs.is_some() {
                t.field(3, |w| w.nullable_array(true, self.cordoned_log_dirs.as_deref(), |w, x| w.uuid(*x)));
            }
        });
    }
}

impl Message for BrokerRegistrationChangeRecord {
    const NAME: &'static str = "BrokerRegistrationChangeRecord";
    const KEY: i16 = 17;
    const VERSIONS: (i16, i16) = (0, 3);
    const FLEXIBLE_FROM: i16 = 0;
}
