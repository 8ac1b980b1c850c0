//! Members of one cluster in one thread and simulated time, and what must hold when all is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use base::clock::Clock;
use base::random::Random;
use base::task::Tasks;
use bytes::Bytes;
use parking_lot::Mutex;
use store::raft::{
    Begin, ClusterOptions, Hands, MemberInfo, MemberNode, NetworkOptions, Sizes, Timing, transport,
};
use store::{Handle, Options, Service};
use store_api::{KeyRange, Op, RangeRequest, Revision, Store, Txn};
use testkit::history::{Call, Recorder, Seen, check_watch};
use testkit::sim::{Digest, SimDisk, SimFault};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{CLIENT_PATIENCE, KEYS, client, perform, watcher};
use crate::faults;
use crate::network::{Lie, Network};

const CLIENTS: u32 = 4;
/// The cluster's id.
const CLUSTER: u64 = 9;
/// A write is acknowledged within so many election timeouts after the trouble.
const BACK_TIMEOUTS: u32 = 2;
/// How long one member is asked for the first write after the trouble.
const ATTEMPT: Duration = Duration::from_millis(300);
/// All the members must agree within this after the trouble.
const SETTLE: Duration = Duration::from_secs(60);
/// What a piece of work on a disk takes at most, when nothing is wrong.
const WORK_US: u64 = 400;

/// A bug that is planted, to see that a run notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Disks say that they have synced, and have not.
    SyncDropped,
    /// Entries count as on a quorum that are not.
    EarlyAck,
    /// Followers serve reads without asking how far they must be.
    StaleRead,
    /// Watches lose an event now and then.
    EventSkipped,
    /// What rots in the log has the right checksum, as if nobody looked at it.
    RotBelieved,
}

/// What kinds of faults a world knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// All but those of the other; worlds of this kind are what they were before the other came.
    Plain,
    /// What was synced rots, syncs of the log fail, the log is read from the disk. Nobody is removed without need.
    Rot,
}

/// A member's time, whose wall clock jumps.
#[derive(Clone)]
struct SimTime {
    began: Instant,
    jump_ms: Arc<AtomicI64>,
}

