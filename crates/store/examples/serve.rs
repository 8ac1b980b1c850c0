//! The store alone behind its etcd port: what `cargo xtask bench store` measures beside etcd.
//!
//! `serve DIR [tls=PKI] [port=N] [member=I peers=HOST:PORT,...]`; prints its address, ends on SIGTERM. With `tls` it serves
//! with the certificates in that directory, which `serve certs PKI` makes; with `peers` it is the I-th (from 0) of these
//! members, which speak to each other in the clear.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::task::Tasks;
use store::raft::{Begin, ClusterOptions, MemberNode, NetworkOptions};

/// What the members of one bench agree on.
const CLUSTER_ID: u64 = 0x6b65_7463;
/// As etcd beside it is given: rounds of a bench follow each other in one store, and nothing is compacted.
const QUOTA_BYTES: u64 = 8 << 30;

fn argument(name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    std::env::args().find_map(|text| text.strip_prefix(&prefix).map(str::to_owned))
}

fn certificates(dir: &str) -> Result<(pki::Pki, pki::Leaf), Box<dyn Error>> {
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let pki = pki::Pki::open(dir.as_ref(), i64::try_from(now_s)?)?;
    let names = pki::Names { dns: vec!["localhost".to_owned()], addresses: vec![[127, 0, 0, 1].into()] };
    let leaf = pki.etcd_server(&names)?;
    pki.etcd_client()?;
    Ok((pki, leaf))
}

async fn start(dir: &str, tasks: &Tasks) -> Result<store::Handle, Box<dyn Error>> {
    let options = store::Options { quota_bytes: Some(QUOTA_BYTES), ..store::Options::new(dir) };
    let Some(peers) = argument("peers") else { return Ok(store::Service::start(options, tasks)?) };
    let me: usize = argument("member").ok_or("member=I")?.parse()?;
    let peers: Vec<&str> = peers.split(',').collect();
    let node =
        |address: &&str| MemberNode { peer_urls: vec![format!("http://{address}")], ..MemberNode::default() };
    let members = (1..).zip(peers.iter().map(node)).collect();
    let own = peers.get(me).ok_or("member=I: no such peer")?;
    let begin = Begin::Together { cluster_id: CLUSTER_ID, member_id: me as u64 + 1, members };
    let network = NetworkOptions::Listen { listener: TcpListener::bind(own)?, tls: None, joining: None };
    let cluster = ClusterOptions::new(format!("member-{me}"), format!("http://{own}"), begin, network);
    Ok(store::Service::start_member(options, cluster, tasks).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("a directory")?;
    if dir == "certs" {
        certificates(&std::env::args().nth(2).ok_or("a directory")?)?;
        return Ok(());
    }
    let tls = match argument("tls") {
        Some(dir) => {
            let (pki, leaf) = certificates(&dir)?;
            Some(Arc::new(pki.etcd_server_config(&leaf)?))
        }
        None => None,
    };
    let port: u16 = argument("port").map_or(Ok(0), |text| text.parse())?;
    let tasks = Tasks::new();
    let store = start(&dir, &tasks).await?;
    let options = store::door::Options::new(vec![SocketAddr::from(([127, 0, 0, 1], port))], tls);
    let door = store::door::Service::start(options, store, &tasks).await?;
    println!("{}", door.addrs()[0]);
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    tasks.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
