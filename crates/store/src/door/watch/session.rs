//! One watch stream: its watches, what they have seen, and the loop that moves them on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use etcd_wire::etcdserverpb::{self as pb, watch_request::RequestUnion};
use http::Extensions;
use mvcc::read::History;
use mvcc::watch::{CATCH_UP_EVENTS, Delivery, Source as _};
use pb::watch_create_request::FilterType;
use store_api::{Error, Event, EventKind, KeyRange, Revision};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::Batch;
use super::counts::Counts;
use super::queue::Queue;
use super::wire::{self, BATCH_BYTES, Wire};
use crate::door::{Door, convert, error, metrics};

/// The id of an answer that is no watch's; also what a watch that was not made gets.
const NO_WATCH: i64 = -1;
/// Watches on one stream. etcd has no bound; beyond this a client opens another stream.
const WATCHES_MAX: usize = 1 << 20;
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const TOO_MANY: &str = "etcdserver: too many requests";

/// One watch.
struct Watcher {
    /// Its range, by tag.
    tag: u64,
    /// First revision it has not seen.
    next: Revision,
    /// Hears what the stream hears; else it must read history first.
    in_step: bool,
    prev_kv: bool,
    fragment: bool,
    no_put: bool,
    no_delete: bool,
    /// Wants to be told how far it is; and whether it was quiet since it was last looked at.
    progress: Option<bool>,
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        let unwanted = match event.kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        };
        !unwanted && event.kv.mod_revision >= self.next
    }

    /// Whether it sees all of `events`.
    fn sees_all(&self, events: &[Event]) -> bool {
        let first = events.first().map(|event| event.kv.mod_revision);
        !self.no_put && !self.no_delete && first.is_some_and(|first| first >= self.next)
    }
}

/// A range that at least one watch of the stream is on.
struct Range {
    keys: KeyRange,
    /// The stream's membership at the hub.
    membership: u64,
    /// Everything up to here has been looked at, or was before the stream listened.
    at: Revision,
    watches: BTreeSet<i64>,
}

pub(super) struct Session {
    door: Arc<Door>,
    /// What says who the client is, for each watch anew.
    caller: (MetadataMap, Extensions),
    needs_leader: bool,
    out: mpsc::Sender<Batch>,
    queue: Arc<Queue>,
    watchers: BTreeMap<i64, Watcher>,
    ranges: BTreeMap<u64, Range>,
    tags: BTreeMap<KeyRange, u64>,
    next_tag: u64,
    next_id: i64,
    /// Watches that have history to read.
    behind: BTreeSet<i64>,
    /// Answers that were made and not sent on.
    made: BytesMut,
    /// Watches that want to be told how far they are.
    want_progress: usize,
    counts: Counts,
}

/// The client is gone, or the stream was refused: nothing can be sent any more.
struct Gone;

type Step = Result<(), Gone>;

/// A refusal as Go shows an error of gRPC: etcd gives those of permissions so, and its client reads there that it must
/// log in again.
fn as_go_shows(refusal: &Status) -> String {
    format!("rpc error: code = {} desc = {}", metrics::code_name(refusal.code()), refusal.message())
}

impl Session {
    pub(super) fn new(
        door: Arc<Door>,
        caller: (MetadataMap, Extensions),
        needs_leader: bool,
        out: mpsc::Sender<Batch>,
    ) -> Self {
        let counts = Counts::new(door.metrics.clone());
        Self {
            door,
            caller,
            needs_leader,
            out,
            queue: Arc::default(),
            watchers: BTreeMap::new(),
            ranges: BTreeMap::new(),
            tags: BTreeMap::new(),
            next_tag: 0,
            next_id: 0,
            behind: BTreeSet::new(),
            made: BytesMut::new(),
            want_progress: 0,
            counts,
        }
    }

    /// Serves the stream until the client, the leader or the door is gone.
    pub(super) async fn run(mut self, requests: Streaming<pb::WatchRequest>) {
        // An error means that nobody is left to tell.
        let _ = self.serve(requests).await;
        for range in self.ranges.values() {
            self.door.store.hub().leave(range.membership);
        }
    }

