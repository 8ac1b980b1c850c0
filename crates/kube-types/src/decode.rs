//! Bodies to objects: JSON or YAML, unknown and repeated fields, wrong types, canonical scalars.
//!
//! ```text
//! bytes --raw (keeps order and repeats)--> shaped by the schema --> Value + problems
//! ```
//!
//! Behaves as `sigs.k8s.io/json` does in strict mode: names are case-sensitive, the last of repeated fields
//! wins, unknown fields are dropped and reported, null counts as absent.

mod raw;
mod shaped;

pub use raw::{Raw, parse_json, parse_yaml, repeated_keys};

use crate::registry::GroupVersionKind;
use crate::schema::{SchemaRef, Shape};
use crate::status::Status;
use serde_json::{Value, json};

/// The encodings bodies come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Yaml,
}

/// The `fieldValidation` parameter: what unknown and repeated fields lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped in silence.
    Ignore,
    /// They are dropped and each is a warning; the server's default.
    #[default]
    Warn,
    /// They are an error.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter; absent or empty is `Warn`. The error is a 400 or 422 message for others.
    pub fn parse(text: &str) -> Option<FieldValidation> {
        match text {
            "" | "Warn" => Some(FieldValidation::Warn),
            "Ignore" => Some(FieldValidation::Ignore),
            "Strict" => Some(FieldValidation::Strict),
            _ => None,
        }
    }
}

/// A decoded object and what to tell the client in `Warning` headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    pub warnings: Vec<String>,
}

/// Decodes a body that must be of this kind. `apiVersion` and `kind` are filled in when absent.
///
/// Errors are 400s with upstream's texts.
pub fn decode(
    gvk: &GroupVersionKind,
    schema: &SchemaRef,
    body: &[u8],
    media: MediaType,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let raw = parse(body, media).map_err(|why| {
        let kind = &gvk.kind;
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why}"
        ))
    })?;
    from_raw(gvk, schema, raw, validation)
}

/// Decodes without knowing the kind: for bodies whose kind decides what follows (`DeleteOptions`, patches).
pub fn decode_untyped(body: &[u8], media: MediaType) -> Result<Value, Status> {
    let raw = parse(body, media).map_err(Status::bad_request)?;
    Ok(raw.into_value())
}

/// Decodes the body of a server-side apply (YAML, of which JSON is a part): as it stands, for
/// [`crate::apply::server_side_apply`] says what its schema does not have. Repeated keys are judged here.
pub fn decode_apply(body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
    let parsed = if body.first() == Some(&b'{') { parse_json(body) } else { parse_yaml(body) };
    let raw = parsed.map_err(|why| Status::bad_request(format!("error decoding YAML: {why}")))?;
    if !matches!(raw, Raw::Map(_)) {
        let why = format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            raw.go_kind()
        );
        return Err(Status::bad_request(format!("error decoding YAML: {why}")));
    }
    let repeats = repeated_keys(&raw);
    if validation == FieldValidation::Strict && !repeats.is_empty() {
        let why = repeats.join("\n  ");
        return Err(Status::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {why}"
        )));
    }
    let warnings = if validation == FieldValidation::Warn { repeats } else { Vec::new() };
    Ok(Decoded { value: raw.into_value(), warnings })
}

/// The `apiVersion` and `kind` a body names, before anything else is read.
pub fn peek_kind(value: &Value) -> (&str, &str) {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    (text("apiVersion"), text("kind"))
}

/// Brings an object that a patch made into the schema's shape; the same rules and errors as `decode`.
pub fn normalize(
    gvk: &GroupVersionKind,
    schema: &SchemaRef,
    value: Value,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    from_raw(gvk, schema, Raw::from_value(value), validation)
}

/// The object in the schema's shape and its unknown and repeated fields; `Err` is the text of a wrong type.
pub fn shape(schema: &SchemaRef, raw: Raw) -> Result<(Value, Vec<String>), String> {
    let mut shaper = shaped::Shaper::default();
    let value = shaper.run(schema.cursor(), raw)?;
    Ok((value, shaper.problems))
}

fn parse(body: &[u8], media: MediaType) -> Result<Raw, String> {
    match media {
        MediaType::Json => parse_json(body),
        MediaType::Yaml => parse_yaml(body),
    }
}

fn from_raw(
    gvk: &GroupVersionKind,
    schema: &SchemaRef,
    raw: Raw,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let Raw::Map(fields) = &raw else {
        return Err(Status::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            raw.go_kind()
        )));
    };
    check_kind(gvk, fields)?;
    let fail = |why: &str| {
        let (kind, version) = (&gvk.kind, &gvk.version);
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    };
    let (mut value, problems) = shape(schema, raw).map_err(|why| fail(&why))?;
    if validation == FieldValidation::Strict && !problems.is_empty() {
        return Err(fail(&format!("strict decoding error: {}", problems.join(", "))));
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), json!(gvk.api_version()));
        map.insert("kind".into(), json!(gvk.kind));
    }
    let warnings = if validation == FieldValidation::Warn { problems } else { Vec::new() };
    Ok(Decoded { value, warnings })
}

/// The body's kind must be the one expected; each half may be absent.
fn check_kind(gvk: &GroupVersionKind, fields: &[(String, Raw)]) -> Result<(), Status> {
    let text = |key: &str| {
        let found = fields.iter().rev().find(|(name, _)| name == key);
        found.and_then(|(_, value)| if let Raw::String(text) = value { Some(text.as_str()) } else { None })
    };
    let expected = gvk.api_version();
    let version = text("apiVersion").filter(|version| !version.is_empty() && *version != expected);
    if let Some(version) = version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    let kind = text("kind").filter(|kind| !kind.is_empty() && *kind != gvk.kind);
    if let Some(kind) = kind {
        let (version, want) = (&gvk.version, &gvk.kind);
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {want}: the kind in the data ({kind}) does not match the expected kind ({want})"
        )));
    }
    Ok(())
}

/// True for shapes whose Go type drops an empty value on output: lists and maps.
fn is_collection(shape: &Shape) -> bool {
    matches!(shape, Shape::List(_) | Shape::Map(_))
}

#[cfg(test)]
mod tests;
