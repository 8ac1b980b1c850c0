//! Watches over a cluster. Each is a stream of its own, so that a slow one holds nobody up, and a task that opens the
//! stream again behind the last revision it delivered when it breaks.

use std::sync::Arc;
use std::time::Duration;

use base::task::TaskKind;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::watch_client::WatchClient;
use etcd_wire::etcdserverpb::watch_request::RequestUnion;
use store_api::{Error, Revision, Watch, WatchMessage, WatchRequest};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::connect::Pool;
use super::{ANSWER_BYTES_MAX, External, PATIENCE, Seen, convert};

/// Messages that may wait for a watcher; etcd holds back the rest.
const MESSAGES: usize = 16;
/// Requests on a stream: the create, and one question about progress.
const REQUESTS: usize = 2;
/// Between attempts to open a stream again; doubles up to the second.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Opens a watch.
pub(super) async fn open(external: &External, request: WatchRequest) -> Result<Watch, Error> {
    let (messages, received) = mpsc::channel(MESSAGES);
    let (progress, asked) = mpsc::channel(1);
    let (created, first) = oneshot::channel();
    let follow = Follow {
        pool: external.pool.clone(),
        seen: external.seen.clone(),
        next: request.start_revision.filter(|revision| revision.get() > 0),
        request,
        messages,
        asked,
        created: Some(created),
    };
    let token = external.tasks.token();
    external.tasks.spawn(TaskKind::Connection, "external watch", async move {
        let closing = follow.messages.clone();
        tokio::select! {
            () = follow.run() => {}
            () = token.cancelled() => {
                // The watcher may be gone, or not read any more.
                let _ = closing.try_send(WatchMessage::Cancelled { error: Error::ShuttingDown });
            }
        }
        Ok::<_, std::convert::Infallible>(())
    });
    let first = tokio::time::timeout(PATIENCE, first).await;
    let lost = |why: &str| Error::Unavailable(format!("the watch was not opened: {why}"));
    let created_revision =
        first.map_err(|_| lost("no endpoint answered in time"))?.map_err(|_| lost("closing"))?;
    Ok(Watch { created_revision, messages: received, progress })
}

/// The compacted revision, which etcd tells only those who watch from before it.
pub(super) async fn compact_revision(pool: &Pool) -> Option<Revision> {
    let (_, channel) = pool.channel();
    let create = pb::WatchCreateRequest { key: "\0".into(), start_revision: 1, ..Default::default() };
    let (requests, mut answers) = stream(channel, create).await.ok()?;
    let look = async {
        while let Ok(Some(answer)) = answers.message().await {
            if answer.compact_revision > 0 {
                return Some(Revision(answer.compact_revision));
            }
        }
        None
    };
    let found = tokio::time::timeout(PATIENCE, look).await.ok().flatten();
    drop(requests);
    found
}

type Opened = (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>);

async fn stream(
    channel: tonic::transport::Channel,
    create: pb::WatchCreateRequest,
) -> Result<Opened, Status> {
    let (requests, queue) = mpsc::channel(REQUESTS);
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The queue is new and has room.
    let _ = requests.try_send(create);
    let mut request = Request::new(ReceiverStream::new(queue));
    // A member that has lost its cluster ends the stream instead of keeping quiet.
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let mut client = WatchClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok((requests, client.watch(request).await?.into_inner()))
}

struct Follow {
    pool: Arc<Pool>,
    seen: Arc<Seen>,
    request: WatchRequest,
    /// The first revision that was not delivered yet; None before it is known what "from now on" means.
    next: Option<Revision>,
    messages: mpsc::Sender<WatchMessage>,
    asked: mpsc::Receiver<()>,
    created: Option<oneshot::Sender<Revision>>,
}

/// Why a stream is left.
enum Left {
    /// Nobody watches any more, or it was told that it ended.
    Done,
    /// It broke; `progressed` when something came of it.
    Broken { progressed: bool },
}

impl Follow {
    async fn run(mut self) {
        let mut wait = RETRY_MIN;
        loop {
            let (place, channel) = self.pool.channel();
            match self.one_stream(channel).await {
                Left::Done => return,
                Left::Broken { progressed } => {
                    self.pool.failed(place);
                    wait = if progressed { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.messages.closed() => return,
            }
        }
    }

    async fn one_stream(&mut self, channel: tonic::transport::Channel) -> Left {
        let (key, range_end) = convert::bounds(&self.request.range);
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.next.unwrap_or_default().get(),
            prev_kv: self.request.prev_kv,
            ..Default::default()
        };
        let Ok((requests, mut answers)) = stream(channel, create).await else {
            return Left::Broken { progressed: false };
        };
        let mut progressed = false;
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                asked = self.asked.recv() => {
                    if asked.is_none() {
                        return Left::Done;
                    }
                    let ask = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    // A full queue holds a question already.
                    let _ = requests.try_send(pb::WatchRequest { request_union: Some(ask) });
                    continue;
                }
                () = self.messages.closed() => return Left::Done,
            };
            let Ok(Some(answer)) = answer else { return Left::Broken { progressed } };
            progressed = true;
            if let Some(left) = self.take(answer).await {
                return left;
            }
        }
    }

    async fn take(&mut self, answer: pb::WatchResponse) -> Option<Left> {
        let revision = self.seen.note(answer.header.as_ref());
        if answer.canceled {
            return self.cancelled(&answer).await;
        }
        if answer.created {
            self.next.get_or_insert(revision.next());
            if let Some(created) = self.created.take() {
                // Whoever asked may have stopped waiting.
                let _ = created.send(revision);
            }
            return None;
        }
        let next = self.next.unwrap_or_default();
        if answer.events.is_empty() {
            self.next = Some(next.max(revision.next()));
            return self.send(WatchMessage::Progress { revision }).await;
        }
        // What was delivered before a break does not come twice.
        let events = answer.events.into_iter().filter_map(convert::event);
        let events: Vec<_> = events.filter(|event| event.kv.mod_revision >= next).collect();
        let revision = events.last()?.kv.mod_revision;
        self.next = Some(revision.next());
        self.send(WatchMessage::Events { revision, events }).await
    }

    async fn cancelled(&mut self, answer: &pb::WatchResponse) -> Option<Left> {
        if let Some(created) = self.created.take() {
            let _ = created.send(self.seen.note(answer.header.as_ref()));
        }
        let error = match answer.compact_revision {
            0 if answer.cancel_reason.is_empty() || answer.cancel_reason.contains("no leader") => {
                return Some(Left::Broken { progressed: false });
            }
            0 => Error::Invalid(answer.cancel_reason.clone()),
            revision => Error::Compacted { compact_revision: Revision(revision) },
        };
        self.send(WatchMessage::Cancelled { error }).await;
        Some(Left::Done)
    }

    async fn send(&self, message: WatchMessage) -> Option<Left> {
        self.messages.send(message).await.is_err().then_some(Left::Done)
    }
}
