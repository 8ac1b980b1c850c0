// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ShareSnapshotKey`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ShareSnapshotKey {
    pub group_id: String,
    pub topic_id: Uuid,
    pub partition: i32,
}

impl Wire for ShareSnapshotKey {
    const MIN_SIZE: usize = 22;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.group_id = r.string(false)?;
        m.topic_id = r.uuid()?;
        m.partition = r.i32()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(false, &self.group_id);
        w.uuid(self.topic_id);
        w.i32(self.partition);
    }
}

impl Message for ShareSnapshotKey {
    const NAME: &'static str = "ShareSnapshotKey";
    const KEY: i16 = 0;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = i16::MAX;
}
