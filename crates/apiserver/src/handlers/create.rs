//! POST of an object, and every other way an object begins (PUT and apply of a name that is not there).

use std::sync::Arc;

use http::StatusCode;
use kube_types::apply::{self, Manager};
use kube_types::registry::Resource;
use kube_types::status::Status;
use kube_types::{defaults, meta, strategy, validate};
use serde_json::Value;

use super::shape::Look;
use super::{body, options, write};
use crate::admission::{self, Admission, Operation};
use crate::allocators;
use crate::http::respond::Answer;
use crate::server::{Request, Server};

/// Names tried for `generateName` before giving up (upstream since 1.30).
const NAME_ATTEMPTS: usize = 8;
/// Times an allocation is tried again when someone else took the address first.
const ALLOCATION_ATTEMPTS: usize = 16;

/// How an object begins.
pub(crate) struct Beginning {
    pub(crate) object: Value,
    /// The field manager of an ordinary write; None when managed fields are in place already (apply).
    pub(crate) manager: Option<String>,
    pub(crate) dry_run: bool,
}

/// POST of an object.
pub(crate) async fn create(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let dry_run = options::dry_run("CreateOptions", rq.query.all("dryRun"))?;
    let manager = Some(body::field_manager(rq)?);
    let mut object = body::object(rq, &resource.schema, &resource.gvk)?;
    if meta::resource_version(&object).parse::<u64>().is_ok_and(|v| v != 0) {
        return Err(Status::resource_version_on_create());
    }
    body::place(&mut object, rq, resource, false)?;
    let object = begin(server, rq, resource, Beginning { object, manager, dry_run }).await?;
    Ok(look.object(StatusCode::CREATED, resource, object))
}

/// Runs the pipeline and stores the object; gives it back as stored, in the served form.
pub(crate) async fn begin(
    server: &Arc<Server>,
    rq: &mut Request,
    resource: &Arc<Resource>,
    beginning: Beginning,
) -> Result<Value, Status> {
    let Beginning { mut object, manager, dry_run } = beginning;
    defaults::apply(resource, &mut object);
    let named = !meta::name(&object).is_empty();
    if !named && meta::generate_name(&object).is_empty() {
        let error =
            kube_types::status::FieldError::required("metadata.name", "name or generateName is required");
        return Err(Status::invalid(&resource.gvk.group, &resource.gvk.kind, "", &[error]));
    }
    for attempt in 1.. {
        let mut candidate = object.clone();
        meta::fill_for_create(&mut candidate, &server.uid(), server.now_micros(), server.random());
        match prepared(server, rq, resource, candidate, manager.as_deref(), dry_run).await {
            Err(status) if !named && attempt < NAME_ATTEMPTS && status.is_already_exists() => {}
            other => return other,
        }
    }
    Err(Status::internal("no name was free"))
}

trait Exists {
    fn is_already_exists(&self) -> bool;
}

impl Exists for Status {
    fn is_already_exists(&self) -> bool {
        self.reason() == kube_types::status::Reason::AlreadyExists
    }
}

async fn prepared(
    server: &Arc<Server>,
    rq: &mut Request,
    resource: &Arc<Resource>,
    mut object: Value,
    manager: Option<&str>,
    dry_run: bool,
) -> Result<Value, Status> {
    let admission = Admission {
        server,
        user: &rq.user,
        resource,
        subresource: None,
        operation: Operation::Create,
        old: None,
    };
    admission::admit(&admission, &mut object, &mut rq.warnings).await?;
    defaults::apply(resource, &mut object);
    strategy::prepare_for_create(resource, &mut object);
    let errors = validate::create(resource, &object);
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.gvk.group, &resource.gvk.kind, meta::name(&object), &errors));
    }
    if let Some(name) = manager {
        let api_version = resource.api_version();
        let manager =
            Manager { name, api_version: &api_version, subresource: "", now_micros: server.now_micros() };
        apply::track_update(&resource.schema, None, &mut object, &manager);
    }
    store(server, resource, object, dry_run).await
}

async fn store(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    object: Value,
    dry_run: bool,
) -> Result<Value, Status> {
    let key = resource.key(meta::namespace(&object), meta::name(&object));
    let exists = || Status::already_exists(&resource.group_resource(), meta::name(&object));
    if dry_run {
        return if server.read(&key).await?.is_some() { Err(exists()) } else { Ok(object) };
    }
    for _ in 0..ALLOCATION_ATTEMPTS {
        let mut allocated = object.clone();
        let along = allocators::on_create(server, resource, &mut allocated).await?;
        let alone = along.ops.is_empty();
        if write::insert(server, resource, &key, &mut allocated, along).await? {
            return Ok(allocated);
        }
        if alone || server.read(&key).await?.is_some() {
            return Err(exists());
        }
    }
    Err(Status::too_many_requests("addresses are being allocated by others; try again", 1))
}
