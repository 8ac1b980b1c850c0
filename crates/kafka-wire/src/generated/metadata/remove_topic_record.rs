// Made by `cargo xtask codegen kafka`; not to be edited.

//! `RemoveTopicRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct RemoveTopicRecord {
    pub topic_id: Uuid,
}

impl Wire for RemoveTopicRecord {
    const MIN_SIZE: usize = 17;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.topic_id = r.uuid()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.uuid(self.topic_id);
        w.no_tags();
    }
}

impl Message for RemoveTopicRecord {
    const NAME: &'static str = "RemoveTopicRecord";
    const KEY: i16 = 9;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
