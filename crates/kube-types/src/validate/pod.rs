//! `PodSpec`, in pods and templates.

use super::{
    Errors, complaints, container, list, metadata, network, not_negative, one_of, placement, required, text,
};
use crate::names;
use crate::status::FieldError;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a volume can be made of.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];

const HOST_PATH_TYPES: &[&str] =
    &["BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The whole spec at `at`.
pub(super) fn spec(spec: &Value, at: &str, out: &mut Errors) {
    let volumes = volumes(spec, at, out);
    container::all(spec, at, &volumes, out);
    one_of(spec, "restartPolicy", at, &["Always", "OnFailure", "Never"], false, out);
    one_of(
        spec,
        "dnsPolicy",
        at,
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        false,
        out,
    );
    not_negative(spec, "terminationGracePeriodSeconds", at, out);
    if let Some(seconds) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let field = format!("{at}.activeDeadlineSeconds");
        out.push(FieldError::invalid(field, seconds, "must be between 1 and 2147483647, inclusive"));
    }
    if let Some(map) = spec.get("nodeSelector").and_then(Value::as_object) {
        metadata::labels(map, &format!("{at}.nodeSelector"), out);
    }
    named(spec, "serviceAccountName", at, |name| names::subdomain(name, false), out);
    named(spec, "nodeName", at, |name| names::subdomain(name, false), out);
    named(spec, "hostname", at, |name| names::label(name, false), out);
    named(spec, "subdomain", at, |name| names::label(name, false), out);
    for (n, toleration) in list(spec, "tolerations").iter().enumerate() {
        self::toleration(toleration, &format!("{at}.tolerations[{n}]"), out);
    }
    for (n, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        required(secret, "name", &format!("{at}.imagePullSecrets[{n}]"), out);
    }
    if let Some(context) = spec.get("securityContext") {
        for key in ["runAsUser", "runAsGroup", "fsGroup"] {
            user_id(context, key, &format!("{at}.securityContext"), out);
        }
    }
    placement::placement(spec, at, out);
    for (n, alias) in list(spec, "hostAliases").iter().enumerate() {
        network::address(text(alias, "ip"), &format!("{at}.hostAliases[{n}].ip"), &[], out);
    }
    if text(spec, "dnsPolicy") == "None" && list(&spec["dnsConfig"], "nameservers").is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        out.push(FieldError::required(format!("{at}.dnsConfig"), why));
    }
}

/// User and group ids are 31 bits.
pub(super) fn user_id(context: &Value, key: &str, at: &str, out: &mut Errors) {
    let id = context.get(key).and_then(Value::as_i64);
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        let field = format!("{at}.{key}");
        out.push(FieldError::invalid(field, id, "must be between 0 and 2147483647, inclusive"));
    }
}

fn named(spec: &Value, key: &str, at: &str, rule: fn(&str) -> Vec<String>, out: &mut Errors) {
    let name = text(spec, key);
    if !name.is_empty() {
        complaints(&format!("{at}.{key}"), name, rule(name), out);
    }
}

/// Checks the volumes; returns the names of the sound ones.
fn volumes(spec: &Value, at: &str, out: &mut Errors) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (n, volume) in list(spec, "volumes").iter().enumerate() {
        let field = format!("{at}.volumes[{n}]");
        if required(volume, "name", &field, out) {
            let name = text(volume, "name");
            complaints(&format!("{field}.name"), name, names::label(name, false), out);
            if !seen.insert(name.to_string()) {
                out.push(FieldError::duplicate(format!("{field}.name"), name));
            }
        }
        let sources: Vec<&&str> = SOURCES.iter().filter(|key| volume.get(**key).is_some()).collect();
        match sources.as_slice() {
            [] => out.push(FieldError::required(field, "must specify a volume type")),
            [kind] => source(&volume[**kind], kind, &format!("{field}.{kind}"), out),
            [_, rest @ ..] => out.extend(rest.iter().map(|kind| {
                FieldError::forbidden(format!("{field}.{kind}"), "may not specify more than 1 volume type")
            })),
        }
    }
    seen
}

