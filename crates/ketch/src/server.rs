//! `ketch server --store-only`: one member of a replicated store, its etcd port and its peer port.
//!
//! ```text
//! first member:   ketch server --store-only                      a cluster of one
//!                 ketch token create                             prints a token; its secret is kept in <data-dir>/tokens
//! every other:    ketch server --store-only --join https://first:2380 --token T
//!
//! who joins ──"ca"───────────────▶ the member's authority, believed when its SHA-256 is the token's
//!           ──token, peer URLs───▶ checked ─▶ added ─▶ ids and the cluster's authorities and keys
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use base::task::Tasks;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::raft::transport::{Joining, PeerTls, ask_to_join};
use store::raft::{Begin, ClusterOptions, NetworkOptions, Timing};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{ServerArgs, TokenArgs};
use crate::files::{self, Endpoints, Lock};
use crate::up;

/// How long a token is good for: kubeadm's figure.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
const TOKEN_ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const TOKEN_ID_CHARS: usize = 6;
const TOKEN_SECRET_CHARS: usize = 32;
/// How long to look for a leader before it is said that there is none.
const LEADER_PATIENCE: Duration = Duration::from_secs(30);

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

/// `id.secret.fingerprint`
struct Token {
    id: String,
    secret: String,
    ca_sha256: String,
}

impl Token {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.trim().split('.').map(str::to_owned);
        let (id, secret, ca_sha256) = (parts.next(), parts.next(), parts.next());
        let well_formed = |text: &String, len: usize| {
            text.len() == len && text.bytes().all(|byte| TOKEN_ALPHABET.contains(&byte))
        };
        match (id, secret, ca_sha256, parts.next()) {
            (Some(id), Some(secret), Some(ca_sha256), None)
                if well_formed(&id, TOKEN_ID_CHARS)
                    && well_formed(&secret, TOKEN_SECRET_CHARS)
                    && well_formed(&ca_sha256, 64) =>
            {
                Ok(Self { id, secret, ca_sha256 })
            }
            _ => bail!("not a token: make one with `ketch token create` where a member runs"),
        }
    }
}

fn tokens(data_dir: &Path) -> PathBuf {
    data_dir.join("tokens")
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Characters nobody can guess: from the system's source of secrets.
fn secret(len: usize) -> Result<String> {
    use std::io::Read as _;
    let mut random = fs::File::open("/dev/urandom").context("/dev/urandom")?;
    let mut text = String::new();
    let mut byte = [0];
    while text.len() < len {
        random.read_exact(&mut byte)?;
        // Above the last whole multiple some characters would be likelier.
        let whole = 256 / TOKEN_ALPHABET.len() * TOKEN_ALPHABET.len();
        if usize::from(byte[0]) < whole {
            text.push(TOKEN_ALPHABET[usize::from(byte[0]) % TOKEN_ALPHABET.len()] as char);
        }
    }
    Ok(text)
}

/// `ketch token create`: prints a token that lets a server join by the member in this directory.
///
/// # Errors
/// When no member has run there, or the directory cannot be written.
pub fn create_token(args: &TokenArgs) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let data_dir = args.data_dir.resolve()?;
    let ca = data_dir.join("pki").join("etcd").join("ca.crt");
    let pem =
        fs::read_to_string(&ca).with_context(|| format!("{}: has a server run there?", ca.display()))?;
    let (id, secret) = (secret(TOKEN_ID_CHARS)?, secret(TOKEN_SECRET_CHARS)?);
    let dir = tokens(&data_dir);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let path = dir.join(&id);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    writeln!(file, "{secret} {}", now_s() + TOKEN_LIFE.as_secs())?;
    file.sync_all()?;
    println!("{id}.{secret}.{}", pki::tls::fingerprint(&pem)?);
    Ok(())
}

