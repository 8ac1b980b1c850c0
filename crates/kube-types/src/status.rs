//! `metav1.Status`, the answer to every request that failed, with upstream's texts.
//!
//! Clients match on `reason` and `code`, people (and scripts) on `message`; both are as
//! `k8s.io/apimachinery/pkg/api/errors` writes them.

use crate::registry::GroupResource;
use serde_json::{Map, Value, json};
use std::fmt;

/// The machine-readable reasons (`metav1.StatusReason`). `Unknown` is the empty string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

impl Reason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unknown => "",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Gone => "Gone",
            Reason::Invalid => "Invalid",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::StoreReadError => "StorageReadError",
            Reason::Timeout => "Timeout",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::BadRequest => "BadRequest",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::InternalError => "InternalError",
            Reason::Expired => "Expired",
            Reason::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

/// One cause inside `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldManagerConflict`, `NamespaceTerminating`...
    pub reason: String,
    pub message: String,
    /// A field path such as `spec.replicas`; empty when the cause is no field.
    pub field: String,
}

/// `details` of a [`Status`]. Empty strings and zero are left out of the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub name: String,
    pub group: String,
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

/// A `metav1.Status`. As an error type it is boxed inside, so `Result<_, Status>` stays small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    code: u16,
    reason: Reason,
    message: String,
    details: Option<Details>,
    continue_token: String,
}

impl Status {
    /// A failure with this HTTP code, reason and message.
    pub fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Status {
        let message = message.into();
        Status(Box::new(Inner { code, reason, message, details: None, continue_token: String::new() }))
    }

    /// `status: Success`, as a delete that removed its object answers.
    pub fn success(details: Option<Details>) -> Status {
        let inner = Inner {
            code: 200,
            reason: Reason::Unknown,
            message: String::new(),
            details,
            continue_token: String::new(),
        };
        Status(Box::new(inner))
    }

    /// The success answer with another code (`201` for a binding or an eviction).
    pub fn created() -> Status {
        let mut status = Status::success(None);
        status.0.code = 201;
        status
    }

    /// Replaces `details`.
    pub fn with_details(mut self, details: Details) -> Status {
        self.0.details = Some(details);
        self
    }

    /// Adds a cause to `details`.
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Status {
        let details = self.0.details.get_or_insert_default();
        details.causes.push(Cause { reason: reason.into(), message: message.into(), field: field.into() });
        self
    }

    /// Sets `metadata.continue`, which an expired list token gets so that the client can go on inconsistently.
    pub fn with_continue(mut self, token: impl Into<String>) -> Status {
        self.0.continue_token = token.into();
        self
    }

