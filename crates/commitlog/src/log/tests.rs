use super::*;
use crate::Flusher;
use base::disk::RealDisk;
use base::random::Random;

/// `length u32 | CRC-32C u32 | first i64 | count u32 | bytes`; zeros end the log.
#[derive(Debug)]
struct Plain;

impl Framing for Plain {
    const EXTENSION: &'static str = "plain";
    const HEADER_BYTES: usize = 20;
    const INDEXED: bool = true;

    fn parse(header: &[u8]) -> Parsed {
        if header[..20].iter().all(|&b| b == 0) {
            return Parsed::End;
        }
        let len = u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
        let first = i64::from_be_bytes(header[8..16].try_into().unwrap());
        let count = i64::from(u32::from_be_bytes(header[16..20].try_into().unwrap()));
        if len < 20 || count == 0 {
            return Parsed::Torn;
        }
        Parsed::Frame(Frame {
            len,
            first: Offset(first),
            last: Offset(first + count - 1),
            max_timestamp_ms: first * 10,
        })
    }
    fn verify(frame: &[u8]) -> bool {
        frame[4..8] == base::checksum::crc32c(&frame[8..]).to_be_bytes()
    }
}

fn frame(first: i64, count: u32, body: usize) -> (Vec<u8>, Frame) {
    let mut bytes = vec![0u8; 20 + body];
    bytes[8..16].copy_from_slice(&first.to_be_bytes());
    bytes[16..20].copy_from_slice(&count.to_be_bytes());
    bytes[20..].fill(first as u8 | 1);
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    let crc = base::checksum::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    let Parsed::Frame(frame) = Plain::parse(&bytes) else { panic!("not a frame") };
    (bytes, frame)
}

fn options(zero_fill_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes: 10_000, zero_fill_bytes, ..LogOptions::default() }
}

fn open(dir: &Path, from: OpenFrom, zero: u64) -> (Log<Plain>, Recovery) {
    open_at(dir, from, zero, 0)
}

fn open_at(dir: &Path, from: OpenFrom, zero: u64, start: i64) -> (Log<Plain>, Recovery) {
    Log::open(RealDisk::shared(), dir, options(zero), from, Offset(start), &mut |_, _| {}).unwrap()
}

/// First offsets of all frames from `from` on.
fn offsets(log: &Log<Plain>, from: Offset, max_bytes: usize) -> Vec<i64> {
    let (mut found, mut at) = (Vec::new(), from);
    loop {
        let chunk = log.read(at, Offset(i64::MAX), max_bytes, true).unwrap();
        let Some(next) = chunk.next else { return found };
        let mut rest = &chunk.bytes[..];
        while !rest.is_empty() {
            let Parsed::Frame(frame) = Plain::parse(rest) else { panic!("not a frame") };
            assert!(Plain::verify(&rest[..frame.len]));
            found.push(frame.first.get());
            rest = &rest[frame.len..];
        }
        at = next;
    }
}

/// What is found unread are the frames that a read gives, and the head of the next one as far as it fits.
fn check_find(log: &Log<Plain>, random: &mut Random, from: Offset) {
    let upto = from.plus(random.below(60) as i64);
    let max_bytes = 1 + random.below(6000) as usize;
    let in_memory_max = random.below(2000) as usize;
    let chunk = log.read(from, upto, max_bytes, true).unwrap();
    let all = log.read(from, upto, usize::MAX / 2, true).unwrap();
    let whole = chunk.bytes.len();
    let expect = all.bytes.slice(..whole.max(max_bytes.min(all.bytes.len())));
    match log.find(from, upto, max_bytes, true, in_memory_max).unwrap() {
        Found::Frames(found) => {
            assert_eq!((found.bytes, found.next >= chunk.next), (expect, true));
        }
        Found::Slice(slice) => {
            assert!(slice.len() > in_memory_max && slice.len() <= max_bytes);
            let mut bytes = vec![0; slice.len()];
            let (head, tail) = bytes.split_at_mut(in_memory_max);
            slice.read_exact(head, 0).unwrap();
            slice.read_exact(tail, in_memory_max).unwrap();
            assert_eq!(bytes, expect);
            assert!(chunk.next.is_some_and(|next| slice.next() >= next));
        }
    }
}