/// Whether the secret is the one kept under this id, and still good.
fn is_good(data_dir: &Path, id: &str, secret: &str) -> bool {
    if id.len() != TOKEN_ID_CHARS || !id.bytes().all(|byte| TOKEN_ALPHABET.contains(&byte)) {
        return false;
    }
    let Ok(kept) = fs::read_to_string(tokens(data_dir).join(id)) else { return false };
    let Some((known, until)) = kept.trim_end().split_once(' ') else { return false };
    let alive = until.parse::<u64>().is_ok_and(|until| now_s() < until);
    alive && identity::constant_time_eq(known.as_bytes(), secret.as_bytes())
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
                if !is_good(&data_dir, &id, &secret) {
                    bail!("the token is not good, or not any more");
                }
                let store = store.context("the member is starting")?;
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

/// Runs a member until a signal or a failure.
///
/// # Errors
/// When it does not start, or fails so that nothing can go on.
pub fn run(args: &ServerArgs) -> Result<()> {
    if !args.store_only {
        bail!(
            "the control plane and the broker run under `ketch up` so far; give --store-only for a member of the store"
        );
    }
    let began = Instant::now();
    let data_dir = args.data_dir.resolve()?;
    up::start_logging(args.log.as_deref().unwrap_or("warn,openraft=error"))?;
    up::raise_open_files();
    let _lock = Lock::take(&data_dir)?;
    Endpoints::remove(&data_dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(serve(args, &data_dir, began));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn serve(args: &ServerArgs, data_dir: &Path, began: Instant) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let tasks = Tasks::new();
    let listen = args.listen.clone().unwrap_or_else(|| vec![IpAddr::from([127, 0, 0, 1])]);
    let advertise = args.advertise.or(listen.first().copied()).context("--listen names no address")?;
    if advertise.is_unspecified() {
        bail!("{advertise} is no address others can reach: give one with --advertise");
    }
    let peer = SocketAddr::new(listen.first().copied().unwrap_or(advertise), args.peer_port);
    let listener = TcpListener::bind(peer)
        .with_context(|| format!("cannot listen on {peer}: choose another --peer-port"))?;
    let peer_url = files::https(SocketAddr::new(advertise, listener.local_addr()?.port()));
    let begin = begin(args, data_dir, &peer_url).await?;
    let pki = pki::Pki::open(&data_dir.join("pki"), now_s().cast_signed())?;
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), advertise];
    addresses.extend(&listen);
    addresses.sort_unstable();
    addresses.dedup();
    let names = pki::Names { dns: vec!["localhost".to_owned()], addresses };
    let gate = Arc::new(Gate {
        data_dir: data_dir.to_owned(),
        ca_pem: pki.etcd_ca_pem().to_owned(),
        store: OnceLock::new(),
    });
    let etcd: Vec<_> = listen.iter().map(|ip| SocketAddr::new(*ip, args.etcd_port)).collect();
    let (etcd, client_urls) = bind_etcd(&etcd, advertise)?;
    let cluster = ClusterOptions {
        name: args.name.clone().map_or_else(crate::config::host_name, Ok)?,
        peer_urls: vec![peer_url.clone()],
        client_urls: client_urls.clone(),
        begin,
        timing: Timing::default(),
        network: NetworkOptions::Listen {
            listener,
            tls: Some(peer_tls(&pki, &names)?),
            joining: Some(gate.clone()),
        },
        single_threaded: false,
    };
    let options =
        store::Options { auth: args.auth.options()?, ..store::Options::new(data_dir.join("store")) };
    let store =
        store::Service::start_member(options, cluster, &tasks).await.context("the store does not start")?;
    // Nobody else sets it.
    let _ = gate.store.set(store.clone());
    pki.etcd_client()?;
    let tls = Arc::new(pki.etcd_server_config(&pki.etcd_server(&names)?)?);
    let mut door = store::door::Options::new(etcd, Some(tls));
    door.advertise = client_urls.clone();
    let door = store::door::Service::start(door, store.clone(), &tasks)
        .await
        .context("the etcd API does not start")?;
    let ready = tokio::select! {
        ready = announce(&store, data_dir, &door, &peer_url, began) => ready,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted before it was ready")),
        _ = terminate.recv() => Err(anyhow::anyhow!("stopped before it was ready")),
    };
    let token = tasks.token();
    let outcome = match ready {
        Err(error) => Err(error),
        Ok(()) => tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            () = token.cancelled() => Err(anyhow::anyhow!(tasks.failure().unwrap_or_else(|| "stopped".into()))),
        },
    };
    Endpoints::remove(data_dir);
    store.close().await;
    tasks.shutdown(Duration::from_secs(10)).await;
    outcome
}

