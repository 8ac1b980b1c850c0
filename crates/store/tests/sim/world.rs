//! Members of one cluster in one thread and simulated time, what happens to them, and what must hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use base::clock::Clock;
use base::random::Random;
use base::task::Tasks;
use bytes::Bytes;
use store::raft::{Begin, ClusterOptions, MemberNode, NetworkOptions, Timing};
use store::{Handle, Options, Service};
use store_api::{
    Compare, CompareResult, CompareTarget, KeyRange, Op, OpResponse, RangeRequest, Revision, Store, Txn,
    WatchMessage, WatchRequest,
};
use testkit::history::{Call, Found, Recorder, Reply, Seen, SeenEvent, check_watch};
use testkit::sim::{SimDisk, SimFault};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::network::Network;

/// Keys written: few, so that clients meet.
const KEYS: u64 = 5;
const CLIENTS: u32 = 4;
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(12);
/// A client gives a request up after this.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
/// A write is acknowledged within this after the trouble: two election timeouts, and one for members that have just
/// started and give no vote yet.
const BACK: Duration = Duration::from_millis(1200);
/// All the members must agree within this after the trouble.
const SETTLE: Duration = Duration::from_secs(60);

/// Simulated time, whose wall clock jumps.
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

struct Running {
    handle: Handle,
    tasks: Tasks,
    /// Cancelled when it is killed: what it says afterwards nobody hears.
    killed: CancellationToken,
}

struct Member {
    id: u64,
    disk: SimDisk,
    running: Option<Running>,
    /// Removed members stay away.
    begin: Begin,
}

pub struct World {
    random: Random,
    network: Network,
    time: SimTime,
    members: Vec<Member>,
    recorder: Arc<Recorder>,
    serial: u64,
}

type Shared = Arc<tokio::sync::Mutex<World>>;

/// One run.
///
/// # Errors
/// What did not hold.
pub async fn run(seed: u64) -> Result<String, String> {
    let mut random = Random::from_seed(seed);
    store::raft::seed_chance(random.next_u64());
    let count = if random.below(3) == 0 { 5 } else { 3 };
    let world = World::new(&mut random, count).await?;
    let recorder = world.recorder.clone();
    let world: Shared = Arc::new(tokio::sync::Mutex::new(world));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (world, over) = (world.clone(), over.clone());
            let random = Random::from_seed(random.next_u64());
            tokio::spawn(client(world, n, random, over))
        })
        .collect();
    let watching = tokio::spawn(watcher(world.clone(), over.clone()));
    let events = trouble(&world, &mut random).await;
    let healed = heal(&world).await?;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.map_err(|e| e.to_string())?;
    }
    let last = agree(&world).await?;
    let seen = tokio::time::timeout(SETTLE, watching).await.map_err(|_| "the watch does not end")?;
    let seen = seen.map_err(|e| e.to_string())?;
    let history = recorder.finish();
    history.check().map_err(|e| e.to_string())?;
    let all = KeyRange::prefix("k");
    let upto = seen_upto(&seen).min(last);
    check_watch(&history, &all, Revision(1), Some(upto), &seen).map_err(|e| e.to_string())?;
    let (done, refused, unknown) = history.counts();
    Ok(format!(
        "{count} members, {events}; {done} done, {refused} refused, {unknown} unknown; back after {healed:?}"
    ))
}

fn seen_upto(seen: &[Seen]) -> Revision {
    let last = seen.iter().rev().find_map(|message| match message {
        Seen::Events(events) => events.last().map(|event| event.revision),
        Seen::Progress(revision) => Some(*revision),
    });
    last.unwrap_or(Revision(1))
}

