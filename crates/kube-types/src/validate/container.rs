//! Containers of a pod: names, images, ports, environment, mounts, resources.

use super::{Errors, NOT_NEGATIVE, complaints, list, one_of, pod, probe, required, text};
use crate::names;
use crate::quantity::Quantity;
use crate::status::FieldError;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Init containers and containers of a spec; `volumes` are the names that mounts may use.
pub(super) fn all(spec: &Value, at: &str, volumes: &BTreeSet<String>, out: &mut Errors) {
    let mut seen = BTreeSet::new();
    if list(spec, "containers").is_empty() {
        out.push(FieldError::required(format!("{at}.containers"), ""));
    }
    for key in ["containers", "initContainers"] {
        for (n, container) in list(spec, key).iter().enumerate() {
            let field = format!("{at}.{key}[{n}]");
            one(container, &field, volumes, out);
            let name = text(container, "name");
            if !name.is_empty() && !seen.insert(name) {
                out.push(FieldError::duplicate(format!("{field}.name"), name));
            }
            if key == "initContainers" {
                init(container, &field, out);
            }
        }
    }
    host_ports(spec, at, out);
}

fn one(container: &Value, at: &str, volumes: &BTreeSet<String>, out: &mut Errors) {
    if required(container, "name", at, out) {
        let name = text(container, "name");
        complaints(&format!("{at}.name"), name, names::label(name, false), out);
    }
    if required(container, "image", at, out) && text(container, "image").trim() != text(container, "image") {
        let why = "must not have leading or trailing whitespace";
        out.push(FieldError::invalid(format!("{at}.image"), text(container, "image"), why));
    }
    one_of(container, "imagePullPolicy", at, &["Always", "IfNotPresent", "Never"], false, out);
    one_of(container, "terminationMessagePolicy", at, &["FallbackToLogsOnError", "File"], false, out);
    ports(container, at, out);
    environment(container, at, out);
    mounts(container, at, volumes, out);
    for (key, must_be_one) in [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)] {
        if let Some(value) = container.get(key) {
            probe::probe(value, &format!("{at}.{key}"), must_be_one, out);
        }
    }
    for key in ["postStart", "preStop"] {
        if let Some(hook) = container.get("lifecycle").and_then(|lifecycle| lifecycle.get(key)) {
            probe::handler(
                hook,
                &format!("{at}.lifecycle.{key}"),
                &["exec", "httpGet", "sleep", "tcpSocket"],
                out,
            );
        }
    }
    resources(&container["resources"], &format!("{at}.resources"), out);
    security(&container["securityContext"], &format!("{at}.securityContext"), out);
}

/// Init containers run to completion unless they are sidecars.
fn init(container: &Value, at: &str, out: &mut Errors) {
    let policy = text(container, "restartPolicy");
    if policy == "Always" {
        return;
    }
    if !policy.is_empty() {
        out.push(FieldError::not_supported(format!("{at}.restartPolicy"), policy, &["Always"]));
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(key).is_some() {
            let why = "may not be set for init containers without restartPolicy=Always";
            out.push(FieldError::forbidden(format!("{at}.{key}"), why));
        }
    }
}

fn ports(container: &Value, at: &str, out: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (n, port) in list(container, "ports").iter().enumerate() {
        let field = format!("{at}.ports[{n}]");
        let name = text(port, "name");
        if !name.is_empty() {
            complaints(&format!("{field}.name"), name, names::port_name(name), out);
            if !seen.insert(name) {
                out.push(FieldError::duplicate(format!("{field}.name"), name));
            }
        }
        match port.get("containerPort").and_then(Value::as_i64).unwrap_or(0) {
            0 => out.push(FieldError::required(format!("{field}.containerPort"), "")),
            number => port_number(number, &format!("{field}.containerPort"), out),
        }
        if let Some(number) = port.get("hostPort").and_then(Value::as_i64).filter(|number| *number != 0) {
            port_number(number, &format!("{field}.hostPort"), out);
        }
        one_of(port, "protocol", &field, PROTOCOLS, false, out);
    }
}

/// A port's number in range.
pub(super) fn port_number(number: i64, at: &str, out: &mut Errors) {
    out.extend(names::port_number(number).into_iter().map(|why| FieldError::invalid(at, number, why)));
}

/// No two containers of a pod take the same port of the host.
fn host_ports(spec: &Value, at: &str, out: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (c, container) in list(spec, "containers").iter().enumerate() {
        for (n, port) in list(container, "ports").iter().enumerate() {
            let number = port.get("hostPort").and_then(Value::as_i64).unwrap_or(0);
            if number == 0 {
                continue;
            }
            let (protocol, ip) = (text(port, "protocol"), text(port, "hostIP"));
            if !seen.insert((protocol, ip, number)) {
                let shown = format!("{protocol}/{ip}/{number}");
                let shown = if ip.is_empty() { format!("{protocol}//{number}") } else { shown };
                out.push(FieldError::duplicate(format!("{at}.containers[{c}].ports[{n}].hostPort"), shown));
            }
        }
    }
}

