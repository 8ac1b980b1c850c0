//! What goes wrong, by seed. A run draws first how likely each kind is, so that runs differ in kind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::checksum::crc32c;
use base::disk::Disk as _;
use base::random::Random;
use commitlog::wal::WalFrame;
use commitlog::{Framing as _, Parsed};
use store_api::{Revision, Store};
use testkit::sim::{SimDisk, SimFault};
use tokio::time::Instant;

use crate::world::{Draw, Flaw, Shared, follow_changes, kill, restart, start, stop, url};

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(12);
/// Members at most: a larger cluster only takes longer.
const MEMBERS_MAX: usize = 6;
/// Nobody is removed from a cluster that has no more than these.
const MEMBERS_MIN: usize = 3;
/// A change of the members is given up after this.
const CHANGE_PATIENCE: Duration = Duration::from_secs(4);
/// What a sync takes on a slow disk.
const SLOW_US: u64 = 1_000_000;

/// A kind of fault; what it is called stands in [`Kind::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    PowerCut,
    PowerCutAtCall,
    Isolate,
    CutOneWay,
    Split,
    Flap,
    Jam,
    ClockJump,
    MoveLeader,
    HealNetwork,
    Restart,
    Rolling,
    SlowDisk,
    FullDisk,
    SyncFails,
    ShortWrite,
    Compact,
    AddLearner,
    AddVoter,
    Promote,
    Remove,
    LogSyncFails,
    Rot,
}

const KINDS: [Kind; 22] = [
    Kind::Kill,
    Kind::PowerCut,
    Kind::PowerCutAtCall,
    Kind::Isolate,
    Kind::CutOneWay,
    Kind::Split,
    Kind::Flap,
    Kind::Jam,
    Kind::ClockJump,
    Kind::MoveLeader,
    Kind::HealNetwork,
    Kind::Restart,
    Kind::Rolling,
    Kind::SlowDisk,
    Kind::FullDisk,
    Kind::SyncFails,
    Kind::ShortWrite,
    Kind::Compact,
    Kind::AddLearner,
    Kind::AddVoter,
    Kind::Promote,
    Kind::Remove,
];

/// Drawn in the worlds of [`Draw::Rot`](crate::world::Draw) only, where nobody is removed that does not have to be: a member
/// whose disk rots is lost.
const ROT_KINDS: [Kind; 2] = [Kind::LogSyncFails, Kind::Rot];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kills",
            Self::PowerCut => "power failures",
            Self::PowerCutAtCall => "power failures at a call",
            Self::Isolate => "isolations",
            Self::CutOneWay => "one-way cuts",
            Self::Split => "splits",
            Self::Flap => "flapping links",
            Self::Jam => "jams",
            Self::ClockJump => "clock jumps",
            Self::MoveLeader => "moves of the leader",
            Self::HealNetwork => "heals",
            Self::Restart => "restarts",
            Self::Rolling => "rolling restarts",
            Self::SlowDisk => "slow disks",
            Self::FullDisk => "full disks",
            Self::SyncFails => "failing syncs",
            Self::ShortWrite => "short writes",
            Self::Compact => "compactions",
            Self::AddLearner => "learners added",
            Self::AddVoter => "voters added",
            Self::Promote => "promotions",
            Self::Remove => "removals",
            Self::LogSyncFails => "failing syncs of the log",
            Self::Rot => "rotten files",
        }
    }

    /// What brings back what others take away must happen often enough.
    fn weight_min(self) -> u64 {
        match self {
            Self::HealNetwork | Self::Restart => 2,
            _ => 0,
        }
    }
}

