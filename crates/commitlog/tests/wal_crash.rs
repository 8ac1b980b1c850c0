//! The write-ahead log on a disk that loses power at any write, and one that damages what was durable: the first is
//! recovered and never taken for the second, the second is never cut off as a torn end.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::disk::{Disk, RealDisk};
use base::random::Random;
use commitlog::wal::{WalFrame, WalMeta};
use commitlog::{Error, Found, Frame, Log, LogOptions, Offset, OpenFrom, Recovery};
use testkit::sim::{SimDisk, SimFault};

const DIR: &str = "/wal";
const SEEDS: u64 = 1000;
const ROUNDS: u64 = 4;

fn open(
    disk: std::sync::Arc<dyn Disk>,
    dir: &Path,
    start: Offset,
) -> commitlog::Result<(Log<WalFrame>, Recovery)> {
    let options = LogOptions { segment_bytes: 4096, zero_fill_bytes: 1024, ..LogOptions::default() };
    let mut last = Offset(-1);
    Log::open(disk, dir, options, OpenFrom::RecoveryPoint(start), start, &mut |frame, _| {
        assert!(frame.first > last, "{} comes after {last}", frame.first);
        last = frame.last;
    })
}

/// Appends frames in one write.
fn append(log: &Log<WalFrame>, payloads: &[Vec<u8>]) -> commitlog::Result<()> {
    let (mut bytes, first) = (Vec::new(), log.end());
    for (index, payload) in (first.get()..).zip(payloads) {
        WalFrame::encode(&mut bytes, &WalMeta { kind: 1, term: 1, node: 1, index: Offset(index) }, payload);
    }
    let last = Offset(first.get() + payloads.len() as i64 - 1);
    log.append(&bytes, &Frame { len: bytes.len(), first, last, max_timestamp_ms: -1 }, false).map(drop)
}

/// What the test knows of the log.
struct Known {
    /// The payload last written under each index.
    written: BTreeMap<i64, Vec<u8>>,
    /// Entries below are durable.
    durable: Offset,
    /// As whoever uses the log wrote it down.
    start: Offset,
}

/// Does something random; what fails, fails because the power went.
fn act(log: &Log<WalFrame>, known: &mut Known, random: &mut Random) -> Option<()> {
    match random.below(20) {
        0..=8 => {
            let count = 1 + random.below(5) as usize;
            let lens: Vec<_> = (0..count).map(|_| 1 + random.below(900) as usize).collect();
            let payloads: Vec<_> =
                lens.into_iter().map(|len| random.text(b"abcdef", len).into_bytes()).collect();
            // Also where the append fails: some of it may be there.
            known.written.extend((log.end().get()..).zip(payloads.clone()));
            append(log, &payloads).ok()?;
        }
        9..=14 => known.durable = log.flush().ok()?,
        15 => drop(log.roll().ok()?),
        16 | 17 => {
            let span = (log.end().get() - log.start().get()).unsigned_abs();
            let to = Offset(log.start().get() + random.below(span + 1).cast_signed());
            known.durable = known.durable.min(to);
            log.truncate_suffix(to).ok()?;
            known.written.retain(|index, _| *index < to.get());
        }
        18 => {
            let span = (known.durable.get() - log.start().get()).unsigned_abs();
            known.start = Offset(log.start().get() + random.below(span + 1).cast_signed());
            log.remove_prefix(known.start, "").ok()?;
        }
        _ => {
            known.start = Offset(log.end().get() + random.below(9).cast_signed());
            (known.durable, known.written) = (known.start, BTreeMap::new());
            log.reset(known.start).ok()?;
        }
    }
    Some(())
}

fn check(log: &Log<WalFrame>, known: &mut Known, what: &str) {
    assert!(log.end() >= known.durable, "{what}: ends at {} before {}", log.end(), known.durable);
    known.written.retain(|index, _| *index < log.end().get());
    for index in known.start.max(log.start()).get()..log.end().get() {
        let chunk = log.read(Offset(index), Offset(index + 1), 1, true).unwrap();
        let (meta, payload) = WalFrame::decode(&chunk.bytes).unwrap_or_else(|| panic!("{what}: no {index}"));
        assert_eq!((meta.index, &payload[..]), (Offset(index), &known.written[&index][..]), "{what}");
    }
}

