//! Defaults of Services, Endpoints and EndpointSlices.
//!
//! Addresses, node ports and address families are allocated, not defaulted: that is the API server's work.

use super::{each, object, put, text};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// How long a client sticks to an endpoint with `sessionAffinity: ClientIP`: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn service(map: &mut Object) {
    let Some(spec) = object(map, "spec") else { return };
    text(spec, "sessionAffinity", "None");
    let is = |spec: &Object, key: &str, value: &str| spec.get(key).is_some_and(|one| one == value);
    if is(spec, "sessionAffinity", "None") {
        spec.remove("sessionAffinityConfig");
    } else if is(spec, "sessionAffinity", "ClientIP")
        && let Some(client) =
            object(spec, "sessionAffinityConfig").and_then(|config| object(config, "clientIP"))
    {
        put(client, "timeoutSeconds", AFFINITY_SECONDS);
    }
    text(spec, "type", "ClusterIP");
    for port in each(spec, "ports") {
        text(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|one| one == &json!(0) || one == &json!("")) {
            let number = port.get("port").cloned().unwrap_or(json!(0));
            port.insert("targetPort".into(), number);
        }
    }
    let external = is(spec, "type", "NodePort") || is(spec, "type", "LoadBalancer");
    if external {
        text(spec, "externalTrafficPolicy", "Cluster");
    }
    if external || is(spec, "type", "ClusterIP") {
        put(spec, "internalTrafficPolicy", "Cluster");
    }
    if is(spec, "type", "LoadBalancer") {
        put(spec, "allocateLoadBalancerNodePorts", true);
    }
}

pub(super) fn endpoints(map: &mut Object) {
    for subset in each(map, "subsets") {
        each(subset, "ports").for_each(|port| text(port, "protocol", "TCP"));
    }
}

pub(super) fn endpoint_slice(map: &mut Object) {
    for port in each(map, "ports") {
        put(port, "name", "");
        put(port, "protocol", "TCP");
    }
}
