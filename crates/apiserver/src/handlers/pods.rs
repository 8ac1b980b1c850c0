//! What only pods have: binding, eviction, log, exec.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::StatusCode;
use kube_types::registry::Resource;
use kube_types::status::Status;
use kube_types::{meta, path, time};
use serde_json::{Value, json};

use super::{body, delete, update, write};
use crate::auth::Attributes;
use crate::http::respond::{self, Answer};
use crate::kubelet::{self, Place};
use crate::server::{Request, Server};

const ATTEMPTS: usize = 5;
/// What a log request may say; everything else is dropped before the kubelet sees it.
const LOG_PARAMETERS: [&str; 8] =
    ["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];
const EXEC_PARAMETERS: [&str; 5] = ["command", "stdin", "stdout", "stderr", "tty"];

/// Warnings about a new pod.
pub(crate) fn warnings(pod: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, container) in path::items(pod, &["spec", "containers"]).iter().enumerate() {
        let names: Vec<&str> =
            path::items(container, &["env"]).iter().map(|e| path::text(e, &["name"])).collect();
        for (j, name) in names.iter().enumerate() {
            if names[..j].contains(name) {
                let at = format!("spec.containers[{i}].env[{j}]");
                warnings.push(format!(
                    "{at}: hides previous definition of {name:?}, which may be dropped when using apply"
                ));
            }
        }
    }
    warnings
}

/// POST `/binding`: the pod goes to a node, once.
pub(crate) async fn binding(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let Some(sub) = resource.subresource("binding") else { return Err(Status::no_such_resource()) };
    let binding = body::object(rq, &sub.schema, &sub.gvk)?;
    let node = path::text(&binding, &["target", "name"]).to_owned();
    if node.is_empty() {
        let error = kube_types::status::FieldError::required("target.name", "");
        return Err(Status::invalid("", "Binding", &rq.target.name, &[error]));
    }
    let dry_run = super::options::dry_run("CreateOptions", rq.query.all("dryRun"))?;
    let key = update::key(rq, resource);
    for _ in 0..ATTEMPTS {
        let current = server.read(&key).await?;
        let current =
            current.ok_or_else(|| Status::not_found(&resource.group_resource(), &rq.target.name))?;
        let mut pod = current.value;
        check_bindable(rq, &pod, &binding)?;
        bind(&mut pod, &binding, &node, server.now_micros());
        let along = write::Along::default();
        if dry_run || write::replace(server, resource, &key, current.revision, &mut pod, along).await? {
            return Ok(respond::json(StatusCode::CREATED, &Status::created().to_value()));
        }
    }
    Err(Status::modified(&resource.group_resource(), &rq.target.name))
}

fn check_bindable(rq: &Request, pod: &Value, binding: &Value) -> Result<(), Status> {
    let name = &rq.target.name;
    let conflict = |why: String| {
        let resource = kube_types::registry::GroupResource::new("", "pods/binding");
        Err(Status::conflict(&resource, name, &why))
    };
    let (wanted, uid) = (meta::uid(binding), meta::uid(pod));
    if !wanted.is_empty() && wanted != uid {
        return conflict(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        ));
    }
    if meta::is_deleting(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match path::text(pod, &["spec", "nodeName"]) {
        "" => Ok(()),
        node => conflict(format!("pod {name} is already assigned to node {node:?}")),
    }
}

fn bind(pod: &mut Value, binding: &Value, node: &str, now_micros: i64) {
    path::set(pod, &["spec", "nodeName"], json!(node));
    for (key, value) in meta::annotations(binding).into_iter().flatten() {
        path::set(pod, &["metadata", "annotations", key], value.clone());
    }
    let mut conditions = path::items(pod, &["status", "conditions"]).to_vec();
    conditions.retain(|c| c["type"] != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": time::format_seconds(now_micros),
    }));
    path::set(pod, &["status", "conditions"], conditions.into());
}

