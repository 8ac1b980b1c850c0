//! Services, Endpoints, EndpointSlices.

use super::{Errors, complaints, container, list, metadata, one_of, text};
use crate::names;
use crate::path;
use crate::status::FieldError;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// The longest a client may stick to an endpoint: a day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;
/// The most endpoints of one slice.
const SLICE_ENDPOINTS_MAX: usize = 1000;

pub(super) fn service(object: &Value, out: &mut Errors) {
    let spec = &object["spec"];
    let kind = text(spec, "type");
    one_of(spec, "type", "spec", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], false, out);
    one_of(spec, "sessionAffinity", "spec", &["ClientIP", "None"], false, out);
    one_of(spec, "internalTrafficPolicy", "spec", &["Cluster", "Local"], true, out);
    one_of(spec, "externalTrafficPolicy", "spec", &["Cluster", "Local"], true, out);
    let headless = text(spec, "clusterIP") == "None";
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        out.push(FieldError::required("spec.ports", ""));
    }
    if kind == "ExternalName" {
        external_name(spec, out);
    }
    if headless && kind != "ClusterIP" {
        let why = format!("may not be set to 'None' for {kind} services");
        out.push(FieldError::invalid("spec.clusterIPs[0]", "None", why));
    }
    address(text(spec, "clusterIP"), "spec.clusterIP", &["", "None"], out);
    if let Some(map) = spec.get("selector").and_then(Value::as_object) {
        metadata::labels(map, "spec.selector", out);
    }
    let seconds = path::integer(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
    if let Some(seconds) = seconds.filter(|seconds| !(1..=AFFINITY_SECONDS_MAX).contains(seconds)) {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
        out.push(FieldError::invalid(field, seconds, why));
    }
    for (n, ip) in list(spec, "externalIPs").iter().enumerate() {
        endpoint_address(ip.as_str().unwrap_or(""), &format!("spec.externalIPs[{n}]"), out);
    }
    ports(spec, kind, out);
}

fn external_name(spec: &Value, out: &mut Errors) {
    let ip = text(spec, "clusterIP");
    if !ip.is_empty() {
        out.push(FieldError::forbidden("spec.clusterIP", "may not be set when `type` is 'ExternalName'"));
    }
    let name = text(spec, "externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        out.push(FieldError::required("spec.externalName", ""));
    } else {
        complaints("spec.externalName", name, names::subdomain(name, false), out);
    }
}

/// An IP address, or one of the other words allowed.
pub(super) fn address(ip: &str, at: &str, also: &[&str], out: &mut Errors) {
    if !also.contains(&ip) && ip.parse::<IpAddr>().is_err() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        out.push(FieldError::invalid(at, ip, why));
    }
}

fn ports(spec: &Value, kind: &str, out: &mut Errors) {
    let all = list(spec, "ports");
    let (mut names_seen, mut ports_seen) = (BTreeSet::new(), BTreeSet::new());
    for (n, port) in all.iter().enumerate() {
        let field = format!("spec.ports[{n}]");
        let name = text(port, "name");
        match name {
            "" if all.len() > 1 => out.push(FieldError::required(format!("{field}.name"), "")),
            "" => {}
            name => {
                complaints(&format!("{field}.name"), name, names::label(name, false), out);
                if !names_seen.insert(name) {
                    out.push(FieldError::duplicate(format!("{field}.name"), name));
                }
            }
        }
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        container::port_number(number, &format!("{field}.port"), out);
        one_of(port, "protocol", &field, PROTOCOLS, false, out);
        target(port, &format!("{field}.targetPort"), out);
        let node_port = port.get("nodePort").and_then(Value::as_i64).unwrap_or(0);
        if node_port != 0 && matches!(kind, "ClusterIP" | "ExternalName") {
            let why = format!("may not be used when `type` is '{kind}'");
            out.push(FieldError::forbidden(format!("{field}.nodePort"), why));
        }
        if !ports_seen.insert((text(port, "protocol"), number)) {
            let mut shown = serde_json::Map::new();
            for key in ["port", "protocol"] {
                shown.extend(port.get(key).map(|value| (key.to_string(), value.clone())));
            }
            out.push(FieldError::duplicate(field, Value::Object(shown)));
        }
    }
}

