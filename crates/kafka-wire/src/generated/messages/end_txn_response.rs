// Made by `cargo xtask codegen kafka`; not to be edited.

//! `EndTxnResponse`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct EndTxnResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    /// versions 5+, default -1
    pub producer_id: i64,
    /// versions 5+, default -1
    pub producer_epoch: i16,
}

impl Default for EndTxnResponse {
    fn default() -> Self {
        Self { throttle_time_ms: 0, error_code: 0, producer_id: -1, producer_epoch: -1 }
    }
}

impl Wire for EndTxnResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.throttle_time_ms = r.i32()?;
        m.error_code = r.i16()?;
        if version >= 5 {
            m.producer_id = r.i64()?;
            m.producer_epoch = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        if version >= 5 {
            w.i64(self.producer_id);
            w.i16(self.producer_epoch);
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for EndTxnResponse {
    const NAME: &'static str = "EndTxnResponse";
    const KEY: i16 = 26;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 3;
}
