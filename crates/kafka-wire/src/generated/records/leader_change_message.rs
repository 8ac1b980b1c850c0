// Made by `cargo xtask codegen kafka`; not to be edited.

//! `LeaderChangeMessage`, versions 0-1.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeaderChangeMessage {
    pub version: i16,
    pub leader_id: i32,
    pub voters: Vec<Voter>,
    pub granting_voters: Vec<Voter>,
}

impl Wire for LeaderChangeMessage {
    const MIN_SIZE: usize = 9;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.version = r.i16()?;
        m.leader_id = r.i32()?;
        m.voters = r.array(true, Voter::MIN_SIZE, |r| Voter::decode(r, version))?;
        m.granting_voters = r.array(true, Voter::MIN_SIZE, |r| Voter::decode(r, version))?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i16(self.version);
        w.i32(self.leader_id);
        w.array(true, &self.voters, |w, x| x.encode(w, version));
        w.array(true, &self.granting_voters, |w, x| x.encode(w, version));
        w.no_tags();
    }
}

impl Message for LeaderChangeMessage {
    const NAME: &'static str = "LeaderChangeMessage";
    const KEY: i16 = -1;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Voter {
    pub voter_id: i32,
    /// versions 1+
    pub voter_directory_id: Uuid,
}

impl Wire for Voter {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.voter_id = r.i32()?;
        if version >= 1 {
            m.voter_directory_id = r.uuid()?;
        }
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.voter_id);
        if version >= 1 {
            w.uuid(self.voter_directory_id);
        }
        w.no_tags();
    }
}
