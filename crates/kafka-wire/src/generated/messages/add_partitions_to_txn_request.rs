// Made by `cargo xtask codegen kafka`; not to be edited.

//! `AddPartitionsToTxnRequest`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AddPartitionsToTxnRequest {
    /// versions 4+
    pub transactions: Vec<AddPartitionsToTxnTransaction>,
    /// versions 0-3
    pub v3_and_below_transactional_id: String,
    /// versions 0-3
    pub v3_and_below_producer_id: i64,
    /// versions 0-3
    pub v3_and_below_producer_epoch: i16,
    /// versions 0-3
    pub v3_and_below_topics: Vec<AddPartitionsToTxnTopic>,
}

impl Wire for AddPartitionsToTxnRequest {
    const MIN_SIZE: usize = 2;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 4 {
            m.transactions = r.array(flex, AddPartitionsToTxnTransaction::MIN_SIZE, |r| {
                AddPartitionsToTxnTransaction::decode(r, version)
            })?;
        }
        if version <= 3 {
            m.v3_and_below_transactional_id = r.string(flex)?;
            m.v3_and_below_producer_id = r.i64()?;
            m.v3_and_below_producer_epoch = r.i16()?;
            m.v3_and_below_topics = r.array(flex, AddPartitionsToTxnTopic::MIN_SIZE, |r| {
                AddPartitionsToTxnTopic::decode(r, version)
            })?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 4 {
            w.array(flex, &self.transactions, |w, x| x.encode(w, version));
        }
        if version <= 3 {
            w.string(flex, &self.v3_and_below_transactional_id);
            w.i64(self.v3_and_below_producer_id);
            w.i16(self.v3_and_below_producer_epoch);
            w.array(flex, &self.v3_and_below_topics, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for AddPartitionsToTxnRequest {
    const NAME: &'static str = "AddPartitionsToTxnRequest";
    const KEY: i16 = 24;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 3;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AddPartitionsToTxnTopic {
    pub name: String,
    pub partitions: Vec<i32>,
}

impl Wire for AddPartitionsToTxnTopic {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.name = r.string(flex)?;
        m.partitions = r.array(flex, 4, |r| r.i32())?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.string(flex, &self.name);
        w.array(flex, &self.partitions, |w, x| w.i32(*x));
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AddPartitionsToTxnTransaction {
    /// versions 4+
    pub transactional_id: String,
    /// versions 4+
    pub producer_id: i64,
    /// versions 4+
    pub producer_epoch: i16,
    /// versions 4+, default false
    pub verify_only: bool,
    /// versions 4+
    pub topics: Vec<AddPartitionsToTxnTopic>,
}

impl Wire for AddPartitionsToTxnTransaction {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 4 {
            m.transactional_id = r.string(flex)?;
            m.producer_id = r.i64()?;
            m.producer_epoch = r.i16()?;
            m.verify_only = r.bool()?;
            m.topics = r.array(flex, AddPartitionsToTxnTopic::MIN_SIZE, |r| {
                AddPartitionsToTxnTopic::decode(r, version)
            })?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        if version >= 4 {
            w.string(flex, &self.transactional_id);
            w.i64(self.producer_id);
            w.i16(self.producer_epoch);
            w.bool(self.verify_only);
            w.array(flex, &self.topics, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}
