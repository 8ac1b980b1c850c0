//! Watches: a stream of events, each one JSON object on a line.
//!
//! ```text
//! cache ──list or follow──▶ initial ADDED events, bookmark ──▶ changes ──selection──▶ ADDED | MODIFIED | DELETED
//!                                                     every minute: BOOKMARK      time out, shutdown: end
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HeaderValue;
use http::{Response, StatusCode};
use kube_types::registry::Resource;
use kube_types::status::Status;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::options::ListOptions;
use super::select::Selection;
use super::shape::Look;
use crate::cache::{Cache, Change, Cursor, Item};
use crate::http::body::Body;
use crate::http::negotiate::Shape;
use crate::http::respond::{self, Answer};
use crate::objects;
use crate::server::{Request, Server};

/// Changes turned into one frame at most; bounds what a slow watcher holds.
const BATCH: usize = 256;
/// Frames that wait for the connection; then the watcher falls behind on its own cursor.
const FRAMES: usize = 4;
/// A bookmark at least this often (upstream's minute).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Watches end after this long, and up to as long again (upstream's 30 to 60 minutes).
const TIMEOUT_MIN_S: u64 = 1800;

/// GET with `watch`.
pub(crate) async fn watch(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let accepted = rq.accepted()?;
    let look = Look::new(accepted, &rq.query, server.now_ms())?;
    let options = ListOptions::parse(&rq.query, true)?;
    let selection = Selection::parse(resource, &rq.query, &rq.target.name)?;
    let (sender, receiver) = mpsc::channel(FRAMES);
    let timeout_s = options.timeout_s.filter(|s| *s > 0);
    let timeout_s = timeout_s.unwrap_or_else(|| TIMEOUT_MIN_S + server.random() % TIMEOUT_MIN_S);
    let watcher = Watcher {
        server: server.clone(),
        cache: server.cache(resource),
        resource: resource.clone(),
        namespace: rq.target.namespace_of(resource),
        selection,
        look,
        bookmarks: options.bookmarks,
        ends: Instant::now() + Duration::from_secs(timeout_s),
        sender,
        columns_sent: false,
    };
    let (start, cursor) = watcher.start(&options).await?;
    server.spawn_stream(watcher.run(start, cursor));
    let mut response = Response::new(Body::stream(receiver));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// What a watch begins with.
enum Start {
    /// Nothing: only changes.
    Changes,
    /// The objects now, as of a revision; whether a bookmark marks their end.
    Objects { items: Vec<Arc<Item>>, revision: i64, mark: bool },
    /// The version asked for is gone.
    Gone(Status),
}

struct Watcher {
    server: Arc<Server>,
    cache: Arc<Cache>,
    resource: Arc<Resource>,
    namespace: String,
    selection: Selection,
    look: Look,
    bookmarks: bool,
    ends: Instant,
    sender: mpsc::Sender<Bytes>,
    /// Only the first Table of a watch names its columns.
    columns_sent: bool,
}

/// A place to go on from; None after [`Start::Gone`].
type Place = Option<(Cursor, i64)>;

impl Watcher {
    async fn start(&self, options: &ListOptions) -> Result<(Start, Place), Status> {
        let wanted = options.revision.unwrap_or(0);
        // Unset means the newest there is; a number means that or newer; 0 means anything.
        let needed = match options.revision {
            Some(revision) => revision.max(1),
            None => self.server.newest().await?,
        };
        let initial = options.send_initial_events.unwrap_or(wanted == 0);
        let reachable = needed.min(self.server.revision());
        if !self.cache.fresh(reachable.max(1)).await {
            return Err(Status::timeout("the watch cache is not ready", 1));
        }
        if initial {
            let (snapshot, cursor) = self.cache.list_and_follow(&self.namespace);
            let mark = options.send_initial_events == Some(true) && self.bookmarks;
            let start = Start::Objects { items: snapshot.items, revision: snapshot.revision, mark };
            return Ok((start, Some((cursor, snapshot.revision))));
        }
        if wanted == 0 {
            let (snapshot, cursor) = self.cache.list_and_follow(&self.namespace);
            return Ok((Start::Changes, Some((cursor, snapshot.revision))));
        }
        match self.cache.follow(wanted) {
            Ok(cursor) => Ok((Start::Changes, Some((cursor, wanted)))),
            Err(lagged) => {
                let status =
                    Status::too_old_resource_version(wanted.unsigned_abs(), lagged.oldest.unsigned_abs());
                Ok((Start::Gone(status), None))
            }
        }
    }

    /// Sends until the client leaves, the time is up, the server stops, or the watcher falls behind.
    async fn run(mut self, start: Start, place: Place) {
        let mut out = BytesMut::new();
        match start {
            Start::Changes => {}
            Start::Gone(status) => event(&mut out, "ERROR", &status.to_value()),
            Start::Objects { items, revision, mark } => {
                for item in &items {
                    if !self.selection.matches(item) {
                        continue;
                    }
                    self.object(&mut out, "ADDED", item, item.revision);
                    if out.len() > 64 << 10 && self.send(&mut out).await.is_err() {
                        return;
                    }
                }
                if mark {
                    self.bookmark(&mut out, revision, true);
                }
            }
        }
        if self.send(&mut out).await.is_err() {
            return;
        }
        if let Some((cursor, after)) = place {
            self.follow(cursor, after).await;
        }
    }

    async fn follow(&mut self, mut cursor: Cursor, after: i64) {
        let mut ticks = self.cache.ticks();
        let token = self.server.token().clone();
        let mut bookmark_at = Instant::now() + BOOKMARK_EVERY;
        let mut last_bookmark = 0;
        loop {
            ticks.borrow_and_update();
            if self.drain(&mut cursor, after).await.is_err() {
                return;
            }
            let sender = self.sender.clone();
            tokio::select! {
                () = token.cancelled() => return,
                () = sender.closed() => return,
                () = tokio::time::sleep_until(self.ends) => {
                    self.last_bookmark(&mut cursor, after).await;
                    return;
                }
                () = tokio::time::sleep_until(bookmark_at), if self.bookmarks => {
                    bookmark_at = Instant::now() + BOOKMARK_EVERY;
                    self.cache.request_progress();
                    let revision = self.cache.tick().revision;
                    if revision > last_bookmark && self.send_bookmark(&mut cursor, after, revision).await.is_err() {
                        return;
                    }
                    last_bookmark = revision;
                }
                changed = ticks.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Everything at the cursor. An error ends the watch.
    async fn drain(&mut self, cursor: &mut Cursor, after: i64) -> Result<(), ()> {
        loop {
            let Ok(changes) = self.cache.changes(cursor, BATCH) else {
                // Fell behind: ending the stream makes the client list again.
                return Err(());
            };
            if changes.is_empty() {
                return Ok(());
            }
            let mut out = BytesMut::new();
            for change in changes.iter().filter(|change| change.revision > after) {
                self.change(&mut out, change);
            }
            self.send(&mut out).await?;
        }
    }

    async fn last_bookmark(&mut self, cursor: &mut Cursor, after: i64) {
        if self.bookmarks {
            let revision = self.cache.tick().revision;
            // The client may be gone; it is the end either way.
            let _ = self.send_bookmark(cursor, after, revision).await;
        }
    }

    /// A bookmark for `revision`, after all changes up to it.
    async fn send_bookmark(&mut self, cursor: &mut Cursor, after: i64, revision: i64) -> Result<(), ()> {
        self.drain(cursor, after).await?;
        let mut out = BytesMut::new();
        self.bookmark(&mut out, revision.max(after), false);
        self.send(&mut out).await
    }

    async fn send(&self, out: &mut BytesMut) -> Result<(), ()> {
        if out.is_empty() {
            return Ok(());
        }
        self.sender.send(out.split().freeze()).await.map_err(|_| ())
    }

    fn wants(&self, item: Option<&Arc<Item>>) -> bool {
        let within = |item: &&Arc<Item>| self.namespace.is_empty() || *item.namespace == *self.namespace;
        item.filter(within).is_some_and(|item| self.selection.matches(item))
    }

    fn change(&mut self, out: &mut BytesMut, change: &Change) {
        let (before, now) = (change.before.as_ref(), change.now.as_ref());
        match (self.wants(before), self.wants(now), before, now) {
            (false, true, _, Some(now)) => self.object(out, "ADDED", now, change.revision),
            (true, true, _, Some(now)) => self.object(out, "MODIFIED", now, change.revision),
            // The last state that matched, at the revision of the change.
            (true, false, Some(before), _) => self.object(out, "DELETED", before, change.revision),
            _ => {}
        }
    }

    fn object(&mut self, out: &mut BytesMut, kind: &str, item: &Item, revision: i64) {
        if self.look.is_verbatim(&self.resource) {
            line(out, kind, |out| item.encoded.write(revision, out));
            return;
        }
        let object = objects::parse(item.encoded.raw(), revision);
        self.look.now_ms = self.server.now_ms();
        let value = self.look.value(&self.resource, object, !self.columns_sent);
        self.columns_sent = true;
        event(out, kind, &value);
    }

    fn bookmark(&self, out: &mut BytesMut, revision: i64, initial_end: bool) {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let (kind, version) = match self.look.accepted.shape {
            Shape::Object => (self.resource.gvk.kind.to_string(), self.resource.api_version()),
            Shape::Metadata => ("PartialObjectMetadata".into(), self.meta_version()),
            Shape::Table => ("Table".into(), self.meta_version()),
        };
        let object = match self.look.accepted.shape {
            Shape::Table => {
                json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "columnDefinitions": null, "rows": [] })
            }
            _ => json!({ "kind": kind, "apiVersion": version, "metadata": metadata }),
        };
        event(out, "BOOKMARK", &object);
    }

    fn meta_version(&self) -> String {
        format!("meta.k8s.io/{}", self.look.accepted.meta_version)
    }
}

fn event(out: &mut BytesMut, kind: &str, object: &Value) {
    line(out, kind, |out| out.extend_from_slice(&respond::to_json(object)));
}

/// `{"type":"ADDED","object":...}` and the end of the line.
fn line(out: &mut BytesMut, kind: &str, object: impl FnOnce(&mut BytesMut)) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(out);
    out.extend_from_slice(b"}\n");
}