/// Resolves port 0 before others are told; a moment later the door binds the same.
fn bind_etcd(listen: &[SocketAddr], advertise: IpAddr) -> Result<(Vec<SocketAddr>, Vec<String>)> {
    let first = *listen.first().context("--listen names no address")?;
    let port = match first.port() {
        0 => TcpListener::bind(first)?.local_addr()?.port(),
        port => port,
    };
    let listen = listen.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
    Ok((listen, vec![files::https(SocketAddr::new(advertise, port))]))
}

fn peer_tls(pki: &pki::Pki, names: &pki::Names) -> Result<PeerTls> {
    let leaf = pki.etcd_peer(names)?;
    Ok(PeerTls {
        server: Arc::new(pki.etcd_peer_config(&leaf)?),
        client: Arc::new(pki.etcd_client_config(&leaf)?),
        common_name: pki::PEER.to_owned(),
    })
}

/// How this member begins; joins first where it is to.
async fn begin(args: &ServerArgs, data_dir: &Path, peer_url: &str) -> Result<Begin> {
    let joined = data_dir.join("store").join("raft").join("PURGED").exists();
    let (Some(url), false) = (&args.join, joined) else { return Ok(Begin::Alone) };
    if data_dir.join("store").join("MEMBER").exists() {
        bail!("{} holds a store of its own: a server joins with an empty data directory", data_dir.display());
    }
    let token = args.token.as_deref().context("--join wants --token: make one with `ketch token create`")?;
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

/// Waits for a leader, then says that all is ready and what to try.
async fn announce(
    store: &store::Handle,
    data_dir: &Path,
    door: &store::door::Handle,
    peer_url: &str,
    began: Instant,
) -> Result<()> {
    let mut leader = store.leader_changes();
    let led = tokio::time::timeout(LEADER_PATIENCE, leader.wait_for(Option::is_some)).await;
    led.context("no leader: are enough members running?")??;
    let etcd = door.addrs().first().copied().map(files::https);
    let endpoints = Endpoints {
        api: String::new(),
        etcd: etcd.clone(),
        kafka: None,
        kubelet: None,
        console: None,
        kafka_durability: None,
        pid: std::process::id(),
    };
    endpoints.write(data_dir)?;
    println!("store    member {:x}, peers {peer_url}", store.header().member_id);
    println!("ready in {:.2}s", began.elapsed().as_secs_f64());
    let (etcd, pki) = (etcd.unwrap_or_default(), data_dir.join("pki").join("etcd"));
    println!("  etcd        {etcd}");
    println!("try:");
    println!(
        "  etcdctl --endpoints {etcd} --cacert {0}/ca.crt --cert {0}/client.crt --key {0}/client.key member list",
        pki.display()
    );
    println!("  ketch token create --data-dir {}", data_dir.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_secret_and_its_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(tokens(dir.path())).unwrap();
        let (id, secret) = (secret(TOKEN_ID_CHARS).unwrap(), secret(TOKEN_SECRET_CHARS).unwrap());
        let path = tokens(dir.path()).join(&id);
        fs::write(&path, format!("{secret} {}\n", now_s() + 5)).unwrap();
        assert!(is_good(dir.path(), &id, &secret));
        assert!(!is_good(dir.path(), &id, "wrong") && !is_good(dir.path(), "../../x", &secret));
        fs::write(&path, format!("{secret} {}\n", now_s() - 1)).unwrap();
        assert!(!is_good(dir.path(), &id, &secret));
        let text = format!("{id}.{secret}.{}", "a".repeat(64));
        assert_eq!(Token::parse(&text).unwrap().id, id);
        assert!(Token::parse("a.b.c").is_err() && Token::parse(&format!("{text}.x")).is_err());
    }
}