impl World {
    async fn new(random: &mut Random, count: u64) -> Result<Self, String> {
        let time = SimTime { began: Instant::now(), jump_ms: Arc::default() };
        let network = Network::new(Random::from_seed(random.next_u64()));
        let nodes: Vec<(u64, MemberNode)> = (1..=count)
            .map(|id| {
                (id * 100, MemberNode { peer_urls: vec![format!("http://m{id}:1")], ..MemberNode::default() })
            })
            .collect();
        let members = nodes
            .iter()
            .map(|(id, _)| {
                let begin = Begin::Together { cluster_id: 9, member_id: *id, members: nodes.clone() };
                Member { id: *id, disk: SimDisk::new(), running: None, begin }
            })
            .collect();
        let random = Random::from_seed(random.next_u64());
        let recorder = Arc::new(Recorder::new());
        let mut world = Self { random, network, time, members, recorder, serial: 0 };
        for at in 0..world.members.len() {
            world.start(at).await?;
        }
        Ok(world)
    }

    async fn start(&mut self, at: usize) -> Result<(), String> {
        let member = &mut self.members[at];
        let (network, tasks) = (self.network.clone(), Tasks::new());
        let cluster = ClusterOptions {
            name: format!("m{}", member.id),
            peer_urls: vec![format!("http://m{}:1", member.id)],
            client_urls: Vec::new(),
            begin: member.begin.clone(),
            timing: Timing::default(),
            network: NetworkOptions::Given(Box::new(move |_, me, door| network.plug(me, door))),
            single_threaded: true,
        };
        let options = Options {
            clock: Arc::new(self.time.clone()),
            disk: member.disk.shared(),
            random: Random::from_seed(self.random.next_u64()),
            cache_bytes: 1 << 20,
            ..Options::new("/data")
        };
        match Service::start_member(options, cluster, &tasks).await {
            Ok(handle) => {
                member.running = Some(Running { handle, tasks, killed: CancellationToken::new() });
                Ok(())
            }
            Err(error) => Err(format!("member {} does not start: {error}", member.id)),
        }
    }

    /// As `kill -9` and a power failure would.
    async fn kill(&mut self, at: usize) {
        let member = &mut self.members[at];
        self.network.unplug(member.id);
        member.disk.set_fault(SimFault::PowerOffAfter(0));
        let survived = member.disk.crash(&mut self.random);
        member.disk = survived;
        let Some(running) = member.running.take() else { return };
        running.killed.cancel();
        // What is left of it runs on a disk without power and no network until it notices.
        tokio::spawn(async move {
            running.handle.close().await;
            running.tasks.shutdown(Duration::from_secs(30)).await;
        });
    }

    /// Some running member, and the token that says when it is no more.
    fn pick(&mut self) -> Option<(Handle, CancellationToken)> {
        let running: Vec<_> = self.members.iter().filter_map(|member| member.running.as_ref()).collect();
        let at = self.random.below(running.len() as u64) as usize;
        running.get(at).map(|running| (running.handle.clone(), running.killed.clone()))
    }
}

/// Asks for things, one after the other, and writes down what was answered.
async fn client(world: Shared, n: u32, mut random: Random, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5 + random.below(120))).await;
        let (picked, recorder, serial) = {
            let mut world = world.lock().await;
            world.serial += 1;
            (world.pick(), world.recorder.clone(), world.serial)
        };
        let Some((handle, killed)) = picked else { continue };
        let key = Bytes::from(format!("k{}", random.below(KEYS)));
        let value = Bytes::from(format!("{serial}{}", "x".repeat(random.below(300) as usize)));
        let call = match random.below(8) {
            0..=2 => Call::Get { key },
            3..=5 => Call::Put { key, value },
            6 => Call::Delete { key },
            _ => {
                let expect = found(&handle, &key).await.map_or(Revision(0), |found| found.mod_revision);
                Call::Cas { key, expect, value }
            }
        };
        let id = recorder.call(n, call.clone());
        let answered = tokio::select! {
            answered = tokio::time::timeout(CLIENT_PATIENCE, perform(&handle, call)) => answered.ok().flatten(),
            () = killed.cancelled() => None,
        };
        if let Some(reply) = answered {
            recorder.reply(id, reply);
        }
    }
}