impl Clock for SimTime {
    fn unix_ms(&self) -> i64 {
        1_767_225_600_000 + self.began.elapsed().as_millis() as i64 + self.jump_ms.load(Ordering::Relaxed)
    }
    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

#[derive(Clone)]
struct Running {
    handle: Handle,
    tasks: Tasks,
    /// Cancelled when it is killed: what it says afterwards nobody hears.
    killed: CancellationToken,
}

pub struct Member {
    pub id: u64,
    pub disk: SimDisk,
    running: Option<Running>,
    begin: Begin,
    pub jump_ms: Arc<AtomicI64>,
    /// What a piece of work takes now, beside the usual.
    pub slow_us: Arc<AtomicU64>,
    /// Its disk failed: it must be started anew.
    pub sick: bool,
    /// Syncs of its log failed: it must be started anew, and finds what it wrote unless the power goes.
    pub unsynced: bool,
    /// Something on its disk has changed by itself.
    pub rotten: bool,
    /// What has changed is a value of the state: nobody looks at all of them at a start.
    pub rotten_values: bool,
    /// It has found that, and does not start any more.
    pub lost: bool,
    /// How often it was killed.
    kills: u64,
}

pub struct World {
    pub random: Random,
    pub network: Network,
    began: Instant,
    pub members: Vec<Member>,
    pub recorder: Arc<Recorder>,
    pub serial: u64,
    sizes: Sizes,
    pub flaw: Option<Flaw>,
    pub draw: Draw,
    /// How often a member found that something had changed on its disk.
    rot_found: u32,
    /// What the watch has seen: compactions stay below.
    pub watched: Revision,
    /// Members that were added, and those that were removed, since the world last looked.
    pub added: Vec<u64>,
    pub removed: Vec<u64>,
    pub calm: bool,
}

pub type Shared = Arc<Mutex<World>>;

/// What a run came to.
pub struct Done {
    pub text: String,
    /// How long it took after the trouble until a write was acknowledged.
    pub back: Duration,
    pub rot_found: u32,
    pub digest: u64,
}

/// One run.
///
/// # Errors
/// What did not hold.
pub async fn run(seed: u64, draw: Draw, flaw: Option<Flaw>) -> Result<Done, String> {
    let mut random = Random::from_seed(seed);
    store::raft::seed_chance(random.next_u64());
    let count = if random.below(3) == 0 { 5 } else { 3 };
    let world: Shared = Arc::new(Mutex::new(World::new(&mut random, count, draw, flaw)));
    restart(&world).await?;
    let over = Arc::new(AtomicBool::new(false));
    let spawn = |n| {
        let (world, over, chance) = (world.clone(), over.clone(), Random::from_seed(random.next_u64()));
        tokio::spawn(client(world, n, chance, over))
    };
    let clients: Vec<_> = (0..CLIENTS).map(spawn).collect();
    let watching = tokio::spawn(watcher(world.clone(), over.clone()));
    let events = faults::trouble(&world, &mut random).await?;
    if std::env::var("KETCH_SIM_VERBOSE").is_ok() {
        println!("seed {seed}: {events}");
    }
    let healed = heal(&world).await?;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.map_err(|e| e.to_string())?;
    }
    let last = agree(&world).await?;
    let seen = tokio::time::timeout(SETTLE, watching).await.map_err(|_| "the watch does not end")?;
    let seen = seen.map_err(|e| e.to_string())?;
    read_all(&world).await?;
    let (digest, rot_found) = {
        let world = world.lock();
        (world.digest(), world.rot_found)
    };
    let recorder = world.lock().recorder.clone();
    let history = recorder.finish();
    history.check().map_err(|e| {
        if std::env::var("KETCH_SIM_VERBOSE").is_ok() {
            history.operations().iter().for_each(|operation| println!("{operation:?}"));
        }
        e.to_string()
    })?;
    let upto = seen_upto(&seen).min(last);
    check_watch(&history, &KeyRange::prefix("k"), Revision(1), Some(upto), &seen)
        .map_err(|e| e.to_string())?;
    let mut whole = Digest::default();
    whole.add_number(digest);
    whole.add(format!("{:?} {seen:?} {last}", history.operations()).as_bytes());
    let (done, refused, unknown) = history.counts();
    let text = format!(
        "{count} members, {events}; {done} done, {refused} refused, {unknown} unknown; {rot_found} rots found; \
         back after {healed:?}"
    );
    Ok(Done { text, back: healed, rot_found, digest: whole.get() })
}

fn seen_upto(seen: &[Seen]) -> Revision {
    let last = seen.iter().rev().find_map(|message| match message {
        Seen::Events(events) => events.last().map(|event| event.revision),
        Seen::Progress(revision) => Some(*revision),
    });
    last.unwrap_or(Revision(1))
}

/// Where other members reach a member.
pub fn url(id: u64) -> String {
    format!("http://m{id}:1")
}

impl World {
    fn new(random: &mut Random, count: u64, draw: Draw, flaw: Option<Flaw>) -> Self {
        let network = Network::new(Random::from_seed(random.next_u64()));
        match flaw {
            Some(Flaw::EarlyAck) => network.plant(Lie::Appended),
            Some(Flaw::StaleRead) => network.plant(Lie::Current),
            _ => {}
        }
        let node = |id| (id, MemberNode { peer_urls: vec![url(id)], ..MemberNode::default() });
        let nodes: Vec<(u64, MemberNode)> = (1..=count).map(|n| node(n * 100)).collect();
        let sizes = Sizes {
            snapshot_entries: [30, 100, 300, 5000][random.below(4) as usize],
            keep_entries: [5, 50, 200][random.below(3) as usize],
            segment_bytes: [16, 64, 1024][random.below(3) as usize] * 1024,
            cache_bytes: match draw {
                Draw::Plain => Sizes::default().cache_bytes,
                Draw::Rot => [0, 2000, 20_000][random.below(3) as usize],
            },
        };
        let mut world = Self {
            random: Random::from_seed(random.next_u64()),
            network,
            began: Instant::now(),
            members: Vec::new(),
            recorder: Arc::new(Recorder::new()),
            serial: 0,
            sizes,
            flaw,
            draw,
            rot_found: 0,
            watched: Revision(0),
            added: Vec::new(),
            removed: Vec::new(),
            calm: false,
        };
        for (id, _) in &nodes {
            world.enter(*id, Begin::Together { cluster_id: CLUSTER, member_id: *id, members: nodes.clone() });
        }
        world
    }

