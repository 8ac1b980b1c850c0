//! A member of the replicated store: its peer port, joining, and the door for those who join.
//!
//! ```text
//! first member:   ketch server                                  a cluster of one
//!                 ketch token create                            a token, kept in the store
//! every other:    ketch server --join https://first:2380 --token T
//!
//! who joins ──"ca"───────────────▶ any member's authority, believed when its SHA-256 is the token's
//!           ──token, peer URLs───▶ checked ─▶ added ─▶ ids and the cluster's authorities and keys
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base::task::Tasks;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::raft::transport::{Joining, PeerTls, ask_to_join};
use store::raft::{Begin, ClusterOptions, NetworkOptions};
use tokio::net::TcpSocket;

use crate::config::{Config, Peering};
use crate::files;
use crate::token::{self, Token};

/// How long it stays unsaid that there is no leader.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a member that stops waits for another to lead.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);

/// What one who joins asks.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// For the authority's certificate.
    Ca,
    /// To become a member.
    Join { id: String, secret: String, peer_urls: Vec<String> },
}

/// What is answered.
#[derive(Serialize, Deserialize)]
enum Answer {
    Ca { pem: String },
    Joined { cluster_id: u64, member_id: u64, files: BTreeMap<String, String> },
}

/// The door for those who join.
struct Gate {
    data_dir: PathBuf,
    ca_pem: String,
    store: OnceLock<store::Handle>,
}

impl Gate {
    async fn answer(
        data_dir: PathBuf,
        ca_pem: String,
        store: Option<store::Handle>,
        ask: Bytes,
    ) -> Result<Answer> {
        match serde_json::from_slice(&ask)? {
            Ask::Ca => Ok(Answer::Ca { pem: ca_pem }),
            Ask::Join { id, secret, peer_urls } => {
                let store = store.context("the member is starting")?;
                if !token::is_good(&store, &id, &secret).await? {
                    bail!("the token is not good, or not any more");
                }
                let known = store.members().into_iter().find(|member| member.peer_urls == peer_urls);
                let member_id = match known {
                    // It was added before and did not get the answer.
                    Some(member) if member.name.is_empty() => member.id,
                    _ => store.add_member(peer_urls, false).await?,
                };
                let files = pki::shared(&data_dir.join("pki"))?.into_iter().collect();
                Ok(Answer::Joined { cluster_id: store.header().cluster_id, member_id, files })
            }
        }
    }
}

impl Joining for Gate {
    fn ask(&self, request: Bytes) -> futures::future::BoxFuture<'static, std::io::Result<Bytes>> {
        let answer =
            Self::answer(self.data_dir.clone(), self.ca_pem.clone(), self.store.get().cloned(), request);
        Box::pin(async move {
            let answer = answer.await.map_err(|error| std::io::Error::other(format!("{error:#}")))?;
            Ok(serde_json::to_vec(&answer)?.into())
        })
    }
}

/// A port taken before anybody listens on it, so that others can be told of it.
pub struct Reserved {
    pub port: u16,
    _socket: TcpSocket,
}

impl Reserved {
    /// Takes a port, any free one for 0. A listener of this process can be bound to it meanwhile, nobody else's.
    fn take(ip: IpAddr, port: u16) -> Result<Self> {
        let socket = if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        let address = SocketAddr::new(ip, port);
        socket
            .bind(address)
            .with_context(|| format!("cannot listen on {address}: choose another --etcd-port"))?;
        Ok(Self { port: socket.local_addr()?.port(), _socket: socket })
    }
}

/// A member that has been started.
pub struct Member {
    pub store: store::Handle,
    pub pki: pki::Pki,
    pub peer_url: String,
    /// Where clients are told to find the etcd port, and the port itself; None where there is none.
    pub etcd: Option<Reserved>,
    pub client_urls: Vec<String>,
}

impl Member {
    /// Joins if it is to and has not yet, and starts the member; it may not have a leader.
    ///
    /// # Errors
    /// When a port is taken, nobody lets it join, or the store does not start.
    pub async fn start(
        config: &Config,
        peering: &Peering,
        options: store::Options,
        now_s: i64,
        tasks: &Tasks,
    ) -> Result<Self> {
        let data_dir = &config.data_dir;
        let first = *config.listen.first().context("--listen names no address")?;
        let listener = peer_listener(data_dir, first, peering.port)?;
        let peer_url = files::https(SocketAddr::new(peering.advertise, listener.local_addr()?.port()));
        let begin = begin(peering, data_dir, &peer_url).await?;
        let pki = pki::Pki::open(&data_dir.join("pki"), now_s)?;
        let etcd = config.etcd_port.map(|port| Reserved::take(first, port)).transpose()?;
        let client_url = |etcd: &Reserved| files::https(SocketAddr::new(peering.advertise, etcd.port));
        let client_urls: Vec<_> = etcd.iter().map(client_url).collect();
        let gate = Arc::new(Gate {
            data_dir: data_dir.clone(),
            ca_pem: pki.etcd_ca_pem().to_owned(),
            store: OnceLock::new(),
        });
        let network = NetworkOptions::Listen {
            listener,
            tls: Some(peer_tls(&pki, config, peering)?),
            joining: Some(gate.clone()),
        };
        let cluster = ClusterOptions {
            client_urls: client_urls.clone(),
            ..ClusterOptions::new(&peering.name, &peer_url, begin, network)
        };
        let started = store::Service::start_member(options, cluster, tasks).await;
        let store = started.context("the store does not start")?;
        // Nobody else sets it.
        let _ = gate.store.set(store.clone());
        Ok(Self { store, pki, peer_url, etcd, client_urls })
    }

