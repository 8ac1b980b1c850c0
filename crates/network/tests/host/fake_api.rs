//! An API of Services and EndpointSlices in memory: list and watch over a log of events, as far as reflectors ask.

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Events of all kinds in order; the resource version is the length of the log.
#[derive(Clone)]
pub struct FakeApi {
    log: Arc<Mutex<Vec<(String, Value)>>>,
    grown: watch::Sender<usize>,
}

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl FakeApi {
    pub fn new() -> Self {
        Self { log: Arc::default(), grown: watch::channel(0).0 }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        api_client::client(tower::service_fn(move |request: Request<kube::client::Body>| {
            let reply = api.serve(request.uri());
            async move { Ok::<_, Infallible>(reply) }
        }))
    }

    pub fn put(&self, plural: &str, mut object: Value) {
        self.event(plural, "ADDED", &mut object);
    }

    pub fn delete(&self, plural: &str, mut object: Value) {
        self.event(plural, "DELETED", &mut object);
    }

    fn event(&self, plural: &str, kind: &str, object: &mut Value) {
        let mut log = self.log.lock().expect("the log");
        object["metadata"]["resourceVersion"] = json!((log.len() + 1).to_string());
        log.push((plural.to_owned(), json!({"type": kind, "object": object})));
        self.grown.send_replace(log.len());
    }

    fn serve(&self, uri: &http::Uri) -> Reply {
        let plural = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let query = uri.query().unwrap_or_default();
        if !query.contains("watch=true") {
            return self.list(&plural);
        }
        let from =
            query.split('&').find_map(|p| p.strip_prefix("resourceVersion=")).and_then(|v| v.parse().ok());
        self.watch(plural, from.unwrap_or(0))
    }

    fn list(&self, plural: &str) -> Reply {
        let log = self.log.lock().expect("the log");
        let mut items: Vec<Value> = Vec::new();
        for event in log.iter().filter(|(p, _)| p == plural).map(|(_, e)| e) {
            items.retain(|i| i["metadata"]["name"] != event["object"]["metadata"]["name"]);
            if event["type"] != "DELETED" {
                items.push(event["object"].clone());
            }
        }
        let (version, kind) = if plural == "services" {
            ("v1", "ServiceList")
        } else {
            ("discovery.k8s.io/v1", "EndpointSliceList")
        };
        let list = json!({"apiVersion": version, "kind": kind, "items": items,
            "metadata": {"resourceVersion": log.len().to_string()}});
        reply(futures::stream::iter([list]).boxed())
    }

    fn watch(&self, plural: String, from: usize) -> Reply {
        let (log, grown) = (self.log.clone(), self.grown.subscribe());
        let events = futures::stream::unfold((from, grown), move |(at, mut grown)| {
            let (log, plural) = (log.clone(), plural.clone());
            async move {
                let mut at = at;
                loop {
                    let next = log.lock().expect("the log").get(at).cloned();
                    at += usize::from(next.is_some());
                    match next {
                        Some((p, event)) if p == plural => return Some((event, (at, grown))),
                        Some(_) => {}
                        None => grown.changed().await.ok()?,
                    }
                }
            }
        });
        reply(events.boxed())
    }
}

fn reply(values: futures::stream::BoxStream<'static, Value>) -> Reply {
    let frames = values.map(|value| Ok(http_body::Frame::data(Bytes::from(format!("{value}\n")))));
    Response::builder()
        .header("content-type", "application/json")
        .body(UnsyncBoxBody::new(StreamBody::new(frames)))
        .expect("a response")
}
