//! Services as nftables rules: a pure function and its text.
//!
//! ```text
//! prerouting, output (nat) ─▶ services ── ip . protocol . port ─▶ map `services`  ─▶ s-<hash> ─▶ dnat
//!                                      └─ local address, port  ─▶ map `nodeports` ─┘
//!                                   with affinity: s-<hash> ─▶ e-<hash> (notes the client in a-<hash>) ─▶ dnat
//! forward, output (filter):  what still goes to the Service range has no Service or no endpoint: rejected
//! postrouting:               a pod that reaches itself, and 127.0.0.1, appear as the gateway; egress masquerades
//! ```
//!
//! One map lookup finds a Service's chain, however many Services there are. A change is the difference of two
//! rulesets, one transaction; names are hashes of what they stand for, so chains that do not change stay untouched.

use crate::Cidr;
use crate::ground::{link_prefix, table};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// How long a client stays with its endpoint when the Service does not say (core/v1 `ClientIPConfig`).
const AFFINITY_SECONDS_DEFAULT: i32 = 10800;
/// Clients one endpoint remembers; the oldest entries time out.
const AFFINITY_CLIENTS_MAX: u32 = 65_535;

/// A transport protocol a Service port can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `TCP`, the default.
    Tcp,
    /// `UDP`.
    Udp,
    /// `SCTP`.
    Sctp,
}

impl Protocol {
    /// Reads the API's word; None for a word it does not have.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP" | "") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// An endpoint's address and port.
type Target = (Ipv4Addr, u16);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chain {
    comment: String,
    rules: Vec<String>,
}

/// What depends on Services: chains, elements of the maps, addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Names of affinity sets and their time-outs in seconds.
    affinities: BTreeMap<String, i32>,
    chains: BTreeMap<String, Chain>,
    services: BTreeMap<(Ipv4Addr, Protocol, u16), String>,
    node_ports: BTreeMap<(Protocol, u16), String>,
    hairpins: BTreeSet<Ipv4Addr>,
    /// The addresses that get a route on `lo`: all allocated ClusterIPs, with or without endpoints.
    pub cluster_ips: BTreeSet<Ipv4Addr>,
    /// The endpoints of each UDP Service address, to find connections that lead nowhere any more.
    pub udp: BTreeMap<(Ipv4Addr, u16), BTreeSet<(Ipv4Addr, u16)>>,
}

/// The rules for these Services and slices. The order of the arguments does not matter.
#[must_use]
pub fn rules(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Ruleset {
    let by_service = slices_by_service(slices);
    let mut ruleset = Ruleset::default();
    let mut ordered: Vec<(String, &Service)> = services.iter().map(|s| (full_name(s), s.as_ref())).collect();
    // The first by name wins where two claim one address and port, whatever the order of the cache.
    ordered.sort_by(|a, b| b.0.cmp(&a.0));
    for (name, service) in ordered {
        let slices = by_service.get(&name).map_or(&[][..], Vec::as_slice);
        ruleset.add_service(&name, service, slices);
    }
    ruleset
}

fn full_name(service: &Service) -> String {
    let meta = &service.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn slices_by_service(slices: &[Arc<EndpointSlice>]) -> HashMap<String, Vec<&EndpointSlice>> {
    let mut found: HashMap<String, Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|l| l.get("kubernetes.io/service-name")) {
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            found.entry(format!("{namespace}/{service}")).or_default().push(slice);
        }
    }
    found
}

/// The Service's own address; None for a headless or external one.
fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    let spec = service.spec.as_ref().filter(|s| s.type_.as_deref() != Some("ExternalName"))?;
    spec.cluster_ip.as_deref()?.parse().ok()
}

/// Every address at which the Service is reached: its own, external ones, and the load balancer's.
fn addresses(service: &Service, own: Ipv4Addr) -> BTreeSet<Ipv4Addr> {
    let external = service.spec.iter().flat_map(|s| s.external_ips.iter().flatten());
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let balanced = status.and_then(|l| l.ingress.as_ref()).into_iter().flatten();
    let balanced = balanced.filter_map(|ingress| ingress.ip.as_ref());
    external.chain(balanced).filter_map(|ip| ip.parse().ok()).chain([own]).collect()
}

/// The ready endpoints of a port; without any, those that still serve while they end (KEP-1669).
fn targets(slices: &[&EndpointSlice], port: &ServicePort, protocol: Protocol) -> BTreeSet<Target> {
    let (mut ready, mut ending) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let Some(number) = port_in(slice, port, protocol) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let targets = endpoint.addresses.iter().filter_map(|a| Some((a.parse().ok()?, number)));
            match readiness(endpoint) {
                Readiness::Ready => ready.extend(targets),
                Readiness::Ending => ending.extend(targets),
                Readiness::No => {}
            }
        }
    }
    if ready.is_empty() { ending } else { ready }
}

