// Made by `cargo xtask codegen kafka`; not to be edited.

//! `CreateDelegationTokenRequest`, versions 1-3.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct CreateDelegationTokenRequest {
    /// versions 3+
    pub owner_principal_type: Option<String>,
    /// versions 3+
    pub owner_principal_name: Option<String>,
    pub renewers: Vec<CreatableRenewers>,
    pub max_lifetime_ms: i64,
}

impl Default for CreateDelegationTokenRequest {
    fn default() -> Self {
        Self {
            owner_principal_type: Some(String::new()),
            owner_principal_name: Some(String::new()),
            renewers: Vec::new(),
            max_lifetime_ms: 0,
        }
    }
}

impl Wire for CreateDelegationTokenRequest {
    const MIN_SIZE: usize = 10;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        if version >= 3 {
            m.owner_principal_type = r.nullable_string(flex)?;
            m.owner_principal_name = r.nullable_string(flex)?;
        }
        m.renewers = r.array(flex, CreatableRenewers::MIN_SIZE, |r| CreatableRenewers::decode(r, version))?;
        m.max_lifetime_ms = r.i64()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        if version >= 3 {
            w.nullable_string(flex, self.owner_principal_type.as_deref());
            w.nullable_string(flex, self.owner_principal_name.as_deref());
        }
        w.array(flex, &self.renewers, |w, x| x.encode(w, version));
        w.i64(self.max_lifetime_ms);
        if flex {
            w.no_tags();
        }
    }
}

impl Message for CreateDelegationTokenRequest {
    const NAME: &'static str = "CreateDelegationTokenRequest";
    const KEY: i16 = 38;
    const VERSIONS: (i16, i16) = (1, 3);
    const FLEXIBLE_FROM: i16 = 2;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct CreatableRenewers {
    pub principal_type: String,
    pub principal_name: String,
}

impl Wire for CreatableRenewers {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        m.principal_type = r.string(flex)?;
        m.principal_name = r.string(flex)?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        w.string(flex, &self.principal_type);
        w.string(flex, &self.principal_name);
        if flex {
            w.no_tags();
        }
    }
}
