//! What runs in a member's process.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use base::task::Tasks;
use store::raft::{Begin, ClusterOptions, MemberNode, NetworkOptions, Sizes};
use store::{Options, Service, door};
use tokio::signal::unix::{SignalKind, signal};

/// Names the member a process is to be: number, directory, and the id it joins with (0: one of the first).
pub const ENV: &str = "KETCH_TEST_MEMBER";
const CLUSTER: u64 = 5;
/// Members a cluster begins with.
pub const FIRST: usize = 3;
const CLOSING: Duration = Duration::from_secs(10);

/// Where a member is.
pub fn address(n: usize) -> String {
    format!("10.90.0.{}", n + 1)
}

pub fn peer_url(n: usize) -> String {
    format!("http://{}:2380", address(n))
}

/// The id of one of the first.
pub fn first_id(n: usize) -> u64 {
    n as u64 + 11
}

/// What a process is told.
pub struct Member {
    pub n: usize,
    pub dir: PathBuf,
    pub joins: u64,
}

impl Member {
    pub fn from_env() -> Option<Self> {
        let text = std::env::var(ENV).ok()?;
        let mut words = text.splitn(3, ' ');
        let (n, joins) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { n, joins, dir: words.next()?.into() })
    }

    pub fn env(&self) -> String {
        format!("{} {} {}", self.n, self.joins, self.dir.display())
    }

    /// Serves until it is told to end.
    pub fn run(self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(self.serve());
    }

    async fn serve(self) {
        let mut end = signal(SignalKind::terminate()).unwrap();
        let tasks = Tasks::new();
        let handle = Service::start_member(Options::new(&self.dir), self.cluster(), &tasks).await.unwrap();
        let listen: SocketAddr = format!("{}:2379", address(self.n)).parse().unwrap();
        let options = door::Options::new(vec![listen], None);
        door::Service::start(options, handle.clone(), &tasks).await.unwrap();
        end.recv().await;
        handle.close().await;
        tasks.shutdown(CLOSING).await;
    }

    fn cluster(&self) -> ClusterOptions {
        let node = |n| {
            let node = MemberNode { peer_urls: vec![peer_url(n)], ..MemberNode::default() };
            (first_id(n), node)
        };
        let begin = match self.joins {
            0 => Begin::Together {
                cluster_id: CLUSTER,
                member_id: first_id(self.n),
                members: (0..FIRST).map(node).collect(),
            },
            member_id => Begin::Join { cluster_id: CLUSTER, member_id },
        };
        let listener = TcpListener::bind(format!("{}:2380", address(self.n))).unwrap();
        let network = NetworkOptions::Listen { listener, tls: None, joining: None };
        ClusterOptions {
            client_urls: vec![format!("http://{}:2379", address(self.n))],
            sizes: Sizes { snapshot_entries: 300, keep_entries: 100, ..Sizes::default() },
            ..ClusterOptions::new(format!("m{}", self.n), peer_url(self.n), begin, network)
        }
    }
}
