//! A directory that says it is the metadata log of Apache Kafka: its files are read, and what their records say is taken
//! or refused.
//!
//! The input is files: which, length (two bytes), content. Checksums of batches are made right where a bit of `which` asks
//! for it; with another bit the content is no file but the value of one record.
//!
//! Cannot produce: files of more than 64 KiB.
#![no_main]

use std::fs;

use base::checksum::crc32c;
use base::disk::RealDisk;
use bytes::Bytes;
use commitlog::kafka::{BATCH_HEADER_BYTES, BatchHeader, metadata_log};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 4] = [
    "00000000000000000000.log",
    "00000000000000000010.log",
    "00000000000000000000-0000000000.checkpoint",
    "00000000000000000010-0000000001.checkpoint",
];
const REPAIR: u8 = 0x80;
const VALUE: u8 = 0x40;

/// Makes the checksums of whole batches right.
fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + BATCH_HEADER_BYTES).and_then(BatchHeader::parse) {
        let Some(batch) = bytes.get_mut(at..at + header.len) else { return };
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        at += header.len;
    }
}

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rest, mut values) = (data, Vec::new());
    while let [which, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (content, after) = after.split_at(length);
        rest = after;
        if which & VALUE != 0 {
            values.push(Bytes::copy_from_slice(content));
            continue;
        }
        let mut content = content.to_vec();
        if which & REPAIR != 0 {
            repair(&mut content);
        }
        fs::write(dir.path().join(NAMES[usize::from(*which) % NAMES.len()]), content).expect("written");
    }
    let read = metadata_log::read(&RealDisk, dir.path(), &mut |value| {
        values.push(value.clone());
        Ok(())
    });
    let _ = (read, broker::fuzzing::metadata(&values));
});
