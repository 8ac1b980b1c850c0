//! Where a pod may go: affinity and topology spread.

use super::workload::label_selector;
use super::{Errors, complaints, list, one_of, text};
use crate::names::qualified_name;
use crate::status::FieldError;
use serde_json::Value;

/// Affinity and spread constraints of a pod spec.
pub(super) fn placement(spec: &Value, at: &str, out: &mut Errors) {
    let affinity = &spec["affinity"];
    node_affinity(&affinity["nodeAffinity"], &format!("{at}.affinity.nodeAffinity"), out);
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_affinity(&affinity[kind], &format!("{at}.affinity.{kind}"), out);
    }
    for (n, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        spread(constraint, &format!("{at}.topologySpreadConstraints[{n}]"), out);
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node_affinity(affinity: &Value, at: &str, out: &mut Errors) {
    if let Some(required) = affinity.get(REQUIRED) {
        let terms = list(required, "nodeSelectorTerms");
        let field = format!("{at}.{REQUIRED}.nodeSelectorTerms");
        if terms.is_empty() {
            out.push(FieldError::required(field.clone(), "must have at least one node selector term"));
        }
        for (n, term) in terms.iter().enumerate() {
            node_term(term, &format!("{field}[{n}]"), out);
        }
    }
    for (n, preferred) in list(affinity, PREFERRED).iter().enumerate() {
        let field = format!("{at}.{PREFERRED}[{n}]");
        weight(preferred, &field, out);
        node_term(&preferred["preference"], &format!("{field}.preference"), out);
    }
}

fn weight(preferred: &Value, at: &str, out: &mut Errors) {
    let weight = preferred.get("weight").and_then(Value::as_i64).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        out.push(FieldError::invalid(format!("{at}.weight"), weight, "must be in the range 1-100"));
    }
}

fn node_term(term: &Value, at: &str, out: &mut Errors) {
    for (n, expression) in list(term, "matchExpressions").iter().enumerate() {
        let field = format!("{at}.matchExpressions[{n}]");
        let key = text(expression, "key");
        complaints(&format!("{field}.key"), key, qualified_name(key), out);
        let values = list(expression, "values").len();
        match text(expression, "operator") {
            "In" | "NotIn" if values == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                out.push(FieldError::required(format!("{field}.values"), why));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                out.push(FieldError::forbidden(format!("{field}.values"), why));
            }
            "Gt" | "Lt" if values != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                out.push(FieldError::required(format!("{field}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                out.push(FieldError::invalid(
                    format!("{field}.operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
    }
}

fn pod_affinity(affinity: &Value, at: &str, out: &mut Errors) {
    for (n, term) in list(affinity, REQUIRED).iter().enumerate() {
        pod_term(term, &format!("{at}.{REQUIRED}[{n}]"), out);
    }
    for (n, preferred) in list(affinity, PREFERRED).iter().enumerate() {
        let field = format!("{at}.{PREFERRED}[{n}]");
        weight(preferred, &field, out);
        pod_term(&preferred["podAffinityTerm"], &format!("{field}.podAffinityTerm"), out);
    }
}

fn pod_term(term: &Value, at: &str, out: &mut Errors) {
    if let Some(selector) = term.get("labelSelector") {
        label_selector(selector, &format!("{at}.labelSelector"), out);
    }
    topology_key(term, at, out);
}

fn topology_key(value: &Value, at: &str, out: &mut Errors) {
    let key = text(value, "topologyKey");
    if key.is_empty() {
        out.push(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
    } else {
        complaints(&format!("{at}.topologyKey"), key, qualified_name(key), out);
    }
}

fn spread(constraint: &Value, at: &str, out: &mut Errors) {
    let skew = constraint.get("maxSkew").and_then(Value::as_i64).unwrap_or(0);
    if skew <= 0 {
        out.push(FieldError::invalid(format!("{at}.maxSkew"), skew, "must be greater than zero"));
    }
    topology_key(constraint, at, out);
    one_of(constraint, "whenUnsatisfiable", at, &["DoNotSchedule", "ScheduleAnyway"], false, out);
    if let Some(selector) = constraint.get("labelSelector") {
        label_selector(selector, &format!("{at}.labelSelector"), out);
    }
}