    fn enter(&mut self, id: u64, begin: Begin) {
        let disk = SimDisk::new();
        disk.leave_garbage();
        let (jump_ms, slow_us) = (Arc::default(), Arc::default());
        let (sick, unsynced, rotten, rotten_values, lost) = (false, false, false, false, false);
        let member = Member {
            id,
            disk,
            running: None,
            begin,
            jump_ms,
            slow_us,
            sick,
            unsynced,
            rotten,
            rotten_values,
            lost,
            kills: 0,
        };
        member.disk.set_fault(self.usual_fault());
        self.members.push(member);
    }

    /// What is wrong with every disk when nothing is.
    pub fn usual_fault(&self) -> SimFault {
        if self.flaw == Some(Flaw::SyncDropped) { SimFault::SyncLies } else { SimFault::None }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.id).collect()
    }

    pub fn member(&mut self, id: u64) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    pub fn handle(&mut self, id: u64) -> Option<Handle> {
        Some(self.member(id)?.running.as_ref()?.handle.clone())
    }

    /// Some running member, and the token that says when it is no more.
    pub fn pick(&mut self) -> Option<(Handle, CancellationToken)> {
        let running: Vec<_> = self.members.iter().filter_map(|member| member.running.as_ref()).collect();
        let at = self.random.below(running.len() as u64) as usize;
        running.get(at).map(|running| (running.handle.clone(), running.killed.clone()))
    }

    fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        digest.add_number(self.network.digest());
        self.members.iter().for_each(|member| digest.add_number(member.disk.digest()));
        digest.get()
    }

    fn options(&mut self, id: u64) -> Option<(Options, ClusterOptions)> {
        let (network, sizes, began) = (self.network.clone(), self.sizes, self.began);
        let (random, mut chance) =
            (Random::from_seed(self.random.next_u64()), Random::from_seed(self.random.next_u64()));
        let member = self.member(id)?;
        let slow_us = member.slow_us.clone();
        let chance = Mutex::new(std::mem::replace(&mut chance, Random::from_seed(0)));
        let takes = move || {
            let usual = chance.lock().below(WORK_US);
            Duration::from_micros(usual + slow_us.load(Ordering::Relaxed))
        };
        let plug = move |_, me, door: Arc<dyn transport::Handler>| network.plug(me, door);
        let network = NetworkOptions::Given(Box::new(plug));
        let cluster = ClusterOptions {
            sizes,
            hands: Hands::Inline(Arc::new(takes)),
            ..ClusterOptions::new(format!("m{id}"), url(id), member.begin.clone(), network)
        };
        let options = Options {
            clock: Arc::new(SimTime { began, jump_ms: member.jump_ms.clone() }),
            disk: member.disk.shared(),
            random,
            cache_bytes: 1 << 20,
            value_segment_bytes: 4096,
            ..Options::new("/data")
        };
        Some((options, cluster))
    }
}

