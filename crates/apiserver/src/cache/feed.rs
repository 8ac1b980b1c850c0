//! Keeps one cache up to date.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kube_types::registry::FieldLabel;
use serde::Deserialize;
use serde_json::Value;
use store_api::{
    Error, Event, EventKind, KeyRange, KeyValue, RangeRequest, Revision, Store, Watch, WatchMessage,
    WatchRequest,
};
use tokio_util::sync::CancellationToken;

use super::{Cache, Change, Encoded, Item, Tick};
use crate::objects::field_value;

/// Keys read at once while loading; bounds the size of one answer of the store.
const PAGE: usize = 1000;
/// Wait before the store is asked again after it refused.
const RETRY: Duration = Duration::from_millis(200);

/// Loads and follows until cancelled. A watch that breaks means: load again.
pub(super) async fn run(
    cache: Arc<Cache>,
    store: Arc<dyn Store>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let ended = tokio::select! {
            () = token.cancelled() => return Ok(()),
            ended = load_and_follow(&cache, &*store) => ended,
        };
        *cache.progress.lock() = None;
        match ended {
            Error::ShuttingDown => return Ok(()),
            error => tracing::debug!(prefix = cache.prefix, %error, "watch cache loads again"),
        }
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn load_and_follow(cache: &Cache, store: &dyn Store) -> Error {
    let watch = async {
        let revision = load(cache, store).await?;
        let range = KeyRange::prefix(cache.prefix.clone());
        let start_revision = Some(revision.next());
        store.watch(WatchRequest { range, start_revision, prev_kv: false }).await
    };
    match watch.await {
        Ok(watch) => follow(cache, watch).await,
        Err(error) => error,
    }
}

/// Reads every object at one revision.
async fn load(cache: &Cache, store: &dyn Store) -> Result<Revision, Error> {
    let mut request = RangeRequest::prefix(cache.prefix.clone());
    request.limit = PAGE;
    let mut items = BTreeMap::new();
    loop {
        let page = store.range(request.clone()).await?;
        let revision = *request.revision.get_or_insert(page.revision);
        let last = page.kvs.last().map(|kv| kv.key.clone());
        for kv in page.kvs {
            if let Some((key, item)) = cache.item(kv) {
                items.insert(key, item);
            }
        }
        match last {
            Some(last) if page.more => request.range = after(&last, &request.range),
            _ => {
                cache.reset(items, revision.get());
                return Ok(revision);
            }
        }
    }
}

/// The part of a range behind a key.
fn after(key: &[u8], range: &KeyRange) -> KeyRange {
    let start = [key, &[0]].concat().into();
    match range {
        KeyRange::Span { end, .. } => KeyRange::Span { start, end: end.clone() },
        KeyRange::One(_) => KeyRange::Span { start: start.clone(), end: start },
    }
}

async fn follow(cache: &Cache, mut watch: Watch) -> Error {
    *cache.progress.lock() = Some(watch.progress.clone());
    // Someone may have asked before there was anybody to ask.
    watch.request_progress();
    while let Some(message) = watch.messages.recv().await {
        match message {
            WatchMessage::Events { revision, events } => cache.apply(events, revision.get()),
            WatchMessage::Progress { revision } => cache.apply(Vec::new(), revision.get()),
            WatchMessage::Cancelled { error } => return error,
        }
    }
    Error::Unavailable("the store ended the watch".into())
}

#[derive(Deserialize)]
struct Metadata {
    name: Box<str>,
    #[serde(default)]
    namespace: Box<str>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

impl Cache {
    fn item(&self, kv: KeyValue) -> Option<(Box<str>, Arc<Item>)> {
        let key = std::str::from_utf8(kv.key.strip_prefix(self.prefix.as_bytes())?).ok()?;
        let key = Box::from(key);
        let item = parse(kv, &self.labels);
        if item.is_none() {
            tracing::warn!(prefix = self.prefix, key = &*key, "an object in the store cannot be read");
        }
        Some((key, Arc::new(item?)))
    }

    pub(super) fn reset(&self, items: BTreeMap<Box<str>, Arc<Item>>, revision: i64) {
        let mut state = self.state.write();
        let tick = Tick { revision, next: state.tick.next, epoch: state.tick.epoch + 1 };
        state.items = items;
        state.changes.clear();
        (state.change_bytes, state.first, state.complete_after) = (0, tick.next, revision);
        state.tick = tick;
        drop(state);
        self.ticks.send_replace(tick);
    }

    /// Takes events in; afterwards the cache is as of `revision`.
    pub(super) fn apply(&self, events: Vec<Event>, revision: i64) {
        // Parsing happens before the lock is taken.
        let changes: Vec<_> = events.into_iter().filter_map(|event| self.incoming(event)).collect();
        let mut state = self.state.write();
        for (key, revision, now) in changes {
            let before = match &now {
                Some(item) => state.items.insert(key, item.clone()),
                None => state.items.remove(&key),
            };
            if now.is_some() || before.is_some() {
                state.remember(Change { revision, now, before });
            }
        }
        state.tick.revision = revision.max(state.tick.revision);
        let tick = state.tick;
        drop(state);
        self.ticks.send_replace(tick);
    }

    fn incoming(&self, event: Event) -> Option<(Box<str>, i64, Option<Arc<Item>>)> {
        let revision = event.kv.mod_revision.get();
        match event.kind {
            EventKind::Put => self.item(event.kv).map(|(key, item)| (key, revision, Some(item))),
            EventKind::Delete => {
                let key = std::str::from_utf8(event.kv.key.strip_prefix(self.prefix.as_bytes())?).ok()?;
                Some((key.into(), revision, None))
            }
        }
    }
}

/// Reads what lists and selectors need out of a stored object.
pub(crate) fn parse(kv: KeyValue, labels: &[FieldLabel]) -> Option<Item> {
    let encoded = Encoded::new(kv.value)?;
    // Without selectable fields, only the metadata is read, and the parser stops where it ends.
    let (metadata, fields) = if labels.is_empty() {
        let mut parser = serde_json::Deserializer::from_slice(encoded.metadata());
        (Metadata::deserialize(&mut parser).ok()?, Vec::new())
    } else {
        let value: Value = serde_json::from_slice(encoded.raw()).ok()?;
        let fields = labels.iter().map(|l| (l.label, field_value(l, &value))).collect();
        (Object::deserialize(value).ok()?.metadata, fields)
    };
    let Metadata { name, namespace, labels } = metadata;
    Some(Item { namespace, name, revision: kv.mod_revision.get(), labels, fields, encoded })
}
