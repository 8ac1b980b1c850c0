//! EndpointSlices and Endpoints: which pods stand behind a Service.
//!
//! Slices are kept stable: an endpoint stays in the slice it is in, changed ones are replaced in place, new ones fill
//! slices with room, and only what is left over makes a new slice.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as LegacyPort, EndpointSubset, Endpoints, Node, ObjectReference, Pod,
    Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::action::Action;
use crate::{meta, pods, selector};

/// Endpoints in one slice (upstream's `--max-endpoints-per-slice`).
const ENDPOINTS_MAX: usize = 100;
/// Addresses in one Endpoints object; more are cut and the object says so.
const ADDRESSES_MAX: usize = 1000;
/// Who manages the slices.
pub const SLICE_MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label naming the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const LEGACY_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The pods, slices and nodes a Service's endpoints are made of; pods and slices are those of its namespace.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    pub service: &'a Service,
    pub pods: &'a [Arc<Pod>],
    pub slices: &'a [Arc<EndpointSlice>],
    pub endpoints: Option<&'a Endpoints>,
    pub nodes: &'a [Arc<Node>],
}

/// What the slices of one Service need.
#[must_use]
pub fn reconcile_slices(snapshot: &Snapshot<'_>) -> Vec<Action> {
    let service = snapshot.service;
    if !selects(service) || meta::is_deleting(&service.metadata) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let families = families(service);
    for slice in mine(snapshot).filter(|slice| !families.contains(&slice.address_type.as_str())) {
        actions.push(Action::delete(&**slice));
    }
    for family in families {
        reconcile_family(snapshot, family, &mut actions);
    }
    actions
}

/// True when the Service picks pods by labels; others have endpoints made by hand, or none.
#[must_use]
pub fn selects(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|s| !s.is_empty())
    })
}

fn families(service: &Service) -> Vec<&'static str> {
    let named = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let mut out: Vec<&'static str> =
        named.into_iter().flatten().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if out.is_empty() {
        out.push("IPv4");
    }
    out
}

fn mine<'a>(snapshot: &Snapshot<'a>) -> impl Iterator<Item = &'a Arc<EndpointSlice>> {
    let name = meta::name(&snapshot.service.metadata);
    snapshot.slices.iter().filter(move |slice| {
        let label = |key: &str| slice.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        label(SERVICE_NAME).is_some_and(|value| value == name)
            && label(MANAGED_BY).is_some_and(|value| value == SLICE_MANAGER)
    })
}

fn reconcile_family(snapshot: &Snapshot<'_>, family: &str, actions: &mut Vec<Action>) {
    let mut wanted = wanted(snapshot, family);
    let mut have: Vec<EndpointSlice> =
        mine(snapshot).filter(|slice| slice.address_type == family).map(|slice| (**slice).clone()).collect();
    have.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    if wanted.is_empty() {
        // A Service without endpoints keeps one empty slice, so that its consumers learn "none".
        wanted.push((Vec::new(), Vec::new()));
    }
    for (ports, mut endpoints) in wanted {
        let (same, rest): (Vec<_>, Vec<_>) =
            have.into_iter().partition(|slice| slice.ports.clone().unwrap_or_default() == ports);
        have = rest;
        fill(snapshot, family, &ports, &mut endpoints, same, actions);
    }
    actions.extend(have.iter().map(Action::delete));
}

/// Puts `endpoints` into the existing slices of the same ports, then into new ones.
fn fill(
    snapshot: &Snapshot<'_>,
    family: &str,
    ports: &[EndpointPort],
    endpoints: &mut Vec<Endpoint>,
    slices: Vec<EndpointSlice>,
    actions: &mut Vec<Action>,
) {
    let mut kept: Vec<(EndpointSlice, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let mut stay = Vec::new();
        for old in slice.endpoints.iter().flatten() {
            if let Some(at) = endpoints.iter().position(|new| same_place(new, old)) {
                stay.push(endpoints.remove(at));
            }
        }
        kept.push((slice, stay));
    }
    for (_, stay) in &mut kept {
        let room = ENDPOINTS_MAX.saturating_sub(stay.len()).min(endpoints.len());
        stay.extend(endpoints.drain(..room));
    }
    let some_full = kept.iter().any(|(_, stay)| !stay.is_empty()) || !endpoints.is_empty();
    for (at, (slice, stay)) in kept.iter().enumerate() {
        if stay.is_empty() && (some_full || at > 0) {
            actions.push(Action::delete(slice));
            continue;
        }
        let mut new = slice.clone();
        new.endpoints = Some(stay.clone());
        new.metadata.labels = Some(labels(snapshot.service));
        let unchanged = slice.endpoints.clone().unwrap_or_default() == *stay;
        if !unchanged || new.metadata.labels != slice.metadata.labels {
            actions.push(Action::update(&new));
        }
    }
    if kept.is_empty() && endpoints.is_empty() {
        actions.push(Action::create(&new_slice(snapshot.service, family, ports, Vec::new())));
    }
    for chunk in endpoints.chunks(ENDPOINTS_MAX) {
        actions.push(Action::create(&new_slice(snapshot.service, family, ports, chunk.to_vec())));
    }
}

fn same_place(a: &Endpoint, b: &Endpoint) -> bool {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    a.addresses == b.addresses && uid(a) == uid(b)
}

fn new_slice(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(&service.metadata))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![meta::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.to_vec()),
    }
}