/// Starts a member that does not run.
pub async fn start(shared: &Shared, id: u64) -> Result<(), String> {
    let idle = shared.lock().member(id).filter(|m| m.running.is_none() && !m.lost).map(|member| member.kills);
    let Some(kills) = idle else { return Ok(()) };
    let Some((options, cluster)) = shared.lock().options(id) else { return Ok(()) };
    let tasks = Tasks::new();
    let started = Service::start_member(options, cluster, &tasks).await;
    let mut world = shared.lock();
    let usual = world.usual_fault();
    // A short write is over once it was made.
    let well = |m: &mut Member| m.kills == kills && m.disk.fault() == usual && !m.sick && !m.unsynced;
    let well = world.member(id).is_some_and(well);
    let now = world.member(id).map_or(u64::MAX, |member| member.kills);
    match started {
        Ok(handle) if now == kills => {
            let running = Running { handle, tasks, killed: CancellationToken::new() };
            if let Some(member) = world.member(id) {
                member.running = Some(running.clone());
                // All that it goes by was read: what has changed is no part of it.
                member.rotten &= member.rotten_values;
            }
            Ok(())
        }
        // Killed while it started.
        Ok(handle) => {
            world.network.unplug(id);
            bury(Running { handle, tasks, killed: CancellationToken::new() });
            Ok(())
        }
        Err(error) if well && world.member(id).is_some_and(|member| member.rotten) => {
            world.network.unplug(id);
            if !matches!(error, store::Error::Corrupt { .. } | store::Error::NewerFormat { .. }) {
                return Err(format!("member {id} tells of what rots as if it were something else: {error}"));
            }
            world.rot_found += 1;
            world.member(id).into_iter().for_each(|member| member.lost = true);
            drop(world);
            faults::change(shared, id, false);
            Ok(())
        }
        Err(error) if well => Err(format!("member {id} does not start: {error}")),
        Err(_) => {
            world.network.unplug(id);
            world.member(id).into_iter().for_each(|member| member.sick = !member.rotten);
            Ok(())
        }
    }
}

/// What is left of a killed member runs on a disk without power and no network until it notices.
fn bury(running: Running) {
    running.killed.cancel();
    tokio::spawn(async move {
        running.handle.close().await;
        running.tasks.shutdown(Duration::from_secs(30)).await;
    });
}

/// As `kill -9`, and with `power` as a power failure.
pub fn kill(world: &Shared, id: u64, power: bool) {
    let mut world = world.lock();
    let usual = world.usual_fault();
    world.network.unplug(id);
    let mut random = Random::from_seed(world.random.next_u64());
    let Some(member) = world.member(id) else { return };
    // After a failed sync only the disk itself says what is on it. One fault at a time where something rots: what rots and
    // what is lost at once is no longer told from what was never written.
    let survived = if (power && !member.rotten) || member.sick {
        member.disk.crash(&mut random)
    } else {
        member.disk.survive()
    };
    member.disk.set_fault(SimFault::PowerOffAfter(0));
    survived.set_fault(usual);
    member.disk = survived;
    (member.sick, member.unsynced) = (false, false);
    member.slow_us.store(0, Ordering::Relaxed);
    member.kills += 1;
    member.running.take().into_iter().for_each(bury);
}

/// Stops a member in good order; when that takes too long, or its disk failed, it is killed.
pub async fn stop(world: &Shared, id: u64) {
    if world.lock().member(id).is_some_and(|member| member.needs_restart()) {
        return kill(world, id, true);
    }
    let running = world.lock().member(id).and_then(|member| member.running.take());
    let Some(Running { handle, tasks, killed }) = running else { return };
    let closed = tokio::time::timeout(Duration::from_secs(3), handle.close()).await.is_ok();
    let ended = tasks.shutdown(Duration::from_secs(3)).await;
    killed.cancel();
    if closed && ended {
        world.lock().network.unplug(id);
    } else {
        kill(world, id, false);
    }
}

/// Starts all that do not run.
pub async fn restart(world: &Shared) -> Result<(), String> {
    let ids = world.lock().ids();
    for id in ids {
        start(world, id).await?;
    }
    Ok(())
}

