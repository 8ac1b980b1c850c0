//! How bytes get from member to member: a seam, and the real thing, framed over TLS.
//!
//! ```text
//! both sides begin with   "ketch-peer 1\n" | cluster id 8 | own member id 8 | member id meant 8
//! then                    length 4 | number 8 | body: requests one way, answers with the request's number the other
//! ```
//! Requests of one lane arrive in the order they were made and are answered in any order. A connection is made when
//! something is to be said and kept; when it breaks, what was asked over it fails and the next request makes another.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::error::{PeerError, encode_answer};
use super::peers::Peer;
use crate::stats::Stats;

/// A message is no longer: the largest entry, or a chunk of a snapshot with one, and room to spare.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests on their way over one connection at most.
const QUEUE: usize = 1024;
const CONNECT_PATIENCE: Duration = Duration::from_millis(700);
/// What was sent and is not acknowledged by the other machine for so long ends a connection: after a partition TCP itself
/// tries for minutes, ever more rarely, and what is asked meanwhile waits behind it.
const UNACKNOWLEDGED: Duration = Duration::from_millis(1500);
/// A connection on which something was asked and nothing was answered for so long is given up: after a partition TCP
/// itself may take much longer to notice.
const STALL: Duration = Duration::from_secs(2);
/// The same for what the other side may have to work on.
const STALL_LONG: Duration = Duration::from_secs(130);
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// How long one who joins waits: members may have to be asked first.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);
/// What one who joins may send.
const JOIN_BYTES_MAX: usize = 64 * 1024;
const MAGIC: &[u8; 13] = b"ketch-peer 1\n";
const HELLO_BYTES: usize = MAGIC.len() + 24;
/// Before each body: the length and the number.
const HEAD_BYTES: usize = 12;

/// What waits behind what: a snapshot must not hold up heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes, entries, heartbeats.
    Raft,
    /// Proposals and reads sent on to the leader.
    Forward,
    /// Snapshots.
    Bulk,
}

/// Carries requests to other members.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request. It is on its way when this returns; the future is its answer.
    fn call(
        &self,
        target: u64,
        urls: &[String],
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, io::Result<Bytes>>;
}

/// Answers requests of other members.
pub trait Handler: Send + Sync + 'static {
    /// Begins to answer: requests of one lane come in order.
    fn handle(&self, from: u64, request: Bytes) -> BoxFuture<'static, Bytes>;
}

/// TLS both ways: a member shows its certificate whether it calls or is called.
#[derive(Clone)]
pub struct PeerTls {
    pub server: Arc<rustls::ServerConfig>,
    pub client: Arc<rustls::ClientConfig>,
    /// The common name members' certificates have; others of the same authority are not members.
    pub common_name: String,
}

/// Answers those who are not members yet and want to be: whoever connects without a certificate.
pub trait Joining: Send + Sync + 'static {
    /// Answers one request.
    fn ask(&self, request: Bytes) -> BoxFuture<'static, io::Result<Bytes>>;
}

/// Asks the member behind a peer URL as one who is not a member.
///
/// # Errors
/// When it does not answer, or refuses; the text says why.
pub async fn ask_to_join(url: &str, tls: Arc<rustls::ClientConfig>, request: Bytes) -> io::Result<Bytes> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, "not a peer URL such as https://10.0.0.1:2380");
    let authority = host_and_port(url).ok_or_else(bad)?;
    let asked = async {
        let tcp = TcpStream::connect(authority).await?;
        let mut stream: Box<dyn Stream> =
            Box::new(TlsConnector::from(tls).connect(server_name(authority)?, tcp).await?);
        stream.write_all(&Hello { cluster_id: 0, from: 0, to: 0 }.encode()).await?;
        let mut framed = framed(stream);
        framed.send(request).await?;
        let answer = framed.next().await.ok_or(io::ErrorKind::UnexpectedEof)??.freeze();
        super::error::decode_answer(answer)?.map_err(io::Error::other)
    };
    tokio::time::timeout(JOIN_PATIENCE, asked).await?
}

fn server_name(authority: &str) -> io::Result<ServerName<'static>> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a host"))
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerTls")
    }
}

/// Who is who on a connection.
#[derive(Debug, Clone, Copy)]
struct Hello {
    cluster_id: u64,
    from: u64,
    to: u64,
}

impl Hello {
    fn encode(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.cluster_id, self.from, self.to] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = [0; HELLO_BYTES];
        tokio::time::timeout(HELLO_PATIENCE, stream.read_exact(&mut bytes)).await??;
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a peer"));
        };
        let mut number = || {
            let (head, tail) = rest.split_first_chunk::<8>().expect("the length is fixed");
            rest = tail;
            u64::from_be_bytes(*head)
        };
        Ok(Self { cluster_id: number(), from: number(), to: number() })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn framed(stream: Box<dyn Stream>) -> Framed<Box<dyn Stream>, LengthDelimitedCodec> {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX).new_codec();
    Framed::new(stream, codec)
}

