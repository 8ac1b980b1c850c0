//! API machinery without I/O.

pub mod print;
