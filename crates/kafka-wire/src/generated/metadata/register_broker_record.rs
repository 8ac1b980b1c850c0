// Made by `cargo xtask codegen kafka`; not to be edited.

//! `RegisterBrokerRecord`, versions 0-4.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct RegisterBrokerRecord {
    pub broker_id: i32,
    /// versions 2+, default false
    pub is_migrating_zk_broker: bool,
    pub incarnation_id: Uuid,
    pub broker_epoch: i64,
    pub end_points: Vec<BrokerEndpoint>,
    pub features: Vec<BrokerFeature>,
    pub rack: Option<String>,
    /// default true
    pub fenced: bool,
    /// versions 1+, default false
    pub in_controlled_shutdown: bool,
    /// versions 3+, tag 0
    pub log_dirs: Vec<Uuid>,
    /// versions 4+, tag 1
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl Default for RegisterBrokerRecord {
    fn default() -> Self {
        Self {
            broker_id: 0,
            is_migrating_zk_broker: false,
            incarnation_id: Uuid::nil(),
            broker_epoch: 0,
            end_points: Vec::new(),
            features: Vec::new(),
            rack: Some(String::new()),
            fenced: true,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
        }
    }
}

impl Wire for RegisterBrokerRecord {
    const MIN_SIZE: usize = 33;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.broker_id = r.i32()?;
        if version >= 2 {
            m.is_migrating_zk_broker = r.bool()?;
        }
        m.incarnation_id = r.uuid()?;
        m.broker_epoch = r.i64()?;
        m.end_points = r.array(true, BrokerEndpoint::MIN_SIZE, |r| BrokerEndpoint::decode(r, version))?;
        m.features = r.array(true, BrokerFeature::MIN_SIZE, |r| BrokerFeature::decode(r, version))?;
        m.rack = r.nullable_string(true)?;
        m.fenced = r.bool()?;
        if version >= 1 {
            m.in_controlled_shutdown = r.bool()?;
        }
        r.tags(|tag, r| {
            match tag {
                0 if version >= 3 => m.log_dirs = r.array(true, 16, |r| r.uuid())?,
                1 if version >= 4 => m.cordoned_log_dirs = r.nullable_array(true, 16, |r| r.uuid())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.broker_id);
        if version >= 2 {
            w.bool(self.is_migrating_zk_broker);
        }
        w.uuid(self.incarnation_id);
        w.i64(self.broker_epoch);
        w.array(true, &self.end_points, |w, x| x.encode(w, version));
        w.array(true, &self.features, |w, x| x.encode(w, version));
        w.nullable_string(true, self.rack.as_deref());
        w.bool(self.fenced);
        if version >= 1 {
            w.bool(self.in_controlled_shutdown);
        }
        w.tags(|t| {
            if version >= 3 && !self.log_dirs.is_empty() {
                t.field(0, |w| w.array(true, &self.log_dirs, |w, x| w.uuid(*x)));
            }
            if version >= 4 && self.cordoned_log_dirs.is_some() {
                t.field(1, |w| w.nullable_array(true, self.cordoned_log_dirs.as_deref(), |w, x| w.uuid(*x)));
            }
        });
    }
}

impl Message for RegisterBrokerRecord {
    const NAME: &'static str = "RegisterBrokerRecord";
    const KEY: i16 = 0;
    const VERSIONS: (i16, i16) = (0, 4);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct BrokerEndpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security_protocol: i16,
}

impl Wire for BrokerEndpoint {
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
pub struct BrokerFeature {
    pub name: String,
    pub min_supported_version: i16,
    pub max_supported_version: i16,
}

impl Wire for BrokerFeature {
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