fn port_in(slice: &EndpointSlice, port: &ServicePort, protocol: Protocol) -> Option<u16> {
    let wanted = port.name.as_deref().unwrap_or_default();
    let found = slice.ports.iter().flatten().find(|p| {
        p.name.as_deref().unwrap_or_default() == wanted
            && Protocol::parse(p.protocol.as_deref()) == Some(protocol)
    });
    found.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok())
}

enum Readiness {
    Ready,
    Ending,
    No,
}

fn readiness(endpoint: &Endpoint) -> Readiness {
    let Some(conditions) = &endpoint.conditions else { return Readiness::Ready };
    if conditions.ready.unwrap_or(true) {
        Readiness::Ready
    } else if conditions.serving == Some(true) && conditions.terminating == Some(true) {
        Readiness::Ending
    } else {
        Readiness::No
    }
}

/// Seconds a client stays with its endpoint; None without affinity.
fn affinity(service: &Service) -> Option<i32> {
    let spec = service.spec.as_ref().filter(|s| s.session_affinity.as_deref() == Some("ClientIP"))?;
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    Some(config.and_then(|c| c.timeout_seconds).unwrap_or(AFFINITY_SECONDS_DEFAULT).max(1))
}

/// FNV-1a: short names that stay the same from run to run.
fn hash(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

impl Ruleset {
    fn add_service(&mut self, name: &str, service: &Service, slices: &[&EndpointSlice]) {
        let Some(own) = cluster_ip(service) else { return };
        self.cluster_ips.insert(own);
        let addresses = addresses(service, own);
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        for port in ports {
            let (Some(protocol), Ok(number)) =
                (Protocol::parse(port.protocol.as_deref()), u16::try_from(port.port))
            else {
                continue;
            };
            let targets = targets(slices, port, protocol);
            if protocol == Protocol::Udp {
                let known = addresses.iter().map(|ip| ((*ip, number), targets.clone()));
                self.udp.extend(known);
            }
            if targets.is_empty() {
                continue;
            }
            let label = format!("{name}:{} {protocol}", port.name.as_deref().unwrap_or_default());
            let chain = self.add_chain(&label, protocol, affinity(service), &targets);
            self.services.extend(addresses.iter().map(|ip| ((*ip, protocol, number), chain.clone())));
            if let Some(node_port) = port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0) {
                self.node_ports.insert((protocol, node_port), chain);
            }
            self.hairpins.extend(targets.iter().map(|t| t.0));
        }
    }

    fn add_chain(
        &mut self,
        label: &str,
        protocol: Protocol,
        affinity: Option<i32>,
        targets: &BTreeSet<Target>,
    ) -> String {
        let name = format!("s-{}", hash(label));
        let rules = match affinity {
            Some(seconds) => self.sticky(label, protocol, seconds, targets),
            None => vec![balanced(protocol, targets)],
        };
        self.chains.insert(name.clone(), Chain { comment: label.to_owned(), rules });
        name
    }

    /// One chain an endpoint, which notes the client; a noted client goes there again.
    fn sticky(
        &mut self,
        label: &str,
        protocol: Protocol,
        seconds: i32,
        targets: &BTreeSet<Target>,
    ) -> Vec<String> {
        let mut names = Vec::new();
        for (ip, port) in targets {
            let id = hash(&format!("{label} {ip}:{port} {seconds}"));
            let rules = vec![
                format!("update @a-{id} {{ ip saddr }}"),
                format!("meta l4proto {protocol} dnat to {ip}:{port}"),
            ];
            self.affinities.insert(format!("a-{id}"), seconds);
            self.chains.insert(format!("e-{id}"), Chain { comment: format!("{label} {ip}:{port}"), rules });
            names.push(id);
        }
        let choices = names.iter().enumerate().map(|(n, id)| format!("{n} : goto e-{id}"));
        let choice = format!(
            "numgen random mod {} vmap {{ {} }}",
            names.len(),
            choices.collect::<Vec<_>>().join(", ")
        );
        names.iter().map(|id| format!("ip saddr @a-{id} goto e-{id}")).chain([choice]).collect()
    }
}

fn balanced(protocol: Protocol, targets: &BTreeSet<Target>) -> String {
    if let (1, Some((ip, port))) = (targets.len(), targets.first()) {
        return format!("meta l4proto {protocol} dnat to {ip}:{port}");
    }
    let map = targets.iter().enumerate().map(|(n, (ip, port))| format!("{n} : {ip} . {port}"));
    let map = map.collect::<Vec<_>>().join(", ");
    format!("meta l4proto {protocol} dnat to numgen random mod {} map {{ {map} }}", targets.len())
}

