// Made by `cargo xtask codegen kafka`; not to be edited.

//! `VotersRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct VotersRecord {
    pub version: i16,
    pub voters: Vec<Voter>,
}

impl Wire for VotersRecord {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.version = r.i16()?;
        m.voters = r.array(true, Voter::MIN_SIZE, |r| Voter::decode(r, version))?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i16(self.version);
        w.array(true, &self.voters, |w, x| x.encode(w, version));
        w.no_tags();
    }
}

impl Message for VotersRecord {
    const NAME: &'static str = "VotersRecord";
    const KEY: i16 = -1;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Endpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
}

impl Wire for Endpoint {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.name = r.string(true)?;
        m.host = r.string(true)?;
        m.port = r.u16()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.name);
        w.string(true, &self.host);
        w.u16(self.port);
        w.no_tags();
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct KRaftVersionFeature {
    pub min_supported_version: i16,
    pub max_supported_version: i16,
}

impl Wire for KRaftVersionFeature {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.min_supported_version = r.i16()?;
        m.max_supported_version = r.i16()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.i16(self.min_supported_version);
        w.i16(self.max_supported_version);
        w.no_tags();
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Voter {
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub endpoints: Vec<Endpoint>,
    pub k_raft_version_feature: KRaftVersionFeature,
}

impl Wire for Voter {
    const MIN_SIZE: usize = 27;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.voter_id = r.i32()?;
        m.voter_directory_id = r.uuid()?;
        m.endpoints = r.array(true, Endpoint::MIN_SIZE, |r| Endpoint::decode(r, version))?;
        m.k_raft_version_feature = KRaftVersionFeature::decode(r, version)?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.voter_id);
        w.uuid(self.voter_directory_id);
        w.array(true, &self.endpoints, |w, x| x.encode(w, version));
        self.k_raft_version_feature.encode(w, version);
        w.no_tags();
    }
}
