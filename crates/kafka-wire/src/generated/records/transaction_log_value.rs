// Made by `cargo xtask codegen kafka`; not to be edited.

//! `TransactionLogValue`, versions 0-1.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct TransactionLogValue {
    pub producer_id: i64,
    /// versions 1+, tag 0, default -1
    pub previous_producer_id: i64,
    /// versions 1+, tag 1, default -1
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    /// versions 1+, tag 3, default -1
    pub next_producer_epoch: i16,
    pub transaction_timeout_ms: i32,
    pub transaction_status: i8,
    pub transaction_partitions: Option<Vec<PartitionsSchema>>,
    pub transaction_last_update_timestamp_ms: i64,
    pub transaction_start_timestamp_ms: i64,
    /// versions 1+, tag 2, default 0
    pub client_transaction_version: i16,
}

impl Default for TransactionLogValue {
    fn default() -> Self {
        Self {
            producer_id: 0,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 0,
            next_producer_epoch: -1,
            transaction_timeout_ms: 0,
            transaction_status: 0,
            transaction_partitions: Some(Vec::new()),
            transaction_last_update_timestamp_ms: 0,
            transaction_start_timestamp_ms: 0,
            client_transaction_version: 0,
        }
    }
}

impl Wire for TransactionLogValue {
    const MIN_SIZE: usize = 33;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.producer_id = r.i64()?;
        m.producer_epoch = r.i16()?;
        m.transaction_timeout_ms = r.i32()?;
        m.transaction_status = r.i8()?;
        m.transaction_partitions =
            r.nullable_array(flex, PartitionsSchema::MIN_SIZE, |r| PartitionsSchema::decode(r, version))?;
        m.transaction_last_update_timestamp_ms = r.i64()?;
        m.transaction_start_timestamp_ms = r.i64()?;
        if flex {
            r.tags(|tag, r| {
                match tag {
                    0 if version >= 1 => m.previous_producer_id = r.i64()?,
                    1 if version >= 1 => m.next_producer_id = r.i64()?,
                    2 if version >= 1 => m.client_transaction_version = r.i16()?,
                    3 if version >= 1 => m.next_producer_epoch = r.i16()?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        w.i32(self.transaction_timeout_ms);
        w.i8(self.transaction_status);
        w.nullable_array(flex, self.transaction_partitions.as_deref(), |w, x| x.encode(w, version));
        w.i64(self.transaction_last_update_timestamp_ms);
        w.i64(self.transaction_start_timestamp_ms);
        if flex {
            w.tags(|t| {
                if version >= 1 && self.previous_producer_id != -1 {
                    t.field(0, |w| w.i64(self.previous_producer_id));
                }
                if version >= 1 && self.next_producer_id != -1 {
                    t.field(1, |w| w.i64(self.next_producer_id));
                }
                if version >= 1 && self.client_transaction_version != 0 {
                    t.field(2, |w| w.i16(self.client_transaction_version));
                }
                if version >= 1 && self.next_producer_epoch != -1 {
                    t.field(3, |w| w.i16(self.next_producer_epoch));
                }
            });
        }
    }
}

impl Message for TransactionLogValue {
    const NAME: &'static str = "TransactionLogValue";
    const KEY: i16 = 0;
    const VERSIONS: (i16, i16) = (0, 1);
    const FLEXIBLE_FROM: i16 = 1;
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct PartitionsSchema {
    pub topic: String,
    pub partition_ids: Vec<i32>,
}

impl Wire for PartitionsSchema {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flex = version >= 1;
        let mut m = Self::default();
        m.topic = r.string(flex)?;
        m.partition_ids = r.array(flex, 4, |r| r.i32())?;
        if flex {
            r.skip_tags()?;
        }
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        let flex = version >= 1;
        w.string(flex, &self.topic);
        w.array(flex, &self.partition_ids, |w, x| w.i32(*x));
        if flex {
            w.no_tags();
        }
    }
}
