//! What every part of the agent shares.

use crate::Options;
use crate::events::Recorder;
use crate::runtime::Runtime;
use crate::volumes::Objects;
use api_client::Informers;
use base::task::Tasks;
use kube::Client;
use pod_core::PodNetwork;
use pod_core::fields::NodeFacts;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::Semaphore;

/// Starts of containers and sandboxes at a time, for each processor: they wait for the disk and the kernel as much
/// as they compute.
const STARTS_PER_CPU: usize = 4;

/// Shared by the workers, the server and the node's own tasks.
pub(crate) struct Context {
    pub options: Options,
    pub client: Client,
    pub informers: Informers,
    pub network: Arc<dyn PodNetwork>,
    pub runtime: Runtime,
    pub objects: Objects,
    pub events: Recorder,
    pub tasks: Tasks,
    /// Bounds how many containers are being started at once.
    pub starts: Arc<Semaphore>,
    pub machine: Machine,
    /// Raised whenever the image store changes.
    pub images: AtomicU64,
}

/// The machine's size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub cpus: usize,
    pub memory_bytes: i64,
}

impl Machine {
    pub fn read() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: Option<i64> = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        Self { cpus, memory_bytes: kib.unwrap_or(0) * 1024 }
    }

    pub fn starts(self) -> usize {
        self.cpus * STARTS_PER_CPU
    }
}

impl Context {
    /// Now, ms since 1970.
    pub fn now(&self) -> i64 {
        self.options.clock.unix_ms()
    }

    /// The node's part of the downward API.
    pub fn facts(&self, pod_ip: &str) -> NodeFacts {
        NodeFacts {
            host_ip: self.options.node_ip.to_string(),
            pod_ip: pod_ip.to_owned(),
            cpu_milli: self.machine.cpus as i64 * 1000,
            memory_bytes: self.machine.memory_bytes,
        }
    }
}
