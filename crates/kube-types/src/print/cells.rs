//! The kinds whose rows are read almost as they are.

use serde_json::Value;

use super::{
    AGE, Column, NAME, Printer, SELECTOR, age, age_of, int_at, list_at, name_of, number, or_none, str_at,
    text, wide,
};

/// Name and creation time, for every kind without a printer of its own.
pub(super) fn default_row(object: &Value, _now_ms: i64) -> Vec<Value> {
    vec![name_of(object), str_at(object, "/metadata/creationTimestamp").into()]
}

/// Most endpoints or ports that a cell spells out.
const SHOWN_MAX: usize = 3;

pub(super) const SERVICE: Printer = Printer {
    group: "",
    kind: "Service",
    columns: &[
        NAME,
        text("Type", "How the Service is reached"),
        text("Cluster-IP", "Address inside the cluster"),
        text("External-IP", "Addresses outside the cluster"),
        text("Port(s)", "Ports, with node ports"),
        AGE,
        SELECTOR,
    ],
    row: |object, now_ms| {
        vec![
            name_of(object),
            str_at(object, "/spec/type").into(),
            or_none(str_at(object, "/spec/clusterIP")).into(),
            external_ip(object).into(),
            service_ports(object).into(),
            age_of(object, now_ms),
            or_none(map_text(object.pointer("/spec/selector"))).into(),
        ]
    },
};

