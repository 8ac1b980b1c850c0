// Made by `cargo xtask codegen kafka`; not to be edited.

//! `OffsetCommitValue`, versions 0-4.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetCommitValue {
    pub offset: i64,
    /// versions 3+, default -1
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_timestamp: i64,
    /// versions 1, default -1
    pub expire_timestamp: i64,
    /// versions 4+, tag 0
    pub topic_id: Uuid,
}

impl Default for OffsetCommitValue {
    fn default() -> Self {
        Self {
            offset: 0,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: 0,
            expire_timestamp: -1,
            topic_id: Uuid::nil(),
        }
    }
}

impl Wire for OffsetCommitValue {
    const MIN_SIZE: usize = 18;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 4;
        let mut m = Self::default();
        m.offset = r.i64()?;
        if version >= 3 {
            m.leader_epoch = r.i32()?;
        }
        m.metadata = r.string(flex)?;
        m.commit_timestamp = r.i64()?;
        if version == 1 {
            m.expire_timestamp = r.i64()?;
        }
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 4 => m.topic_id = r.uuid()?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 4;
        w.i64(self.offset);
        if version >= 3 {
            w.i32(self.leader_epoch);
        }
        w.string(flex, &self.metadata);
        w.i64(self.commit_timestamp);
        if version == 1 {
            w.i64(self.expire_timestamp);
        }
        if flex {
            w.tags(|t| {
                if version >= 4 && self.topic_id != Uuid::nil() {
                    t.field(0, |w| w.uuid(self.topic_id));
                }
            });
        }
    }
}

impl Message for OffsetCommitValue {
    const NAME: &'static str = "OffsetCommitValue";
    const KEY: i16 = 1;
    const VERSIONS: (i16, i16) = (0, 4);
    const FLEXIBLE_FROM: i16 = 4;
}
