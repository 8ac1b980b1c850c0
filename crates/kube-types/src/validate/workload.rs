//! Deployments and ReplicaSets.

use super::{Errors, list, metadata, not_negative, one_of, pod, text};
use crate::selector::LabelSelector;
use crate::status::FieldError;
use serde_json::{Value, json};

pub(super) fn deployment(object: &Value, out: &mut Errors) {
    let spec = &object["spec"];
    not_negative(spec, "replicas", "spec", out);
    selector_and_template(spec, out);
    strategy(&spec["strategy"], out);
    not_negative(spec, "minReadySeconds", "spec", out);
    not_negative(spec, "revisionHistoryLimit", "spec", out);
    not_negative(spec, "progressDeadlineSeconds", "spec", out);
    let seconds = |key: &str| spec.get(key).and_then(Value::as_i64);
    let ready = seconds("minReadySeconds").unwrap_or(0);
    if let Some(deadline) = seconds("progressDeadlineSeconds").filter(|deadline| *deadline <= ready) {
        out.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
}

pub(super) fn replica_set(object: &Value, out: &mut Errors) {
    let spec = &object["spec"];
    not_negative(spec, "replicas", "spec", out);
    not_negative(spec, "minReadySeconds", "spec", out);
    selector_and_template(spec, out);
}

fn selector_and_template(spec: &Value, out: &mut Errors) {
    let template = &spec["template"];
    match spec.get("selector") {
        None => out.push(FieldError::required("spec.selector", "")),
        Some(selector) => {
            label_selector(selector, "spec.selector", out);
            let empty = list(selector, "matchExpressions").is_empty()
                && selector
                    .get("matchLabels")
                    .and_then(Value::as_object)
                    .is_none_or(serde_json::Map::is_empty);
            if empty {
                let why = "empty selector is invalid for deployment";
                out.push(FieldError::invalid("spec.selector", selector.clone(), why));
            } else {
                matches_template(selector, template, out);
            }
        }
    }
    pod::template_metadata(template, "spec.template", out);
    let pod = &template["spec"];
    pod::spec(pod, "spec.template.spec", out);
    let policy = text(pod, "restartPolicy");
    if matches!(policy, "OnFailure" | "Never") {
        out.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if pod.get("activeDeadlineSeconds").is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        out.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", why));
    }
}

fn matches_template(selector: &Value, template: &Value, out: &mut Errors) {
    let Ok(parsed) = LabelSelector::from_object(Some(selector)) else { return };
    let labels = template["metadata"].get("labels");
    if !parsed.matches(labels.and_then(Value::as_object)) {
        let shown = labels.cloned().unwrap_or(Value::Null);
        let why = "`selector` does not match template `labels`";
        out.push(FieldError::invalid("spec.template.metadata.labels", shown, why));
    }
}

/// A `LabelSelector` object.
pub(super) fn label_selector(selector: &Value, at: &str, out: &mut Errors) {
    if let Some(map) = selector.get("matchLabels").and_then(Value::as_object) {
        metadata::labels(map, &format!("{at}.matchLabels"), out);
    }
    for (n, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let field = format!("{at}.matchExpressions[{n}]");
        let values = list(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                out.push(FieldError::required(format!("{field}.values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                out.push(FieldError::forbidden(format!("{field}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => out.push(FieldError::invalid(
                format!("{field}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = text(expression, "key");
        super::complaints(&format!("{field}.key"), key, crate::names::qualified_name(key), out);
    }
}

fn strategy(strategy: &Value, out: &mut Errors) {
    const AT: &str = "spec.strategy";
    one_of(strategy, "type", AT, &["Recreate", "RollingUpdate"], false, out);
    let rolling = strategy.get("rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("Recreate", Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            out.push(FieldError::forbidden(format!("{AT}.rollingUpdate"), why));
        }
        ("RollingUpdate", Some(rolling)) => {
            let unavailable = amount(rolling, "maxUnavailable", out);
            let surge = amount(rolling, "maxSurge", out);
            if unavailable == Some(0) && surge == Some(0) {
                let shown = rolling.get("maxUnavailable").cloned().unwrap_or(json!(0));
                let why = "may not be 0 when `maxSurge` is 0";
                out.push(FieldError::invalid(format!("{AT}.rollingUpdate.maxUnavailable"), shown, why));
            }
            if let Some(percent) = percent(rolling, "maxUnavailable").filter(|percent| *percent > 100) {
                let field = format!("{AT}.rollingUpdate.maxUnavailable");
                out.push(FieldError::invalid(field, format!("{percent}%"), "must not be greater than 100%"));
            }
        }
        _ => {}
    }
}

fn percent(rolling: &Value, key: &str) -> Option<i64> {
    rolling.get(key)?.as_str()?.strip_suffix('%')?.parse().ok()
}

/// A number or a percentage; the error is pushed when it is neither.
fn amount(rolling: &Value, key: &str, out: &mut Errors) -> Option<i64> {
    let field = format!("spec.strategy.rollingUpdate.{key}");
    match rolling.get(key)? {
        Value::String(text) => {
            let percent = percent(rolling, key).filter(|percent| *percent >= 0);
            if percent.is_none() {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                out.push(FieldError::invalid(field, text.clone(), why));
            }
            percent
        }
        number => {
            not_negative(rolling, key, "spec.strategy.rollingUpdate", out);
            number.as_i64()
        }
    }
}
