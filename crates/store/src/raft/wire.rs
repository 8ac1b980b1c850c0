//! What members say to each other, as bytes.
//!
//! ```text
//! request   kind 1 | body
//! answer    0 | body, or 1 | code 1 | text
//! ```
//! Bodies are drawn beside their types. Entries travel as the WAL's frames, checksums included.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};

use super::log::take_frames;
use super::types::{
    self, Command, Malformed, MemberNode, TypeConfig, Vote, put_bytes, put_log_id, put_node, put_texts,
    put_vote, take_bytes, take_log_id, take_node, take_text, take_texts, take_u8, take_u32, take_u64,
    take_vote,
};

/// Commands one request may carry.
const COMMANDS_MAX: u32 = 4096;

/// A change of who the members are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Add {
        node: MemberNode,
        learner: bool,
    },
    Remove {
        id: u64,
    },
    Update {
        id: u64,
        peer_urls: Vec<String>,
    },
    Promote {
        id: u64,
    },
    /// A member says its name and where clients reach it.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
    },
    MoveLeader {
        id: u64,
    },
}

/// What one member asks of another.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    Transfer(TransferLeaderRequest<TypeConfig>),
    SnapshotBegin {
        id: u64,
    },
    SnapshotChunk {
        id: u64,
        number: u64,
        chunk: Bytes,
    },
    SnapshotEnd {
        id: u64,
        chunks: u64,
        vote: Vote,
    },
    /// Put these into the log.
    Propose(Vec<Command>),
    /// How far must be applied for a read that begins now?
    ReadIndex,
    /// Renew a lease; how long it lasts.
    KeepAlive {
        lease: i64,
    },
    /// How long a lease still lasts.
    TimeLeft {
        lease: i64,
    },
    Change(Change),
    /// The hash of the state at a revision.
    Hash {
        revision: i64,
    },
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Append(request) => {
                out.push(1);
                put_vote(&mut out, &request.vote);
                put_log_id(&mut out, request.prev_log_id.as_ref());
                put_log_id(&mut out, request.leader_commit.as_ref());
                request.entries.iter().for_each(|entry| types::put_entry(&mut out, entry));
            }
            Self::Vote(request) => put_vote_request(&mut out, 2, request),
            Self::PreVote(request) => put_vote_request(&mut out, 3, request),
            Self::Transfer(request) => {
                out.push(4);
                put_vote(&mut out, request.from_leader());
                put_u64(&mut out, *request.to_node_id());
                put_log_id(&mut out, request.last_log_id());
            }
            Self::SnapshotBegin { id } => put_numbers(&mut out, 5, &[*id]),
            Self::SnapshotChunk { id, number, chunk } => {
                put_numbers(&mut out, 6, &[*id, *number]);
                out.extend_from_slice(chunk);
            }
            Self::SnapshotEnd { id, chunks, vote } => {
                put_numbers(&mut out, 7, &[*id, *chunks]);
                put_vote(&mut out, vote);
            }
            Self::Propose(commands) => {
                out.push(8);
                out.extend_from_slice(&(commands.len() as u32).to_be_bytes());
                for command in commands {
                    out.push(command.kind);
                    put_bytes(&mut out, &command.payload);
                }
            }
            Self::ReadIndex => out.push(9),
            Self::KeepAlive { lease } => put_numbers(&mut out, 10, &[lease.cast_unsigned()]),
            Self::TimeLeft { lease } => put_numbers(&mut out, 11, &[lease.cast_unsigned()]),
            Self::Change(change) => {
                out.push(12);
                put_change(&mut out, change);
            }
            Self::Hash { revision } => put_numbers(&mut out, 13, &[revision.cast_unsigned()]),
        }
        out.into()
    }

    pub(crate) fn decode(mut input: Bytes) -> Result<Self, std::io::Error> {
        let input = &mut input;
        let request = match take_u8(input)? {
            1 => Self::Append(AppendEntriesRequest {
                vote: take_vote(input)?,
                prev_log_id: take_log_id(input)?,
                leader_commit: take_log_id(input)?,
                entries: take_frames(std::mem::take(input))?,
            }),
            2 => Self::Vote(take_vote_request(input)?),
            3 => Self::PreVote(take_vote_request(input)?),
            4 => Self::Transfer(TransferLeaderRequest::new(
                take_vote(input)?,
                take_u64(input)?,
                take_log_id(input)?,
            )),
            5 => Self::SnapshotBegin { id: take_u64(input)? },
            6 => Self::SnapshotChunk {
                id: take_u64(input)?,
                number: take_u64(input)?,
                chunk: std::mem::take(input),
            },
            7 => {
                Self::SnapshotEnd { id: take_u64(input)?, chunks: take_u64(input)?, vote: take_vote(input)? }
            }
            8 => Self::Propose(take_commands(input)?),
            9 => Self::ReadIndex,
            10 => Self::KeepAlive { lease: take_u64(input)?.cast_signed() },
            11 => Self::TimeLeft { lease: take_u64(input)?.cast_signed() },
            12 => Self::Change(take_change(input)?),
            13 => Self::Hash { revision: take_u64(input)?.cast_signed() },
            _ => return Err(Malformed("kind of request").into()),
        };
        if input.is_empty() { Ok(request) } else { Err(Malformed("request: bytes after the end").into()) }
    }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_numbers(out: &mut Vec<u8>, kind: u8, numbers: &[u64]) {
    out.push(kind);
    numbers.iter().for_each(|number| put_u64(out, *number));
}

