//! How long many partitions take to open, and what they hold: `open DIR PARTITIONS MEGABYTES`.
//!
//! Fills the partitions in DIR (which must not exist), closes them, and opens them after a clean stop and after a crash.

use std::path::Path;
use std::time::Instant;

use base::disk::RealDisk;
use commitlog::kafka::{PartitionLog, PartitionOptions};
use commitlog::{Error, Offset, OpenFrom};
use kafka_wire::record::Builder;

const OPTIONS: PartitionOptions = PartitionOptions {
    segment_bytes: 1 << 30,
    segment_ms: i64::MAX,
    segment_jitter_ms: 0,
    index_bytes_max: 10 << 20,
    index_interval_bytes: 4096,
    preallocate: false,
    producer_expiration_ms: i64::MAX,
};
/// Bytes of a batch.
const BATCH_BYTES: usize = 16 * 1024;

fn open(dir: &Path, count: usize, from: impl Fn(usize) -> OpenFrom) -> Result<Vec<PartitionLog>, Error> {
    let one = |n: usize| {
        let dir = dir.join(format!("bench-{n}"));
        Ok(PartitionLog::open(RealDisk::shared(), &dir, OPTIONS, from(n), Offset(0))?.0)
    };
    (0..count).map(one).collect()
}

/// Resident memory in KiB and open files of this process.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    (resident.unwrap_or(0), std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count))
}

fn report(what: &str, begun: Instant, before: (u64, usize), count: usize) {
    let (resident, files) = held();
    let each = resident.saturating_sub(before.0) as f64 / count as f64;
    println!(
        "{what}: {:.1} ms, {each:.1} KiB a partition, {files} files",
        begun.elapsed().as_secs_f64() * 1000.0
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("DIR")?;
    let count: usize = args.next().ok_or("PARTITIONS")?.parse()?;
    let megabytes: usize = args.next().ok_or("MEGABYTES")?.parse()?;
    let dir = Path::new(&dir);
    let mut batch = Builder::new();
    batch.append(1, Some(b"key"), Some(&vec![7; BATCH_BYTES]));
    let mut batch = batch.build()?.to_vec();
    let batches = megabytes * 1024 * 1024 / BATCH_BYTES / count;

    let (begun, before) = (Instant::now(), held());
    let partitions = open(dir, count, |_| OpenFrom::Clean)?;
    report("made", begun, before, count);
    for partition in &partitions {
        for _ in 0..batches {
            partition.append(&mut batch, 0, 1)?;
        }
        partition.checkpoint()?;
        partition.append(&mut batch, 0, 1)?;
    }
    let points: Vec<Offset> = partitions.iter().map(PartitionLog::recovery_point).collect();
    drop(partitions);
    let (begun, before) = (Instant::now(), held());
    let partitions = open(dir, count, |n| OpenFrom::RecoveryPoint(points[n]))?;
    report("opened after a crash", begun, before, count);
    let begun = Instant::now();
    for partition in &partitions {
        partition.close()?;
    }
    report("closed", begun, before, count);
    drop(partitions);
    let (begun, before) = (Instant::now(), held());
    let partitions = open(dir, count, |_| OpenFrom::Clean)?;
    report("opened after a clean stop", begun, before, count);
    drop(partitions);
    Ok(())
}