/// The Service's labels, with those that say whose slice it is.
fn labels(service: &Service) -> selector::Labels {
    let mut out = service.metadata.labels.clone().unwrap_or_default();
    out.insert(SERVICE_NAME.to_owned(), meta::name(&service.metadata).to_owned());
    out.insert(MANAGED_BY.to_owned(), SLICE_MANAGER.to_owned());
    if is_headless(service) {
        out.insert(HEADLESS.to_owned(), String::new());
    } else {
        out.remove(HEADLESS);
    }
    out
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The endpoints that should be, grouped by the ports they have (named target ports differ between pods).
fn wanted(snapshot: &Snapshot<'_>, family: &str) -> Vec<(Vec<EndpointPort>, Vec<Endpoint>)> {
    let mut groups: Vec<(Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
    for pod in selected(snapshot) {
        let Some(address) = address(pod, family) else { continue };
        let ports = slice_ports(snapshot.service, pod);
        let endpoint = endpoint(snapshot, pod, address);
        match groups.iter_mut().find(|(group, _)| *group == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => groups.push((ports, vec![endpoint])),
        }
    }
    groups
}

/// The pods the Service picks, finished ones excepted, in order of their names.
fn selected<'a>(snapshot: &Snapshot<'a>) -> Vec<&'a Arc<Pod>> {
    let wanted = snapshot.service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let mut out: Vec<&Arc<Pod>> = snapshot
        .pods
        .iter()
        .filter(|pod| selector::matches_map(&wanted, pod.metadata.labels.as_ref()) && !pods::is_terminal(pod))
        .collect();
    out.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    out
}

fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all = listed.chain(status.pod_ip.as_deref());
    all.find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6")))
}

fn endpoint(snapshot: &Snapshot<'_>, pod: &Pod, address: &str) -> Endpoint {
    let (serving, terminating) = (pods::is_ready(pod), meta::is_deleting(&pod.metadata));
    let ready = tolerates_unready(snapshot.service) || (serving && !terminating);
    let node = pods::node(pod);
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(snapshot.service, pod),
        node_name: Some(node.to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(target(pod)),
        zone: zone(snapshot.nodes, node),
        ..Endpoint::default()
    }
}

fn zone(nodes: &[Arc<Node>], name: &str) -> Option<String> {
    let node = nodes.iter().find(|node| meta::name(&node.metadata) == name)?;
    node.metadata.labels.as_ref()?.get(ZONE).cloned()
}

fn tolerates_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let same = spec.subdomain.as_deref() == service.metadata.name.as_deref();
    spec.hostname.clone().filter(|name| same && !name.is_empty())
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn slice_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let ports = ports.into_iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, pod)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    ports.collect()
}

/// The number a Service's port has in this pod; None when the pod has no port of that name.
#[must_use]
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|one| one.ports.iter().flatten());
            ports
                .find(|one| {
                    one.name.as_ref() == Some(name) && one.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|one| one.container_port)
        }
    }
}

/// What the Endpoints object of one Service needs.
#[must_use]
pub fn reconcile_endpoints(snapshot: &Snapshot<'_>) -> Vec<Action> {
    let service = snapshot.service;
    if !selects(service) || meta::is_deleting(&service.metadata) {
        return Vec::new();
    }
    let (subsets, cut) = subsets(snapshot);
    let mut new = snapshot.endpoints.cloned().unwrap_or_default();
    new.metadata.name.clone_from(&service.metadata.name);
    new.metadata.namespace.clone_from(&service.metadata.namespace);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(LEGACY_MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    new.metadata.labels = Some(labels);
    let mut annotations = new.metadata.annotations.take().unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if cut {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    new.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    new.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    match snapshot.endpoints {
        None => vec![Action::create(&new)],
        Some(old) if *old != new => vec![Action::update(&new)],
        Some(_) => Vec::new(),
    }
}

fn subsets(snapshot: &Snapshot<'_>) -> (Vec<EndpointSubset>, bool) {
    let family = families(snapshot.service)[0];
    // Keyed by the ports' text, so that the order is stable.
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let unready = tolerates_unready(snapshot.service);
    let (mut count, mut cut) = (0, false);
    for pod in selected(snapshot) {
        let Some(ip) = address(pod, family) else { continue };
        if meta::is_deleting(&pod.metadata) && !unready {
            continue;
        }
        if count == ADDRESSES_MAX {
            cut = true;
            break;
        }
        count += 1;
        let ports = legacy_ports(snapshot.service, pod);
        let subset = groups.entry(format!("{ports:?}")).or_insert_with(|| EndpointSubset {
            ports: Some(ports).filter(|ports| !ports.is_empty()),
            ..EndpointSubset::default()
        });
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(snapshot.service, pod),
            node_name: Some(pods::node(pod).to_owned()).filter(|node| !node.is_empty()),
            target_ref: Some(target(pod)),
        };
        let ready = unready || pods::is_ready(pod);
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let mut out: Vec<EndpointSubset> = groups.into_values().collect();
    for subset in &mut out {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            list.sort_by_key(|one| one.ip.parse::<IpAddr>().ok());
        }
    }
    (out, cut)
}

fn legacy_ports(service: &Service, pod: &Pod) -> Vec<LegacyPort> {
    let ports = slice_ports(service, pod).into_iter().map(|port| LegacyPort {
        name: port.name.filter(|name| !name.is_empty()),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    });
    ports.collect()
}
