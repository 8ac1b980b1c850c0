//! The cluster's names as a value, and questions answered from it.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// Seconds an answer may be kept: short, because endpoints change.
const TTL: u32 = 5;
/// The version of the specification, served at `dns-version.<domain>`.
const SPECIFICATION: &str = "1.1.0";
/// Aliases followed for one question; a chain this long is a loop.
const ALIASES_MAX: usize = 8;
/// Records in one answer: a headless Service of more endpoints answers with the first ones.
const RECORDS_MAX: usize = 1000;

/// What a name holds. A name without records still exists when there are names below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    a: BTreeSet<Ipv4Addr>,
    aaaa: BTreeSet<Ipv6Addr>,
    /// (port, target name)
    srv: BTreeSet<(u16, String)>,
    alias: Option<String>,
}

/// All names of the cluster at one moment. Keys are in lower case, without the last dot.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    domain: String,
    names: HashMap<String, Node>,
    addresses: HashMap<Ipv4Addr, BTreeSet<String>>,
    ours: Vec<crate::Cidr>,
}

/// An answer in the zone's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `NoError` or `NXDomain`.
    pub code: ResponseCode,
    /// The records asked for, aliases first.
    pub answers: Vec<Record>,
    /// The zone's SOA where there are no answers (RFC 2308).
    pub authorities: Vec<Record>,
    /// Addresses of SRV targets.
    pub additionals: Vec<Record>,
    /// The alias leads to this name outside the cluster: its records are to be fetched and appended.
    pub continues_at: Option<Name>,
}

/// Who answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// We do.
    Answered(Box<Answer>),
    /// The host's own resolvers do.
    Forward,
}

