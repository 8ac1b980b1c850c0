//! The kubelet's HTTPS port: logs, exec, pods, health. Clients show a certificate; only the API server's identity
//! (and administrators) may ask.
//!
//! ```text
//! accept ─▶ TLS ─▶ HTTP/1.1 ─┬─ GET /containerLogs/{ns}/{pod}/{container}   (logs)
//!                            ├─ GET|POST /exec/{ns}/{pod}/{container}       (exec, WebSocket)
//!                            ├─ GET /pods
//!                            └─ GET /healthz
//! ```

mod exec;
mod stream;
pub(crate) mod tls;

use crate::context::Context;
use base::task::TaskKind;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The API server's identity towards kubelets (kubeadm's name).
const API_SERVER: &str = "kube-apiserver-kubelet-client";
/// Connections at a time; each log follower and exec holds one.
const CONNECTIONS_MAX: usize = 1024;
/// A handshake that takes longer is given up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Listens on the addresses of the options: those really bound.
pub(crate) async fn start(context: &Arc<Context>) -> io::Result<Vec<SocketAddr>> {
    let mut config = (*context.options.tls).clone();
    // WebSocket upgrades are HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let connections = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let mut bound = Vec::new();
    for address in &context.options.listen {
        let mut address = *address;
        // With port 0 all addresses get the port that the first one got.
        if let (0, Some(first)) = (address.port(), bound.first().map(SocketAddr::port)) {
            address.set_port(first);
        }
        let listener = TcpListener::bind(address).await?;
        bound.push(listener.local_addr()?);
        listen(context.clone(), listener, acceptor.clone(), connections.clone());
    }
    Ok(bound)
}

fn listen(
    context: Arc<Context>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: Arc<tokio::sync::Semaphore>,
) {
    let tasks = context.tasks.clone();
    tasks.clone().spawn(TaskKind::Service, "kubelet port", async move {
        let token = tasks.token();
        loop {
            let accepted = tokio::select! {
                () = token.cancelled() => return Ok::<(), Infallible>(()),
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, most likely: let some connections end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
            let (context, acceptor) = (context.clone(), acceptor.clone());
            tasks.spawn(TaskKind::Connection, "kubelet connection", async move {
                let _permit = permit;
                serve(context, stream, acceptor).await
            });
        }
    });
}

async fn serve(
    context: Arc<Context>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|certificate| identity::x509::principal(certificate).ok());
    let token = context.tasks.token();
    let service = service_fn(move |request| {
        let (context, user) = (context.clone(), user.clone());
        async move { Ok::<_, Infallible>(answer(context, user, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        () = token.cancelled() => Ok(()),
        result = connection => result.map_err(Into::into),
    }
}

async fn answer(
    context: Arc<Context>,
    user: Option<identity::UserInfo>,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(user) = user else { return text(StatusCode::UNAUTHORIZED, "Unauthorized") };
    if user.name != API_SERVER && !user.in_group("system:masters") {
        let message = format!("Forbidden (user={}, verb=get, resource=nodes, subresource=proxy)", user.name);
        return text(StatusCode::FORBIDDEN, &message);
    }
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz"]) => text(StatusCode::OK, "ok"),
        (&Method::GET, ["pods"]) => pods(&context),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            let target = Target::new(namespace, pod, container);
            stream::logs(&context, &target, &Query::parse(request.uri().query()))
        }
        (&Method::GET | &Method::POST, ["exec", namespace, pod, container]) => {
            let target = Target::new(namespace, pod, container);
            exec::exec(&context, &target, request)
        }
        (_, ["healthz" | "pods" | "containerLogs" | "exec", ..]) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// The container a request names.
pub(crate) struct Target {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

impl Target {
    fn new(namespace: &str, pod: &str, container: &str) -> Self {
        Self { namespace: namespace.to_owned(), pod: pod.to_owned(), container: container.to_owned() }
    }
}

/// A query string.
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub fn parse(text: Option<&str>) -> Self {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            out.entry(unescape(name)).or_default().push(unescape(value));
        }
        Self(out)
    }

    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1" | "True" | "TRUE" | "t" | "T"))
    }
}

/// Undoes percent-encoding and `+`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |index: usize| bytes.get(index).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', _, _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A plain text answer, as the kubelet's errors are.
pub(crate) fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(message.to_owned())).boxed());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn pods(context: &Context) -> Response<Body> {
    let node = context.options.node_name.as_str();
    let mut items: Vec<_> = context
        .informers
        .pods()
        .all()
        .into_iter()
        .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node))
        .collect();
    items.sort_by_key(|pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone()));
    let items: Vec<&k8s_openapi::api::core::v1::Pod> = items.iter().map(|pod| &**pod).collect();
    let list = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    let mut response = Response::new(Full::new(Bytes::from(list.to_string())).boxed());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some("command=sh&command=-c&command=echo%20a%2Bb+c&tty=1&x"));
        assert_eq!(query.all("command"), ["sh", "-c", "echo a+b c"]);
        assert!(query.is_true("tty") && !query.is_true("x") && query.get("x") == Some(""));
    }
}
