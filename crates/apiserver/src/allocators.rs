//! Addresses and node ports of Services: taken and given back in the transaction that writes the Service.
//!
//! ```text
//! /ketch/allocations/clusterips/<address>   = <namespace>/<name>      one key for each address in use
//! /ketch/allocations/nodeports/<port>       = <namespace>/<name>
//! ```
//!
//! A write compares that the keys it takes are absent, so two Services never get the same one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use kube_types::registry::Resource;
use kube_types::status::{FieldError, Status};
use kube_types::{meta, path};
use serde_json::{Value, json};
use store_api::{Compare, Op, RangeRequest};

use crate::handlers::write::Along;
use crate::server::Server;

const ADDRESSES: &str = "/ketch/allocations/clusterips/";
const PORTS: &str = "/ketch/allocations/nodeports/";
/// Upstream's default `--service-node-port-range`.
const PORT_FIRST: u32 = 30_000;
const PORT_LAST: u32 = 32_767;

/// An IPv4 range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub base: Ipv4Addr,
    pub prefix: u8,
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an IPv4 range such as 10.43.0.0/16");
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (base, prefix): (Ipv4Addr, u8) =
            (base.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
        if !(8..=28).contains(&prefix) {
            return Err(wrong());
        }
        Ok(Self { base: Ipv4Addr::from_bits(base.to_bits() & (u32::MAX << (32 - prefix))), prefix })
    }
}

impl Cidr {
    /// The `index`th address; 1 is the first usable one.
    #[must_use]
    pub fn nth(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + index)
    }

    /// Whether the address can be given to a Service.
    #[must_use]
    pub fn has(self, address: Ipv4Addr) -> bool {
        let index = address.to_bits().wrapping_sub(self.base.to_bits());
        index >= 1 && index <= self.last()
    }

    /// The index of the last usable address.
    fn last(self) -> u32 {
        (1 << (32 - self.prefix)) - 2
    }
}

/// What a Service occupies.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    keys: BTreeSet<String>,
}

impl Held {
    fn of(service: &Value) -> Self {
        let mut keys = BTreeSet::new();
        for address in path::items(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str) {
            if address != "None" && !address.is_empty() {
                keys.insert(format!("{ADDRESSES}{address}"));
            }
        }
        keys.extend(node_ports(service).into_iter().map(|port| format!("{PORTS}{port}")));
        Self { keys }
    }
}

fn node_ports(service: &Value) -> BTreeSet<i64> {
    let ports = path::items(service, &["spec", "ports"]).iter();
    ports.filter_map(|p| path::integer(p, &["nodePort"])).filter(|p| *p > 0).collect()
}

fn is_service(resource: &Resource) -> bool {
    resource.gvk.group.is_empty() && resource.gvk.kind == "Service"
}

