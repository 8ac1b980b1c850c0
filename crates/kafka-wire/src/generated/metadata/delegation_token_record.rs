// Made by `cargo xtask codegen kafka`; not to be edited.

//! `DelegationTokenRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DelegationTokenRecord {
    pub owner: String,
    pub requester: String,
    pub renewers: Vec<String>,
    pub issue_timestamp: i64,
    pub max_timestamp: i64,
    pub expiration_timestamp: i64,
    pub token_id: String,
}

impl Wire for DelegationTokenRecord {
    const MIN_SIZE: usize = 29;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.owner = r.string(true)?;
        m.requester = r.string(true)?;
        m.renewers = r.array(true, 1, |r| r.string(true))?;
        m.issue_timestamp = r.i64()?;
        m.max_timestamp = r.i64()?;
        m.expiration_timestamp = r.i64()?;
        m.token_id = r.string(true)?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.owner);
        w.string(true, &self.requester);
        w.array(true, &self.renewers, |w, x| w.string(true, x));
        w.i64(self.issue_timestamp);
        w.i64(self.max_timestamp);
        w.i64(self.expiration_timestamp);
        w.string(true, &self.token_id);
        w.no_tags();
    }
}

impl Message for DelegationTokenRecord {
    const NAME: &'static str = "DelegationTokenRecord";
    const KEY: i16 = 10;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
