// Made by `cargo xtask codegen kafka`; not to be edited.

//! `StreamsGroupCurrentMemberAssignmentValue`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct StreamsGroupCurrentMemberAssignmentValue {
    pub member_epoch: i32,
    pub previous_member_epoch: i32,
    pub state: i8,
    pub active_tasks: Vec<TaskIds>,
    pub standby_tasks: Vec<TaskIds>,
    pub warmup_tasks: Vec<TaskIds>,
    pub active_tasks_pending_revocation: Vec<TaskIds>,
    pub standby_tasks_pending_revocation: Vec<TaskIds>,
    pub warmup_tasks_pending_revocation: Vec<TaskIds>,
}

impl Wire for StreamsGroupCurrentMemberAssignmentValue {
    const MIN_SIZE: usize = 16;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.member_epoch = r.i32()?;
        m.previous_member_epoch = r.i32()?;
        m.state = r.i8()?;
        m.active_tasks = r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        m.standby_tasks = r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        m.warmup_tasks = r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        m.active_tasks_pending_revocation =
            r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        m.standby_tasks_pending_revocation =
            r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        m.warmup_tasks_pending_revocation =
            r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.member_epoch);
        w.i32(self.previous_member_epoch);
        w.i8(self.state);
        w.array(true, &self.active_tasks, |w, x| x.encode(w, version));
        w.array(true, &self.standby_tasks, |w, x| x.encode(w, version));
        w.array(true, &self.warmup_tasks, |w, x| x.encode(w, version));
        w.array(true, &self.active_tasks_pending_revocation, |w, x| x.encode(w, version));
        w.array(true, &self.standby_tasks_pending_revocation, |w, x| x.encode(w, version));
        w.array(true, &self.warmup_tasks_pending_revocation, |w, x| x.encode(w, version));
        w.no_tags();
    }
}

impl Message for StreamsGroupCurrentMemberAssignmentValue {
    const NAME: &'static str = "StreamsGroupCurrentMemberAssignmentValue";
    const KEY: i16 = 22;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskIds {
    pub subtopology_id: String,
    pub partitions: Vec<i32>,
    /// tag 0
    pub assignment_epochs: Option<Vec<i32>>,
}

impl Default for TaskIds {
    fn default() -> Self {
        Self { subtopology_id: String::new(), partitions: Vec::new(), assignment_epochs: Some(Vec::new()) }
    }
}

impl Wire for TaskIds {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.subtopology_id = r.string(true)?;
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
        w.string(true, &self.subtopology_id);
        w.array(true, &self.partitions, |w, x| w.i32(*x));
        w.tags(|t| {
            if self.assignment_epochs.as_ref().is_none_or(|x| !x.is_empty()) {
                t.field(0, |w| w.nullable_array(true, self.assignment_epochs.as_deref(), |w, x| w.i32(*x)));
            }
        });
    }
}
