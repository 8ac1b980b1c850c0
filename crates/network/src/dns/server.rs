//! The loops over UDP and TCP sockets. Cluster names are answered inline; forwarding runs in bounded tasks.

use super::forward::{Forwarder, Silence};
use super::zone::{Answer, Verdict, Zone};
use base::task::{TaskKind, Tasks};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

/// Questions being forwarded at one time; beyond it the answer is SERVFAIL, and the client asks again.
const FORWARDS_MAX: usize = 1024;
/// TCP connections at one time; beyond it new ones are closed at once.
const CONNECTIONS_MAX: usize = 256;
/// How long a TCP connection may be silent (RFC 7766 asks for seconds).
const IDLE_MAX: Duration = Duration::from_secs(10);
/// The largest UDP payload that fits common links without fragments (DNS flag day 2020).
const PAYLOAD_MAX: u16 = 1232;
/// The payload of a client without EDNS (RFC 1035).
const PAYLOAD_PLAIN: u16 = 512;
/// The largest query we look at by UDP; larger ones do not exist in practice.
const QUERY_MAX: usize = 4096;
/// How long accept waits after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the server listens and what it does not know.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Addresses to listen on, by UDP and TCP. A port that is taken is replaced by a free one.
    pub listen: Vec<SocketAddr>,
    /// The host's resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// Our own addresses, at which no resolver of the host is asked.
    pub ours: BTreeSet<IpAddr>,
}

/// A running server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it listens, in the order of the options.
    pub addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    zone: watch::Receiver<Arc<Zone>>,
    forwarder: Forwarder,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    turn: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// What becomes of a packet.
enum Outcome {
    Reply(Box<Message>),
    Forward(Box<Message>),
    Continue(Box<Message>, Name),
    Drop,
}

impl Server {
    /// Binds and serves until the tasks end.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn start(
        options: ServerOptions,
        zone: watch::Receiver<Arc<Zone>>,
        tasks: &Tasks,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            zone,
            forwarder: Forwarder::new(options.resolv_conf, options.ours),
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            turn: AtomicUsize::new(0),
        });
        let mut addresses = Vec::new();
        for address in options.listen {
            let (udp, tcp) = bind(address).await?;
            addresses.push(tcp.local_addr()?);
            tasks.spawn(
                TaskKind::Service,
                "dns-udp",
                serve_udp(Arc::new(udp), shared.clone(), tasks.clone()),
            );
            tasks.spawn(TaskKind::Service, "dns-tcp", serve_tcp(tcp, shared.clone(), tasks.clone()));
        }
        Ok(Self { addresses })
    }
}

/// One port for both; a free one when the asked one is taken (Services lead to whatever it is).
async fn bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    match bind_both(address).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && address.port() != 0 => {
            tracing::info!(%address, "DNS port is taken; using a free one");
            bind_both(SocketAddr::new(address.ip(), 0)).await
        }
        other => other,
    }
}

async fn bind_both(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let tcp = TcpListener::bind(address).await?;
    let udp = UdpSocket::bind(tcp.local_addr()?).await?;
    Ok((udp, tcp))
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>, tasks: Tasks) -> Result<(), Infallible> {
    let token = tasks.token();
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        let (length, client) = tokio::select! {
            () = token.cancelled() => return Ok(()),
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An ICMP error about an earlier reply; the socket goes on.
                Err(error) => { tracing::debug!(%error, "DNS by UDP"); continue }
            },
        };
        let packet = &buffer[..length];
        let outcome = shared.decide(packet);
        if let Outcome::Reply(reply) = &outcome {
            // A client that went away is no concern.
            socket.try_send_to(&encoded(reply, payload_of(reply)), client).ok();
            continue;
        }
        let (socket, shared, packet) = (socket.clone(), shared.clone(), packet.to_vec());
        if let Outcome::Drop = outcome {
            continue;
        }
        tasks.spawn(TaskKind::Connection, "dns-forward", async move {
            if let Some(reply) = shared.finish(outcome, &packet, Transport::Udp).await {
                socket.send_to(&reply, client).await?;
            }
            Ok::<(), std::io::Error>(())
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, tasks: Tasks) -> Result<(), Infallible> {
    let token = tasks.token();
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = shared.connections.clone().try_acquire_owned() else { continue };
        let (shared, token) = (shared.clone(), token.clone());
        tasks.spawn(TaskKind::Connection, "dns-connection", async move {
            let _permit = permit;
            tokio::select! {
                () = token.cancelled() => Ok(()),
                ended = converse(stream, &shared) => ended,
            }
        });
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    loop {
        let length = match tokio::time::timeout(IDLE_MAX, stream.read_u16()).await {
            Ok(Ok(length)) => usize::from(length),
            Ok(Err(_)) | Err(_) => return Ok(()),
        };
        let mut packet = vec![0; length];
        tokio::time::timeout(IDLE_MAX, stream.read_exact(&mut packet)).await??;
        let outcome = shared.decide(&packet);
        let Some(reply) = shared.finish(outcome, &packet, Transport::Tcp).await else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes()[..], &reply].concat();
        tokio::time::timeout(IDLE_MAX, stream.write_all(&framed)).await??;
    }
}