/// Lets things go wrong for a while; what did.
pub async fn trouble(world: &Shared, random: &mut Random) -> Result<String, String> {
    let mut weights: Vec<(Kind, u64)> =
        KINDS.iter().map(|kind| (*kind, random.below(4).max(kind.weight_min()))).collect();
    if world.lock().draw == Draw::Rot {
        weights.retain(|(kind, _)| *kind != Kind::Remove);
        let more = if world.lock().flaw == Some(Flaw::RotBelieved) { 20 } else { 0 };
        weights.extend(ROT_KINDS.map(|kind| (kind, more + 1 + random.below(4))));
    }
    let began = Instant::now();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    while began.elapsed() < TROUBLE {
        tokio::time::sleep(Duration::from_millis(100 + random.below(900))).await;
        follow_changes(world).await?;
        let kind = draw(&weights, random);
        let done = disturb(world, kind, random).await?;
        if std::env::var("KETCH_SIM_VERBOSE").is_ok() {
            println!("{:?} {kind:?} {done} {:?}", began.elapsed(), world.lock().ids());
        }
        if done {
            *counts.entry(kind.name()).or_default() += 1;
        }
    }
    Ok(counts.into_iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", "))
}

fn draw(weights: &[(Kind, u64)], random: &mut Random) -> Kind {
    let mut left = random.below(weights.iter().map(|(_, weight)| weight).sum());
    for (kind, weight) in weights {
        if left < *weight {
            return *kind;
        }
        left -= weight;
    }
    Kind::HealNetwork
}

/// Does one thing; whether it did.
async fn disturb(world: &Shared, kind: Kind, random: &mut Random) -> Result<bool, String> {
    let ids = world.lock().ids();
    let id = ids[random.below(ids.len() as u64) as usize];
    let other = ids[random.below(ids.len() as u64) as usize];
    match kind {
        Kind::Kill => kill(world, id, false),
        Kind::PowerCut => kill(world, id, true),
        Kind::PowerCutAtCall => {
            break_disk(world, id, SimFault::PowerOffAfter(random.below(40)));
            later(world, 300, move |world| kill(world, id, true));
        }
        Kind::Isolate => isolate(world, id, true),
        Kind::CutOneWay => world.lock().network.cut(id, other),
        Kind::Split => split(world, &ids, random),
        Kind::Flap => flap(world, id, random),
        Kind::Jam => {
            world.lock().network.jam(Duration::from_millis(20 + random.below(400)));
            later(world, 500 + random.below(1500), |world| world.lock().network.jam(Duration::ZERO));
        }
        Kind::ClockJump => {
            let jump = random.below(7_200_000) as i64 - 3_600_000;
            world.lock().member(id).into_iter().for_each(|m| m.jump_ms.store(jump, Ordering::Relaxed));
        }
        Kind::MoveLeader => {
            let Some(handle) = world.lock().handle(id) else { return Ok(false) };
            tokio::spawn(async move { drop(handle.move_leader(other).await) });
        }
        Kind::HealNetwork => world.lock().network.heal(),
        Kind::Restart => restart(world).await?,
        Kind::Rolling => rolling(world, &ids, random).await?,
        Kind::SlowDisk => slow(world, id, 500 + random.below(2500)),
        Kind::FullDisk => {
            break_disk(world, id, SimFault::Full);
            later(world, 300 + random.below(2500), move |world| mend_disk(world, id, SimFault::Full));
        }
        // What rots and what is lost at once is no longer told from what was never written.
        Kind::SyncFails | Kind::ShortWrite | Kind::LogSyncFails if is_rotten(world, id) => return Ok(false),
        Kind::LogSyncFails => {
            let dir = ["/data/wal", "/data/raft"][random.below(2) as usize];
            break_disk(world, id, SimFault::SyncFailsUnder(dir));
            world.lock().member(id).into_iter().for_each(|member| member.unsynced = true);
            let power = random.below(2) == 0;
            later(world, 100 + random.below(1500), move |world| kill(world, id, power));
        }
        Kind::Rot => return Ok(rot(world, id, random)),
        Kind::SyncFails | Kind::ShortWrite => {
            let short = SimFault::ShortWriteAfter(1 + random.below(20));
            let fault = if kind == Kind::SyncFails { SimFault::SyncFails } else { short };
            break_disk(world, id, fault);
            world.lock().member(id).into_iter().for_each(|member| member.sick = true);
            let power = random.below(2) == 0;
            later(world, 100 + random.below(1500), move |world| kill(world, id, power));
        }
        Kind::Compact => compact(world, random),
        Kind::AddLearner | Kind::AddVoter => {
            return Ok(ids.len() < MEMBERS_MAX && add(world, kind == Kind::AddLearner));
        }
        Kind::Promote => return Ok(change(world, id, true)),
        Kind::Remove => return Ok(ids.len() > MEMBERS_MIN && change(world, id, false)),
    }
    Ok(true)
}