/// A log does what a list of frames does, whatever is done to it in whatever order.
fn model(seed: u64, zero: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::from_seed(seed);
    let (mut log, _) = open(dir.path(), OpenFrom::Clean, zero);
    let mut model: Vec<(i64, i64)> = Vec::new();
    let (mut next, mut start) = (0i64, 0i64);
    for _ in 0..400 {
        match random.below(40) {
            0..=30 => {
                let count = 1 + random.below(5) as u32;
                let (bytes, span) = frame(next, count, random.below(900) as usize);
                log.append(&bytes, &span, random.below(50) == 0).unwrap();
                model.push((next, next + i64::from(count)));
                next += i64::from(count);
            }
            31 => {
                let to = start + random.below((next - start) as u64 + 1) as i64;
                log.truncate_suffix(Offset(to)).unwrap();
                model.retain(|&(_, end)| end <= to);
                next = log.end().get();
                assert!(next <= to.max(start) && next >= model.last().map_or(0, |m| m.1));
            }
            32 => {
                let to = start + random.below(((next - start) / 4) as u64 + 1) as i64;
                log.remove_prefix(Offset(to), "").unwrap();
                start = start.max(to);
            }
            33 => {
                log.flush().unwrap();
                assert_eq!(log.flushed().get(), next);
            }
            34 => {
                log.close().unwrap();
                log = open_at(dir.path(), OpenFrom::Clean, zero, start).0;
            }
            35 => {
                let point = log.flushed();
                log = open_at(dir.path(), OpenFrom::RecoveryPoint(point), zero, start).0;
            }
            _ => {
                let from = start + random.below((next - start) as u64 + 1) as i64;
                let expected: Vec<_> =
                    model.iter().filter(|&&(_, end)| end > from).map(|&(first, _)| first).collect();
                assert_eq!(offsets(&log, Offset(from), 1 + random.below(5000) as usize), expected);
                check_find(&log, &mut random, Offset(from));
            }
        }
        assert_eq!((log.end().get(), log.start().get()), (next, start), "seed {seed}");
    }
}

#[test]
fn a_log_is_a_list_of_frames() {
    for seed in 0..6 {
        model(seed, 0);
        model(seed, 4096);
    }
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tears() {
    let whole = tempfile::tempdir().unwrap();
    let (log, _) = open(whole.path(), OpenFrom::Clean, 0);
    let mut ends = vec![0usize];
    for n in 0..6 {
        let (bytes, span) = frame(n, 1, 37 * n as usize);
        log.append(&bytes, &span, false).unwrap();
        ends.push(ends.last().unwrap() + bytes.len());
    }
    let path = file_name(whole.path(), Offset(0), "plain");
    let content = std::fs::read(path).unwrap();
    for cut in 0..content.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file_name(dir.path(), Offset(0), "plain"), &content[..cut]).unwrap();
        let (log, recovery) = open(dir.path(), OpenFrom::RecoveryPoint(Offset(0)), 0);
        let kept = ends.iter().filter(|&&end| end <= cut).count() - 1;
        assert_eq!(log.end().get(), kept as i64, "cut at {cut}");
        assert_eq!(recovery.cut_bytes as usize, cut - ends[kept]);
        let (bytes, span) = frame(log.end().get(), 1, 5);
        log.append(&bytes, &span, false).unwrap();
        assert_eq!(offsets(&log, Offset(0), 1 << 20).len(), kept + 1);
    }
}

#[test]
fn a_flipped_bit_cuts_the_frame_and_all_that_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), OpenFrom::Clean, 0);
    for n in 0..40 {
        let (bytes, span) = frame(n, 1, 1000);
        log.append(&bytes, &span, false).unwrap();
    }
    assert_eq!(log.segments().len(), 5);
    log.close().unwrap();
    let path = file_name(dir.path(), Offset(18), "plain");
    let mut content = std::fs::read(&path).unwrap();
    content[1020 * 2 + 500] ^= 1;
    std::fs::write(&path, content).unwrap();
    let (log, recovery) = open(dir.path(), OpenFrom::RecoveryPoint(Offset(9)), 0);
    assert_eq!((log.end(), log.segments().len()), (Offset(20), 3));
    assert!(recovery.verified_bytes > 0 && recovery.cut_bytes >= 20 * 1020);
    assert_eq!(offsets(&log, Offset(0), 5000), (0..20).collect::<Vec<_>>());
}

#[test]
fn zero_fill_is_an_end_and_goes_when_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), OpenFrom::Clean, 4096);
    let (bytes, span) = frame(0, 1, 100);
    log.append(&bytes, &span, false).unwrap();
    let path = file_name(dir.path(), Offset(0), "plain");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096);
    let (log, recovery) = open(dir.path(), OpenFrom::RecoveryPoint(Offset(0)), 4096);
    assert_eq!((log.end(), recovery.cut_bytes), (Offset(1), 0));
    let (bytes, span) = frame(1, 1, 100);
    log.append(&bytes, &span, true).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 120);
}

#[test]
fn frames_behind_a_lost_one_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), OpenFrom::Clean, 4096);
    for n in 0..2 {
        let (bytes, span) = frame(n, 1, 100);
        log.append(&bytes, &span, false).unwrap();
    }
    // A power cut kept the second frame's page and lost the first's.
    let path = file_name(dir.path(), Offset(0), "plain");
    let mut content = std::fs::read(&path).unwrap();
    content[..120].fill(0);
    std::fs::write(&path, content).unwrap();
    let (log, _) = open(dir.path(), OpenFrom::RecoveryPoint(Offset(0)), 4096);
    assert_eq!(log.end(), Offset(0));
    let (bytes, span) = frame(0, 1, 100);
    log.append(&bytes, &span, false).unwrap();
    let (log, _) = open(dir.path(), OpenFrom::RecoveryPoint(Offset(0)), 4096);
    assert_eq!(log.end(), Offset(1));
}