fn environment(container: &Value, at: &str, out: &mut Errors) {
    for (n, variable) in list(container, "env").iter().enumerate() {
        let field = format!("{at}.env[{n}]");
        if required(variable, "name", &field, out) {
            let name = text(variable, "name");
            complaints(&format!("{field}.name"), name, names::environment_name(name), out);
        }
        if let Some(from) = variable.get("valueFrom") {
            value_from(variable, from, &format!("{field}.valueFrom"), out);
        }
    }
    for (n, from) in list(container, "envFrom").iter().enumerate() {
        let field = format!("{at}.envFrom[{n}]");
        match (from.get("configMapRef"), from.get("secretRef")) {
            (Some(_), Some(_)) => out.push(FieldError::invalid(
                field,
                "",
                "may not have more than one field specified at a time",
            )),
            (Some(one), None) => {
                required(one, "name", &format!("{field}.configMapRef"), out);
            }
            (None, Some(one)) => {
                required(one, "name", &format!("{field}.secretRef"), out);
            }
            (None, None) => {
                out.push(FieldError::invalid(field, "", "must specify one of: `configMapRef` or `secretRef`"))
            }
        }
    }
}

/// Fields of the pod that the environment may name.
const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(variable: &Value, from: &Value, at: &str, out: &mut Errors) {
    const KINDS: &[&str] = &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let kinds: Vec<&&str> = KINDS.iter().filter(|kind| from.get(**kind).is_some()).collect();
    match kinds.as_slice() {
        [] => {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            out.push(FieldError::invalid(at, "", why));
        }
        [_] if !text(variable, "value").is_empty() => {
            out.push(FieldError::invalid(at, "", "may not be specified when `value` is not empty"));
        }
        [_] => {}
        _ => out.push(FieldError::invalid(at, "", "may not have more than one field specified at a time")),
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = from.get(kind) {
            required(reference, "name", &format!("{at}.{kind}"), out);
            if required(reference, "key", &format!("{at}.{kind}"), out) {
                let key = text(reference, "key");
                complaints(&format!("{at}.{kind}.key"), key, names::config_key(key), out);
            }
        }
    }
    if let Some(reference) = from.get("fieldRef")
        && required(reference, "fieldPath", &format!("{at}.fieldRef"), out)
    {
        let path = text(reference, "fieldPath");
        let subscript =
            ["metadata.labels['", "metadata.annotations['"].iter().any(|one| path.starts_with(one));
        if !subscript && !FIELD_PATHS.contains(&path) {
            out.push(FieldError::not_supported(format!("{at}.fieldRef.fieldPath"), path, FIELD_PATHS));
        }
    }
}

fn mounts(container: &Value, at: &str, volumes: &BTreeSet<String>, out: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (n, mount) in list(container, "volumeMounts").iter().enumerate() {
        let field = format!("{at}.volumeMounts[{n}]");
        if required(mount, "name", &field, out) && !volumes.contains(text(mount, "name")) {
            out.push(FieldError::not_found(format!("{field}.name"), text(mount, "name")));
        }
        if required(mount, "mountPath", &field, out) && !seen.insert(text(mount, "mountPath")) {
            out.push(FieldError::invalid(
                format!("{field}.mountPath"),
                text(mount, "mountPath"),
                "must be unique",
            ));
        }
        if !text(mount, "subPath").is_empty() {
            pod::relative_path(text(mount, "subPath"), &format!("{field}.subPath"), out);
        }
        one_of(mount, "mountPropagation", &field, &["Bidirectional", "HostToContainer", "None"], true, out);
    }
}

fn resources(resources: &Value, at: &str, out: &mut Errors) {
    let amounts = |key: &str| resources.get(key).and_then(Value::as_object).into_iter().flatten();
    for key in ["limits", "requests"] {
        for (name, amount) in amounts(key) {
            amount_of(name, amount, &format!("{at}.{key}"), out);
        }
    }
    for (name, request) in amounts("requests") {
        let limit = resources.get("limits").and_then(|limits| limits.get(name));
        let parsed = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok());
        let Some((request, limit)) = parsed(request).zip(limit.and_then(parsed)) else { continue };
        if request > limit {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            out.push(FieldError::invalid(format!("{at}.requests"), request.to_string(), why));
        }
    }
}

fn amount_of(name: &str, amount: &Value, at: &str, out: &mut Errors) {
    complaints(at, name, names::qualified_name(name), out);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        out.push(FieldError::invalid(at, name, "must be a standard resource type or fully qualified"));
        out.push(FieldError::invalid(at, name, "must be a standard resource for containers"));
    }
    let negative =
        amount.as_str().and_then(|text| text.parse::<Quantity>().ok()).is_some_and(Quantity::is_negative);
    if negative {
        out.push(FieldError::invalid(format!("{at}[{name}]"), amount.clone(), NOT_NEGATIVE));
    }
}

fn security(context: &Value, at: &str, out: &mut Errors) {
    pod::user_id(context, "runAsUser", at, out);
    pod::user_id(context, "runAsGroup", at, out);
    let is = |key: &str, value: bool| context.get(key) == Some(&json!(value));
    if is("allowPrivilegeEscalation", false) && is("privileged", true) {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        out.push(FieldError::invalid(at, context.clone(), why));
    }
}