    async fn serve(&mut self, requests: Streaming<pb::WatchRequest>) -> Step {
        let (queue, out, door) = (self.queue.clone(), self.out.clone(), self.door.clone());
        let mut requests = Some(requests);
        let mut ticks = interval_at(Instant::now() + self.period(), self.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leader_lost = door.leader_lost();
        tokio::pin!(leader_lost);
        loop {
            self.drain().await?;
            let more = self.catch_up().await?;
            self.counts.note(self.watchers.len(), self.behind.len());
            tokio::select! {
                biased;
                () = door.token.cancelled() => return self.end(error::status(&Error::ShuttingDown)).await,
                () = out.closed() => return Err(Gone),
                status = &mut leader_lost, if self.needs_leader => return self.end(status).await,
                request = next(&mut requests) => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    // A client that says no more may still listen.
                    Ok(None) => requests = None,
                    Err(status) => return self.end(status).await,
                },
                () = queue.ready() => {}
                _ = ticks.tick(), if self.want_progress > 0 => self.tick().await?,
                () = std::future::ready(()), if more => {}
            }
        }
    }

    /// The interval of progress with etcd's jitter of up to a tenth, so that streams do not all speak at once.
    fn period(&self) -> Duration {
        let every = self.door.progress_every;
        let tenth_ms = u64::try_from(every.as_millis() / 10).unwrap_or(u64::MAX);
        every + Duration::from_millis(self.door.random.lock().below(tenth_ms))
    }

    async fn end(&mut self, status: Status) -> Step {
        self.flush().await?;
        self.out.send(Err(status)).await.map_err(|_| Gone)
    }

    async fn send(&mut self, wire: Wire) -> Step {
        wire.put(&mut self.made);
        if self.made.len() >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Waits until the client has room for what was made.
    async fn flush(&mut self) -> Step {
        if self.made.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.made).freeze();
        self.out.send(Ok(batch)).await.map_err(|_| Gone)
    }

    fn control(&self) -> pb::WatchResponse {
        pb::WatchResponse { header: Some(self.door.header(None)), ..pb::WatchResponse::default() }
    }

