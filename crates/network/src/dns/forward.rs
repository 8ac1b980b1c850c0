//! Names outside the cluster: asked of the resolvers the host itself uses.

use hickory_proto::op::Message;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long one resolver may take; the pod's own resolver gives up after 5 s.
const PATIENCE: Duration = Duration::from_secs(2);
/// Resolvers asked one after the other; the limit of resolv.conf(5) itself.
const UPSTREAMS_MAX: usize = 3;
/// How long the file's content is taken as known: it changes when the host changes networks.
const FILE_FRESH: Duration = Duration::from_secs(5);
/// The largest reply by UDP we can take.
const REPLY_MAX: usize = 65_535;

/// Asks the host's resolvers.
#[derive(Debug)]
pub struct Forwarder {
    file: PathBuf,
    /// Our own addresses: a resolver there would be a loop.
    ours: BTreeSet<IpAddr>,
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The host has no resolver.
    NoUpstream,
    /// None of them answered.
    NoAnswer,
}

impl Forwarder {
    pub fn new(file: PathBuf, ours: BTreeSet<IpAddr>) -> Self {
        Self { file, ours, known: Mutex::new(None) }
    }

    fn upstreams(&self) -> Vec<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, list)) = known.as_ref().filter(|(read, _)| read.elapsed() < FILE_FRESH) {
            return list.clone();
        }
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let list = upstreams(&text, &self.ours);
        *known = Some((Instant::now(), list.clone()));
        list
    }

    /// Sends the query on under another id and returns the reply under the query's own.
    pub async fn ask(&self, query: &[u8], by_tcp: bool) -> Result<Vec<u8>, Silence> {
        let upstreams = self.upstreams();
        if upstreams.is_empty() {
            return Err(Silence::NoUpstream);
        }
        for upstream in upstreams {
            let asked = tokio::time::timeout(PATIENCE, exchange(upstream, query, by_tcp)).await;
            match asked {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "resolver failed"),
                Err(_) => tracing::debug!(%upstream, "resolver did not answer"),
            }
        }
        Err(Silence::NoAnswer)
    }
}

/// The `nameserver` lines of resolv.conf(5) without our own addresses.
fn upstreams(text: &str, ours: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.filter(|ip| !ours.contains(ip)).map(|ip| SocketAddr::new(ip, 53)).take(UPSTREAMS_MAX).collect()
}

async fn exchange(upstream: SocketAddr, query: &[u8], by_tcp: bool) -> std::io::Result<Vec<u8>> {
    let mut sent = query.to_vec();
    let id = fresh_id();
    let (Some(own_id), Some(place)) = (query.get(..2).map(<[u8]>::to_vec), sent.get_mut(..2)) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    place.copy_from_slice(&id);
    let mut reply =
        if by_tcp { by_stream(upstream, &sent).await? } else { by_datagram(upstream, &sent).await? };
    reply[..2].copy_from_slice(&own_id);
    Ok(reply)
}

/// Ids that cannot be guessed, so that nobody else's reply is taken (RFC 5452).
fn fresh_id() -> [u8; 2] {
    let [a, b, ..] = base::random::Random::from_entropy().next_u64().to_be_bytes();
    [a, b]
}

async fn by_datagram(upstream: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr =
        if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; REPLY_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_stream(upstream: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(query.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if answers(&reply, query) { Ok(reply) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// Whether the reply is one to this query: same id, same question.
fn answers(reply: &[u8], query: &[u8]) -> bool {
    let (Ok(reply), Ok(query)) = (Message::from_vec(reply), Message::from_vec(query)) else { return false };
    reply.metadata.message_type == hickory_proto::op::MessageType::Response
        && reply.metadata.id == query.metadata.id
        && reply.queries == query.queries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_of_the_host() {
        let check = |text: &str, expect: &[&str]| {
            let ours = BTreeSet::from(["10.42.0.1".parse().expect("an address")]);
            let expect: Vec<SocketAddr> = expect.iter().map(|a| a.parse().expect("an address")).collect();
            assert_eq!(upstreams(text, &ours), expect, "{text}");
        };
        check("", &[]);
        check("search x\nnameserver 192.0.2.1\n# nameserver 192.0.2.9\n", &["192.0.2.1:53"]);
        check("nameserver\t::1\nnameserver 10.42.0.1\nnameserver bad\n", &["[::1]:53"]);
        check(&"nameserver 192.0.2.1\n".repeat(5), &["192.0.2.1:53"; 3]);
    }
}