fn external_ip(service: &Value) -> String {
    let external: Vec<&str> =
        list_at(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match str_at(service, "/spec/type") {
        "ExternalName" => or_none(str_at(service, "/spec/externalName")),
        "LoadBalancer" => {
            let mut ips: Vec<&str> = list_at(service, "/status/loadBalancer/ingress")
                .iter()
                .map(|i| if str_at(i, "/ip").is_empty() { str_at(i, "/hostname") } else { str_at(i, "/ip") })
                .collect();
            ips.extend(external);
            if ips.is_empty() { "<pending>".into() } else { ips.join(",") }
        }
        _ => or_none(external.join(",")),
    }
}

fn service_ports(service: &Value) -> String {
    let ports = list_at(service, "/spec/ports").iter().map(|port| {
        let (number, protocol) = (int_at(port, "/port"), str_at(port, "/protocol"));
        match int_at(port, "/nodePort") {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    });
    or_none(ports.collect::<Vec<_>>().join(","))
}

/// A map of labels as `a=b,c=d`, sorted.
fn map_text(map: Option<&Value>) -> String {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    let mut parts: Vec<String> = entries.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    parts.sort_unstable();
    parts.join(",")
}

/// The first few of `items`, and how many more there are.
fn first_few(items: &[String], empty: &str) -> String {
    match items.len() {
        0 => empty.into(),
        n if n > SHOWN_MAX => format!("{} + {} more...", items[..SHOWN_MAX].join(","), n - SHOWN_MAX),
        _ => items.join(","),
    }
}

pub(super) const ENDPOINTS: Printer = Printer {
    group: "",
    kind: "Endpoints",
    columns: &[NAME, text("Endpoints", "Addresses and ports behind the Service"), AGE],
    row: |object, now_ms| {
        vec![name_of(object), first_few(&endpoint_addresses(object), "<none>").into(), age_of(object, now_ms)]
    },
};

fn endpoint_addresses(endpoints: &Value) -> Vec<String> {
    let mut shown = Vec::new();
    for subset in list_at(endpoints, "/subsets") {
        let addresses = || list_at(subset, "/addresses").iter().map(|a| str_at(a, "/ip"));
        let ports = list_at(subset, "/ports");
        if ports.is_empty() {
            shown.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            shown.extend(addresses().map(|ip| join_host_port(ip, int_at(port, "/port"))));
        }
    }
    shown
}

fn join_host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub(super) const ENDPOINT_SLICE: Printer = Printer {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    columns: &[
        NAME,
        text("AddressType", "IPv4, IPv6 or FQDN"),
        text("Ports", "Ports of the endpoints"),
        text("Endpoints", "Addresses of the endpoints"),
        AGE,
    ],
    row: |object, now_ms| {
        let ports: Vec<String> = list_at(object, "/ports")
            .iter()
            .map(|p| p.get("port").and_then(Value::as_i64).map_or_else(|| "*".into(), |n| n.to_string()))
            .collect();
        let addresses: Vec<String> = list_at(object, "/endpoints")
            .iter()
            .flat_map(|e| list_at(e, "/addresses"))
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        vec![
            name_of(object),
            str_at(object, "/addressType").into(),
            first_few(&ports, "<unset>").into(),
            first_few(&addresses, "<unset>").into(),
            age_of(object, now_ms),
        ]
    },
};

fn entries(object: &Value, fields: &[&str]) -> i64 {
    fields.iter().map(|f| object.get(f).and_then(Value::as_object).map_or(0, |m| m.len() as i64)).sum()
}

pub(super) const CONFIG_MAP: Printer = Printer {
    group: "",
    kind: "ConfigMap",
    columns: &[NAME, number("Data", "Number of entries"), AGE],
    row: |object, now_ms| {
        vec![name_of(object), entries(object, &["data", "binaryData"]).into(), age_of(object, now_ms)]
    },
};

pub(super) const SECRET: Printer = Printer {
    group: "",
    kind: "Secret",
    columns: &[NAME, text("Type", "What the Secret holds"), number("Data", "Number of entries"), AGE],
    row: |object, now_ms| {
        vec![
            name_of(object),
            str_at(object, "/type").into(),
            entries(object, &["data"]).into(),
            age_of(object, now_ms),
        ]
    },
};

pub(super) const NAMESPACE: Printer = Printer {
    group: "",
    kind: "Namespace",
    columns: &[NAME, text("Status", "Active or Terminating"), AGE],
    row: |object, now_ms| {
        vec![name_of(object), str_at(object, "/status/phase").into(), age_of(object, now_ms)]
    },
};

pub(super) const SERVICE_ACCOUNT: Printer = Printer {
    group: "",
    kind: "ServiceAccount",
    columns: &[NAME, number("Secrets", "Number of referenced Secrets"), AGE],
    row: |object, now_ms| {
        vec![name_of(object), (list_at(object, "/secrets").len() as i64).into(), age_of(object, now_ms)]
    },
};

const EVENT_COLUMNS: &[Column] = &[
    text("Last Seen", "Time since it last happened"),
    text("Type", "Normal or Warning"),
    text("Reason", "Why, in one word"),
    text("Object", "What it is about"),
    wide("Subobject", "Part of the object it is about"),
    wide("Source", "Who reported it"),
    text("Message", "What happened"),
    wide("First Seen", "Time since it first happened"),
    Column { name: "Count", kind: "integer", format: "", description: "How often it happened", priority: 1 },
    Column { priority: 1, ..NAME },
];

pub(super) const EVENT: Printer = Printer {
    group: "",
    kind: "Event",
    columns: EVENT_COLUMNS,
    row: |event, now_ms| event_row(event, now_ms, &CORE),
};

pub(super) const EVENTS_EVENT: Printer = Printer {
    group: "events.k8s.io",
    kind: "Event",
    columns: EVENT_COLUMNS,
    row: |event, now_ms| event_row(event, now_ms, &EVENTS_V1),
};

/// Where the two Event versions keep the same facts.
struct EventFields {
    object: &'static str,
    message: &'static str,
    count: &'static str,
    first: &'static str,
    last: &'static str,
    source: &'static str,
    host: &'static str,
}
const CORE: EventFields = EventFields {
    object: "/involvedObject",
    message: "/message",
    count: "/count",
    first: "/firstTimestamp",
    last: "/lastTimestamp",
    source: "/source/component",
    host: "/source/host",
};
const EVENTS_V1: EventFields = EventFields {
    object: "/regarding",
    message: "/note",
    count: "/deprecatedCount",
    first: "/deprecatedFirstTimestamp",
    last: "/deprecatedLastTimestamp",
    source: "/deprecatedSource/component",
    host: "/deprecatedSource/host",
};

fn event_row(event: &Value, now_ms: i64, at: &EventFields) -> Vec<Value> {
    let first_time = first_filled(&[str_at(event, at.first), str_at(event, "/eventTime")]);
    let mut last_time = first_filled(&[str_at(event, at.last), first_time]);
    let mut count = int_at(event, at.count).max(1);
    if event.get("series").is_some_and(Value::is_object) {
        last_time = str_at(event, "/series/lastObservedTime");
        count = int_at(event, "/series/count");
    }
    let object = event.pointer(at.object).unwrap_or(&Value::Null);
    let mut target = str_at(object, "/kind").to_lowercase();
    if !str_at(object, "/name").is_empty() {
        target = format!("{target}/{}", str_at(object, "/name"));
    }
    vec![
        age::since(last_time, now_ms).into(),
        str_at(event, "/type").into(),
        str_at(event, "/reason").into(),
        target.into(),
        str_at(object, "/fieldPath").into(),
        event_source(event, at).into(),
        str_at(event, at.message).trim().into(),
        age::since(first_time, now_ms).into(),
        count.into(),
        name_of(event),
    ]
}

fn event_source(event: &Value, at: &EventFields) -> String {
    let component = first_filled(&[
        str_at(event, at.source),
        reporting(event, "reportingComponent", "reportingController"),
    ]);
    let host = first_filled(&[str_at(event, at.host), str_at(event, "/reportingInstance")]);
    if host.is_empty() || host == component { component.into() } else { format!("{component}, {host}") }
}

fn reporting<'a>(event: &'a Value, core: &str, events_v1: &str) -> &'a str {
    let field = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("");
    first_filled(&[field(core), field(events_v1)])
}

