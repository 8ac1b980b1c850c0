//! The JSON gateway over WebSockets: watches, renewals of leases, who may, and what is no WebSocket, as a real etcd has them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use door::Served;
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;

const SOON: Duration = Duration::from_secs(20);

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    tokio::time::timeout(SOON, sender.send_request(request)).await.unwrap().unwrap()
}

/// The answer to a call without a WebSocket.
async fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &str) -> Value {
    let mut request = Request::post(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let response = send(address, request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens one, with more headers; also what the server made of the protocols that were offered.
    async fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> (Self, Option<String>) {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        let opening = tokio_tungstenite::client_async(request, stream);
        let (socket, response) = tokio::time::timeout(SOON, opening).await.unwrap().unwrap();
        let protocol = response.headers().get("sec-websocket-protocol");
        (Self(socket), protocol.map(|protocol| protocol.to_str().unwrap().to_owned()))
    }

    async fn say(&mut self, json: &str) {
        self.0.send(Message::text(json)).await.unwrap();
    }

    /// The next message, without what differs by member and by run; None at the end.
    async fn hear(&mut self) -> Option<String> {
        loop {
            let text = match tokio::time::timeout(SOON, self.0.next()).await.expect("an answer")? {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => continue,
            };
            // The library of protobuf for Go puts one of two spaces there, so that nobody relies on it.
            let mut json: Value = serde_json::from_str(&text.replace('\u{a0}', " ")).unwrap();
            for name in ["cluster_id", "member_id", "raft_term"] {
                let header = json.pointer_mut("/result/header").and_then(Value::as_object_mut);
                header.map(|header| header.remove(name));
            }
            return Some(json.to_string());
        }
    }

    async fn ask(&mut self, json: &str) -> Option<String> {
        self.say(json).await;
        self.hear().await
    }
}

/// What a watch tells: made, an event, another watch's refusal, progress, the end.
async fn watch(address: SocketAddr) -> Vec<Option<String>> {
    let (mut socket, _) = Socket::open(address, "/v3/watch", &[]).await;
    let mut told = vec![socket.ask(r#"{"create_request":{"key":"Zm9v","prev_kv":true}}"#).await];
    for value in ["MQ==", "Mg=="] {
        post(address, "/v3/kv/put", None, &format!(r#"{{"key":"Zm9v","value":"{value}"}}"#)).await;
        told.push(socket.hear().await);
    }
    // Binary messages are as good, several values in one, too.
    let two = r#"{"progress_request":{}} {"create_request":{"key":"Zm9v","start_revision":"2"}}"#;
    socket.0.send(Message::binary(two)).await.unwrap();
    for _ in 0..3 {
        told.push(socket.hear().await);
    }
    told.push(socket.ask(r#"{"cancel_request":{"watch_id":"0"}}"#).await);
    socket.0.close(None).await.unwrap();
    told.push(socket.hear().await);
    told
}

/// Renewals of a lease, and of one that is not there.
async fn renewals(address: SocketAddr) -> Vec<Option<String>> {
    post(address, "/v3/lease/grant", None, r#"{"ID":"7","TTL":"600"}"#).await;
    let (mut socket, _) = Socket::open(address, "/v3beta/lease/keepalive", &[]).await;
    let mut told = Vec::new();
    for id in ["7", "7", "8"] {
        told.push(socket.ask(&format!(r#"{{"ID":"{id}"}}"#)).await);
    }
    told
}

/// What is told where there is nothing.
async fn nothing(address: SocketAddr) -> Vec<Option<String>> {
    let (mut socket, _) = Socket::open(address, "/v3/none", &[]).await;
    vec![socket.hear().await, socket.hear().await]
}

/// The first answers to watches of one who says who it is in every way, once only users may read.
async fn users(address: SocketAddr) -> Vec<(Option<String>, Option<String>)> {
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"secret"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("enable", "{}"),
    ] {
        post(address, &format!("/v3/auth/{path}"), None, body).await;
    }
    let login = r#"{"name":"root","password":"secret"}"#;
    let token = post(address, "/v3/auth/authenticate", None, login).await;
    let token = token["token"].as_str().unwrap();
    let mut told = Vec::new();
    for headers in [
        &[("sec-websocket-protocol", format!("Bearer, {token}"))][..],
        &[("cookie", format!("a=b; token={token}"))],
        &[("sec-websocket-protocol", "Bearer, wrong".to_owned())],
        // What a page cannot set is not looked at.
        &[("authorization", token.to_owned())],
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (mut socket, protocol) = Socket::open(address, "/v3/watch", &headers).await;
        told.push((protocol, socket.ask(r#"{"create_request":{"key":"Zm9v"}}"#).await));
    }
    told
}

/// The answers to what is no opening of a WebSocket.
async fn refusals(address: SocketAddr) -> Vec<String> {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let mut told = Vec::new();
    for (method, key, version, upgrade) in [
        ("GET", key, "13", "websocket"),
        ("POST", key, "13", "WebSocket"),
        ("GET", key, "8", "websocket"),
        ("GET", "c2hvcnQ=", "13", "websocket"),
        ("GET", "!", "13", "websocket"),
        ("GET", key, "13", "other"),
    ] {
        let request = Request::builder().method(method).uri("/v3/watch").header("host", "localhost");
        let request = request.header("connection", "keep-alive, Upgrade").header("upgrade", upgrade);
        let request = request.header("sec-websocket-key", key).header("sec-websocket-version", version);
        let response = send(address, request.body(Full::default()).unwrap()).await;
        let mut line = response.status().to_string();
        for name in ["sec-websocket-version", "sec-websocket-accept", "upgrade", "connection", "content-type"]
        {
            let value = response.headers().get(name).map(|value| value.to_str().unwrap());
            line += &format!(" {value:?}");
        }
        if response.status() != 101 {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            line += &String::from_utf8_lossy(&body);
        }
        told.push(line);
    }
    told
}

#[tokio::test]
async fn what_is_told_over_sockets_is_what_a_real_etcd_tells() {
    let served = Served::with_store(|options| options.auth.bcrypt_cost = 4).await;
    let ours = served.door.addrs()[0];
    let (watched, renewed, none) = (watch(ours).await, renewals(ours).await, nothing(ours).await);
    let (refused, known) = (refusals(ours).await, users(ours).await);
    let made = r#"{"result":{"created":true,"header":{"revision":"1"}}}"#;
    assert_eq!(watched[0].as_deref(), Some(made));
    assert!(watched[2].as_ref().unwrap().contains(r#""prev_kv":{"#), "{watched:?}");
    assert_eq!(renewed[0].as_deref(), Some(r#"{"result":{"ID":"7","TTL":"600","header":{"revision":"3"}}}"#));
    assert_eq!(none, [Some(r#"{"code":5,"message":"Not Found"}"#.to_owned()), None]);
    assert!(
        refused[0].starts_with("101 ") && refused[0].contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{refused:?}"
    );
    served.stop().await;
    let Some(program) = etcd::program("KETCH_TEST_ETCD") else { return };
    let dir = tempfile::tempdir().unwrap();
    let etcd = etcd::Etcd::start(&program, dir.path(), &[]).await;
    etcd::everything(etcd.channel().await).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], etcd.port()));
    assert_eq!(watched, watch(theirs).await);
    assert_eq!(renewed, renewals(theirs).await);
    assert_eq!(none, nothing(theirs).await);
    assert_eq!(refused, refusals(theirs).await);
    assert_eq!(known, users(theirs).await);
}

#[tokio::test]
async fn a_method_of_one_message_answers_the_first() {
    let served = Served::start().await;
    let (mut socket, _) = Socket::open(served.door.addrs()[0], "/v3/kv/put", &[]).await;
    let put = socket.ask(r#"{"key":"Zm9v","value":"YmFy"}"#).await.unwrap();
    assert!(put.contains(r#""revision":"2""#), "{put}");
    assert_eq!(socket.hear().await, None);
    served.stop().await;
}

/// A value of `/metrics`.
async fn metric(address: SocketAddr, name: &str) -> String {
    let request = Request::get("/metrics").header("host", "localhost").body(Full::default()).unwrap();
    let page = send(address, request).await.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.to_vec()).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).to_owned()
}

#[tokio::test]
async fn a_socket_that_is_gone_takes_its_watches_along() {
    let served = Served::start().await;
    let address = served.door.addrs()[0];
    let (mut closed, _) = Socket::open(address, "/v3/watch", &[]).await;
    let (mut dropped, _) = Socket::open(address, "/v3/watch", &[]).await;
    for socket in [&mut closed, &mut dropped] {
        socket.ask(r#"{"create_request":{"key":"Zm9v"}}"#).await.unwrap();
    }
    let streams = "etcd_debugging_mvcc_watch_stream_total";
    assert_eq!(metric(address, streams).await, "2");
    closed.0.close(None).await.unwrap();
    drop(dropped);
    let began = Instant::now();
    while metric(address, streams).await != "0" {
        assert!(began.elapsed() < SOON, "watches outlive their sockets");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(closed.hear().await, None);
    // One that is open does not hold up the end.
    let (mut open, _) = Socket::open(address, "/v3/watch", &[]).await;
    open.ask(r#"{"create_request":{"key":"Zm9v"}}"#).await.unwrap();
    served.stop().await;
}