impl Zone {
    /// The zone for these objects. `ours` are the ranges whose reverse names are the cluster's.
    #[must_use]
    pub fn build(
        domain: &str,
        ours: Vec<crate::Cidr>,
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
    ) -> Self {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let mut zone = Self { domain, ours, ..Self::default() };
        zone.add(&zone.domain.clone());
        zone.add(&format!("svc.{}", zone.domain));
        zone.add(&format!("pod.{}", zone.domain));
        zone.add(&format!("dns-version.{}", zone.domain));
        let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            let labels = slice.metadata.labels.as_ref();
            if let Some(service) = labels.and_then(|l| l.get("kubernetes.io/service-name")) {
                let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
                by_service.entry((namespace, service)).or_default().push(slice);
            }
        }
        for service in services {
            let meta = &service.metadata;
            let (Some(namespace), Some(name)) = (meta.namespace.as_deref(), meta.name.as_deref()) else {
                continue;
            };
            let slices = by_service.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
            zone.add_service(&format!("{name}.{namespace}.svc.{}", zone.domain), service, slices);
        }
        zone
    }

    /// The node of a name; the names above it up to the domain come into being with it.
    fn add(&mut self, name: &str) -> &mut Node {
        let mut above = name;
        while let Some((_, rest)) = above.split_once('.') {
            if rest.len() < self.domain.len() || self.names.contains_key(rest) {
                break;
            }
            self.names.insert(rest.to_owned(), Node::default());
            above = rest;
        }
        self.names.entry(name.to_owned()).or_default()
    }

    fn add_service(&mut self, name: &str, service: &Service, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default();
            self.add(name).alias = Some(target.trim_end_matches('.').to_ascii_lowercase());
            return;
        }
        let ports = spec.ports.as_deref().unwrap_or_default();
        let headless = spec.cluster_ip.as_deref() == Some("None");
        self.add(name);
        if !headless {
            self.add_cluster_ip(name, spec.cluster_ip.as_deref(), ports);
        }
        let early = spec.publish_not_ready_addresses == Some(true);
        for slice in slices {
            for endpoint in slice.endpoints.iter().flatten().filter(|e| early || ready(e)) {
                self.add_endpoint(name, endpoint, slice, headless);
            }
        }
    }

    fn add_cluster_ip(&mut self, name: &str, ip: Option<&str>, ports: &[ServicePort]) {
        let Some(ip) = ip.and_then(|ip| IpAddr::from_str(ip).ok()) else { return };
        self.add_address(name, ip);
        self.add_reverse(ip, name);
        for port in ports {
            let number = u16::try_from(port.port).unwrap_or_default();
            self.add_port(name, port.name.as_deref(), port.protocol.as_deref(), number, name);
        }
    }

    fn add_address(&mut self, name: &str, ip: IpAddr) {
        let node = self.add(name);
        match ip {
            IpAddr::V4(ip) => _ = node.a.insert(ip),
            IpAddr::V6(ip) => _ = node.aaaa.insert(ip),
        }
    }

    fn add_reverse(&mut self, ip: IpAddr, name: &str) {
        if let IpAddr::V4(ip) = ip {
            self.addresses.entry(ip).or_default().insert(name.to_owned());
        }
    }

    /// `_port._protocol.service` and the service's own name both answer SRV questions.
    fn add_port(
        &mut self,
        service: &str,
        port: Option<&str>,
        protocol: Option<&str>,
        number: u16,
        target: &str,
    ) {
        self.add(service).srv.insert((number, target.to_owned()));
        if let Some(port) = port.filter(|p| !p.is_empty()) {
            let protocol = protocol.unwrap_or("TCP").to_ascii_lowercase();
            let name = format!("_{}._{protocol}.{service}", port.to_ascii_lowercase());
            self.add(&name).srv.insert((number, target.to_owned()));
        }
    }

    fn add_endpoint(&mut self, service: &str, endpoint: &Endpoint, slice: &EndpointSlice, headless: bool) {
        for ip in endpoint.addresses.iter().filter_map(|ip| IpAddr::from_str(ip).ok()) {
            let own = endpoint.hostname.clone().filter(|h| !h.is_empty());
            let own = own.unwrap_or_else(|| dashed(ip));
            let name = format!("{}.{service}", own.to_ascii_lowercase());
            if !headless {
                if endpoint.hostname.is_some() {
                    self.add_address(&name, ip);
                }
                continue;
            }
            self.add_address(service, ip);
            self.add_address(&name, ip);
            self.add_reverse(ip, &name);
            for port in slice.ports.iter().flatten() {
                let number = port.port.and_then(|p| u16::try_from(p).ok()).unwrap_or_default();
                self.add_port(service, port.name.as_deref(), port.protocol.as_deref(), number, &name);
            }
        }
    }

    /// Answers a question, or says that it is not ours. `turn` rotates the records of a name, so that clients that
    /// take the first one spread.
    #[must_use]
    pub fn resolve(&self, question: &Name, kind: RecordType, turn: usize) -> Verdict {
        let key = question.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        if let Some(ip) = reverse(&key) {
            return self.resolve_address(question, ip, kind);
        }
        if !self.holds(&key) {
            return Verdict::Forward;
        }
        let mut answer = self.answer(question, &key, kind, turn);
        if answer.answers.is_empty() {
            answer.authorities.extend(self.soa());
        }
        Verdict::Answered(Box::new(answer))
    }

    fn holds(&self, key: &str) -> bool {
        key.strip_suffix(self.domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    fn answer(&self, question: &Name, key: &str, kind: RecordType, turn: usize) -> Answer {
        let mut answer = Answer {
            code: ResponseCode::NoError,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            continues_at: None,
        };
        let (mut owner, mut key) = (question.clone(), key.to_owned());
        for _ in 0..ALIASES_MAX {
            let Some(node) = self.node(&key) else {
                answer.code = ResponseCode::NXDomain;
                return answer;
            };
            let Some(alias) = &node.alias else {
                self.records(&owner, &key, &node, kind, turn, &mut answer);
                return answer;
            };
            let Some(target) = absolute(alias) else { return answer };
            answer.answers.push(record(&owner, RData::CNAME(CNAME(target.clone()))));
            if kind == RecordType::CNAME {
                return answer;
            }
            if !self.holds(alias) {
                answer.continues_at = Some(target);
                return answer;
            }
            (owner, key) = (target, alias.clone());
        }
        answer
    }

    /// The node of a name, `<ip-with-dashes>.<namespace>.pod` made up on the spot.
    fn node(&self, key: &str) -> Option<Node> {
        if let Some(node) = self.names.get(key) {
            return Some(node.clone());
        }
        let pod = key.strip_suffix(self.domain.as_str())?.strip_suffix(".pod.")?;
        let (ip, namespace) = pod.split_once('.')?;
        if namespace.contains('.') {
            return None;
        }
        let ip = Ipv4Addr::from_str(&ip.replace('-', ".")).ok()?;
        Some(Node { a: BTreeSet::from([ip]), ..Node::default() })
    }

    fn records(
        &self,
        owner: &Name,
        key: &str,
        node: &Node,
        kind: RecordType,
        turn: usize,
        answer: &mut Answer,
    ) {
        let any = kind == RecordType::ANY;
        let mut found = Vec::new();
        if any || kind == RecordType::A {
            found.extend(node.a.iter().map(|ip| record(owner, RData::A(A(*ip)))));
        }
        if any || kind == RecordType::AAAA {
            found.extend(node.aaaa.iter().map(|ip| record(owner, RData::AAAA(AAAA(*ip)))));
        }
        if any || kind == RecordType::SRV {
            found.extend(self.services(owner, node, &mut answer.additionals));
        }
        if (any || kind == RecordType::TXT) && key.strip_prefix("dns-version.") == Some(&self.domain) {
            found.push(record(owner, RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()]))));
        }
        if (any || kind == RecordType::SOA) && key == self.domain {
            found.extend(self.soa());
        }
        found.truncate(RECORDS_MAX);
        if !found.is_empty() {
            let first = turn % found.len();
            found.rotate_left(first);
        }
        answer.answers.append(&mut found);
    }

    fn services(&self, owner: &Name, node: &Node, additionals: &mut Vec<Record>) -> Vec<Record> {
        let mut records = Vec::new();
        let mut named = BTreeSet::new();
        for (port, target) in node.srv.iter().take(RECORDS_MAX) {
            let Some(name) = absolute(target) else { continue };
            if named.insert(target) {
                let addresses = self.names.get(target).into_iter().flat_map(|n| &n.a);
                additionals.extend(addresses.map(|ip| record(&name, RData::A(A(*ip)))));
            }
            records.push(record(owner, RData::SRV(SRV::new(0, 100, *port, name))));
        }
        records
    }

    fn resolve_address(&self, question: &Name, ip: Ipv4Addr, kind: RecordType) -> Verdict {
        let names = self.addresses.get(&ip);
        let ours = self.ours.iter().any(|range| range.contains(ip));
        if names.is_none() && !ours {
            return Verdict::Forward;
        }
        let code = if names.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let names = names.into_iter().flatten().filter(|_| matches!(kind, RecordType::PTR | RecordType::ANY));
        let answers: Vec<Record> =
            names.filter_map(|n| absolute(n)).map(|n| record(question, RData::PTR(PTR(n)))).collect();
        let authorities = if answers.is_empty() { self.soa().into_iter().collect() } else { Vec::new() };
        Verdict::Answered(Box::new(Answer {
            code,
            answers,
            authorities,
            additionals: Vec::new(),
            continues_at: None,
        }))
    }

    /// Negative answers are kept for the last field's seconds (RFC 2308).
    fn soa(&self) -> Option<Record> {
        let zone = absolute(&self.domain)?;
        let primary = absolute(&format!("ns.dns.{}", self.domain))?;
        let mailbox = absolute(&format!("hostmaster.{}", self.domain))?;
        Some(record(&zone, RData::SOA(SOA::new(primary, mailbox, 1, 7200, 1800, 86400, TTL))))
    }
}

fn ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|c| c.ready.unwrap_or(true))
}

fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

fn record(owner: &Name, data: RData) -> Record {
    Record::from_rdata(owner.clone(), TTL, data)
}

/// The name from the root; None for what is no name (a label too long, for instance).
fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

/// The IPv4 address a whole reverse name stands for; IPv6 ones are not the cluster's.
fn reverse(key: &str) -> Option<Ipv4Addr> {
    let labels: Vec<&str> = key.strip_suffix(".in-addr.arpa")?.split('.').collect();
    let [d, c, b, a] = labels[..] else { return None };
    Ipv4Addr::from_str(&format!("{a}.{b}.{c}.{d}")).ok()
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
