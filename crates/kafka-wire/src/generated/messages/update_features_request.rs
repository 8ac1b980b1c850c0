// Made by `cargo xtask codegen kafka`; not to be edited.

//! `UpdateFeaturesRequest`, versions 0-2.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct UpdateFeaturesRequest {
    /// default 60000
    pub timeout_ms: i32,
    pub feature_updates: Vec<FeatureUpdateKey>,
    /// versions 1+, default false
    pub validate_only: bool,
}

impl Default for UpdateFeaturesRequest {
    fn default() -> Self {
        Self { timeout_ms: 60000, feature_updates: Vec::new(), validate_only: false }
    }
}

impl Wire for UpdateFeaturesRequest {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.timeout_ms = r.i32()?;
        m.feature_updates =
            r.array(true, FeatureUpdateKey::MIN_SIZE, |r| FeatureUpdateKey::decode(r, version))?;
        if version >= 1 {
            m.validate_only = r.bool()?;
        }
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.timeout_ms);
        w.array(true, &self.feature_updates, |w, x| x.encode(w, version));
        if version >= 1 {
            w.bool(self.validate_only);
        }
        w.no_tags();
    }
}

impl Message for UpdateFeaturesRequest {
    const NAME: &'static str = "UpdateFeaturesRequest";
    const KEY: i16 = 57;
    const VERSIONS: (i16, i16) = (0, 2);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq)]
pub struct FeatureUpdateKey {
    pub feature: String,
    pub max_version_level: i16,
    /// versions 0
    pub allow_downgrade: bool,
    /// versions 1+, default 1
    pub upgrade_type: i8,
}

impl Default for FeatureUpdateKey {
    fn default() -> Self {
        Self { feature: String::new(), max_version_level: 0, allow_downgrade: false, upgrade_type: 1 }
    }
}

impl Wire for FeatureUpdateKey {
    const MIN_SIZE: usize = 5;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.feature = r.string(true)?;
        m.max_version_level = r.i16()?;
        if version <= 0 {
            m.allow_downgrade = r.bool()?;
        }
        if version >= 1 {
            m.upgrade_type = r.i8()?;
        }
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.string(true, &self.feature);
        w.i16(self.max_version_level);
        if version <= 0 {
            w.bool(self.allow_downgrade);
        }
        if version >= 1 {
            w.i8(self.upgrade_type);
        }
        w.no_tags();
    }
}