struct Asked {
    request: Bytes,
    answer: oneshot::Sender<io::Result<Bytes>>,
}

/// The real transport.
pub struct Tcp {
    me: u64,
    cluster_id: u64,
    tls: Option<PeerTls>,
    tasks: Tasks,
    stats: Arc<Stats>,
    connections: Mutex<HashMap<(u64, Lane), mpsc::Sender<Asked>>>,
}

impl Tcp {
    /// Over TCP; without `tls` in the clear, for tests on loopback.
    #[must_use]
    pub(crate) fn new(
        cluster_id: u64,
        me: u64,
        tls: Option<PeerTls>,
        tasks: Tasks,
        stats: Arc<Stats>,
    ) -> Arc<Self> {
        Arc::new(Self { me, cluster_id, tls, tasks, stats, connections: Mutex::default() })
    }

    fn connection(&self, target: u64, urls: &[String], lane: Lane) -> mpsc::Sender<Asked> {
        let mut connections = self.connections.lock();
        if let Some(open) = connections.get(&(target, lane)).filter(|open| !open.is_closed()) {
            return open.clone();
        }
        let (send, asked) = mpsc::channel(QUEUE);
        connections.insert((target, lane), send.clone());
        let hello = Hello { cluster_id: self.cluster_id, from: self.me, to: target };
        let (urls, tls, token) = (urls.to_vec(), self.tls.clone(), self.tasks.token());
        let peer = self.stats.peers.of(target);
        self.tasks.spawn(TaskKind::Connection, "store-peer-out", async move {
            tokio::select! {
                done = speak(hello, urls, tls, &peer, lane, asked) => done,
                () = token.cancelled() => Ok(()),
            }
        });
        send
    }
}

impl Transport for Tcp {
    fn call(
        &self,
        target: u64,
        urls: &[String],
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, io::Result<Bytes>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.connection(target, urls, lane).try_send(Asked { request, answer });
        let stats = self.stats.clone();
        Box::pin(async move {
            let full = |_| io::Error::new(io::ErrorKind::WouldBlock, "too much on the way to the peer");
            let answer = match sent.map_err(full) {
                Ok(()) => answered.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionReset.into())),
                Err(error) => Err(error),
            };
            answer.inspect_err(|_| stats.peers.of(target).send_failed())
        })
    }
}

/// One connection's life on the calling side. What is asked and not answered fails when it ends.
async fn speak(
    hello: Hello,
    urls: Vec<String>,
    tls: Option<PeerTls>,
    peer: &Arc<Peer>,
    lane: Lane,
    mut asked: mpsc::Receiver<Asked>,
) -> io::Result<()> {
    let stream = connect(hello, &urls, tls.as_ref(), peer).await?;
    let _connected = peer.connected();
    let (mut sink, mut answers) = framed(stream).split();
    let mut waiting: HashMap<u64, oneshot::Sender<io::Result<Bytes>>> = HashMap::new();
    let (mut number, mut heard) = (0_u64, Instant::now());
    let stall = if lane == Lane::Raft { STALL } else { STALL_LONG };
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(heard + stall), if !waiting.is_empty() => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            next = asked.recv() => {
                let Some(first) = next else { return Ok(()) };
                let mut next = Some(first);
                if waiting.is_empty() {
                    heard = Instant::now();
                }
                // What is there goes out in one write.
                while let Some(Asked { request, answer }) = next {
                    number += 1;
                    waiting.insert(number, answer);
                    peer.sent(HEAD_BYTES + request.len());
                    sink.feed(message(number, &request)).await?;
                    next = asked.try_recv().ok();
                }
                sink.flush().await?;
            }
            answer = answers.next() => {
                let bytes = answer.ok_or(io::ErrorKind::UnexpectedEof)??;
                heard = Instant::now();
                let (number, body) = split(bytes.freeze())?;
                peer.received(HEAD_BYTES + body.len());
                if let Some(waits) = waiting.remove(&number) {
                    let _ = waits.send(Ok(body));
                }
            }
        }
    }
}

fn message(number: u64, body: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + body.len());
    out.put_u64(number);
    out.extend_from_slice(body);
    out.freeze()
}

fn split(mut bytes: Bytes) -> io::Result<(u64, Bytes)> {
    let number = super::types::take_u64(&mut bytes)?;
    Ok((number, bytes))
}

