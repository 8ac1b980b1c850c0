//! Label selectors (query text and `LabelSelector` objects) and field selectors.

mod labels;

pub use labels::{LabelSelector, Operator, Requirement};

use crate::registry::{FieldPath, Resource};
use crate::status::Status;
use crate::{meta, path};
use serde_json::Value;

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub value: String,
    /// `!=`.
    pub negated: bool,
}

/// A field selector: all terms must hold. The empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Parses the `fieldSelector` query parameter for a kind. A label the kind does not have is a 400.
    pub fn parse(resource: &Resource, text: &str) -> Result<FieldSelector, Status> {
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let term = parse_term(part).ok_or_else(|| {
                Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"))
            })?;
            if !is_known(resource, &term.field) {
                return Err(unknown(resource, &term.field));
            }
            terms.push(term);
        }
        Ok(FieldSelector { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one name that `metadata.name=x` asks for, which makes a list a single read.
    pub fn exact_name(&self) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.field == "metadata.name" && !term.negated)?;
        Some(&term.value)
    }

    /// True when every term holds for an object in its stored form.
    pub fn matches(&self, resource: &Resource, object: &Value) -> bool {
        self.terms
            .iter()
            .all(|term| (field_value(resource, object, &term.field) == term.value) != term.negated)
    }
}

/// The text a field label has in an object; empty when the kind has no such label.
pub fn field_value(resource: &Resource, object: &Value, label: &str) -> String {
    match label {
        "metadata.name" => return meta::name(object).to_string(),
        "metadata.namespace" => return meta::namespace(object).to_string(),
        _ => {}
    }
    let Some(field) = resource.field_labels.iter().find(|one| one.label == label) else {
        return String::new();
    };
    match field.paths {
        FieldPath::At(at) => scalar(object, at, ""),
        FieldPath::Bool(at) => scalar(object, at, "false"),
        FieldPath::Int(at) => scalar(object, at, "0"),
        FieldPath::FirstOf(all) => {
            all.iter().map(|at| scalar(object, at, "")).find(|text| !text.is_empty()).unwrap_or_default()
        }
    }
}

fn scalar(object: &Value, at: &[&str], absent: &str) -> String {
    match path::get(object, at) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => absent.to_string(),
    }
}

fn is_known(resource: &Resource, label: &str) -> bool {
    label == "metadata.name"
        || label == "metadata.namespace"
        || resource.field_labels.iter().any(|one| one.label == label)
}

fn unknown(resource: &Resource, label: &str) -> Status {
    Status::bad_request(if resource.own_field_labels {
        format!("field label not supported: {label}")
    } else {
        format!("\"{label}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    })
}

/// Splits at commas that no backslash escapes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn parse_term(part: &str) -> Option<FieldTerm> {
    for (at, _) in part.char_indices() {
        let rest = &part[at..];
        let (operator, negated) = match rest {
            _ if rest.starts_with("!=") => ("!=", true),
            _ if rest.starts_with("==") => ("==", false),
            _ if rest.starts_with('=') => ("=", false),
            _ => continue,
        };
        let value = unescape(&rest[operator.len()..])?;
        return Some(FieldTerm { field: part[..at].to_string(), value, negated });
    }
    None
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next()? {
                next @ ('\\' | ',' | '=') => out.push(next),
                _ => return None,
            },
            ',' | '=' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use serde_json::json;

    #[test]
    fn field_selectors() {
        let pods = Registry::builtin().find("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "x"},
            "status": {"phase": "Running"}});
        let check = |text: &str, want: bool| {
            assert_eq!(FieldSelector::parse(pods, text).unwrap().matches(pods, &pod), want, "{text}");
        };
        check("", true);
        check("metadata.name=a", true);
        check("metadata.name!=a", false);
        check("spec.nodeName==x,status.phase=Running", true);
        check("spec.nodeName=", false);
        check("spec.hostNetwork=false", true);
        let error = |plural: &str, text: &str| {
            let resource = Registry::builtin().find("", "v1", plural).unwrap();
            FieldSelector::parse(resource, text).unwrap_err().message().to_string()
        };
        assert_eq!(error("pods", "spec.foo=1"), "field label not supported: spec.foo");
        assert_eq!(
            error("configmaps", "a=b"),
            "\"a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(error("pods", "a"), "invalid selector: 'a'; can't understand 'a'");
    }
}
