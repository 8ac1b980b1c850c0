//! The ground floor: what every crate may use and what knows no domain word.
//!
//! - [`id_type!`] makes typed numbers, so that an offset can never be passed as a log index;
//! - [`clock`], [`random`] and [`disk`] are the seams through which time, chance and storage enter;
//!   production passes the system's, the simulation passes its own;
//! - [`checksum`] is CRC-32C;
//! - [`task`] (feature `tasks`) gives every task a kind with a law for its errors.

pub mod checksum;
pub mod clock;
pub mod disk;
mod ids;
pub mod random;
#[cfg(feature = "tasks")]
pub mod task;
