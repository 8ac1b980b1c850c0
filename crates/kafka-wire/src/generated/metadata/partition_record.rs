// Made by `cargo xtask codegen kafka`; not to be edited.

//! `PartitionRecord`, versions 0-2.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct PartitionRecord {
    /// default -1
    pub partition_id: i32,
    pub topic_id: Uuid,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub removing_replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    /// default -1
    pub leader: i32,
    /// tag 0, default 0
    pub leader_recovery_state: i8,
    /// default -1
    pub leader_epoch: i32,
    /// default -1
    pub partition_epoch: i32,
    /// versions 1+
    pub directories: Vec<Uuid>,
    /// versions 2+, tag 1
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// versions 2+, tag 2
    pub last_known_elr: Option<Vec<i32>>,
}

impl Default for PartitionRecord {
    fn default() -> Self {
        Self {
            partition_id: -1,
            topic_id: Uuid::nil(),
            replicas: Vec::new(),
            isr: Vec::new(),
            removing_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            leader: -1,
            leader_recovery_state: 0,
            leader_epoch: -1,
            partition_epoch: -1,
            directories: Vec::new(),
            eligible_leader_replicas: None,
            last_known_elr: None,
        }
    }
}

impl Wire for PartitionRecord {
    const MIN_SIZE: usize = 37;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.partition_id = r.i32()?;
        m.topic_id = r.uuid()?;
        m.replicas = r.array(true, 4, |r| r.i32())?;
        m.isr = r.array(true, 4, |r| r.i32())?;
        m.removing_replicas = r.array(true, 4, |r| r.i32())?;
        m.adding_replicas = r.array(true, 4, |r| r.i32())?;
        m.leader = r.i32()?;
        m.leader_epoch = r.i32()?;
        m.partition_epoch = r.i32()?;
        if version >= 1 {
            m.directories = r.array(true, 16, |r| r.uuid())?;
        }
        r.tags(|tag, r| {
            match tag {
                0 => m.leader_recovery_state = r.i8()?,
                1 if version >= 2 => m.eligible_leader_replicas = r.nullable_array(true, 4, |r| r.i32())?,
                2 if version >= 2 => m.last_known_elr = r.nullable_array(true, 4, |r| r.i32())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.partition_id);
        w.uuid(self.topic_id);
        w.array(true, &self.replicas, |w, x| w.i32(*x));
        w.array(true, &self.isr, |w, x| w.i32(*x));
        w.array(true, &self.removing_replicas, |w, x| w.i32(*x));
        w.array(true, &self.adding_replicas, |w, x| w.i32(*x));
        w.i32(self.leader);
        w.i32(self.leader_epoch);
        w.i32(self.partition_epoch);
        if version >= 1 {
            w.array(true, &self.directories, |w, x| w.uuid(*x));
        }
        w.tags(|t| {
            if self.leader_recovery_state != 0 {
                t.field(0, |w| w.i8(self.leader_recovery_state));
            }
            if version >= 2 && self.eligible_leader_replicas.is_some() {
                t.field(1, |w| {
                    w.nullable_array(true, self.eligible_leader_replicas.as_deref(), |w, x| w.i32(*x))
                });
            }
            if version >= 2 && self.last_known_elr.is_some() {
                t.field(2, |w| w.nullable_array(true, self.last_known_elr.as_deref(), |w, x| w.i32(*x)));
            }
        });
    }
}

impl Message for PartitionRecord {
    const NAME: &'static str = "PartitionRecord";
    const KEY: i16 = 3;
    const VERSIONS: (i16, i16) = (0, 2);
    const FLEXIBLE_FROM: i16 = 0;
}
