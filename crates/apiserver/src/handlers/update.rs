//! PUT, and the loop that every change of an existing object goes through.
//!
//! ```text
//! read ─▶ compute the new object ─▶ preconditions ─ default ─ prepare ─ admit ─ validate ─ manage fields ─▶ txn
//!   ▲                                              │ nothing changed: answer what is there                │
//!   └──────────────────────── it changed meanwhile: again, unless the client named a version ◀────────────┘
//! ```

use std::sync::Arc;

use http::StatusCode;
use kube_types::apply::{self, Manager};
use kube_types::registry::Resource;
use kube_types::status::{FieldError, Status};
use kube_types::{defaults, meta, strategy, validate};
use serde_json::Value;

use super::create::{self, Beginning};
use super::shape::{self, Look};
use super::{body, options, write};
use crate::admission::{self, Admission, Operation};
use crate::allocators;
use crate::http::respond::Answer;
use crate::objects::Stored;
use crate::server::{Request, Server};

/// Times a change is computed anew when the object changed meanwhile (upstream's limit for patches).
const ATTEMPTS: usize = 5;

/// A change of one object.
pub(crate) struct Change<'a> {
    pub(crate) resource: &'a Arc<Resource>,
    pub(crate) subresource: Option<&'a str>,
    /// The field manager of an ordinary write; None when `compute` minds managed fields itself (apply).
    pub(crate) manager: Option<&'a str>,
    pub(crate) dry_run: bool,
    /// A conflict is the client's to solve: it named a version.
    pub(crate) conditional: bool,
}

/// What a change came to.
pub(crate) struct Changed {
    pub(crate) object: Value,
}

/// PUT of an object or of one of its subresources.
pub(crate) async fn update(
    server: &Arc<Server>,
    rq: &mut Request,
    resource: &Arc<Resource>,
    subresource: Option<&str>,
) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let dry_run = options::dry_run("UpdateOptions", rq.query.all("dryRun"))?;
    let manager = body::field_manager(rq)?;
    let mut object = body::object(rq, &resource.schema, &resource.gvk)?;
    body::place(&mut object, rq, resource, true)?;
    let version = meta::resource_version(&object).to_owned();
    let given = !version.is_empty() && version != "0";
    if !given && !resource.strategy.allow_unconditional_update && subresource.is_none() {
        let missing = server.read(&key(rq, resource)).await?.is_none();
        if !(missing && resource.strategy.allow_create_on_update) {
            // Go prints the unset number so, and clients compare texts.
            let mut error =
                FieldError::invalid("metadata.resourceVersion", 0, "0x0: must be specified for an update");
            error.value = None;
            return Err(Status::invalid(&resource.gvk.group, &resource.gvk.kind, &rq.target.name, &[error]));
        }
    }
    let change = Change { resource, subresource, manager: Some(&manager), dry_run, conditional: given };
    let compute = |_: &mut Request, _: &Value| Ok(object.clone());
    let changed = run(server, rq, &change, compute).await;
    match changed {
        Ok(changed) => Ok(look.object(StatusCode::OK, resource, changed.object)),
        Err(status)
            if status.code() == 404
                && resource.strategy.allow_create_on_update
                && subresource.is_none()
                && !given =>
        {
            let beginning = Beginning { object, manager: Some(manager), dry_run };
            let object = create::begin(server, rq, resource, beginning).await?;
            Ok(look.object(StatusCode::CREATED, resource, object))
        }
        Err(status) => Err(status),
    }
}

pub(crate) fn key(rq: &Request, resource: &Resource) -> String {
    resource.key(&rq.target.namespace_of(resource), &rq.target.name)
}

/// Changes the object the request names. `compute` gets the current object in its served form.
pub(crate) async fn run<F>(
    server: &Arc<Server>,
    rq: &mut Request,
    change: &Change<'_>,
    compute: F,
) -> Result<Changed, Status>
where
    F: Fn(&mut Request, &Value) -> Result<Value, Status>,
{
    let resource = change.resource;
    let key = key(rq, resource);
    for _ in 0..ATTEMPTS {
        let current = server.read(&key).await?;
        let current =
            current.ok_or_else(|| Status::not_found(&resource.group_resource(), &rq.target.name))?;
        let current = Stored { value: shape::to_served(resource, current.value), ..current };
        let warnings = rq.warnings.len();
        let new = compute(rq, &current.value)?;
        let new = prepare(server, rq, change, &current, new).await?;
        if apply::is_noop(&current.value, &new) {
            return Ok(Changed { object: current.value });
        }
        if change.dry_run {
            let mut new = new;
            crate::objects::set_revision(&mut new, current.revision);
            return Ok(Changed { object: new });
        }
        if let Some(object) = commit(server, resource, &key, &current, new).await? {
            return Ok(Changed { object });
        }
        if change.conditional {
            break;
        }
        rq.warnings.truncate(warnings);
    }
    Err(Status::modified(&resource.group_resource(), &rq.target.name))
}

async fn prepare(
    server: &Arc<Server>,
    rq: &mut Request,
    change: &Change<'_>,
    current: &Stored,
    mut new: Value,
) -> Result<Value, Status> {
    let (resource, old) = (change.resource, &current.value);
    check_preconditions(resource, &new, current)?;
    // From here on both carry the current version, so that only real differences count.
    crate::objects::set_revision(&mut new, current.revision);
    defaults::apply(resource, &mut new);
    strategy::prepare_for_update(resource, change.subresource, &mut new, old);
    allocators::keep(resource, &mut new, old);
    let admission = Admission {
        server,
        user: &rq.user,
        resource,
        subresource: change.subresource,
        operation: Operation::Update,
        old: Some(old),
    };
    admission::admit(&admission, &mut new, &mut rq.warnings).await?;
    let errors = validate::update(resource, change.subresource, &new, old);
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.gvk.group, &resource.gvk.kind, &rq.target.name, &errors));
    }
    if let Some(name) = change.manager {
        let api_version = resource.api_version();
        let subresource = change.subresource.unwrap_or_default();
        let manager =
            Manager { name, api_version: &api_version, subresource, now_micros: server.now_micros() };
        apply::track_update(&resource.schema, Some(old), &mut new, &manager);
    }
    Ok(new)
}

/// The version and uid in the object are conditions.
fn check_preconditions(resource: &Resource, new: &Value, current: &Stored) -> Result<(), Status> {
    let name = meta::name(&current.value);
    let version = meta::resource_version(new);
    if !version.is_empty() && version != "0" && version != current.revision.to_string() {
        return Err(Status::modified(&resource.group_resource(), name));
    }
    let (wanted, uid) = (meta::uid(new), meta::uid(&current.value));
    if !wanted.is_empty() && wanted != uid {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
        return Err(Status::conflict(&resource.group_resource(), name, &why));
    }
    Ok(())
}

/// Stores the change, or removes the object when its last finalizer is gone. None: it changed meanwhile.
async fn commit(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    key: &str,
    current: &Stored,
    mut new: Value,
) -> Result<Option<Value>, Status> {
    let done = if write::is_finished(resource, &new) {
        let along = allocators::on_delete(resource, &current.value);
        write::remove(server, key, current.revision, &mut new, along).await?
    } else {
        let along = allocators::on_update(server, resource, &mut new, &current.value).await?;
        write::replace(server, resource, key, current.revision, &mut new, along).await?
    };
    Ok(done.then_some(new))
}
