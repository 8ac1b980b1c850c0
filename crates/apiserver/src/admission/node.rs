//! NodeRestriction: a node agent writes only what is its node's.

use kube_types::status::Status;
use kube_types::{meta, path};
use serde_json::Value;

use super::{Admission, Operation};

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn admit(admission: &Admission<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = crate::auth::node::of(admission.user) else { return Ok(()) };
    let resource = admission.resource;
    let why = match (&*resource.gvk.group, &*resource.gvk.kind) {
        ("", "Pod") => pod(admission, object, node),
        ("", "Node") => (meta::name(object) != node)
            .then(|| format!("node {node:?} is not allowed to modify node {:?}", meta::name(object))),
        ("coordination.k8s.io", "Lease") => lease(object, node),
        _ => None,
    };
    why.map_or(Ok(()), |why| Err(admission.forbidden(meta::name(object), &why)))
}

fn pod(admission: &Admission<'_>, object: &Value, node: &str) -> Option<String> {
    let on = path::text(object, &["spec", "nodeName"]);
    match admission.operation {
        Operation::Create if meta::annotation(object, MIRROR).is_none() => Some(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        )),
        Operation::Update if admission.subresource != Some("status") => {
            Some(format!("node {node:?} can only update pod status"))
        }
        _ if on != node => {
            Some(format!("node {node:?} can only write pods with spec.nodeName set to itself"))
        }
        _ => None,
    }
}

fn lease(object: &Value, node: &str) -> Option<String> {
    if meta::namespace(object) != "kube-node-lease" {
        return Some("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    (meta::name(object) != node)
        .then(|| "can only access node lease with the same name as the requesting node".into())
}
