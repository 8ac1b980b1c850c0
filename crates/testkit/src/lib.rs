//! What tests stand on: a store in memory, a contract suite for stores, simulated time and storage.

mod mem_store;
pub mod store_contract;

pub use mem_store::MemStore;
