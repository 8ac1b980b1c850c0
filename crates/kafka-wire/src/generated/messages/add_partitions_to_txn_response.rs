// Made by `cargo xtask codegen kafka`; not to be edited.

//! `AddPartitionsToTxnResponse`, versions 0-5.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AddPartitionsToTxnResponse {
    pub throttle_time_ms: i32,
    /// versions 4+
    pub error_code: i16,
    /// versions 4+
    pub results_by_transaction: Vec<AddPartitionsToTxnResult>,
    /// versions 0-3
    pub results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>,
}

impl Wire for AddPartitionsToTxnResponse {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.throttle_time_ms = r.i32()?;
        if version >= 4 {
            m.error_code = r.i16()?;
            m.results_by_transaction = r.array(flex, AddPartitionsToTxnResult::MIN_SIZE, |r| {
                AddPartitionsToTxnResult::decode(r, version)
            })?;
        }
        if version <= 3 {
            m.results_by_topic_v3_and_below =
                r.array(flex, AddPartitionsToTxnTopicResult::MIN_SIZE, |r| {
                    AddPartitionsToTxnTopicResult::decode(r, version)
                })?;
        }
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.i32(self.throttle_time_ms);
        if version >= 4 {
            w.i16(self.error_code);
            w.array(flex, &self.results_by_transaction, |w, x| x.encode(w, version));
        }
        if version <= 3 {
            w.array(flex, &self.results_by_topic_v3_and_below, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

impl Message for AddPartitionsToTxnResponse {
    const NAME: &'static str = "AddPartitionsToTxnResponse";
    const KEY: i16 = 24;
    const VERSIONS: (i16, i16) = (0, 5);
    const FLEXIBLE_FROM: i16 = 3;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AddPartitionsToTxnPartitionResult {
    pub partition_index: i32,
    pub partition_error_code: i16,
}

impl Wire for AddPartitionsToTxnPartitionResult {
    const MIN_SIZE: usize = 6;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.partition_index = r.i32()?;
        m.partition_error_code = r.i16()?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.i32(self.partition_index);
        w.i16(self.partition_error_code);
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AddPartitionsToTxnResult {
    /// versions 4+
    pub transactional_id: String,
    /// versions 4+
    pub topic_results: Vec<AddPartitionsToTxnTopicResult>,
}

impl Wire for AddPartitionsToTxnResult {
    const MIN_SIZE: usize = 1;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        if version >= 4 {
            m.transactional_id = r.string(flex)?;
            m.topic_results = r.array(flex, AddPartitionsToTxnTopicResult::MIN_SIZE, |r| {
                AddPartitionsToTxnTopicResult::decode(r, version)
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
            w.array(flex, &self.topic_results, |w, x| x.encode(w, version));
        }
        if flex {
            w.no_tags();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct AddPartitionsToTxnTopicResult {
    pub name: String,
    pub results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
}

impl Wire for AddPartitionsToTxnTopicResult {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 3;
        let mut m = Self::default();
        m.name = r.string(flex)?;
        m.results_by_partition = r.array(flex, AddPartitionsToTxnPartitionResult::MIN_SIZE, |r| {
            AddPartitionsToTxnPartitionResult::decode(r, version)
        })?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 3;
        w.string(flex, &self.name);
        w.array(flex, &self.results_by_partition, |w, x| x.encode(w, version));
        if flex {
            w.no_tags();
        }
    }
}
