//! Watches: who is up to date is told at once, who is not catches up from history.
//!
//! ```text
//!  apply ──publish──▶ Hub: groups by range ──offer──▶ a listener: one watch's channel, or a whole stream's queue
//!                       │ no room: falls out of step             ▲
//!                       ▼                                        │ (waits for room)
//!              follow (one future a watch) ──history reads───────┘
//!                       └── next > hub's revision: back in step, under the hub's lock, so nothing falls between
//! ```
//! Nothing is dropped: a slow watch costs reads, not memory, and ends only when its place in history is compacted.
//! What happened to a range is put together once ([`Delivery`]) and shared by all who listen to it.

mod index;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use store_api::{Error, Event, KeyRange, Revision, Watch, WatchMessage, WatchRequest};
use tokio::sync::{Notify, mpsc};

use crate::EventBatch;
use crate::read::History;
use index::{GroupId, Index};

/// Messages a watch may have unread before it falls out of step and reads history instead.
pub const WATCH_QUEUE: usize = 128;
/// Events in one message of a watch that catches up.
pub const CATCH_UP_EVENTS: usize = 512;

/// Where a watch that is out of step reads: a view of the state at least as new as what was published.
pub trait Source: Send + Sync + 'static {
    /// As [`read::history`](crate::read::history).
    ///
    /// # Errors
    /// Its errors.
    fn history(&self, range: &KeyRange, from: Revision, max: usize) -> Result<History, Error>;

    /// Whether anything may be told at all: asked of every watch that falls out of step.
    ///
    /// # Errors
    /// What ends the watch.
    fn serves(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// What happened to a range, shared by all who listen to it.
#[derive(Debug)]
pub struct Delivery {
    /// The store's revision with all of it.
    pub revision: Revision,
    /// At least one, in order, each with the value before it.
    pub events: Vec<Event>,
    /// About what it holds in memory.
    pub bytes: usize,
    /// The events in a listener's own form, made by the first who needs it: without and with the values before.
    pub encoded: [OnceLock<Bytes>; 2],
}

impl Delivery {
    /// Events that go up to `revision`.
    #[must_use]
    pub fn new(revision: Revision, events: Vec<Event>) -> Self {
        let bytes = events.iter().map(bytes_of).sum();
        Self { revision, events, bytes, encoded: Default::default() }
    }
}

/// About what an event holds in memory.
fn bytes_of(event: &Event) -> usize {
    let prev = event.prev_kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
    size_of::<Event>() + event.kv.key.len() + event.kv.value.len() + prev
}

/// Who is told what happens to a range.
pub trait Listener: Send + Sync + 'static {
    /// Takes what happened, without waiting. False: there is no room, and the listener is out of step; it hears nothing
    /// more until it joins again. `tag` is what it joined with.
    fn offer(&self, tag: u64, delivery: &Arc<Delivery>) -> bool;

    /// Something happened that is not told: the listener is out of step.
    fn fell(&self, tag: u64);
}

struct Member {
    /// First revision it is to see.
    next: Revision,
    tag: u64,
    listener: Arc<dyn Listener>,
}

struct Group {
    range: KeyRange,
    members: BTreeMap<u64, Member>,
}

#[derive(Default)]
struct Inner {
    revision: Revision,
    closed: bool,
    next_id: u64,
    index: Index,
    groups: BTreeMap<GroupId, Group>,
    /// Members in step and their groups.
    in_step: BTreeMap<u64, GroupId>,
}

/// The watchers of a store.
#[derive(Default)]
pub struct Hub {
    inner: Mutex<Inner>,
    closing: Notify,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub for a store at `revision`.
    #[must_use]
    pub fn new(revision: Revision) -> Self {
        let hub = Self::default();
        hub.inner.lock().revision = revision;
        hub
    }

