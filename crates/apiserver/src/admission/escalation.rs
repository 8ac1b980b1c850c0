//! Nobody grants more than they hold (RBAC's privilege escalation prevention).

use kube_types::status::Status;
use kube_types::{meta, path};
use serde::Deserialize as _;
use serde_json::Value;

use super::{Admission, Operation};
use crate::auth::{Attributes, Rule};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) async fn admit(admission: &Admission<'_>, object: &Value) -> Result<(), Status> {
    if &*admission.resource.gvk.group != GROUP || admission.operation == Operation::Delete {
        return Ok(());
    }
    // Only what is granted counts, not labels.
    let granted =
        |o: &Value| ["rules", "aggregationRule", "roleRef", "subjects"].map(|key| o.get(key).cloned());
    if admission.old.is_some_and(|old| granted(old) == granted(object)) {
        return Ok(());
    }
    match &*admission.resource.gvk.kind {
        "Role" | "ClusterRole" => role(admission, object).await,
        _ => binding(admission, object).await,
    }
}

async fn role(admission: &Admission<'_>, object: &Value) -> Result<(), Status> {
    if may(admission, "escalate", &admission.resource.plural, meta::namespace(object), meta::name(object))
        .await
    {
        return Ok(());
    }
    let rules = object.get("rules").cloned().unwrap_or_default();
    let mut rules = Option::<Vec<Rule>>::deserialize(rules).unwrap_or_default().unwrap_or_default();
    if object.get("aggregationRule").is_some_and(|a| !a.is_null()) {
        // What it will collect is not known yet, so it counts as everything.
        rules.push(Rule::resources(&["*"], &["*"], &["*"]));
    }
    held(admission, object, &rules).await
}

async fn binding(admission: &Admission<'_>, object: &Value) -> Result<(), Status> {
    let (kind, name) = (path::text(object, &["roleRef", "kind"]), path::text(object, &["roleRef", "name"]));
    let (plural, namespace) = match kind {
        "ClusterRole" => ("clusterroles", ""),
        _ => ("roles", meta::namespace(object)),
    };
    if may(admission, "bind", plural, meta::namespace(object), name).await {
        return Ok(());
    }
    let server = admission.server;
    let rules = server.rbac().role(namespace, name, server.revision()).await;
    let rules = rules
        .ok_or_else(|| Status::not_found(&kube_types::registry::GroupResource::new(GROUP, plural), name))?;
    held(admission, object, &rules).await
}

async fn may(admission: &Admission<'_>, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let wanted = Attributes { verb, group: GROUP, resource, namespace, name, ..Attributes::default() };
    admission.server.rbac().allows(admission.user, &wanted, 0).await
}

async fn held(admission: &Admission<'_>, object: &Value, rules: &[Rule]) -> Result<(), Status> {
    let server = admission.server;
    let held = server.rbac().rules(admission.user, meta::namespace(object), server.revision()).await;
    let missing: Vec<Rule> = rules.iter().flat_map(|rule| rule.uncovered(&held)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let user = admission.user;
    let shown: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        user.groups,
        shown.join("\n")
    );
    Err(admission.forbidden(meta::name(object), &why))
}
