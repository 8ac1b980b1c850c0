//! The API server over a store in memory, spoken to through its in-process door.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod access;
mod coverage;
mod lifecycle;
mod node;
mod reading;
mod wire;
mod world;
