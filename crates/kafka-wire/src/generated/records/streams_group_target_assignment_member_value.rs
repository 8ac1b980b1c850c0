// Made by `cargo xtask codegen kafka`; not to be edited.

//! `StreamsGroupTargetAssignmentMemberValue`, versions 0.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct StreamsGroupTargetAssignmentMemberValue {
    pub active_tasks: Vec<TaskIds>,
    pub standby_tasks: Vec<TaskIds>,
    pub warmup_tasks: Vec<TaskIds>,
}

impl Wire for StreamsGroupTargetAssignmentMemberValue {
    const MIN_SIZE: usize = 4;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.active_tasks = r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        m.standby_tasks = r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        m.warmup_tasks = r.array(true, TaskIds::MIN_SIZE, |r| TaskIds::decode(r, version))?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.array(true, &self.active_tasks, |w, x| x.encode(w, version));
        w.array(true, &self.standby_tasks, |w, x| x.encode(w, version));
        w.array(true, &self.warmup_tasks, |w, x| x.encode(w, version));
        w.no_tags();
    }
}

impl Message for StreamsGroupTargetAssignmentMemberValue {
    const NAME: &'static str = "StreamsGroupTargetAssignmentMemberValue";
    const KEY: i16 = 21;
    const VERSIONS: (i16, i16) = (0, 0);
    const FLEXIBLE_FROM: i16 = 0;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct TaskIds {
    pub subtopology_id: String,
    pub partitions: Vec<i32>,
}

impl Wire for TaskIds {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, _version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.subtopology_id = r.string(true)?;
        m.partitions = r.array(true, 4, |r| r.i32())?;
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, _version: i16) {
        w.string(true, &self.subtopology_id);
        w.array(true, &self.partitions, |w, x| w.i32(*x));
        w.no_tags();
    }
}