/// Does something after so many milliseconds, unless the trouble is over by then.
fn later(world: &Shared, ms: u64, work: impl FnOnce(&Shared) + Send + 'static) {
    let world = world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if !world.lock().calm {
            work(&world);
        }
    });
}

fn break_disk(world: &Shared, id: u64, fault: SimFault) {
    world.lock().member(id).into_iter().for_each(|member| member.disk.set_fault(fault));
}

/// Ends a fault of a disk, if it is still that one.
fn mend_disk(world: &Shared, id: u64, fault: SimFault) {
    let mut world = world.lock();
    let usual = world.usual_fault();
    if let Some(member) = world.member(id)
        && member.disk.fault() == fault
    {
        member.disk.set_fault(usual);
    }
}

fn isolate(world: &Shared, id: u64, cut: bool) {
    let world = world.lock();
    for other in world.ids() {
        for (from, to) in [(id, other), (other, id)] {
            if cut { world.network.cut(from, to) } else { world.network.mend(from, to) }
        }
    }
}

/// Two groups that do not hear each other.
fn split(world: &Shared, ids: &[u64], random: &mut Random) {
    let side: Vec<bool> = ids.iter().map(|_| random.below(2) == 0).collect();
    let world = world.lock();
    for (a, a_side) in ids.iter().zip(&side) {
        for (b, b_side) in ids.iter().zip(&side) {
            if a_side != b_side {
                world.network.cut(*a, *b);
            }
        }
    }
}

fn is_rotten(world: &Shared, id: u64) -> bool {
    world.lock().member(id).is_some_and(|member| member.rotten)
}

/// Something that a member has synced changes on its disk, while it runs or while it is down; whether it did. One member at
/// a time, and only where the others do without it.
fn rot(world: &Shared, id: u64, random: &mut Random) -> bool {
    let down = random.below(2) == 0;
    {
        let mut world = world.lock();
        let picked = world.pick();
        let Some((handle, _)) = picked else { return false };
        let voters = handle.members().into_iter().filter(|member| !member.is_learner).map(|member| member.id);
        let voters: Vec<u64> = voters.collect();
        // Who was added to vote learns first, whatever the list says.
        let mut votes = |id: u64| {
            let learns = world.member(id).and_then(|member| Some(member.handle()?.status().ok()?.is_learner));
            world.ids().contains(&id) && learns != Some(true)
        };
        let present = voters.iter().filter(|id| votes(**id)).count();
        let majority = voters.len() / 2 + 1;
        let sound = world.members.iter().all(|member| !member.rotten);
        let fit = world.member(id).is_some_and(|member| member.is_well());
        // Who is lost still counts until somebody removes it.
        if present < MEMBERS_MIN || present <= majority || !sound || !fit {
            return false;
        }
    }
    if down {
        kill(world, id, false);
    }
    let mut world = world.lock();
    let flaw = world.flaw;
    let Some(member) = world.member(id) else { return false };
    let files: Vec<PathBuf> = member.disk.contents().into_keys().filter(|path| may_rot(path)).collect();
    let dirs: &[&str] =
        if flaw == Some(Flaw::RotBelieved) { &["wal"] } else { &["wal", "values", "raft", ""] };
    let dir = dirs[random.below(dirs.len() as u64) as usize];
    let files: Vec<_> =
        files.into_iter().filter(|path| path.starts_with(Path::new("/data").join(dir))).collect();
    let Some(path) = files.get(random.below(files.len() as u64) as usize) else { return false };
    let Some(at) = member.disk.rot(path, random) else { return false };
    if std::env::var("KETCH_SIM_VERBOSE").is_ok() {
        println!("member {id}, down: {down}: {} rots at {at}", path.display());
    }
    member.rotten = true;
    member.rotten_values = path.starts_with("/data/values");
    if flaw == Some(Flaw::RotBelieved) {
        believe(&member.disk, path, at);
    }
    true
}