#[test]
fn a_power_cut_is_never_taken_for_damage_and_loses_nothing_durable() {
    let mut entries = 0;
    for seed in 0..SEEDS {
        let mut random = Random::from_seed(seed);
        let mut disk = SimDisk::new();
        let mut known = Known { written: BTreeMap::new(), durable: Offset(1), start: Offset(1) };
        for round in 0..ROUNDS {
            let what = format!("seed {seed}, round {round}");
            let (log, _) =
                open(disk.shared(), Path::new(DIR), known.start).unwrap_or_else(|e| panic!("{what}: {e}"));
            check(&log, &mut known, &what);
            known.durable = log.flush().unwrap();
            disk.set_fault(SimFault::PowerOffAfter(random.below(150)));
            while act(&log, &mut known, &mut random).is_some() {}
            entries += log.end().get();
            disk = disk.crash(&mut random);
        }
    }
    assert!(entries > 10_000, "{entries}");
}

/// Forty entries in some segments, all durable, and the segments' paths.
fn filled(dir: &Path) -> Vec<PathBuf> {
    let (log, _) = open(RealDisk::shared(), dir, Offset(1)).unwrap();
    for n in 0..40_u8 {
        append(&log, &[vec![n; 300]]).unwrap();
        log.flush().unwrap();
    }
    let names = log.segments().into_iter().map(|(base, _)| dir.join(format!("{:020}.wal", base.get())));
    names.collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Every file and its content.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = RealDisk.list(dir).unwrap();
    names.into_iter().map(|name| (name.clone(), std::fs::read(dir.join(&name)).unwrap())).collect()
}

#[test]
fn damage_below_what_was_durable_is_told_and_changes_nothing() {
    const FRAME: u64 = 336;
    /// How the disk errs; what is told: the segment, the byte, the entry.
    type Case = (&'static str, fn(&[PathBuf]), usize, u64, i64);
    let cases: [Case; 6] = [
        ("a payload in an older segment", |s| flip(&s[0], 336 * 3 + 100), 0, FRAME * 3, 4),
        ("a length in an older segment", |s| flip(&s[0], 336 * 2), 0, FRAME * 2, 3),
        ("a payload in the last segment", |s| flip(&s[3], 336 + 50), 3, FRAME, 38),
        ("zeros in the last segment", |s| std::fs::write(&s[3], [0; 4000]).unwrap(), 3, 0, 37),
        ("an end that was cut", |s| std::fs::write(&s[1], []).unwrap(), 1, 0, 13),
        ("a segment that is gone", |s| std::fs::remove_file(&s[3]).unwrap(), 2, FRAME * 12, 37),
    ];
    for (what, damage, segment, at, entry) in cases {
        let dir = tempfile::tempdir().unwrap();
        let segments = filled(dir.path());
        assert_eq!(segments.len(), 4);
        damage(&segments);
        let before = contents(dir.path());
        match open(RealDisk::shared(), dir.path(), Offset(1)).unwrap_err() {
            Error::Damaged { path, position, first, durable } => assert_eq!(
                (path, position, first, durable),
                (segments[segment].clone(), at, Offset(entry), Offset(41)),
                "{what}"
            ),
            other => panic!("{what}: {other}"),
        }
        assert!(contents(dir.path()) == before, "{what}: the files are as they were");
        // The way out, for whoever accepts the loss.
        std::fs::remove_file(dir.path().join("DURABLE")).unwrap();
        assert_eq!(open(RealDisk::shared(), dir.path(), Offset(1)).unwrap().0.end(), Offset(entry), "{what}");
    }
}

#[test]
fn a_torn_end_is_cut_also_with_whole_frames_behind_the_hole() {
    let dir = tempfile::tempdir().unwrap();
    let segments = filled(dir.path());
    let (log, _) = open(RealDisk::shared(), dir.path(), Offset(1)).unwrap();
    let at = log.active().bytes as usize;
    // One write of three frames, not synced; the power cut kept the last two.
    append(&log, &[vec![1; 300], vec![2; 300], vec![3; 300]]).unwrap();
    drop(log);
    flip(segments.last().unwrap(), at + 10);
    let (log, recovery) = open(RealDisk::shared(), dir.path(), Offset(1)).unwrap();
    assert_eq!(log.end(), Offset(41));
    assert!(recovery.cut_bytes >= 3 * 336);
}

fn names(dir: &Path) -> Vec<String> {
    RealDisk.list(dir).unwrap().into_iter().map(|name| name.trim_start_matches('0').to_owned()).collect()
}

#[test]
fn files_are_written_again_unless_somebody_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (log, _) = open(RealDisk::shared(), dir.path(), Offset(1)).unwrap();
    log.flush().unwrap();
    // Two of three that go are kept, and taken by the next segments.
    log.remove_prefix(Offset(37), "").unwrap();
    assert_eq!(names(dir.path()), ["1.spare", "13.spare", "37.wal", "DURABLE"]);
    let next = |payload: u8| {
        log.roll().unwrap();
        append(&log, &[vec![payload; 700]]).unwrap();
        log.flush().unwrap();
    };
    next(1);
    next(2);
    next(3);
    assert_eq!(names(dir.path()), ["37.wal", "41.wal", "42.wal", "43.wal", "DURABLE"]);
    // Old frames behind the new one are not taken for its successors, by whoever opens the log now or after its next frames.
    let fresh = tempfile::tempdir().unwrap();
    for name in RealDisk.list(dir.path()).unwrap() {
        std::fs::copy(dir.path().join(&name), fresh.path().join(&name)).unwrap();
    }
    let (copy, recovery) = open(RealDisk::shared(), fresh.path(), Offset(37)).unwrap();
    assert_eq!((copy.end(), recovery.cut_bytes), (Offset(44), 0));

    let Found::Slice(slice) = log.find(Offset(37), Offset(41), 4000, true, 100).unwrap() else { panic!() };
    log.remove_prefix(Offset(43), "").unwrap();
    assert_eq!(
        names(dir.path()),
        ["43.wal", "DURABLE"],
        "what is read is removed, with all that goes with it"
    );
    next(4);
    let mut bytes = vec![0; slice.len()];
    slice.read_exact(&mut bytes, 0).unwrap();
    let (meta, payload) = WalFrame::decode(&bytes[..336]).unwrap();
    assert_eq!((meta.index, &payload[..]), (Offset(37), &[36; 300][..]));
    drop(slice);
    log.remove_prefix(Offset(44), "").unwrap();
    assert_eq!(names(dir.path()), ["43.spare", "44.wal", "DURABLE"]);
    // A log that begins anew has no use for them; what a crash leaves goes at the next opening.
    log.reset(Offset(10)).unwrap();
    assert_eq!(names(dir.path()), ["10.wal", "DURABLE"]);
    std::fs::write(dir.path().join("00000000000000000003.spare"), [1; 100]).unwrap();
    drop(open(RealDisk::shared(), dir.path(), Offset(10)).unwrap());
    assert_eq!(names(dir.path()), ["10.wal", "DURABLE"]);
}