    /// Sets `details.retryAfterSeconds`; the door repeats it in the `Retry-After` header.
    pub fn with_retry_after(mut self, seconds: u32) -> Status {
        self.0.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The HTTP code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn details(&self) -> Option<&Details> {
        self.0.details.as_ref()
    }

    /// False for `status: Success`.
    pub fn is_failure(&self) -> bool {
        self.0.code >= 400
    }

    /// The object as it goes over the wire.
    pub fn to_value(&self) -> Value {
        let inner = &self.0;
        let mut out = Map::new();
        out.insert("kind".into(), json!("Status"));
        out.insert("apiVersion".into(), json!("v1"));
        let mut metadata = Map::new();
        put_text(&mut metadata, "continue", &inner.continue_token);
        out.insert("metadata".into(), Value::Object(metadata));
        out.insert("status".into(), json!(if self.is_failure() { "Failure" } else { "Success" }));
        put_text(&mut out, "message", &inner.message);
        put_text(&mut out, "reason", inner.reason.as_str());
        if let Some(details) = &inner.details {
            out.insert("details".into(), details.to_value());
        }
        if self.is_failure() || inner.code != 200 {
            out.insert("code".into(), json!(inner.code));
        }
        Value::Object(out)
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        put_text(&mut out, "name", &self.name);
        put_text(&mut out, "group", &self.group);
        put_text(&mut out, "kind", &self.kind);
        put_text(&mut out, "uid", &self.uid);
        if !self.causes.is_empty() {
            out.insert("causes".into(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds != 0 {
            out.insert("retryAfterSeconds".into(), json!(self.retry_after_seconds));
        }
        Value::Object(out)
    }

    fn of(resource: &GroupResource, name: &str) -> Details {
        Details {
            name: name.into(),
            group: resource.group.clone(),
            kind: resource.resource.clone(),
            ..Details::default()
        }
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        put_text(&mut out, "reason", &self.reason);
        put_text(&mut out, "message", &self.message);
        put_text(&mut out, "field", &self.field);
        Value::Object(out)
    }
}

fn put_text(map: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        map.insert(key.into(), json!(text));
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Status {}

/// The constructors, one per way to fail.
impl Status {
    /// 404 `deployments.apps "x" not found`.
    pub fn not_found(resource: &GroupResource, name: &str) -> Status {
        Status::failure(404, Reason::NotFound, format!("{resource} \"{name}\" not found"))
            .with_details(Details::of(resource, name))
    }

    /// 404 for a path or resource that is not served.
    pub fn no_such_resource() -> Status {
        let message = "the server could not find the requested resource";
        Status::failure(404, Reason::NotFound, message).with_details(Details::default())
    }

    /// 409 `pods "x" already exists`.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Status {
        Status::failure(409, Reason::AlreadyExists, format!("{resource} \"{name}\" already exists"))
            .with_details(Details::of(resource, name))
    }

    /// 409 `Operation cannot be fulfilled on pods "x": <why>`.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Status::failure(409, Reason::Conflict, message).with_details(Details::of(resource, name))
    }

    /// The conflict of optimistic locking, with the exact text clients look for.
    pub fn modified(resource: &GroupResource, name: &str) -> Status {
        Status::conflict(resource, name, OBJECT_MODIFIED)
    }

    /// 403 `pods "x" is forbidden: <why>`; without a name `pods is forbidden: <why>`.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Status {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} \"{name}\" is forbidden: {why}"),
        };
        Status::failure(403, Reason::Forbidden, message).with_details(Details::of(resource, name))
    }

    /// 422 with one cause per field error. `kind` is the object's kind, `group` its API group.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
        let qualified = if group.is_empty() { kind.to_string() } else { format!("{kind}.{group}") };
        let message = format!("{qualified} \"{name}\" is invalid: {}", join_errors(errors));
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..Details::default()
        };
        Status::failure(422, Reason::Invalid, message).with_details(details)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::failure(400, Reason::BadRequest, message)
    }

    /// 401 with upstream's bare word.
    pub fn unauthorized() -> Status {
        Status::failure(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 405 `create is not supported on resources of kind "pods"`.
    pub fn method_not_allowed(resource: &GroupResource, action: &str) -> Status {
        let message = format!("{action} is not supported on resources of kind \"{resource}\"");
        Status::failure(405, Reason::MethodNotAllowed, message).with_details(Details::of(resource, ""))
    }

    /// 406: none of the `Accept`ed types can be produced.
    pub fn not_acceptable(supported: &[&str]) -> Status {
        let message = format!("only the following media types are accepted: {}", supported.join(", "));
        Status::failure(406, Reason::NotAcceptable, message)
    }

    /// 415: the body's type cannot be read.
    pub fn unsupported_media_type(supported: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            supported.join(", ")
        );
        Status::failure(415, Reason::UnsupportedMediaType, message)
    }

    /// 413: the body or the object is past its limit.
    pub fn too_large(why: &str) -> Status {
        Status::failure(413, Reason::RequestEntityTooLarge, format!("Request entity too large: {why}"))
    }

    /// 410 Expired: the resource version is compacted away; list again.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::failure(410, Reason::Expired, message)
    }

    /// 410 `too old resource version: 5 (8)`, for a watch that starts before what is kept.
    pub fn too_old_resource_version(requested: u64, oldest: u64) -> Status {
        Status::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 504 for a resource version the store has not reached yet.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Status {
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        Status::failure(504, Reason::Timeout, message)
            .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
            .with_retry_after(1)
    }

    /// 429 with a time to come back.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        Status::failure(429, Reason::TooManyRequests, message).with_retry_after(retry_after_seconds)
    }

    /// 500 `Internal error occurred: <why>`.
    pub fn internal(why: impl fmt::Display) -> Status {
        let text = why.to_string();
        let status = Status::failure(500, Reason::InternalError, format!("Internal error occurred: {text}"));
        status.with_cause("", text, "")
    }

    /// 503.
    pub fn service_unavailable(why: impl Into<String>) -> Status {
        Status::failure(503, Reason::ServiceUnavailable, why)
    }

    /// 504.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Status {
        Status::failure(504, Reason::Timeout, format!("Timeout: {message}"))
            .with_retry_after(retry_after_seconds)
    }

    /// What a create with a resource version gets: a 500 without a reason, as upstream.
    pub fn resource_version_on_create() -> Status {
        Status::failure(500, Reason::Unknown, "resourceVersion should not be set on objects to be created")
    }
}

