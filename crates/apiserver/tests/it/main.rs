//! The API server over a store in memory, spoken to through its in-process door.

mod access;
mod coverage;
mod lifecycle;
mod reading;
mod world;