#[test]
fn a_file_that_is_written_again_does_not_get_its_old_name_back() {
    for seed in 0..50 {
        let disk = SimDisk::new();
        let (log, _) = open(disk.shared(), Path::new(DIR), Offset(1)).unwrap();
        for n in 0..40_u8 {
            append(&log, &[vec![n; 300]]).unwrap();
        }
        log.flush().unwrap();
        log.remove_prefix(Offset(13), "").unwrap();
        log.roll().unwrap();
        append(&log, &[vec![41; 300], vec![42; 300]]).unwrap();
        // Whoever opens it does not know that its front went.
        let disk = disk.crash(&mut Random::from_seed(seed));
        let (log, _) = open(disk.shared(), Path::new(DIR), Offset(1)).unwrap();
        assert!(log.end() >= Offset(41));
    }
}

#[test]
fn entries_below_the_start_are_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let segments = filled(dir.path());
    flip(&segments[0], 40);
    // The state has all of the first two segments.
    assert_eq!(open(RealDisk::shared(), dir.path(), Offset(25)).unwrap().0.end(), Offset(41));
    flip(&segments[3], 40);
    assert_eq!(open(RealDisk::shared(), dir.path(), Offset(41)).unwrap().0.end(), Offset(41));
    // A mark that is not whole says nothing.
    let other = tempfile::tempdir().unwrap();
    let segments = filled(other.path());
    flip(&segments[3], 40);
    flip(&other.path().join("DURABLE"), 3);
    assert_eq!(open(RealDisk::shared(), other.path(), Offset(1)).unwrap().0.end(), Offset(37));
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_on_the_disk_after_the_next_opening() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        let (log, _) = open(disk.shared(), Path::new(DIR), Offset(1)).unwrap();
        append(&log, &[vec![1; 300], vec![1; 300]]).unwrap();
        log.flush().unwrap();
        // The rest lies in this segment and in the next.
        append(&log, &[vec![2; 1500]]).unwrap();
        append(&log, &[vec![3; 3000]]).unwrap();
        assert_eq!(log.segments().len(), 2);
        disk.set_fault(SimFault::SyncFails);
        assert!(log.flush().is_err());
        // The process ends, the machine goes on: what was written is read, and the kernel takes it for written.
        let disk = disk.survive();
        let (log, _) = open(disk.shared(), Path::new(DIR), Offset(1)).unwrap();
        assert_eq!(log.flush().unwrap(), Offset(5));
        let disk = disk.crash(&mut Random::from_seed(seed));
        let (log, _) = open(disk.shared(), Path::new(DIR), Offset(1)).unwrap();
        assert_eq!(log.end(), Offset(5), "what was durable is lost");
    }
}
