//! The network on a host of the test's own: pods are network namespaces, their programs are sockets opened inside.

mod fake_api;

use base::task::Tasks;
use fake_api::FakeApi;
use network::{Error, Handle, Options, Service};
use pod_core::{PodNetwork, PodRef};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::{Host, Namespace, can_isolate};

const ID: &str = "0011aabb";
/// What "at once" means where the alternative is a time-out of seconds.
const AT_ONCE: Duration = Duration::from_millis(700);

/// A running network inside a host, on a runtime whose threads live there.
struct World {
    host: Host,
    api: FakeApi,
    runtime: tokio::runtime::Runtime,
    tasks: Tasks,
    handle: Handle,
    before: Vec<String>,
}

fn pod(name: &str) -> PodRef {
    PodRef { namespace: "default".into(), name: name.into(), uid: format!("uid-{name}") }
}

fn options() -> Options {
    Options { resolv_conf: "/nonexistent".into(), ..Options::new(ID) }
}

fn state(host: &Host) -> Vec<String> {
    let commands: [&[&str]; 4] = [
        &["ip", "-o", "link"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-4", "addr"],
        &["nft", "list", "tables"],
    ];
    commands.iter().map(|c| host.succeed(c)).collect()
}

impl World {
    fn new() -> Self {
        let host = Host::new().expect("a host");
        let _ = host.succeed(&["ip", "route", "add", "blackhole", "198.51.100.0/24"]);
        let before = state(&host);
        let api = FakeApi::new();
        let tasks = Tasks::new();
        let (runtime, handle) = host.run(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let handle = runtime.block_on(async {
                let informers = api_client::Informers::start(api.client(), &tasks);
                Service::start(options(), informers, &tasks).await.expect("started")
            });
            (runtime, handle)
        });
        Self { host, api, runtime, tasks, handle, before }
    }

    /// The future runs on a thread inside the host: the test's own threads stay outside.
    fn run<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        self.host.run(|| self.runtime.block_on(work))
    }

    fn attach(&self, name: &str) -> (Namespace, Ipv4Addr) {
        let netns = self.host.namespace().expect("a namespace");
        let (pod, path) = (pod(name), netns.path());
        let work = self.handle.attach(&pod, &path);
        let std::net::IpAddr::V4(ip) = self.run(work).expect("attached").ip else { panic!("not IPv4") };
        (netns, ip)
    }

    /// A TCP server in a pod that answers each connection with its name and the client's address.
    fn serve(&self, netns: &Namespace, name: &'static str, port: u16) -> JoinHandle<()> {
        let listener = self.host.within(netns, || TcpListener::bind(("0.0.0.0", port)).expect("bound"));
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                write!(stream, "{name} {}", peer.ip()).ok();
            }
        })
    }

    fn put_service(&self, name: &str, spec: Value) {
        self.api.put(
            "services",
            json!({"metadata": {"namespace": "default", "name": name, "uid": name}, "spec": spec}),
        );
    }

    fn put_slice(&self, service: &str, ports: Value, addresses: &[Ipv4Addr]) {
        let endpoints: Vec<Value> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
        let name = format!("{service}-1");
        let labels = json!({"kubernetes.io/service-name": service});
        self.api.put(
            "endpointslices",
            json!({"metadata": {"namespace": "default", "name": name, "uid": name, "labels": labels},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints}),
        );
    }

    /// Waits until the table shows the text (or no longer does).
    fn wait_rules(&self, text: &str, there: bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.host.succeed(&["nft", "list", "ruleset"]).contains(text) != there {
            assert!(
                Instant::now() < end,
                "{text} in rules: {there}?\n{}",
                self.host.succeed(&["nft", "list", "ruleset"])
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn down(self) {
        self.tasks.token().cancel();
        self.run(self.handle.down()).expect("down");
        assert_eq!(state(&self.host), self.before, "down leaves nothing");
        self.run(self.handle.down()).expect("down again");
    }
}

fn get(address: (Ipv4Addr, u16)) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(address), Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The error of a connection that has to fail fast.
fn refused(address: (Ipv4Addr, u16)) -> ErrorKind {
    let begin = Instant::now();
    let kind = get(address).expect_err("nobody is there").kind();
    assert!(begin.elapsed() < AT_ONCE, "{address:?} took {:?} to fail", begin.elapsed());
    kind
}

fn http_port() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

#[test]
fn pods_reach_each_other_and_absent_addresses_fail_at_once() {
    if !can_isolate() {
        return;
    }
    let world = World::new();
    let ((one, ip_one), (two, ip_two)) = (world.attach("one"), world.attach("two"));
    assert_eq!((ip_one, ip_two), (Ipv4Addr::new(10, 42, 0, 2), Ipv4Addr::new(10, 42, 0, 3)));
    world.serve(&two, "two", 8080);
    let host = &world.host;
    assert_eq!(host.within(&one, || get((ip_two, 8080))).expect("pod to pod"), format!("two {ip_one}"));
    assert_eq!(host.run(|| get((ip_two, 8080))).expect("host to pod"), "two 10.42.0.1");
    // Nobody listens on the port, nobody has the address, in and outside of the node's range.
    assert_eq!(host.within(&one, || refused((ip_two, 1))), ErrorKind::ConnectionRefused);
    for absent in [Ipv4Addr::new(10, 42, 0, 77), Ipv4Addr::new(10, 42, 9, 9), Ipv4Addr::new(10, 43, 7, 7)] {
        let from_host = host.run(|| refused((absent, 80)));
        assert!(
            matches!(from_host, ErrorKind::HostUnreachable | ErrorKind::ConnectionRefused),
            "{absent} {from_host}"
        );
        let from_pod = host.within(&one, || refused((absent, 80)));
        assert!(
            matches!(from_pod, ErrorKind::HostUnreachable | ErrorKind::ConnectionRefused),
            "{absent} {from_pod}"
        );
    }
    // A pod cannot reach the host's loopback, though its link may route it.
    let listener = host.run(|| TcpListener::bind("127.0.0.1:0").expect("bound"));
    let port = listener.local_addr().expect("bound").port();
    let _ = host.succeed_in(&one, &["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"]);
    let _ = host.succeed_in(&one, &["ip", "route", "add", "127.0.0.0/8", "via", "10.42.0.1", "dev", "eth0"]);
    assert!(
        host.within(&one, || TcpStream::connect_timeout(
            &SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            AT_ONCE
        ))
        .is_err()
    );
    world.down();
}

#[test]
fn services_from_pods_and_from_the_host() {
    if !can_isolate() {
        return;
    }
    let world = World::new();
    let ((one, ip_one), (two, ip_two)) = (world.attach("one"), world.attach("two"));
    world.serve(&one, "one", 8080);
    world.serve(&two, "two", 8080);
    let (ip, port) = (Ipv4Addr::new(10, 43, 0, 20), 80);
    let host = &world.host;
    world.put_service(
        "web",
        json!({"clusterIP": ip, "ports": [{"name": "http", "port": port, "nodePort": 30080}]}),
    );
    let end = Instant::now() + Duration::from_secs(10);
    while !host.succeed(&["ip", "route"]).contains("10.43.0.20") {
        assert!(Instant::now() < end, "no route to the Service");
    }
    // No endpoints yet.
    assert_eq!(host.run(|| refused((ip, port))), ErrorKind::ConnectionRefused);
    assert_eq!(host.within(&one, || refused((ip, port))), ErrorKind::ConnectionRefused);

    world.put_slice("web", http_port(), &[ip_one, ip_two]);
    world.wait_rules("10.42.0.3 . 8080", true);
    let answers = |from: Option<&Namespace>| -> Vec<String> {
        let ask = || (0..30).map(|_| get((ip, port)).expect("answered")).collect();
        from.map_or_else(|| host.run(ask), |netns| host.within(netns, ask))
    };
    for from in [None, Some(&one), Some(&two)] {
        let got = answers(from);
        assert!(
            got.iter().any(|a| a.starts_with("one")) && got.iter().any(|a| a.starts_with("two")),
            "{got:?}"
        );
    }
    // A port the Service does not have is refused; the node port answers on every address of the host.
    assert_eq!(host.run(|| refused((ip, 81))), ErrorKind::ConnectionRefused);
    assert_eq!(host.within(&one, || refused((ip, 81))), ErrorKind::ConnectionRefused);
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 42, 0, 1)] {
        assert!(host.run(|| get((address, 30080))).is_ok(), "node port on {address}");
    }
    assert!(host.within(&one, || get((Ipv4Addr::new(10, 42, 0, 1), 30080))).is_ok());

    // One endpoint: the pod reaches itself through the Service.
    world.put_slice("web", http_port(), &[ip_one]);
    world.wait_rules("10.42.0.3 . 8080", false);
    assert_eq!(host.within(&one, || get((ip, port))).expect("hairpin"), "one 10.42.0.1");
    assert_eq!(host.within(&two, || get((ip, port))).expect("answered"), format!("one {ip_two}"));

    // Affinity keeps a client with one endpoint.
    world.put_service(
        "web",
        json!({"clusterIP": ip, "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": port}]}),
    );
    world.put_slice("web", http_port(), &[ip_one, ip_two]);
    world.wait_rules("goto e-", true);
    world.wait_rules("10.42.0.3:8080", true);
    let got = answers(Some(&two));
    assert!(got.iter().all(|a| *a == got[0]), "{got:?}");

    // The Service goes: its route and rules go.
    world.api.delete("services", json!({"metadata": {"namespace": "default", "name": "web", "uid": "web"}}));
    world.wait_rules("default/web", false);
    let end = Instant::now() + Duration::from_secs(5);
    while host.succeed(&["ip", "route"]).contains("10.43.0.20") {
        assert!(Instant::now() < end, "the route stays");
    }
    assert_ne!(host.run(|| refused((ip, port))), ErrorKind::TimedOut);
    world.down();
}