/// What does not depend on Services: the hooks of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The eight digits of the data directory.
    pub id: String,
    /// The node's address as pods see it.
    pub gateway: Ipv4Addr,
    /// All pods' range.
    pub pod_cidr: Cidr,
    /// All Services' range.
    pub service_cidr: Cidr,
    /// Whether pods reach addresses outside.
    pub egress: bool,
    /// Interfaces whose forwarding we switched on: they forward nothing that does not concern pods.
    pub forwarding: BTreeSet<String>,
}

impl Base {
    /// The transaction that replaces the whole table.
    #[must_use]
    pub fn full(&self, ruleset: &Ruleset) -> String {
        let table = table(&self.id);
        let mut text = format!("add table ip {table}\ndelete table ip {table}\nadd table ip {table}\n");
        text += "add set ip {T} forwarding { type ifname; }\n";
        text += "add set ip {T} hairpin { type ipv4_addr . ipv4_addr; }\n";
        text += "add map ip {T} services { type ipv4_addr . inet_proto . inet_service : verdict; }\n";
        text += "add map ip {T} nodeports { type inet_proto . inet_service : verdict; }\n";
        for (chain, rules) in self.hooks() {
            for rule in rules {
                // The first line of a chain is its declaration.
                match rule.strip_prefix('{') {
                    Some(_) => _ = writeln!(text, "add chain ip {{T}} {chain} {rule}"),
                    None => _ = writeln!(text, "add rule ip {{T}} {chain} {rule}"),
                }
            }
        }
        text = text.replace("{T}", &table);
        text += &Self::forwarding_text(&table, &self.forwarding);
        text + &self.difference(&Ruleset::default(), ruleset)
    }

    /// The transaction that adds interfaces to the set that remembers them.
    pub(crate) fn forwarding_text(table: &str, names: &BTreeSet<String>) -> String {
        names.iter().map(|name| format!("add element ip {table} forwarding {{ \"{name}\" }}\n")).collect()
    }

    fn hooks(&self) -> Vec<(&'static str, Vec<String>)> {
        let pods = format!("\"{}*\"", link_prefix(&self.id));
        let (gateway, services) = (self.gateway, self.service_cidr);
        let refuse = [
            format!("ip daddr {services} meta l4proto tcp reject with tcp reset"),
            format!("ip daddr {services} reject"),
        ];
        let hook = |kind: &str, hook: &str, priority: &str| {
            format!("{{ type {kind} hook {hook} priority {priority}; policy accept; }}")
        };
        vec![
            (
                "services",
                vec![
                    "{ comment \"Services by address, then by node port\"; }".into(),
                    "ip daddr . meta l4proto . th dport vmap @services".into(),
                    "fib daddr type local meta l4proto . th dport vmap @nodeports".into(),
                ],
            ),
            // Pods' links may route loopback addresses (for node ports on 127.0.0.1): not those pods send to.
            (
                "guard",
                vec![
                    hook("filter", "prerouting", "raw"),
                    format!("iifname {pods} ip daddr 127.0.0.0/8 drop"),
                ],
            ),
            // The kernel limits its own "unreachable" replies to a few a client; a reset is not limited.
            (
                "filter-prerouting",
                vec![
                    hook("filter", "prerouting", "filter"),
                    format!(
                        "iifname {pods} ip daddr {{ {}, {services} }} fib daddr type != local fib daddr oif missing meta l4proto tcp reject with tcp reset",
                        self.pod_cidr
                    ),
                ],
            ),
            ("nat-prerouting", vec![hook("nat", "prerouting", "dstnat"), "jump services".into()]),
            ("nat-output", vec![hook("nat", "output", "-100"), "jump services".into()]),
            ("nat-postrouting", self.postrouting(&pods)),
            ("filter-output", [vec![hook("filter", "output", "filter")], refuse.to_vec()].concat()),
            (
                "filter-input",
                vec![
                    hook("filter", "input", "filter"),
                    format!("ip daddr {gateway} iifname != \"lo\" iifname != {pods} ct status dnat accept"),
                    format!("ip daddr {gateway} iifname != \"lo\" iifname != {pods} drop"),
                ],
            ),
            (
                "filter-forward",
                [vec![hook("filter", "forward", "filter")], self.forward(&pods, &refuse)].concat(),
            ),
        ]
    }

