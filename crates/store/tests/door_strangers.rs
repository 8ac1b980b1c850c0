//! What a stranger may send to the etcd port: each gets etcd's answer, and nobody else notices.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use door::{Served, get, put, refusal};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends one request by HTTP/2; status, `grpc-status` and `grpc-message` as they come.
async fn raw(served: &Served, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
    let stream = TcpStream::connect(served.door.addrs()[0]).await.unwrap();
    let connecting = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = connecting.unwrap();
    let driving = tokio::spawn(connection);
    let mut request = Request::post(format!("http://localhost{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let mut found = parts.headers;
    found.extend(body.trailers().cloned().unwrap_or_default());
    driving.abort();
    let text = |name: &str| found.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let message = text("grpc-message").replace("%22", "\"").replace("%20", " ");
    (parts.status.as_u16(), format!("{}: {message}", text("grpc-status")))
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[tokio::test]
async fn unknown_names_encodings_and_garbage_get_grpcs_own_words() {
    let served = Served::start().await;
    let empty = vec![0; 5];
    let cases = [
        (
            "/etcdserverpb.KV/Nothing",
            vec![GRPC],
            empty.clone(),
            "12: unknown method Nothing for service etcdserverpb.KV",
        ),
        (
            "/etcdserverpb.Watch/X",
            vec![GRPC],
            empty.clone(),
            "12: unknown method X for service etcdserverpb.Watch",
        ),
        ("/no.Service/Put", vec![GRPC], empty.clone(), "12: unknown service no.Service"),
        ("/nothing", vec![GRPC], empty.clone(), "12: malformed method name: \"/nothing\""),
        (
            "/etcdserverpb.KV/Put",
            vec![GRPC, ("grpc-encoding", "snappy")],
            empty.clone(),
            "12: grpc: Decompressor is not installed for grpc-encoding \"snappy\"",
        ),
        (
            "/etcdserverpb.KV/Put",
            vec![GRPC],
            vec![0, 0x7f, 0xff, 0xff, 0xff],
            "8: grpc: received message larger than max (2147483647 vs. 2097152)",
        ),
    ];
    for (path, headers, body, expect) in cases {
        assert_eq!(raw(&served, path, &headers, body).await, (200, expect.to_owned()), "{path}");
    }
    for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"] {
        // A message that is none: a field of a kind that does not exist.
        let (status, text) = raw(&served, path, &[GRPC], vec![0, 0, 0, 0, 2, 0x0f, 0xff]).await;
        assert!(status == 200 && text.starts_with("13: "), "{path}: {text}");
        // Cut short.
        let (status, text) = raw(&served, path, &[GRPC], vec![0, 0, 0, 0, 9, 1]).await;
        assert!(status == 200 && text.starts_with("13: "), "{path}: {text}");
    }
    assert_eq!(served.store.header().revision.get(), 1, "nothing was written");
    served.kv().await.put(put("a", "1")).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_http_end_their_own_connection_only() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let garbage: [Vec<u8>; 4] = [
        b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
        vec![0xff; 4096],
        [preface.clone(), vec![0xff; 4096]].concat(),
        // A frame that says it is larger than any may be.
        [preface, vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(served.door.addrs()[0]).await.unwrap();
        // It may hang up while we write.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
            .await
            .expect("ends");
        kv.put(put("a", "1")).await.unwrap();
    }
    served.stop().await;
}

async fn dial(address: SocketAddr, tls: rustls::ClientConfig) -> std::io::Result<usize> {
    let stream = TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
    // With TLS 1.3 a client learns only by reading that its certificate was refused.
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    tls.read(&mut [0; 64]).await
}

#[tokio::test]
async fn only_certificates_of_the_stores_own_authority_are_let_in() {
    let (ours, strange) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
    let open = |dir: &tempfile::TempDir| pki::Pki::open(dir.path(), now_s).unwrap();
    let (ours, strange) = (open(&ours), open(&strange));
    let names = pki::Names { dns: vec!["localhost".into()], addresses: vec![] };
    let tls = Arc::new(ours.etcd_server_config(&ours.etcd_server(&names).unwrap()).unwrap());
    let served = Served::with(|options| options.tls = Some(tls)).await;
    let address = served.door.addrs()[0];
    let trusted = ours.etcd_ca_pem();
    let mine = pki::tls::client(trusted, Some(&ours.etcd_client().unwrap())).unwrap();
    assert!(dial(address, mine).await.unwrap() > 0, "the server speaks");
    // The cluster's own authority is not the store's.
    let leaves = [None, Some(strange.etcd_client().unwrap()), Some(ours.admin().unwrap())];
    for leaf in leaves {
        let refused = dial(address, pki::tls::client(trusted, leaf.as_ref()).unwrap()).await;
        assert!(!matches!(refused, Ok(1..)), "{leaf:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_long_range_is_the_same_however_it_is_read() {
    const KEYS: usize = 300;
    let served = Served::start().await;
    let mut kv = served.kv().await;
    for n in 0..KEYS {
        kv.put(put(format!("k{n:03}"), vec![b'v'; n * 7])).await.unwrap();
    }
    let all = || etcd_wire::etcdserverpb::RangeRequest { range_end: "l".into(), ..get("k") };
    let now = kv.range(all()).await.unwrap().into_inner();
    // Asking for a revision goes another way.
    let at = etcd_wire::etcdserverpb::RangeRequest { revision: now.header.unwrap().revision, ..all() };
    assert_eq!(now, kv.range(at.clone()).await.unwrap().into_inner());
    assert_eq!((now.kvs.len(), now.count, now.more), (KEYS, KEYS as i64, false));
    for (limit, keys_only) in [(1, false), (300, true), (299, true), (0, true)] {
        let now =
            kv.range(etcd_wire::etcdserverpb::RangeRequest { limit, keys_only, ..all() }).await.unwrap();
        let at = etcd_wire::etcdserverpb::RangeRequest { limit, keys_only, ..at.clone() };
        assert_eq!(now.into_inner(), kv.range(at).await.unwrap().into_inner());
    }
    assert!(
        refusal(kv.range(etcd_wire::etcdserverpb::RangeRequest { sort_order: 5, ..all() }).await)
            .contains("sort")
    );
    served.stop().await;
}

/// Sends a put in DATA frames of `step` bytes; the status of gRPC in the trailers or the head.
async fn put_in_frames(served: &Served, frame: &[u8], step: usize) -> String {
    let stream = TcpStream::connect(served.door.addrs()[0]).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let request =
        Request::post("http://localhost/etcdserverpb.KV/Put").header(GRPC.0, GRPC.1).body(()).unwrap();
    let (response, mut out) = requests.send_request(request, false).unwrap();
    for piece in frame.chunks(step) {
        out.send_data(Bytes::copy_from_slice(piece), false).unwrap();
    }
    out.send_data(Bytes::new(), true).unwrap();
    let mut response = response.await.unwrap();
    while let Some(piece) = response.body_mut().data().await {
        let len = piece.unwrap().len();
        response.body_mut().flow_control().release_capacity(len).unwrap();
    }
    let trailers = response.body_mut().trailers().await.unwrap().unwrap_or_default();
    driving.abort();
    let status = trailers.get("grpc-status").or(response.headers().get("grpc-status"));
    status.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_body_is_the_same_in_however_many_frames_it_comes() {
    use prost::Message as _;
    let served = Served::start().await;
    let value = "v".repeat(5000);
    let message = put("k", &value).encode_to_vec();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    for step in [1, 3, 4096, frame.len()] {
        assert_eq!(put_in_frames(&served, &frame, step).await, "0", "{step}");
    }
    let mut kv = served.kv().await;
    let found = kv.range(get("k")).await.unwrap().into_inner().kvs.remove(0);
    assert_eq!((found.version, found.value.len()), (4, 5000));
    // A flag that says "compressed", and a message cut short, go the ordinary way with all their bytes.
    let compressed = [&[1], &frame[1..]].concat();
    for step in [1, frame.len()] {
        assert_eq!(put_in_frames(&served, &compressed, step).await, "13");
        assert_eq!(put_in_frames(&served, &frame[..frame.len() - 1], step).await, "13");
    }
    let found = kv.range(get("k")).await.unwrap().into_inner().kvs.remove(0);
    assert_eq!(found.version, 4);
    served.stop().await;
}

/// Pings by hand, without a call, as fast as they go; what the server says for its farewell.
async fn ping_by_hand(address: SocketAddr) -> (u32, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
    stream.write_all(&hello).await.unwrap();
    let (mut reads, mut writes) = stream.into_split();
    let pinging = tokio::spawn(async move {
        for _ in 0..4 {
            writes.write_all(b"\0\0\x08\x06\0\0\0\0\0pingping").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        writes
    });
    let reading = async {
        loop {
            let mut head = [0; 9];
            reads.read_exact(&mut head).await.unwrap();
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            reads.read_exact(&mut payload).await.unwrap();
            if kind == 7 {
                let code = u32::from_be_bytes(*payload[4..].first_chunk().unwrap());
                return (code, String::from_utf8(payload[8..].to_vec()).unwrap());
            }
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("sent away");
    drop(pinging.await);
    said
}

/// Pings with a call between them or not; how the connection ended, if it did.
async fn ping_between(address: SocketAddr, calls: bool) -> Option<h2::Reason> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let driving = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    for _ in 0..8 {
        if calls {
            let request = Request::post("http://localhost/etcdserverpb.KV/Range")
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from_static(b"\0\0\0\0\x03\x0a\x01k"), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            while let Some(piece) = body.data().await {
                piece.unwrap();
            }
            body.trailers().await.unwrap();
        }
        if pings.ping(h2::Ping::opaque()).await.is_err() {
            break;
        }
    }
    drop(sender);
    tokio::time::timeout(Duration::from_secs(30), driving).await.unwrap().unwrap().err()?.reason()
}

async fn pings_too_often(address: SocketAddr) {
    assert_eq!(ping_by_hand(address).await, (11, "too_many_pings".to_owned()));
    assert_eq!(ping_between(address, false).await, Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert_eq!(ping_between(address, true).await, None, "an answer forgives");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pings_too_often_is_sent_away_as_etcd_does() {
    if let Some(program) = etcd::program("KETCH_TEST_ETCD") {
        let dir = tempfile::tempdir().unwrap();
        let etcd = etcd::Etcd::start(&program, dir.path(), &[]).await;
        pings_too_often(SocketAddr::from(([127, 0, 0, 1], etcd.port()))).await;
    }
    let served = Served::start().await;
    pings_too_often(served.door.addrs()[0]).await;
    let mut kv = served.kv().await;
    kv.put(put("a", "1")).await.unwrap();
    served.stop().await;
}