fn dns_query(name: &str) -> Vec<u8> {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    query.to_vec().expect("encoded")
}

fn dns_udp(server: Ipv4Addr, name: &str) -> Vec<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("set");
    socket.send_to(&dns_query(name), (server, 53)).expect("sent");
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from.ip(), server);
    records(&buffer[..length])
}

fn dns_tcp(server: Ipv4Addr, name: &str) -> Vec<String> {
    let mut stream = TcpStream::connect((server, 53)).expect("connected");
    let query = dns_query(name);
    let length = u16::try_from(query.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes()[..], &query].concat()).expect("sent");
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("an answer");
    let mut reply = vec![0; usize::from(u16::from_be_bytes(head))];
    stream.read_exact(&mut reply).expect("an answer");
    records(&reply)
}

fn records(reply: &[u8]) -> Vec<String> {
    let message = hickory_proto::op::Message::from_vec(reply).expect("decoded");
    message.answers.iter().map(|r| r.data.to_string()).collect()
}

#[test]
fn pods_resolve_names_through_the_service() {
    if !can_isolate() {
        return;
    }
    let world = World::new();
    let (one, _) = world.attach("one");
    let gateway = Ipv4Addr::new(10, 42, 0, 1);
    let port = world.handle.dns_addresses()[0].port();
    assert_eq!(port, 53);
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]);
    world.put_slice("dns", ports.clone(), &[gateway]);
    world.put_service("dns", json!({"clusterIP": "10.43.0.10", "ports": ports}));
    world.wait_rules("10.43.0.10 . udp . 53", true);
    world.wait_rules("10.43.0.10 . tcp . 53", true);
    let server = Ipv4Addr::new(10, 43, 0, 10);
    let name = "dns.default.svc.cluster.local.";
    assert_eq!(world.host.within(&one, || dns_udp(server, name)), ["10.43.0.10"]);
    assert_eq!(world.host.within(&one, || dns_tcp(server, name)), ["10.43.0.10"]);
    assert_eq!(world.host.run(|| dns_udp(server, name)), ["10.43.0.10"]);
    let dns = world.handle.dns("shop");
    assert_eq!(dns.searches, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
    world.down();
}