#[test]
fn timestamps_are_found_in_every_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), OpenFrom::Clean, 0);
    for n in 0..100 {
        let (bytes, span) = frame(n, 1, 1000);
        log.append(&bytes, &span, false).unwrap();
        if n == 50 {
            log.flush().unwrap();
        }
    }
    for n in 0..100 {
        let at = log.offset_for_time(n * 10).unwrap();
        assert!(at.get() <= n && at.get() + 12 >= n, "{n} from {at}");
    }
    assert_eq!(log.offset_for_time(991), None);
    let max = log.max_timestamps().into_iter().filter_map(|(_, max)| max).max_by_key(|m| m.timestamp_ms);
    assert_eq!(max.unwrap().offset, Offset(99));
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Faulty::default());
    let open = || {
        Log::<Plain>::open(disk.clone(), dir.path(), options(0), OpenFrom::Clean, Offset(0), &mut |_, _| {})
    };
    let (log, _) = open().unwrap();
    let (bytes, span) = frame(0, 1, 100);
    log.append(&bytes, &span, false).unwrap();
    disk.0.full.store(true, Ordering::SeqCst);
    let (bytes, span) = frame(1, 1, 100);
    assert!(matches!(log.append(&bytes, &span, false), Err(Error::Io { .. })));
    assert_eq!(offsets(&log, Offset(0), 4096), [0]);
    disk.0.full.store(false, Ordering::SeqCst);
    log.append(&bytes, &span, false).unwrap();
    assert_eq!(offsets(&log, Offset(0), 4096), [0, 1]);
    disk.0.broken.store(true, Ordering::SeqCst);
    let log = Arc::new(log);
    assert!(Flusher::start("t").unwrap().flush(log.clone()).is_err());
    disk.0.broken.store(false, Ordering::SeqCst);
    assert!(matches!(log.flush(), Err(Error::Fenced)));
    log.cut_unflushed().unwrap();
    assert_eq!(log.end(), Offset(0));
    let (bytes, span) = frame(0, 1, 100);
    log.append(&bytes, &span, false).unwrap();
    assert_eq!(log.flush().unwrap(), Offset(1));
}

/// What goes wrong with the files of a [`Faulty`] disk.
#[derive(Debug, Default)]
struct Faults {
    full: AtomicBool,
    broken: AtomicBool,
    /// A sync waits for this.
    syncs: Mutex<()>,
    begun: AtomicU64,
}

/// The real disk, with faults.
#[derive(Debug, Default)]
struct Faulty(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn DiskFile>, Arc<Faults>);

impl Disk for Faulty {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FaultyFile(RealDisk.open(path, create)?, self.0.clone())))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(out, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if self.1.full.load(Ordering::SeqCst) {
            // Half of it still fits.
            self.0.write_all_at(&data[..data.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_all_at(data, offset)
    }
    fn write_vectored_at(&self, parts: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.0.write_vectored_at(parts, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.begun.fetch_add(1, Ordering::SeqCst);
        drop(self.1.syncs.lock());
        if self.1.broken.load(Ordering::SeqCst) {
            Err(io::Error::other("broken"))
        } else {
            self.0.sync_data()
        }
    }
    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[test]
fn appends_do_not_wait_for_a_flush_while_old_segments_go() {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let disk = Arc::new(Faulty(faults.clone()));
    let opened = Log::<Plain>::open(disk, dir.path(), options(0), OpenFrom::Clean, Offset(0), &mut |_, _| {});
    let log = Arc::new(opened.unwrap().0);
    let append = |n: i64| {
        let (bytes, span) = frame(n, 1, 900);
        log.append(&bytes, &span, false).unwrap();
    };
    (0..40).for_each(append);
    let held = faults.syncs.lock();
    std::thread::scope(|scope| {
        let (flushing, removing, appending) = (log.clone(), log.clone(), log.clone());
        scope.spawn(move || flushing.flush().unwrap());
        while faults.begun.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        scope.spawn(move || removing.remove_prefix(Offset(25), "").unwrap());
        // It holds the first lock of the order once it is under way, and goes on only after the flush.
        while log.reshaping.try_lock().is_some() {
            std::thread::yield_now();
        }
        let (tell, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let (bytes, span) = frame(40, 1, 900);
            tell.send(appending.append(&bytes, &span, false).is_ok()).unwrap();
        });
        let appended = told.recv_timeout(PATIENCE);
        drop(held);
        assert_eq!(appended, Ok(true));
    });
    assert_eq!((log.start(), log.end()), (Offset(25), Offset(41)));
    assert_eq!(offsets(&log, Offset(25), 1 << 20), (25..41).collect::<Vec<_>>());
}
