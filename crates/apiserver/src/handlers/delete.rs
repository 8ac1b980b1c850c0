//! DELETE and deletecollection: preconditions, propagation, grace, finalizers.

use std::sync::Arc;

use http::StatusCode;
use kube_types::registry::Resource;
use kube_types::status::{Details, FieldError, Reason, Status};
use kube_types::strategy::Propagation as Default_;
use kube_types::{meta, path, time};
use serde_json::{Value, json};

use super::select::Selection;
use super::shape::Look;
use super::{body, list, options, write};
use crate::admission::{self, Admission, Operation};
use crate::allocators;
use crate::http::respond::{self, Answer};
use crate::objects::Stored;
use crate::server::{Request, Server};

const ATTEMPTS: usize = 8;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What happens to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`, from the body and the query.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    grace_s: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

impl Options {
    /// Of a request.
    pub(crate) fn read(rq: &Request) -> Result<Self, Status> {
        Self::parse(&body::delete_options(rq)?, rq)
    }

    /// Of a DeleteOptions object, with the query where the object is silent.
    pub(crate) fn parse(sent: &Value, rq: &Request) -> Result<Self, Status> {
        let text = |at: &[&str], name: &str| {
            let sent = path::text(sent, at);
            if sent.is_empty() { rq.query.text(name).unwrap_or_default().to_owned() } else { sent.to_owned() }
        };
        let from_query = rq.query.text("gracePeriodSeconds").map(str::parse::<i64>).transpose();
        let from_query = from_query.map_err(|e| Status::bad_request(format!("gracePeriodSeconds: {e}")))?;
        let orphans = sent["orphanDependents"]
            .as_bool()
            .or_else(|| rq.query.has("orphanDependents").then(|| rq.query.flag("orphanDependents")));
        let dry = path::items(sent, &["dryRun"]).iter().filter_map(Value::as_str);
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            grace_s: sent["gracePeriodSeconds"].as_i64().or(from_query),
            propagation: propagation(&text(&["propagationPolicy"], "propagationPolicy"), orphans)?,
            uid: set(path::text(sent, &["preconditions", "uid"])),
            version: set(path::text(sent, &["preconditions", "resourceVersion"])),
            dry_run: options::dry_run("DeleteOptions", dry.chain(rq.query.all("dryRun")))?,
        })
    }

    fn check(&self, resource: &Resource, object: &Value) -> Result<(), Status> {
        let refused = |what: &str, wanted: &str, found: &str| {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            Err(Status::conflict(&resource.group_resource(), meta::name(object), &why))
        };
        match (&self.uid, &self.version) {
            (Some(uid), _) if uid != meta::uid(object) => refused("UID", uid, meta::uid(object)),
            (_, Some(version)) if version != meta::resource_version(object) => {
                refused("ResourceVersion", version, meta::resource_version(object))
            }
            _ => Ok(()),
        }
    }
}

fn propagation(text: &str, orphans: Option<bool>) -> Result<Option<Propagation>, Status> {
    let policy = match text {
        "" => None,
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        "Orphan" => Some(Propagation::Orphan),
        other => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            let error = FieldError::not_supported("propagationPolicy", other, &supported);
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
        }
    };
    match (policy, orphans) {
        (Some(_), Some(_)) => {
            let text = "orphanDependents and deletionPropagation cannot be both set";
            let error = FieldError::invalid("propagationPolicy", text, text);
            Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]))
        }
        (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) => Ok(Some(Propagation::Background)),
        (policy, None) => Ok(policy),
    }
}

/// What a delete came to.
pub(crate) enum Deleted {
    /// The object is gone.
    Gone(Value),
    /// It stays until its finalizers or its node let go of it.
    Going(Value),
}

/// DELETE of one object.
pub(crate) async fn delete(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let options = Options::read(rq)?;
    let namespace = rq.target.namespace_of(resource);
    let name = rq.target.name.clone();
    match one(server, rq, resource, &namespace, &name, &options).await? {
        Deleted::Gone(object) if !returns_object(resource) => {
            let details = Details {
                name,
                group: resource.gvk.group.to_string(),
                kind: resource.plural.to_string(),
                uid: meta::uid(&object).to_owned(),
                ..Details::default()
            };
            let status = Status::success(Some(details));
            Ok(respond::object(StatusCode::OK, look.accepted.format, &status.to_value()))
        }
        Deleted::Gone(object) | Deleted::Going(object) => Ok(look.object(StatusCode::OK, resource, object)),
    }
}

/// Kinds whose deletion answers with the object even when it is gone (upstream's ReturnDeletedObject).
fn returns_object(resource: &Resource) -> bool {
    ["Pod", "Service", "ServiceAccount"].iter().any(|kind| write::is_core(resource, kind))
}

/// DELETE of everything that matches; answers the list of what was deleted.
pub(crate) async fn collection(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let options = Options::read(rq)?;
    let selection = Selection::parse(resource, &rq.query, "")?;
    let namespace = rq.target.namespace.clone();
    let items = list::all(server, resource, &namespace, &selection).await?;
    for item in &items {
        match one(server, rq, resource, &item.namespace, &item.name, &options).await {
            Ok(_) => {}
            Err(status) if status.reason() == Reason::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    let metadata = json!({ "resourceVersion": server.revision().to_string() });
    look.list(resource, metadata, &items)
}

/// Deletes one object, or begins to.
pub(crate) async fn one(
    server: &Arc<Server>,
    rq: &mut Request,
    resource: &Arc<Resource>,
    namespace: &str,
    name: &str,
    options: &Options,
) -> Result<Deleted, Status> {
    let key = resource.key(namespace, name);
    for _ in 0..ATTEMPTS {
        let current = server.read(&key).await?;
        let mut current = current.ok_or_else(|| Status::not_found(&resource.group_resource(), name))?;
        current.value = super::shape::to_served(resource, current.value);
        options.check(resource, &current.value)?;
        let admission = Admission {
            server,
            user: &rq.user,
            resource,
            subresource: None,
            operation: Operation::Delete,
            old: Some(&current.value),
        };
        let mut object = current.value.clone();
        admission::admit(&admission, &mut object, &mut rq.warnings).await?;
        let stays = mark(server, resource, &mut object, options);
        if options.dry_run {
            return Ok(if stays { Deleted::Going(object) } else { Deleted::Gone(object) });
        }
        if let Some(deleted) = commit(server, resource, &key, &current, object, stays).await? {
            return Ok(deleted);
        }
    }
    Err(Status::modified(&resource.group_resource(), name))
}

async fn commit(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    key: &str,
    current: &Stored,
    mut object: Value,
    stays: bool,
) -> Result<Option<Deleted>, Status> {
    if !stays {
        let along = allocators::on_delete(resource, &current.value);
        let done = write::remove(server, key, current.revision, &mut object, along).await?;
        return Ok(done.then_some(Deleted::Gone(object)));
    }
    if object == current.value {
        return Ok(Some(Deleted::Going(object)));
    }
    let done =
        write::replace(server, resource, key, current.revision, &mut object, write::Along::default()).await?;
    Ok(done.then_some(Deleted::Going(object)))
}

/// Puts the marks of deletion into the object. True when it stays for now.
fn mark(server: &Server, resource: &Resource, object: &mut Value, options: &Options) -> bool {
    let grace_s = grace(resource, object, options);
    propagate(resource, object, options);
    let held = !meta::finalizers(object).is_empty() || write::has_namespace_finalizers(resource, object);
    if grace_s == 0 && !held {
        return false;
    }
    let known = path::integer(object, &["metadata", "deletionGracePeriodSeconds"]);
    if meta::is_deleting(object) && known.is_none_or(|known| known <= grace_s) {
        // A second delete may shorten the time, never lengthen it.
        return true;
    }
    let at = server.now_micros() + grace_s * 1_000_000;
    path::set(object, &["metadata", "deletionTimestamp"], json!(time::format_seconds(at)));
    path::set(object, &["metadata", "deletionGracePeriodSeconds"], json!(grace_s));
    if resource.strategy.generation && meta::generation(object) > 0 {
        let generation = meta::generation(object) + 1;
        path::set(object, &["metadata", "generation"], json!(generation));
    }
    if write::is_core(resource, "Namespace") {
        path::set(object, &["status", "phase"], json!("Terminating"));
    }
    true
}

/// Seconds the object has left: zero for all but running pods that sit on a node.
fn grace(resource: &Resource, pod: &Value, options: &Options) -> i64 {
    const DEFAULT_S: i64 = 30;
    if !resource.strategy.graceful_delete {
        return 0;
    }
    let ended = matches!(path::text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    if ended || path::text(pod, &["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let of_spec = path::integer(pod, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(DEFAULT_S);
    match options.grace_s.unwrap_or(of_spec) {
        // Negative means: as little as possible, but let the node know.
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn propagate(resource: &Resource, object: &mut Value, options: &Options) {
    let existing: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    let has = |f: &str| existing.iter().any(|e| e == f);
    let policy = options.propagation.unwrap_or({
        // What is asked for stays asked for, when a second delete says nothing.
        match resource.strategy.default_propagation {
            _ if has(ORPHAN) => Propagation::Orphan,
            _ if has(FOREGROUND) => Propagation::Foreground,
            Default_::Orphan => Propagation::Orphan,
            Default_::Background => Propagation::Background,
        }
    });
    let wanted = match policy {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let mut finalizers: Vec<String> =
        existing.into_iter().filter(|f| f != ORPHAN && f != FOREGROUND).collect();
    finalizers.extend(wanted.map(str::to_owned));
    if finalizers.is_empty() {
        path::remove(object, &["metadata", "finalizers"]);
    } else {
        path::set(object, &["metadata", "finalizers"], json!(finalizers));
    }
}
