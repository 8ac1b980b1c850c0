//! PATCH: JSON patch, merge patch, strategic merge patch, server-side apply.

use std::sync::Arc;

use http::StatusCode;
use kube_types::apply::{self, Manager};
use kube_types::decode::{self, FieldValidation, MediaType};
use kube_types::registry::Resource;
use kube_types::schema::SchemaRef;
use kube_types::status::{FieldError, Reason, Status};
use kube_types::{meta, patch};
use serde_json::Value;

use super::create::{self, Beginning};
use super::shape::Look;
use super::update::{self, Change};
use super::{body, options};
use crate::http::respond::Answer;
use crate::server::{Request, Server};

/// Operations of one JSON patch (upstream's limit).
const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// A patch as it was sent.
pub(crate) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply { config: Value, force: bool },
}

/// PATCH of an object or of one of its subresources.
pub(crate) async fn patch(
    server: &Arc<Server>,
    rq: &mut Request,
    resource: &Arc<Resource>,
    subresource: Option<&str>,
) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let dry_run = options::dry_run("PatchOptions", rq.query.all("dryRun"))?;
    let patch = read(rq)?;
    let manager = body::field_manager(rq)?;
    let validation = body::field_validation(&rq.query)?;
    let api_version = resource.api_version();
    let now_micros = server.now_micros();
    let who = Manager {
        name: &manager,
        api_version: &api_version,
        subresource: subresource.unwrap_or_default(),
        now_micros,
    };
    let applies = matches!(patch, Patch::Apply { .. });
    let conditional = patch.names_version();
    let change =
        Change { resource, subresource, manager: (!applies).then_some(&*manager), dry_run, conditional };
    let compute = |rq: &mut Request, live: &Value| patched(rq, resource, &patch, live, &who, validation);
    match update::run(server, rq, &change, &compute).await {
        Ok(changed) => Ok(look.object(StatusCode::OK, resource, changed.object)),
        Err(status) if status.code() == 404 && applies && subresource.is_none() => {
            let Patch::Apply { config, force } = &patch else { return Err(status) };
            if !meta::resource_version(config).is_empty() {
                return Err(status);
            }
            let object = apply::server_side_apply(&resource.schema, None, config, &who, *force)?;
            let decoded = decode::normalize(&resource.gvk, &resource.schema, object, validation)?;
            rq.warnings.extend(decoded.warnings);
            let mut object = decoded.value;
            body::place(&mut object, rq, resource, true)?;
            let beginning = Beginning { object, manager: None, dry_run };
            match create::begin(server, rq, resource, beginning).await {
                Ok(object) => Ok(look.object(StatusCode::CREATED, resource, object)),
                // Somebody was faster: then it is there to be changed.
                Err(status) if status.reason() == Reason::AlreadyExists => {
                    let changed = update::run(server, rq, &change, compute).await?;
                    Ok(look.object(StatusCode::OK, resource, changed.object))
                }
                Err(status) => Err(status),
            }
        }
        Err(status) => Err(status),
    }
}

/// Reads the patch; its type is the content type.
pub(crate) fn read(rq: &mut Request) -> Result<Patch, Status> {
    let force = rq.query.flag("force");
    let content_type = body::essence(rq.header("content-type")).to_owned();
    if force && content_type != "application/apply-patch+yaml" {
        return Err(invalid_options(FieldError::forbidden(
            "force",
            "may not be specified for non-apply patch",
        )));
    }
    match content_type.as_str() {
        "application/json-patch+json" => {
            let patch = untyped(rq)?;
            if patch.as_array().is_some_and(|a| a.len() > JSON_PATCH_OPERATIONS_MAX) {
                let text =
                    format!("The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}");
                return Err(Status::too_large(&text));
            }
            Ok(Patch::Json(patch))
        }
        "application/merge-patch+json" => untyped(rq).map(Patch::Merge),
        "application/strategic-merge-patch+json" => untyped(rq).map(Patch::Strategic),
        "application/apply-patch+yaml" => read_apply(rq, force),
        _ => Err(body::unsupported_patch()),
    }
}

fn untyped(rq: &Request) -> Result<Value, Status> {
    decode::decode_untyped(&rq.body, MediaType::Json)
}

fn read_apply(rq: &mut Request, force: bool) -> Result<Patch, Status> {
    if rq.query.text("fieldManager").is_none() {
        return Err(invalid_options(FieldError::required("fieldManager", "is required for apply patch")));
    }
    let validation = body::field_validation(&rq.query)?;
    // What the schema does not have is the apply's to report, with the texts of apply.
    let decoded = decode::decode_apply(&rq.body, validation)?;
    rq.warnings.extend(decoded.warnings);
    let managed = kube_types::path::get(&decoded.value, &["metadata", "managedFields"]);
    if managed.is_some_and(|m| !kube_types::path::is_empty(m)) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let mut config = decoded.value;
    if meta::name(&config).is_empty() {
        kube_types::path::set(&mut config, &["metadata", "name"], rq.target.name.clone().into());
    }
    Ok(Patch::Apply { config, force })
}

fn invalid_options(error: FieldError) -> Status {
    Status::invalid("meta.k8s.io", "PatchOptions", "", &[error])
}

/// The live object with the patch applied, in the schema's shape.
fn patched(
    rq: &mut Request,
    resource: &Resource,
    patch: &Patch,
    live: &Value,
    who: &Manager<'_>,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let value = patch.apply(&resource.schema, live, who)?;
    let decoded =
        decode::normalize(&resource.gvk, &resource.schema, value, validation).map_err(unprocessable)?;
    rq.warnings.extend(decoded.warnings);
    let mut object = decoded.value;
    body::place(&mut object, rq, resource, true)?;
    Ok(object)
}

/// A patch that makes something of the wrong shape is 422, unlike a body of the wrong shape.
fn unprocessable(status: Status) -> Status {
    match status.message().contains("strict decoding error") {
        true => status,
        false => Status::failure(422, Reason::Invalid, status.message()),
    }
}

impl Patch {
    /// The patched object, not yet checked against the schema.
    pub(crate) fn apply(&self, schema: &SchemaRef, live: &Value, who: &Manager<'_>) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => patch::json_patch(live, patch),
            Self::Merge(patch) => patch::merge_patch(live, patch),
            Self::Strategic(patch) => patch::strategic_merge(schema, live, patch),
            Self::Apply { config, force } => {
                apply::server_side_apply(schema, Some(live), config, who, *force)
            }
        }
    }

    /// Whether the patch itself says which version it is for.
    fn names_version(&self) -> bool {
        match self {
            Self::Json(patch) => {
                let paths = patch.as_array().into_iter().flatten();
                paths.filter_map(|op| op["path"].as_str()).any(|p| p == "/metadata/resourceVersion")
            }
            Self::Merge(patch) | Self::Strategic(patch) => !meta::resource_version(patch).is_empty(),
            Self::Apply { config, .. } => !meta::resource_version(config).is_empty(),
        }
    }
}
