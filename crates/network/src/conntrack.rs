//! Forgets UDP connections whose endpoint is gone: else the kernel goes on sending a client that keeps its port
//! (a resolver, a metrics sender) to an address where nobody listens.
//!
//! ```text
//! dump (IPCTNL_MSG_CT_GET) ─▶ each: original destination is a Service address, reply comes from no endpoint of it
//!                             ─▶ IPCTNL_MSG_CT_DELETE by its original tuple
//! ```
//!
//! Messages are those of linux/netfilter/nfnetlink_conntrack.h; a malformed one is skipped.

use rtnetlink::sys::{Socket, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;

const NETLINK_NETFILTER: isize = 12;
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const NESTED: u16 = 0x8000;
const UDP: u8 = 17;
/// nlmsghdr and nfgenmsg.
const HEADER: usize = 16 + 4;
/// Datagrams of one dump we read: the kernel's table ends long before; a stop against a lost end.
const DATAGRAMS_MAX: usize = 100_000;

/// The endpoints of each UDP Service address.
pub type Endpoints = BTreeMap<(Ipv4Addr, u16), BTreeSet<(Ipv4Addr, u16)>>;

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    protocol: u8,
}

/// Deletes the connections that lead to none of their Service's endpoints. A failure is only logged: such
/// connections also time out after 30 s of silence.
pub fn forget_stale(endpoints: Endpoints) {
    if endpoints.is_empty() {
        return;
    }
    match forget(&endpoints) {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "forgot UDP connections without endpoint"),
        Err(error) => tracing::debug!(%error, "conntrack"),
    }
}

fn forget(endpoints: &Endpoints) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let stale = dump(&socket, endpoints)?;
    for original in &stale {
        socket.send_to(&message(CT_DELETE, NLM_F_REQUEST, original), &SocketAddr::new(0, 0), 0)?;
    }
    Ok(stale.len())
}

/// The original tuples (as attributes) of the stale connections.
fn dump(socket: &Socket, endpoints: &Endpoints) -> io::Result<Vec<Vec<u8>>> {
    socket.send_to(&message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &[]), &SocketAddr::new(0, 0), 0)?;
    let mut stale = Vec::new();
    for _ in 0..DATAGRAMS_MAX {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while let Some((kind, body, next)) = split_message(rest) {
            match kind {
                NLMSG_DONE | NLMSG_ERROR => return Ok(stale),
                _ => stale.extend(stale_original(body, endpoints)),
            }
            rest = next;
        }
    }
    Ok(stale)
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    const AF_INET: u8 = 2;
    let length = u32::try_from(HEADER + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port
    bytes.extend([AF_INET, 0, 0, 0]); // nfgenmsg: family, version, resource
    bytes.extend(attributes);
    bytes
}

/// (type, what follows nlmsghdr and nfgenmsg, the next message)
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let whole = bytes.get(..length).filter(|_| length >= 16)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, whole.get(HEADER..).unwrap_or_default(), next))
}

/// (type, the whole attribute with its header of 4 bytes, the next attributes)
fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !NESTED;
    let whole = bytes.get(..length).filter(|_| length >= 4)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, whole, next))
}

/// The attribute of this type: its value and the whole of it.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<(&[u8], &[u8])> {
    while let Some((kind, whole, next)) = split_attribute(bytes) {
        if kind == wanted {
            return Some((&whole[4..], whole));
        }
        bytes = next;
    }
    None
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let ip = attribute(bytes, CTA_TUPLE_IP)?.0;
    let proto = attribute(bytes, CTA_TUPLE_PROTO)?.0;
    // CTA_IP_V4_SRC 1, CTA_IP_V4_DST 2; CTA_PROTO_NUM 1, SRC_PORT 2, DST_PORT 3, big-endian.
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(attribute(ip, kind)?.0).ok()?));
    let port = |kind| Some(u16::from_be_bytes(attribute(proto, kind)?.0.try_into().ok()?));
    Some(Tuple {
        source: (address(1)?, port(2)?),
        destination: (address(2)?, port(3)?),
        protocol: *attribute(proto, 1)?.0.first()?,
    })
}

fn stale_original(body: &[u8], endpoints: &Endpoints) -> Option<Vec<u8>> {
    let (value, whole) = attribute(body, CTA_TUPLE_ORIG)?;
    let (original, reply) = (tuple(value)?, tuple(attribute(body, CTA_TUPLE_REPLY)?.0)?);
    let known = endpoints.get(&original.destination).filter(|_| original.protocol == UDP)?;
    (!known.contains(&reply.source)).then(|| whole.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(kind: u16, values: &[(u16, Vec<u8>)]) -> (u16, Vec<u8>) {
        let mut bytes = Vec::new();
        for (kind, value) in values {
            bytes.extend(u16::try_from(value.len() + 4).expect("short").to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        (kind, bytes)
    }

    fn direction(kind: u16, protocol: u8, from: (u8, u16), to: (u8, u16)) -> (u16, Vec<u8>) {
        let ip = nested(CTA_TUPLE_IP | NESTED, &[(1, vec![10, 0, 0, from.0]), (2, vec![10, 0, 0, to.0])]);
        let ports =
            [(1, vec![protocol]), (2, from.1.to_be_bytes().to_vec()), (3, to.1.to_be_bytes().to_vec())];
        nested(kind | NESTED, &[ip, nested(CTA_TUPLE_PROTO | NESTED, &ports)])
    }

    #[test]
    fn only_udp_connections_to_lost_endpoints_are_stale() {
        let service = (Ipv4Addr::new(10, 0, 0, 9), 53);
        let endpoints = Endpoints::from([(service, BTreeSet::from([(Ipv4Addr::new(10, 0, 0, 2), 5353)]))]);
        let check = |protocol: u8, to: (u8, u16), at: (u8, u16), expect: bool| {
            let original = direction(CTA_TUPLE_ORIG, protocol, (1, 999), to);
            let reply = direction(CTA_TUPLE_REPLY, protocol, at, (1, 999));
            let body = nested(0, &[original, reply]).1;
            assert_eq!(stale_original(&body, &endpoints).is_some(), expect, "{protocol} {to:?} {at:?}");
        };
        check(UDP, (9, 53), (2, 5353), false);
        check(UDP, (9, 53), (3, 5353), true);
        check(UDP, (9, 53), (9, 53), true);
        check(6, (9, 53), (3, 5353), false);
        check(UDP, (8, 53), (3, 5353), false);
        assert_eq!(stale_original(&[1, 2, 3], &endpoints), None);
        assert!(split_message(&[0; 16]).is_none());
    }
}
