//! The types consensus is run with, and their bytes.
//!
//! A log entry is a WAL frame, on disk and on the wire alike:
//! ```text
//! kind 1 entry       mvcc's entry                          (of a member that was alone)
//!      2 blank       nothing: a new leader's first entry
//!      3 membership  see `put_membership`
//!      4 command     origin member 8 | origin number 8 | mvcc's entry
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{Buf as _, Bytes};
use commitlog::Offset;
use commitlog::wal::{WalFrame, WalMeta};
use openraft::entry::RaftEntry as _;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, Membership};

use crate::replicator::KIND_ENTRY;

/// A new leader's first entry.
pub(crate) const KIND_BLANK: u8 = 2;
/// Who the members are from here on.
pub(crate) const KIND_MEMBERSHIP: u8 = 3;
/// An entry with the member that proposed it, whose caller waits for the reply.
pub(crate) const KIND_COMMAND: u8 = 4;
/// Members of a cluster at most, learners included: etcd advises seven.
pub(crate) const MEMBERS_MAX: usize = 32;

/// A member as all members know it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberNode {
    /// For people; empty until the member has started for the first time.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Receives the log and is to vote as soon as it has caught up.
    pub joining: bool,
}

/// What is proposed: the kind of its frame and the payload.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub kind: u8,
    pub payload: Bytes,
}

/// Who waits for a command's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub member: u64,
    pub number: u64,
}

impl Command {
    /// An encoded entry and who waits for its reply.
    pub(crate) fn new(origin: Origin, entry: &[u8]) -> Self {
        let payload = [&origin.member.to_be_bytes(), &origin.number.to_be_bytes(), entry].concat();
        Self { kind: KIND_COMMAND, payload: payload.into() }
    }

    /// Splits into who waits, if anybody does, and the encoded entry.
    pub(crate) fn split(&self) -> Result<(Option<Origin>, Bytes), Malformed> {
        if self.kind == KIND_ENTRY {
            return Ok((None, self.payload.clone()));
        }
        let mut rest = self.payload.clone();
        let origin = Origin { member: take_u64(&mut rest)?, number: take_u64(&mut rest)? };
        Ok((Some(origin), rest))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.payload.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// What consensus is run with.
    pub(crate) TypeConfig:
        D = Command,
        R = (),
        NodeId = u64,
        Node = MemberNode,
        AsyncRuntime = super::runtime::Runtime,
);

type Leader = LeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<Leader>;
pub(crate) type Vote = openraft::Vote<Leader>;
pub(crate) type LogEntry = openraft::Entry<Leader, EntryPayload<Command, u64, MemberNode>>;
pub(crate) type Stored = openraft::StoredMembership<Leader, u64, MemberNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Leader, u64, MemberNode>;
pub(crate) type Snapshot<D> = openraft::Snapshot<Leader, u64, MemberNode, D>;

/// The bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub &'static str);

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The entry before the first: every cluster's log begins behind it.
pub(crate) fn origin_log_id() -> LogId {
    log_id(0, 0, 0)
}

pub(crate) fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: node }, index)
}

/// Appends an entry's frame.
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    let id = entry.log_id();
    let meta = |kind| WalMeta {
        kind,
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: Offset(id.index.cast_signed()),
    };
    match &entry.payload {
        EntryPayload::Blank => WalFrame::encode(out, &meta(KIND_BLANK), b""),
        EntryPayload::Normal(command) => WalFrame::encode(out, &meta(command.kind), &command.payload),
        EntryPayload::Membership(membership) => {
            let mut payload = Vec::new();
            put_membership(&mut payload, membership);
            WalFrame::encode(out, &meta(KIND_MEMBERSHIP), &payload);
        }
    }
}

/// The entry in a verified frame's parts.
pub(crate) fn entry(meta: &WalMeta, payload: Bytes) -> Result<LogEntry, Malformed> {
    let id = log_id(meta.term, meta.node, meta.index.get().unsigned_abs());
    let payload = match meta.kind {
        KIND_ENTRY | KIND_COMMAND => EntryPayload::Normal(Command { kind: meta.kind, payload }),
        KIND_BLANK => EntryPayload::Blank,
        KIND_MEMBERSHIP => EntryPayload::Membership(take_membership(&mut payload.clone())?),
        _ => return Err(Malformed("kind of entry")),
    };
    Ok(LogEntry { log_id: id, payload })
}

pub(crate) fn take_u8(input: &mut Bytes) -> Result<u8, Malformed> {
    input.try_get_u8().map_err(|_| Malformed("byte"))
}

pub(crate) fn take_u32(input: &mut Bytes) -> Result<u32, Malformed> {
    input.try_get_u32().map_err(|_| Malformed("number"))
}

pub(crate) fn take_u64(input: &mut Bytes) -> Result<u64, Malformed> {
    input.try_get_u64().map_err(|_| Malformed("number"))
}

pub(crate) fn take_bytes(input: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = take_u32(input)? as usize;
    if len > input.len() { Err(Malformed("length")) } else { Ok(input.split_to(len)) }
}

pub(crate) fn take_text(input: &mut Bytes) -> Result<String, Malformed> {
    String::from_utf8(take_bytes(input)?.to_vec()).map_err(|_| Malformed("text"))
}

