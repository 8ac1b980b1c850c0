//! Kafka's own files: batches, checkpoints, producer snapshots, leader epochs, metadata.

mod batch;

pub use batch::{BatchHeader, KafkaBatch};
