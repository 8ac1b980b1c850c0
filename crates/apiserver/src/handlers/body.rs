//! Request bodies: which type, which kind, which options.

use kube_types::decode::{self, FieldValidation, MediaType};
use kube_types::meta;
use kube_types::registry::{GroupVersionKind, Resource};
use kube_types::schema::SchemaRef;
use kube_types::status::{FieldError, Reason, Status};
use serde_json::Value;

use crate::http::query::Query;
use crate::protobuf;
use crate::server::Request;

/// Media types of objects that are read here.
const OBJECTS: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// The body as an object of `kind`, checked against its schema; warnings go into the request.
pub(crate) fn object(rq: &mut Request, schema: &SchemaRef, kind: &GroupVersionKind) -> Result<Value, Status> {
    let validation = field_validation(&rq.query)?;
    let decoded = if is_protobuf(rq) {
        let value = protobuf::decode(&rq.body, kind).map_err(Status::bad_request)?;
        decode::normalize(kind, schema, value, validation)?
    } else {
        let media = media_type(rq.header("content-type"))?;
        decode::decode(kind, schema, &rq.body, media, validation)?
    };
    rq.warnings.extend(decoded.warnings);
    Ok(decoded.value)
}

fn is_protobuf(rq: &Request) -> bool {
    essence(rq.header("content-type")) == protobuf::MEDIA_TYPE
}

/// How the body is written.
pub(crate) fn media_type(content_type: &str) -> Result<MediaType, Status> {
    match essence(content_type) {
        "" | "application/json" => Ok(MediaType::Json),
        "application/yaml" | "text/yaml" | "application/x-yaml" => Ok(MediaType::Yaml),
        _ => Err(Status::unsupported_media_type(&OBJECTS)),
    }
}

/// A content type without its parameters.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// `fieldValidation`: Warn unless said otherwise.
pub(crate) fn field_validation(query: &Query) -> Result<FieldValidation, Status> {
    let text = query.get("fieldValidation").unwrap_or_default();
    FieldValidation::parse(text).ok_or_else(|| {
        let error = FieldError::not_supported("fieldValidation", text, &["Ignore", "Strict", "Warn"]);
        Status::invalid("meta.k8s.io", "CreateOptions", "", &[error])
    })
}

/// Namespace and name of the body must be those of the URL; what is missing is filled in.
pub(crate) fn place(
    object: &mut Value,
    rq: &Request,
    resource: &Resource,
    named: bool,
) -> Result<(), Status> {
    let namespace = meta::namespace(object).to_owned();
    if resource.namespaced {
        if !namespace.is_empty() && namespace != rq.target.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        kube_types::path::set(object, &["metadata", "namespace"], rq.target.namespace.clone().into());
    } else {
        kube_types::path::remove(object, &["metadata", "namespace"]);
    }
    if named {
        let name = meta::name(object);
        if name.is_empty() {
            return Err(Status::bad_request("name is required"));
        }
        if name != rq.target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                rq.target.name
            )));
        }
    }
    Ok(())
}

/// Options in a DELETE's body: JSON or YAML, or nothing.
pub(crate) fn delete_options(rq: &Request) -> Result<Value, Status> {
    if rq.body.is_empty() {
        return Ok(Value::Null);
    }
    if is_protobuf(rq) {
        let kind = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
        return protobuf::decode(&rq.body, &kind).map_err(Status::bad_request);
    }
    decode::decode_untyped(&rq.body, media_type(rq.header("content-type"))?)
}

/// The manager that a write's fields belong to: `fieldManager`, or the client's name.
pub(crate) fn field_manager(rq: &Request) -> Result<String, Status> {
    const LONGEST: usize = 128;
    let given = rq.query.text("fieldManager");
    if given.is_some_and(|m| m.len() > LONGEST) {
        let error = FieldError::too_long("fieldManager", LONGEST);
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let agent = rq.header("user-agent").split('/').next().unwrap_or_default();
    // Parts of this process send no user agent; their user says what they are.
    let part = rq.user.name.strip_prefix("system:").and_then(|u| u.split(':').next()).unwrap_or("unknown");
    let agent = if agent.is_empty() { part } else { agent };
    Ok(given.unwrap_or(agent).chars().take(LONGEST).collect())
}

/// 415 for a patch, with the accepted types.
pub(crate) fn unsupported_patch() -> Status {
    let types = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
                 application/apply-patch+yaml";
    let text =
        format!("the body of the request was in an unknown format - accepted media types include: {types}");
    Status::failure(415, Reason::UnsupportedMediaType, text)
}