fn first_filled<'a>(texts: &[&'a str]) -> &'a str {
    texts.iter().copied().find(|t| !t.is_empty()).unwrap_or("")
}

pub(super) const LEASE: Printer = Printer {
    group: "coordination.k8s.io",
    kind: "Lease",
    columns: &[NAME, text("Holder", "Who holds the lease"), AGE],
    row: |object, now_ms| {
        vec![name_of(object), str_at(object, "/spec/holderIdentity").into(), age_of(object, now_ms)]
    },
};

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    text("Role", "The role that is granted"),
    AGE,
    wide("Users", "Users it is granted to"),
    wide("Groups", "Groups it is granted to"),
    wide("ServiceAccounts", "Service accounts it is granted to"),
];

pub(super) const ROLE_BINDING: Printer = Printer {
    group: "rbac.authorization.k8s.io",
    kind: "RoleBinding",
    columns: BINDING_COLUMNS,
    row: binding_row,
};
pub(super) const CLUSTER_ROLE_BINDING: Printer = Printer {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRoleBinding",
    columns: BINDING_COLUMNS,
    row: binding_row,
};

fn binding_row(object: &Value, now_ms: i64) -> Vec<Value> {
    let subjects = |kind: &str| {
        let of_kind = list_at(object, "/subjects").iter().filter(|s| str_at(s, "/kind") == kind);
        let names = of_kind.map(|s| match (kind, str_at(s, "/namespace")) {
            ("ServiceAccount", namespace) => format!("{namespace}/{}", str_at(s, "/name")),
            _ => str_at(s, "/name").to_owned(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        name_of(object),
        format!("{}/{}", str_at(object, "/roleRef/kind"), str_at(object, "/roleRef/name")).into(),
        age_of(object, now_ms),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(super) const PRIORITY_CLASS: Printer = Printer {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    columns: &[
        NAME,
        number("Value", "The priority"),
        Column {
            name: "Global-Default",
            kind: "boolean",
            format: "",
            description: "Whether pods without a class get it",
            priority: 0,
        },
        AGE,
        text("PreemptionPolicy", "Whether its pods make room by preemption"),
    ],
    row: |object, now_ms| {
        vec![
            name_of(object),
            int_at(object, "/value").into(),
            object.get("globalDefault").and_then(Value::as_bool).unwrap_or(false).into(),
            age_of(object, now_ms),
            str_at(object, "/preemptionPolicy").into(),
        ]
    },
};
