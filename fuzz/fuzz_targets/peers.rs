//! What members of a store say to each other: requests, and the states they send.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| store::raft::fuzz_peer_bytes(bytes));