    async fn request(&mut self, request: pb::WatchRequest) -> Step {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await?,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await?,
            Some(RequestUnion::ProgressRequest(_)) => {
                let all: Vec<i64> = self.watchers.keys().copied().collect();
                self.progress(&all, NO_WATCH).await?;
            }
            None => {}
        }
        self.flush().await
    }

    async fn refuse(&mut self, reason: &str) -> Step {
        let refusal = pb::WatchResponse {
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.control()
        };
        self.send(Wire::Control(refusal)).await
    }

    /// Whether the client may read the range now.
    async fn permit(&self, keys: &KeyRange) -> Result<(), Status> {
        let acting = self.door.acting_as(&self.caller.0, &self.caller.1).await?;
        acting.permit_range(keys).map_err(|error| error::status(&error))
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> Step {
        if create.start_revision < 0 {
            return self.refuse(COMPACTED).await;
        }
        let first = Bytes::from_static(&[0]);
        let key = if create.key.is_empty() { first } else { create.key };
        let keys = convert::key_range(key, create.range_end);
        if let Err(refusal) = self.permit(&keys).await {
            return self.refuse(&as_go_shows(&refusal)).await;
        }
        if matches!(&keys, KeyRange::Span { start, end } if !end.is_empty() && start >= end) {
            return self.refuse(EMPTY_RANGE).await;
        }
        if create.watch_id != 0 && self.watchers.contains_key(&create.watch_id) {
            return self.refuse(DUPLICATE_ID).await;
        }
        if self.watchers.len() >= WATCHES_MAX {
            return self.refuse(TOO_MANY).await;
        }
        let id = if create.watch_id == 0 { self.free_id() } else { create.watch_id };
        let tag = self.range(keys);
        let now = self.ranges.get(&tag).map_or(Revision(0), |range| range.at);
        let filtered = |filter: FilterType| create.filters.contains(&(filter as i32));
        let next = Revision(create.start_revision);
        let watcher = Watcher {
            tag,
            // Without a start: what comes after now, which may be later than what the stream has looked at.
            next: if next.get() == 0 { self.door.store.hub().revision().next() } else { next },
            in_step: next.get() == 0 || next > now,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            progress: create.progress_notify.then_some(true),
        };
        if !watcher.in_step {
            self.behind.insert(id);
        }
        self.want_progress += usize::from(create.progress_notify);
        self.watchers.insert(id, watcher);
        if let Some(range) = self.ranges.get_mut(&tag) {
            range.watches.insert(id);
        }
        let created = pb::WatchResponse { watch_id: id, created: true, ..self.control() };
        self.send(Wire::Control(created)).await
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// The tag of a range; the stream listens to it from now on if it did not.
    fn range(&mut self, keys: KeyRange) -> u64 {
        if let Some(tag) = self.tags.get(&keys) {
            return *tag;
        }
        self.next_tag += 1;
        let tag = self.next_tag;
        let (membership, at) = self.door.store.hub().join(&keys, tag, self.queue.clone());
        self.tags.insert(keys.clone(), tag);
        self.ranges.insert(tag, Range { keys, membership, at, watches: BTreeSet::new() });
        tag
    }

    async fn cancel(&mut self, id: i64) -> Step {
        if self.forget(id) {
            let canceled = pb::WatchResponse { watch_id: id, canceled: true, ..self.control() };
            self.send(Wire::Control(canceled)).await?;
        }
        Ok(())
    }

    /// Drops a watch, and its range with the last watch on it.
    fn forget(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else { return false };
        self.behind.remove(&id);
        self.want_progress -= usize::from(watcher.progress.is_some());
        let Some(range) = self.ranges.get_mut(&watcher.tag) else { return true };
        range.watches.remove(&id);
        if range.watches.is_empty() {
            self.door.store.hub().leave(range.membership);
            self.tags.remove(&range.keys);
            self.ranges.remove(&watcher.tag);
        }
        true
    }

    /// Passes on what the hub has told, then lets what fell out of step join again.
    async fn drain(&mut self) -> Step {
        while let Some((tag, delivery)) = self.queue.pop() {
            self.fan_out(tag, &delivery).await?;
        }
        for tag in self.queue.fallen() {
            let Some(range) = self.ranges.get_mut(&tag) else { continue };
            let seen = range.at.next();
            (range.membership, range.at) = self.door.store.hub().join(&range.keys, tag, self.queue.clone());
            for id in &range.watches {
                let Some(watcher) = self.watchers.get_mut(id) else { continue };
                if watcher.in_step {
                    (watcher.in_step, watcher.next) = (false, watcher.next.max(seen));
                    self.behind.insert(*id);
                }
            }
        }
        self.flush().await
    }

    async fn fan_out(&mut self, tag: u64, delivery: &Arc<Delivery>) -> Step {
        // A range that was given up may have something left in the queue.
        let Some(range) = self.ranges.get_mut(&tag) else { return Ok(()) };
        let last = delivery.events.last().map_or(delivery.revision, |event| event.kv.mod_revision);
        range.at = range.at.max(last);
        let ids: Vec<i64> = range.watches.iter().copied().collect();
        let head = wire::head(&self.door.header(Some(delivery.revision)));
        // Without and with the values before; taken once, since many streams share them.
        let mut tails = [None, None];
        for id in ids {
            let Some(watcher) = self.watchers.get_mut(&id).filter(|watcher| watcher.in_step) else {
                continue;
            };
            if watcher.fragment || !watcher.sees_all(&delivery.events) {
                self.tell(id, &head, delivery).await?;
                continue;
            }
            if let Some(quiet) = &mut watcher.progress {
                *quiet = false;
            }
            let tail = tails[usize::from(watcher.prev_kv)]
                .get_or_insert_with(|| wire::shared(delivery, watcher.prev_kv));
            wire::put_events(&mut self.made, &head, id, tail);
            self.counts.sent(delivery.events.len());
            if self.made.len() >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Sends a watch what it wants of a delivery.
    async fn tell(&mut self, id: i64, head: &Bytes, delivery: &Delivery) -> Step {
        let Some(watcher) = self.watchers.get_mut(&id) else { return Ok(()) };
        let mut sent = delivery.events.len();
        let tails = if watcher.sees_all(&delivery.events) {
            let tail = wire::shared(delivery, watcher.prev_kv);
            let large = watcher.fragment && tail.len() + head.len() >= crate::door::MESSAGE_BYTES_MAX;
            let all: Vec<&Event> = if large { delivery.events.iter().collect() } else { Vec::new() };
            if large { wire::fragments(head, &all, watcher.prev_kv) } else { vec![tail] }
        } else {
            let wanted: Vec<&Event> = delivery.events.iter().filter(|event| watcher.wants(event)).collect();
            sent = wanted.len();
            match (wanted.is_empty(), watcher.fragment) {
                (true, _) => return Ok(()),
                (false, true) => wire::fragments(head, &wanted, watcher.prev_kv),
                (false, false) => vec![wire::events(wanted.into_iter(), watcher.prev_kv)],
            }
        };
        if let Some(quiet) = &mut watcher.progress {
            *quiet = false;
        }
        self.counts.sent(sent);
        for tail in tails {
            self.send(Wire::Events { head: head.clone(), watch_id: id, tail }).await?;
        }
        Ok(())
    }

    /// One read of history for a watch that is behind, and all that stand where it stands; true when there is more to do.
    async fn catch_up(&mut self) -> Result<bool, Gone> {
        let Some(first) = self.behind.first().and_then(|id| self.watchers.get(id)) else { return Ok(false) };
        let (tag, from) = (first.tag, first.next);
        let stands = |watcher: &Watcher| watcher.tag == tag && watcher.next == from;
        let ids = self.behind.iter().filter(|id| self.watchers.get(id).is_some_and(stands));
        let ids: Vec<i64> = ids.copied().collect();
        let Some(range) = self.ranges.get(&tag) else { return Ok(false) };
        match self.door.store.source().history(&range.keys, from, CATCH_UP_EVENTS) {
            Ok(History { events, next }) => {
                let at = range.at;
                let delivery = Delivery::new(Revision(next.get() - 1), events);
                let head = wire::head(&self.door.header(Some(delivery.revision)));
                for id in ids {
                    if !delivery.events.is_empty() {
                        self.tell(id, &head, &delivery).await?;
                    }
                    let Some(watcher) = self.watchers.get_mut(&id) else { continue };
                    watcher.next = next;
                    // What comes later than what the stream has looked at comes by its queue.
                    if next > at {
                        watcher.in_step = true;
                        self.behind.remove(&id);
                    }
                }
            }
            Err(Error::Compacted { compact_revision }) => {
                for id in ids {
                    self.compacted(id, compact_revision).await?;
                }
            }
            Err(other) => {
                self.end(error::status(&other)).await?;
                return Err(Gone);
            }
        }
        self.flush().await?;
        Ok(!self.behind.is_empty())
    }

    /// Ends a watch whose place in history is gone. etcd leaves the revision of this head at zero.
    async fn compacted(&mut self, id: i64, compact_revision: Revision) -> Step {
        self.forget(id);
        let canceled = pb::WatchResponse {
            header: Some(self.door.header(Some(Revision(0)))),
            watch_id: id,
            canceled: true,
            compact_revision: compact_revision.get(),
            ..pb::WatchResponse::default()
        };
        self.send(Wire::Control(canceled)).await
    }

    /// Tells how far these watches are, if all of them are up to date; `id` is the answer's. With none of them there is
    /// no answer, and none later either: as etcd.
    async fn progress(&mut self, ids: &[i64], id: i64) -> Step {
        // What was published up to here is in the queue, and passed on before the answer.
        let revision = self.door.store.hub().revision();
        self.drain().await?;
        let current =
            |id: &i64| self.watchers.get(id).is_some_and(|w| w.in_step && w.next.get() <= revision.get() + 1);
        if ids.is_empty() || !ids.iter().all(current) {
            return Ok(());
        }
        let header = Some(self.door.header(Some(revision)));
        let progress = pb::WatchResponse { header, watch_id: id, ..pb::WatchResponse::default() };
        self.send(Wire::Control(progress)).await?;
        self.flush().await
    }

    /// Tells watches that asked for it and were quiet since the last tick how far they are.
    async fn tick(&mut self) -> Step {
        let mut quiet = Vec::new();
        for (id, watcher) in &mut self.watchers {
            if let Some(was_quiet) = &mut watcher.progress
                && std::mem::replace(was_quiet, true)
            {
                quiet.push(*id);
            }
        }
        for id in quiet {
            self.progress(&[id], id).await?;
        }
        Ok(())
    }
}

/// The next request; never, once the client has said its last.
async fn next(
    requests: &mut Option<Streaming<pb::WatchRequest>>,
) -> Result<Option<pb::WatchRequest>, Status> {
    match requests {
        Some(requests) => requests.message().await,
        None => std::future::pending().await,
    }
}
