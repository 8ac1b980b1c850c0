// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ApiVersionsResponse`, versions 0-4.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct ApiVersionsResponse {
    pub error_code: i16,
    pub api_keys: Vec<ApiVersion>,
    /// versions 1+
    pub throttle_time_ms: i32,
    /// versions 3+, tag 0
    pub supported_features: Vec<SupportedFeatureKey>,
    /// versions 3+, tag 1, default -1
    pub finalized_features_epoch: i64,
    /// versions 3+, tag 2
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// versions 3+, tag 3, default false
    pub zk_migration_ready: bool,
}

impl Default for ApiVersionsResponse {
    fn default() -> Self {
        Self {
            error_code: 0,
            api_keys: Vec::new(),
            throttle_time_ms: 0,
            supported_features: Vec::new(),
            finalized_features_epoch: -1,
            finalized_features: Vec::new(),
            zk_migration_ready: false,
        }
    }
}

impl Wire for ApiVersionsResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.error_code = r.i16()?;
        m.api_keys = r.array(flex, ApiVersion::MIN_SIZE, |r| ApiVersion::decode(r, version))?;
        if version >= 1 {
            m.throttle_time_ms = r.i32()?;
        }
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 3 => {
                        m.supported_features = r.array(flex, SupportedFeatureKey::MIN_SIZE, |r| {
                            SupportedFeatureKey::decode(r, version)
                        })?
                    }
                    1 if version >= 3 => m.finalized_features_epoch = r.i64()?,
                    2 if version >= 3 => {
                        m.finalized_features = r.array(flex, FinalizedFeatureKey::MIN_SIZE, |r| {
                            FinalizedFeatureKey::decode(r, version)
                        })?
                    }
                    3 if version >= 3 => m.zk_migration_ready = r.bool()?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.i16(self.error_code);
        w.array(flex, &self.api_keys, |w, x| x.encode(w, version));
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        if flex {
            w.tags(|t| {
                if version >= 3 && !self.supported_features.is_empty() {
                    t.field(0, |w| w.array(flex, &self.supported_features, |w, x| x.encode(w, version)));
                }
                if version >= 3 && self.finalized_features_epoch != -1 {
                    t.field(1, |w| w.i64(self.finalized_features_epoch));
                }
                if version >= 3 && !self.finalized_features.is_empty() {
                    t.field(2, |w| w.array(flex, &self.finalized_features, |w, x| x.encode(w, version)));
                }
                if version >= 3 && self.zk_migration_ready {
                    t.field(3, |w| w.bool(self.zk_migration_ready));
                }
            });
        }
    }
}

impl Message for ApiVersionsResponse {
    const NAME: &'static str = "ApiVersionsResponse";
    const KEY: i16 = 18;
    const VERSIONS: (i16, i16) = (0, 4);
    const FLEXIBLE_FROM: i16 = 3;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
}

impl Wire for ApiVersion {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.api_key = r.i16()?;
        m.min_version = r.i16()?;
        m.max_version = r.i16()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.i16(self.api_key);
        w.i16(self.min_version);
        w.i16(self.max_version);
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct FinalizedFeatureKey {
    /// versions 3+
    pub name: String,
    /// versions 3+
    pub max_version_level: i16,
    /// versions 3+
    pub min_version_level: i16,
}

impl Wire for FinalizedFeatureKey {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 3 {
            m.name = r.string(flex)?;
            m.max_version_level = r.i16()?;
            m.min_version_level = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 3 {
            w.string(flex, &self.name);
            w.i16(self.max_version_level);
            w.i16(self.min_version_level);
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct SupportedFeatureKey {
    /// versions 3+
    pub name: String,
    /// versions 3+
    pub min_version: i16,
    /// versions 3+
    pub max_version: i16,
}

impl Wire for SupportedFeatureKey {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 3 {
            m.name = r.string(flex)?;
            m.min_version = r.i16()?;
            m.max_version = r.i16()?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 3 {
            w.string(flex, &self.name);
            w.i16(self.min_version);
            w.i16(self.max_version);
        }
        if flex {
            w.no_tags();
        }
    }
}
