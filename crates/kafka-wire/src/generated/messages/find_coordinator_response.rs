// Made by `cargo xtask codegen kafka`; not to be edited.

//! `FindCoordinatorResponse`, versions 0-6.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct FindCoordinatorResponse {
    /// versions 1+
    pub throttle_time_ms: i32,
    /// versions 0-3
    pub error_code: i16,
    /// versions 1-3
    pub error_message: Option<String>,
    /// versions 0-3
    pub node_id: i32,
    /// versions 0-3
    pub host: String,
    /// versions 0-3
    pub port: i32,
    /// versions 4+
    pub coordinators: Vec<Coordinator>,
}

impl Default for FindCoordinatorResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            error_message: Some(String::new()),
            node_id: 0,
            host: String::new(),
            port: 0,
            coordinators: Vec::new(),
        }
    }
}

impl Wire for FindCoordinatorResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 1 {
            m.throttle_time_ms = r.i32()?;
        }
        if version <= 3 {
            m.error_code = r.i16()?;
        }
        if (1..=3).contains(&version) {
            m.error_message = r.nullable_string(flex)?;
        }
        if version <= 3 {
            m.node_id = r.i32()?;
            m.host = r.string(flex)?;
            m.port = r.i32()?;
        }
        if version >= 4 {
            m.coordinators = r.array(flex, Coordinator::MIN_SIZE, |r| Coordinator::decode(r, version))?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        if version <= 3 {
            w.i16(self.error_code);
        }
        if (1..=3).contains(&version) {
            w.nullable_string(flex, self.error_message.as_deref());
        }
        if version <= 3 {
            w.i32(self.node_id);
            w.string(flex, &self.host);
            w.i32(self.port);
        }
        if version >= 4 {
            w.array(flex, &self.coordinators, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for FindCoordinatorResponse {
    const NAME: &'static str = "FindCoordinatorResponse";
    const KEY: i16 = 10;
    const VERSIONS: (i16, i16) = (0, 6);
    const FLEXIBLE_FROM: i16 = 3;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Coordinator {
    /// versions 4+
    pub key: String,
    /// versions 4+
    pub node_id: i32,
    /// versions 4+
    pub host: String,
    /// versions 4+
    pub port: i32,
    /// versions 4+
    pub error_code: i16,
    /// versions 4+
    pub error_message: Option<String>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            key: String::new(),
            node_id: 0,
            host: String::new(),
            port: 0,
            error_code: 0,
            error_message: Some(String::new()),
        }
    }
}

impl Wire for Coordinator {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 4 {
            m.key = r.string(flex)?;
            m.node_id = r.i32()?;
            m.host = r.string(flex)?;
            m.port = r.i32()?;
            m.error_code = r.i16()?;
            m.error_message = r.nullable_string(flex)?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 4 {
            w.string(flex, &self.key);
            w.i32(self.node_id);
            w.string(flex, &self.host);
            w.i32(self.port);
            w.i16(self.error_code);
            w.nullable_string(flex, self.error_message.as_deref());
        }
        if flex {
            w.no_tags();
        }
    }
}
