//! A real etcd on free ports of loopback, where `KETCH_TEST_ETCD` names its program.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_client::KvClient;
use etcd_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::transport::Channel;

/// How often a start is tried anew when somebody else took the port.
const STARTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(30);

/// The program a variable names; says that the test is skipped when it is not set.
pub fn program(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    found
}

pub struct Etcd {
    child: Child,
    port: u16,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    /// Starts one member on a directory, new or restored; with more arguments.
    pub async fn start(program: &Path, dir: &Path, more: &[&str]) -> Self {
        for _ in 0..STARTS {
            let (port, peers) = (free_port(), free_port());
            let scheme = if more.is_empty() { "http" } else { "https" };
            let client = format!("{scheme}://127.0.0.1:{port}");
            // The peer URL that a restore writes down by default; nobody else is in the cluster.
            let child = Command::new(program)
                .args(["--log-level", "error", "--data-dir"])
                .arg(dir)
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peers}")])
                .args(more)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut etcd = Self { child, port };
            if etcd.answers().await {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    async fn answers(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE && self.child.try_wait().unwrap().is_none() {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).unwrap().connect().await.unwrap()
    }
}

/// Everything there is, at the current revision.
pub async fn everything(channel: Channel) -> pb::RangeResponse {
    let mut kv = KvClient::new(channel).max_decoding_message_size(usize::MAX);
    let all = pb::RangeRequest { key: "\0".into(), range_end: vec![0].into(), ..Default::default() };
    let began = Instant::now();
    loop {
        match kv.range(all.clone()).await {
            Ok(answer) => return answer.into_inner(),
            // A member that has just started has no leader yet.
            Err(status) if began.elapsed() > PATIENCE => panic!("{status}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Saves a snapshot as etcdctl does: the stream's bytes as they come.
pub async fn save(channel: Channel, path: &Path) {
    let mut client = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut stream = client.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let (mut bytes, mut left) = (Vec::new(), None);
    while let Some(piece) = stream.message().await.unwrap() {
        let remaining = piece.remaining_bytes;
        if let Some(left) = left {
            assert_eq!(
                left - piece.blob.len().min(left as usize) as u64,
                remaining,
                "remaining bytes count down"
            );
        }
        left = Some(remaining);
        bytes.extend_from_slice(&piece.blob);
    }
    std::fs::write(path, bytes).unwrap();
}
