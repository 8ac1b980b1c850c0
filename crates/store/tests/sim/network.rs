//! A network in memory: it delays, loses and cuts, by seed. Lanes overtake each other, and answers do.
//!
//! What it cannot produce: requests of one lane out of order (a transport must not, see `transport::Transport`), messages
//! torn or changed, or delivered twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base::random::Random;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use store::raft::transport::{Handler, Lane, Transport};
use testkit::sim::Digest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How long a message into the void is waited for: the caller's patience ends before.
const VOID: Duration = Duration::from_secs(3);

#[derive(Default)]
struct State {
    random: Option<Random>,
    /// The running members' doors, and which run of each.
    doors: BTreeMap<u64, (u64, Arc<dyn Handler>)>,
    /// Messages from the first to the second are lost.
    cut: BTreeSet<(u64, u64)>,
    delay_max_us: u64,
    /// What a message may take longer for now.
    jam_us: u64,
    loss_percent: u64,
    links: BTreeMap<(u64, u64, u8), mpsc::UnboundedSender<Carried>>,
    runs: u64,
    lie: Option<Lie>,
    began: Option<Instant>,
    digest: Digest,
}

/// What members are told that is not so: planted, to see that a run notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// A follower has entries that it never got.
    Appended,
    /// A read may be served from what the member has, whatever that is.
    Current,
}

/// Kinds of requests and an answer's bytes, as `store::raft`'s `wire` and `error` draw them.
const APPEND: u8 = 1;
const READ_INDEX: u8 = 9;
const DONE: u8 = 0;

/// The network. Clones are the same.
#[derive(Clone, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

impl Network {
    pub fn new(mut random: Random) -> Self {
        let network = Self::default();
        {
            let mut state = network.state.lock();
            state.delay_max_us = 200 + random.below(8000);
            state.loss_percent = [0, 0, 1, 5][random.below(4) as usize];
            state.random = Some(random);
            state.began = Some(Instant::now());
        }
        network
    }

    /// A member begins to run; its transport.
    pub fn plug(&self, me: u64, door: Arc<dyn Handler>) -> Arc<dyn Transport> {
        let mut state = self.state.lock();
        state.runs += 1;
        let run = state.runs;
        state.doors.insert(me, (run, door));
        Arc::new(Wire { me, run, network: self.clone() })
    }

    /// A member is gone: nothing reaches it and nothing comes from it.
    pub fn unplug(&self, me: u64) {
        self.state.lock().doors.remove(&me);
    }

    pub fn cut(&self, from: u64, to: u64) {
        self.state.lock().cut.insert((from, to));
    }

    pub fn mend(&self, from: u64, to: u64) {
        self.state.lock().cut.remove(&(from, to));
    }

    /// Messages take up to so much longer from now on.
    pub fn jam(&self, longer: Duration) {
        self.state.lock().jam_us = longer.as_micros() as u64;
    }

    pub fn plant(&self, lie: Lie) {
        self.state.lock().lie = Some(lie);
    }

    /// What all messages so far come to.
    pub fn digest(&self) -> u64 {
        self.state.lock().digest.get()
    }

    /// What a member answers instead of being asked.
    fn lie(&self, request: &Bytes) -> Option<Bytes> {
        let mut state = self.state.lock();
        match (state.lie?, request.first()) {
            // Messages with entries are longer than heartbeats.
            (Lie::Appended, Some(&APPEND)) if request.len() > 120 => {
                let now = state.random.as_mut().is_some_and(|random| random.below(3) == 0);
                now.then(|| Bytes::from_static(&[DONE, 0]))
            }
            (Lie::Current, Some(&READ_INDEX)) => Some(Bytes::from_static(&[DONE; 9])),
            _ => None,
        }
    }

    fn note(&self, from: u64, to: u64, what: u8, bytes: &[u8]) {
        let mut state = self.state.lock();
        let at = state.began.map_or(0, |began| began.elapsed().as_micros() as u64);
        let digest = &mut state.digest;
        [at, from, to, u64::from(what)].into_iter().for_each(|number| digest.add_number(number));
        digest.add(bytes);
    }

    /// Nothing is lost any more.
    pub fn end_trouble(&self) {
        self.heal();
        self.state.lock().loss_percent = 0;
    }

    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.cut.clear();
        state.jam_us = 0;
    }

    /// When a message that is sent now arrives; None when it does not.
    fn arrival(&self, from: (u64, u64), to: u64) -> Option<Instant> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let runs = state.doors.get(&from.0).is_some_and(|(run, _)| *run == from.1);
        let random = state.random.as_mut().expect("made with one");
        let lost = random.below(100) < state.loss_percent;
        let longer = random.below(state.jam_us);
        let at = Instant::now() + Duration::from_micros(20 + random.below(state.delay_max_us) + longer);
        (runs && !lost && !state.cut.contains(&(from.0, to))).then_some(at)
    }

    fn door(&self, of: u64) -> Option<(u64, Arc<dyn Handler>)> {
        self.state.lock().doors.get(&of).cloned()
    }
}

/// A request on its way, and where its answer goes.
struct Carried {
    from: (u64, u64),
    arrival: Option<Instant>,
    request: Bytes,
    tell: oneshot::Sender<io::Result<Bytes>>,
}

struct Wire {
    me: u64,
    run: u64,
    network: Network,
}

impl Transport for Wire {
    fn call(
        &self,
        target: u64,
        _urls: &[String],
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, io::Result<Bytes>> {
        let from = (self.me, self.run);
        let (tell, told) = oneshot::channel();
        let carried = Carried { from, arrival: self.network.arrival(from, target), request, tell };
        let network = self.network.clone();
        self.network.note(self.me, target, lane as u8, &carried.request);
        let mut state = self.network.state.lock();
        let link = state.links.entry((self.me, target, lane as u8)).or_insert_with(|| {
            let (send, queue) = mpsc::unbounded_channel();
            tokio::spawn(carry(network, target, queue));
            send
        });
        let _ = link.send(carried);
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionReset.into())) })
    }
}

/// Carries the requests of one lane, in order.
async fn carry(network: Network, target: u64, mut queue: mpsc::UnboundedReceiver<Carried>) {
    while let Some(Carried { from, arrival, request, tell }) = queue.recv().await {
        let Some(arrival) = arrival else {
            tokio::spawn(vanish(tell));
            continue;
        };
        tokio::time::sleep_until(arrival).await;
        let Some((run, door)) = network.door(target) else {
            let _ = tell.send(Err(io::ErrorKind::ConnectionRefused.into()));
            continue;
        };
        let lie = network.lie(&request);
        let answer = match lie {
            Some(lie) => Box::pin(std::future::ready(lie)),
            None => door.handle(from.0, request),
        };
        let network = network.clone();
        tokio::spawn(async move {
            let answer = answer.await;
            network.note(target, from.0, 100, &answer);
            let Some(back) = network.arrival((target, run), from.0) else { return vanish(tell).await };
            tokio::time::sleep_until(back).await;
            let still = network.door(from.0).is_some_and(|(run, _)| run == from.1);
            let _ = tell.send(if still { Ok(answer) } else { Err(io::ErrorKind::ConnectionReset.into()) });
        });
    }
}

async fn vanish(tell: oneshot::Sender<io::Result<Bytes>>) {
    tokio::time::sleep(VOID).await;
    let _ = tell.send(Err(io::ErrorKind::TimedOut.into()));
}
