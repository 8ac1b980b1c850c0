// Made by `cargo xtask codegen kafka`; not to be edited.

//! `PartitionChangeRecord`, versions 0-2.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct PartitionChangeRecord {
    /// default -1
    pub partition_id: i32,
    pub topic_id: Uuid,
    /// tag 0
    pub isr: Option<Vec<i32>>,
    /// tag 1, default -2
    pub leader: i32,
    /// tag 2
    pub replicas: Option<Vec<i32>>,
    /// tag 3
    pub removing_replicas: Option<Vec<i32>>,
    /// tag 4
    pub adding_replicas: Option<Vec<i32>>,
    /// tag 5, default -1
    pub leader_recovery_state: i8,
    /// versions 1+, tag 8
    pub directories: Option<Vec<Uuid>>,
    /// versions 2+, tag 6
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// versions 2+, tag 7
    pub last_known_elr: Option<Vec<i32>>,
}

impl Default for PartitionChangeRecord {
    fn default() -> Self {
        Self {
            partition_id: -1,
            topic_id: Uuid::nil(),
            isr: None,
            leader: -2,
            replicas: None,
            removing_replicas: None,
            adding_replicas: None,
            leader_recovery_state: -1,
            directories: None,
            eligible_leader_replicas: None,
            last_known_elr: None,
        }
    }
}

impl Wire for PartitionChangeRecord {
    const MIN_SIZE: usize = 21;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.partition_id = r.i32()?;
        m.topic_id = r.uuid()?;
        r.tags(|tag, r| {
            match tag {
                0 => m.isr = r.nullable_array(true, 4, |r| r.i32())?,
                1 => m.leader = r.i32()?,
                2 => m.replicas = r.nullable_array(true, 4, |r| r.i32())?,
                3 => m.removing_replicas = r.nullable_array(true, 4, |r| r.i32())?,
                4 => m.adding_replicas = r.nullable_array(true, 4, |r| r.i32())?,
                5 => m.leader_recovery_state = r.i8()?,
                6 if version >= 2 => m.eligible_leader_replicas = r.nullable_array(true, 4, |r| r.i32())?,
                7 if version >= 2 => m.last_known_elr = r.nullable_array(true, 4, |r| r.i32())?,
                8 if version >= 1 => m.directories = r.nullable_array(true, 16, |r| r.uuid())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.i32(self.partition_id);
        w.uuid(self.topic_id);
        w.tags(|t| {
            if self.isr.is_some() {
                t.field(0, |w| w.nullable_array(true, self.isr.as_deref(), |w, x| w.i32(*x)));
            }
            if self.leader != -2 {
                t.field(1, |w| w.i32(self.leader));
            }
            if self.replicas.is_some() {
                t.field(2, |w| w.nullable_array(true, self.replicas.as_deref(), |w, x| w.i32(*x)));
            }
            if self.removing_replicas.is_some() {
                t.field(3, |w| w.nullable_array(true, self.removing_replicas.as_deref(), |w, x| w.i32(*x)));
            }
            if self.adding_replicas.is_some() {
                t.field(4, |w| w.nullable_array(true, self.adding_replicas.as_deref(), |w, x| w.i32(*x)));
            }
            if self.leader_recovery_state != -1 {
                t.field(5, |w| w.i8(self.leader_recovery_state));
            }
            if version >= 2 && self.eligible_leader_replicas.is_some() {
                t.field(6, |w| {
                    w.nullable_array(true, self.eligible_leader_replicas.as_deref(), |w, x| w.i32(*x))
                });
            }
            if version >= 2 && self.last_known_elr.is_some() {
                t.field(7, |w| w.nullable_array(true, self.last_known_elr.as_deref(), |w, x| w.i32(*x)));
            }
            if version >= 1 && self.directories.is_some() {
                t.field(8, |w| w.nullable_array(true, self.directories.as_deref(), |w, x| w.uuid(*x)));
            }
        });
    }
}

impl Message for PartitionChangeRecord {
    const NAME: &'static str = "PartitionChangeRecord";
    const KEY: i16 = 5;
    const VERSIONS: (i16, i16) = (0, 2);
    const FLEXIBLE_FROM: i16 = 0;
}