fn kind_of(service: &Value) -> &str {
    match path::text(service, &["spec", "type"]) {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn needs_ports(service: &Value) -> bool {
    let wanted = path::get(service, &["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool);
    match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => wanted.unwrap_or(true),
        _ => false,
    }
}

/// What a new object takes; fills it in.
pub(crate) async fn on_create(
    server: &Arc<Server>,
    resource: &Resource,
    object: &mut Value,
) -> Result<Along, Status> {
    if !is_service(resource) {
        return Ok(Along::default());
    }
    fill(server, object, &Held::default()).await?;
    Ok(exchange(object, &Held::default(), &Held::of(object)))
}

/// What a changed object takes and gives back.
pub(crate) async fn on_update(
    server: &Arc<Server>,
    resource: &Resource,
    new: &mut Value,
    old: &Value,
) -> Result<Along, Status> {
    if !is_service(resource) {
        return Ok(Along::default());
    }
    let before = Held::of(old);
    fill(server, new, &before).await?;
    Ok(exchange(new, &before, &Held::of(new)))
}

/// The allocation keys of a new object, each with its owner.
pub(crate) fn keys(resource: &Resource, object: &Value) -> Vec<(String, String)> {
    if !is_service(resource) {
        return Vec::new();
    }
    let owner = format!("{}/{}", meta::namespace(object), meta::name(object));
    Held::of(object).keys.into_iter().map(|key| (key, owner.clone())).collect()
}

/// What an object that goes gives back.
pub(crate) fn on_delete(resource: &Resource, old: &Value) -> Along {
    if is_service(resource) { exchange(old, &Held::of(old), &Held::default()) } else { Along::default() }
}

fn exchange(service: &Value, before: &Held, after: &Held) -> Along {
    let owner = format!("{}/{}", meta::namespace(service), meta::name(service));
    let mut along = Along::default();
    for key in after.keys.difference(&before.keys) {
        along.compare.push(Compare::absent(key.clone()));
        along.ops.push(Op::put(key.clone(), owner.clone()));
    }
    along.ops.extend(before.keys.difference(&after.keys).map(|key| Op::delete(key.clone())));
    along
}

/// Makes an update that leaves out what was allocated keep it, and one that changes the type let go of it.
pub(crate) fn keep(resource: &Resource, new: &mut Value, old: &Value) {
    if !is_service(resource) {
        return;
    }
    let clear = |new: &mut Value| {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            path::remove(new, &["spec", key]);
        }
    };
    match (kind_of(old), kind_of(new)) {
        ("ExternalName", _) => {}
        (_, "ExternalName") => clear(new),
        _ => {
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let absent = path::get(new, &["spec", key]).is_none_or(path::is_empty);
                if let (true, Some(value)) = (absent, path::get(old, &["spec", key])) {
                    path::set(new, &["spec", key], value.clone());
                }
            }
        }
    }
    let is_external = |service: &Value| matches!(kind_of(service), "NodePort" | "LoadBalancer");
    if is_external(old)
        && !is_external(new)
        && new["spec"]["externalTrafficPolicy"] == old["spec"]["externalTrafficPolicy"]
    {
        // What only means something for the old type goes with it.
        path::remove(new, &["spec", "externalTrafficPolicy"]);
    }
    keep_ports(new, old);
}

fn keep_ports(new: &mut Value, old: &Value) {
    let needs = needs_ports(new);
    let had = node_ports(old);
    let old_ports = path::items(old, &["spec", "ports"]).to_vec();
    let Some(ports) = new.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else { return };
    let same = |a: &Value, b: &Value| a["port"] == b["port"] && protocol(a) == protocol(b);
    for port in ports {
        let number = path::integer(port, &["nodePort"]).unwrap_or(0);
        if needs && number == 0 {
            let kept = old_ports.iter().find(|o| same(o, port)).and_then(|o| path::integer(o, &["nodePort"]));
            if let Some(kept) = kept {
                path::set(port, &["nodePort"], json!(kept));
            }
        }
        if !needs && had.contains(&number) && kind_of(old) != "ClusterIP" {
            path::remove(port, &["nodePort"]);
        }
    }
}

fn protocol(port: &Value) -> &str {
    match path::text(port, &["protocol"]) {
        "" => "TCP",
        protocol => protocol,
    }
}

async fn fill(server: &Arc<Server>, service: &mut Value, held: &Held) -> Result<(), Status> {
    if kind_of(service) == "ExternalName" {
        return Ok(());
    }
    default_families(service);
    fill_address(server, service, held).await?;
    if needs_ports(service) { fill_ports(server, service, held).await } else { Ok(()) }
}

fn default_families(service: &mut Value) {
    for (key, value) in [("ipFamilies", json!(["IPv4"])), ("ipFamilyPolicy", json!("SingleStack"))] {
        if path::get(service, &["spec", key]).is_none_or(path::is_empty) {
            path::set(service, &["spec", key], value);
        }
    }
}

async fn fill_address(server: &Arc<Server>, service: &mut Value, held: &Held) -> Result<(), Status> {
    let wanted = path::text(service, &["spec", "clusterIP"]).to_owned();
    let listed =
        path::items(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or_default();
    let wanted = if wanted.is_empty() { listed.to_owned() } else { wanted };
    let address = match wanted.as_str() {
        "None" => "None".to_owned(),
        "" => free_address(server).await?.to_string(),
        given => {
            let key = format!("{ADDRESSES}{given}");
            if !held.keys.contains(&key) {
                check_address(server, service, given, &key).await?;
            }
            given.to_owned()
        }
    };
    path::set(service, &["spec", "clusterIP"], json!(address));
    path::set(service, &["spec", "clusterIPs"], json!([address]));
    Ok(())
}

async fn check_address(server: &Arc<Server>, service: &Value, given: &str, key: &str) -> Result<(), Status> {
    let refuse = |why: &str| {
        let text = format!("failed to allocate IP {given}: {why}");
        let error = FieldError::invalid("spec.clusterIPs", json!([given]), text);
        Status::invalid("", "Service", meta::name(service), &[error])
    };
    let range = server.settings.service_cidr;
    match given.parse::<Ipv4Addr>() {
        Ok(address) if range.has(address) => {}
        _ => {
            let text = format!(
                "the provided IP ({given}) is not in the valid range. The range of valid IPs is {}/{}",
                range.base, range.prefix
            );
            return Err(refuse(&text));
        }
    }
    if is_taken(server, key).await? { Err(refuse("provided IP is already allocated")) } else { Ok(()) }
}

async fn is_taken(server: &Arc<Server>, key: &str) -> Result<bool, Status> {
    Ok(server.read_range(RangeRequest::key(key.to_owned())).await?.count > 0)
}

/// The part behind the prefix of every key in use.
async fn taken(server: &Arc<Server>, prefix: &str) -> Result<BTreeSet<String>, Status> {
    let mut request = RangeRequest::prefix(prefix.to_owned());
    request.keys_only = true;
    let kvs = server.read_range(request).await?.kvs;
    let tail = |key: &[u8]| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
    Ok(kvs.iter().map(|kv| tail(&kv.key)).collect())
}

/// A free number of `first..=last`: from the upper band while there is one, so that people can count on the lower.
fn pick(first: u32, last: u32, band: u32, random: u64, is_free: impl Fn(u32) -> bool) -> Option<u32> {
    let upper = first + band;
    [(upper, last), (first, upper - 1)].into_iter().find_map(|(from, to)| {
        let size = u64::from(to.checked_sub(from)?) + 1;
        let start = random % size;
        (0..size).map(|i| from + u32::try_from((start + i) % size).unwrap_or(0)).find(|n| is_free(*n))
    })
}

async fn free_address(server: &Arc<Server>) -> Result<Ipv4Addr, Status> {
    let range = server.settings.service_cidr;
    let taken = taken(server, ADDRESSES).await?;
    let band = (range.last() / 16).clamp(16, 256).min(range.last() / 2);
    let free = |n: u32| n > 1 && !taken.contains(&range.nth(n).to_string());
    let picked = pick(1, range.last(), band, server.random(), free);
    let full = || Status::internal("failed to allocate a serviceIP: range is full");
    picked.map(|n| range.nth(n)).ok_or_else(full)
}

async fn fill_ports(server: &Arc<Server>, service: &mut Value, held: &Held) -> Result<(), Status> {
    let taken = taken(server, PORTS).await?;
    let name = meta::name(service).to_owned();
    let mut mine = node_ports(service);
    check_ports(&name, service, &taken, held)?;
    let mut chosen: Vec<(i64, String, i64)> = Vec::new();
    let Some(ports) = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else { return Ok(()) };
    for port in ports {
        if path::integer(port, &["nodePort"]).unwrap_or(0) != 0 {
            continue;
        }
        let number = path::integer(port, &["port"]).unwrap_or(0);
        // The same port over another protocol gets the same node port.
        let shared = chosen.iter().find(|(n, proto, _)| *n == number && proto != protocol(port));
        let free = |n: u32| !taken.contains(&n.to_string()) && !mine.contains(&i64::from(n));
        let picked = match shared {
            Some((_, _, node_port)) => *node_port,
            None => pick(PORT_FIRST, PORT_LAST, 86, server.random(), free)
                .map(i64::from)
                .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?,
        };
        mine.insert(picked);
        chosen.push((number, protocol(port).to_owned(), picked));
        path::set(port, &["nodePort"], json!(picked));
    }
    Ok(())
}

fn check_ports(name: &str, service: &Value, taken: &BTreeSet<String>, held: &Held) -> Result<(), Status> {
    for (i, port) in path::items(service, &["spec", "ports"]).iter().enumerate() {
        let number = path::integer(port, &["nodePort"]).unwrap_or(0);
        if number == 0 || held.keys.contains(&format!("{PORTS}{number}")) {
            continue;
        }
        let in_range = (i64::from(PORT_FIRST)..=i64::from(PORT_LAST)).contains(&number);
        let why = if !in_range {
            format!(
                "provided port is not in the valid range. The range of valid ports is {PORT_FIRST}-{PORT_LAST}"
            )
        } else if taken.contains(&number.to_string()) {
            "provided port is already allocated".to_owned()
        } else {
            continue;
        };
        let error = FieldError::invalid(format!("spec.ports[{i}].nodePort"), number, why);
        return Err(Status::invalid("", "Service", name, &[error]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let range: Cidr = "10.43.0.9/16".parse().unwrap();
        assert_eq!(
            (range.nth(1), range.nth(10)),
            (Ipv4Addr::new(10, 43, 0, 1), Ipv4Addr::new(10, 43, 0, 10))
        );
        assert!(range.has(Ipv4Addr::new(10, 43, 255, 254)));
        for outside in [[10, 43, 0, 0], [10, 43, 255, 255], [10, 44, 0, 1], [10, 42, 255, 255]] {
            assert!(!range.has(Ipv4Addr::from(outside)), "{outside:?}");
        }
        assert!("10.43.0.0".parse::<Cidr>().is_err() && "10.43.0.0/33".parse::<Cidr>().is_err());
    }

    #[test]
    fn the_upper_band_goes_first() {
        assert_eq!(pick(1, 10, 4, 0, |_| true), Some(5));
        assert_eq!(pick(1, 10, 4, 3, |n| n != 8), Some(9));
        assert_eq!(pick(1, 10, 4, 7, |n| n < 5), Some(4));
        assert_eq!(pick(1, 10, 4, 7, |_| false), None);
    }

    #[test]
    fn what_is_left_out_is_kept() {
        let resource = kube_types::registry::Registry::builtin().find("", "v1", "services").unwrap();
        let old = json!({ "spec": { "type": "NodePort", "clusterIP": "10.43.1.1", "clusterIPs": ["10.43.1.1"],
            "ports": [{ "port": 80, "nodePort": 30100 }] } });
        let check = |spec: Value, expect: Value| {
            let mut new = json!({ "spec": spec });
            keep(resource, &mut new, &old);
            assert_eq!(new["spec"], expect);
        };
        check(
            json!({ "type": "NodePort", "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 81 }] }),
            json!({ "type": "NodePort", "clusterIP": "10.43.1.1", "clusterIPs": ["10.43.1.1"],
                "ports": [{ "port": 80, "protocol": "TCP", "nodePort": 30100 }, { "port": 81 }] }),
        );
        check(
            json!({ "type": "ClusterIP", "ports": [{ "port": 80, "nodePort": 30100 }] }),
            json!({ "type": "ClusterIP", "clusterIP": "10.43.1.1", "clusterIPs": ["10.43.1.1"], "ports": [{ "port": 80 }] }),
        );
        check(
            json!({ "type": "ExternalName", "externalName": "a.b", "clusterIP": "10.43.1.1" }),
            json!({ "type": "ExternalName", "externalName": "a.b" }),
        );
    }
}
