//! ServiceAccount: every pod runs as one, and finds its token where clients look for it.

use std::time::Duration;

use kube_types::registry::GroupVersionKind;
use kube_types::status::Status;
use kube_types::{meta, path};
use serde_json::{Value, json};

use super::Admission;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and a little, so that a renewal a minute late still finds it valid (upstream's value).
const TOKEN_LIFE_S: i64 = 3607;
/// A fresh namespace gets its `default` account from a controller: how long a pod waits for it.
const WAIT: Duration = Duration::from_secs(2);
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) async fn admit(admission: &Admission<'_>, pod: &mut Value) -> Result<(), Status> {
    if meta::annotation(pod, MIRROR).is_some() {
        return Ok(());
    }
    if path::text(pod, &["spec", "serviceAccountName"]).is_empty() {
        path::set(pod, &["spec", "serviceAccountName"], json!("default"));
    }
    let name = path::text(pod, &["spec", "serviceAccountName"]).to_owned();
    path::set(pod, &["spec", "serviceAccount"], json!(name));
    let account = account(admission, pod, &name).await?;
    let of_pod = path::get(pod, &["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    let of_account = account["automountServiceAccountToken"].as_bool();
    if of_pod.or(of_account).unwrap_or(true) {
        mount(admission, pod);
    }
    if path::items(pod, &["spec", "imagePullSecrets"]).is_empty()
        && let Some(secrets) = account.get("imagePullSecrets")
    {
        path::set(pod, &["spec", "imagePullSecrets"], secrets.clone());
    }
    Ok(())
}

async fn account(admission: &Admission<'_>, pod: &Value, name: &str) -> Result<Value, Status> {
    let server = admission.server;
    let namespace = meta::namespace(pod);
    let key = format!("/registry/serviceaccounts/{namespace}/{name}");
    if let Some(found) = server.read(&key).await? {
        return Ok(found.value);
    }
    let appears = async {
        let kind = GroupVersionKind::new("", "v1", "ServiceAccount");
        let cache = server.cache(server.registry.by_kind(&kind)?);
        let mut ticks = cache.ticks();
        loop {
            if let Some(item) = cache.get(&format!("{namespace}/{name}")) {
                return Some(item.value());
            }
            ticks.changed().await.ok()?;
        }
    };
    let found = tokio::time::timeout(WAIT, appears).await.ok().flatten();
    let why =
        format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
    found.ok_or_else(|| admission.forbidden(meta::name(pod), &why))
}

/// Adds the token's volume to the pod and its mount to every container that has nothing at that place.
fn mount(admission: &Admission<'_>, pod: &mut Value) {
    let existing = path::items(pod, &["spec", "volumes"]).iter().find_map(|v| {
        let name = path::text(v, &["name"]);
        name.starts_with(VOLUME_PREFIX).then(|| name.to_owned())
    });
    let is_new = existing.is_none();
    let name = existing.unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", admission.server.random_suffix(5)));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = path::get(pod, &["spec", list]).and_then(Value::as_array).cloned();
        let Some(mut containers) = containers else { continue };
        for container in &mut containers {
            let mut mounts = path::items(container, &["volumeMounts"]).to_vec();
            if mounts.iter().any(|m| path::text(m, &["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({ "mountPath": MOUNT_PATH, "name": name, "readOnly": true }));
            path::set(container, &["volumeMounts"], mounts.into());
            needed = true;
        }
        path::set(pod, &["spec", list], containers.into());
    }
    if needed && is_new {
        let mut volumes = path::items(pod, &["spec", "volumes"]).to_vec();
        volumes.push(volume(&name));
        path::set(pod, &["spec", "volumes"], volumes.into());
    }
}

fn volume(name: &str) -> Value {
    json!({ "name": name, "projected": { "defaultMode": 420, "sources": [
        { "serviceAccountToken": { "expirationSeconds": TOKEN_LIFE_S, "path": "token" } },
        { "configMap": { "items": [{ "key": "ca.crt", "path": "ca.crt" }], "name": "kube-root-ca.crt" } },
        { "downwardAPI": { "items": [
            { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" }, "path": "namespace" },
        ] } },
    ] } })
}