/// Takes over who was added and removed since the last time.
pub async fn follow_changes(world: &Shared) -> Result<(), String> {
    let (added, removed) = {
        let mut world = world.lock();
        (std::mem::take(&mut world.added), std::mem::take(&mut world.removed))
    };
    for id in added {
        world.lock().enter(id, Begin::Join { cluster_id: CLUSTER, member_id: id });
        start(world, id).await?;
    }
    for id in removed {
        kill(world, id, false);
        world.lock().members.retain(|member| member.id != id);
    }
    Ok(())
}

/// Ends the trouble; how long it takes until a write is acknowledged.
async fn heal(world: &Shared) -> Result<Duration, String> {
    {
        let mut world = world.lock();
        world.calm = true;
        world.network.end_trouble();
        let usual = world.usual_fault();
        for member in &world.members {
            member.disk.set_fault(usual);
            member.slow_us.store(0, Ordering::Relaxed);
        }
    }
    follow_changes(world).await?;
    let sick: Vec<u64> = world.lock().members.iter().filter(|m| m.needs_restart()).map(|m| m.id).collect();
    for id in sick {
        kill(world, id, true);
    }
    restart(world).await?;
    search_values(world).await;
    world.lock().members.retain(|member| !member.lost);
    let back = Timing::default().election_timeout() * BACK_TIMEOUTS;
    let began = Instant::now();
    loop {
        // All are asked: a member that was removed and has not heard of it answers nothing.
        let handles: Vec<_> = world.lock().members.iter().filter_map(Member::handle).collect();
        if handles.is_empty() {
            return Err("nobody runs".into());
        }
        let asked = handles.iter().map(|handle| async move {
            let txn = Txn { success: vec![Op::put("healed", "yes")], ..Txn::default() };
            let answer = tokio::time::timeout(ATTEMPT, handle.txn(txn)).await;
            if !matches!(answer, Ok(Ok(_))) {
                std::future::pending::<()>().await;
            }
        });
        let first = futures::future::select_all(asked.map(Box::pin));
        if tokio::time::timeout(ATTEMPT, first).await.is_ok() {
            let took = began.elapsed();
            return if took <= back { Ok(took) } else { Err(format!("only back after {took:?}")) };
        }
        if began.elapsed() > SETTLE {
            return Err("no write is acknowledged after the trouble".into());
        }
    }
}

/// Members with a rotten value find it, or it is one of the past that nothing points to any more.
async fn search_values(world: &Shared) {
    let ids = world.lock().ids();
    for id in ids {
        let handle = world.lock().member(id).filter(|m| m.rotten && m.rotten_values).and_then(|m| m.handle());
        let Some(handle) = handle else { continue };
        let hash = handle.history_hash(Revision(0)).await;
        let sound = hash.is_ok() && handle.status().is_ok_and(|status| status.errors.is_empty());
        if !sound {
            kill(world, id, false);
        }
        let mut world = world.lock();
        world.rot_found += u32::from(!sound);
        if let Some(member) = world.member(id) {
            (member.rotten, member.rotten_values, member.lost) = (false, false, !sound);
        }
    }
}

impl Member {
    pub fn handle(&self) -> Option<Handle> {
        self.running.as_ref().map(|running| running.handle.clone())
    }

    /// Whether it runs on a disk that nothing is known to be wrong with.
    pub fn is_well(&self) -> bool {
        self.running.is_some() && !self.needs_restart() && self.disk.fault() == SimFault::None
    }

    fn needs_restart(&self) -> bool {
        let fenced = |running: &Running| running.handle.status().map_or(true, |s| !s.errors.is_empty());
        self.sick || self.unsynced || self.rotten || self.running.as_ref().is_some_and(fenced)
    }
}

