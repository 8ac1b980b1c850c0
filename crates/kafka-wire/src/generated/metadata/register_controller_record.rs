// Made by `cargo xtask codegen kafka`; not to be edited.

//! `RegisterControllerRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct RegisterControllerRecord {
    pub controller_id: i32,
    pub incarnation_id: Uuid,
    pub zk_migration_ready: bool,
    pub end_points: Vec<ControllerEndpoint>,
    pub features: Vec<ControllerFeature>,
}

impl Wire for RegisterControllerRecord {
    const MIN_SIZE: usize = 24;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.controller_id = r.i32()?;
        m.incarnation_id = r.uuid()?;
        m.zk_migration_ready = r.bool()?;
        m.end_points =
            r.array(true, ControllerEndpoint::MIN_SIZE, |r| ControllerEndpoint::decode(r, version))?;
        m.features = r.array(true, ControllerFeature::MIN_SIZE, |r| ControllerFeature::decode(r, version))?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.controller_id);
        w.uuid(self.incarnation_id);
        w.bool(self.zk_migration_ready);
        w.array(true, &self.end_points, |w, x| x.encode(w, version));
        w.array(true, &self.features, |w, x| x.encode(w, version));
        w.no_tags();
    }
}

impl Message for RegisterControllerRecord {
    const NAME: &'static str = "RegisterControllerRecord";
    const KEY: i16 = 27;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ControllerEndpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security_protocol: i16,
}

impl Wire for ControllerEndpoint {
    const MIN_SIZE: usize = 7;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.name = r.string(true)?;
        m.host = r.string(true)?;
        m.port = r.u16()?;
        m.security_protocol = r.i16()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.name);
        w.string(true, &self.host);
        w.u16(self.port);
        w.i16(self.security_protocol);
        w.no_tags();
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ControllerFeature {
    pub name: String,
    pub min_supported_version: i16,
    pub max_supported_version: i16,
}

impl Wire for ControllerFeature {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.name = r.string(true)?;
        m.min_supported_version = r.i16()?;
        m.max_supported_version = r.i16()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.name);
        w.i16(self.min_supported_version);
        w.i16(self.max_supported_version);
        w.no_tags();
    }
}
