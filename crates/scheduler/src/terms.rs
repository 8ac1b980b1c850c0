//! Matching of node selector terms and label selectors.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::cluster::NodeInfo;

type Labels = BTreeMap<String, String>;

/// Whether a node satisfies a term: all of its requirements. An empty term matches nothing.
pub(crate) fn node_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| (key == "metadata.name").then(|| node.name());
    expressions.iter().all(|r| requirement_holds(r, node.label(&r.key)))
        && fields.iter().all(|r| requirement_holds(r, field(&r.key)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|x| x == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|x| x != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(have, want)| have > want),
        "Lt" => numbers().is_some_and(|(have, want)| have < want),
        _ => false,
    }
}

/// Whether labels satisfy a selector. None selects nothing, an empty selector everything.
pub(crate) fn selector_matches(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    let Some(selector) = selector else { return false };
    let value = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
    let exact = selector.match_labels.iter().flatten().all(|(k, v)| value(k) == Some(v));
    exact
        && selector.match_expressions.iter().flatten().all(|e| {
            let (have, values) = (value(&e.key), e.values.as_deref().unwrap_or_default());
            match e.operator.as_str() {
                "In" => have.is_some_and(|v| values.iter().any(|x| x == v)),
                "NotIn" => have.is_none_or(|v| values.iter().all(|x| x != v)),
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}
