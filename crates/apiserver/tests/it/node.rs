//! Logs and exec, through to a kubelet that is only a stand-in.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::World;

async fn kubelet(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().to_string();
    let text = |code: u16, text: String| Ok(Response::builder().status(code).body(Full::from(text)).unwrap());
    if path.starts_with("/containerLogs/default/p/waiting") {
        let why = "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating";
        return text(400, why.to_owned());
    }
    if !path.starts_with("/exec/") {
        return text(200, format!("log of {path}\n"));
    }
    let accept = request.headers()["sec-websocket-protocol"].clone();
    tokio::spawn(async move {
        // Says which command it was, then echoes.
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        stream.write_all(path.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let response = Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-protocol", accept);
    Ok(response.body(Full::default()).unwrap())
}

/// Listens as the kubelet of `n1`, and registers that node and a pod on it.
async fn start_kubelet(world: &World) {
    let leaf = world.pki.kubelet_server("n1", &[]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(world.pki.server_config(&leaf).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let tls = acceptor.accept(stream).await.unwrap();
                let shown = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
                let user = identity::x509::principal(&shown).unwrap();
                assert_eq!(user.name, "kube-apiserver-kubelet-client");
                let http = hyper::server::conn::http1::Builder::new();
                http.serve_connection(TokioIo::new(tls), service_fn(kubelet)).with_upgrades().await
            });
        }
    });
    let node = json!({
        "metadata": { "name": "n1" },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": address.ip() }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": address.port() } },
        },
    });
    assert_eq!(world.ask("POST", "/api/v1/nodes", &node.to_string()).await.0, 201);
    let account = r#"{"metadata":{"name":"default"}}"#;
    world.ask("POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    let container = |name| json!({ "name": name, "image": "i" });
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": { "nodeName": "n1", "containers": [container("c"), container("waiting")] },
    });
    let (code, answer) = world.ask("POST", "/api/v1/namespaces/default/pods", &pod.to_string()).await;
    assert_eq!(code, 201, "{answer}");
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn logs_come_from_the_node() {
    let world = World::new().await;
    start_kubelet(&world).await;
    let (_, log) = world.ask("GET", &format!("{POD}/log?container=c&tailLines=5&evil=1"), "").await;
    assert_eq!(log, "log of /containerLogs/default/p/c?tailLines=5\n");
    let check = async |query: &str, expect: &str| {
        let (code, answer) = world.ask("GET", &format!("{POD}/log?{query}"), "").await;
        assert_eq!((code, answer["message"].as_str()), (400, Some(expect)));
    };
    check("", "a container name must be specified for pod p, choose one of: [c waiting]").await;
    check("container=x", "container x is not valid for pod p").await;
    check("container=waiting", "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating")
        .await;
}

async fn upgrade(world: &World, address: SocketAddr, path: &str) -> Response<Incoming> {
    let mut tls = world.pki.client_config(Some(&world.pki.admin().unwrap())).unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "kubernetes".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .uri(path)
        .header("host", "kubernetes")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "v5.channel.k8s.io");
    sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn exec_is_joined_with_the_node() {
    let world = World::new().await;
    start_kubelet(&world).await;
    let address = world.handle.addr().unwrap();
    let path = format!("{POD}/exec?container=c&command=sh&command=-c&stdin=true&stdout=true");
    let mut response = upgrade(&world, address, &path).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"|to and fro").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "/exec/default/p/c?command=sh&command=-c&input=true&output=true|to and fro");
    let refused = upgrade(&world, address, &path.replace("container=c", "container=x")).await;
    assert_eq!(refused.status(), 400);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("container x is not valid for pod p"));
}
