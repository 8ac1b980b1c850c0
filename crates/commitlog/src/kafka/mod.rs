//! Kafka's own files: batches, checkpoints, producer snapshots, leader epochs, metadata, and the partition that ties them.
//!
//! ```text
//! <log.dir>/meta.properties  .lock  .kafka_cleanshutdown
//!          /recovery-point-offset-checkpoint  log-start-offset-checkpoint  replication-offset-checkpoint
//!          /<topic>-<partition>/<20 digits>.{log,index,timeindex,txnindex,snapshot}  leader-epoch-checkpoint  partition.metadata
//! ```

mod aborted;
mod batch;
pub mod checkpoints;
mod cleaner;
pub mod directory;
pub mod inspect;
mod leader_epochs;
pub mod metadata_log;
mod partition;
pub mod producers;
mod verification;

pub use aborted::AbortedTxn;
pub use batch::{BATCH_HEADER_BYTES, BatchHeader, EndTxnMarker, KafkaBatch};
pub use cleaner::{CleanPolicy, Cleanable, Cleaned};
pub use leader_epochs::{EpochEnd, EpochEntry, LeaderEpochs};
pub use partition::{AppendError, AppendInfo, PartitionLog, PartitionOptions, Retention, headers};
pub use producers::{ActiveProducer, LastBatch, ProducerError, Producers};
pub use verification::{Guard, Origin, Verified};
