//! Label selectors over typed objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// True when the selector picks these labels. An empty selector picks everything.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    selector.match_labels.as_ref().is_none_or(|wanted| matches_map(wanted, labels))
        && selector.match_expressions.iter().flatten().all(|one| holds(one, labels))
}

/// True when every wanted label is there.
#[must_use]
pub fn matches_map(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// True for a selector without any requirement.
#[must_use]
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

fn holds(one: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = labels.and_then(|labels| labels.get(&one.key));
    let among = || value.is_some_and(|value| one.values.iter().flatten().any(|v| v == value));
    match one.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, labels: &str, expect: bool) {
        let selector: LabelSelector = serde_json::from_str(selector).expect("selector");
        let labels: Labels = serde_json::from_str(labels).expect("labels");
        assert_eq!(matches(&selector, Some(&labels)), expect, "{selector:?} {labels:?}");
    }

    #[test]
    fn every_operator() {
        check("{}", r#"{"a":"b"}"#, true);
        check(r#"{"matchLabels":{"a":"b"}}"#, r#"{"a":"b","c":"d"}"#, true);
        check(r#"{"matchLabels":{"a":"b"}}"#, r#"{"a":"x"}"#, false);
        let of = |operator: &str| {
            format!(r#"{{"matchExpressions":[{{"key":"a","operator":"{operator}","values":["b","c"]}}]}}"#)
        };
        check(&of("In"), r#"{"a":"c"}"#, true);
        check(&of("In"), "{}", false);
        check(&of("NotIn"), "{}", true);
        check(&of("NotIn"), r#"{"a":"b"}"#, false);
        check(&of("Exists"), r#"{"a":""}"#, true);
        check(&of("DoesNotExist"), r#"{"a":""}"#, false);
        check(&of("Invented"), r#"{"a":"b"}"#, false);
    }
}
