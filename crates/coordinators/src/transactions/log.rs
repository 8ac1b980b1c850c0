//! The records of `__transaction_state`.

use bytes::Bytes;
use kafka_wire::DecodeError;
use kafka_wire::internal::{decode_key, decode_value, encode_key, encode_value, key_type};
use kafka_wire::records::transaction_log_value::PartitionsSchema;
use kafka_wire::records::{TransactionLogKey, TransactionLogValue};

use super::VERSION_OLD;
use super::state::{NO_EPOCH, Partitions, State, Transaction};
use crate::desk::LogRecord;

/// The version of values that goes with transaction version 1 and later: with fields that older brokers do not know.
const VALUE_VERSION: i16 = 1;
/// The one that goes with transaction version 0.
const VALUE_VERSION_OLD: i16 = 0;

/// The key of an id's records.
fn key(id: &str) -> Bytes {
    encode_key(&TransactionLogKey { transactional_id: id.to_owned() }).expect("ids fit")
}

/// An id as it is from now on, for a cluster at this transaction version.
pub(super) fn record(id: &str, t: &Transaction, level: i16) -> LogRecord {
    let version = if level > VERSION_OLD { VALUE_VERSION } else { VALUE_VERSION_OLD };
    let partitions = t.partitions.iter().map(|(topic, partitions)| PartitionsSchema {
        topic: topic.clone(),
        partition_ids: partitions.iter().copied().collect(),
    });
    let value = TransactionLogValue {
        producer_id: t.producer_id,
        previous_producer_id: t.previous_producer_id,
        next_producer_id: t.next_producer_id,
        producer_epoch: t.epoch,
        next_producer_epoch: NO_EPOCH,
        transaction_timeout_ms: t.timeout_ms,
        transaction_status: t.state.number(),
        transaction_partitions: (t.state != State::Empty).then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: t.updated_ms,
        transaction_start_timestamp_ms: t.started_ms,
        client_transaction_version: t.version,
    };
    LogRecord { key: key(id), value: Some(encode_value(&value, version).expect("topics' names fit")) }
}

/// The end of an id.
pub(super) fn tombstone(id: &str) -> LogRecord {
    LogRecord { key: key(id), value: None }
}

/// Reads a record: the id, and what is known of it from there on. None for records of a kind that nobody knows.
pub(super) fn read(
    key: &Bytes,
    value: Option<&Bytes>,
) -> Result<Option<(String, Option<Transaction>)>, DecodeError> {
    if key_type(key)? != <TransactionLogKey as kafka_wire::Message>::KEY {
        return Ok(None);
    }
    let id = decode_key::<TransactionLogKey>(key)?.transactional_id;
    let Some(value) = value else { return Ok(Some((id, None))) };
    let v: TransactionLogValue = decode_value(value)?;
    let Some(state) = State::from_number(v.transaction_status) else { return Ok(None) };
    let mut partitions = Partitions::new();
    for of in v.transaction_partitions.into_iter().flatten().filter(|_| state != State::Empty) {
        partitions.entry(of.topic).or_default().extend(of.partition_ids);
    }
    let found = Transaction {
        producer_id: v.producer_id,
        previous_producer_id: v.previous_producer_id,
        next_producer_id: v.next_producer_id,
        epoch: v.producer_epoch,
        last_epoch: NO_EPOCH,
        timeout_ms: v.transaction_timeout_ms,
        state,
        partitions,
        started_ms: v.transaction_start_timestamp_ms,
        updated_ms: v.transaction_last_update_timestamp_ms,
        version: v.client_transaction_version,
    };
    Ok(Some((id, Some(found))))
}