fn source(source: &Value, kind: &str, at: &str, out: &mut Errors) {
    match kind {
        "hostPath" => {
            if required(source, "path", at, out) {
                no_backsteps(text(source, "path"), &format!("{at}.path"), out);
            }
            one_of(source, "type", at, HOST_PATH_TYPES, true, out);
        }
        "configMap" => {
            required(source, "name", at, out);
            items(source, at, out);
        }
        "secret" => {
            required(source, "secretName", at, out);
            items(source, at, out);
        }
        "downwardAPI" => items(source, at, out),
        "persistentVolumeClaim" => {
            required(source, "claimName", at, out);
        }
        "projected" => projected(source, at, out),
        _ => {}
    }
}

fn projected(source: &Value, at: &str, out: &mut Errors) {
    const KINDS: &[&str] = &[
        "secret",
        "configMap",
        "downwardAPI",
        "serviceAccountToken",
        "clusterTrustBundle",
        "podCertificate",
    ];
    for (n, one) in list(source, "sources").iter().enumerate() {
        let field = format!("{at}.sources[{n}]");
        let kinds: Vec<&str> = KINDS.iter().copied().filter(|kind| one.get(*kind).is_some()).collect();
        match kinds.as_slice() {
            [] => out.push(FieldError::required(field, "must specify a volume type")),
            [kind @ ("secret" | "configMap")] => {
                required(&one[*kind], "name", &format!("{field}.{kind}"), out);
                items(&one[*kind], &format!("{field}.{kind}"), out);
            }
            ["serviceAccountToken"] => {
                required(&one["serviceAccountToken"], "path", &format!("{field}.serviceAccountToken"), out);
            }
            [_] => {}
            _ => out.push(FieldError::forbidden(field, "may not specify more than 1 volume type")),
        }
    }
}

fn items(source: &Value, at: &str, out: &mut Errors) {
    for (n, item) in list(source, "items").iter().enumerate() {
        let field = format!("{at}.items[{n}]");
        if required(item, "path", &field, out) {
            relative_path(text(item, "path"), &format!("{field}.path"), out);
        }
    }
}

/// A path that stays below its root.
pub(super) fn relative_path(path: &str, at: &str, out: &mut Errors) {
    if path.starts_with('/') {
        out.push(FieldError::invalid(at, path, "must be a relative path"));
    }
    no_backsteps(path, at, out);
}

fn no_backsteps(path: &str, at: &str, out: &mut Errors) {
    if path.split('/').any(|part| part == "..") {
        out.push(FieldError::invalid(at, path, "must not contain '..'"));
    }
}

fn toleration(toleration: &Value, at: &str, out: &mut Errors) {
    let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
    if !key.is_empty() {
        complaints(&format!("{at}.key"), key, names::qualified_name(key), out);
    } else if operator != "Exists" {
        let why =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        out.push(FieldError::invalid(format!("{at}.operator"), operator, why));
    }
    match operator {
        "" | "Equal" => {
            let value = text(toleration, "value");
            complaints(&format!("{at}.operator"), value, names::label_value(value), out);
        }
        "Exists" if !text(toleration, "value").is_empty() => {
            let why = "value must be empty when `operator` is 'Exists'";
            out.push(FieldError::invalid(format!("{at}.operator"), text(toleration, "value"), why));
        }
        "Exists" => {}
        other => out.push(FieldError::not_supported(format!("{at}.operator"), other, &["Equal", "Exists"])),
    }
    one_of(toleration, "effect", at, &["NoExecute", "NoSchedule", "PreferNoSchedule"], true, out);
    if toleration.get("tolerationSeconds").is_some() && text(toleration, "effect") != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        out.push(FieldError::invalid(format!("{at}.effect"), text(toleration, "effect"), why));
    }
}

/// Labels and annotations of a pod template.
pub(super) fn template_metadata(template: &Value, at: &str, out: &mut Errors) {
    let map = |key: &str| template["metadata"].get(key).and_then(Value::as_object);
    if let Some(labels) = map("labels") {
        metadata::labels(labels, &format!("{at}.labels"), out);
    }
    if let Some(annotations) = map("annotations") {
        metadata::annotations(annotations, &format!("{at}.annotations"), out);
    }
}
