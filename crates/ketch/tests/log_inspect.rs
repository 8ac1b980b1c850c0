//! `ketch log inspect` on a directory that the log itself wrote: what it prints, and its exit code when bytes change.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base::disk::RealDisk;
use commitlog::kafka::{PartitionLog, PartitionOptions};
use commitlog::{Offset, OpenFrom};
use kafka_wire::record::{Builder, Compression, Producer};

fn inspect(args: &[&str], path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ketch"));
    command.args(["log", "inspect"]).args(args).arg(path).output().expect("ketch runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A partition with one batch of two records.
fn write(dir: &Path) {
    let options = PartitionOptions {
        segment_bytes: 1 << 20,
        segment_ms: i64::MAX,
        segment_jitter_ms: 0,
        index_bytes_max: 1 << 20,
        index_interval_bytes: 4096,
        preallocate: false,
        producer_expiration_ms: 86_400_000,
    };
    let opened = PartitionLog::open(RealDisk::shared(), dir, options, OpenFrom::Clean, Offset(0));
    let (partition, _) = opened.expect("opens");
    let producer = Producer { id: 7, epoch: 0, base_sequence: 0 };
    let mut batch = Builder::new().compression(Compression::Lz4).producer(producer);
    batch.append(1000, Some(b"k"), Some(b"one")).append(1001, None, Some(b"\xfftwo"));
    partition.append(&mut batch.build().expect("builds").to_vec(), 0, 0).expect("appended");
    partition.close().expect("closed");
}

#[test]
fn a_partition_is_printed_and_damage_is_told_by_the_exit_code() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("orders-0");
    write(&dir);
    let whole = inspect(&["--records"], root.path());
    let said = text(&whole.stdout);
    assert!(whole.status.success(), "{said}{}", text(&whole.stderr));
    for line in [
        "orders partition 0: ",
        "  batch    0..=1 at 0, ",
        " 2 records, lz4, epoch 0, time 1000..1001, producer 7 epoch 0 sequence 0..=1, crc ok",
        "    0 time 1000 key \"k\" value \"one\"\n    1 time 1001 key null value \"\\xfftwo\"\n",
        "  end      1 batches, next offset 2\n",
        "  producer 7 epoch 0, last sequence 1, ",
        "  epoch    0 from 0\n",
    ] {
        assert!(said.contains(line), "{line:?} in\n{said}");
    }

    let log = dir.join("00000000000000000000.log");
    let mut bytes = fs::read(&log).expect("the log");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&log, bytes).expect("written");
    let damaged = inspect(&["--output", "json"], &dir);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(text(&damaged.stderr).contains("is damaged in one place"), "{}", text(&damaged.stderr));
    let said = text(&damaged.stdout);
    let items: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let of = |kind: &str| items.iter().find(|item| item["type"] == kind).expect("told");
    assert_eq!((&of("batch")["crc_ok"], &of("batch")["codec"]), (&false.into(), &"lz4".into()));
    assert_eq!(of("damage")["position"], 0);
    assert_eq!(of("damage")["path"], log.display().to_string());

    let stranger = inspect(&[], &root.path().join("nothing"));
    assert_eq!(stranger.status.code(), Some(1));
    assert!(text(&stranger.stderr).contains("nothing"), "{}", text(&stranger.stderr));
}
