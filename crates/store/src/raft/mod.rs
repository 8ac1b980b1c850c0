//! Several members with one log: openraft between the queue and the applier.
//!
//! ```text
//!  types     what consensus is run with, and its bytes       log       the log on the WAL; vote, committed, purged
//!  machine   committed entries to the applier                transfer  a whole state on its way
//!  wire      requests and answers                            transport the seam, and framed TLS
//!  net       consensus' messages over the transport          member    proposals, reads, what the leader does
//!  cluster   who the members are                             start     opening a directory, starting all of it
//!  runtime   tokio with chance that can be seeded            hands     threads, or none in a simulation
//!  peers     what goes to the others and comes from them, counted
//! ```
//! openraft has defaults that would hurt; each is overridden: votes before an election (`pre_vote` grants by itself),
//! moving the leader (`transfer_leader` errors), messages one by one (`stream_append`), and `save_committed`. A snapshot
//! is the state made durable, so the log's front is removed only below what the state holds durably.

pub(crate) mod cluster;
pub(crate) mod error;
pub(crate) mod hands;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod member;
mod net;
pub(crate) mod peers;
mod runtime;
pub(crate) mod start;
pub(crate) mod transfer;
pub mod transport;
pub(crate) mod types;
mod verify;
mod watching;
pub(crate) mod wire;

use std::sync::Arc;
use std::time::Duration;

pub use cluster::MemberInfo;
pub use error::{ClusterError, PeerError};
pub use hands::Hands;
pub(crate) use machine::LEADER_FAILED;
pub use runtime::seed_chance;
pub use types::MemberNode;

/// Reads bytes as another member's request, as an answer, and as a part of a state, as a stranger could send them; what is
/// read is written and read again to the same. For fuzzers.
#[doc(hidden)]
pub fn fuzz_peer_bytes(bytes: &[u8]) {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    if let Ok(request) = wire::Request::decode(bytes.clone()) {
        let written = request.encode();
        let again = wire::Request::decode(written.clone()).expect("what was written is read");
        assert_eq!(again.encode(), written);
    }
    if let Ok(Ok(mut answer)) = error::decode_answer(bytes.clone()) {
        let (append, vote) = (answer.clone(), answer.clone());
        // Either it is one of these or it is refused.
        let _ = wire::take_append_answer(&mut append.clone());
        let _ = wire::take_vote_answer(&mut vote.clone());
        let _ = wire::take_snapshot_answer(&mut answer);
    }
    let _ = transfer::read_chunk(bytes);
}

/// The times consensus runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader says that it is there.
    pub heartbeat: Duration,
    /// A member that has not heard from a leader for a time between these asks to become one.
    pub election_min: Duration,
    /// The leader may serve reads by itself for this long after a majority has answered it.
    pub election_max: Duration,
}

impl Timing {
    /// The longest a member that hears nothing waits before it asks to lead: what it promised the last leader, and then
    /// its own time.
    #[must_use]
    pub fn election_timeout(&self) -> Duration {
        self.election_max * 2
    }
}

impl Default for Timing {
    /// A new leader within a second on a local network.
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { heartbeat: ms(60), election_min: ms(250), election_max: ms(400) }
    }
}

/// How much of the log stays, and in what pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Entries since the last snapshot after which the next is made: a durable commit, and the log's front may go.
    pub snapshot_entries: u64,
    /// Entries behind a snapshot that stay, for followers that are a little behind: a log is shorter than a state.
    pub keep_entries: u64,
    /// Bytes of one file of the log.
    pub segment_bytes: u64,
    /// Bytes of the log's latest entries kept in memory: followers in step and the state read them there.
    pub cache_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            snapshot_entries: 5000,
            keep_entries: 20_000,
            segment_bytes: crate::service::SEGMENT_BYTES,
            cache_bytes: 16 * 1024 * 1024,
        }
    }
}

/// How a member begins in a directory that has none yet; ignored in one that has.
#[derive(Debug, Clone)]
pub enum Begin {
    /// The first of a new cluster, or one that ran alone so far.
    Alone,
    /// One of a new cluster, whose members all begin with the same list.
    Together { cluster_id: u64, member_id: u64, members: Vec<(u64, MemberNode)> },
    /// One that the members of a cluster have added.
    Join { cluster_id: u64, member_id: u64 },
}

/// What a member of a cluster needs beside [`Options`](crate::Options).
pub struct ClusterOptions {
    /// For people.
    pub name: String,
    /// Where other members reach this one.
    pub peer_urls: Vec<String>,
    /// Where clients reach this one.
    pub client_urls: Vec<String>,
    pub begin: Begin,
    pub timing: Timing,
    pub network: NetworkOptions,
    pub sizes: Sizes,
    /// Where blocking work is done: [`Hands::Threads`], but in simulations.
    pub hands: Hands,
}

impl ClusterOptions {
    /// A member that others reach at `peer_url`, with the usual timing and sizes; where clients reach it is not known yet.
    pub fn new(
        name: impl Into<String>,
        peer_url: impl Into<String>,
        begin: Begin,
        network: NetworkOptions,
    ) -> Self {
        Self {
            name: name.into(),
            peer_urls: vec![peer_url.into()],
            client_urls: Vec::new(),
            begin,
            timing: Timing::default(),
            network,
            sizes: Sizes::default(),
            hands: Hands::Threads,
        }
    }
}

/// Makes a transport for a member: its cluster id, its id, its door.
pub type MakeTransport =
    Box<dyn FnOnce(u64, u64, Arc<dyn transport::Handler>) -> Arc<dyn transport::Transport> + Send>;

/// What connects members.
pub enum NetworkOptions {
    /// A bound peer port; without TLS in tests on loopback only.
    Listen {
        listener: std::net::TcpListener,
        tls: Option<transport::PeerTls>,
        /// Answers those who want to become members; None turns them away.
        joining: Option<Arc<dyn transport::Joining>>,
    },
    /// A transport of the caller's own, which is handed this member's door (cluster id, member id, door).
    Given(MakeTransport),
}
