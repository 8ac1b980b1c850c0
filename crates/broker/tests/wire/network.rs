//! Connections: order, limits, patience, listeners, TLS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_wire::frame;
use kafka_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchResponse, MetadataRequest, MetadataResponse,
    ProduceResponse,
};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Raw, Served, append, batch, create, fetch, options, produce};

async fn with(dir: &std::path::Path, properties: &[(&str, &str)]) -> Served {
    let mut options = options(dir);
    options.properties.extend(properties.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    Served::with(options, testkit::MemStore::shared()).await
}

async fn lives(raw: &mut Raw) -> bool {
    raw.send(9, &MetadataRequest { topics: None, ..Default::default() }).await;
    raw.frame().await.is_some()
}

#[tokio::test]
async fn answers_come_in_the_order_of_requests() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let (mut raw, mut writer) = (served.raw().await, served.raw().await);
    create(&mut raw, "t", &[]).await;
    // A fetch that waits holds back the answers behind it, not the requests.
    raw.send(12, &fetch("t", 0, 30_000, 1)).await;
    raw.send(9, &produce("t", 1, batch(1, None))).await;
    raw.send(9, &produce("t", -1, batch(1, None))).await;
    let mut orders = Vec::new();
    for _ in 0..3 {
        let frame = raw.frame().await.unwrap();
        orders.push(i32::from_be_bytes(frame[..4].try_into().unwrap()));
        if orders.len() == 1 {
            let (_, response): (_, FetchResponse) = frame::read_response(&frame, 12).unwrap();
            assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
        } else {
            let (_, response): (_, ProduceResponse) = frame::read_response(&frame, 9).unwrap();
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
    }
    assert!(orders.is_sorted(), "{orders:?}");
    assert_eq!(append(&mut writer, "t", batch(1, None)).await.1, 2);
    served.stop().await;
}

#[tokio::test]
async fn connections_are_limited_in_all_and_by_address() {
    let dir = tempfile::tempdir().unwrap();
    let served = with(dir.path(), &[("max.connections.per.ip", "2")]).await;
    let (mut first, mut second) = (served.raw().await, served.raw().await);
    assert!(lives(&mut first).await && lives(&mut second).await);
    let mut third = served.raw().await;
    assert_eq!(third.frame().await, None);
    drop(first);
    // The seat is free once the broker has seen the end.
    let began = Instant::now();
    loop {
        let mut next = served.raw().await;
        next.send(9, &MetadataRequest { topics: None, ..Default::default() }).await;
        if next.frame().await.is_some() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served.stop().await;
    let over = [("max.connections.per.ip", "0"), ("max.connections.per.ip.overrides", "127.0.0.1:5")];
    let served = with(dir.path(), &over).await;
    assert!(lives(&mut served.raw().await).await);
    served.stop().await;
}

/// `max.connection.creation.rate` is read at each connection: it takes effect while the broker runs.
#[tokio::test]
async fn new_connections_are_paced() {
    let dir = tempfile::tempdir().unwrap();
    let served = with(dir.path(), &[("max.connection.creation.rate", "20")]).await;
    let connect_all = async || {
        let began = Instant::now();
        for _ in 0..30 {
            assert!(lives(&mut served.raw().await).await);
        }
        began.elapsed()
    };
    // Twenty at once, then one each twentieth of a second.
    let took = connect_all().await;
    assert!(took >= Duration::from_millis(400), "30 connections in {took:?}");
    let put =
        store_api::Op::put("/ketch/kafka/configs/brokers/1", r#"{"max.connection.creation.rate":"100000"}"#);
    served.store.txn(store_api::Txn { success: vec![put], ..Default::default() }).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while connect_all().await >= Duration::from_millis(400) {
        assert!(Instant::now() < deadline, "the new rate never takes effect");
    }
    served.stop().await;
}

#[tokio::test]
async fn idle_and_half_open_connections_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let served = with(dir.path(), &[("connections.max.idle.ms", "300")]).await;
    let mut half = served.raw().await;
    half.stream.write_all(&[0, 0, 1, 0, 0]).await.unwrap();
    let mut idle = served.raw().await;
    assert!(lives(&mut idle).await);
    let began = Instant::now();
    assert_eq!(idle.frame().await, None);
    assert_eq!(half.frame().await, None);
    assert!(began.elapsed() >= Duration::from_millis(250) && began.elapsed() < Duration::from_secs(10));
    served.stop().await;
}

/// A client that takes nothing of what it asked for must not keep others from theirs.
#[tokio::test]
async fn clients_that_do_not_read_hold_no_more_than_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let bound = [("queued.max.request.bytes", "8000000"), ("socket.request.max.bytes", "2000000")];
    let served = with(dir.path(), &bound).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    for _ in 0..12 {
        let mut builder = kafka_wire::record::Builder::new();
        let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        builder.append(now_ms, None, Some(&[7; 900_000]));
        assert_eq!(append(&mut raw, "t", builder.build().unwrap()).await.0, kafka_wire::ErrorCode::None);
    }
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let mut client = served.raw().await;
        let mut everything = fetch("t", 0, 0, 1);
        everything.max_bytes = 50 << 20;
        everything.topics[0].partitions[0].partition_max_bytes = 50 << 20;
        for _ in 0..20 {
            client.send(12, &everything).await;
        }
        deaf.push(client);
    }
    // Every one of them has the beginning of an answer, and takes none of it.
    for client in &deaf {
        let began = client.stream.readable();
        tokio::time::timeout(Duration::from_secs(20), began).await.expect("in time").unwrap();
    }
    // Requests that need no room are answered; fetches get theirs as soon as somebody reads or goes.
    assert!(lives(&mut raw).await);
    drop(deaf);
    let response: FetchResponse = raw.call(12, &fetch("t", 0, 0, 1)).await;
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    served.stop().await;
}

