//! Record batches: arbitrary ones, and ones whose header and checksum are made right so that the body is reached.
//!
//! Cannot produce: bodies that decompress to more than the bound by honest means.
#![no_main]

use kafka_wire::record::{self, Batch, HEADER_SIZE, LOG_OVERHEAD, Rules};
use libfuzzer_sys::fuzz_target;

/// What a body may grow to here.
const LIMIT_BYTES: usize = 1 << 20;

fn walk(bytes: &[u8]) {
    for batch in record::batches(bytes) {
        let Ok(batch) = batch else { return };
        let rules = Rules { decompressed_max_bytes: LIMIT_BYTES, ..Rules::default() };
        let _ = batch.validate(&rules, 0);
        let Ok(reader) = batch.records(LIMIT_BYTES) else { continue };
        let _ = reader.for_each(|record| {
            record.headers.count();
        });
    }
}

fuzz_target!(|data: &[u8]| {
    walk(data);
    if data.len() < HEADER_SIZE {
        return;
    }
    let mut right = data.to_vec();
    let length = (data.len() - LOG_OVERHEAD) as i32;
    right[8..12].copy_from_slice(&length.to_be_bytes());
    right[16] = 2;
    // Renews the checksum; the timestamp that it sets is none of the reader's concern.
    record::patch_max_timestamp(&mut right, 0);
    assert!(Batch::single(&right).is_ok_and(|batch| batch.verify().is_ok()));
    walk(&right);
});
