//! Defaults of pods and pod templates.

use super::{each, existing, number, object, put, text};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// File mode 0644, which projected files get.
const FILE_MODE: i64 = 0o644;
/// How long a projected service-account token lives.
const PROJECTED_TOKEN_SECONDS: i64 = 3600;

/// A pod by itself: in addition to its spec's defaults, requests follow limits and service links are on.
pub(super) fn pod(map: &mut Object) {
    let Some(spec) = object(map, "spec") else { return };
    put(spec, "enableServiceLinks", true);
    for key in ["containers", "initContainers"] {
        each(spec, key).for_each(requests_follow_limits);
    }
    pod_spec(spec);
}

fn requests_follow_limits(container: &mut Object) {
    let Some(resources) = existing(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = object(resources, "requests") {
        for (name, amount) in limits {
            put(requests, &name, amount);
        }
    }
}

/// The defaults of a `PodSpec`, wherever it stands.
pub fn pod_spec(spec: &mut Object) {
    text(spec, "dnsPolicy", "ClusterFirst");
    text(spec, "restartPolicy", "Always");
    text(spec, "schedulerName", "default-scheduler");
    put(spec, "terminationGracePeriodSeconds", 30);
    object(spec, "securityContext");
    mirror(spec, "serviceAccountName", "serviceAccount");
    each(spec, "initContainers").for_each(container);
    each(spec, "containers").for_each(container);
    each(spec, "ephemeralContainers").for_each(container);
    host_ports(spec);
    each(spec, "volumes").for_each(volume);
}

/// The old name of the service account says the same as the new one.
fn mirror(spec: &mut Object, new: &str, old: &str) {
    let of = |spec: &Object, key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("").to_string();
    match (of(spec, new), of(spec, old)) {
        (name, _) if !name.is_empty() => spec.insert(old.into(), name.into()),
        (_, name) if !name.is_empty() => spec.insert(new.into(), name.into()),
        _ => None,
    };
}

/// On the host's network a container's port is the host's.
fn host_ports(spec: &mut Object) {
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for key in ["containers", "initContainers"] {
        for container in each(spec, key) {
            for port in each(container, "ports") {
                if let Some(at) = port.get("containerPort").and_then(Value::as_i64) {
                    number(port, "hostPort", at);
                }
            }
        }
    }
}

fn container(map: &mut Object) {
    let image = map.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    text(map, "imagePullPolicy", policy);
    text(map, "terminationMessagePath", "/dev/termination-log");
    text(map, "terminationMessagePolicy", "File");
    object(map, "resources");
    each(map, "ports").for_each(|port| text(port, "protocol", "TCP"));
    for variable in each(map, "env") {
        if let Some(reference) = existing(variable, "valueFrom").and_then(|from| existing(from, "fieldRef")) {
            text(reference, "apiVersion", "v1");
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(one) = existing(map, key) {
            probe(one);
        }
    }
    if let Some(lifecycle) = existing(map, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(action) = existing(lifecycle, key).and_then(|hook| existing(hook, "httpGet")) {
                http_get(action);
            }
        }
    }
}

/// True when an image's tag is `latest`, said or unsaid; a digest without a tag is not.
fn is_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest,
    }
}

fn probe(map: &mut Object) {
    number(map, "timeoutSeconds", 1);
    number(map, "periodSeconds", 10);
    number(map, "successThreshold", 1);
    number(map, "failureThreshold", 3);
    if let Some(action) = existing(map, "httpGet") {
        http_get(action);
    }
    if let Some(action) = existing(map, "grpc") {
        put(action, "service", "");
    }
}

fn http_get(map: &mut Object) {
    text(map, "path", "/");
    text(map, "scheme", "HTTP");
}

fn volume(map: &mut Object) {
    // A volume without a source is an empty directory.
    if map.keys().all(|key| key == "name") {
        map.insert("emptyDir".into(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = existing(map, key) {
            put(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = existing(map, "hostPath") {
        put(source, "type", "");
    }
    if let Some(source) = existing(map, "downwardAPI") {
        each(source, "items").for_each(downward_item);
    }
    if let Some(source) = existing(map, "projected") {
        each(source, "sources").for_each(projection);
    }
    if let Some(template) = existing(map, "ephemeral").and_then(|one| existing(one, "volumeClaimTemplate"))
        && let Some(spec) = existing(template, "spec")
    {
        text(spec, "volumeMode", "Filesystem");
    }
}

fn downward_item(item: &mut Object) {
    if let Some(reference) = existing(item, "fieldRef") {
        text(reference, "apiVersion", "v1");
    }
}

fn projection(source: &mut Object) {
    if let Some(token) = existing(source, "serviceAccountToken") {
        put(token, "expirationSeconds", PROJECTED_TOKEN_SECONDS);
    }
    if let Some(downward) = existing(source, "downwardAPI") {
        each(downward, "items").for_each(downward_item);
    }
}