/// POST `/eviction`: a delete that a disruption budget may refuse; there are no budgets here yet.
pub(crate) async fn eviction(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let Some(sub) = resource.subresource("eviction") else { return Err(Status::no_such_resource()) };
    let eviction = body::object(rq, &sub.schema, &sub.gvk)?;
    let name = meta::name(&eviction);
    if !name.is_empty() && name != rq.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let sent = eviction.get("deleteOptions").cloned().unwrap_or_default();
    let options = delete::Options::parse(&sent, rq)?;
    let (namespace, name) = (rq.target.namespace.clone(), rq.target.name.clone());
    delete::one(server, rq, resource, &namespace, &name, &options).await?;
    Ok(respond::json(StatusCode::CREATED, &Status::created().to_value()))
}

/// GET `/log`.
pub(crate) async fn log(server: &Arc<Server>, rq: &mut Request) -> Answer {
    let pod = pod(server, rq).await?;
    let container = container(rq, &pod)?;
    let Some(place) = place(server, &pod).await? else {
        return Ok(respond::text(StatusCode::OK, ""));
    };
    let path = kubelet::path("containerLogs", &pod, &container, &rq.query, &LOG_PARAMETERS);
    server.kubelet.get(&place, &path).await
}

/// `/exec`: the client's WebSocket, joined with the kubelet's.
pub(crate) async fn exec(server: &Arc<Server>, rq: &mut Request) -> Answer {
    // Over a WebSocket the method is GET, the deed is still a create.
    let wanted = Attributes { verb: "create", ..Attributes::of(&rq.target) };
    if !server.rbac().allows(&rq.user, &wanted, server.revision()).await {
        return Err(wanted.forbidden(&rq.user));
    }
    let pod = pod(server, rq).await?;
    let container = container(rq, &pod)?;
    if matches!(path::text(&pod, &["status", "phase"]), "Succeeded" | "Failed") {
        let why = "cannot exec into a container in a completed pod; current phase is";
        return Err(Status::bad_request(format!("{why} {}", path::text(&pod, &["status", "phase"]))));
    }
    let Some(place) = place(server, &pod).await? else {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", rq.target.name)));
    };
    let path = kubelet::path("exec", &pod, &container, &rq.query, &EXEC_PARAMETERS);
    server.kubelet.upgrade(&place, &path, &mut rq.parts).await
}

async fn pod(server: &Arc<Server>, rq: &Request) -> Result<Value, Status> {
    let key = format!("/registry/pods/{}/{}", rq.target.namespace, rq.target.name);
    let missing =
        || Status::not_found(&kube_types::registry::GroupResource::new("", "pods"), &rq.target.name);
    server.read(&key).await?.map(|s| s.value).ok_or_else(missing)
}

/// The container asked for, or the only one there is.
fn container(rq: &Request, pod: &Value) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let containers = path::items(pod, &["spec", list]).iter();
        containers.map(|c| path::text(c, &["name"]).to_owned()).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let pod_name = &rq.target.name;
    if let Some(wanted) = rq.query.text("container") {
        let all = [&main[..], &init[..], &names("ephemeralContainers")[..]].concat();
        let missing = || Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}"));
        return if all.iter().any(|n| n == wanted) { Ok(wanted.to_owned()) } else { Err(missing()) };
    }
    if let [only] = main.as_slice() {
        return Ok(only.clone());
    }
    let mut text =
        format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", main.join(" "));
    if !init.is_empty() {
        text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    Err(Status::bad_request(text))
}

/// Where the pod's kubelet listens; None when the pod is on no node yet.
async fn place(server: &Arc<Server>, pod: &Value) -> Result<Option<Place>, Status> {
    const PORT: i64 = 10_250;
    let name = path::text(pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let node = server.read(&format!("/registry/minions/{name}")).await?;
    let missing = || Status::not_found(&kube_types::registry::GroupResource::new("", "nodes"), name);
    let node = node.ok_or_else(missing)?.value;
    let addresses = path::items(&node, &["status", "addresses"]);
    let internal = addresses.iter().find(|a| a["type"] == "InternalIP");
    let address = internal.and_then(|a| path::text(a, &["address"]).parse::<IpAddr>().ok());
    let address = address.ok_or_else(|| Status::internal(format!("node {name} has no internal address")))?;
    let port =
        path::integer(&node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or(PORT);
    let port = u16::try_from(port).map_err(|_| Status::internal(format!("node {name} has no valid port")))?;
    Ok(Some(Place { node: name.to_owned(), address: SocketAddr::new(address, port) }))
}