    /// The last revision that was published.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.inner.lock().revision
    }

    /// Listeners in step.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.inner.lock().in_step.len()
    }

    /// Tells listeners what happened. The state must already show it to [`Source::history`]. Never waits.
    pub fn publish(&self, revision: Revision, batches: &[EventBatch]) {
        let mut inner = self.inner.lock();
        inner.revision = revision;
        if inner.groups.is_empty() {
            return;
        }
        let mut touched: BTreeMap<GroupId, Vec<&Event>> = BTreeMap::new();
        for event in batches.iter().flat_map(|batch| &batch.events) {
            inner.index.matching(&event.kv.key, |id| touched.entry(id).or_default().push(event));
        }
        for (id, events) in touched {
            inner.tell(id, revision, events);
        }
    }

    /// Lets a listener hear what happens to `range` from now on: its membership, and the last revision it does not hear.
    pub fn join(&self, range: &KeyRange, tag: u64, listener: Arc<dyn Listener>) -> (u64, Revision) {
        let mut inner = self.inner.lock();
        let (id, next) = (inner.new_id(), inner.revision.next());
        inner.join(id, range, Member { next, tag, listener });
        (id, inner.revision)
    }

    /// Ends a membership; nothing happens when it is over.
    pub fn leave(&self, id: u64) {
        self.inner.lock().leave(id);
    }

    /// The store went on with another state, of a later revision: everybody reads what lies between from its history.
    pub fn jump(&self, revision: Revision) {
        let mut inner = self.inner.lock();
        inner.revision = inner.revision.max(revision);
        let members = inner.groups.values().flat_map(|group| group.members.values());
        members.for_each(|member| member.listener.fell(member.tag));
        let everybody: Vec<_> = inner.in_step.keys().copied().collect();
        everybody.into_iter().for_each(|id| inner.leave(id));
    }

    /// Ends every watch with `ShuttingDown`.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.closing.notify_waiters();
    }

    async fn closed(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        // Registered before the flag is read, so that a close in between is not missed.
        closing.as_mut().enable();
        if !self.inner.lock().closed {
            closing.await;
        }
    }

    /// Opens a watch. The second value must be run (as a task) for as long as the watch is to live; it ends by itself.
    pub fn open<S: Source>(
        self: &Arc<Self>,
        source: Arc<S>,
        request: WatchRequest,
    ) -> (Watch, impl Future<Output = ()> + Send + use<S>) {
        let (out, messages) = mpsc::channel(WATCH_QUEUE);
        // One unanswered request for progress is as good as many.
        let (progress, asked) = mpsc::channel(1);
        let (id, created_revision) = {
            let mut inner = self.inner.lock();
            (inner.new_id(), inner.revision)
        };
        let next = request.start_revision.filter(|r| r.get() > 0).unwrap_or_else(|| created_revision.next());
        let follower = Follower {
            id,
            hub: self.clone(),
            source,
            request,
            out,
            asked: Some(asked),
            owes_progress: false,
            next,
        };
        (Watch { created_revision, messages, progress }, follower.run())
    }
}

impl Inner {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn join(&mut self, id: u64, range: &KeyRange, member: Member) {
        let group = self.index.group(range);
        let empty = || Group { range: range.clone(), members: BTreeMap::new() };
        self.groups.entry(group).or_insert_with(empty).members.insert(id, member);
        self.in_step.insert(id, group);
    }

    fn leave(&mut self, id: u64) {
        let Some(group_id) = self.in_step.remove(&id) else { return };
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        group.members.remove(&id);
        if group.members.is_empty() {
            self.index.remove(&group.range);
            self.groups.remove(&group_id);
        }
    }

    fn tell(&mut self, id: GroupId, revision: Revision, events: Vec<&Event>) {
        let Some(group) = self.groups.get(&id) else { return };
        let events: Vec<Event> = events.into_iter().cloned().collect();
        let Some(first) = events.first().map(|event| event.kv.mod_revision) else { return };
        let delivery = Arc::new(Delivery::new(revision, events));
        let mut fallen = Vec::new();
        for (id, member) in &group.members {
            let told = if member.next <= first {
                member.listener.offer(member.tag, &delivery)
            } else {
                // Asked for a revision that is not (wholly) there yet.
                let later = delivery.events.iter().filter(|event| event.kv.mod_revision >= member.next);
                let later: Vec<Event> = later.cloned().collect();
                later.is_empty()
                    || member.listener.offer(member.tag, &Arc::new(Delivery::new(revision, later)))
            };
            if !told {
                fallen.push(*id);
            }
        }
        fallen.into_iter().for_each(|id| self.leave(id));
    }
}

/// The listener of one watch in process.
struct Direct {
    prev_kv: bool,
    out: mpsc::Sender<WatchMessage>,
    /// First revision not sent.
    next: AtomicI64,
    /// Wakes `follow` when the watch fell out of step.
    wake: Notify,
}

