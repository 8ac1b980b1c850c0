//! The way to the node agents: logs are passed on, exec connections joined.
//!
//! ```text
//! client ══WebSocket══ API server ══WebSocket over TLS══ kubelet      bytes are copied both ways, not looked at
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kube_types::status::{Reason, Status};
use kube_types::{meta, path as at};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::body::Body;
use crate::http::query::Query;
use crate::http::respond::{self, Answer};

/// A kubelet has so long to take a connection and to begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of a kubelet's error text.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// What a WebSocket handshake consists of, besides the upgrade itself.
const WEBSOCKET_HEADERS: [&str; 4] =
    ["sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions"];

/// Where a kubelet listens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) node: String,
    pub(crate) address: SocketAddr,
}

/// Connects to kubelets with the API server's own certificate.
pub(crate) struct Client {
    tls: TlsConnector,
    tasks: Tasks,
}

impl Client {
    pub(crate) fn new(mut tls: rustls::ClientConfig, tasks: Tasks) -> Self {
        // Upgrades exist in HTTP/1.1 only.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: TlsConnector::from(Arc::new(tls)), tasks }
    }

    /// Passes a GET on and its answer back, as it comes.
    pub(crate) async fn get(&self, place: &Place, path: &str) -> Answer {
        let response = self.send(place, path, HeaderMap::new()).await?;
        if !response.status().is_success() {
            return Err(failure(place, response).await);
        }
        let plain = HeaderValue::from_static("text/plain");
        let content_type = response.headers().get(CONTENT_TYPE).cloned().unwrap_or(plain);
        Ok(respond::raw(StatusCode::OK, content_type, Body::proxied(response.into_body())))
    }

    /// Joins the client's connection with one to the kubelet, once both are WebSockets.
    pub(crate) async fn upgrade(&self, place: &Place, path: &str, request: &mut Parts) -> Answer {
        let wanted = request.headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !wanted.eq_ignore_ascii_case("websocket") {
            let why = match wanted {
                "" => "Upgrade request required".to_owned(),
                other => format!(
                    "unable to upgrade: {other} is not served here, only websocket (v5.channel.k8s.io)"
                ),
            };
            return Err(Status::bad_request(why));
        }
        let Some(client) = request.extensions.remove::<OnUpgrade>() else {
            return Err(Status::bad_request("this connection cannot be upgraded; use HTTP/1.1"));
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        for name in WEBSOCKET_HEADERS {
            for value in request.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        let mut response = self.send(place, path, headers).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failure(place, response).await);
        }
        let kubelet = hyper::upgrade::on(&mut response);
        self.tasks.spawn(TaskKind::Connection, "exec", splice(client, kubelet));
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        for name in ["sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions"] {
            if let Some(value) = response.headers().get(name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        Ok(answer)
    }

    async fn send(
        &self,
        place: &Place,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Status> {
        let sent = tokio::time::timeout(PATIENCE, self.try_send(place, path, headers)).await;
        let why = match sent {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let url = format!("https://{}{path}", place.address);
        Err(Status::internal(format!("error dialing backend: node {}: Get {url:?}: {why}", place.node)))
    }

    async fn try_send(
        &self,
        place: &Place,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(place.address).await?;
        stream.set_nodelay(true)?;
        let name = rustls::pki_types::ServerName::IpAddress(place.address.ip().into());
        let tls = self.tls.connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(tls)).await?;
        self.tasks.spawn(TaskKind::Connection, "kubelet connection", connection.with_upgrades());
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = path.parse()?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, HeaderValue::from_str(&place.address.to_string())?);
        Ok(sender.send_request(request).await?)
    }
}

async fn splice(
    client: OnUpgrade,
    kubelet: OnUpgrade,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (mut client, mut kubelet) = (TokioIo::new(client.await?), TokioIo::new(kubelet.await?));
    tokio::io::copy_bidirectional(&mut client, &mut kubelet).await?;
    Ok(())
}

/// The Status for a kubelet's refusal: its own if it sent one, else its text.
async fn failure(place: &Place, response: Response<Incoming>) -> Status {
    let code = response.status();
    let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = match sent.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    match code.as_u16() {
        400 => Status::bad_request(text),
        404 => Status::failure(404, Reason::NotFound, text),
        401 | 403 => Status::internal(format!("node {} refused: {text}", place.node)),
        _ => Status::internal(format!("node {} answered {code}: {text}", place.node)),
    }
}

/// A kubelet's path for a container, with those parameters of the client's that it knows.
pub(crate) fn path(verb: &str, pod: &Value, container: &str, query: &Query, parameters: &[&str]) -> String {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    debug_assert!(!at::text(pod, &["metadata", "name"]).is_empty(), "a stored pod has a name");
    let pairs = parameters.iter().flat_map(|p| query.all(p).map(move |v| (rename(verb, p), escape(v))));
    let query: Vec<String> = pairs.map(|(k, v)| format!("{k}={v}")).collect();
    format!("/{verb}/{namespace}/{name}/{container}?{}", query.join("&"))
}

/// The kubelet's own names for the streams of an exec.
fn rename<'a>(verb: &str, parameter: &'a str) -> &'a str {
    match (verb, parameter) {
        ("exec", "stdin") => "input",
        ("exec", "stdout") => "output",
        ("exec", "stderr") => "error",
        (_, other) => other,
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_carry_what_the_kubelet_knows() {
        let pod = json!({ "metadata": { "namespace": "a", "name": "b" } });
        let query =
            Query::parse(Some("command=sh&command=-c&command=echo+%26%22&stdin=true&evil=1&container=c"));
        assert_eq!(
            path("exec", &pod, "c", &query, &["command", "stdin"]),
            "/exec/a/b/c?command=sh&command=-c&command=echo%20%26%22&input=true"
        );
    }
}
