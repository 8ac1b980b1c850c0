//! A partition's directory made of arbitrary bytes is inspected and opened: recovery believes no log, index, snapshot or
//! checkpoint that it has not checked.
//!
//! The input is a byte of how to open, then files: which, length (two bytes), content. Checksums of batches and of
//! snapshots are made right where a bit of `which` asks for it, so that what lies behind them is reached.
//!
//! Cannot produce: segments of more than 64 KiB.
#![no_main]

use std::fs;
use std::path::Path;

use base::checksum::crc32c;
use base::disk::RealDisk;
use commitlog::kafka::inspect::{Options, inspect};
use commitlog::kafka::{BATCH_HEADER_BYTES, BatchHeader, KafkaBatch, PartitionLog, PartitionOptions};
use commitlog::{Offset, OpenFrom};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 12] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000000.snapshot",
    "00000000000000000010.log",
    "00000000000000000010.index",
    "00000000000000000010.timeindex",
    "00000000000000000010.txnindex",
    "00000000000000000010.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
];
/// The bit of a file's first byte that asks for right checksums.
const REPAIR: u8 = 0x80;
const OPTIONS: PartitionOptions = PartitionOptions {
    segment_bytes: 1 << 20,
    segment_ms: i64::MAX,
    segment_jitter_ms: 0,
    index_bytes_max: 1 << 20,
    index_interval_bytes: 4096,
    preallocate: false,
    producer_expiration_ms: 86_400_000,
};

fn repair(name: &str, content: &mut [u8]) {
    if name.ends_with(".snapshot") && content.len() > 6 {
        let crc = crc32c(&content[6..]);
        content[2..6].copy_from_slice(&crc.to_be_bytes());
    }
    let mut rest = content;
    while name.ends_with(".log") && rest.len() >= BATCH_HEADER_BYTES {
        rest[16] = 2;
        let Some(header) = BatchHeader::parse(rest).filter(|header| header.len <= rest.len()) else { return };
        let (batch, after) = rest.split_at_mut(header.len);
        KafkaBatch::set_max_timestamp(batch, header.max_timestamp_ms);
        rest = after;
    }
}

fn lay_out(dir: &Path, mut data: &[u8]) {
    while let [which, a, b, rest @ ..] = data {
        let len = usize::from(u16::from_be_bytes([*a, *b])).min(rest.len());
        let (content, after) = rest.split_at(len);
        let name = NAMES[usize::from(which & !REPAIR) % NAMES.len()];
        let mut content = content.to_vec();
        if which & REPAIR != 0 {
            repair(name, &mut content);
        }
        fs::write(dir.join(name), content).expect("the temporary directory takes files");
        data = after;
    }
}

fuzz_target!(|data: &[u8]| {
    let [how, files @ ..] = data else { return };
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = root.path().join("t-0");
    fs::create_dir(&dir).expect("a new directory");
    lay_out(&dir, files);
    let options = Options { records: true, entries: true, compacted: how & 4 != 0 };
    inspect(&dir, options, &mut |_| Ok(())).ok();
    let from = match how & 3 {
        0 => OpenFrom::Clean,
        1 => OpenFrom::Compacted(Offset(5)),
        _ => OpenFrom::RecoveryPoint(Offset(i64::from(how >> 3))),
    };
    let opened = PartitionLog::open(RealDisk::shared(), &dir, OPTIONS, from, Offset(0));
    let Ok((partition, _)) = opened else { return };
    let (start, end) = (partition.log().start(), partition.log().end());
    assert!(start <= end);
    let _ = partition.log().read(start, end, 1 << 20, true);
    let _ = partition.aborted_transactions(start, end);
    let _ = partition.read_from_time(1000, end);
    let _ = partition.close();
});
