//! What tests stand on: a store in memory, a contract suite for stores, simulated time and storage, a recorder and
//! checker of histories, and hosts of a test's own (network and mount namespaces without an uplink).

pub mod etcd;
pub mod history;
pub mod host;
mod mem_store;
pub mod sim;
pub mod store_contract;

pub use host::{Host, Namespace, can_isolate};
pub use mem_store::MemStore;