#[test]
fn attach_may_be_repeated_and_survives_a_restart() {
    if !can_isolate() {
        return;
    }
    let world = World::new();
    let (one, ip) = world.attach("one");
    let (two, ip_two) = world.attach("two");
    assert_eq!(world.run(world.handle.attach(&pod("one"), &one.path())).expect("again").ip, ip);
    // Another process of the same data directory finds both.
    let informers = world.host.run(|| {
        let _inside = world.runtime.enter();
        api_client::Informers::start(world.api.client(), &world.tasks)
    });
    let second = world.run(Service::start(options(), informers, &world.tasks)).expect("restarted");
    let adopted = world.run(second.adopt(&pod("two"), &two.path(), ip_two.into())).expect("adopted");
    assert_eq!(adopted.ip, ip_two);
    let stolen = world.run(second.adopt(&pod("three"), &two.path(), ip.into()));
    assert!(stolen.is_err(), "the address is another pod's");
    world.serve(&two, "two", 8080);
    assert!(world.host.within(&one, || get((ip_two, 8080))).is_ok());
    world.run(second.detach(&pod("one"))).expect("detached");
    world.run(second.detach(&pod("one"))).expect("detached again");
    assert!(!world.host.succeed(&["ip", "-o", "link"]).contains("kv0011aabb0002"));
    // A pod whose namespace is gone has no link to adopt.
    drop(two);
    let gone = world.run(second.adopt(&pod("two"), "/proc/self/fd/9999".as_ref(), ip_two.into()));
    assert!(matches!(gone, Err(pod_core::NetworkError::Gone(_))), "{gone:?}");
    world.down();
}