fn target(port: &Value, at: &str, out: &mut Errors) {
    match port.get("targetPort") {
        Some(Value::String(name)) => complaints(at, name, names::port_name(name), out),
        Some(Value::Number(number)) => container::port_number(number.as_i64().unwrap_or(0), at, out),
        _ => {}
    }
}

/// The address of a service stays, unless it goes to or comes from `ExternalName`.
pub(super) fn service_update(new: &Value, old: &Value, out: &mut Errors) {
    let external = |object: &Value| path::text(object, &["spec", "type"]) == "ExternalName";
    if external(new) || external(old) {
        return;
    }
    let ip = |object| path::text(object, &["spec", "clusterIP"]);
    if !ip(old).is_empty() && ip(new) != ip(old) {
        let shown = path::get(new, &["spec", "clusterIPs"]).cloned().unwrap_or_else(|| vec![ip(new)].into());
        out.push(FieldError::invalid("spec.clusterIPs[0]", shown, "may not change once set"));
    }
}

pub(super) fn endpoints(object: &Value, out: &mut Errors) {
    for (s, subset) in list(object, "subsets").iter().enumerate() {
        let at = format!("subsets[{s}]");
        let (ready, waiting) = (list(subset, "addresses"), list(subset, "notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            out.push(FieldError::required(at.clone(), "must specify `addresses` or `notReadyAddresses`"));
        }
        for (key, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (n, one) in addresses.iter().enumerate() {
                endpoint_address(text(one, "ip"), &format!("{at}.{key}[{n}].ip"), out);
            }
        }
        for (n, port) in list(subset, "ports").iter().enumerate() {
            let field = format!("{at}.ports[{n}]");
            let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            container::port_number(number, &format!("{field}.port"), out);
            one_of(port, "protocol", &field, PROTOCOLS, false, out);
        }
    }
}

/// An address that traffic can go to.
fn endpoint_address(ip: &str, at: &str, out: &mut Errors) {
    let Ok(parsed) = ip.parse::<IpAddr>() else {
        address(ip, at, &[], out);
        return;
    };
    let link_local = match parsed {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80,
    };
    if parsed.is_unspecified() {
        out.push(FieldError::invalid(at, ip, format!("may not be unspecified ({ip})")));
    } else if parsed.is_loopback() {
        out.push(FieldError::invalid(at, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    } else if link_local {
        out.push(FieldError::invalid(
            at,
            ip,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ));
    }
}

pub(super) fn endpoint_slice(object: &Value, out: &mut Errors) {
    one_of(object, "addressType", "", &["FQDN", "IPv4", "IPv6"], false, out);
    let endpoints = list(object, "endpoints");
    if endpoints.len() > SLICE_ENDPOINTS_MAX {
        out.push(FieldError::too_many("endpoints", endpoints.len(), SLICE_ENDPOINTS_MAX));
        return;
    }
    for (n, endpoint) in endpoints.iter().enumerate() {
        let at = format!("endpoints[{n}].addresses");
        let addresses = list(endpoint, "addresses");
        if addresses.is_empty() {
            out.push(FieldError::required(at.clone(), "must contain at least 1 address"));
        }
        for (a, one) in addresses.iter().enumerate() {
            let ip = one.as_str().unwrap_or("");
            match text(object, "addressType") {
                "FQDN" => complaints(&format!("{at}[{a}]"), ip, names::subdomain(ip, false), out),
                _ => endpoint_address(ip, &format!("{at}[{a}]"), out),
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (n, port) in list(object, "ports").iter().enumerate() {
        let field = format!("ports[{n}]");
        let name = text(port, "name");
        if !name.is_empty() {
            complaints(&format!("{field}.name"), name, names::label(name, false), out);
        }
        if !seen.insert(name) {
            out.push(FieldError::duplicate(format!("{field}.name"), name));
        }
        one_of(port, "protocol", &field, PROTOCOLS, false, out);
    }
}