/// The members as the cluster has them now.
async fn members(world: &Shared) -> Result<Vec<MemberInfo>, String> {
    let began = Instant::now();
    loop {
        let picked = world.lock().pick();
        if let Some((handle, _)) = picked
            && handle.read_barrier().await.is_ok()
        {
            return Ok(handle.members());
        }
        if began.elapsed() > SETTLE {
            return Err("nobody says who the members are".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Changes whose outcome nobody heard of: members that are none any more go, and those that never began are removed.
async fn reconcile(world: &Shared) -> Result<(), String> {
    let began = Instant::now();
    loop {
        follow_changes(world).await?;
        let members = members(world).await?;
        let ids = world.lock().ids();
        for gone in ids.iter().filter(|id| !members.iter().any(|member| member.id == **id)) {
            kill(world, *gone, false);
            world.lock().members.retain(|member| member.id != *gone);
        }
        let Some(ghost) = members.iter().find(|member| !ids.contains(&member.id)) else { return Ok(()) };
        let picked = world.lock().pick();
        if let Some((handle, _)) = picked {
            // Tried again until the list says so.
            let _ = tokio::time::timeout(CLIENT_PATIENCE, handle.remove_member(ghost.id)).await;
        }
        if began.elapsed() > SETTLE {
            return Err(format!("member {} is not removed", ghost.id));
        }
    }
}

/// Waits until all have applied the same; the revision.
async fn agree(world: &Shared) -> Result<Revision, String> {
    let began = Instant::now();
    loop {
        // A removal that nobody was told of may come to pass late: who is gone gets no more entries.
        reconcile(world).await?;
        let handles: Vec<_> = world.lock().members.iter().filter_map(Member::handle).collect();
        if handles.len() != world.lock().members.len() {
            return Err("somebody does not run".into());
        }
        let mut states = Vec::new();
        for handle in &handles {
            let hash = handle.history_hash(Revision(0)).await.map_err(|e| e.to_string())?;
            states.push((handle.revision(), hash));
        }
        if states.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(states[0].0);
        }
        if began.elapsed() > SETTLE {
            return Err(format!("the members do not agree: {states:?}\n{}", differences(&handles).await));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What each member holds, for people.
async fn differences(handles: &[Handle]) -> String {
    let mut out = String::new();
    for handle in handles {
        let status = handle.status();
        let applied = status.as_ref().map(|s| (s.raft_index, s.raft_applied_index, s.raft_term, s.leader));
        out += &format!("member {}: {applied:?}", handle.header().member_id);
        for revision in 1..=handle.revision().get() {
            for n in 0..KEYS {
                let key = format!("k{n}");
                let request = RangeRequest {
                    serializable: true,
                    revision: Some(Revision(revision)),
                    ..RangeRequest::key(key.clone())
                };
                let found = handle.range(request).await.ok().and_then(|mut read| read.kvs.pop());
                if let Some(kv) = found.filter(|kv| kv.mod_revision.get() == revision) {
                    let value = String::from_utf8_lossy(&kv.value).into_owned();
                    out += &format!(" {revision}:{key}={}v{}", value.trim_end_matches('x'), kv.version);
                }
            }
        }
        out += "\n";
    }
    out
}

/// Reads every key from every member: what was acknowledged must be there.
async fn read_all(world: &Shared) -> Result<(), String> {
    let ids = world.lock().ids();
    let recorder = world.lock().recorder.clone();
    for id in ids {
        let handle = world.lock().handle(id).ok_or("somebody does not run")?;
        for n in 0..KEYS {
            let call = Call::Get { key: Bytes::from(format!("k{n}")) };
            let asked = recorder.call(CLIENTS, call.clone());
            let reply = perform(&handle, call).await;
            recorder.reply(asked, reply.ok_or("a read is not answered")?);
        }
        let healed = match handle.range(RangeRequest::key("healed")).await {
            Ok(healed) => healed,
            Err(error) => {
                // A removal that nobody was told of may come to pass at any time.
                reconcile(world).await?;
                if world.lock().ids().contains(&id) {
                    return Err(error.to_string());
                }
                continue;
            }
        };
        if healed.kvs.is_empty() {
            return Err(format!("member {id} has lost an acknowledged write"));
        }
    }
    Ok(())
}
