//! Watches: who is up to date is told at once, who is not catches up from history.
//!
//! ```text
//!  apply ──publish──▶ Hub: watchers in step ──try_send──▶ the watch's channel ──▶ client
//!                       │ full: falls out of step               ▲
//!                       ▼                                       │ send (waits for room)
//!              follow (one future a watch) ──history reads──────┘
//!                       └── next > hub's revision: back in step, under the hub's lock, so nothing falls between
//! ```
//! Nothing is dropped: a slow watch costs reads, not memory, and ends only when its place in history is compacted.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use store_api::{Error, Event, KeyRange, Revision, Watch, WatchMessage, WatchRequest};
use tokio::sync::{Notify, mpsc};

use crate::EventBatch;
use crate::read::History;

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
}

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    prev_kv: bool,
    /// First revision it has not seen.
    next: Revision,
    out: mpsc::Sender<WatchMessage>,
    /// Wakes `follow` when the watcher fell out of step (its `next` is left in `fell`).
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    revision: Revision,
    closed: bool,
    next_id: u64,
    in_step: BTreeMap<u64, Watcher>,
    /// Watchers that fell out of step and have not noticed yet.
    fell: BTreeMap<u64, Revision>,
}

/// The watchers of a store.
#[derive(Debug, Default)]
pub struct Hub {
    inner: Mutex<Inner>,
    closing: Notify,
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

    /// Tells watchers what happened. The state must already show it to [`Source::history`]. Never waits.
    pub fn publish(&self, revision: Revision, batches: &[EventBatch]) {
        let mut inner = self.inner.lock();
        inner.revision = revision;
        let mut fallen = Vec::new();
        for (id, watcher) in &mut inner.in_step {
            if let Err(next) = watcher.offer(batches) {
                fallen.push((*id, next));
            }
        }
        for (id, next) in fallen {
            inner.fall(id, next);
        }
    }

    /// The store went on with another state, of a later revision: everybody reads what lies between from its history.
    pub fn jump(&self, revision: Revision) {
        let mut inner = self.inner.lock();
        inner.revision = inner.revision.max(revision);
        let behind: Vec<_> = inner.in_step.iter().map(|(id, watcher)| (*id, watcher.next)).collect();
        for (id, next) in behind {
            inner.fall(id, next);
        }
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
            inner.next_id += 1;
            (inner.next_id, inner.revision)
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
    fn fall(&mut self, id: u64, next: Revision) {
        if let Some(watcher) = self.in_step.remove(&id) {
            self.fell.insert(id, next);
            watcher.wake.notify_one();
        }
    }
}

impl Watcher {
    /// Sends what matches; Err with the first revision not sent when there is no room.
    fn offer(&mut self, batches: &[EventBatch]) -> Result<(), Revision> {
        let (mut events, mut last) = (Vec::new(), self.next);
        for batch in batches.iter().filter(|batch| batch.revision >= self.next) {
            let matching = batch.events.iter().filter(|event| self.range.contains(&event.kv.key));
            events.extend(matching.map(|event| shown(event, self.prev_kv)));
            last = batch.revision;
        }
        if let Some(event) = events.last() {
            let revision = event.kv.mod_revision;
            self.out.try_send(WatchMessage::Events { revision, events }).map_err(|_| self.next)?;
            self.next = last.next();
        }
        Ok(())
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
            end = self.follow() => end,
            () = hub.closed() => Some(Error::ShuttingDown),
        };
        {
            let mut inner = hub.inner.lock();
            inner.in_step.remove(&self.id);
            inner.fell.remove(&self.id);
        }
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
            let wake = Arc::new(Notify::new());
            if self.join(&wake)
                && let Err(end) = self.stay(&wake).await
            {
                return end;
            }
        }
    }

    /// Sends history until there is none left.
    async fn catch_up(&mut self) -> Result<(), End> {
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

    /// Joins the watchers in step; false when something was published meanwhile.
    fn join(&self, wake: &Arc<Notify>) -> bool {
        let mut inner = self.hub.inner.lock();
        if self.next <= inner.revision {
            return false;
        }
        let watcher = Watcher {
            range: self.request.range.clone(),
            prev_kv: self.request.prev_kv,
            next: self.next,
            out: self.out.clone(),
            wake: wake.clone(),
        };
        inner.in_step.insert(self.id, watcher);
        true
    }

    /// Lives in step: answers requests for progress; returns when it fell out of step.
    async fn stay(&mut self, wake: &Notify) -> Result<(), End> {
        loop {
            if self.owes_progress {
                self.progress().await?;
            }
            tokio::select! {
                () = self.out.closed() => return Err(None),
                () = wake.notified() => break,
                asked = receive(&mut self.asked) => match asked {
                    Some(()) => self.owes_progress = true,
                    None => self.asked = None,
                },
            }
        }
        if let Some(next) = self.hub.inner.lock().fell.remove(&self.id) {
            self.next = next;
        }
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
