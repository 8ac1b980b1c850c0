//! The JSON gateway and the pages of the etcd port, as `curl` sees them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use door::Served;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

const SOON: Duration = Duration::from_secs(10);

async fn send(served: &Served, request: Request<Full<Bytes>>) -> Response<Incoming> {
    send_to(served.door.addrs()[0], request).await
}

async fn send_to(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", "localhost");
    builder.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

/// Status and body.
async fn ask(served: &Served, method: Method, path: &str, body: &str) -> (u16, String) {
    let response = send(served, request(method, path, body)).await;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// The same with cluster id, member id and term taken out of the head.
async fn post(served: &Served, path: &str, body: &str) -> (u16, String) {
    let (status, body) = ask(served, Method::POST, path, body).await;
    let Ok(mut json) = serde_json::from_str::<serde_json::Value>(&body) else { return (status, body) };
    if let Some(header) = json.get_mut("header").and_then(serde_json::Value::as_object_mut) {
        for name in ["cluster_id", "member_id", "raft_term"] {
            assert!(header.remove(name).is_some_and(|number| number.is_string()), "{name}: {body}");
        }
    }
    (status, json.to_string())
}

#[tokio::test]
async fn keys_as_json() {
    let served = Served::start().await;
    let check = async |path: &str, body: &str, expect: (u16, &str)| {
        let (status, answer) = post(&served, path, body).await;
        assert_eq!((status, answer.as_str()), expect, "{path} {body}");
    };
    check("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#, (200, r#"{"header":{"revision":"2"}}"#)).await;
    let found = r#"{"count":"1","header":{"revision":"2"},"kvs":[{"create_revision":"2","key":"Zm9v","mod_revision":"2","value":"YmFy","version":"1"}]}"#;
    check("/v3/kv/range", r#"{"key":"Zm9v"}"#, (200, found)).await;
    check("/v3beta/kv/range", r#"{"key":"Zm9v"}"#, (200, found)).await;
    check("/v3/kv/range", r#"{"key":"bm9uZQ=="}"#, (200, r#"{"header":{"revision":"2"}}"#)).await;
    let txn = r#"{"compare":[{"result":"EQUAL","target":"VERSION","key":"Zm9v","version":"1"}],
        "success":[{"requestPut":{"key":"Zm9v","value":"eA==","prev_kv":true}}]}"#;
    let done = r#"{"header":{"revision":"3"},"responses":[{"response_put":{"header":{"revision":"3"},"prev_kv":{"create_revision":"2","key":"Zm9v","mod_revision":"2","value":"YmFy","version":"1"}}}],"succeeded":true}"#;
    check("/v3/kv/txn", txn, (200, done)).await;
    check("/v3/kv/deleterange", r#"{"key":"Zm9v"}"#, (200, r#"{"deleted":"1","header":{"revision":"4"}}"#))
        .await;
    check("/v3/kv/range", "", (400, r#"{"code":3,"message":"etcdserver: key is not provided"}"#)).await;
    let future = r#"{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}"#;
    check("/v3/kv/range", r#"{"key":"YQ==","revision":"99"}"#, (400, future)).await;
    check("/v3/none", "{}", (404, r#"{"code":5,"message":"Not Found"}"#)).await;
    let method = ask(&served, Method::GET, "/v3/kv/range", "").await;
    assert_eq!(method, (501, r#"{"code":12,"message":"Method Not Allowed"}"#.to_owned()));
    let (status, _) = post(&served, "/v3/kv/put", "{").await;
    assert_eq!(status, 400);
    served.stop().await;
}

#[tokio::test]
async fn authentication_as_json() {
    let served = Served::with_store(|options| options.auth.bcrypt_cost = 4).await;
    for (path, body) in [
        ("/v3/auth/user/add", r#"{"name":"root","password":"secret"}"#),
        ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("/v3/auth/enable", "{}"),
    ] {
        assert_eq!(post(&served, path, body).await.0, 200, "{path}");
    }
    let put = r#"{"key":"Zm9v","value":"YmFy"}"#;
    let nameless = r#"{"code":3,"message":"etcdserver: user name is empty"}"#.to_owned();
    assert_eq!(post(&served, "/v3/kv/put", put).await, (400, nameless));
    let (_, answer) = post(&served, "/v3/auth/authenticate", r#"{"name":"root","password":"secret"}"#).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let mut with_token = request(Method::POST, "/v3/kv/put", put);
    with_token.headers_mut().insert("authorization", answer["token"].as_str().unwrap().parse().unwrap());
    assert_eq!(send(&served, with_token).await.status(), 200);
    let mut wrong = request(Method::POST, "/v3/kv/put", put);
    wrong.headers_mut().insert("authorization", "wrong".parse().unwrap());
    let refused = send(&served, wrong).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "etcdserver: invalid auth token");
    served.stop().await;
}

#[tokio::test]
async fn an_election_is_observed_as_lines() {
    let served = Served::start().await;
    let (status, _) = post(&served, "/v3/election/campaign", r#"{"name":"Yw==","value":"MQ=="}"#).await;
    assert_eq!(status, 200);
    let response = send(&served, request(Method::POST, "/v3/election/observe", r#"{"name":"Yw=="}"#)).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let mut body = response.into_body();
    let frame = tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
    let line = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
    let json: serde_json::Value = serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(json["result"]["kv"]["value"], "MQ==", "{line}");
    drop(body);
    served.stop().await;
}

#[tokio::test]
async fn health_version_and_metrics() {
    let served = Served::start().await;
    let get = async |path: &str| ask(&served, Method::GET, path, "").await;
    let healthy = (200, r#"{"health":"true","reason":""}"#.to_owned());
    assert_eq!(get("/health").await, healthy);
    assert_eq!(get("/health?serializable=true&exclude=NOSPACE").await, healthy);
    assert_eq!(ask(&served, Method::POST, "/health", "").await, (405, "Method Not Allowed\n".to_owned()));
    assert_eq!(get("/livez").await, (200, "ok\n".to_owned()));
    let all =
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(get("/readyz?verbose").await, (200, all.to_owned()));
    assert_eq!(get("/readyz?verbose&exclude=non_learner").await.1.lines().count(), 4);
    assert_eq!(get("/readyz/linearizable_read").await, (200, "ok\n".to_owned()));
    assert_eq!(get("/readyz/none").await.0, 404);
    let version = r#"{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}"#;
    assert_eq!(get("/version").await, (200, version.to_owned()));
    served.kv().await.put(door::put("a", "b")).await.unwrap();
    let (status, page) = get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_mvcc_put_total 1",
        "etcd_disk_wal_fsync_duration_seconds_count 1",
        r#"etcd_server_version{server_version="3.6.16"} 1"#,
        r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"etcd_server_healthcheck{name="non_learner",type="readyz"} 1"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    // Every sample has its kind, and no name has two.
    let kinds: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let names: std::collections::BTreeSet<&str> =
        kinds.iter().map(|kind| kind.split(' ').next().unwrap()).collect();
    assert_eq!(names.len(), kinds.len());
    served.stop().await;
}

/// What a real etcd and the door are asked alike: method, path, body.
const ALIKE: &[(&str, &str, &str)] = &[
    ("POST", "/v3/kv/range", "{}"),
    ("POST", "/v3/kv/range", ""),
    ("POST", "/v3/kv/range", "{"),
    ("POST", "/v3/kv/range", "x"),
    ("POST", "/v3/kv/range", "7"),
    ("POST", "/v3/kv/range", "[]"),
    ("POST", "/v3/kv/range", "null"),
    ("POST", "/v3/kv/range", "\"x\""),
    ("POST", "/v3/kv/range", "{,}"),
    ("POST", "/v3/kv/range", r#"{"a"}"#),
    ("POST", "/v3/kv/range", r#"{"key" "YQ=="}"#),
    ("POST", "/v3/kv/range", r#"{"key":"YQ==",}"#),
    ("POST", "/v3/kv/range", r#"{"key":"YQ=="} tail"#),
    ("POST", "/v3/kv/range", r#"{"key":"YQ=="#),
    ("POST", "/v3/kv/range", r#"{"key":tru}"#),
    ("POST", "/v3/kv/range", r#"{"key":true}"#),
    ("POST", "/v3/kv/range", r#"{"key":5}"#),
    ("POST", "/v3/kv/range", r#"{"key":{}}"#),
    ("POST", "/v3/kv/range", r#"{"key":"!"}"#),
    ("POST", "/v3/kv/range", r#"{"key":"a\q"}"#),
    ("POST", "/v3/kv/range", "{\"key\":\"\u{1}\"}"),
    ("POST", "/v3/kv/range", "{\"key\":\"\u{e9}\u{7f}\"}"),
    ("POST", "/v3/kv/range", "{\"\u{e9}\":1,\n\t\"key\": [\n7]}"),
    ("POST", "/v3/kv/range", "\u{e9}"),
    ("POST", "/v3/kv/range", "'"),
    ("POST", "/v3/kv/range", "\\"),
    ("POST", "/v3/kv/range", r#"{"key":"YQ==","key":"YQ=="}"#),
    ("POST", "/v3/kv/range", r#"{"limit":01}"#),
    ("POST", "/v3/kv/range", r#"{"limit":-}"#),
    ("POST", "/v3/kv/range", r#"{"limit":1.5}"#),
    ("POST", "/v3/kv/range", r#"{"limit":1.}"#),
    ("POST", "/v3/kv/range", r#"{"limit":"x"}"#),
    ("POST", "/v3/kv/range", r#"{"limit":""}"#),
    ("POST", "/v3/kv/range", r#"{"limit":" 1"}"#),
    ("POST", "/v3/kv/range", r#"{"limit":99999999999999999999}"#),
    ("POST", "/v3/kv/range", r#"{"limit":1e2,"key":"YQ"}"#),
    ("POST", "/v3/kv/range", r#"{"limit":null,"key":"YQ"}"#),
    ("POST", "/v3/kv/range", r#"{"key":"_-8=","unknown":[{"a":[{}]}]}"#),
    ("POST", "/v3/kv/range", r#"{"unknown":{"a":[}"#),
    ("POST", "/v3/kv/range", r#"{"key":"AA==","sort_order":"UP"}"#),
    ("POST", "/v3/kv/range", r#"{"sort_order":true}"#),
    ("POST", "/v3/kv/range", r#"{"sort_order":7}"#),
    ("POST", "/v3/kv/range", r#"{"sort_order":1.5}"#),
    ("POST", "/v3/kv/range", r#"{"key":"YQ==","revision":"99"}"#),
    ("POST", "/v3/kv/txn", r#"{"compare":5}"#),
    ("POST", "/v3/kv/txn", r#"{"compare":[5]}"#),
    ("POST", "/v3/kv/txn", r#"{"success":[{"request_put":{"key":"YQ=="},"requestRange":{}}]}"#),
    ("POST", "/v3/kv/txn", r#"{"success":[{"request_put":7}]}"#),
    ("POST", "/v3/kv/txn", r#"{"success":[{"request_delete_range":{"key":[]}}]}"#),
    ("POST", "/v3/auth/user/add", r#"{"name":5}"#),
    ("POST", "/v3/auth/user/add", r#"{"name":"x","options":{"no_password":"true"}}"#),
    ("POST", "/v3/cluster/member/add", r#"{"peerURLs":"x"}"#),
    ("POST", "/v3/cluster/member/add", r#"{"peerURLs":[7]}"#),
    ("POST", "/v3/lease/keepalive", r#"{"ID":"5"}"#),
    ("POST", "/v3/maintenance/snapshot", r#"{"x"#),
    ("POST", "/v3/election/observe", r#"{"name":5}"#),
    ("POST", "/v3/none", "{}"),
    ("POST", "/v3/", "{}"),
    ("POST", "/v3/kv/range/", "{}"),
    ("GET", "/v3/kv/range", ""),
    ("PUT", "/v3/kv/range", "{}"),
    ("OPTIONS", "/v3/kv/range", ""),
    ("OPTIONS", "/nothing", ""),
    ("GET", "/nothing", ""),
    ("GET", "/version", ""),
    ("GET", "/health", ""),
    ("POST", "/health", ""),
];

/// The answer as text: status, headers that matter, body without what differs by member.
async fn told(address: SocketAddr, (method, path, body): (&str, &str, &str)) -> String {
    let mut asked = request(method.parse().unwrap(), path, body);
    asked.headers_mut().insert("origin", "http://page.example".parse().unwrap());
    let response = tokio::time::timeout(SOON, send_to(address, asked)).await.unwrap();
    let mut out = response.status().to_string();
    for name in [
        "content-type",
        "allow",
        "grpc-metadata-content-type",
        "access-control-allow-origin",
        "access-control-allow-methods",
        "access-control-allow-headers",
    ] {
        let value = response.headers().get(name).map(|value| value.to_str().unwrap());
        out += &format!("\n{name}: {value:?}");
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    // The library of protobuf for Go puts one of two spaces there, so that nobody relies on it.
    let body = String::from_utf8_lossy(&body).replace('\u{a0}', " ");
    let Ok(mut json) = serde_json::from_str::<serde_json::Value>(&body) else { return out + "\n" + &body };
    for holder in ["/header", "/result/header"] {
        for name in ["cluster_id", "member_id", "raft_term"] {
            let header = json.pointer_mut(holder).and_then(serde_json::Value::as_object_mut);
            header.map(|header| header.remove(name));
        }
    }
    format!("{out}\n{json}")
}

#[tokio::test]
async fn refusals_and_headers_are_a_real_etcds() {
    let Some(program) = etcd::program("KETCH_TEST_ETCD") else { return };
    let dir = tempfile::tempdir().unwrap();
    let etcd = etcd::Etcd::start(&program, dir.path(), &[]).await;
    etcd::everything(etcd.channel().await).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], etcd.port()));
    // What etcd does by default.
    let served = Served::with(|options| options.cors = vec!["*".to_owned()]).await;
    let mut different = String::new();
    for case in ALIKE {
        let (theirs, ours) = (told(theirs, *case).await, told(served.door.addrs()[0], *case).await);
        if theirs != ours {
            different += &format!("{case:?}\n  etcd:  {theirs}\n  ketch: {ours}\n");
        }
    }
    assert!(different.is_empty(), "{different}");
    served.stop().await;
}

#[tokio::test]
async fn only_named_origins_may_read() {
    let served = Served::with(|options| options.cors = vec!["http://a.example:80".to_owned()]).await;
    let allowed = async |origin: &str, method: Method| {
        let mut asked = request(method, "/version", "");
        asked.headers_mut().insert("origin", origin.parse().unwrap());
        let response = send(&served, asked).await;
        assert_eq!(response.status(), 200);
        response.headers().get("access-control-allow-origin").cloned()
    };
    for method in [Method::GET, Method::OPTIONS] {
        assert_eq!(allowed("http://a.example:80", method.clone()).await.unwrap(), "http://a.example:80");
        assert_eq!(allowed("http://b.example", method).await, None);
    }
    served.stop().await;
    let served = Served::start().await;
    let answer = send(&served, request(Method::GET, "/version", "")).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"), "nobody by default");
    served.stop().await;
}
