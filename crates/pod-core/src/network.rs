//! The contract between the node agent and the pod network: values in, values out.
//!
//! ```text
//! kubelet ── attach(pod, netns) ─▶ PodNetwork (crate `network`) ── Attachment{ip, gateway} ─▶ kubelet
//!         ── adopt(pod, netns, ip) after a restart, so that the address stays reserved
//!         ── detach(pod) once the sandbox is gone
//!         ── dns(namespace) for /etc/resolv.conf
//! ```

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

/// A boxed future, the form in which an object-safe trait can be asynchronous.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names one pod for good: the same namespace and name with another uid is another pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct PodRef {
    /// The namespace of the API object.
    pub namespace: String,
    /// The name of the API object.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod's place in the network.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attachment {
    /// The pod's address; it becomes `status.podIP`.
    pub ip: IpAddr,
    /// The node's address as pods see it.
    pub gateway: IpAddr,
    /// The network namespace that was attached.
    pub netns_path: PathBuf,
}

/// What goes into a pod's /etc/resolv.conf under `dnsPolicy: ClusterFirst`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub nameservers: Vec<IpAddr>,
    /// The `search` line, most specific first.
    pub searches: Vec<String>,
    /// The `options` line (`ndots:5`).
    pub options: Vec<String>,
}

/// Why a pod could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The pod range of this node has no free address left: wait for pods to end.
    #[error("no free pod address in {0}")]
    Exhausted(String),
    /// The namespace or the link is gone: make the sandbox anew.
    #[error("{0} is gone")]
    Gone(String),
    /// The network is stopping: do not try again.
    #[error("the pod network is stopping")]
    ShuttingDown,
    /// The kernel refused: try again with back-off, and show the text to the user.
    #[error("pod network: {0}")]
    Failed(String),
}

/// Gives pods their network. Every call may be repeated: attaching an attached pod yields the same address.
pub trait PodNetwork: Send + Sync {
    /// Gives the namespace at `netns` a link, an address and routes.
    fn attach<'a>(
        &'a self,
        pod: &'a PodRef,
        netns: &'a Path,
    ) -> BoxFuture<'a, Result<Attachment, NetworkError>>;
    /// After a restart: the pod already has `ip`; remember it, and repair what is missing on the host's side.
    fn adopt<'a>(
        &'a self,
        pod: &'a PodRef,
        netns: &'a Path,
        ip: IpAddr,
    ) -> BoxFuture<'a, Result<Attachment, NetworkError>>;
    /// Removes the pod's link and frees its address. Succeeds when there is nothing left to remove.
    fn detach<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), NetworkError>>;
    /// The resolver configuration of a pod in `namespace`.
    fn dns(&self, namespace: &str) -> DnsConfig;
}
