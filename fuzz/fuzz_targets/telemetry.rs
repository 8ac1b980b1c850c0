//! The metrics that a client pushes (OTLP): arbitrary bytes are refused or give a bounded number of points.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// What the broker takes of one push.
const POINTS_MAX: usize = 20_000;

fuzz_target!(|data: &[u8]| {
    let points = broker::fuzzing::telemetry(data).unwrap_or_default();
    assert!(points <= POINTS_MAX && points <= data.len());
});