#[test]
fn a_second_node_part_is_refused_by_name() {
    if !can_isolate() {
        return;
    }
    let world = World::new();
    let other = Options::new("ffff0000");
    let refused = world.run(network::prepare(&other));
    assert!(matches!(&refused, Err(Error::Occupied(id)) if id == ID), "{refused:?}");
    world.run(network::down("ffff0000")).expect("nothing to remove");
    assert!(world.host.succeed(&["nft", "list", "tables"]).contains("ketch-0011aabb"), "the other one stays");
    world.down();
}

#[test]
fn forwarding_of_the_uplink_is_switched_on_and_back() {
    if !can_isolate() {
        return;
    }
    let host = Host::new().expect("a host");
    let _ = host.succeed(&["sh", "-c", "ip link add up0 type veth peer name far0 && ip link set up0 up && ip addr add 192.0.2.2/24 dev up0 && ip link set far0 up && ip route add default via 192.0.2.1"]);
    let before = state(&host);
    let forwarding = || host.succeed(&["cat", "/proc/sys/net/ipv4/conf/up0/forwarding"]);
    assert_eq!(forwarding(), "0\n");
    let prepared = host.block_on(|| async { network::prepare(&options()).await }).expect("prepared");
    assert!(prepared.forwarding.contains("up0"));
    assert_eq!(forwarding(), "1\n");
    assert_eq!(host.succeed(&["cat", "/proc/sys/net/ipv4/ip_forward"]), "0\n", "never globally");
    let again = host.block_on(|| async { network::prepare(&options()).await }).expect("prepared");
    assert_eq!(again, prepared);
    host.block_on(|| async { network::down(ID).await }).expect("down");
    assert_eq!(forwarding(), "0\n");
    assert_eq!(state(&host), before);
}

#[test]
fn a_hundred_pods_at_once() {
    if !can_isolate() {
        return;
    }
    let world = World::new();
    let pods: Vec<(PodRef, Namespace)> =
        (0..100).map(|n| (pod(&format!("p{n}")), world.host.namespace().expect("a namespace"))).collect();
    let begin = Instant::now();
    let attach = |(pod, netns): &(PodRef, Namespace)| {
        let (handle, pod, path) = (world.handle.clone(), pod.clone(), netns.path());
        async move { handle.attach(&pod, &path).await.map(|a| a.ip) }
    };
    let all = world.run(futures::future::join_all(pods.iter().map(attach)));
    let took = begin.elapsed();
    let ips: std::collections::BTreeSet<_> = all.into_iter().map(|ip| ip.expect("attached")).collect();
    eprintln!("100 pods attached in {took:?}");
    assert_eq!(ips.len(), 100);
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.down();
}
