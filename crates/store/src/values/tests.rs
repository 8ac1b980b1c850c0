//! The state with its values apart, beside one that is all in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use base::random::Random;
use mvcc::{Entry, MemState, Reader, apply, layout, sweep};
use store_api::{KeyRange, KeyValue, Op, RangeRequest, Revision, Txn};
use testkit::sim::{SimClock, SimDisk, SimFault};

use super::*;
use crate::LogIndex;
use crate::Options;
use crate::db::{self, AppliedIndex, Change, Db};

const DIR: &str = "/data";
const CACHE_BYTES: usize = 1 << 20;
const KEYS: u64 = 12;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

fn content(state: &impl Reader) -> Content {
    let mut all = Content::new();
    state
        .scan(&[1], &[0xff], false, &mut |key, stored| {
            all.insert(key.to_vec(), stored.whole()?.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    all
}

fn applied(step: i64) -> AppliedIndex {
    AppliedIndex { index: LogIndex(step), term: 1, node: 1 }
}

/// A state, what it should be, and what it was after each step.
struct World {
    disk: SimDisk,
    db: Db,
    mem: MemState,
    past: Vec<MemState>,
    /// The last step that is durable for sure.
    durable: usize,
    segment_bytes: u64,
}

impl World {
    fn new(disk: SimDisk, segment_bytes: u64) -> Result<Self, Error> {
        let db = open(&disk, segment_bytes)?;
        Ok(Self {
            disk,
            db,
            mem: MemState::default(),
            past: vec![MemState::default()],
            durable: 0,
            segment_bytes,
        })
    }

    fn change<R: PartialEq + std::fmt::Debug>(
        &mut self,
        durable: bool,
        on_db: impl FnOnce(&mut Change<'_>) -> Result<R, StateError>,
        on_mem: impl FnOnce(&mut MemState) -> Result<R, StateError>,
    ) -> Result<(), StateError> {
        let expect = on_mem(&mut self.mem).unwrap();
        let step = self.past.len();
        // The power may go in the middle of the commit.
        self.past.push(self.mem.clone());
        let found = self.db.update(durable, |state| {
            let done = on_db(state)?;
            state.set_applied(applied(step as i64))?;
            Ok(done)
        })?;
        assert_eq!(found, expect);
        if durable {
            self.durable = step;
        }
        Ok(())
    }

    fn step(&mut self, random: &mut Random) -> Result<(), StateError> {
        let durable = random.below(6) == 0;
        let now = mvcc::read::revision(&self.mem).unwrap();
        match random.below(10) {
            0 => {
                let entry = [Entry::Compact { revision: Revision(now.get() - random.below(5) as i64) }];
                self.change(durable, |s| apply(s, &entry), |s| apply(s, &entry))
            }
            1..3 => {
                let budget = 1 + random.below(20) as usize;
                let reclaim = random.below(2) == 0;
                self.change(
                    durable,
                    |s| {
                        let more = sweep(s, budget)?;
                        if reclaim { s.reclaim(budget).map(|()| more) } else { Ok(more) }
                    },
                    |s| sweep(s, budget),
                )
            }
            _ => {
                let entries: Vec<_> = (0..=random.below(4)).map(|_| entry(random)).collect();
                self.change(durable, |s| apply(s, &entries), |s| apply(s, &entries))
            }
        }
    }

    fn check(&self) {
        let view = self.db.view().unwrap();
        let expect = content(&self.mem);
        assert!(content(&view) == expect, "the states differ");
        let mut back = Vec::new();
        view.scan(&[1], &[0xff], true, &mut |key, stored| {
            let head = stored.head().to_vec();
            assert!(expect[key].starts_with(&head) && (head.len() >= 32 || head.len() == expect[key].len()));
            if key.len() % 2 == 0 {
                assert_eq!(stored.whole()?, expect[key]);
            }
            back.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert!(back.iter().rev().eq(expect.keys()));
        for (key, record) in &expect {
            assert_eq!(view.get(key).unwrap().unwrap(), record);
            assert!(record.starts_with(&view.head(key).unwrap().unwrap()));
        }
        let now = mvcc::read::revision(&self.mem).unwrap();
        for request in requests(now) {
            assert_eq!(mvcc::read::range(&view, &request), mvcc::read::range(&self.mem, &request));
        }
        assert_eq!(mvcc::hash::history(&view, Revision(0)), mvcc::hash::history(&self.mem, Revision(0)));
        self.check_counts();
    }

    /// What is said to be live is what something points to.
    fn check_counts(&self) {
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for pointer in self.db.view().unwrap().pointers() {
            *live.entry(pointer.segment).or_default() += bytes_of(&pointer);
        }
        let values = self.db.values();
        let inner = values.inner.lock();
        let counted: BTreeMap<u32, u64> =
            inner.rows.iter().filter(|(_, row)| row.live > 0).map(|(id, row)| (*id, row.live)).collect();
        assert_eq!(counted, live);
        let files: u64 = self.disk.contents().iter().filter(|(path, _)| is_values(path)).map(|_| 1).sum();
        let gone = inner.dropped.len() + inner.frozen.len() + inner.leaving.len();
        let known = self.db.values().segments().len() + gone;
        assert_eq!(files, known as u64, "a file without a segment");
    }

    /// With what is durable: the log has the rest.
    fn reopen(mut self, random: &mut Random) -> Self {
        if random.below(2) == 0 {
            self.db.update(true, |_| Ok(())).unwrap();
            self.durable = self.past.len() - 1;
        }
        self.db.close();
        self.db = open(&self.disk, self.segment_bytes).unwrap();
        let step = db::applied(&self.db.view().unwrap()).unwrap().index.get() as usize;
        assert!(step >= self.durable);
        self.durable = step;
        self.past.truncate(step + 1);
        self.mem = self.past[step].clone();
        self
    }
}

fn requests(now: Revision) -> Vec<RangeRequest> {
    let all = || RangeRequest::of(KeyRange::prefix(""));
    let at = |back: i64| Some(Revision(now.get() - back)).filter(|at| at.get() > 0);
    let mut requests = vec![all(), RangeRequest { keys_only: true, ..all() }];
    requests.push(RangeRequest { limit: 3, ..all() });
    requests.push(RangeRequest { count_only: true, ..all() });
    for back in [1, 3, 8] {
        requests.push(RangeRequest { revision: at(back), limit: 4, ..all() });
        requests.push(RangeRequest { revision: at(back), keys_only: true, ..RangeRequest::key("k3") });
        requests.push(RangeRequest { revision: at(back), ..all() });
    }
    requests
}

fn is_values(path: &Path) -> bool {
    path.parent() == Some(Path::new("/data/values"))
}

fn open(disk: &SimDisk, segment_bytes: u64) -> Result<Db, Error> {
    disk.create_dir_all(Path::new(DIR)).map_err(Error::io(Path::new(DIR)))?;
    let db = Db::open(&disk.shared(), Path::new(DIR), CACHE_BYTES)?;
    db.values().set_segment_bytes(segment_bytes);
    Ok(db)
}

fn value(random: &mut Random) -> Vec<u8> {
    let len = match random.below(20) {
        0 => 300_000,
        1..4 => random.below(20_000),
        4..10 => 120 + random.below(16),
        _ => random.below(1000),
    };
    let mut value = vec![0; len as usize];
    random.fill(&mut value);
    value
}

fn entry(random: &mut Random) -> Entry {
    let key = format!("k{}", random.below(KEYS));
    let op = match random.below(6) {
        0 => Op::delete(key),
        1 => Op::DeleteRange { range: KeyRange::prefix("k1"), prev_kv: true },
        _ => Op::Put {
            key: key.into(),
            value: value(random).into(),
            lease: store_api::LeaseId(0),
            prev_kv: true,
        },
    };
    Entry::Txn(Txn { success: vec![op], ..Txn::default() })
}

#[test]
fn a_state_with_its_values_apart_is_as_one_in_memory() {
    let (mut moved, mut files) = (0, 0);
    for seed in 0..12 {
        let mut random = Random::from_seed(seed);
        let mut world = World::new(SimDisk::new(), 2000 + random.below(60_000)).unwrap();
        // As programs before format 3 left them.
        let mem = &mut world.mem;
        for n in 0..4 {
            apply(
                mem,
                &[Entry::Txn(Txn {
                    success: vec![Op::put(format!("k{n}"), value(&mut random))],
                    ..Txn::default()
                })],
            )
            .unwrap();
        }
        let before = content(mem);
        world.past[0] = mem.clone();
        world
            .db
            .update(true, |state| {
                before.iter().for_each(|(key, record)| state.put_whole(key, record));
                Ok(())
            })
            .unwrap();
        for n in 0..150 {
            world.step(&mut random).unwrap();
            if n % 10 == 0 {
                world.check();
            }
            if random.below(40) == 0 {
                world = world.reopen(&mut random);
                world.check();
            }
        }
        let values = world.db.values();
        let last = values.inner.lock().last_id;
        files += last;
        moved += last - values.segments().len() as u32;
    }
    assert!(moved > 20 && files > 100, "{files} segments, {moved} of them gone: nothing is shown");
}

/// Runs steps until the power goes, and looks at what is there then.
fn cut(seed: u64, calls: u64) -> bool {
    let mut random = Random::from_seed(seed);
    let disk = SimDisk::new();
    disk.leave_garbage();
    disk.set_fault(SimFault::PowerOffAfter(calls));
    let mut crash = Random::from_seed(seed ^ calls << 20);
    let segment_bytes = 2000 + random.below(30_000);
    let (mut past, mut durable, mut done) = (vec![MemState::default()], 0, false);
    if let Ok(mut world) = World::new(disk.clone(), segment_bytes) {
        done = (0..80).all(|_| world.step(&mut random).is_ok());
        world.db.close();
        (past, durable) = (world.past, world.durable);
    }
    let disk = disk.crash(&mut crash);
    let db = open(&disk, segment_bytes).unwrap_or_else(|error| panic!("seed {seed}, call {calls}: {error}"));
    let step = db::applied(&db.view().unwrap()).unwrap().index.get() as usize;
    assert!(step >= durable, "seed {seed}, call {calls}: {step} of {durable}");
    let mem = past[step].clone();
    let mut world = World { disk, db, mem, past, durable: step, segment_bytes };
    world.past.truncate(step + 1);
    world.check();
    // And on.
    (0..10).for_each(|_| world.step(&mut random).unwrap());
    world.reopen(&mut random).check();
    done
}

#[test]
fn the_power_may_go_at_any_call() {
    for seed in 0..3 {
        let mut calls = 0;
        while !cut(seed, calls) {
            calls += 1;
        }
        assert!(calls > 100, "{calls} calls");
    }
}

fn put(key: &str, len: usize) -> Entry {
    let value = vec![len as u8; len];
    Entry::Txn(Txn { success: vec![Op::put(key.to_owned(), value)], ..Txn::default() })
}

fn settle(db: &Db) {
    loop {
        let more = db.update(false, |state| {
            let more = sweep(state, 64)?;
            state.reclaim(64).map(|()| more)
        });
        if !more.unwrap() && !db.wants_reclaim() {
            break;
        }
    }
    db.update(true, |_| Ok(())).unwrap();
}

#[test]
fn a_reader_keeps_what_is_reclaimed_behind_its_back() {
    let disk = SimDisk::new();
    let db = open(&disk, 20_000).unwrap();
    for round in 0..30 {
        let entries: Vec<_> = (0..8).map(|n| put(&format!("k{n}"), 1000 + round * 10 + n)).collect();
        db.update(round % 4 == 0, |state| apply(state, &entries)).unwrap();
    }
    let view = db.view().unwrap();
    let before = content(&view);
    let files =
        |disk: &SimDisk| disk.contents().keys().filter(|path| is_values(path)).cloned().collect::<Vec<_>>();
    let first = files(&disk);
    let now = mvcc::read::revision(&view).unwrap();
    db.update(false, |state| apply(state, &[Entry::Compact { revision: now }])).unwrap();
    settle(&db);
    assert!(files(&disk).len() * 4 < first.len(), "{:?} of {first:?}", files(&disk));
    assert!(db.file_bytes() > db.used_bytes().unwrap());
    assert!(content(&view) == before);
    let all = RangeRequest::of(KeyRange::prefix("k"));
    assert_eq!(mvcc::read::range(&db.view().unwrap(), &all).unwrap().kvs.len(), 8);
}

#[test]
fn a_file_goes_only_when_nothing_durable_points_to_it() {
    let disk = SimDisk::new();
    let db = open(&disk, 5_000).unwrap();
    let entries: Vec<_> = (0..30).map(|n| put("k", 1000 + n)).collect();
    db.update(true, |state| apply(state, &entries)).unwrap();
    let files = |disk: &SimDisk| disk.contents().keys().filter(|path| is_values(path)).count();
    let first = files(&disk);
    let now = mvcc::read::revision(&db.view().unwrap()).unwrap();
    db.update(false, |state| apply(state, &[Entry::Compact { revision: now }])).unwrap();
    while db.update(false, |state| sweep(state, 64)).unwrap() {}
    while db.wants_reclaim() {
        db.update(false, |state| state.reclaim(64)).unwrap();
    }
    assert!(db.would_free());
    assert_eq!(files(&disk), first);
    db.update(true, |_| Ok(())).unwrap();
    assert!(!db.would_free());
    assert!(files(&disk) < first / 3);
}

#[test]
fn damage_is_told() {
    let disk = SimDisk::new();
    let db = open(&disk, 1 << 20).unwrap();
    db.update(true, |state| apply(state, &[put("a", 500), put("b", 500)])).unwrap();
    let path = disk.contents().into_keys().find(|path| is_values(path)).unwrap();
    let file = disk.open(&path, false).unwrap();
    file.write_all_at(&[0xee], 300).unwrap();
    let view = db.view().unwrap();
    let told = |found: Result<Option<bytes::Bytes>, StateError>| {
        let error = found.unwrap_err();
        assert!(
            matches!(&error, StateError::Corrupt(text) if text.contains("/data/values/00000001")),
            "{error}"
        );
    };
    told(view.get(&layout::current(b"a")));
    assert!(view.head(&layout::current(b"a")).unwrap().is_some());
    assert!(view.get(&layout::current(b"b")).unwrap().is_some());
    let all = RangeRequest::of(KeyRange::prefix(""));
    assert!(mvcc::read::range(&view, &all).is_err());
    assert!(mvcc::read::range(&view, &RangeRequest { keys_only: true, ..all }).is_ok());
    assert!(matches!(db.update(false, |state| apply(state, &[put("a", 1)])), Err(StateError::Corrupt(_))));
    // Cut short, or gone: the state does not open.
    db.close();
    let len = file.len().unwrap();
    file.set_len(len - 1).unwrap();
    let error = open(&disk, 1 << 20).err().unwrap().to_string();
    assert!(error.contains("the state points to"), "{error}");
    disk.remove_file(&path).unwrap();
    let error = open(&disk, 1 << 20).err().unwrap().to_string();
    assert!(error.contains("not there"), "{error}");
}

#[test]
fn damage_where_nothing_is_live_stops_the_reclaiming_of_that_segment_only() {
    let disk = SimDisk::new();
    let db = open(&disk, 6_000).unwrap();
    let entries: Vec<_> = (0..40).map(|n| put(&format!("k{}", n / 5), 1000 + n)).collect();
    db.update(true, |state| apply(state, &entries)).unwrap();
    let path = disk.contents().into_keys().find(|path| is_values(path)).unwrap();
    // The first entry's key.
    disk.open(&path, false).unwrap().write_all_at(&[0xee], 13).unwrap();
    let now = mvcc::read::revision(&db.view().unwrap()).unwrap();
    db.update(false, |state| apply(state, &[Entry::Compact { revision: now }])).unwrap();
    settle(&db);
    let all = RangeRequest::of(KeyRange::prefix("k"));
    assert_eq!(mvcc::read::range(&db.view().unwrap(), &all).unwrap().kvs.len(), 8);
    assert!(disk.exists(&path));
    assert!(disk.contents().keys().filter(|path| is_values(path)).count() < 5);
}

#[test]
fn a_full_disk_keeps_values_in_memory_until_there_is_space() {
    let disk = SimDisk::new();
    let mut world = World::new(disk.clone(), 1 << 20).unwrap();
    let write = |world: &mut World, round: usize| {
        let entries: Vec<_> = (0..20).map(|n| put(&format!("k{n}"), 30_000 + round)).collect();
        world.change(false, |s| apply(s, &entries), |s| apply(s, &entries)).unwrap();
    };
    write(&mut world, 0);
    world.db.update(true, |_| Ok(())).unwrap();
    disk.set_fault(SimFault::Full);
    write(&mut world, 1);
    write(&mut world, 2);
    assert!(world.db.values().inner.lock().current.as_ref().unwrap().is_stuck());
    world.check();
    // Nothing is moved meanwhile, which would need memory.
    let now = mvcc::read::revision(&world.mem).unwrap();
    let compact = [Entry::Compact { revision: now }];
    world.change(false, |s| apply(s, &compact), |s| apply(s, &compact)).unwrap();
    while world
        .db
        .update(false, |s| {
            let more = sweep(s, 64)?;
            s.reclaim(64).map(|()| more)
        })
        .unwrap()
    {}
    while sweep(&mut world.mem, 64).unwrap() {}
    world.check();
    std::thread::scope(|scope| {
        let db = &world.db;
        let waiting = scope.spawn(move || db.update(true, |_| Ok(())));
        std::thread::sleep(std::time::Duration::from_millis(50));
        disk.set_fault(SimFault::None);
        waiting.join().unwrap().unwrap();
    });
    // What was swept and moved is no step of its own.
    *world.past.last_mut().unwrap() = world.mem.clone();
    world.reopen(&mut Random::from_seed(1)).check();
}

#[test]
fn a_sync_that_failed_fails_for_ever() {
    let disk = SimDisk::new();
    let db = open(&disk, 1 << 20).unwrap();
    db.update(true, |state| apply(state, &[put("a", 500)])).unwrap();
    db.update(false, |state| apply(state, &[put("a", 600)])).unwrap();
    disk.set_fault(SimFault::SyncFails);
    assert!(db.update(true, |_| Ok(())).is_err());
    disk.set_fault(SimFault::None);
    assert!(db.values().make_durable(|_| false).is_err());
    assert!(db.update(true, |_| Ok(())).is_err());
    db.close();
    let db = open(&disk.crash(&mut Random::from_seed(1)), 1 << 20).unwrap();
    let record = db.view().unwrap().get(&layout::current(b"a")).unwrap().unwrap();
    assert_eq!(record.len(), layout::META_BYTES + 500);
}

/// On a disk of the system, where layers are carried and syncs made by threads.
#[test]
fn readers_see_one_commit_whatever_is_on_its_way_into_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { cache_bytes: CACHE_BYTES, value_segment_bytes: 30_000, ..Options::new(dir.path()) };
    let db = Db::open(&options.disk, dir.path(), CACHE_BYTES).unwrap();
    db.settle(&options);
    let past = parking_lot::RwLock::new(vec![content(&MemState::default())]);
    let over = std::sync::atomic::AtomicBool::new(false);
    let (read, mut mem, mut random) =
        (std::sync::atomic::AtomicUsize::new(0), MemState::default(), Random::from_seed(9));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Acquire) {
                    let view = db.view().unwrap();
                    let step = db::applied(&view).unwrap().index.get() as usize;
                    for _ in 0..2 {
                        assert!(content(&view) == past.read()[step], "not what was there after {step}");
                    }
                    read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        for step in 1..=300 {
            let entries: Vec<_> = (0..=random.below(4)).map(|_| entry(&mut random)).collect();
            apply(&mut mem, &entries).unwrap();
            past.write().push(content(&mem));
            db.update(false, |state| {
                apply(state, &entries)?;
                state.set_applied(applied(step))
            })
            .unwrap();
            if step % 20 == 0 {
                db.begin_durable().unwrap();
            }
        }
        over.store(true, std::sync::atomic::Ordering::Release);
    });
    assert!(read.into_inner() > 0);
    while !db.begin_durable().unwrap() {
        db.wait_synced().unwrap();
    }
    db.wait_synced().unwrap();
    assert!(db.is_synced().unwrap() && !db.is_carrying());
    db.close();
    let db = Db::open(&options.disk, dir.path(), CACHE_BYTES).unwrap();
    assert!(content(&db.view().unwrap()) == content(&mem));
}

/// A rewritten or received state shares the directory with the one it replaces.
#[test]
fn a_state_takes_another_ones_place_with_its_values() {
    let disk = SimDisk::new();
    let mut random = Random::from_seed(5);
    let mut world = World::new(disk.clone(), 9_000).unwrap();
    world.db.settle(&Options {
        disk: disk.shared(),
        clock: std::sync::Arc::new(SimClock::new()),
        random: Random::from_seed(3),
        cache_bytes: CACHE_BYTES,
        value_segment_bytes: 9_000,
        ..Options::new(DIR)
    });
    for _ in 0..4 {
        (0..40).for_each(|_| world.step(&mut random).unwrap());
        let (view, before) = (world.db.view().unwrap(), content(&world.mem));
        world.db.rewrite().unwrap();
        world.check();
        assert!(content(&view) == before);
        let values = world.db.values();
        assert_eq!(values.bytes(), values.segments().values().map(|segment| segment.end()).sum::<u64>());
    }
    // One that is given up leaves nothing.
    let path = Path::new("/data/state.redb.received");
    let other = Db::receive(&disk.shared(), path, CACHE_BYTES).unwrap();
    other.update(true, |state| apply(state, &[put("x", 5000)])).unwrap();
    drop(other);
    world.check();
    let world = world.reopen(&mut random);
    world.check();
}

#[test]
fn the_power_may_go_while_a_state_is_rewritten() {
    let mut done = 0;
    for calls in 0..400 {
        let disk = SimDisk::new();
        let mut random = Random::from_seed(calls);
        let mut world = World::new(disk.clone(), 9_000).unwrap();
        world.db.settle(&Options { disk: disk.shared(), cache_bytes: CACHE_BYTES, ..Options::new(DIR) });
        (0..20).for_each(|_| world.step(&mut random).unwrap());
        world.db.update(true, |_| Ok(())).unwrap();
        disk.set_fault(SimFault::PowerOffAfter(calls));
        let rewritten = world.db.rewrite().is_ok();
        world.db.close();
        let disk = disk.crash(&mut random);
        let db = open(&disk, 9_000).unwrap_or_else(|error| panic!("call {calls}: {error}"));
        let World { mem, past, durable, segment_bytes, .. } = world;
        let world = World { disk, db, mem, past, durable, segment_bytes };
        world.check();
        done += u32::from(rewritten);
        if done > 5 {
            return;
        }
    }
    panic!("it is never done");
}

#[test]
fn values_side_by_side_are_read_together() {
    let disk = SimDisk::new();
    let db = open(&disk, 1 << 20).unwrap();
    let entries: Vec<_> = (0..500).map(|n| put(&format!("k{n:03}"), 1000)).collect();
    db.update(true, |state| apply(state, &entries)).unwrap();
    let view = db.view().unwrap();
    let segments = db.values().segments();
    let mut cursor = Cursor::new(&*segments);
    let mut pointers = view.pointers();
    pointers.sort_by_key(|pointer| pointer.offset);
    let mut reads = 0;
    let mut window = (0, 0);
    for pointer in &pointers {
        cursor.record(pointer).unwrap();
        let now = cursor.window_place();
        reads += u32::from(now != window);
        window = now;
    }
    assert!(reads < 10, "{reads} reads");
    // Far from each other only what is asked for is read.
    let mut cursor = Cursor::new(&*segments);
    for pointer in pointers.iter().step_by(50) {
        cursor.record(pointer).unwrap();
        assert_eq!(cursor.window_place().1, pointer.record_len as usize);
    }
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_on_the_disk_after_the_next_opening() {
    let contents = |db: &Db| {
        let view = db.view().unwrap();
        let all = RangeRequest { range: KeyRange::prefix(""), ..RangeRequest::prefix("") };
        mvcc::read::range(&view, &all).unwrap().kvs
    };
    let some = |from: u64| {
        (from..from + 40).map(|n| put(&format!("k{:03}", n % 90), 50 + 7 * n as usize)).collect::<Vec<_>>()
    };
    for seed in 0..600 {
        let mut random = Random::from_seed(seed);
        let disk = SimDisk::new();
        let db = open(&disk, 20_000).unwrap();
        (0..3).for_each(|n| drop(db.update(true, |state| apply(state, &some(n * 30))).unwrap()));
        // Which of a commit's syncs fails is drawn.
        disk.set_fault(SimFault::SyncFailsAfter(random.below(6)));
        let failed = (3..9).any(|n| db.update(true, |state| apply(state, &some(n * 30))).is_err());
        assert!(failed);
        // The process ends, the machine goes on: what was written is read, and the kernel takes it for written.
        let mut disk = disk.survive();
        if random.below(3) == 0 {
            // Or it does not go on for long.
            disk.set_fault(SimFault::PowerOffAfter(random.below(60)));
            drop(open(&disk, 20_000));
            disk = disk.crash(&mut random);
        }
        let db = open(&disk, 20_000).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(contents(&db).iter().map(|kv| kv.mod_revision.get()).max() >= Some(121), "seed {seed}");
        assert!(!disk.exists(&Path::new(DIR).join("UNSYNCED")));
        let before = contents(&db);
        disk.set_fault(SimFault::PowerOffAfter(random.below(40)));
        let done = db.update(true, |state| apply(state, &some(300)));
        let disk = disk.crash(&mut random);
        let found = contents(&open(&disk, 20_000).unwrap_or_else(|e| panic!("seed {seed}: {e}")));
        // All of the commit is there, or nothing of it.
        let revision = |kvs: &[KeyValue]| kvs.iter().map(|kv| kv.mod_revision.get()).max();
        let (old, new) = (revision(&before), revision(&found));
        assert!(new == old.map(|old| old + 40) || done.is_err() && found == before, "seed {seed}");
        let changed = |kv: &KeyValue| Some(kv.mod_revision.get()) > old;
        assert!(found.iter().filter(|kv| !changed(kv)).all(|kv| before.contains(kv)), "seed {seed}");
        assert_eq!(found.len(), before.len(), "seed {seed}");
    }
}