async fn connect(
    hello: Hello,
    urls: &[String],
    tls: Option<&PeerTls>,
    peer: &Peer,
) -> io::Result<Box<dyn Stream>> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the member has no peer URL");
    for url in urls {
        match tokio::time::timeout(CONNECT_PATIENCE, connect_to(hello, url, tls, peer)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn connect_to(
    hello: Hello,
    url: &str,
    tls: Option<&PeerTls>,
    peer: &Peer,
) -> io::Result<Box<dyn Stream>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, "not a peer URL");
    let authority = host_and_port(url).ok_or_else(bad)?;
    let tcp = TcpStream::connect(authority).await?;
    prepare(&tcp)?;
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(tls) => {
            Box::new(TlsConnector::from(tls.client.clone()).connect(server_name(authority)?, tcp).await?)
        }
    };
    let asked = Instant::now();
    stream.write_all(&hello.encode()).await?;
    stream.flush().await?;
    let theirs = Hello::read(&mut stream).await?;
    peer.answered(asked.elapsed());
    if theirs.cluster_id != hello.cluster_id || theirs.from != hello.to {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "another member answers there"));
    }
    Ok(stream)
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    socket2::SockRef::from(tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// `host:port` of a peer URL.
#[must_use]
pub fn host_and_port(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split('/').next()?;
    let (host, port) = authority.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(authority)
}

/// The door for other members.
pub struct Listener {
    pub cluster_id: u64,
    pub me: u64,
    pub tls: Option<PeerTls>,
    pub handler: Arc<dyn Handler>,
    /// None: nobody joins here.
    pub joining: Option<Arc<dyn Joining>>,
    pub(crate) stats: Arc<Stats>,
}

impl Listener {
    /// Serves on `listener` until `tasks` shut down.
    pub fn serve(self, listener: TcpListener, tasks: &Tasks) {
        let (this, connections, token) = (Arc::new(self), tasks.clone(), tasks.token());
        tasks.spawn(TaskKind::Service, "store-peer-accept", async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = token.cancelled() => return Ok::<_, io::Error>(()),
                };
                let (tcp, _): (TcpStream, SocketAddr) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::debug!(%error, "a peer was not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (this, token) = (this.clone(), token.clone());
                connections.spawn(TaskKind::Connection, "store-peer-in", async move {
                    tokio::select! {
                        done = this.listen(tcp) => done,
                        () = token.cancelled() => Ok(()),
                    }
                });
            }
        });
    }

    async fn listen(&self, tcp: TcpStream) -> io::Result<()> {
        prepare(&tcp)?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let accept = TlsAcceptor::from(tls.server.clone()).accept(tcp);
                let stream = tokio::time::timeout(HELLO_PATIENCE, accept).await??;
                let certificate = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
                let Some(certificate) = certificate else {
                    return self.answer_joining(Box::new(stream)).await;
                };
                if common_name(certificate).as_deref() != Some(&tls.common_name) {
                    return Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        "not a member's certificate",
                    ));
                }
                Box::new(stream)
            }
        };
        let hello = Hello::read(&mut stream).await?;
        let mine = Hello { cluster_id: self.cluster_id, from: self.me, to: hello.from };
        stream.write_all(&mine.encode()).await?;
        stream.flush().await?;
        if hello.cluster_id != self.cluster_id || hello.to != self.me {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "meant for another member"));
        }
        let peer = self.stats.peers.of(hello.from);
        let _connected = peer.connected();
        self.answer(hello.from, &peer, stream).await.inspect_err(|_| peer.receive_failed())
    }

    /// One request of one who is not a member.
    async fn answer_joining(&self, mut stream: Box<dyn Stream>) -> io::Result<()> {
        let joining = self.joining.as_ref().ok_or(io::ErrorKind::PermissionDenied)?;
        let answered = async {
            Hello::read(&mut stream).await?;
            let codec = LengthDelimitedCodec::builder().max_frame_length(JOIN_BYTES_MAX).new_codec();
            let mut framed = Framed::new(stream, codec);
            let request = framed.next().await.ok_or(io::ErrorKind::UnexpectedEof)??.freeze();
            let answer = joining.ask(request).await;
            let answer = answer.map(|body| body.to_vec()).map_err(|e| PeerError::Busy(e.to_string()));
            framed.send(encode_answer(answer)).await
        };
        tokio::time::timeout(JOIN_PATIENCE, answered).await?
    }

    async fn answer(&self, from: u64, peer: &Peer, stream: Box<dyn Stream>) -> io::Result<()> {
        let (mut sink, mut requests) = framed(stream).split();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                request = requests.next(), if under_way.len() < QUEUE => {
                    let Some(bytes) = request else { return Ok(()) };
                    let (number, body) = split(bytes?.freeze())?;
                    peer.received(HEAD_BYTES + body.len());
                    let answer = self.handler.handle(from, body);
                    under_way.push(async move { (number, answer.await) });
                }
                Some((number, answer)) = under_way.next(), if !under_way.is_empty() => {
                    peer.sent(HEAD_BYTES + answer.len());
                    sink.send(message(number, &answer)).await?;
                }
            }
        }
    }
}

/// The common name in a verified certificate.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}