    /// Says so where the members know another address of this one than it has now. As etcd's they go by what they were told,
    /// so that a member cannot be led astray by a flag.
    fn tell_moved(&self) {
        let id = self.store.header().member_id;
        let known = self.store.members().into_iter().find(|member| member.id == id);
        let moved = known.filter(|known| !known.peer_urls.contains(&self.peer_url));
        if let Some(known) = moved {
            let (old, new) = (known.peer_urls.join(","), &self.peer_url);
            println!(
                "store    the members know this one at {old}, but it listens at {new}: start it there again, or run \
                 'ketch store members update {id:x} --peer-urls {new}' where a member runs"
            );
        }
    }

    /// Waits for a leader; says so when that takes long.
    ///
    /// # Errors
    /// When the store stops meanwhile.
    pub async fn led(&self) -> Result<()> {
        let mut leader = self.store.leader_changes();
        let soon = tokio::time::timeout(LEADER_PATIENCE, leader.wait_for(Option::is_some)).await.is_ok();
        // By then it knows who the members are, with a leader or without.
        self.tell_moved();
        if !soon {
            println!("store    no leader yet: are enough members running?");
        }
        leader.wait_for(Option::is_some).await.context("the store has stopped")?;
        Ok(())
    }
}

/// Has another voting member lead before this one stops, so that nobody waits for an election.
pub async fn hand_over(store: &store::Handle) {
    let me = store.header().member_id;
    if *store.leader_changes().borrow() != Some(me) {
        return;
    }
    let others = store.members().into_iter().filter(|member| member.id != me && !member.is_learner);
    for member in others {
        match tokio::time::timeout(HAND_OVER_PATIENCE, store.move_leader(member.id)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::debug!(%error, "the member does not take over"),
            Err(_) => return,
        }
    }
}

/// Listens for other members. A free port, once chosen, stays the same: others know it.
fn peer_listener(data_dir: &Path, ip: IpAddr, port: u16) -> Result<TcpListener> {
    let kept = data_dir.join("peer-port");
    let known = fs::read_to_string(&kept).ok().and_then(|text| text.trim().parse().ok());
    let address = SocketAddr::new(ip, if port == 0 { known.unwrap_or(0) } else { port });
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: choose another --peer-port"))?;
    let bound = listener.local_addr()?.port();
    if port == 0 && known != Some(bound) {
        fs::write(&kept, format!("{bound}\n")).with_context(|| kept.display().to_string())?;
        fs::File::open(&kept)?.sync_all()?;
    }
    Ok(listener)
}

fn peer_tls(pki: &pki::Pki, config: &Config, peering: &Peering) -> Result<PeerTls> {
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), peering.advertise];
    addresses.extend(&config.listen);
    addresses.sort_unstable();
    addresses.dedup();
    let leaf = pki.etcd_peer(&pki::Names { dns: vec!["localhost".to_owned()], addresses })?;
    Ok(PeerTls {
        server: Arc::new(pki.etcd_peer_config(&leaf)?),
        client: Arc::new(pki.etcd_client_config(&leaf)?),
        common_name: pki::PEER.to_owned(),
    })
}

/// How this member begins; joins first where it is to.
async fn begin(peering: &Peering, data_dir: &Path, peer_url: &str) -> Result<Begin> {
    let joined = data_dir.join("store").join("raft").join("PURGED").exists();
    let (Some(url), false) = (&peering.join, joined) else { return Ok(Begin::Alone) };
    if data_dir.join("store").join("MEMBER").exists() {
        bail!("{} holds a store of its own: a server joins with an empty data directory", data_dir.display());
    }
    let token =
        peering.token.as_deref().context("--join wants --token: make one with `ketch token create`")?;
    let token = Token::parse(token)?;
    let ask = |tls: rustls::ClientConfig, ask: Ask| async move {
        let request = serde_json::to_vec(&ask)?.into();
        let answer =
            ask_to_join(url, Arc::new(tls), request).await.with_context(|| format!("joining by {url}"))?;
        anyhow::Ok(serde_json::from_slice::<Answer>(&answer)?)
    };
    let Answer::Ca { pem } = ask(pki::tls::client_that_trusts_nobody()?, Ask::Ca).await? else {
        bail!("{url} answered something else");
    };
    if pki::tls::fingerprint(&pem)? != token.ca_sha256 {
        bail!("{url} is not a member of the token's cluster: its authority has another fingerprint");
    }
    let join = Ask::Join { id: token.id, secret: token.secret, peer_urls: vec![peer_url.to_owned()] };
    match ask(pki::tls::client(&pem, None)?, join).await? {
        Answer::Joined { cluster_id, member_id, files } => {
            let files: Vec<_> = files.into_iter().collect();
            pki::adopt(&data_dir.join("pki"), &files)?;
            Ok(Begin::Join { cluster_id, member_id })
        }
        Answer::Ca { .. } => bail!("{url} answered something else"),
    }
}
