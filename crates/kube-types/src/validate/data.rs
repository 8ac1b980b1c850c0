//! ConfigMaps and Secrets.

use super::{Errors, complaints, text};
use crate::names;
use crate::status::FieldError;
use serde_json::{Map, Value, json};

/// The most bytes of all values together: 1 MiB.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

fn map<'a>(object: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    object.get(key).and_then(Value::as_object)
}

fn keys(object: &Value, field: &str, out: &mut Errors) {
    for key in map(object, field).into_iter().flatten().map(|(key, _)| key) {
        complaints(&format!("{field}[{key}]"), key, names::config_key(key), out);
    }
}

/// Length of what a base64 text holds.
fn decoded_length(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(text.len() / 4 * 3)
}

fn too_big(size: usize, out: &mut Errors) {
    if size > DATA_BYTES_MAX {
        // Upstream's path is the empty index.
        out.push(FieldError::too_long("[]", DATA_BYTES_MAX));
    }
}

pub(super) fn config_map(object: &Value, out: &mut Errors) {
    keys(object, "data", out);
    keys(object, "binaryData", out);
    let plain = map(object, "data");
    let mut size: usize =
        plain.into_iter().flatten().map(|(_, value)| value.as_str().map_or(0, str::len)).sum();
    for (key, value) in map(object, "binaryData").into_iter().flatten() {
        size += decoded_length(value.as_str().unwrap_or(""));
        if plain.is_some_and(|plain| plain.contains_key(key)) {
            let why = "duplicate of key present in data";
            out.push(FieldError::invalid(format!("binaryData[{key}]"), key.as_str(), why));
        }
    }
    too_big(size, out);
}

pub(super) fn secret(object: &Value, out: &mut Errors) {
    keys(object, "data", out);
    let data = map(object, "data");
    let size =
        data.into_iter().flatten().map(|(_, value)| decoded_length(value.as_str().unwrap_or(""))).sum();
    too_big(size, out);
    let has = |key: &str| data.is_some_and(|data| data.contains_key(key));
    let mut needs = |key: &str| {
        if !has(key) {
            out.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match text(object, "type") {
        "kubernetes.io/dockercfg" => needs(".dockercfg"),
        "kubernetes.io/dockerconfigjson" => needs(".dockerconfigjson"),
        "kubernetes.io/ssh-auth" => needs("ssh-privatekey"),
        "kubernetes.io/tls" => {
            needs("tls.crt");
            needs("tls.key");
        }
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            needs("username");
            needs("password");
        }
        "kubernetes.io/service-account-token" => {
            let account = crate::meta::annotation(object, "kubernetes.io/service-account.name").unwrap_or("");
            if account.is_empty() {
                let field = "metadata.annotations[kubernetes.io/service-account.name]";
                out.push(FieldError::required(field, ""));
            }
        }
        _ => {}
    }
}

/// Once `immutable` is set, it and the data stay.
pub(super) fn immutable(new: &Value, old: &Value, fields: &[&str], out: &mut Errors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if old.get("immutable") != Some(&json!(true)) {
        return;
    }
    if new.get("immutable") != Some(&json!(true)) {
        out.push(FieldError::forbidden("immutable", WHY));
    }
    for field in fields {
        if new.get(field) != old.get(field) {
            out.push(FieldError::forbidden(*field, WHY));
        }
    }
}