/// The reason text of an optimistic-lock conflict.
pub const OBJECT_MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// The classes of field errors (`field.ErrorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl ErrorKind {
    /// The words people read.
    pub fn text(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::Internal => "Internal error",
        }
    }

    /// The word in `details.causes[].reason`.
    pub fn cause(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::Internal => "InternalError",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// What is wrong with one field (`field.Error`).
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: ErrorKind,
    /// `spec.template.spec.containers[0].name`.
    pub field: String,
    /// The value found, shown for the kinds that show one.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    fn new(
        kind: ErrorKind,
        field: impl Into<String>,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        FieldError { kind, field: field.into(), value, detail: detail.into() }
    }

    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError::new(ErrorKind::Required, field, None, detail)
    }

    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        FieldError::new(ErrorKind::Invalid, field, Some(value.into()), detail)
    }

    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError::new(ErrorKind::Forbidden, field, None, detail)
    }

    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        FieldError::new(ErrorKind::Duplicate, field, Some(value.into()), "")
    }

    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        FieldError::new(ErrorKind::NotFound, field, Some(value.into()), "")
    }

    /// `Unsupported value: "x": supported values: "a", "b"`; the list is given in its order.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|one| format!("\"{one}\"")).collect();
        let detail =
            if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        FieldError::new(ErrorKind::NotSupported, field, Some(value.into()), detail)
    }

    pub fn too_long(field: impl Into<String>, bytes_max: usize) -> Self {
        FieldError::new(ErrorKind::TooLong, field, None, format!("may not be more than {bytes_max} bytes"))
    }

    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} items");
        FieldError::new(ErrorKind::TooMany, field, Some(json!(actual)), detail)
    }

    /// The error without its field: `Invalid value: "x": must be ...`.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_string();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(&shown(value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    fn cause(&self) -> Cause {
        Cause { reason: self.kind.cause().into(), message: self.body(), field: self.field.clone() }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".into(),
        other => other.to_string(),
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// One error stands alone, several in brackets, repeats once: `ErrorList.ToAggregate().Error()`.
pub fn join_errors(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(FieldError::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(status: Status, want: Expect) {
        want.assert_eq(&status.to_value().to_string());
    }

    #[test]
    fn texts_are_upstreams() {
        let deployments = GroupResource::new("apps", "deployments");
        check(
            Status::not_found(&deployments, "x"),
            expect![[
                r#"{"apiVersion":"v1","code":404,"details":{"group":"apps","kind":"deployments","name":"x"},"kind":"Status","message":"deployments.apps \"x\" not found","metadata":{},"reason":"NotFound","status":"Failure"}"#
            ]],
        );
        check(
            Status::modified(&GroupResource::new("", "pods"), "x"),
            expect![[
                r#"{"apiVersion":"v1","code":409,"details":{"kind":"pods","name":"x"},"kind":"Status","message":"Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again","metadata":{},"reason":"Conflict","status":"Failure"}"#
            ]],
        );
        let errors = [
            FieldError::required("spec.selector", ""),
            FieldError::invalid("spec.replicas", -1, "must be greater than or equal to 0"),
            FieldError::not_supported("spec.strategy.type", "x", &["Recreate", "RollingUpdate"]),
        ];
        check(
            Status::invalid("apps", "Deployment", "x", &errors),
            expect![[
                r#"{"apiVersion":"v1","code":422,"details":{"causes":[{"field":"spec.selector","message":"Required value","reason":"FieldValueRequired"},{"field":"spec.replicas","message":"Invalid value: -1: must be greater than or equal to 0","reason":"FieldValueInvalid"},{"field":"spec.strategy.type","message":"Unsupported value: \"x\": supported values: \"Recreate\", \"RollingUpdate\"","reason":"FieldValueNotSupported"}],"group":"apps","kind":"Deployment","name":"x"},"kind":"Status","message":"Deployment.apps \"x\" is invalid: [spec.selector: Required value, spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.strategy.type: Unsupported value: \"x\": supported values: \"Recreate\", \"RollingUpdate\"]","metadata":{},"reason":"Invalid","status":"Failure"}"#
            ]],
        );
        check(
            Status::success(None),
            expect![[r#"{"apiVersion":"v1","kind":"Status","metadata":{},"status":"Success"}"#]],
        );
        check(
            Status::resource_version_on_create(),
            expect![[
                r#"{"apiVersion":"v1","code":500,"kind":"Status","message":"resourceVersion should not be set on objects to be created","metadata":{},"status":"Failure"}"#
            ]],
        );
    }
}
