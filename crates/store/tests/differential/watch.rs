//! Watches on both sides over the same changes: what each watch was told, joined over messages, must be the same.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_wire::etcdserverpb::{self as pb, watch_client::WatchClient, watch_request::RequestUnion};
use etcd_wire::mvccpb::Event;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::wire::{Side, said};

/// How long everything may take to be delivered.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing more comes when nothing came for so long.
const QUIET: Duration = Duration::from_millis(400);

/// What one watch was told.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    created: Vec<String>,
    cancelled: Vec<String>,
    events: Vec<Event>,
    /// Whether every message after the creation said the watch's id and whether fragments were used.
    fragments: bool,
}

/// An open stream of watches.
pub struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: tonic::Streaming<pb::WatchResponse>,
    told: BTreeMap<i64, Told>,
}

fn wrap(request: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(request) }
}

impl Watching {
    pub async fn open(side: &Side, creates: &[pb::WatchCreateRequest]) -> Result<Self, String> {
        let (requests, receiver) = mpsc::channel(64);
        for create in creates {
            requests.send(wrap(RequestUnion::CreateRequest(create.clone()))).await.unwrap();
        }
        let mut client = WatchClient::new(side.channel.clone()).max_decoding_message_size(64 << 20);
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        if let Some(token) = &side.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        let answers =
            client.watch(request).await.map_err(|status| format!("{:?}", said(status)))?.into_inner();
        let mut watching = Self { requests, answers, told: BTreeMap::new() };
        // All are created before anything else is done, so that they see the same changes.
        let mut left = creates.len();
        while left > 0 {
            let answer = watching.next().await?;
            left -= usize::from(answer.created);
            watching.note(answer);
        }
        Ok(watching)
    }

    async fn next(&mut self) -> Result<pb::WatchResponse, String> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        let answer = answer.map_err(|_| "no message in time".to_owned())?;
        answer.map_err(|status| format!("{:?}", said(status)))?.ok_or_else(|| "the stream ended".to_owned())
    }

    pub async fn cancel(&mut self, watch_id: i64) {
        let cancel = pb::WatchCancelRequest { watch_id };
        self.requests.send(wrap(RequestUnion::CancelRequest(cancel))).await.unwrap();
    }

    /// Collects until the watch of everything with previous values (number 1) has reached `revision` and nothing more
    /// comes. Progress requests would not do: etcd drops them while any watch of the stream catches up.
    pub async fn until(mut self, revision: i64) -> Result<BTreeMap<i64, Told>, String> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            while let Ok(answer) = tokio::time::timeout(QUIET, self.answers.message()).await {
                let answer = answer.map_err(|status| format!("{:?}", said(status)))?;
                let Some(answer) = answer else { return Err("the stream ended".to_owned()) };
                self.note(answer);
            }
            let last = self.told.get(&1).and_then(|told| told.events.last()?.kv.as_ref());
            if last.is_some_and(|kv| kv.mod_revision >= revision) {
                return Ok(self.told);
            }
            if tokio::time::Instant::now() > end {
                return Err(format!("not told up to revision {revision}: {:?}", self.told));
            }
        }
    }

    /// Collects until one watch was cancelled.
    pub async fn until_cancelled(mut self) -> Result<BTreeMap<i64, Told>, String> {
        while self.told.values().all(|told| told.cancelled.is_empty()) {
            let answer = self.next().await?;
            self.note(answer);
        }
        Ok(self.told)
    }

    fn note(&mut self, answer: pb::WatchResponse) {
        let told = self.told.entry(answer.watch_id).or_default();
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.created {
            told.created.push(format!("at {revision}"));
        }
        if answer.canceled {
            let (compacted, reason) = (answer.compact_revision, &answer.cancel_reason);
            told.cancelled.push(format!("at {revision}, compacted {compacted}, because {reason:?}"));
        }
        told.fragments |= answer.fragment;
        told.events.extend(answer.events);
    }
}

/// Watches that begin below the compaction. They are alone on their streams: etcd never answers a progress request on a
/// stream that had one.
pub fn compacted(compacted: i64) -> Vec<pb::WatchCreateRequest> {
    let from = |start_revision| pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision,
        prev_kv: true,
        ..Default::default()
    };
    // The compaction's own revision is still watched from.
    [1, compacted - 1].into_iter().filter(|start| *start > 0 && *start < compacted).map(from).collect()
}

/// Every kind of watch, over a store whose revision and compaction are known.
pub fn kinds(revision: i64, compacted: i64) -> Vec<pb::WatchCreateRequest> {
    let watch = |key: &'static [u8], end: &'static [u8]| pb::WatchCreateRequest {
        key: Bytes::from_static(key),
        range_end: Bytes::from_static(end),
        ..Default::default()
    };
    let all = || watch(b"\0", b"\0");
    // Not below the compaction: etcd would never answer a progress request on the stream.
    let recent = (revision - 20).max(compacted).max(1);
    vec![
        all(),
        pb::WatchCreateRequest { prev_kv: true, ..all() },
        pb::WatchCreateRequest { start_revision: compacted, prev_kv: false, ..all() },
        pb::WatchCreateRequest { start_revision: compacted + 1, prev_kv: true, ..all() },
        pb::WatchCreateRequest { start_revision: recent, filters: vec![0], ..all() },
        pb::WatchCreateRequest { start_revision: recent, filters: vec![1], ..all() },
        pb::WatchCreateRequest { start_revision: recent, filters: vec![0, 1], ..all() },
        pb::WatchCreateRequest { start_revision: revision + 10, ..all() },
        pb::WatchCreateRequest { start_revision: -1, ..all() },
        pb::WatchCreateRequest { start_revision: recent, fragment: true, progress_notify: true, ..all() },
        pb::WatchCreateRequest { watch_id: 100, ..watch(b"a/", b"a0") },
        pb::WatchCreateRequest { watch_id: 100, ..watch(b"b/", b"b0") },
        watch(b"b/01", b""),
        watch(b"", b""),
        watch(b"", b"\0"),
        watch(b"z", b"a"),
        watch(b"a", b"a"),
    ]
}
