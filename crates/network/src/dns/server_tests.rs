use super::*;
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use serde_json::json;

fn zone(endpoints: usize) -> Arc<Zone> {
    let service =
        json!({"metadata": {"namespace": "a", "name": "big"}, "spec": {"clusterIP": "None", "ports": []}});
    let addresses: Vec<_> =
        (0..endpoints).map(|n| json!({"addresses": [format!("10.42.{}.{}", n / 256, n % 256)]})).collect();
    let slice = json!({"metadata": {"namespace": "a", "name": "big-1", "labels": {"kubernetes.io/service-name": "big"}},
        "addressType": "IPv4", "endpoints": addresses});
    let service = Arc::new(serde_json::from_value(service).expect("a Service"));
    let slice = Arc::new(serde_json::from_value(slice).expect("a slice"));
    Arc::new(Zone::build("cluster.local", Vec::new(), &[service], &[slice]))
}

fn question(name: &str, edns: bool) -> Vec<u8> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    if edns {
        let mut own = Edns::new();
        own.set_max_payload(4096);
        query.set_edns(own);
    }
    query.to_vec().expect("encoded")
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(query, server).await.expect("sent");
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.expect("in time").expect("received")]).expect("decoded")
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> Message {
    let mut stream = TcpStream::connect(server).await.expect("connected");
    stream.write_u16(u16::try_from(query.len()).expect("short")).await.expect("sent");
    stream.write_all(query).await.expect("sent");
    let mut reply = vec![0; usize::from(stream.read_u16().await.expect("received"))];
    stream.read_exact(&mut reply).await.expect("received");
    Message::from_vec(&reply).expect("decoded")
}

async fn started(zone: Arc<Zone>, tasks: &Tasks) -> SocketAddr {
    let dir = tempfile::tempdir().expect("a directory");
    let options = ServerOptions {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        resolv_conf: dir.path().join("none"),
        ours: BTreeSet::new(),
    };
    let (_, receiver) = watch::channel(zone);
    Server::start(options, receiver, tasks).await.expect("started").addresses[0]
}

#[tokio::test]
async fn answers_by_udp_and_tcp_and_truncates() {
    let tasks = Tasks::new();
    let server = started(zone(100), &tasks).await;
    for edns in [false, true] {
        let query = question("big.a.svc.cluster.local.", edns);
        let cut = by_udp(server, &query).await;
        assert!(cut.metadata.truncation && cut.answers.is_empty(), "100 addresses are more than fit");
        assert_eq!(cut.edns.is_some(), edns);
        let whole = by_tcp(server, &query).await;
        assert_eq!(whole.answers.len(), 100);
        assert!(whole.metadata.authoritative && whole.metadata.recursion_available);
        assert_eq!(whole.queries.len(), 1);
    }
    let small = by_udp(server, &question("10-42-0-4.a.pod.cluster.local.", false)).await;
    assert_eq!(small.answers.len(), 1);
    let none = by_udp(server, &question("example.com.", false)).await;
    assert_eq!(none.metadata.response_code, ResponseCode::Refused, "no resolver to ask");
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}

#[test]
fn odd_packets() {
    let zone = zone(1);
    let check = |packet: &[u8], expect: Option<ResponseCode>| {
        let got = match decide(packet, &zone, 0) {
            Outcome::Reply(reply) => Some(reply.metadata.response_code),
            Outcome::Forward(_) | Outcome::Continue(..) => panic!("not to be forwarded"),
            Outcome::Drop => None,
        };
        assert_eq!(got, expect, "{packet:?}");
    };
    check(&[], None);
    check(&[0; 11], None);
    check(&[0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0], Some(ResponseCode::FormErr));
    check(&[0; 12], Some(ResponseCode::FormErr));
    let mut reply = question("big.a.svc.cluster.local.", false);
    reply[2] |= 0x80;
    check(&reply, None);
    let mut update = question("big.a.svc.cluster.local.", false);
    update[2] |= 5 << 3;
    check(&update, Some(ResponseCode::NotImp));
}

proptest! {
    #[test]
    fn any_bytes_are_decided(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
        let decided = decide(&packet, &zone(1), 0);
        if let Outcome::Reply(reply) = decided {
            prop_assert!(encoded(&reply, PAYLOAD_PLAIN).len() <= usize::from(PAYLOAD_PLAIN));
        }
    }

    #[test]
    fn any_changed_query_is_decided(at in 0usize..40, byte in any::<u8>()) {
        let mut packet = question("big.a.svc.cluster.local.", true);
        let at = at % packet.len();
        packet[at] = byte;
        let _ = decide(&packet, &zone(1), 0);
    }
}
