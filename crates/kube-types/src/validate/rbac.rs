//! Roles and their bindings.

use super::{Errors, list, required, text};
use crate::status::FieldError;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role(object: &Value, namespaced: bool, out: &mut Errors) {
    for (n, rule) in list(object, "rules").iter().enumerate() {
        self::rule(rule, &format!("rules[{n}]"), namespaced, out);
    }
}

fn rule(rule: &Value, at: &str, namespaced: bool, out: &mut Errors) {
    let empty = |key: &str| list(rule, key).is_empty();
    if empty("verbs") {
        out.push(FieldError::required(format!("{at}.verbs"), "verbs must contain at least one value"));
    }
    if !empty("nonResourceURLs") {
        let shown = rule["nonResourceURLs"].clone();
        let field = format!("{at}.nonResourceURLs");
        if namespaced {
            out.push(FieldError::invalid(
                field.clone(),
                shown.clone(),
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
        if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            out.push(FieldError::invalid(field, shown, why));
        }
        return;
    }
    if empty("apiGroups") {
        out.push(FieldError::required(
            format!("{at}.apiGroups"),
            "resource rules must supply at least one api group",
        ));
    }
    if empty("resources") {
        out.push(FieldError::required(
            format!("{at}.resources"),
            "resource rules must supply at least one resource",
        ));
    }
}

pub(super) fn binding(object: &Value, namespaced: bool, out: &mut Errors) {
    let role = &object["roleRef"];
    if text(role, "apiGroup") != GROUP {
        out.push(FieldError::not_supported("roleRef.apiGroup", text(role, "apiGroup"), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        out.push(FieldError::not_supported("roleRef.kind", text(role, "kind"), kinds));
    }
    required(role, "name", "roleRef", out);
    for (n, subject) in list(object, "subjects").iter().enumerate() {
        self::subject(subject, &format!("subjects[{n}]"), namespaced, out);
    }
}

fn subject(subject: &Value, at: &str, namespaced: bool, out: &mut Errors) {
    required(subject, "name", at, out);
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !group.is_empty() {
                out.push(FieldError::not_supported(format!("{at}.apiGroup"), group, &[""]));
            }
            if !namespaced {
                required(subject, "namespace", at, out);
            }
        }
        "User" | "Group" if group != GROUP => {
            out.push(FieldError::not_supported(format!("{at}.apiGroup"), group, &[GROUP]));
        }
        "User" | "Group" => {}
        other => {
            let kinds = ["Group", "ServiceAccount", "User"];
            out.push(FieldError::not_supported(format!("{at}.kind"), other, &kinds));
        }
    }
}
