//! Probes and lifecycle hooks.

use super::{Errors, container, list, not_negative, one_of, required};
use crate::names;
use crate::status::FieldError;
use serde_json::Value;

/// A probe; liveness and startup probes succeed at once.
pub(super) fn probe(probe: &Value, at: &str, succeeds_at_once: bool, out: &mut Errors) {
    handler(probe, at, &["exec", "grpc", "httpGet", "tcpSocket"], out);
    for key in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        not_negative(probe, key, at, out);
    }
    let threshold = probe.get("successThreshold").and_then(Value::as_i64).unwrap_or(1);
    if succeeds_at_once && threshold != 1 {
        out.push(FieldError::invalid(format!("{at}.successThreshold"), threshold, "must be 1"));
    }
}

/// Exactly one handler among `kinds`.
pub(super) fn handler(value: &Value, at: &str, kinds: &[&str], out: &mut Errors) {
    let found: Vec<&&str> = kinds.iter().filter(|kind| value.get(**kind).is_some()).collect();
    let Some((first, rest)) = found.split_first() else {
        out.push(FieldError::required(at, "must specify a handler type"));
        return;
    };
    for kind in rest {
        out.push(FieldError::forbidden(format!("{at}.{kind}"), "may not specify more than 1 handler type"));
    }
    let (action, at) = (&value[**first], format!("{at}.{first}"));
    match **first {
        "exec" if list(action, "command").is_empty() => {
            out.push(FieldError::required(format!("{at}.command"), ""));
        }
        "httpGet" => {
            required(action, "path", &at, out);
            port(action, &at, out);
            one_of(action, "scheme", &at, &["HTTP", "HTTPS"], false, out);
        }
        "tcpSocket" | "grpc" => port(action, &at, out),
        _ => {}
    }
}

/// A port's number or name.
fn port(action: &Value, at: &str, out: &mut Errors) {
    let field = format!("{at}.port");
    match action.get("port") {
        Some(Value::String(name)) => super::complaints(&field, name, names::port_name(name), out),
        other => container::port_number(other.and_then(Value::as_i64).unwrap_or(0), &field, out),
    }
}