    fn forward(&self, pods: &str, refuse: &[String]) -> Vec<String> {
        let mut rules = vec!["ct state established,related accept".into(), "ct status dnat accept".into()];
        rules.extend(refuse.iter().cloned());
        if self.egress {
            rules.push(format!("iifname {pods} accept"));
        } else {
            rules.push(format!("iifname {pods} oifname {pods} accept"));
            rules.push(format!("iifname {pods} reject with icmp type admin-prohibited"));
        }
        rules.push(format!("oifname {pods} reject with icmp type admin-prohibited"));
        rules.push("iifname @forwarding drop".into());
        rules
    }

    fn postrouting(&self, pods: &str) -> Vec<String> {
        let mut rules = vec![
            "{ type nat hook postrouting priority srcnat; policy accept; }".into(),
            format!("ip saddr . ip daddr @hairpin snat to {}", self.gateway),
            format!("ip saddr 127.0.0.0/8 oifname {pods} snat to {}", self.gateway),
        ];
        if self.egress {
            let (pod_range, services) = (self.pod_cidr, self.service_cidr);
            rules.push(format!(
                "ip saddr {pod_range} ip daddr != {{ {pod_range}, {services} }} oifname != {pods} masquerade"
            ));
        }
        rules
    }

    /// The transaction that turns one ruleset into another; empty when they are the same.
    #[must_use]
    pub fn difference(&self, old: &Ruleset, new: &Ruleset) -> String {
        let table = table(&self.id);
        let mut lines = Vec::new();
        for (set, seconds) in missing(&new.affinities, &old.affinities) {
            lines.push(format!(
                "add set ip {table} {set} {{ type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; size {AFFINITY_CLIENTS_MAX}; }}"
            ));
        }
        chain_changes(&mut lines, &table, old, new);
        map_changes(&mut lines, &table, "services", &keyed(&old.services), &keyed(&new.services));
        map_changes(
            &mut lines,
            &table,
            "nodeports",
            &keyed_ports(&old.node_ports),
            &keyed_ports(&new.node_ports),
        );
        for ip in old.hairpins.difference(&new.hairpins) {
            lines.push(format!("delete element ip {table} hairpin {{ {ip} . {ip} }}"));
        }
        for ip in new.hairpins.difference(&old.hairpins) {
            lines.push(format!("add element ip {table} hairpin {{ {ip} . {ip} }}"));
        }
        let gone: Vec<&String> = missing(&old.chains, &new.chains).map(|(name, _)| name).collect();
        // Emptied first, deleted then: they refer to one another.
        lines.extend(gone.iter().map(|chain| format!("flush chain ip {table} {chain}")));
        lines.extend(gone.iter().map(|chain| format!("delete chain ip {table} {chain}")));
        let sets = missing(&old.affinities, &new.affinities);
        lines.extend(sets.map(|(set, _)| format!("delete set ip {table} {set}")));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// The entries whose keys the other map lacks.
fn missing<'a, K: Ord, V>(
    of: &'a BTreeMap<K, V>,
    other: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    of.iter().filter(|(key, _)| !other.contains_key(key))
}

/// All new chains exist before the first rule, because rules refer to chains.
fn chain_changes(lines: &mut Vec<String>, table: &str, old: &Ruleset, new: &Ruleset) {
    for (name, chain) in missing(&new.chains, &old.chains) {
        lines.push(format!("add chain ip {table} {name} {{ comment \"{}\"; }}", chain.comment));
    }
    for (name, chain) in &new.chains {
        match old.chains.get(name) {
            Some(same) if same == chain => continue,
            Some(_) => lines.push(format!("flush chain ip {table} {name}")),
            None => {}
        }
        lines.extend(chain.rules.iter().map(|rule| format!("add rule ip {table} {name} {rule}")));
    }
}

fn keyed(map: &BTreeMap<(Ipv4Addr, Protocol, u16), String>) -> BTreeMap<String, &String> {
    map.iter().map(|((ip, protocol, port), chain)| (format!("{ip} . {protocol} . {port}"), chain)).collect()
}

fn keyed_ports(map: &BTreeMap<(Protocol, u16), String>) -> BTreeMap<String, &String> {
    map.iter().map(|((protocol, port), chain)| (format!("{protocol} . {port}"), chain)).collect()
}

fn map_changes(
    lines: &mut Vec<String>,
    table: &str,
    map: &str,
    old: &BTreeMap<String, &String>,
    new: &BTreeMap<String, &String>,
) {
    for (key, chain) in old {
        if new.get(key) != Some(chain) {
            lines.push(format!("delete element ip {table} {map} {{ {key} }}"));
        }
    }
    for (key, chain) in new {
        if old.get(key) != Some(chain) {
            lines.push(format!("add element ip {table} {map} {{ {key} : goto {chain} }}"));
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
