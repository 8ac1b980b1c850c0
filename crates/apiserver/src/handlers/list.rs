//! get and list.
//!
//! ```text
//! unset RV, RV=N     the cache, once it is as new as the store (or as N)
//! RV=0               the cache as it is, limit ignored
//! exact, continue    the store, at that revision
//! ```

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use kube_types::registry::Resource;
use kube_types::status::Status;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store_api::{Error, KeyRange, RangeRequest, Revision};

use super::options::{ListOptions, Match};
use super::select::Selection;
use super::shape::Look;
use crate::cache::{self, Item};
use crate::http::respond::Answer;
use crate::objects;
use crate::server::{Request, Server};

/// Keys read at once when a page is read from the store.
const CHUNK: usize = 500;
const CONTINUE_VERSION: &str = "meta.k8s.io/v1";

/// GET of one object.
pub(crate) async fn get(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let key = resource.key(&rq.target.namespace_of(resource), &rq.target.name);
    let revision = ListOptions::parse(&rq.query, false)?.revision;
    let stored = server.read(&key).await?;
    // After the read, which has brought this server up to date.
    if let Some(revision) = revision {
        reached(server, revision)?;
    }
    let stored = stored.ok_or_else(|| Status::not_found(&resource.group_resource(), &rq.target.name))?;
    Ok(look.object(StatusCode::OK, resource, stored.value))
}

fn reached(server: &Server, revision: i64) -> Result<(), Status> {
    let current = server.revision();
    if revision <= current {
        return Ok(());
    }
    Err(Status::too_large_resource_version(revision.unsigned_abs(), current.unsigned_abs()))
}

/// The position of a list that goes on (upstream's continue token).
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

struct Page {
    revision: i64,
    items: Vec<Arc<Item>>,
    /// Key (below the prefix) of the last object looked at, when there are more.
    more_after: Option<String>,
    remaining: Option<usize>,
}

/// GET of a collection.
pub(crate) async fn list(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let options = ListOptions::parse(&rq.query, false)?;
    let selection = Selection::parse(resource, &rq.query, "")?;
    let namespace = rq.target.namespace.clone();
    let page = page(server, resource, &namespace, &options, &selection).await?;
    look.list(resource, page.metadata(), &page.items)
}

/// All objects that match now, for deletecollection.
pub(crate) async fn all(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    namespace: &str,
    selection: &Selection,
) -> Result<Vec<Arc<Item>>, Status> {
    let newest = server.newest().await?;
    Ok(fresh(server, resource, namespace, selection, newest, 0).await?.items)
}

async fn page(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    namespace: &str,
    options: &ListOptions,
    selection: &Selection,
) -> Result<Page, Status> {
    if let Some(token) = &options.token {
        return continued(server, resource, namespace, options, token, selection).await;
    }
    let limit = options.limit;
    match (options.revision, options.matching) {
        (None, _) => fresh(server, resource, namespace, selection, server.newest().await?, limit).await,
        (Some(0), Match::Unset | Match::NotOlderThan) => {
            fresh(server, resource, namespace, selection, 1, 0).await
        }
        (Some(revision), Match::NotOlderThan) => {
            fresh(server, resource, namespace, selection, revision, limit).await
        }
        // Without a match, a limit makes it exact: the rule of old.
        (Some(revision), Match::Unset) if limit == 0 => {
            fresh(server, resource, namespace, selection, revision, 0).await
        }
        (Some(revision), _) => {
            if revision > server.revision() {
                server.newest().await?;
            }
            reached(server, revision)?;
            exact(server, resource, namespace, selection, revision, limit, None).await
        }
    }
}

/// From the cache, as of at least `revision`.
async fn fresh(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    namespace: &str,
    selection: &Selection,
    revision: i64,
    limit: usize,
) -> Result<Page, Status> {
    let cache = server.cache(resource);
    if !cache.fresh(revision).await {
        reached(server, revision)?;
        // The cache cannot keep up: the store can answer.
        return exact(server, resource, namespace, selection, server.revision(), limit, None).await;
    }
    let mut snapshot = cache.list(namespace, None);
    snapshot.items.retain(|item| selection.matches(item));
    Ok(cut(snapshot.revision, snapshot.items, limit, selection))
}

