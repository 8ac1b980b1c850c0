//! NamespaceLifecycle: nothing begins in a namespace that is not there or is ending; some never end.

use kube_types::registry::GroupResource;
use kube_types::status::Status;
use kube_types::{meta, path};
use serde_json::Value;

use super::{Admission, Operation};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) async fn admit(admission: &Admission<'_>, object: &Value) -> Result<(), Status> {
    if admission.is(Operation::Delete, "Namespace") && IMMORTAL.contains(&meta::name(object)) {
        return Err(admission.forbidden(meta::name(object), "this namespace may not be deleted"));
    }
    if admission.operation != Operation::Create || !admission.resource.namespaced {
        return Ok(());
    }
    let name = meta::namespace(object);
    let Some(namespace) = find(admission, name).await? else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), name));
    };
    if path::text(&namespace, &["status", "phase"]) != "Terminating" && !meta::is_deleting(&namespace) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = format!("namespace {name} is being terminated");
    Err(admission.forbidden(meta::name(object), &why).with_cause(
        "NamespaceTerminating",
        cause,
        "metadata.namespace",
    ))
}

async fn find(admission: &Admission<'_>, name: &str) -> Result<Option<Value>, Status> {
    // Straight from the store: one small read, and always current.
    let stored = admission.server.read(&format!("/registry/namespaces/{name}")).await?;
    Ok(stored.map(|s| s.value))
}
