//! The room's door: options, service, handle.

use crate::dns::{Server, ServerOptions};
use crate::ground::{self, Prepared};
use crate::pods::Pods;
use crate::proxy::Proxy;
use crate::rules::Base;
use crate::{Cidr, Error, Zone};
use api_client::Informers;
use base::task::{TaskKind, Tasks};
use pod_core::{Attachment, BoxFuture, DnsConfig, NetworkError, PodNetwork, PodRef};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// What the network is to be. [`Options::new`] gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Eight hexadecimal digits in lower case that stand for the data directory.
    pub data_dir_id: String,
    /// The range of all pods, 10.42.0.0/16.
    pub pod_cidr: Cidr,
    /// The part of it this node gives to its pods, at most a /16; its first address is the gateway's. 10.42.0.0/24.
    pub node_cidr: Cidr,
    /// The range of all Services, 10.43.0.0/16.
    pub service_cidr: Cidr,
    /// The address of the DNS Service, which pods ask. 10.43.0.10.
    pub dns_ip: Ipv4Addr,
    /// The port DNS listens on at the gateway address; when taken, a free one. 53.
    pub dns_port: u16,
    /// Further addresses DNS listens on.
    pub dns_listen: Vec<SocketAddr>,
    /// The domain of all names, `cluster.local`.
    pub cluster_domain: String,
    /// Whether pods reach addresses outside, by masquerade. True.
    pub egress: bool,
    /// The file that names the host's resolvers. /etc/resolv.conf.
    pub resolv_conf: PathBuf,
}

impl Options {
    /// The defaults for a data directory.
    #[must_use]
    pub fn new(data_dir_id: impl Into<String>) -> Self {
        Self {
            data_dir_id: data_dir_id.into(),
            pod_cidr: Cidr::new(Ipv4Addr::new(10, 42, 0, 0), 16),
            node_cidr: Cidr::new(Ipv4Addr::new(10, 42, 0, 0), 24),
            service_cidr: Cidr::new(Ipv4Addr::new(10, 43, 0, 0), 16),
            dns_ip: Ipv4Addr::new(10, 43, 0, 10),
            dns_port: 53,
            dns_listen: Vec::new(),
            cluster_domain: "cluster.local".into(),
            egress: true,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }

    /// The node's address as pods see it: the first of the node's range.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.node_cidr.nth(1).unwrap_or_else(|| self.node_cidr.base())
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Options(text));
        if !ground::is_id(&self.data_dir_id) {
            return wrong(format!("{:?} is not an id of eight hexadecimal digits", self.data_dir_id));
        }
        if !(16..=29).contains(&self.node_cidr.prefix()) {
            return wrong(format!("the node's pod range {} must be a /16 to /29", self.node_cidr));
        }
        if !self.pod_cidr.contains(self.node_cidr.base()) || self.pod_cidr.prefix() > self.node_cidr.prefix()
        {
            return wrong(format!("the node's pod range {} is not in {}", self.node_cidr, self.pod_cidr));
        }
        if self.pod_cidr.contains(self.service_cidr.base())
            || self.service_cidr.contains(self.pod_cidr.base())
        {
            return wrong(format!(
                "pod range {} and Service range {} overlap",
                self.pod_cidr, self.service_cidr
            ));
        }
        Ok(())
    }

    pub(crate) fn base(&self, forwarding: &BTreeSet<String>) -> Base {
        Base {
            id: self.data_dir_id.clone(),
            gateway: self.gateway(),
            pod_cidr: self.pod_cidr,
            service_cidr: self.service_cidr,
            egress: self.egress,
            forwarding: forwarding.clone(),
        }
    }
}

/// Starts the room.
#[derive(Debug, Clone, Copy)]
pub struct Service;

/// The running network. Clones are the same network.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    pods: Pods,
    dns: Vec<SocketAddr>,
    tasks: Tasks,
}

