// Made by `cargo xtask codegen kafka`; not to be edited.

//! `CreateDelegationTokenResponse`, versions 1-3.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct CreateDelegationTokenResponse {
    pub error_code: i16,
    pub principal_type: String,
    pub principal_name: String,
    /// versions 3+
    pub token_requester_principal_type: String,
    /// versions 3+
    pub token_requester_principal_name: String,
    pub issue_timestamp_ms: i64,
    pub expiry_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub token_id: String,
    pub hmac: Bytes,
    pub throttle_time_ms: i32,
}

impl Wire for CreateDelegationTokenResponse {
    const MIN_SIZE: usize = 35;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        m.error_code = r.i16()?;
        m.principal_type = r.string(flex)?;
        m.principal_name = r.string(flex)?;
        if version >= 3 {
            m.token_requester_principal_type = r.string(flex)?;
            m.token_requester_principal_name = r.string(flex)?;
        }
        m.issue_timestamp_ms = r.i64()?;
        m.expiry_timestamp_ms = r.i64()?;
        m.max_timestamp_ms = r.i64()?;
        m.token_id = r.string(flex)?;
        m.hmac = r.bytes(flex)?;
        m.throttle_time_ms = r.i32()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        w.i16(self.error_code);
        w.string(flex, &self.principal_type);
        w.string(flex, &self.principal_name);
        if version >= 3 {
            w.string(flex, &self.token_requester_principal_type);
            w.string(flex, &self.token_requester_principal_name);
        }
        w.i64(self.issue_timestamp_ms);
        w.i64(self.expiry_timestamp_ms);
        w.i64(self.max_timestamp_ms);
        w.string(flex, &self.token_id);
        w.bytes(flex, &self.hmac);
        w.i32(self.throttle_time_ms);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for CreateDelegationTokenResponse {
    const NAME: &'static str = "CreateDelegationTokenResponse";
    const KEY: i16 = 38;
    const VERSIONS: (i16, i16) = (1, 3);
    const FLEXIBLE_FROM: i16 = 2;
}
