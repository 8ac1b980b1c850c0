// Made by `cargo xtask codegen kafka`; not to be edited.

//! `AlterReplicaLogDirsRequest`, versions 1-2.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AlterReplicaLogDirsRequest {
    pub dirs: Vec<AlterReplicaLogDir>,
}

impl Wire for AlterReplicaLogDirsRequest {
    const MIN_SIZE: usize = 2;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        m.dirs = r.array(flex, AlterReplicaLogDir::MIN_SIZE, |r| AlterReplicaLogDir::decode(r, version))?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        w.array(flex, &self.dirs, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

impl Message for AlterReplicaLogDirsRequest {
    const NAME: &'static str = "AlterReplicaLogDirsRequest";
    const KEY: i16 = 34;
    const VERSIONS: (i16, i16) = (1, 2);
    const FLEXIBLE_FROM: i16 = 2;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AlterReplicaLogDir {
    pub path: String,
    pub topics: Vec<AlterReplicaLogDirTopic>,
}

impl Wire for AlterReplicaLogDir {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        m.path = r.string(flex)?;
        m.topics = r.array(flex, AlterReplicaLogDirTopic::MIN_SIZE, |r| {
            AlterReplicaLogDirTopic::decode(r, version)
        })?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        w.string(flex, &self.path);
        w.array(flex, &self.topics, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AlterReplicaLogDirTopic {
    pub name: String,
    pub partitions: Vec<i32>,
}

impl Wire for AlterReplicaLogDirTopic {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 2;
        let mut m = Self::default();
        m.name = r.string(flex)?;
        m.partitions = r.array(flex, 4, |r| r.i32())?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 2;
        w.string(flex, &self.name);
        w.array(flex, &self.partitions, |w, x| w.i32(*x));
        if flex {
            w.no_tags();
        }
    }
}