pub(crate) fn take_texts(input: &mut Bytes) -> Result<Vec<String>, Malformed> {
    let count = take_u32(input)? as usize;
    // Each takes four bytes at least, so what is at hand bounds the reservation.
    if count > input.len() / 4 {
        Err(Malformed("count"))
    } else {
        (0..count).map(|_| take_text(input)).collect()
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Frames are bounded far below 4 GiB.
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    out.extend_from_slice(&(texts.len() as u32).to_be_bytes());
    texts.iter().for_each(|text| put_bytes(out, text.as_bytes()));
}

pub(crate) fn put_node(out: &mut Vec<u8>, node: &MemberNode) {
    put_bytes(out, node.name.as_bytes());
    put_texts(out, &node.peer_urls);
    put_texts(out, &node.client_urls);
    out.push(u8::from(node.joining));
}

pub(crate) fn take_node(input: &mut Bytes) -> Result<MemberNode, Malformed> {
    Ok(MemberNode {
        name: take_text(input)?,
        peer_urls: take_texts(input)?,
        client_urls: take_texts(input)?,
        joining: take_u8(input)? != 0,
    })
}

pub(crate) type Members = Membership<u64, MemberNode>;

/// `n, n x (n, n ids)` the voters, twice while a change is under way; `n, n x (id, node)`.
pub(crate) fn put_membership(out: &mut Vec<u8>, membership: &Members) {
    let configs = membership.get_joint_config();
    out.push(configs.len() as u8);
    for config in configs {
        out.push(config.len() as u8);
        config.iter().for_each(|id| out.extend_from_slice(&id.to_be_bytes()));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    out.push(nodes.len() as u8);
    for (id, node) in nodes {
        out.extend_from_slice(&id.to_be_bytes());
        put_node(out, node);
    }
}

pub(crate) fn take_membership(input: &mut Bytes) -> Result<Members, Malformed> {
    let configs = (0..take_u8(input)?)
        .map(|_| (0..take_u8(input)?).map(|_| take_u64(input)).collect())
        .collect::<Result<Vec<BTreeSet<u64>>, _>>()?;
    let nodes = (0..take_u8(input)?)
        .map(|_| Ok((take_u64(input)?, take_node(input)?)))
        .collect::<Result<BTreeMap<_, _>, Malformed>>()?;
    Membership::new(configs, nodes).map_err(|_| Malformed("membership"))
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: Option<&LogId>) {
    let Some(id) = id else { return out.push(0) };
    out.push(1);
    for number in [id.leader_id.term, id.leader_id.node_id, id.index] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

pub(crate) fn take_log_id(input: &mut Bytes) -> Result<Option<LogId>, Malformed> {
    if take_u8(input)? == 0 {
        return Ok(None);
    }
    Ok(Some(log_id(take_u64(input)?, take_u64(input)?, take_u64(input)?)))
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.extend_from_slice(&vote.leader_id.term.to_be_bytes());
    out.extend_from_slice(&vote.leader_id.node_id.to_be_bytes());
    out.push(u8::from(vote.committed));
}

pub(crate) fn take_vote(input: &mut Bytes) -> Result<Vote, Malformed> {
    let leader_id = LeaderId { term: take_u64(input)?, node_id: take_u64(input)? };
    Ok(Vote { leader_id, committed: take_u8(input)? != 0 })
}

pub(crate) fn put_stored(out: &mut Vec<u8>, stored: &Stored) {
    put_log_id(out, stored.log_id().as_ref());
    put_membership(out, stored.membership());
}

pub(crate) fn take_stored(input: &mut Bytes) -> Result<Stored, Malformed> {
    Ok(Stored::new(take_log_id(input)?, take_membership(input)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let node = MemberNode {
            name: "a".into(),
            peer_urls: vec!["https://a:1".into(), "https://b:2".into()],
            client_urls: Vec::new(),
            joining: true,
        };
        let nodes = BTreeMap::from([(1, node.clone()), (2, node.clone()), (9, node)]);
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([1])];
        let stored = Stored::new(Some(log_id(3, 1, 77)), Membership::new(voters, nodes).unwrap());
        let mut out = Vec::new();
        put_stored(&mut out, &stored);
        let whole = Bytes::from(out);
        assert_eq!(take_stored(&mut whole.clone()).unwrap(), stored);
        for len in 0..whole.len() {
            assert!(take_stored(&mut whole.slice(..len)).is_err(), "{len} bytes");
        }
        let entry_ = LogEntry {
            log_id: log_id(3, 1, 78),
            payload: EntryPayload::Membership(stored.membership().clone()),
        };
        let mut frame = Vec::new();
        put_entry(&mut frame, &entry_);
        let (meta, payload) = WalFrame::decode(&frame).unwrap();
        assert_eq!(entry(&meta, payload).unwrap(), entry_);
    }

    #[test]
    fn a_command_knows_who_waits() {
        let origin = Origin { member: 5, number: 6 };
        let command = Command::new(origin, b"entry");
        assert_eq!(command.split().unwrap(), (Some(origin), Bytes::from_static(b"entry")));
        let old = Command { kind: KIND_ENTRY, payload: Bytes::from_static(b"entry") };
        assert_eq!(old.split().unwrap(), (None, Bytes::from_static(b"entry")));
    }
}
