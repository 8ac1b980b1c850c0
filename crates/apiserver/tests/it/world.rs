//! A server with a fixed clock and a fixed seed, and transcripts of what is said to it.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Body, Handle, Options, Service};
use base::clock::Clock;
use base::random::Random;
use base::task::Tasks;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use identity::UserInfo;
use serde_json::Value;
use tower::ServiceExt as _;

/// 2026-01-01T00:00:00Z, and it stays so.
struct NewYear;

impl Clock for NewYear {
    fn unix_ms(&self) -> i64 {
        1_767_225_600_000
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A running server.
pub struct World {
    pub handle: Handle,
    pub pki: pki::Pki,
    _tasks: Tasks,
    _dir: tempfile::TempDir,
}

/// One request.
pub struct Call<'a> {
    pub user: UserInfo,
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

pub fn admin() -> UserInfo {
    UserInfo::new("admin", &["system:masters"])
}

impl World {
    pub async fn new() -> Self {
        Self::over(testkit::MemStore::shared(), "10.42.0.1", false).await
    }

    /// A server at this address over a store that others may share.
    pub async fn over(store: Arc<dyn store_api::Store>, advertise: &str, shared_store: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let pki = pki::Pki::open(dir.path(), i64::try_from(now_s).unwrap()).unwrap();
        let names = pki::Names::api_server("cluster.local", "10.43.0.1".parse().unwrap(), "", &[]);
        let options = Options {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            tls: pki.server_config(&pki.api_server(&names).unwrap()).unwrap(),
            kubelet_tls: pki.client_config(Some(&pki.kubelet_client().unwrap())).unwrap(),
            service_account_key: pki.service_account_key_der().to_vec(),
            issuer: identity::token::DEFAULT_ISSUER.into(),
            service_cidr: "10.43.0.0/24".parse().unwrap(),
            advertise: Some(advertise.parse().unwrap()),
            shared_store,
            clock: Arc::new(NewYear),
            random: Random::from_seed(7),
        };
        let handle = Service::start(options, store, &tasks).await.unwrap();
        handle.ready().await;
        Self { handle, pki, _tasks: tasks, _dir: dir }
    }

    pub async fn send(&self, call: Call<'_>) -> Response<Body> {
        let mut request =
            Request::builder().method(Method::from_bytes(call.method.as_bytes()).unwrap()).uri(call.path);
        request = request.header("user-agent", "test/1.0");
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(call.body.to_owned()))).unwrap();
        self.handle.local(call.user).oneshot(request).await.unwrap()
    }

    /// Code and body as an administrator.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = self.send(Call { user: admin(), method, path, headers: &[], body }).await;
        read(response).await
    }

    /// Code and body of a patch.
    pub async fn patch(&self, path: &str, kind: &str, body: &str) -> (u16, Value) {
        let content_type = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        let headers = [("content-type", content_type.as_str())];
        let response =
            self.send(Call { user: admin(), method: "PATCH", path, headers: &headers, body }).await;
        read(response).await
    }

    /// Runs `METHOD path [body]` lines and writes down what comes back, without what differs between runs.
    pub async fn transcript(&self, script: &str) -> String {
        let mut out = String::new();
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let mut words = line.splitn(3, ' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let body = words.next().unwrap_or_default();
            let (code, answer) = match method.strip_prefix("PATCH:") {
                Some(kind) => self.patch(path, kind, body).await,
                None => self.ask(method, path, body).await,
            };
            out.push_str(&format!("> {line}\n{code} {}\n", brief(answer)));
        }
        let port = self.handle.addr().unwrap().port().to_string();
        out.replace(&format!("\"port\":{port}"), "\"port\":PORT")
    }
}

/// An answer on one line: managed fields are other tests' business, apiVersion and kind are on the path.
fn brief(mut value: Value) -> String {
    strip(&mut value);
    value.to_string()
}

fn strip(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "creationTimestamp", "uid"] {
            metadata.remove(key);
        }
    }
    if value["kind"] != "Status"
        && let Some(map) = value.as_object_mut()
    {
        map.remove("apiVersion");
        map.remove("kind");
    }
    if let Some(details) = value.get_mut("details").and_then(Value::as_object_mut) {
        details.remove("uid");
    }
    for item in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        strip(item);
    }
}

pub async fn read(response: Response<Body>) -> (u16, Value) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::String(text)))
}

/// The next event of a watch.
pub async fn next_event(body: &mut Body, rest: &mut Vec<u8>) -> Option<Value> {
    loop {
        if let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            return Some(serde_json::from_slice(&line).unwrap());
        }
        let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.ok()??;
        rest.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
}