impl Listener for Direct {
    fn offer(&self, _tag: u64, delivery: &Arc<Delivery>) -> bool {
        let Some(last) = delivery.events.last() else { return true };
        let revision = last.kv.mod_revision;
        let events = delivery.events.iter().map(|event| shown(event, self.prev_kv)).collect();
        if self.out.try_send(WatchMessage::Events { revision, events }).is_err() {
            self.wake.notify_one();
            return false;
        }
        self.next.store(revision.next().get(), Ordering::Release);
        true
    }

    fn fell(&self, _tag: u64) {
        self.wake.notify_one();
    }
}

fn shown(event: &Event, prev_kv: bool) -> Event {
    let prev_kv = if prev_kv { event.prev_kv.clone() } else { None };
    Event { kind: event.kind.clone(), kv: event.kv.clone(), prev_kv }
}

/// One watch's future.
struct Follower<S> {
    id: u64,
    hub: Arc<Hub>,
    source: Arc<S>,
    request: WatchRequest,
    out: mpsc::Sender<WatchMessage>,
    /// None once the client dropped its end: it then asks for no progress, but may still read.
    asked: Option<mpsc::Receiver<()>>,
    owes_progress: bool,
    next: Revision,
}

/// Why a watch is over: nothing more to say, or this.
type End = Option<Error>;

impl<S: Source> Follower<S> {
    async fn run(mut self) {
        let hub = self.hub.clone();
        let end = tokio::select! {
            biased;
            end = self.follow() => end,
            () = hub.closed() => Some(Error::ShuttingDown),
        };
        hub.leave(self.id);
        match end {
            // A store that closes waits for nobody; a client that is gone needs no last word.
            Some(error @ Error::ShuttingDown) => drop(self.out.try_send(WatchMessage::Cancelled { error })),
            Some(error) => drop(self.out.send(WatchMessage::Cancelled { error }).await),
            None => {}
        }
    }

    async fn follow(&mut self) -> End {
        loop {
            if let Err(end) = self.catch_up().await {
                return end;
            }
            if let Some(direct) = self.join()
                && let Err(end) = self.stay(&direct).await
            {
                return end;
            }
        }
    }

    /// Sends history until there is none left.
    async fn catch_up(&mut self) -> Result<(), End> {
        self.source.serves().map_err(Some)?;
        while self.next <= self.hub.revision() {
            let found = self.source.history(&self.request.range, self.next, CATCH_UP_EVENTS);
            let History { events, next } = found.map_err(Some)?;
            if let Some(last) = events.last() {
                let revision = last.kv.mod_revision;
                let events = events.iter().map(|event| shown(event, self.request.prev_kv)).collect();
                self.out.send(WatchMessage::Events { revision, events }).await.map_err(|_| None)?;
            }
            self.next = next;
        }
        Ok(())
    }

    /// Joins the watchers in step; None when something was published meanwhile.
    fn join(&self) -> Option<Arc<Direct>> {
        let mut inner = self.hub.inner.lock();
        if self.next <= inner.revision {
            return None;
        }
        let direct = Arc::new(Direct {
            prev_kv: self.request.prev_kv,
            out: self.out.clone(),
            next: AtomicI64::new(self.next.get()),
            wake: Notify::new(),
        });
        let member = Member { next: self.next, tag: 0, listener: direct.clone() };
        inner.join(self.id, &self.request.range, member);
        Some(direct)
    }

    /// Lives in step: answers requests for progress; returns when it fell out of step.
    async fn stay(&mut self, direct: &Direct) -> Result<(), End> {
        loop {
            if self.owes_progress {
                self.progress().await?;
            }
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(None),
                () = direct.wake.notified() => break,
                asked = receive(&mut self.asked) => match asked {
                    Some(()) => self.owes_progress = true,
                    None => self.asked = None,
                },
            }
        }
        self.next = Revision(direct.next.load(Ordering::Acquire));
        Ok(())
    }

    /// Sends progress behind everything that was published so far. Room is waited for first, without the lock. A watch
    /// that fell out of step meanwhile owes it until it has caught up.
    async fn progress(&mut self) -> Result<(), End> {
        let permit = self.out.reserve().await.map_err(|_| None)?;
        let inner = self.hub.inner.lock();
        if inner.in_step.contains_key(&self.id) {
            permit.send(WatchMessage::Progress { revision: inner.revision });
            self.owes_progress = false;
        }
        Ok(())
    }
}

async fn receive(asked: &mut Option<mpsc::Receiver<()>>) -> Option<()> {
    match asked {
        Some(asked) => asked.recv().await,
        None => std::future::pending().await,
    }
}
