// Made by `cargo xtask codegen kafka`; not to be edited.

//! `TopicRecord`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct TopicRecord {
    pub name: String,
    pub topic_id: Uuid,
}

impl Wire for TopicRecord {
    const MIN_SIZE: usize = 18;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.name = r.string(true)?;
        m.topic_id = r.uuid()?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.name);
        w.uuid(self.topic_id);
        w.no_tags();
    }
}

impl Message for TopicRecord {
    const NAME: &'static str = "TopicRecord";
    const KEY: i16 = 2;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}
