//! Answers of many megabytes: made while they are sent, and as of one revision whatever happens meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use door::{Served, delete, get, prefix, put};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_client::KvClient;
use etcd_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

const KEYS: usize = 1500;
const HEAD_BYTES: usize = 5;

/// A value for the n-th key: none, one that stays in the tree, or one that is apart.
fn value(n: usize, with: u8) -> Vec<u8> {
    vec![with; n % 3 * (n % 97) * 60]
}

fn key(n: usize) -> String {
    format!("k{n:05}")
}

async fn fill(kv: &mut KvClient<Channel>, with: u8) {
    for n in 0..KEYS {
        kv.put(put(key(n), value(n, with))).await.unwrap();
    }
}

/// A connection by hand: little of one answer is sent before it is asked for, and there is room for others.
async fn connect(served: &Served) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(served.door.addrs()[0]).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    let (requests, connection) = builder.handshake(stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

async fn ask(requests: &mut SendRequest<Bytes>, request: &pb::RangeRequest) -> RecvStream {
    let head =
        Request::post("http://localhost/etcdserverpb.KV/Range").header("content-type", "application/grpc");
    let (response, mut out) = requests.send_request(head.body(()).unwrap(), false).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(request.encoded_len() as u32);
    request.encode(&mut frame).unwrap();
    out.send_data(frame.freeze(), true).unwrap();
    response.await.unwrap().into_body()
}

async fn metrics(served: &Served) -> String {
    let mut stream = TcpStream::connect(served.door.addrs()[0]).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// All that is left of an answer, and how the call ended.
async fn rest(mut body: RecvStream) -> (BytesMut, HeaderMap) {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (bytes, body.trailers().await.unwrap().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_as_of_its_revision_whatever_happens_meanwhile() {
    let served = Served::with_store(|options| options.value_segment_bytes = 256 * 1024).await;
    let mut kv = served.kv().await;
    fill(&mut kv, b'1').await;
    let now = kv.range(get(key(0))).await.unwrap().into_inner().header.unwrap().revision;
    // A read at a revision goes another way, and the whole of it is made first.
    let expect = kv.range(pb::RangeRequest { revision: now, ..prefix("k") }).await.unwrap().into_inner();

    let (mut requests, driving) = connect(&served).await;
    let mut slow = ask(&mut requests, &prefix("k")).await;
    let mut bytes = BytesMut::from(&slow.data().await.unwrap().unwrap()[..]);
    slow.flow_control().release_capacity(bytes.len()).unwrap();
    // Others on the same connection are served, and what is still to be sent is overwritten, compacted and defragmented.
    let one = rest(ask(&mut requests, &get(key(1))).await).await;
    assert_eq!(one.1.get("grpc-status").unwrap(), "0");
    fill(&mut kv, b'2').await;
    for n in (0..KEYS).step_by(2) {
        kv.delete_range(delete(key(n))).await.unwrap();
    }
    let after = kv.range(get(key(1))).await.unwrap().into_inner().header.unwrap().revision;
    kv.compact(pb::CompactionRequest { revision: after, physical: true }).await.unwrap();
    MaintenanceClient::new(served.channel().await).defragment(pb::DefragmentRequest {}).await.unwrap();

    let (more, trailers) = rest(slow).await;
    bytes.unsplit(more);
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert!(bytes.len() > 4 << 20, "{} bytes are sent at once", bytes.len());
    assert_eq!((bytes.get_u8(), bytes.get_u32() as usize), (0, bytes.len()));
    assert!(pb::RangeResponse::decode(bytes).unwrap() == expect);
    driving.abort();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_long_answer_up_is_counted_and_leaves_the_connection_to_others() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    fill(&mut kv, b'1').await;
    let (mut requests, driving) = connect(&served).await;
    let mut slow = ask(&mut requests, &prefix("k")).await;
    slow.data().await.unwrap().unwrap();
    drop(slow);
    let (bytes, trailers) = rest(ask(&mut requests, &prefix("k")).await).await;
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert_eq!(pb::RangeResponse::decode(&bytes[HEAD_BYTES..]).unwrap().kvs.len(), KEYS);
    let given_up = r#"grpc_code="Canceled",grpc_method="Range""#;
    let is_counted = |page: &str| page.lines().any(|line| line.contains(given_up) && line.ends_with(" 1"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let page = metrics(&served).await;
        if is_counted(&page) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    driving.abort();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_a_long_answer_is_told_in_place_of_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let served = Served::with_store(|options| options.dir = path.clone()).await;
    fill(&mut served.kv().await, b'1').await;
    served.stop().await;
    let values: Vec<_> =
        std::fs::read_dir(dir.path().join("values")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &values[..] else { panic!("{values:?}") };
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() * 3 / 4;
    bytes[at] ^= 1;
    std::fs::write(file, &bytes).unwrap();

    let served = Served::with_store(|options| options.dir = path).await;
    let (mut requests, driving) = connect(&served).await;
    let (bytes, trailers) = rest(ask(&mut requests, &prefix("k")).await).await;
    let told = u32::from_be_bytes(bytes[1..HEAD_BYTES].try_into().unwrap()) as usize;
    assert!(bytes.len() > 1 << 20 && bytes.len() < told, "{} of {told}", bytes.len());
    let status = tonic::Status::from_header_map(&trailers).unwrap();
    assert_eq!((status.code(), status.message()), (tonic::Code::DataLoss, "etcdserver: corrupt cluster"));
    // A lone member goes on with the rest.
    let (_, trailers) = rest(ask(&mut requests, &get(key(1))).await).await;
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    driving.abort();
    served.stop().await;
}
