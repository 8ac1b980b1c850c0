//! Simulated time and storage.

mod clock;
mod disk;

pub use clock::SimClock;
pub use disk::{SimDisk, SimFault};