/// `vote | last log id | transfer 1`
fn put_vote_request(out: &mut Vec<u8>, kind: u8, request: &VoteRequest<TypeConfig>) {
    out.push(kind);
    put_vote(out, &request.vote);
    put_log_id(out, request.last_log_id.as_ref());
    out.push(u8::from(request.leadership_transfer));
}

fn take_vote_request(input: &mut Bytes) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let mut request = VoteRequest::new(take_vote(input)?, take_log_id(input)?);
    request.leadership_transfer = take_u8(input)? != 0;
    Ok(request)
}

fn take_commands(input: &mut Bytes) -> Result<Vec<Command>, Malformed> {
    let count = take_u32(input)?;
    if count > COMMANDS_MAX {
        return Err(Malformed("count of commands"));
    }
    (0..count).map(|_| Ok(Command { kind: take_u8(input)?, payload: take_bytes(input)? })).collect()
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Add { node, learner } => {
            out.extend_from_slice(&[1, u8::from(*learner)]);
            put_node(out, node);
        }
        Change::Remove { id } => put_numbers(out, 2, &[*id]),
        Change::Update { id, peer_urls } => {
            put_numbers(out, 3, &[*id]);
            put_texts(out, peer_urls);
        }
        Change::Promote { id } => put_numbers(out, 4, &[*id]),
        Change::Publish { id, name, client_urls } => {
            put_numbers(out, 5, &[*id]);
            put_bytes(out, name.as_bytes());
            put_texts(out, client_urls);
        }
        Change::MoveLeader { id } => put_numbers(out, 6, &[*id]),
    }
}

fn take_change(input: &mut Bytes) -> Result<Change, Malformed> {
    Ok(match take_u8(input)? {
        1 => Change::Add { learner: take_u8(input)? != 0, node: take_node(input)? },
        2 => Change::Remove { id: take_u64(input)? },
        3 => Change::Update { id: take_u64(input)?, peer_urls: take_texts(input)? },
        4 => Change::Promote { id: take_u64(input)? },
        5 => {
            Change::Publish { id: take_u64(input)?, name: take_text(input)?, client_urls: take_texts(input)? }
        }
        6 => Change::MoveLeader { id: take_u64(input)? },
        _ => return Err(Malformed("kind of change")),
    })
}

/// `0`; `1 | log id`; `2`; `3 | vote`
pub(crate) fn put_append_answer(out: &mut Vec<u8>, answer: &AppendEntriesResponse<TypeConfig>) {
    match answer {
        AppendEntriesResponse::Success => out.push(0),
        AppendEntriesResponse::PartialSuccess(id) => {
            out.push(1);
            put_log_id(out, id.as_ref());
        }
        AppendEntriesResponse::Conflict => out.push(2),
        AppendEntriesResponse::HigherVote(vote) => {
            out.push(3);
            put_vote(out, vote);
        }
    }
}

pub(crate) fn take_append_answer(input: &mut Bytes) -> Result<AppendEntriesResponse<TypeConfig>, Malformed> {
    Ok(match take_u8(input)? {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::PartialSuccess(take_log_id(input)?),
        2 => AppendEntriesResponse::Conflict,
        3 => AppendEntriesResponse::HigherVote(take_vote(input)?),
        _ => return Err(Malformed("answer to an append")),
    })
}

/// `vote | granted 1 | last log id`
pub(crate) fn put_vote_answer(out: &mut Vec<u8>, answer: &VoteResponse<TypeConfig>) {
    put_vote(out, &answer.vote);
    out.push(u8::from(answer.vote_granted));
    put_log_id(out, answer.last_log_id.as_ref());
}

pub(crate) fn take_vote_answer(input: &mut Bytes) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let (vote, granted) = (take_vote(input)?, take_u8(input)? != 0);
    Ok(VoteResponse::new(vote, take_log_id(input)?, granted))
}

pub(crate) fn take_snapshot_answer(input: &mut Bytes) -> Result<SnapshotResponse<TypeConfig>, Malformed> {
    Ok(SnapshotResponse::new(take_vote(input)?))
}
