//! The node part: pod network, DNS and kubelet, wired together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use api_client::Informers;
use base::clock::SystemClock;
use base::task::Tasks;
use kube::Client;

use crate::config::{Cidr, Config, is_root};
use crate::files::directory_id;

/// Pods of one node: a /24 of the cluster's range.
const NODE_PREFIX: u8 = 24;

/// The host prepared for pods: ranges fenced off, gateway address up. Comes before anything listens.
pub struct Ground {
    pub gateway: Ipv4Addr,
    /// Where this node's pods get their addresses from.
    range: Cidr,
    options: network::Options,
}

impl Ground {
    /// Prepares the host, or returns None after one line that says what is missing. `range` is this node's part of the
    /// pods' addresses; None where there is one node, which has the first.
    ///
    /// # Errors
    /// When the host should be able to and cannot.
    pub async fn prepare(config: &Config, range: Option<Cidr>) -> Result<Option<Self>> {
        if range.is_none() && !is_possible(config) {
            return Ok(None);
        }
        let range = range.unwrap_or(Cidr { base: config.pod_cidr.base, prefix: NODE_PREFIX });
        let cidr = |c: Cidr| network::Cidr::new(c.base, c.prefix);
        let options = network::Options {
            pod_cidr: cidr(config.pod_cidr),
            node_cidr: cidr(range),
            service_cidr: cidr(config.service_cidr),
            dns_ip: config.service_cidr.nth(10),
            cluster_domain: config.cluster_domain.clone(),
            egress: config.pod_egress,
            ..network::Options::new(directory_id(&config.data_dir))
        };
        let prepared = network::prepare(&options).await.context("the network does not start")?;
        Ok(Some(Self { gateway: prepared.gateway, range, options }))
    }
}

/// Whether this host can run the node part and is to; says what is missing.
pub fn is_possible(config: &Config) -> bool {
    if !config.node {
        return false;
    }
    if !is_root() {
        println!("node     off, it needs root: no containers, no pod network");
        return false;
    }
    if let Err(missing) = network::available() {
        println!("{missing}");
        return false;
    }
    true
}

/// What the node part needs to start, gathered before it moves to its own runtime.
pub struct Plan {
    kubelet: kubelet::Options,
    kafka: Option<SocketAddr>,
    dns_ip: Ipv4Addr,
}

impl Plan {
    /// Certificates and addresses of this node.
    ///
    /// # Errors
    /// When a certificate cannot be made.
    pub fn new(
        config: &Config,
        ground: &Ground,
        pki: &pki::Pki,
        kafka: Option<&[SocketAddr]>,
    ) -> Result<Self> {
        let gateway = IpAddr::from(ground.gateway);
        let node_ip = config.node_ip.unwrap_or(gateway);
        let mut names = config.listen.clone();
        names.extend([gateway, node_ip]);
        let listen = names_without_twins(&names)
            .into_iter()
            .map(|ip| SocketAddr::new(ip, config.kubelet_port))
            .collect();
        let leaf = pki.kubelet_server(&config.node_name, &names)?;
        let kubelet = kubelet::Options {
            node_name: config.node_name.clone(),
            node_ip,
            dir: config.data_dir.join("node"),
            listen,
            tls: Arc::new(pki.server_config(&leaf)?),
            cluster_domain: config.cluster_domain.clone(),
            pod_cidr: Some(ground.range.to_string()),
            version: apiserver::GIT_VERSION.to_owned(),
            shim: kubelet::runtime::ShimCommand::default(),
            clock: SystemClock::shared(),
        };
        let kafka = kafka
            .filter(|_| config.pod_kafka)
            .and_then(|all| all.iter().find(|a| a.ip() == gateway))
            .copied();
        Ok(Self { kubelet, kafka, dns_ip: config.service_cidr.nth(10) })
    }
}

fn names_without_twins(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut once: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !once.contains(address) {
            once.push(*address);
        }
    }
    once
}

/// The running node part.
pub struct Node {
    kubelet: kubelet::Handle,
}

impl Node {
    /// Starts network, DNS and kubelet; returns when the node is Ready. `client` acts as the node, `admin` makes the
    /// Services that lead to DNS and to the broker.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(
        plan: Plan,
        ground: Ground,
        client: Client,
        admin: Client,
        informers: Informers,
        tasks: &Tasks,
    ) -> Result<Self> {
        let network = network::Service::start(ground.options, informers.clone(), tasks)
            .await
            .context("the network does not start")?;
        let addresses = network::Addrs {
            gateway: ground.gateway,
            dns_ip: plan.dns_ip,
            dns_port: network.dns_addresses().first().map(SocketAddr::port),
            kafka_port: plan.kafka.map(|a| a.port()),
        };
        network::ensure_services(&admin, &addresses).await.context("the cluster's own Services")?;
        let kubelet = kubelet::Service::start(plan.kubelet, client, informers, Arc::new(network), tasks)
            .await
            .context("the node agent does not start")?;
        Ok(Self { kubelet })
    }

    /// Where the kubelet listens first.
    #[must_use]
    pub fn kubelet_addr(&self) -> Option<SocketAddr> {
        self.kubelet.addresses().first().copied()
    }

    /// How many containers run now.
    #[must_use]
    pub fn containers(&self) -> usize {
        self.kubelet.running_containers()
    }
}
