//! What a stranger can send: over a real socket, in both versions of HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::World;

async fn connect(world: &World, alpn: &str, known: bool) -> TlsStream<TcpStream> {
    let admin = world.pki.admin().unwrap();
    let mut tls = world.pki.client_config(known.then_some(&admin)).unwrap();
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(world.handle.addr().unwrap()).await.unwrap();
    TlsConnector::from(Arc::new(tls)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

/// One request over a connection of its own.
async fn say(world: &World, alpn: &str, known: bool, request: Request<Full<Bytes>>) -> (u16, String) {
    let io = TokioIo::new(connect(world, alpn, known).await);
    let response = if alpn == "h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

fn request(method: &str, path: &str, token: Option<&str>, body: Vec<u8>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    request = request.header("host", "localhost").header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn strangers_are_told_what_is_wrong() {
    let world = World::new().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for alpn in ["h2", "http/1.1"] {
        let check = async |known, request, expect: (u16, &str)| {
            let (code, mut text) = say(&world, alpn, known, request).await;
            text.truncate(500);
            assert!(code == expect.0 && text.contains(expect.1), "{alpn}: {code} {text}, not {expect:?}");
        };
        check(false, request("GET", "/readyz", None, vec![]), (200, "ok")).await;
        check(false, request("GET", "/version", None, vec![]), (200, "v1.36.")).await;
        check(false, request("GET", "/api", None, vec![]), (401, "Unauthorized")).await;
        check(false, request("GET", "/api", Some("x.y.z"), vec![]), (401, "Unauthorized")).await;
        check(true, request("GET", "/api", None, vec![]), (200, "v1")).await;
        check(true, request("POST", maps, None, vec![b'x'; 4 << 20]), (413, "limit is 3145728")).await;
        check(true, request("POST", maps, None, b"\xff\xfe".to_vec()), (400, "ConfigMap")).await;
        check(true, request("TRACE", maps, None, vec![]), (405, "does not allow this method")).await;
        let long = format!("{maps}?labelSelector={}", "a".repeat(65_000));
        check(true, request("GET", &long, None, vec![]), (414, "too long")).await;
        let deep = "[".repeat(100_000).into_bytes();
        check(true, request("POST", maps, None, deep), (400, "")).await;
    }
}

#[tokio::test]
async fn garbage_closes_one_connection_only() {
    let world = World::new().await;
    for garbage in [
        &b"\0\0\0garbage\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = connect(&world, "http/1.1", false).await;
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the connection ends");
    }
    let (code, _) = say(&world, "h2", false, request("GET", "/readyz", None, vec![])).await;
    assert_eq!(code, 200);
}
