//! Pods' links: made, adopted after a restart, removed.
//!
//! ```text
//! host:  kv<id><address> (alias: the pod's uid) ── route 10.42.0.5/32 ─▶ link
//! pod:   eth0 10.42.0.5/32 ── route 10.42.0.1/32 ─▶ eth0, default via 10.42.0.1
//! ```
//!
//! Links are routed, not bridged: every packet between pods passes the host's forward hook, an address without a
//! pod meets the unreachable route at once, and hairpins need nothing of the link.

use crate::room::Options;
use crate::{Addresses, Cidr, Error, ground, netlink};
use pod_core::PodRef;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The pods of this node by their links.
#[derive(Debug)]
pub struct Pods {
    prefix: String,
    range: Cidr,
    gateway: Ipv4Addr,
    addresses: Mutex<Addresses>,
}

/// The name of the link of the pod with this address: the low 16 bits tell pods of a node apart.
fn link_name(prefix: &str, ip: Ipv4Addr) -> String {
    format!("{prefix}{:04x}", ip.to_bits() & 0xffff)
}

/// The address in a link's name, if the name is one of ours.
fn address_in(name: &str, prefix: &str, range: Cidr) -> Option<Ipv4Addr> {
    let digits = name.strip_prefix(prefix).filter(|d| d.len() == 4)?;
    let low = u32::from_str_radix(digits, 16).ok()?;
    let ip = Ipv4Addr::from_bits(range.base().to_bits() & 0xffff_0000 | low);
    range.contains(ip).then_some(ip)
}

impl Pods {
    /// The pods whose links are here already keep their addresses.
    pub async fn discover(options: &Options) -> Result<Self, Error> {
        let prefix = ground::link_prefix(&options.data_dir_id);
        let mut addresses = Addresses::new(options.node_cidr);
        let (connection, rt) = netlink::open()?;
        for link in netlink::drive(connection, netlink::links(&rt)).await? {
            let known = address_in(&link.name, &prefix, options.node_cidr);
            if let Some(ip) = known.filter(|_| !link.alias.is_empty()) {
                addresses.reserve(&link.alias, ip);
            }
        }
        let (range, gateway) = (options.node_cidr, options.gateway());
        Ok(Self { prefix, range, gateway, addresses: Mutex::new(addresses) })
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the namespace its link; asked again, the same address.
    pub async fn attach(&self, pod: &PodRef, netns: &Path) -> Result<Ipv4Addr, Error> {
        let known = self.addresses().of(&pod.uid).is_some();
        let ip = self.addresses().allocate(&pod.uid).ok_or(Error::Exhausted(self.range))?;
        let wired = self.wire(pod, netns, ip).await;
        if wired.is_err() && !known {
            self.unwire(ip).await.ok();
            self.addresses().release(&pod.uid);
        }
        wired.map(|()| ip)
    }

    async fn wire(&self, pod: &PodRef, netns: &Path, ip: Ipv4Addr) -> Result<(), Error> {
        let namespace =
            File::open(netns).map_err(|_| Error::Gone(format!("network namespace {}", netns.display())))?;
        let name = link_name(&self.prefix, ip);
        let (connection, rt) = netlink::open()?;
        netlink::drive(connection, async {
            netlink::delete_link(&rt, &name).await?;
            netlink::add_veth(&rt, &name, namespace.as_fd()).await?;
            self.host_side(&rt, pod, &name, ip).await
        })
        .await?;
        let (connection, rt) = netlink::open_in(&namespace).await?;
        netlink::drive(connection, self.pod_side(&rt, ip)).await
    }

    async fn host_side(&self, rt: &netlink::Rt, pod: &PodRef, name: &str, ip: Ipv4Addr) -> Result<(), Error> {
        netlink::set_up(rt, name, Some(&pod.uid)).await?;
        let index =
            netlink::link_index(rt, name).await?.ok_or_else(|| Error::Gone(format!("link {name}")))?;
        ground::open_pod_link(name)?;
        netlink::add_host_route(rt, ip, index, Some(self.gateway)).await
    }

    async fn pod_side(&self, rt: &netlink::Rt, ip: Ipv4Addr) -> Result<(), Error> {
        netlink::set_up(rt, "lo", None).await?;
        netlink::set_up(rt, "eth0", None).await?;
        let eth0 = netlink::link_index(rt, "eth0").await?.ok_or_else(|| Error::Gone("eth0".into()))?;
        netlink::add_address(rt, eth0, ip).await?;
        netlink::add_host_route(rt, self.gateway, eth0, None).await?;
        netlink::add_default_route(rt, self.gateway, eth0).await
    }

    /// The pod has this address since before: keep it, and repair the host's side.
    pub async fn adopt(&self, pod: &PodRef, netns: &Path, ip: Ipv4Addr) -> Result<(), Error> {
        if !netns.exists() {
            return Err(Error::Gone(format!("network namespace {}", netns.display())));
        }
        if !self.addresses().reserve(&pod.uid, ip) {
            return Err(Error::Gone(format!("address {ip} (another pod has it)")));
        }
        let name = link_name(&self.prefix, ip);
        let (connection, rt) = netlink::open()?;
        let repaired = netlink::drive(connection, async {
            netlink::link_index(&rt, &name).await?.ok_or_else(|| Error::Gone(format!("link {name}")))?;
            self.host_side(&rt, pod, &name, ip).await
        })
        .await;
        if repaired.is_err() {
            self.addresses().release(&pod.uid);
        }
        repaired
    }

    /// Removes the pod's link and frees its address; nothing there is fine.
    pub async fn detach(&self, pod: &PodRef) -> Result<(), Error> {
        let Some(ip) = self.addresses().of(&pod.uid) else { return Ok(()) };
        self.unwire(ip).await?;
        self.addresses().release(&pod.uid);
        Ok(())
    }

    async fn unwire(&self, ip: Ipv4Addr) -> Result<(), Error> {
        let (connection, rt) = netlink::open()?;
        let name = link_name(&self.prefix, ip);
        netlink::drive(connection, netlink::delete_link(&rt, &name)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_by_address() {
        let range: Cidr = "10.42.0.0/24".parse().expect("a range");
        let check = |name: &str, expect: Option<[u8; 4]>| {
            assert_eq!(address_in(name, "kv0011aabb", range), expect.map(Ipv4Addr::from), "{name}");
        };
        assert_eq!(link_name("kv0011aabb", Ipv4Addr::new(10, 42, 0, 5)), "kv0011aabb0005");
        check("kv0011aabb0005", Some([10, 42, 0, 5]));
        check("kv0011aabb0105", None);
        check("kv0011aabb05", None);
        check("kv0011aabcc0005", None);
        check("eth0", None);
    }
}