/// The tree of the state has no checksums that are looked at when it is read: the members compare fingerprints instead.
fn may_rot(path: &Path) -> bool {
    path.extension().is_none_or(|extension| extension == "wal")
}

/// Makes the checksum of the log's frame around `at` right again, as if nobody looked at it.
fn believe(disk: &SimDisk, path: &Path, at: u64) {
    let Ok(file) = disk.open(path, false) else { return };
    let content = disk.read(path).unwrap_or_default();
    let mut from = 0;
    while let Parsed::Frame(frame) = WalFrame::parse(content.get(from..).unwrap_or_default()) {
        let Some(bytes) = content.get(from..from + frame.len) else { return };
        if (from..from + frame.len).contains(&(at as usize)) {
            let crc = crc32c(&bytes[8..]).to_be_bytes();
            let _ = file.write_all_at(&crc, from as u64 + 4).and_then(|()| file.sync_data());
            return;
        }
        from += frame.len;
    }
}

/// A member's links come and go.
fn flap(world: &Shared, id: u64, random: &mut Random) {
    let (world, times) = (world.clone(), 4 + random.below(20));
    let mut random = Random::from_seed(random.next_u64());
    tokio::spawn(async move {
        for n in 0..times {
            if world.lock().calm {
                return;
            }
            isolate(&world, id, n % 2 == 0);
            tokio::time::sleep(Duration::from_millis(20 + random.below(300))).await;
        }
        isolate(&world, id, false);
    });
}

fn slow(world: &Shared, id: u64, ms: u64) {
    let Some(slow_us) = world.lock().member(id).map(|member| member.slow_us.clone()) else { return };
    slow_us.store(SLOW_US, Ordering::Relaxed);
    later(world, ms, move |_| slow_us.store(0, Ordering::Relaxed));
}

/// Every member is stopped and started again, one after the other.
async fn rolling(world: &Shared, ids: &[u64], random: &mut Random) -> Result<(), String> {
    for id in ids {
        stop(world, *id).await;
        tokio::time::sleep(Duration::from_millis(random.below(400))).await;
        start(world, *id).await?;
        tokio::time::sleep(Duration::from_millis(random.below(600))).await;
    }
    Ok(())
}

/// Forgets history that the watch has seen.
fn compact(world: &Shared, random: &mut Random) {
    let (picked, watched) = {
        let mut world = world.lock();
        (world.pick(), world.watched)
    };
    let at = Revision(watched.get() - random.below(20) as i64);
    let Some((handle, _)) = picked.filter(|_| at.get() > 0) else { return };
    tokio::spawn(async move { drop(handle.compact(at).await) });
}

fn add(world: &Shared, learner: bool) -> bool {
    let picked = world.lock().pick();
    let Some((handle, _)) = picked else { return false };
    let name = {
        let mut world = world.lock();
        world.serial += 1;
        world.serial
    };
    let world = world.clone();
    tokio::spawn(async move {
        let added = handle.add_member(vec![url(name)], learner);
        if let Ok(Ok(id)) = tokio::time::timeout(CHANGE_PATIENCE, added).await {
            world.lock().added.push(id);
        }
    });
    true
}

/// Promotes or removes a member.
pub fn change(world: &Shared, id: u64, promote: bool) -> bool {
    let picked = world.lock().pick();
    let Some((handle, _)) = picked else { return false };
    let world = world.clone();
    tokio::spawn(async move {
        if promote {
            drop(tokio::time::timeout(CHANGE_PATIENCE, handle.promote_member(id)).await);
        } else if let Ok(Ok(())) = tokio::time::timeout(CHANGE_PATIENCE, handle.remove_member(id)).await {
            world.lock().removed.push(id);
        }
    });
    true
}