impl Service {
    /// Prepares the host (again, if [`crate::prepare`] was called), finds the pods that are attached, and starts DNS
    /// and the rules of Services. The first table of Services is in place once the caches have synced.
    ///
    /// # Errors
    /// As [`crate::prepare`]; and when DNS cannot listen.
    pub async fn start(options: Options, informers: Informers, tasks: &Tasks) -> Result<Handle, Error> {
        let Prepared { gateway, forwarding } = ground::prepare(&options).await?;
        let pods = Pods::discover(&options).await?;
        let ranges = vec![options.pod_cidr, options.service_cidr];
        let empty = Zone::build(&options.cluster_domain, ranges, &[], &[]);
        let (zone, zones) = watch::channel(Arc::new(empty));
        let listen =
            [SocketAddr::from((gateway, options.dns_port))].into_iter().chain(options.dns_listen.clone());
        let server = ServerOptions {
            listen: listen.collect(),
            resolv_conf: options.resolv_conf.clone(),
            ours: BTreeSet::from([gateway.into(), options.dns_ip.into()]),
        };
        let server = Server::start(server, zones, tasks).await.map_err(Error::io("listen for DNS"))?;
        let proxy = Proxy::new(options.clone(), options.base(&forwarding), informers, zone);
        tasks.spawn(TaskKind::Service, "services", proxy.run(tasks.clone()));
        let inner = Inner { options, pods, dns: server.addresses, tasks: tasks.clone() };
        Ok(Handle { inner: Arc::new(inner) })
    }
}

impl Handle {
    /// The node's address as pods see it.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.inner.options.gateway().into()
    }

    /// Where DNS listens: at the gateway address first, then as the options said.
    #[must_use]
    pub fn dns_addresses(&self) -> &[SocketAddr] {
        &self.inner.dns
    }

    /// Removes everything the network made on this host, pods' links included.
    ///
    /// # Errors
    /// As [`crate::down`].
    pub async fn down(&self) -> Result<(), Error> {
        ground::down(&self.inner.options.data_dir_id).await
    }

    fn attachment(&self, ip: IpAddr, netns: &Path) -> Attachment {
        Attachment { ip, gateway: self.gateway(), netns_path: netns.to_owned() }
    }

    fn running(&self) -> Result<(), NetworkError> {
        if self.inner.tasks.token().is_cancelled() { Err(NetworkError::ShuttingDown) } else { Ok(()) }
    }
}

impl From<Error> for NetworkError {
    fn from(error: Error) -> Self {
        match error {
            Error::Gone(what) => Self::Gone(what),
            Error::Exhausted(range) => Self::Exhausted(range.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl PodNetwork for Handle {
    fn attach<'a>(
        &'a self,
        pod: &'a PodRef,
        netns: &'a Path,
    ) -> BoxFuture<'a, Result<Attachment, NetworkError>> {
        Box::pin(async move {
            self.running()?;
            let ip = self.inner.pods.attach(pod, netns).await?;
            Ok(self.attachment(ip.into(), netns))
        })
    }

    fn adopt<'a>(
        &'a self,
        pod: &'a PodRef,
        netns: &'a Path,
        ip: IpAddr,
    ) -> BoxFuture<'a, Result<Attachment, NetworkError>> {
        Box::pin(async move {
            self.running()?;
            let IpAddr::V4(address) = ip else {
                return Err(NetworkError::Failed(format!("{ip} is not an IPv4 address")));
            };
            self.inner.pods.adopt(pod, netns, address).await?;
            Ok(self.attachment(ip, netns))
        })
    }

    fn detach<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(async move { Ok(self.inner.pods.detach(pod).await?) })
    }

    fn dns(&self, namespace: &str) -> DnsConfig {
        let domain = &self.inner.options.cluster_domain;
        DnsConfig {
            nameservers: vec![self.inner.options.dns_ip.into()],
            searches: vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()],
            options: vec!["ndots:5".into()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let check = |change: fn(&mut Options), expect: &str| {
            let mut options = Options::new("0011aabb");
            change(&mut options);
            let got = options.validate().map_err(|e| e.to_string()).err().unwrap_or_default();
            assert_eq!(got, expect);
        };
        check(|_| {}, "");
        check(|o| o.data_dir_id = "XYZ".into(), "\"XYZ\" is not an id of eight hexadecimal digits");
        check(
            |o| o.node_cidr = "10.43.0.0/24".parse().expect("a range"),
            "the node's pod range 10.43.0.0/24 is not in 10.42.0.0/16",
        );
        check(
            |o| o.service_cidr = "10.42.128.0/17".parse().expect("a range"),
            "pod range 10.42.0.0/16 and Service range 10.42.128.0/17 overlap",
        );
        check(
            |o| o.node_cidr = "10.42.0.0/30".parse().expect("a range"),
            "the node's pod range 10.42.0.0/30 must be a /16 to /29",
        );
        assert_eq!(Options::new("0011aabb").gateway(), Ipv4Addr::new(10, 42, 0, 1));
    }
}