/// What the member itself has; only to have something to expect.
async fn found(handle: &Handle, key: &Bytes) -> Option<Found> {
    let request = RangeRequest { serializable: true, ..RangeRequest::key(key.clone()) };
    let kv = handle.range(request).await.ok()?.kvs.pop()?;
    Some(Found { value: kv.value, mod_revision: kv.mod_revision })
}

/// The answer; None when it is unknown what happened.
async fn perform(handle: &Handle, call: Call) -> Option<Reply> {
    let shown = |kv: store_api::KeyValue| Found { value: kv.value, mod_revision: kv.mod_revision };
    match call {
        Call::Get { key } => {
            // A read that fails has no effect.
            let Ok(mut read) = handle.range(RangeRequest::key(key)).await else { return Some(Reply::Failed) };
            Some(Reply::Get { revision: read.revision, found: read.kvs.pop().map(shown) })
        }
        Call::Put { key, value } => {
            let done = handle.txn(Txn { success: vec![Op::put(key, value)], ..Txn::default() }).await.ok()?;
            Some(Reply::Put { revision: done.revision })
        }
        Call::Delete { key } => {
            let op = Op::DeleteRange { range: KeyRange::One(key), prev_kv: true };
            let mut done = handle.txn(Txn { success: vec![op], ..Txn::default() }).await.ok()?;
            let Some(OpResponse::DeleteRange { mut prev_kvs, .. }) = done.responses.pop() else {
                return None;
            };
            Some(Reply::Delete { revision: done.revision, previous: prev_kvs.pop().map(shown) })
        }
        Call::Cas { key, expect, value } => {
            let compare = Compare {
                range: KeyRange::One(key.clone()),
                target: CompareTarget::ModRevision(expect),
                result: CompareResult::Equal,
            };
            let failure = vec![Op::Range(RangeRequest::key(key.clone()))];
            let txn = Txn { compare: vec![compare], success: vec![Op::put(key, value)], failure };
            let mut done = handle.txn(txn).await.ok()?;
            let outcome = match done.responses.pop() {
                _ if done.succeeded => Ok(()),
                Some(OpResponse::Range(mut read)) => Err(read.kvs.pop().map(shown)),
                _ => return None,
            };
            Some(Reply::Cas { revision: done.revision, outcome })
        }
    }
}

/// Watches all keys from the first revision on, at another member whenever one is gone.
async fn watcher(world: Shared, over: Arc<AtomicBool>) -> Vec<Seen> {
    let (mut seen, mut next) = (Vec::new(), Revision(1));
    loop {
        let picked = world.lock().await.pick();
        let ending = over.load(Ordering::Relaxed);
        let Some((handle, killed)) = picked else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let request =
            WatchRequest { range: KeyRange::prefix("k"), start_revision: Some(next), prev_kv: false };
        let Ok(mut watch) = handle.watch(request).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        loop {
            let message = tokio::select! {
                message = tokio::time::timeout(Duration::from_millis(400), watch.messages.recv()) => message,
                () = killed.cancelled() => break,
            };
            match message {
                Ok(Some(WatchMessage::Events { revision, events })) => {
                    next = revision.next();
                    seen.push(Seen::Events(events.into_iter().map(event).collect()));
                }
                Ok(Some(WatchMessage::Progress { .. })) => {}
                // Quiet for long: another member is as good, and the end is noticed.
                Err(_) if ending => return seen,
                Ok(Some(WatchMessage::Cancelled { .. }) | None) | Err(_) => break,
            }
        }
    }
}

fn event(event: store_api::Event) -> SeenEvent {
    let value = (event.kind == store_api::EventKind::Put).then_some(event.kv.value);
    SeenEvent { key: event.kv.key, value, revision: event.kv.mod_revision }
}

