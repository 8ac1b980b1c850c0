//! What may change in a pod that exists.

use super::{Errors, list, text};
use crate::status::FieldError;
use serde_json::{Value, json};

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn update(new: &Value, old: &Value, out: &mut Errors) {
    let (now, then) = (&new["spec"], &old["spec"]);
    for key in ["containers", "initContainers"] {
        if list(now, key).len() != list(then, key).len() {
            let why = "pod updates may not add or remove containers";
            out.push(FieldError::forbidden(format!("spec.{key}"), why));
            return;
        }
    }
    for key in ["containers", "initContainers"] {
        for (n, container) in list(now, key).iter().enumerate() {
            if text(container, "image").is_empty() {
                out.push(FieldError::required(format!("spec.{key}[{n}].image"), ""));
            }
        }
    }
    deadline(now, then, out);
    tolerations(now, then, out);
    let munged = munged(now, then);
    if munged != *then {
        let mut lines = String::new();
        difference(then, &munged, "spec", &mut lines);
        out.push(FieldError::forbidden("spec", format!("{UPDATABLE}\n{lines}")));
    }
}

fn deadline(now: &Value, then: &Value, out: &mut Errors) {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let seconds = |spec: &Value| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    match (seconds(then), seconds(now)) {
        (Some(before), Some(after)) if after > before => {
            out.push(FieldError::invalid(FIELD, after, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            out.push(FieldError::invalid(FIELD, Value::Null, why));
        }
        (_, Some(after)) if after < 0 => {
            out.push(FieldError::invalid(FIELD, after, super::NOT_NEGATIVE));
        }
        _ => {}
    }
}

/// Tolerations may be added, and their seconds changed.
fn tolerations(now: &Value, then: &Value, out: &mut Errors) {
    let bare = |one: &Value| {
        let mut map = one.as_object().cloned().unwrap_or_default();
        map.remove("tolerationSeconds");
        map
    };
    let kept = |old: &Value| list(now, "tolerations").iter().any(|one| bare(one) == bare(old));
    if !list(then, "tolerations").iter().all(kept) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        out.push(FieldError::forbidden("spec.tolerations", why));
    }
}

/// The new spec with all that may change put back as it was.
fn munged(now: &Value, then: &Value) -> Value {
    let mut out = now.clone();
    for key in ["containers", "initContainers"] {
        let old = list(then, key);
        let items = out.get_mut(key).and_then(Value::as_array_mut);
        for (container, old) in items.into_iter().flatten().zip(old) {
            put_back(container, old, "image");
        }
    }
    put_back(&mut out, then, "activeDeadlineSeconds");
    put_back(&mut out, then, "tolerations");
    let before = then.get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    if before < 0 && out.get("terminationGracePeriodSeconds") == Some(&json!(1)) {
        put_back(&mut out, then, "terminationGracePeriodSeconds");
    }
    let gates = list(then, "schedulingGates");
    let removed_only = list(now, "schedulingGates").iter().all(|one| gates.contains(one));
    if removed_only {
        put_back(&mut out, then, "schedulingGates");
    }
    out
}

fn put_back(value: &mut Value, old: &Value, key: &str) {
    let Some(map) = value.as_object_mut() else { return };
    match old.get(key) {
        Some(before) => map.insert(key.into(), before.clone()),
        None => map.remove(key),
    };
}

/// One line per leaf that differs: `- path: old`, `+ path: new`.
fn difference(old: &Value, new: &Value, at: &str, out: &mut String) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let (old, new) = (left.get(key), right.get(key));
                difference(
                    old.unwrap_or(&Value::Null),
                    new.unwrap_or(&Value::Null),
                    &format!("{at}.{key}"),
                    out,
                );
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (n, (old, new)) in left.iter().zip(right).enumerate() {
                difference(old, new, &format!("{at}[{n}]"), out);
            }
        }
        _ => {
            for (sign, value) in [('-', old), ('+', new)] {
                if !value.is_null() {
                    out.push_str(&format!("{sign} {at}: {value}\n"));
                }
            }
        }
    }
}