fn cut(revision: i64, mut items: Vec<Arc<Item>>, limit: usize, selection: &Selection) -> Page {
    if limit == 0 || items.len() <= limit {
        return Page { revision, items, more_after: None, remaining: None };
    }
    let remaining = selection.is_everything().then_some(items.len() - limit);
    items.truncate(limit);
    Page { revision, more_after: items.last().map(|item| key(item)), items, remaining }
}

fn key(item: &Item) -> String {
    if item.namespace.is_empty() {
        item.name.to_string()
    } else {
        format!("{}/{}", item.namespace, item.name)
    }
}

async fn continued(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    namespace: &str,
    options: &ListOptions,
    token: &str,
    selection: &Selection,
) -> Result<Page, Status> {
    if options.revision.is_some_and(|r| r != 0) {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let decoded = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok();
    let token: Option<Token> = decoded.and_then(|json| serde_json::from_slice(&json).ok());
    let Some(token) = token.filter(|t| t.v == CONTINUE_VERSION && t.rv != 0 && !t.start.is_empty()) else {
        return Err(Status::bad_request("continue key is not valid: encoding is corrupt"));
    };
    let revision = if token.rv < 0 { server.newest().await? } else { token.rv };
    let page =
        exact(server, resource, namespace, selection, revision, options.limit, Some(&token.start)).await;
    page.map_err(|status| match status.code() {
        410 => expired(&token.start),
        _ => status,
    })
}

/// 410 with a token that goes on inconsistently from the same place.
fn expired(start: &str) -> Status {
    let text = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                list without the continue parameter, or use the continue token in this response to retrieve the \
                remainder of the results. Continuing with the provided token results in an inconsistent list - \
                objects that were created, modified, or deleted between the time the first chunk was returned and now \
                may show up in the list.";
    Status::expired(text).with_continue(encode(-1, start))
}

fn encode(rv: i64, start: &str) -> String {
    let token = Token { v: CONTINUE_VERSION.into(), rv, start: start.into() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// From the store at one revision, from behind the key `start` (which ends with NUL) on.
async fn exact(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    namespace: &str,
    selection: &Selection,
    revision: i64,
    limit: usize,
    start: Option<&str>,
) -> Result<Page, Status> {
    let prefix = resource.key_prefix(namespace);
    let KeyRange::Span { start: first, end } = KeyRange::prefix(prefix.clone()) else {
        return Err(Status::internal("a prefix is a span"));
    };
    let mut from = start.map_or(first, |s| format!("{}{s}", resource.storage_prefix).into());
    if from[..] < *prefix.as_bytes() {
        return Err(Status::bad_request("continue key is not valid: it is outside of the list"));
    }
    let labels = objects::selectable(server.registry, resource);
    let mut items = Vec::new();
    loop {
        let mut request = RangeRequest::of(KeyRange::Span { start: from, end: end.clone() });
        request.limit = CHUNK;
        request.revision = Some(Revision(revision));
        let chunk = server.store.range(request).await.map_err(|e| at_revision(&e, revision))?;
        let (count, more, total) = (chunk.kvs.len(), chunk.more, chunk.count);
        let mut last = None;
        for (i, kv) in chunk.kvs.into_iter().enumerate() {
            last = Some(kv.key.clone());
            let Some(item) = cache::parse(kv, &labels).filter(|item| selection.matches(item)) else {
                continue;
            };
            items.push(Arc::new(item));
            let left = total.saturating_sub(i + 1);
            if limit > 0 && items.len() == limit && left > 0 {
                let remaining = selection.is_everything().then_some(left);
                return Ok(Page {
                    revision,
                    more_after: items.last().map(|item| key(item)),
                    items,
                    remaining,
                });
            }
        }
        match last {
            Some(last) if more && count > 0 => from = [&last[..], &[0]].concat().into(),
            _ => return Ok(Page { revision, items, more_after: None, remaining: None }),
        }
    }
}

fn at_revision(error: &Error, revision: i64) -> Status {
    match error {
        Error::FutureRevision { current } => {
            Status::too_large_resource_version(revision.unsigned_abs(), current.get().unsigned_abs())
        }
        Error::Compacted { .. } => Status::expired(format!(
            "The provided resource version {revision} is too old: it has been compacted away"
        )),
        other => objects::store_status(other),
    }
}

impl Page {
    fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(after) = &self.more_after {
            metadata["continue"] = json!(encode(self.revision, &format!("{after}\0")));
            if let Some(remaining) = self.remaining {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        metadata
    }
}
