//! The small kinds: leases, nodes, events, priority classes.

use super::{Errors, complaints, list, not_negative, one_of, text};
use crate::status::FieldError;
use crate::{meta, names, path};
use serde_json::Value;

/// The largest priority a user may give a class; those above are the system's.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;

pub(super) fn lease(object: &Value, out: &mut Errors) {
    let spec = &object["spec"];
    let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_i64);
    if let Some(seconds) = seconds.filter(|seconds| *seconds <= 0) {
        out.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    not_negative(spec, "leaseTransitions", "spec", out);
}

pub(super) fn node(object: &Value, out: &mut Errors) {
    for (n, taint) in list(&object["spec"], "taints").iter().enumerate() {
        let field = format!("spec.taints[{n}]");
        let (key, value) = (text(taint, "key"), text(taint, "value"));
        complaints(&format!("{field}.key"), key, names::qualified_name(key), out);
        complaints(&format!("{field}.value"), value, names::label_value(value), out);
        one_of(taint, "effect", &field, &["NoExecute", "NoSchedule", "PreferNoSchedule"], false, out);
    }
}

/// An event lives where the object it is about does; events about cluster-scoped objects live in `default`.
pub(super) fn event(object: &Value, out: &mut Errors) {
    let about = path::text(object, &["involvedObject", "namespace"]);
    let own = meta::namespace(object);
    let fine = if about.is_empty() { own == "default" || own == "kube-system" } else { own == about };
    if !fine {
        out.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
}

pub(super) fn priority_class(object: &Value, out: &mut Errors) {
    let value = object.get("value").and_then(Value::as_i64).unwrap_or(0);
    let name = meta::name(object);
    let known = matches!(name, "system-node-critical" | "system-cluster-critical");
    if name.starts_with("system-") && !known {
        let why = "priority class names with 'system-' prefix are reserved for system use only";
        out.push(FieldError::forbidden("metadata.name", why));
    } else if !known && value > USER_PRIORITY_MAX {
        let why = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        out.push(FieldError::forbidden("value", why));
    }
    one_of(object, "preemptionPolicy", "", &["Never", "PreemptLowerPriority"], true, out);
}

pub(super) fn priority_class_update(new: &Value, old: &Value, out: &mut Errors) {
    let number = |object: &Value| object.get("value").and_then(Value::as_i64).unwrap_or(0);
    if number(new) != number(old) {
        out.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    super::unchanged(new, old, &["preemptionPolicy"], out);
}