/// Lets things go wrong for a while; what did.
async fn trouble(world: &Shared, random: &mut Random) -> String {
    let began = Instant::now();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    while began.elapsed() < TROUBLE {
        tokio::time::sleep(Duration::from_millis(100 + random.below(900))).await;
        let what = disturb(&mut *world.lock().await, random).await;
        *counts.entry(what).or_default() += 1;
    }
    counts.into_iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
}

async fn disturb(world: &mut World, random: &mut Random) -> &'static str {
    let count = world.members.len() as u64;
    let at = random.below(count) as usize;
    let id = world.members[at].id;
    match random.below(9) {
        0 | 1 => {
            world.kill(at).await;
            "kills"
        }
        2 => {
            // The power goes in the middle of something that is still to come.
            let calls = random.below(40);
            world.members[at].disk.set_fault(SimFault::PowerOffAfter(calls));
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.kill(at).await;
            "power failures"
        }
        3 => {
            for other in world.members.iter().map(|member| member.id) {
                world.network.cut(id, other);
                world.network.cut(other, id);
            }
            "isolations"
        }
        4 => {
            let to = world.members[random.below(count) as usize].id;
            world.network.cut(id, to);
            "one-way cuts"
        }
        5 => {
            let jump = random.below(7_200_000) as i64 - 3_600_000;
            world.time.jump_ms.store(jump, Ordering::Relaxed);
            "clock jumps"
        }
        6 => {
            if let Some(running) = &world.members[at].running {
                let to = world.members[random.below(count) as usize].id;
                let handle = running.handle.clone();
                tokio::spawn(async move { drop(handle.move_leader(to).await) });
            }
            "moves of the leader"
        }
        7 => {
            world.network.heal();
            "heals"
        }
        _ => {
            restart(world).await;
            "restarts"
        }
    }
}

async fn restart(world: &mut World) {
    for at in 0..world.members.len() {
        if world.members[at].running.is_none()
            && let Err(error) = world.start(at).await
        {
            panic!("{error}");
        }
    }
}

/// Ends the trouble; how long it takes until a write is acknowledged.
async fn heal(world: &Shared) -> Result<Duration, String> {
    let began = {
        let mut world = world.lock().await;
        world.network.heal();
        for at in 0..world.members.len() {
            if world.members[at].disk_is_dead() {
                world.kill(at).await;
            }
        }
        restart(&mut world).await;
        Instant::now()
    };
    loop {
        let picked = world.lock().await.pick();
        let Some((handle, _)) = picked else { return Err("nobody runs".into()) };
        let txn = Txn { success: vec![Op::put("healed", "yes")], ..Txn::default() };
        if let Ok(Ok(_)) = tokio::time::timeout(CLIENT_PATIENCE, handle.txn(txn)).await {
            let took = began.elapsed();
            return if took <= BACK { Ok(took) } else { Err(format!("only back after {took:?}")) };
        }
        if began.elapsed() > SETTLE {
            return Err("no write is acknowledged after the trouble".into());
        }
    }
}

impl Member {
    fn disk_is_dead(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.handle.status().map_or(true, |s| !s.errors.is_empty()))
    }
}

/// Waits until all have applied the same; the revision.
async fn agree(world: &Shared) -> Result<Revision, String> {
    let began = Instant::now();
    let world = world.lock().await;
    let handles: Vec<_> =
        world.members.iter().filter_map(|m| Some(m.running.as_ref()?.handle.clone())).collect();
    if handles.len() != world.members.len() {
        return Err("somebody does not run".into());
    }
    loop {
        let mut states = Vec::new();
        for handle in &handles {
            let all = KeyRange::Span { start: Bytes::from_static(b"\0"), end: Bytes::new() };
            let request = RangeRequest { serializable: true, ..RangeRequest::of(all) };
            let read = handle.range(request).await.map_err(|e| e.to_string())?;
            states.push((read.revision, read.kvs));
        }
        if states.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(states[0].0);
        }
        if began.elapsed() > SETTLE {
            let revisions: Vec<_> = states.iter().map(|(revision, _)| *revision).collect();
            return Err(format!("the members do not agree: {revisions:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
