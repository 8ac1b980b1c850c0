//! Simulated time and storage.

mod clock;
mod digest;
mod disk;

pub use clock::SimClock;
pub use digest::Digest;
pub use disk::{SimDisk, SimFault};