impl Shared {
    fn decide(&self, packet: &[u8]) -> Outcome {
        let zone = self.zone.borrow().clone();
        decide(packet, &zone, self.turn.fetch_add(1, Ordering::Relaxed))
    }

    async fn finish(&self, outcome: Outcome, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let by_tcp = transport == Transport::Tcp;
        let mut reply = match outcome {
            Outcome::Drop => return None,
            Outcome::Reply(reply) => reply,
            Outcome::Forward(reply) => match self.ask(packet, by_tcp).await {
                Ok(bytes) => return Some(bytes),
                Err(silence) => failed(reply, silence),
            },
            Outcome::Continue(reply, name) => self.continued(reply, name).await,
        };
        let limit = if by_tcp { u16::MAX } else { payload_of(&reply) };
        reply.metadata.recursion_available = true;
        Some(encoded(&reply, limit))
    }

    async fn ask(&self, query: &[u8], by_tcp: bool) -> Result<Vec<u8>, Silence> {
        let _permit = self.forwards.try_acquire().map_err(|_| Silence::NoAnswer)?;
        self.forwarder.ask(query, by_tcp).await
    }

    /// Appends what the host's resolvers say of the name an alias leads to.
    async fn continued(&self, mut reply: Box<Message>, name: Name) -> Box<Message> {
        let Some(kind) = reply.queries.first().map(Query::query_type) else { return reply };
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name, kind));
        let Ok(bytes) = query.to_vec() else { return reply };
        match self.ask(&bytes, true).await.map(|bytes| Message::from_vec(&bytes)) {
            Ok(Ok(rest)) => {
                reply.metadata.response_code = rest.metadata.response_code;
                reply.answers.extend(rest.answers);
                reply
            }
            // The alias alone is still true: the client can go on from there.
            Ok(Err(_)) | Err(_) => reply,
        }
    }
}

fn failed(mut reply: Box<Message>, silence: Silence) -> Box<Message> {
    reply.metadata.response_code = match silence {
        Silence::NoUpstream => ResponseCode::Refused,
        Silence::NoAnswer => ResponseCode::ServFail,
    };
    reply
}

/// Decides by the packet and the zone alone.
fn decide(packet: &[u8], zone: &Zone, turn: usize) -> Outcome {
    let Ok(request) = Message::from_vec(packet) else { return malformed(packet) };
    if request.metadata.message_type != MessageType::Query {
        return Outcome::Drop;
    }
    let mut reply = Box::new(Message::response(request.metadata.id, request.metadata.op_code));
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    if let Some(edns) = &request.edns {
        let mut own = Edns::new();
        own.set_max_payload(edns.max_payload().clamp(PAYLOAD_PLAIN, PAYLOAD_MAX));
        reply.set_edns(own);
    }
    if request.metadata.op_code != OpCode::Query {
        reply.metadata.response_code = ResponseCode::NotImp;
        return Outcome::Reply(reply);
    }
    let [question] = request.queries.as_slice() else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return Outcome::Reply(reply);
    };
    reply.add_query(question.clone());
    if question.query_class() != DNSClass::IN {
        reply.metadata.response_code = ResponseCode::Refused;
        return Outcome::Reply(reply);
    }
    match zone.resolve(question.name(), question.query_type(), turn) {
        Verdict::Forward => Outcome::Forward(reply),
        Verdict::Answered(answer) => filled(reply, *answer),
    }
}

/// Answers what cannot be read, if it is a query at all.
fn malformed(packet: &[u8]) -> Outcome {
    match packet {
        [a, b, flags, ..] if packet.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*a, *b]);
            Outcome::Reply(Box::new(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)))
        }
        _ => Outcome::Drop,
    }
}

fn filled(mut reply: Box<Message>, answer: Answer) -> Outcome {
    reply.metadata.authoritative = true;
    reply.metadata.response_code = answer.code;
    reply.answers = answer.answers;
    reply.authorities = answer.authorities;
    reply.additionals = answer.additionals;
    match answer.continues_at {
        Some(name) => Outcome::Continue(reply, name),
        None => Outcome::Reply(reply),
    }
}

fn payload_of(reply: &Message) -> u16 {
    reply.edns.as_ref().map_or(PAYLOAD_PLAIN, Edns::max_payload)
}

/// Encodes; what does not fit is left out with the flag that says "ask by TCP".
fn encoded(reply: &Message, limit: u16) -> Vec<u8> {
    let whole = reply.to_vec().unwrap_or_default();
    if !whole.is_empty() && whole.len() <= usize::from(limit) {
        return whole;
    }
    let mut cut = reply.clone();
    cut.answers.clear();
    cut.authorities.clear();
    cut.additionals.clear();
    cut.metadata.truncation = true;
    cut.to_vec().unwrap_or_default()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
