//! Priority and DefaultTolerationSeconds.

use kube_types::path;
use kube_types::registry::{GroupResource, GroupVersionKind};
use kube_types::status::Status;
use serde_json::{Value, json};

use super::Admission;

/// How long pods stay on a node that is not ready or not reachable (upstream's five minutes).
const TOLERATION_S: i64 = 300;

/// Fills `priority` and `preemptionPolicy` from the class, or from the default class.
pub(super) async fn priority(admission: &Admission<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = path::text(pod, &["spec", "priorityClassName"]).to_owned();
    let class =
        if name.is_empty() { default_class(admission).await } else { Some(class(admission, &name).await?) };
    let value = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    let given = path::integer(pod, &["spec", "priority"]);
    if given.is_some_and(|given| given != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name",
            given.unwrap_or_default()
        );
        return Err(admission.forbidden(kube_types::meta::name(pod), &why));
    }
    if let (true, Some(class)) = (name.is_empty(), &class) {
        path::set(pod, &["spec", "priorityClassName"], class["metadata"]["name"].clone());
    }
    path::set(pod, &["spec", "priority"], json!(value));
    let policy = class.as_ref().map_or("", |c| path::text(c, &["preemptionPolicy"]));
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
    if path::text(pod, &["spec", "preemptionPolicy"]).is_empty() {
        path::set(pod, &["spec", "preemptionPolicy"], json!(policy));
    }
    Ok(())
}

async fn class(admission: &Admission<'_>, name: &str) -> Result<Value, Status> {
    let stored = admission.server.read(&format!("/registry/priorityclasses/{name}")).await?;
    let missing = || {
        Status::forbidden(
            &GroupResource::new("", "pods"),
            "",
            &format!("no PriorityClass with name {name} was found"),
        )
    };
    stored.map(|s| s.value).ok_or_else(missing)
}

async fn default_class(admission: &Admission<'_>) -> Option<Value> {
    let server = admission.server;
    let kind = GroupVersionKind::new("scheduling.k8s.io", "v1", "PriorityClass");
    let cache = server.cache(server.registry.by_kind(&kind)?);
    cache.fresh(1).await;
    let classes = cache.list("", None).items.into_iter().map(|item| item.value());
    // When several claim to be the default, the lowest one is.
    classes.filter(|c| c["globalDefault"] == json!(true)).min_by_key(|c| c["value"].as_i64())
}

/// Pods tolerate a node's absence for five minutes unless they say otherwise.
pub(super) fn tolerations(pod: &mut Value) {
    let mut tolerations = path::items(pod, &["spec", "tolerations"]).to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = |t: &Value| {
            let of_key = [key, ""].contains(&path::text(t, &["key"]));
            of_key && ["NoExecute", ""].contains(&path::text(t, &["effect"]))
        };
        if !tolerations.iter().any(tolerates) {
            tolerations.push(json!({
                "effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": TOLERATION_S,
            }));
        }
    }
    path::set(pod, &["spec", "tolerations"], tolerations.into());
}
