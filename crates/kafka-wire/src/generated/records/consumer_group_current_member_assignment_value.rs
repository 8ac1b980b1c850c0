// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ConsumerGroupCurrentMemberAssignmentValue`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConsumerGroupCurrentMemberAssignmentValue {
    pub member_epoch: i32,
    pub previous_member_epoch: i32,
    pub state: i8,
    pub assigned_partitions: Vec<TopicPartitions>,
    pub partitions_pending_revocation: Vec<TopicPartitions>,
}

impl Wire for ConsumerGroupCurrentMemberAssignmentValue {
    const MIN_SIZE: usize = 12;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.member_epoch = r.i32()?;
        m.previous_member_epoch = r.i32()?;
        m.state = r.i8()?;
        m.assigned_partitions =
            r.array(true, TopicPartitions::MIN_SIZE, |r| TopicPartitions::decode(r, version))?;
        m.partitions_pending_revocation =
            r.array(true, TopicPartitions::MIN_SIZE, |r| TopicPartitions::decode(r, version))?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.member_epoch);
        w.i32(self.previous_member_epoch);
        w.i8(self.state);
        w.array(true, &self.assigned_partitions, |w, x| x.encode(w, version));
        w.array(true, &self.partitions_pending_revocation, |w, x| x.encode(w, version));
        w.no_tags();
    }
}

impl Message for ConsumerGroupCurrentMemberAssignmentValue {
    const NAME: &'static str = "ConsumerGroupCurrentMemberAssignmentValue";
    const KEY: i16 = 8;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq)]
pub struct TopicPartitions {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    /// tag 0
    pub assignment_epochs: Option<Vec<i32>>,
}

impl Default for TopicPartitions {
    fn default() -> Self {
        Self { topic_id: Uuid::nil(), partitions: Vec::new(), assignment_epochs: Some(Vec::new()) }
    }
}

impl Wire for TopicPartitions {
    const MIN_SIZE: usize = 18;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.topic_id = r.uuid()?;
        m.partitions = r.array(true, 4, |r| r.i32())?;
        r.tags(|tag, r| {
            match tag {
                0 => m.assignment_epochs = r.nullable_array(true, 4, |r| r.i32())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.uuid(self.topic_id);
        w.array(true, &self.partitions, |w, x| w.i32(*x));
        w.tags(|t| {
            if self.assignment_epochs.as_ref().is_none_or(|x| !x.is_empty()) {
                t.field(0, |w| w.nullable_array(true, self.assignment_epochs.as_deref(), |w, x| w.i32(*x)));
            }
        });
    }
}