/// Sends ApiVersions and Metadata over any stream; the address told.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> (String, i32) {
    let versions =
        ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    let first = frame::request(1, Some("t"), 3, &versions).unwrap().concat();
    let second = MetadataRequest { topics: Some(vec![]), ..Default::default() };
    let second = frame::request(2, Some("t"), 9, &second).unwrap().concat();
    stream.write_all(&[first, second].concat()).await.unwrap();
    stream.flush().await.unwrap();
    let mut frames = Vec::new();
    for _ in 0..2 {
        let size = stream.read_i32().await.unwrap();
        let mut bytes = vec![0; size as usize];
        stream.read_exact(&mut bytes).await.unwrap();
        frames.push(bytes::Bytes::from(bytes));
    }
    let (_, versions): (_, ApiVersionsResponse) = frame::read_response(&frames[0], 3).unwrap();
    assert_eq!(versions.error_code, 0);
    let (_, metadata): (_, MetadataResponse) = frame::read_response(&frames[1], 9).unwrap();
    (metadata.brokers[0].host.clone(), metadata.brokers[0].port)
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    /// Certificate and key of a leaf.
    fn leaf(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client(&self, shown: Option<&(rcgen::Certificate, rcgen::KeyPair)>) -> tokio_rustls::TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }
}

#[tokio::test]
async fn listeners_have_their_own_security_and_address() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.leaf("broker.test");
    let pem = dir.path().join("broker.pem");
    std::fs::write(&pem, [certificate.pem(), key.serialize_pem()].concat()).unwrap();
    let ca = authority.certificate.pem();
    let served = with(
        &dir.path().join("kafka"),
        &[
            ("listeners", "PLAINTEXT://127.0.0.1:0,PUBLIC://127.0.0.1:0,MUTUAL://127.0.0.1:0"),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,PUBLIC:SSL,MUTUAL:SSL"),
            ("advertised.listeners", "PUBLIC://kafka.example:443"),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", pem.to_str().unwrap()),
            ("listener.name.mutual.ssl.client.auth", "required"),
            ("listener.name.mutual.ssl.truststore.type", "PEM"),
            ("listener.name.mutual.ssl.truststore.certificates", &ca),
            ("ssl.truststore.type", "PEM"),
        ],
    )
    .await;
    let [plain, public, mutual] = served.handle.addrs()[..] else { panic!("three listeners") };
    let told = ask(&mut TcpStream::connect(plain).await.unwrap()).await;
    assert_eq!(told, ("127.0.0.1".to_owned(), i32::from(plain.port())));
    let name = ServerName::try_from("broker.test").unwrap();
    let connect = async |addr, connector: tokio_rustls::TlsConnector| {
        connector.connect(name.clone(), TcpStream::connect(addr).await.unwrap()).await
    };
    let mut stream = connect(public, authority.client(None)).await.unwrap();
    assert_eq!(ask(&mut stream).await, ("kafka.example".to_owned(), 443));
    let client = authority.leaf("client");
    let mut stream = connect(mutual, authority.client(Some(&client))).await.unwrap();
    assert_eq!(ask(&mut stream).await.1, i32::from(mutual.port()));
    // Without a certificate, or with that of a stranger: nothing is answered.
    for shown in [None, Some(Authority::new().leaf("client"))] {
        if let Ok(mut stream) = connect(mutual, authority.client(shown.as_ref())).await {
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer).await;
            assert!(read.is_err() || answer.is_empty());
        }
    }
    // Plain bytes to a listener of TLS close the connection.
    let mut raw = Raw::connect(public).await;
    raw.send(9, &MetadataRequest::default()).await;
    let mut rest = Vec::new();
    let _ = raw.stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 100);
    served.stop().await;
}
