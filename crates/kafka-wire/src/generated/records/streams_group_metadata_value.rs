// Made by `cargo xtask codegen kafka`; not to be edited.

//! `StreamsGroupMetadataValue`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct StreamsGroupMetadataValue {
    pub epoch: i32,
    pub metadata_hash: i64,
    /// tag 0, default -1
    pub validated_topology_epoch: i32,
    /// tag 1
    pub last_assignment_configs: Option<Vec<LastAssignmentConfig>>,
}

impl Default for StreamsGroupMetadataValue {
    fn default() -> Self {
        Self {
            epoch: 0,
            metadata_hash: 0,
            validated_topology_epoch: -1,
            last_assignment_configs: Some(Vec::new()),
        }
    }
}

impl Wire for StreamsGroupMetadataValue {
    const MIN_SIZE: usize = 13;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.epoch = r.i32()?;
        m.metadata_hash = r.i64()?;
        r.tags(|tag, r| {
            match tag {
                0 => m.validated_topology_epoch = r.i32()?,
                1 => {
                    m.last_assignment_configs =
                        r.nullable_array(true, LastAssignmentConfig::MIN_SIZE, |r| {
                            LastAssignmentConfig::decode(r, version)
                        })?
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.epoch);
        w.i64(self.metadata_hash);
        w.tags(|t| {
            if self.validated_topology_epoch != -1 {
                t.field(0, |w| w.i32(self.validated_topology_epoch));
            }
            if self.last_assignment_configs.as_ref().is_none_or(|x| !x.is_empty()) {
                t.field(1, |w| {
                    w.nullable_array(true, self.last_assignment_configs.as_deref(), |w, x| {
                        x.encode(w, version)
                    })
                });
            }
        });
    }
}

impl Message for StreamsGroupMetadataValue {
    const NAME: &'static str = "StreamsGroupMetadataValue";
    const KEY: i16 = 17;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct LastAssignmentConfig {
    pub key: String,
    pub value: String,
}

impl Wire for LastAssignmentConfig {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.key = r.string(true)?;
        m.value = r.string(true)?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.key);
        w.string(true, &self.value);
        w.no_tags();
    }
}
